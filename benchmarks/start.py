"""Seconds until the command line answers and until the package is imported.

    python -m benchmarks start [ROUNDS]

Each in a process of its own, in turns. Writes `runs/benchmarks/start.json` and `start.md`.
"""

import subprocess
import sys
import time

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


@click.command()
@click.argument("rounds", type=click.IntRange(1), default=5)
def main(rounds):
    found = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
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
