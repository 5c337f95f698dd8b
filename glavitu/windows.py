"""Overlapping windows over a tile or a scene, and the published blending of what they give."""

from itertools import pairwise

import numpy as np

from glavitu.errors import InputError


def check_stride(stride, size):
    """Return the step between windows of a size, by default half of it."""
    if stride is None:
        return size // 2
    if not 1 <= stride <= size:
        raise InputError(
            f"stride {stride} would leave gaps between windows of {size} pixels; use 1 to {size}"
        )
    return stride


def window_weights(size):
    """Return exp(-d^2 / 2), d the distance from the centre of a window that spans -1..1."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    return np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / 2)


def window_starts(length, size, stride):
    """Return the first pixels of windows that cover `length`, the last one flush with the end.

    Examples
    --------
    >>> window_starts(500, 128, 64)
    [0, 64, 128, 192, 256, 320, 372]
    """
    starts = list(range(0, length - size + 1, stride))
    return starts if starts[-1] == length - size else [*starts, length - size]


def in_batches(windows, batch_size):
    """Return windows in batches of one size, if less than twice as many do, else of close sizes.

    TensorFlow traces a network again when the size of its batches changes.

    Examples
    --------
    >>> [len(batch) for batch in in_batches(list(range(9)), 8)]
    [3, 3, 3]
    >>> [len(batch) for batch in in_batches(list(range(11)), 8)]
    [5, 6]
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, expected 1 or more")
    least = -(-len(windows) // batch_size)
    even = (n for n in range(least, 2 * least) if len(windows) % n == 0)
    count = next(even, least)
    ends = [i * len(windows) // count for i in range(count + 1)] if count else []
    return [windows[first:last] for first, last in pairwise(ends)]


def blend(predict, shape, size, stride, batch_size):
    """Average the predictions of overlapping windows.

    Parameters
    ----------
    predict : callable
        From a list of (row, column) to probabilities (n, size, size, classes).
    shape : (int, int)
        Height and width of the result, in pixels.
    size, stride, batch_size : int
        Window side, step between windows, windows predicted at once.

    Returns
    -------
    numpy.ndarray
        Probabilities (y, x, classes), float32.
    """
    rows, columns = (window_starts(length, size, stride) for length in shape)
    windows = [(row, column) for row in rows for column in columns]
    weights = window_weights(size)[..., None]
    total, weight_sum = 0, np.zeros((*shape, 1), np.float32)
    for batch in in_batches(windows, batch_size):
        for (row, column), window in zip(batch, predict(batch), strict=True):
            if np.isscalar(total):
                total = np.zeros((*shape, window.shape[-1]), np.float32)
            area = np.s_[row : row + size, column : column + size]
            total[area] += weights * window
            weight_sum[area] += weights
    return total / weight_sum
