"""Read texts from anywhere safely, and write files so that they are either whole or absent."""

import json
from contextlib import contextmanager, suppress
from errno import EISDIR
from os import strerror
from pathlib import Path

from glavitu.errors import InputError

MOST = 1 << 28  # bytes of a JSON file


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
    """Yield a path beside `path` to write to; rename it into place when the block succeeds.

    What a killed process left half-written is overwritten by the next.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(EISDIR, strerror(EISDIR), str(path))
    part = path.with_name(f".part-{path.name}")
    with making(path.parent):
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_json(path, content):
    """Write `content` as indented JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def read_text(path, *, most=MOST):
    """Read a text of at most so many bytes; `InputError` where it is larger or not UTF-8."""
    if Path(path).stat().st_size > most:
        raise InputError(f"{path} is too large: more than {most:,} bytes")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from None


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
