"""Blocks shared by the networks: ConvBlock, Fusion, ResBlock, UpConv, ViT encoder, PUP decoder.

A block is a function from tensor to tensor that adds stock Keras layers to a functional model.
Layer names start with the block's `name`, so `model.summary()` reads like the paper. All tensors
are channels-last, (batch, y, x, band).
"""

from glavitu.backend import keras, layers, ops


@keras.saving.register_keras_serializable("glavitu")
class PatchEmbedding(layers.Layer):
    """Cut an image into square patches and project each, flattened, to `embed_dim` numbers.

    (batch, H, W, C) -> (batch, H/patch * W/patch, embed_dim). A patch is flattened in the order
    row, column, channel.
    """

    def __init__(self, patch, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.patch = patch
        self.embed_dim = embed_dim
        self.projection = layers.Dense(embed_dim, name="projection", dtype=self.dtype_policy)

    def build(self, input_shape):
        self.projection.build((None, None, self.patch**2 * input_shape[-1]))

    def call(self, image):
        _, height, width, channels = image.shape
        rows, columns = height // self.patch, width // self.patch
        x = ops.reshape(image, (-1, rows, self.patch, columns, self.patch, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return self.projection(ops.reshape(x, (-1, rows * columns, self.patch**2 * channels)))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, (height // self.patch) * (width // self.patch), self.embed_dim)

    def get_config(self):
        return super().get_config() | {"patch": self.patch, "embed_dim": self.embed_dim}


@keras.saving.register_keras_serializable("glavitu")
class PositionEmbedding(layers.Layer):
    """Add a learned vector to each position of a sequence, (batch, n, e) -> (batch, n, e)."""

    def build(self, input_shape):
        self.position = self.add_weight(
            shape=input_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.05),
            name="position",
        )

    def call(self, sequence):
        return sequence + self.position


@keras.saving.register_keras_serializable("glavitu")
class BatchNormalization(layers.BatchNormalization):
    """Keras' batch normalization, which leaves bfloat16 images as they are under TensorFlow.

    Keras casts them to float32 and back, which takes longer than a convolution. Here TensorFlow's
    own kernel reads and writes them, with statistics in float32 as before. Built for several
    devices it has the statistics of the whole batch, by Keras' own way.
    """

    def __init__(self, **kwargs):
        tensorflow = keras.backend.backend() == "tensorflow"
        super().__init__(**{"synchronized": tensorflow and _for_several_devices()} | kwargs)
        self.by_kernel = tensorflow and not self.synchronized

    def call(self, inputs, training=None, mask=None):
        images = len(inputs.shape) == 4 and self.axis in (-1, 3) and mask is None
        kernel = self.by_kernel and images and self.scale and self.center
        if not (kernel and inputs.dtype == "bfloat16"):
            return super().call(inputs, training=training, mask=mask)
        from tensorflow.compat.v1 import nn

        learns = bool(training and self.trainable)
        outputs, mean, variance = nn.fused_batch_norm(
            inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=None if learns else self.moving_mean.value,
            variance=None if learns else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=learns,
        )
        if learns:
            pixels = ops.cast(ops.size(inputs) // inputs.shape[-1], "float32")
            found = (mean, variance * (pixels - 1) / pixels)  # the kernel's is of n - 1
            for moving, new in zip((self.moving_mean, self.moving_variance), found, strict=True):
                moving.assign(moving * self.momentum + new * (1 - self.momentum))
        return outputs


def _for_several_devices():
    from tensorflow import distribute

    return distribute.has_strategy()


@keras.saving.register_keras_serializable("glavitu")
class SpatialDropout2D(layers.SpatialDropout2D):
    """Keras' spatial dropout in one pass over the images instead of two.

    Keras scales images and then drops channels of them. Here both are one factor per channel,
    (batch, 1, 1, C), drawn as Keras does: the same answers, under TensorFlow to the last bit.
    """

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        if self.data_format != "channels_last":
            return super().call(inputs, training=True)
        batch, _, _, channels = ops.shape(inputs)
        ones = ops.ones((batch, 1, 1, channels), dtype=inputs.dtype)
        return inputs * super().call(ones, training=True)

    def get_config(self):
        # Keras keeps the type of variables alone, of which there are none
        return super().get_config() | {"dtype": keras.dtype_policies.serialize(self.dtype_policy)}


def conv_block(x, filters, *, dropout, name):
    """Twice [3x3 convolution, batch norm, LeakyReLU 0.3], then spatial dropout."""
    for i in (1, 2):
        x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv{i}")(x)
        x = BatchNormalization(name=f"{name}_norm{i}")(x)
        x = layers.LeakyReLU(0.3, name=f"{name}_act{i}")(x)
    return SpatialDropout2D(dropout, name=f"{name}_dropout")(x)


def fusion(inputs, filters, *, dropout, name="fusion"):
    """Sum of one ConvBlock per source; `inputs` maps source name to tensor."""
    branches = [
        conv_block(x, filters, dropout=dropout, name=f"{name}_{source}")
        for source, x in inputs.items()
    ]
    return layers.Add(name=name)(branches) if len(branches) > 1 else branches[0]


def res_block(x, filters, *, dropout, name):
    """ConvBlock plus a 1x1 projection of its input without bias."""
    shortcut = layers.Dense(filters, use_bias=False, name=f"{name}_shortcut")
    return layers.Add(name=name)([conv_block(x, filters, dropout=dropout, name=name), shortcut(x)])


def up_conv(x, filters, *, name):
    """Nearest x2, 2x2 convolution without bias, batch norm."""
    x = layers.UpSampling2D(2, name=f"{name}_up")(x)
    x = layers.Conv2D(filters, 2, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return BatchNormalization(name=f"{name}_norm")(x)


def unet_encoder(x, steps, filters, *, dropout, name):
    """Repeat `steps` times [ResBlock, keep, max-pool 2, filters x2], then a last ResBlock.

    Returns the deepest features and the list of kept skips, finest first.
    """
    skips = []
    for step in range(steps):
        x = res_block(x, filters * 2**step, dropout=dropout, name=f"{name}_down{step + 1}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"{name}_pool{step + 1}")(x)
    return res_block(x, filters * 2**steps, dropout=dropout, name=f"{name}_bottom"), skips


def unet_decoder(x, skips, *, dropout, name):
    """For each skip, coarsest first: [UpConv, concatenate (upsampled, skip), ResBlock]."""
    for step, skip in reversed(list(enumerate(skips, start=1))):
        filters = skip.shape[-1]
        x = up_conv(x, filters, name=f"{name}_upconv{step}")
        x = layers.Concatenate(name=f"{name}_concat{step}")([x, skip])
        x = res_block(x, filters, dropout=dropout, name=f"{name}_up{step}")
    return x


@keras.saving.register_keras_serializable("glavitu")
def gelu(x):
    """Exact GELU, in float32: the error function of bfloat16 takes TensorFlow twice as long."""
    return ops.cast(ops.gelu(ops.cast(x, "float32"), approximate=False), x.dtype)


def transformer_block(x, heads, mlp_dim, *, dropout, name):
    """X + MHSA(LN(x)), then x + MLP(LN(x)), with key size embed_dim / heads and exact GELU."""
    embed_dim = x.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-3, name=f"{name}_norm1")(x)
    attention = layers.MultiHeadAttention(heads, embed_dim // heads, name=f"{name}_attention")
    x = layers.Add(name=f"{name}_add1")([x, attention(y, y)])
    y = layers.LayerNormalization(epsilon=1e-3, name=f"{name}_norm2")(x)
    for i, units in enumerate((mlp_dim, embed_dim), start=1):
        y = layers.Dense(units, activation=gelu, name=f"{name}_mlp{i}")(y)
        y = layers.Dropout(dropout, name=f"{name}_dropout{i}")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def vit_encoder(x, *, patch, embed_dim, mlp_dim, blocks, heads, dropout, name):
    """Patch and position embedding, then `blocks` transformer blocks, back on the patches' grid.

    (batch, H, W, C) -> (batch, H/patch, W/patch, embed_dim); no class token, no final norm.
    """
    rows, columns = x.shape[1] // patch, x.shape[2] // patch
    x = PatchEmbedding(patch, embed_dim, name=f"{name}_patches")(x)
    x = PositionEmbedding(name=f"{name}_positions")(x)
    for block in range(1, blocks + 1):
        x = transformer_block(x, heads, mlp_dim, dropout=dropout, name=f"{name}_block{block}")
    return layers.Reshape((rows, columns, embed_dim), name=f"{name}_grid")(x)


def pup_decoder(x, filters, channels, *, scale, activation, name):
    """Progressive upsampling of SETR by `scale`, the side of the ViT's patches: 16 in the paper.

    [3x3 convolution, batch norm] x4, bilinear x2 after each of the first three; a 1x1 convolution
    to `channels` with `activation`; bilinear x2. Another `scale` doubles after fewer or more of the
    four.
    """
    doublings = scale.bit_length() - 1
    for i in (1, 2, 3, 4):
        x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv{i}")(x)
        x = BatchNormalization(name=f"{name}_norm{i}")(x)
        if i < doublings:
            x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_up{i}")(x)
    dtype = "float32" if activation == "softmax" else None  # probabilities, whatever the precision
    x = layers.Conv2D(channels, 1, activation=activation, name=f"{name}_conv5", dtype=dtype)(x)
    return layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_up", dtype=dtype)(x)
