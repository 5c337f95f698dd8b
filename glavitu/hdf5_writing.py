"""Write HDF5 files also to a full disk: the HDF5 library itself ends the process there."""

import io
from contextlib import contextmanager

import h5netcdf
import h5py
from xarray.backends import H5NetCDFStore

from glavitu.files import replacing


class _Patient(io.FileIO):
    """A file that keeps a failure to itself, and in memory what it cannot write.

    The HDF5 library, told of a failure, fails again when it closes the file, and then crashes.
    """

    def __init__(self, path):
        super().__init__(path, "w+")
        self.failure, self._kept = None, []

    def write(self, data):
        """Write all of `data`, or note why not."""
        data = memoryview(data).cast("B")
        start, rest = self.tell(), data
        try:
            while len(rest) and self.failure is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
        if self.failure is not None:
            self._kept.append((start, bytes(data)))
            self.seek(start + len(data))
        return len(data)

    def readinto(self, buffer):
        """Read what was written or kept."""
        buffer = memoryview(buffer).cast("B")
        start = self.tell()
        read = super().readinto(buffer)
        for first, data in self._kept:
            low, high = max(start, first), min(start + len(buffer), first + len(data))
            if low < high:
                buffer[low - start : high - start] = data[low - first : high - first]
                read = max(read, high - start)
        return read

    def truncate(self, size=None):
        """Set the size, or note why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size

    def check(self):
        """Raise what went wrong."""
        if self.failure is not None:
            raise self.failure


class _File(h5py.File):
    """An HDF5 file whose `flush` says what went wrong with the disk."""

    def __init__(self, raw):
        super().__init__(raw, "w")
        self._raw = raw

    def flush(self):
        super().flush()
        self._raw.check()


@contextmanager
def creating(path):
    """Yield a new `h5py.File` to write to; it is whole or absent.

    ``flush`` it now and then: that raises `OSError` where the disk is full, as does the end.
    """
    with replacing(path) as part, open_new(part) as file:
        yield file


@contextmanager
def open_new(part):
    """Yield a new `h5py.File` at `part`, a path of `replacing`, like `creating`."""
    with _Patient(part) as raw:
        try:
            with _File(raw) as file:
                yield file
        finally:
            raw.check()  # whatever HDF5 made of it


def write_tile(file, name, arrays, attributes):
    """Write one tile to an open `h5py.File`: arrays by variable, and attributes.

    Arrays are (y, x, band), but (y, x) for ``surface``.
    """
    group = file.create_group(name)
    for variable, array in arrays.items():
        group.create_dataset(variable, data=array)
    group.attrs.update(attributes)


def write_netcdf(dataset, path):
    """Write an `xarray.Dataset` as NetCDF, whole or not at all."""
    with replacing(path) as part, _Patient(part) as raw:
        try:
            with h5netcdf.File(raw, "w") as file:
                dataset.dump_to_store(H5NetCDFStore(file))
        finally:
            raw.check()
