import errno
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from glavitu import InputError, open_tiles, unpacking

SHAPE = 300, 200, 2  # in chunks of 32 rows: strips of 64, 5 of them


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the temporary folder, an empty one."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.fixture
def values():
    return np.random.default_rng(0).random(SHAPE, np.float32)


@pytest.fixture
def tiles(folder, tmp_path, values):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for tile, storage in (("A-0", {}), ("A-1", {"chunks": (32, 48, 1), "compression": 4})):
            file.create_dataset(f"{tile}/optical", data=values, **storage)
            file.create_dataset(f"{tile}/dem", data=values.astype("u1"), **storage)
    return open_tiles(tmp_path / "a.hdf5")


@pytest.fixture
def unpacked(monkeypatch):
    """Return the list of what is read from HDF5, as it grows."""
    read, original = [], h5py.Dataset.__getitem__

    def record(array, key):
        read.append(key)
        return original(array, key)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", record)
    return read


def test_windows_are_what_is_stored(tiles, values):
    again = tiles.unpacked()
    for tile in tiles:
        for window in np.s_[0:1, 0:1], np.s_[60:130, 7:99], np.s_[290:300, :], np.s_[:, 5:6]:
            assert np.array_equal(again.read(tile, "optical", window), values[window])
            assert np.array_equal(again.read(tile, "dem", window), tiles.read(tile, "dem", window))
        assert np.array_equal(again.read(tile, "optical"), values)


def test_what_is_read_is_unpacked_once_and_nothing_else(tiles, unpacked):
    again = tiles.unpacked()
    assert unpacked == []
    for _ in range(3):
        again.read("A-1", "optical", np.s_[70:200, 3:4])  # rows 64 to 255 in strips of 64
        again.read("A-1", "optical", np.s_[130:131, 100:])
        again.read("A-0", "optical")  # lies in the file as it is
    assert unpacked == [slice(64, 128), slice(128, 192), slice(192, 256)]


def test_only_what_is_read_takes_room_and_it_has_no_name(tiles, folder):
    again = tiles.unpacked()
    again.read("A-1", "optical", np.s_[:1, :1])
    array = again._mapped["A-1"]["optical"]
    strip = 64 * 200 * 2 * 4
    taken = os.fstat(array.scratch.file.fileno()).st_blocks * 512
    assert strip <= taken < 2 * strip
    assert list(folder.iterdir()) == []


def test_many_threads_get_what_is_stored(tiles, values, unpacked):
    again, rng = tiles.unpacked(), np.random.default_rng(1)
    windows = [np.s_[row : row + 90, row : row + 50] for row in rng.integers(0, 150, 200)]
    with ThreadPoolExecutor(8) as threads:
        read = threads.map(lambda window: again.read("A-1", "optical", window), windows)
        assert all(np.array_equal(a, values[w]) for a, w in zip(read, windows, strict=True))
    assert len(unpacked) <= 5


def test_where_there_is_too_little_room_nothing_is_written(tiles, values, monkeypatch):
    size = values.nbytes + values.size  # optical and dem, of 4 and 1 bytes
    usage = shutil.disk_usage("/")
    made = []
    monkeypatch.setattr(unpacking, "_Scratch", lambda size: made.append(size) or 1 / 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size - 1))
    assert np.array_equal(tiles.unpacked().read("A-1", "optical"), values)
    assert made == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size))
    with pytest.raises(ZeroDivisionError):
        tiles.unpacked()


def test_a_folder_that_cannot_be_written_to_is_no_error(tiles, values, folder):
    folder.rmdir()
    assert np.array_equal(tiles.unpacked().read("A-1", "optical"), values)


class FullDisk:
    """A file to which `left` bytes can be written."""

    def __init__(self, file, left):
        self.file, self.left, self.refused = file, left, 0

    def seek(self, place):
        self.file.seek(place)

    def write(self, data):
        if not self.left:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = self.file.write(data[: self.left])
        self.left -= count
        return count


def test_a_disk_that_becomes_full_is_left_alone_and_all_is_still_read(tiles, values):
    again = tiles.unpacked()
    scratch = again._mapped["A-1"]["optical"].scratch
    scratch.file = FullDisk(scratch.file, 150_000)  # of strips of 102 400 bytes
    for _ in range(2):
        for window in np.s_[:50], np.s_[64:128], np.s_[100:300], np.s_[:]:
            window = window, np.s_[10:60]
            assert np.array_equal(again.read("A-1", "optical", window), values[window])
    assert scratch.file.refused == 1


def test_damage_is_told_where_it_is_read(tiles, values, tmp_path):
    with h5py.File(tmp_path / "a.hdf5") as file:
        chunk = file["A-1/optical"].id.get_chunk_info_by_coord((128, 0, 0))
    with open(tmp_path / "a.hdf5", "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    again = open_tiles(tmp_path / "a.hdf5").unpacked()
    whole = np.s_[128:160, 48:]  # beside the damaged chunk, in its strip
    assert np.array_equal(again.read("A-1", "optical", whole), values[whole])
    with pytest.raises(InputError, match="optical of tile A-1 is damaged"):
        again.read("A-1", "optical", np.s_[128:129, :1])
