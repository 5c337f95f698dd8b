"""Where a result comes from: software versions, commit, and fingerprints of the data."""

import hashlib
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("glavitu", "keras", "tensorflow", "jax", "torch", "numpy", "xarray")
_BLOCK = 1 << 20  # bytes


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


def fingerprint(path):
    """Return a digest of a file's size and of at most 256 blocks of 1 MiB spread over it."""
    size = Path(path).stat().st_size
    digest = hashlib.sha256(str(size).encode())
    blocks = -(-size // _BLOCK)
    with open(path, "rb") as file:
        for block in range(0, blocks, max(1, -(-blocks // 256))):
            file.seek(block * _BLOCK)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]


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
