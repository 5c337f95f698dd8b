"""Read texts safely; write files whole or not at all, by one run at a time, also to full disks."""

import errno
import fcntl
import json
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from glavitu.errors import InputError

MOST = 1 << 28  # bytes of a JSON file
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS = ("No space left on device", "disk is full", "File too large", "quota exceeded")
_SCANT = 1 << 14  # bytes free, with which nothing can be written


@contextmanager
def making(*folders):
    """Make folders with those above them; where the block fails, remove what it left empty."""
    made = {each for f in folders for each in (f, *f.parents) if not each.exists()}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in sorted(made, reverse=True):  # the inner ones first
            with suppress(OSError):  # another file is there
                folder.rmdir()
        raise


@contextmanager
def replacing(path):
    """Yield a path to write to; rename it into place when the block succeeds.

    It lies in a folder of its own beside `path`, with all that a library writes beside it; what a
    killed process left there is removed.

    Raises
    ------
    OSError
        With the name of the file where there is no room for it, whatever a library made of that.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    own = path.with_name(f".part-{path.name}")
    with making(path.parent), scratch(own) as folder, naming(path):
        part = folder / path.name
        yield part
        part.replace(path)


@contextmanager
def scratch(folder):
    """Make an empty folder, and remove it with all in it after the block."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.unlink(missing_ok=True)  # a file
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def naming(path):
    """Turn what libraries make of a full disk into an `OSError` that names the file."""
    try:
        yield
    except Exception as error:
        if number := _full(error, path):
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


@contextmanager
def quietly():
    """Drop what native code writes to stderr, such as libtiff's lines about a full disk."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _full(error, path):
    """Return the error number of a full disk if that is what an exception comes from, else None."""
    while error is not None:
        if isinstance(error, InputError):
            return None
        if getattr(error, "errno", None) in FULL:
            return error.errno
        if any(text in str(error) for text in _FULL_TEXTS):
            return errno.ENOSPC
        error = error.__cause__ or error.__context__
    # SQLite and GDAL have many words for it
    return errno.ENOSPC if shutil.disk_usage(path.parent).free < _SCANT else None


@contextmanager
def locked(path, *, wait=False):
    """Keep other runs from making `path`, a file or folder, until the block ends.

    The lock is the kernel's, on a file beside `path`, so that it ends with the process that holds
    it, however that ends. Where nothing can be written, or the file system knows no locks, there is
    none.

    Raises
    ------
    InputError
        If another run holds it and `wait` is false.
    """
    path = Path(path).absolute()
    lock = path.with_name(f".lock-{path.name}")
    with making(lock.parent):
        file = _lock(lock, path, wait)
        try:
            yield
        finally:
            if file is not None:
                lock.unlink(missing_ok=True)
                os.close(file)


def remove_left_locks(folder):
    """Remove from a folder, and those in it, the files of locks whose holders were killed."""
    for lock in Path(folder).rglob(".lock-*"):
        with suppress(InputError), locked(lock.with_name(lock.name.removeprefix(".lock-"))):
            pass  # nobody holds it, and whoever held it last removes it


def _lock(lock, path, wait):
    try:
        while True:
            file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                with suppress(FileNotFoundError):  # removed by its last holder: made anew
                    if os.path.samestat(os.fstat(file), os.stat(lock)):
                        return file
                os.close(file)
            except OSError:
                os.close(file)
                raise
    except BlockingIOError:
        raise InputError(
            f"another run is at work on {path}; wait for it, or choose another name or folder"
        ) from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOLCK, errno.EOPNOTSUPP):
            return None
        raise


def reserve(path, size):
    """Raise `OSError` unless there is room for a file of `size` bytes; leave one of that size."""
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, size)


def write_json(path, content):
    """Write `content` as indented JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def read_text(path, *, most=MOST):
    """Read a text of at most so many bytes; `InputError` where it is larger or no UTF-8 text."""
    if Path(path).stat().st_size > most:
        raise InputError(f"{path} is too large: more than {most:,} bytes")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from None
    before, zero, _ = text.partition("\0")
    if zero:  # some libraries stop there, some refuse it, HDF5 cannot store it
        line = before.count("\n") + 1
        raise InputError(f"{path} has a zero byte in line {line}; write it anew as plain text")
    return text


def read_json(path, *keys):
    """Read a JSON file; `InputError` where it is none, or no object with the keys."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}; was it cut short?") from None
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            raise InputError(f"{path} does not say {key!r}; was it made by another program?")
    return content
