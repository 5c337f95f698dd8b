"""Compressed arrays, unpacked once to a temporary file without a name, for who reads them often.

HDF5 unpacks whole chunks for every window, again and again, and by one thread at a time.
"""

import math
import shutil
import tempfile
from mmap import ACCESS_READ, mmap
from threading import Lock

import h5py
import numpy as np

ROOM = 0.5  # of what is free in the temporary folder may be taken
ROWS = 64  # unpacked at once, at least


def unpack(variables):
    """Return arrays by tile and variable; windows of those left to HDF5 come unpacked.

    Nothing is unpacked before it is first read. All stays as it is where there is no room.
    """
    packed = {
        (tile, variable): array
        for tile, arrays in variables.items()
        for variable, array in arrays.items()
        if isinstance(array, h5py.Dataset) and array.size
    }
    try:
        unpacked = _unpack(packed) if packed else {}
    except OSError:
        return variables
    return {
        tile: {name: unpacked.get((tile, name), array) for name, array in arrays.items()}
        for tile, arrays in variables.items()
    }


def _unpack(packed):
    sizes = [math.prod(array.shape) * array.dtype.itemsize for array in packed.values()]
    starts = np.cumsum([0, *(size + 7 & ~7 for size in sizes)]).tolist()
    if starts[-1] > ROOM * shutil.disk_usage(tempfile.gettempdir()).free:
        raise OSError("no room")
    scratch = _Scratch(starts[-1])
    return {
        key: _Unpacked(array, scratch, start)
        for (key, array), start in zip(packed.items(), starts[:-1], strict=True)
    }


class _Scratch:
    """A temporary file, mapped to be read; it takes room only where it is written.

    It has no name, so that nothing is left of it when the process ends, however it does.
    """

    def __init__(self, size):
        self.lock, self.full = Lock(), False
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  open as long as it is read
        self.file.truncate(size)
        self.mapped = mmap(self.file.fileno(), size, access=ACCESS_READ)

    def write(self, values, start):
        """Write an array; never through the map, over which a full disk would end the process."""
        data = memoryview(np.ascontiguousarray(values)).cast("B")
        self.file.seek(start)
        try:
            while data:
                data = data[self.file.write(data) :]
        except OSError:
            self.full = True
            raise


class _Unpacked:
    """An HDF5 dataset that is unpacked by strips of rows, each when it is first read."""

    def __init__(self, packed, scratch, start):
        self.packed, self.scratch, self.start = packed, scratch, start
        self.shape, self.ndim, self.dtype = packed.shape, packed.ndim, packed.dtype
        count = math.prod(self.shape)
        self.values = np.frombuffer(scratch.mapped, self.dtype, count, start).reshape(self.shape)
        height = (packed.chunks or (1,))[0]
        self.rows, self.done = -(-ROWS // height) * height, set()

    def __getitem__(self, window):
        start, stop, _ = window[0].indices(len(self.values))
        strips = set(range(start // self.rows, -(-stop // self.rows)))
        try:
            for strip in sorted(strips - self.done):
                self._unpack(strip)
        except OSError:  # no room; or damaged, which shows below if it is in the window
            return self.packed[window]
        return self.values[window]

    def _unpack(self, strip):
        first = strip * self.rows
        with self.scratch.lock:
            if strip in self.done:
                return
            if self.scratch.full:
                raise OSError("no room")
            values = self.packed[first : first + self.rows]
            self.scratch.write(values, self.start + first * self.values.strides[0])
            self.done.add(strip)
