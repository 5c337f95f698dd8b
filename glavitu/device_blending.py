"""Prediction of tiles on JAX's device, for GPUs that predict faster than processors blend.

A tile goes there row by row of windows, while the row before is predicted. Windows are cut out,
predicted, weighted and added up there, and only the blended probabilities come back.
"""

import functools
import weakref

import jax
import jax.numpy as jnp
import numpy as np

from glavitu.windows import ahead, filled, in_batches, window_starts, window_weights

_PREDICT = weakref.WeakKeyDictionary()


def blended(network, arrays, size, stride, batch_size):
    """Predict the windows of a tile and average them.

    Parameters
    ----------
    network : keras.Model
        Predicts windows: a network of `glavitu.folding.folded`.
    arrays : dict of str to numpy.ndarray
        Source -> tile (y, x, bands), float32.
    size, stride, batch_size : int
        As for `glavitu.windows.blend`; a batch has windows of one row only.

    Returns
    -------
    list of numpy.ndarray
        The probability of glacier (y, x), float32, which differs from that of `blend` by rounding;
        and the most probable class (y, x), uint8.
    """
    height, width = next(iter(arrays.values())).shape[:2]
    batches = in_batches(window_starts(width, size, stride), batch_size)
    batches = [
        (np.array(whole), np.arange(len(whole)) < len(batch))
        for batch, whole in zip(batches, filled(batches), strict=True)
    ]
    if network not in _PREDICT:
        _PREDICT[network] = _predict_by(weakref.ref(network))
    predict = _PREDICT[network]
    variables = [
        [variable.value for variable in found]
        for found in (network.trainable_variables, network.non_trainable_variables)
    ]
    classes = network.output["output"].shape[-1]
    weights, total = window_weights(size)[..., None], jnp.zeros((height, width, classes + 1))
    rows = window_starts(height, size, stride)
    strips = ahead(
        lambda row: jax.device_put({s: array[row : row + size] for s, array in arrays.items()}),
        rows,
    )
    for row, strip in zip(rows, strips, strict=True):
        for columns, counts in batches:
            answers = predict(variables, _cut(strip, columns, size))
            total = _add(answers, row, columns, counts, weights, total)
    return [np.asarray(found) for found in _finish(total)]


def _predict_by(network):
    """Return a function that predicts a batch of windows.

    The network is referred to weakly, as the function is kept as long as the network is. As it
    takes long to compile, it is one of its own, whose shapes do not depend on those of a tile.
    """

    @jax.jit
    def predict(variables, windows):
        return network().stateless_call(*variables, windows, training=False)[0]["output"]

    return predict


@functools.partial(jax.jit, static_argnames="size")
def _cut(strip, columns, size):
    def window(array, column):
        return jax.lax.dynamic_slice_in_dim(array, column, size, axis=1)

    return {s: jax.vmap(window, (None, 0))(array, columns) for s, array in strip.items()}


@functools.partial(jax.jit, donate_argnames="total")
def _add(answers, row, columns, counts, weights, total):
    answers = jnp.pad(answers, [(0, 0)] * 3 + [(0, 1)], constant_values=1)
    answers = answers * weights * counts[:, None, None, None]

    def add(i, total):
        start = (row, columns[i], 0)
        area = jax.lax.dynamic_slice(total, start, answers.shape[1:])
        return jax.lax.dynamic_update_slice(total, area + answers[i], start)

    return jax.lax.fori_loop(0, len(columns), add, total)


@jax.jit
def _finish(total):
    return total[..., 1] / total[..., -1], total[..., :-1].argmax(-1).astype("uint8")
