"""Memory that is used again and again, by arrays that whoever got them may keep."""

import math
from collections import deque

import numpy as np


class Memory:
    """Memory of batches, used again once nothing refers to any part of it.

    Fresh memory comes from the system page by page, which takes as long as filling it.
    """

    def __init__(self, shapes, count, kept):
        self.shapes, self.count, self.free = shapes, count, deque(maxlen=kept)
        self.ends = np.cumsum([count * math.prod(shape) for shape in shapes])

    def arrays(self, count):
        """Return float32 arrays of `count` items of each shape, of any values."""
        try:
            memory = self.free.pop()
        except IndexError:
            memory = np.empty(self.ends[-1], np.float32)
        parts = np.split(np.asarray(_Lent(memory, self.free)), self.ends[:-1])
        return [
            part.reshape(-1, *shape)[:count] for part, shape in zip(parts, self.shapes, strict=True)
        ]


class _Lent:
    """What all views of lent memory refer to: when the last of them is gone, it is free again."""

    def __init__(self, memory, free):
        self.memory, self.free, self.__array_interface__ = memory, free, memory.__array_interface__

    def __del__(self):
        self.free.append(self.memory)
