"""The environment; each case is a process of its own."""

from .harness import Case
from .options import train
from .scenes import map_arguments
from .seeds import scene, tile_table

DOOR = "environment"


def compile_(folder):
    return ["compile", tile_table(folder) / "tiles.csv", folder / "out", "--patch-size", 16]


def map_(folder):
    return map_arguments(scene(folder))


CASES = [
    Case(
        "an unknown backend", train(), ("KERAS_BACKEND", "nonsense"), {"KERAS_BACKEND": "nonsense"}
    ),
    Case(
        "no PROJ database", compile_, ("PROJ",), {"PROJ_LIB": "/nowhere", "PROJ_DATA": "/nowhere"}
    ),
    Case(
        "an unknown matplotlib backend",
        map_,
        ("MPLBACKEND", "nonsense"),
        {"MPLBACKEND": "nonsense"},
    ),
]
