"""Seconds until the command line answers and until the package is imported.

    python -m benchmarks start [ROUNDS]

Each in a process of its own, in turns; also mapping where nothing has to be predicted, with a
network that is trained for this (of the profile `smoke`, which learns nothing). Writes
`runs/benchmarks/start.json` and `start.md`.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks import write_table

COMMANDS = {
    "python, nothing else": ["-c", "pass"],
    "python -m glavitu --help": ["-m", "glavitu", "--help"],
    "import glavitu": ["-c", "import glavitu"],
    "import keras": ["-c", "import keras"],
    "import glavitu, every public name": ["-c", "from glavitu import *"],
}
REFUSED = "glavitu map, of a raster that is not there"


def mapping(folder):
    """Return the arguments of mappings that predict nothing, after one that has."""
    from glavitu.demo_data import make_demo_scene

    glavitu = ["-m", "glavitu"]
    scene = make_demo_scene(folder / "scene", size=128)
    scene.pop("reference")
    run([*glavitu, "demo-data", folder / "data", "--profile", "smoke"])
    train = ["train", "-m", "resunet", "--profile", "smoke"]
    run([*glavitu, *train, "--data", folder / "data", "--out", folder])
    weights = folder / "weights/resunet.weights.h5"
    map_ = [*glavitu, "map", "--weights", weights, "-o", folder / "map"]
    map_ += [f"--{source}={path}" for source, path in scene.items()]
    run(map_)
    return {
        "glavitu map, of a map that is there": map_,
        REFUSED: [*map_, "--optical", folder / "none.tif"],
    }


def run(arguments, status=0):
    """Run Python with arguments, which must end with a status."""
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != status:
        raise RuntimeError(done.stderr)


@click.command()
@click.argument("rounds", type=click.IntRange(1), default=5)
def main(rounds):
    with tempfile.TemporaryDirectory() as folder:
        commands = COMMANDS | mapping(Path(folder))
        found = {name: [] for name in commands}
        for _ in range(rounds):
            for name, arguments in commands.items():
                started = time.perf_counter()
                run(arguments, 2 if name == REFUSED else 0)
                found[name].append(time.perf_counter() - started)
    rows = [
        {
            "command": name,
            "seconds": f"{np.median(seconds):.2f}",
            "from": f"{min(seconds):.2f}",
            "to": f"{max(seconds):.2f}",
        }
        for name, seconds in found.items()
    ]
    write_table("start", pd.DataFrame(rows), found)
