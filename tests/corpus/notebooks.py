"""The study, whose notebooks get their parameters from papermill."""

import yaml

from .harness import Case
from .seeds import PROFILE, tile_files

DOOR = "study and notebooks"


def study(*more, **changes):
    """Return a study of a profile with some parameters changed."""

    def make(folder):
        path = tile_files(folder) / "tiny.yaml"
        path.write_text(yaml.safe_dump(PROFILE | changes))
        return ["study", path, "--data", folder / "data", "--out", folder / "out", *more]

    return make


def named(name):
    return lambda folder: ["study", name, "--data", tile_files(folder) / "data", "--out", folder]


CODE = '"; open("pwned", "w"); "'
CASES = [
    Case("an unknown profile", named("demos"), ("'demos'", "demo")),
    Case("code for a profile", named(CODE), ("no profile", "pwned")),
    Case("no data", study("--data", "none"), ("no data folder", "none")),
    Case(
        "data without a test file",
        lambda f: (study()(f), (f / "data" / "test.hdf5").unlink())[0],
        ("no test.hdf5",),
    ),
    Case("epochs: 0", study(epochs=0), ("epochs", "0")),
    Case("code for epochs", study(epochs=CODE), ("epochs", "pwned")),
    Case(
        "code for an architecture", study(architectures=[CODE]), ("unknown architecture", "pwned")
    ),
    Case("code for a stride", study(stride="__import__('os').getcwd()"), ("stride", "__import__")),
    Case("seed -1", study("--seed", -1), ("seed", "-1")),
    Case("an argument too many", study("x"), ("x",)),
]
