"""Write files so that they are either whole or absent."""

import json
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path):
    """Yield a path beside `path` to write to; rename it into place when the block succeeds.

    What a killed process left half-written is overwritten by the next.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path, content):
    """Write `content` as indented JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def read_json(path):
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
