"""Networks for prediction: batch normalization folded into convolutions, no head but `output`.

A normalization by moving statistics scales and shifts each channel. So does another kernel and bias
of the convolution before it, in one pass over the image instead of two.
"""

from weakref import WeakKeyDictionary

from glavitu.backend import keras, layers, ops

_FOLDED = WeakKeyDictionary()


def folded(model):
    """Return a network that predicts as `model` does, faster.

    It has the layers of `model`, and so its weights, whatever becomes of them; kernels are scaled
    anew for each batch, which takes no time beside the convolutions. Dropout can be at work in it,
    but nothing can be trained: the statistics of batches are not seen. One `model` always gives the
    same network, which is compiled once.

    Parameters
    ----------
    model : keras.Model
        A network with a head ``output``, as `build_model` makes them; it stays as it is.

    Returns
    -------
    keras.Model
        Takes what `model` takes and returns a dict of the probabilities ``output`` alone.

    Examples
    --------
    >>> from glavitu import build_model
    >>> model = build_model("resunet", inputs={"optical": 4}, patch_size=64, filters=8)
    >>> sum(layer.name.endswith("conv1") for layer in model.layers)
    10
    >>> sum(layer.name.endswith("conv1") for layer in folded(model).layers)
    0
    """
    if model not in _FOLDED:
        _FOLDED[model] = _fold(model)
    return _FOLDED[model]


class FoldedConv2D(layers.Layer):
    """A convolution and the batch normalization after it as one convolution, folded in float32."""

    def __init__(self, convolution, norm):
        # without autocast, weights come in float32 and images as they are
        super().__init__(dtype="float32", autocast=False)
        self.convolution, self.norm = convolution, norm

    def call(self, image):
        convolution, norm = self.convolution, self.norm
        scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
        if norm.scale:
            scale = scale * norm.gamma
        bias = -norm.moving_mean * scale
        if convolution.use_bias:
            bias = bias + convolution.bias * scale
        if norm.center:
            bias = bias + norm.beta
        dtype = convolution.compute_dtype
        kernel = ops.cast(convolution.kernel * scale, dtype)
        image = convolution.convolution_op(ops.cast(image, dtype), kernel)
        return ops.add(image, ops.cast(ops.reshape(bias, (1, 1, 1, -1)), dtype))


def _fold(model):
    convolved = {}  # id of a convolution's answer -> the convolution and what it was given

    def call(layer, *args, **kwargs):
        if _can_fold(layer) and id(args[0]) in convolved:
            convolution, image = convolved[id(args[0])]
            return FoldedConv2D(convolution, layer)(image)
        answer = layer(*args, **kwargs)
        if _can_take(layer):
            convolved[id(answer)] = layer, args[0]  # not in the network unless others want it too
        return answer

    head = keras.Model(model.input, {"output": model.output["output"]}, name=model.name)
    return keras.models.clone_model(head, clone_function=lambda layer: layer, call_function=call)


def _can_fold(layer):
    return isinstance(layer, layers.BatchNormalization) and layer.axis in (-1, 3)


def _can_take(layer):
    linear = keras.activations.linear
    return (
        type(layer) is layers.Conv2D
        and layer.activation is linear
        and layer.data_format == "channels_last"
    )
