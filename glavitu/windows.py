"""Overlapping windows over a tile or a scene, and the published blending of what they give."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from glavitu.errors import InputError
from glavitu.units import as_whole


def check_stride(stride, size):
    """Return the step between windows of a size, by default half of it."""
    if stride is None:
        return size // 2
    stride = as_whole("stride", stride)
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
    """Return windows in batches of at most `batch_size`, all of one size where that can be.

    Where it would take twice as many batches, the last one is smaller. Networks are traced again
    when the size of their batches changes: see `filled`.

    Examples
    --------
    >>> [len(batch) for batch in in_batches(list(range(9)), 8)]
    [3, 3, 3]
    >>> [len(batch) for batch in in_batches(list(range(11)), 8)]
    [6, 5]
    """
    if as_whole("batch_size", batch_size) < 1:
        raise InputError(f"batch_size is {batch_size}, expected 1 or more")
    least = -(-len(windows) // batch_size)
    even = (n for n in range(least, 2 * least) if len(windows) % n == 0)
    size = -(-len(windows) // next(even, least)) if windows else 1
    return [windows[first : first + size] for first in range(0, len(windows), size)]


def filled(batches):
    """Return batches of the size of the first; what they lack is their last window again.

    Examples
    --------
    >>> filled([[1, 2, 3], [4]])
    [[1, 2, 3], [4, 4, 4]]
    """
    return [batch + batch[-1:] * (len(batches[0]) - len(batch)) for batch in batches]


def ahead(function, items):
    """Yield what a function answers for each item; a thread finds the next answer meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        answers = deque()
        for item in items:
            answers.append(thread.submit(function, item))
            if len(answers) > 1:
                yield answers.popleft().result()
        for answer in answers:
            yield answer.result()


def blend(read, predict, shape, size, stride, batch_size):
    """Average the predictions of overlapping windows.

    Windows are predicted while a thread reads the next ones and another blends the last ones.

    Parameters
    ----------
    read : callable
        From a list of (row, column) to what `predict` takes.
    predict : callable
        From that to probabilities (n, size, size, classes).
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
    batches = in_batches([(row, column) for row in rows for column in columns], batch_size)
    answers = map(predict, ahead(read, filled(batches)))
    blending = _Blending(shape, size)
    for _ in ahead(blending.add, zip(batches, answers, strict=True)):
        pass
    return blending.total / blending.weight_sum


class _Blending:
    """Weighted sums of windows."""

    def __init__(self, shape, size):
        self.shape, self.weights = shape, window_weights(size)[..., None]
        self.total, self.weight_sum = None, np.zeros((*shape, 1), np.float32)

    def add(self, answered):
        """Add a batch of windows and their probabilities."""
        windows, probabilities = answered
        if self.total is None:
            self.total = np.zeros((*self.shape, probabilities[0].shape[-1]), np.float32)
            self.weighted = np.empty_like(probabilities[0])
        size = len(self.weights)
        for (row, column), window in zip(windows, probabilities, strict=False):
            area = np.s_[row : row + size, column : column + size]
            self.total[area] += np.multiply(self.weights, window, out=self.weighted)
            self.weight_sum[area] += self.weights
