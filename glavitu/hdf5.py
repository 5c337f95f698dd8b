"""Arrays of HDF5 files from elsewhere: refused where they are links or no numbers; mapped."""

import math
import re
import struct
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path

import h5py
import numpy as np

from glavitu.errors import InputError

SMALL = 1 << 26  # bytes that an array may declare without having them
MOST_COMPRESSED = 1100  # bytes made of one; deflate gets to 1032
SCANNED = 1 << 28  # bytes of a file up to which its heaps are looked at
PLAIN = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM)  # kinds of attributes
ONES = np.ones(2, np.float32)  # by which labels are summed over classes
RARE = (AttributeError, SystemError)  # of h5py, where HDF5 fails while it visits


def open_file(path, kind="file", hint=""):
    """Open a file to read, after looking at its heaps of texts, over which HDF5 could hang.

    HDF5 (1.14) steps from one text to the next by their sizes: with a step of 0 it never ends.
    What is wrong with a file that is no HDF5 is told with its kind, and a hint how to mend it.
    """
    try:
        with open(path, "rb"):  # tells what is missing or may not be read by its name
            file = h5py.File(path, "r")
    except (FileNotFoundError, PermissionError):
        raise
    except OSError:
        found = f"not an HDF5 {kind}"
        if h5py.is_hdf5(path):  # it begins as one
            found = f"cut short or damaged, {found} that can be read"
        raise InputError(f"{path} is {found}{hint}") from None
    if Path(path).stat().st_size <= SCANNED:
        with open(path, "rb") as raw, mmap(raw.fileno(), 0, access=ACCESS_READ) as data:
            if any(_is_endless(data, heap.start()) for heap in re.finditer(rb"GCOL\x01", data)):
                raise InputError(f"{path} is damaged: a heap of texts in it has no end")
    return file


def _is_endless(data, start):
    """Tell whether a step of the global heap at `start` is 0 (HDF5 file format, III.E)."""
    header = struct.Struct("<HHIQ")  # index, references, reserved, bytes; 0 is the free space
    place = start + header.size
    while place + header.size <= len(data):
        if place - start >= header.unpack_from(data, start)[3]:
            return False
        index, _, _, size = header.unpack_from(data, place)
        step = size if index == 0 else (header.size + (size + 7 & ~7)) % (1 << 64)
        if step == 0:
            return True
        place += step
    return False


@contextmanager
def reading(where):
    """Turn what h5py raises over a damaged file into `InputError` in one line."""
    try:
        yield
    except (InputError, PermissionError):
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, *RARE) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where} is damaged or of another kind: {reason}") from None


def member(group, key):
    """Return what a group holds under a key; refuse links, which may leave the file."""
    if not _is_hard(group.get(key, getlink=True)):
        raise InputError(f"{_place(group, key)} is a link; expected arrays stored in the file")
    return group[key]


def check_array(array):
    """Refuse an array that is not of real numbers, not in its file, or for the most not there."""
    where = _place(array)
    if array.is_virtual or array.external:
        raise InputError(f"{where} lies in other files; expected arrays stored in the file")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where} holds {array.dtype}, expected real numbers")
    declared = math.prod(array.shape) * array.dtype.itemsize
    if declared > SMALL and declared > MOST_COMPRESSED * array.id.get_storage_size():
        size = "x".join(map(str, array.shape))
        raise InputError(f"{where} declares {size} numbers, most of which were never written")


def check_all(file):
    """Return every array of a file by its place; refuse what `member` and `check_array` do."""
    # h5py does not pass on what is raised while it visits.
    linked = file.visititems_links(lambda key, link: None if _is_hard(link) else key)
    if linked:
        member(file, linked)
    arrays = {}
    file.visititems(lambda key, item: arrays.update({key: item} if _is_array(item) else {}))
    for array in arrays.values():
        check_array(array)
    for item in (file, *arrays.values()):
        _check_attributes(item)
    return arrays


def _check_attributes(item):
    """Refuse attributes that are sequences of other things than references: see `plain`."""
    for key in item.attrs:
        kind = _kind(item.attrs, key)
        if kind.get_class() == h5py.h5t.VLEN and kind.get_super().get_class() != h5py.h5t.REFERENCE:
            raise InputError(f"{_place(item, key)} is an attribute of a kind that is not read")


def _kind(attributes, key):
    return attributes.get_id(key).get_type()


def _is_hard(link):
    return isinstance(link, h5py.HardLink)


def _is_array(item):
    return isinstance(item, h5py.Dataset)


def plain(attributes):
    """Return HDF5 attributes as Python numbers, strings and lists; other kinds are left out.

    To read a sequence of texts of no fixed length, for one, ends the process. What is no UTF-8 in
    a text becomes U+FFFD.
    """
    kept = [key for key in attributes if _kind(attributes, key).get_class() in PLAIN]
    values = {key: attributes[key] for key in kept}
    values = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in values.items()}
    values = {k: int(v) if isinstance(v, bool) else v for k, v in values.items()}  # for netCDF
    return {key: _as_text(v) if isinstance(v, bytes | str) else v for key, v in values.items()}


def _as_text(text):
    raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return raw.decode(errors="replace")


def map_arrays(file, variables):
    """Return NumPy arrays over the file itself for the datasets that are stored as such.

    Others (chunked, compressed, of types unknown to NumPy) stay what they are. HDF5 reads by one
    thread at a time; arrays over the file are read by many, from the system's cache, uncopied.
    """
    whole = np.memmap(file.filename, np.uint8, mode="r")

    def view(array):
        start, plain = array.id.get_offset(), h5py.h5t.py_create(array.dtype)
        stored = start is not None and not file.userblock_size and array.id.get_type() == plain
        if not stored or not array.size or start + array.nbytes > len(whole):
            return array
        flat = np.asarray(whole)[start : start + array.nbytes].view(array.dtype)
        return flat.reshape(array.shape)

    return {
        name: {variable: view(array) for variable, array in arrays.items()}
        for name, arrays in variables.items()
    }


def check_finite(values, where, advice="give them a value and no label"):
    """Raise `InputError` unless all values are finite."""
    if count := values.size - np.count_nonzero(np.isfinite(values)):
        raise InputError(f"{where} holds {count} values that are not finite; {advice}")


def check_label(label, where):
    """Raise `InputError` unless a label (y, x, class) is one-hot of two classes, or none."""
    if label.ndim != 3:
        raise InputError(f"{where}: groundtruth has {label.ndim} dimensions, expected y, x, class")
    if label.shape[-1] != 2:
        raise InputError(
            f"{where}: groundtruth has {label.shape[-1]} class(es), expected 2: background, glacier"
        )
    if label.size and not (label.min() >= 0 and (label @ ONES).max() < 1.001):
        wrong = label[~((label >= 0).all(-1) & (label @ ONES < 1.001))][0].tolist()
        raise InputError(f"{where}: groundtruth holds {wrong}, expected 1 and 0, 0 and 1, or zeros")


def _place(item, *keys):
    return f"{item.file.filename}: {'/'.join([item.name.strip('/'), *keys]).strip('/')}"
