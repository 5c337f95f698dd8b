"""Where a result comes from: software versions, commit, and fingerprints of the data."""

import hashlib
import os
import platform
import re
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from glavitu.files import replacing

_PACKAGES = ("glavitu", "keras", "tensorflow", "jax", "torch", "numpy", "xarray")
_BLOCK = 1 << 20  # bytes that are read at once
_LARGE = 1 << 28  # bytes of a file, which take a fraction of a second to read
_DIGEST = "[0-9a-f]{16}"
_SETTLED = 2  # seconds after which a file that is written to has another time of change


def provenance():
    """Return time, commit, versions, backend and machine as a dict of plain values."""
    keras = sys.modules.get("keras")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "backend": keras.backend.backend() if keras else None,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {package: v for package in _PACKAGES if (v := _version(package))},
    }


def commit():
    """Return the commit of the checkout this package runs from, ``+changes`` when it differs.

    None where it was installed elsewhere, though that be in the checkout of another project.
    """
    folder = Path(__file__).parent
    try:
        _git(folder, "ls-files", "--error-unmatch", "--", Path(__file__).name)
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if _git(folder, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def by_other_code(record):
    """Return in words at which commit a record was made, nothing if it is the present one."""
    origin = record.get("provenance")
    made = origin.get("commit") if isinstance(origin, dict) else None
    here = commit()
    return f", by the code at commit {made}" if made and here and made != here else ""


def fingerprint(path):
    """Return a digest of a file's size and content.

    That of a large file is kept in the user's cache, for as long as the file is not written to.
    """
    state = os.stat(path)
    kept = _kept(path, state) if state.st_size > _LARGE else None
    with suppress(OSError, UnicodeDecodeError):
        if kept and re.fullmatch(_DIGEST, digest := kept.read_text(encoding="ascii")):
            return digest
    digest = hashlib.sha256(str(state.st_size).encode())
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    digest = digest.hexdigest()[:16]
    if kept and time.time() - state.st_mtime > _SETTLED:
        with suppress(OSError), replacing(kept) as part:
            part.write_text(digest, encoding="ascii")
    return digest


def _kept(path, state):
    """Return where the digest of a file as it is now is kept, None where there is no place."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        cache = cache if cache.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # nobody's home
        return None
    times = state.st_mtime_ns, state.st_ctime_ns
    known = repr((os.path.realpath(path), state.st_dev, state.st_ino, state.st_size, times))
    return cache / "glavitu" / hashlib.sha256(known.encode()).hexdigest()


def _git(folder, *arguments):
    answer = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return answer.stdout.strip()


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None
