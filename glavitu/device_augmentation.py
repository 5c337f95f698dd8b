"""Augmentation of batches by JAX on its device, for GPUs that train faster than processors augment.

What happens to a patch is that of `glavitu.patches.Augmentation`, written as products with a matrix
from the left and one from the right: their rows say which pixels a new row or column is made of.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def augmented(arrays, changes):
    """Return a batch augmented, on the device, and which pixels are labelled.

    Parameters
    ----------
    arrays : list of numpy.ndarray
        Patches (batch, size, size, bands), float32, the one-hot labels last.
    changes : list of Augmentation
        What happens to each patch.

    Returns
    -------
    list of jax.Array
        The arrays, which differ from those of `Augmentation.apply` by rounding; then the weights
        (batch, size, size), float32, 1 where a pixel is labelled and 0 elsewhere.
    """
    size = arrays[0].shape[1]
    return _augmented(arrays, np.array([_plan(change, size) for change in changes], np.float32))


def _plan(change, size):
    """Return the square's row and column, its side, and what is reversed and swapped, as numbers.

    The quarter turns are reversals, and for odd ones rows and columns change places after them.
    """
    row, column, side = change.square or (0, 0, size)
    reversed_y = change.flip_y != (change.turns in (2, 3))
    reversed_x = change.flip_x != (change.turns in (1, 2))
    return row, column, side, reversed_y, reversed_x, change.turns % 2


@jax.jit
def _augmented(arrays, plans):
    arrays = jax.vmap(_apply)(arrays, plans)
    return [*arrays, (arrays[-1].sum(-1) > 0.999).astype("float32")]


def _apply(arrays, plan):
    row, column, side, reversed_y, reversed_x, swapped = plan
    size = arrays[0].shape[0]
    rows = _weights(row, side, reversed_y, size)
    columns = _weights(column, side, reversed_x, size)
    # by default, GPUs would round to fewer digits
    product = functools.partial(jnp.einsum, "iy,yxb,jx->ijb", precision="highest")
    found = [product(rows, array, columns) for array in arrays]
    return [jnp.where(swapped, array.swapaxes(0, 1), array) for array in found]


def _weights(first, side, is_reversed, size):
    """Return the matrix (size, size) that interpolates linearly from `side` pixels."""
    place = jnp.arange(size)
    place = jnp.where(is_reversed, size - 1 - place, place)
    position = first + jnp.clip((place + 0.5) * side / size - 0.5, 0, side - 1)
    return jnp.maximum(0, 1 - jnp.abs(position[:, None] - jnp.arange(size)))
