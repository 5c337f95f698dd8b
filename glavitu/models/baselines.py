"""Two widely used networks as baselines, DeepLabV3+ and SegFormer, from the parts of keras-cv 0.9.

The backbones and the pyramid pooling are keras-cv's, the decoders follow its classes
`DeepLabV3Plus` and `SegFormer` layer by layer. Both networks take one image, so the sources are
concatenated along their bands (early fusion). All weights start random; nothing is downloaded.
keras-cv needs TensorFlow, whatever the backend of Keras, and is imported when a network is built.
"""

import warnings

from glavitu.backend import layers
from glavitu.errors import InputError
from glavitu.files import quietly

STRIDE = 32  # between the pixels of the deepest features
HEADS = (1, 2, 5, 8)  # of the stages of keras-cv's MiTBackbone


def deeplabv3plus(
    sources,
    *,
    classes=2,
    filters=64,
    blocks=(3, 4, 6, 3),
    dilations=(6, 12, 18),
    pyramid_filters=256,
    low_level_filters=48,
    decoder_filters=256,
):
    """DeepLabV3+ (Chen et al., 2018) on a ResNet50V2: 39,208,576 parameters for the study's bands.

    Concatenated bands -> ResNetV2 whose four stages have `blocks` bottlenecks of `filters` x 1, 2,
    4, 8 -> pyramid pooling at 1/32, up to 1/4; + projected features at 1/4 -> softmax. As in
    keras-cv, and unlike the paper, the deepest features are at 1/32 instead of 1/16 and the decoder
    has one 1x1 convolution instead of two of 3x3.
    """
    cv = _keras_cv("deeplabv3plus")
    _check_stages("deeplabv3plus", "blocks", blocks, least=2)
    if not isinstance(dilations, list | tuple) or not dilations:
        raise InputError(f"deeplabv3plus: dilations must be one number or more, not {dilations}")
    backbone = cv.models.ResNetV2Backbone(
        stackwise_filters=[filters * 2**stage for stage in range(4)],
        stackwise_blocks=blocks,
        stackwise_strides=[1, 2, 2, 2],
        include_rescaling=False,
        input_tensor=_concatenate(sources),
    )
    low_level, deep = (_features(backbone, level) for level in ("P2", "P5"))
    x = cv.layers.SpatialPyramidPooling(
        dilation_rates=list(dilations), num_channels=pyramid_filters, name="pyramid"
    )(deep)
    x = layers.UpSampling2D(8, interpolation="bilinear", name="pyramid_up")(x)
    low_level = _conv_norm_relu(low_level, low_level_filters, name="low_level")
    x = layers.Concatenate(name="decoder_concat")([x, low_level])
    x = _conv_norm_relu(x, decoder_filters, name="decoder")
    return _probabilities(x, classes, use_bias=False)


def segformer(
    sources,
    *,
    classes=2,
    embed_dims=(64, 128, 320, 512),
    blocks=(3, 4, 6, 3),
    decoder_filters=768,
    dropout=0.1,
):
    """SegFormer-B2 (Xie et al., 2021): 27,371,650 parameters for the study's bands.

    Concatenated bands -> Mix Transformer whose four stages, at 1/4 to 1/32, have `blocks` blocks of
    `embed_dims` -> each projected and brought to 1/4 -> fused -> softmax. keras-cv fixes the
    attention heads at 1, 2, 5 and 8, and where it shortens keys and values it mixes up the axes of
    places and channels, so that they stand for no place in the image.
    """
    cv = _keras_cv("segformer")
    _check_stages("segformer", "blocks", blocks)
    _check_stages("segformer", "embed_dims", embed_dims)
    if any(dim % heads for dim, heads in zip(embed_dims, HEADS, strict=True)):
        raise InputError(
            f"segformer: embed_dims must be multiples of {', '.join(map(str, HEADS))}, not "
            f"{list(embed_dims)}"
        )
    image = _concatenate(sources)
    if image.shape[1] < 2 * STRIDE:  # TensorFlow loses the shape of a sequence of one
        raise InputError(
            f"segformer needs a patch_size of {2 * STRIDE} or more, not {image.shape[1]}"
        )
    backbone = cv.models.MiTBackbone(
        include_rescaling=False,
        depths=blocks,
        embedding_dims=embed_dims,
        input_shape=image.shape[1:],
        input_tensor=image,
    )
    scaled = []
    for stage in range(4):
        x = _features(backbone, f"P{stage + 1}")
        x = layers.Dense(decoder_filters, name=f"decoder_linear{stage + 1}")(x)
        if stage:
            up = f"decoder_up{stage + 1}"
            x = layers.UpSampling2D(2**stage, interpolation="bilinear", name=up)(x)
        scaled.append(x)
    x = layers.Concatenate(name="decoder_concat")(scaled[::-1])
    x = _conv_norm_relu(x, decoder_filters, name="decoder")
    x = layers.Dropout(dropout, name="decoder_dropout")(x)
    return _probabilities(x, classes, use_bias=True)


def _keras_cv(architecture):
    try:
        with quietly(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of widgets that tqdm does not find, in notebooks
            import keras_cv
    except (ImportError, ValueError):  # keras-cv makes a ValueError of a missing TensorFlow
        raise InputError(
            f"{architecture} needs keras-cv and TensorFlow: pip install keras-cv==0.9.* tensorflow"
        ) from None
    return keras_cv


def _check_stages(architecture, size, values, least=1):
    if not isinstance(values, list | tuple) or len(values) != 4 or min(values) < least:
        raise InputError(
            f"{architecture}: {size} must be four numbers, each {least} or more, not {values}"
        )


def _concatenate(sources):
    """Return one image of all bands."""
    images = list(sources.values())
    return layers.Concatenate(name="bands")(images) if len(images) > 1 else images[0]


def _features(backbone, level):
    """Return a level of keras-cv's pyramid, as a tensor of the network being built."""
    return backbone.get_layer(backbone.pyramid_level_inputs[level]).output


def _conv_norm_relu(x, filters, *, name):
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_act")(x)


def _probabilities(x, classes, *, use_bias):
    """Logits at 1/4, up to full resolution, softmax."""
    x = layers.Conv2D(classes, 1, use_bias=use_bias, name="logits")(x)
    x = layers.UpSampling2D(4, interpolation="bilinear", name="logits_up")(x)
    return {"output": layers.Activation("softmax", name="output", dtype="float32")(x)}
