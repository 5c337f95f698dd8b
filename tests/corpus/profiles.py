"""Profiles in YAML."""

import os

import yaml

from .harness import Case
from .seeds import PROFILE, tile_files

DOOR = "profiles"


def text(content):
    """Return what writes a profile of a text, or of bytes."""

    def make(folder):
        path = tile_files(folder) / "mine.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["train", "-m", "resunet", "--profile", path, "--data", folder / "data",
                "--out", folder / "out"]  # fmt: skip

    return make


def other(**changes):
    """Return what writes a profile with some parameters changed."""
    return text(yaml.safe_dump(PROFILE | changes))


def sized(**sizes):
    return other(sizes={"resunet": PROFILE["sizes"]["resunet"] | sizes})


def sparse(folder):
    arguments = text("")(folder)
    os.truncate(folder / "mine.yaml", 20 << 30)
    return arguments


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
FILE = ("mine.yaml",)


def number(key, *values):
    """Return a case for each value that a number must not have."""
    return [Case(f"{key}: {value}", other(**{key: value}), (key, str(value))) for value in values]


NAN, INFINITE = float("nan"), float("inf")

CASES = [
    Case("no such file", lambda folder: ["train", "--profile", folder / "no.yaml"], ("no.yaml",)),
    Case("no such name", lambda folder: ["train", "--profile", "demos"], ("'demos'", "demo")),
    Case("empty", text(""), (*FILE, "no parameters")),
    Case("a list", text("- 1\n- 2\n"), (*FILE, "no parameters")),
    Case("a word", text("hello"), (*FILE, "no parameters")),
    Case("a zero byte", text(b"epochs: 1\0"), FILE),
    Case("random bytes", text(bytes(range(256))), FILE),
    Case("UTF-16 of another order", text("epochs: 2".encode("utf-16-be")), FILE),
    Case("20 GiB of zeros", sparse, (*FILE, "large")),
    Case("not YAML", text("epochs: [1, 2"), (*FILE, "not YAML")),
    Case("tabs", text("sizes:\n\tresunet: 1"), (*FILE, "not YAML")),
    Case("an unknown key", other(epoch=3), (*FILE, "'epoch'", "epochs")),
    Case(
        "a key that is a number",
        other(**{}) if False else text("1: 2"),
        (*FILE, "unknown parameter 1"),
    ),
    Case("a key twice", text("epochs: 1\nepochs: 2\n"), (*FILE, "'epochs'", "twice")),
    Case("a key that is a list", text("[1]: 2"), (*FILE, "not YAML")),
    Case(
        "!!python/object",
        text("epochs: !!python/object/apply:os.system ['touch pwned']"),
        (*FILE, "not YAML"),
    ),
    Case("!!python/name", text("data: !!python/name:os.system"), (*FILE, "not YAML")),
    Case("an unknown tag", text("epochs: !mine 3"), (*FILE, "not YAML")),
    Case("9^9 aliases", text(BOMB), (*FILE, "alias")),
    Case("nested 100000 deep", text("sources: " + "[" * 100_000), (*FILE, "nested")),
    *number("patch_size", -16, 0, 1.5, NAN, 10**12, "many", True),
    *number("batch_size", -1, 0, INFINITE, 10**12),
    *number("epochs", -1, 0, NAN, 10**30),
    *number("steps", -1, 10**30),
    *number("learning_rate", 0, -0.1, 1, NAN, INFINITE, "fast"),
    *number("stride", -1, 17),
    *number("seed", -1, 10**30, 0.5),
    *number("repeats", 0, 10**9),
    *number("reduce_patience", 0),
    *number("stop_patience", -3),
    Case(
        "patch_size that no network takes", other(patch_size=18), ("resunet", "multiple of 4", "18")
    ),
    Case("an unknown source", other(sources=["radar"]), ("'radar'", "dem, optical")),
    Case("a source twice", other(sources=["dem", "dem"]), ("sources", "dem")),
    Case("sources that are numbers", other(sources=[1]), ("sources", "1")),
    Case("sources in one word", other(sources="dem"), ("sources", "'dem'", "list")),
    Case("data that is a number", other(data=5), ("data", "5")),
    Case("an unknown architecture", other(architectures=["unet"]), ("'unet'", "resunet")),
    Case("no architecture", other(architectures=[]), ("architectures",)),
    Case("an architecture twice", other(architectures=["setr", "setr"]), ("architectures", "setr")),
    Case("sizes of an unknown network", other(sizes={"unet": {}}), ("'unet'",)),
    Case("sizes that are a number", other(sizes={"resunet": 5}), ("sizes of resunet", "5")),
    Case("an unknown size", sized(width=5), ("resunet", "'width'", "filters")),
    Case("filters: 0", sized(filters=0), ("resunet", "filters", "0")),
    Case("filters: -4", sized(filters=-4), ("resunet", "filters", "-4")),
    Case("filters in words", sized(filters="many"), ("resunet", "filters", "many")),
    Case("filters: 10^9", sized(filters=10**9), ("resunet", "filters", "1000000000")),
    Case("steps: 60", sized(steps=60), ("resunet", "steps", "60")),
    Case("dropout: 2", sized(dropout=2), ("resunet", "dropout", "2")),
    Case("ablation of words", other(ablation={"resunet": "dem"}), ("ablation", "'dem'")),
    Case(
        "an unknown key of demo_data",
        other(demo_data={"tiles": 5}),
        ("demo_data", "'tiles'", "tile_size"),
    ),
    Case("a scene that is a number", other(scene={"optical": 5}), ("scene", "5")),
]
