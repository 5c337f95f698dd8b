"""Seconds a training step takes at published size, in float32 and in bfloat16.

    python -m benchmarks training [STEPS]

Each network and precision has a process of its own, with batches of two patches of 384 pixels. In
the same process, square matrices are multiplied for what the machine can do, and the network trains
from a tile file for the share of the time in which a step waits for its batch. A step counts as
three times the operations of a prediction. Takes some ten minutes on two cores. Writes
`runs/benchmarks/training.json` and `training.md`.
"""

import math
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks import in_process, write_table
from benchmarks.loader import BANDS, write_file

BATCH, SIZE = 2, 384
SIDE = 3072  # of the matrices


def seconds(function, repeats, *, first=2):
    """Return the seconds of each of several calls, after the `first` ones, which compile."""
    for _ in range(first):
        function()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return taken


def matrix_rate(dtype):
    """Return the GFLOP/s of a product of matrices: the best of several."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((SIDE, SIDE)), dtype)
    product = tf.function(tf.matmul)
    return 2 * SIDE**3 / 1e9 / min(seconds(lambda: product(matrix, matrix)[0, 0].numpy(), 8))


def operations(model):
    """Return the GFLOP of one prediction of one patch: of all products and convolutions."""
    from glavitu.backend import layers

    found = 0
    for layer in model.layers:
        places = math.prod(layer.output.shape[1:-1])  # at each of which kernels are multiplied
        kernels = [v for v in layer.variables if v.name == "kernel"]
        found += sum(2 * math.prod(kernel.shape) * places for kernel in kernels)
        if isinstance(layer, layers.MultiHeadAttention):
            found += 4 * places**2 * layer.output.shape[-1]
    return found / 1e9


class Waiting:
    """Batches of a sequence, and the seconds in which they were waited for."""

    def __init__(self, batches):
        self.batches, self.index, self.seconds = batches, 0, 0.0

    def __call__(self):
        """Return the next batch."""
        started = time.perf_counter()
        batch = self.batches[self.index]
        self.index, self.seconds = self.index + 1, self.seconds + time.perf_counter() - started
        return batch


def measure(architecture, precision, steps, folder):
    """Return what one network does in this process."""
    from glavitu import build_model, open_tiles
    from glavitu.patches import PatchSequence
    from glavitu.training import compile_model

    rates = [matrix_rate(precision)]
    model = build_model(architecture, precision=precision)
    compile_model(model)
    sources = [name for name in BANDS if name != "groundtruth"]
    tiles = open_tiles(Path(folder) / "plain.hdf5")
    batches = Waiting(
        PatchSequence(tiles, sources, SIZE, BATCH, tuple(model.output), random=True, steps=100)
    )
    batch = batches()
    step = seconds(lambda: model.train_on_batch(*batch), steps)
    batches()
    batches.seconds, started = 0.0, time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(*batches())
    waiting = batches.seconds / (time.perf_counter() - started)
    rates.append(matrix_rate(precision))
    return {
        "network": architecture,
        "precision": precision,
        "step": np.array(step).tolist(),
        "waiting": waiting,
        "GFLOP": 3 * BATCH * operations(model),
        "matrix GFLOP/s": max(rates),
    }


@click.command()
@click.argument("steps", type=click.IntRange(1), default=5)
def main(steps):
    from glavitu.profiles import ARCHITECTURES

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_file(Path(folder) / "plain.hdf5", 10)
        for network in ARCHITECTURES:
            for precision in ("float32", "bfloat16"):
                rows.append(in_process(measure, network, precision, steps, folder))
                print(rows[-1], flush=True)
    write_table("training", summary(rows), rows)


def summary(rows):
    """Return the table: the limit in each precision, then a row per network and precision."""
    steps = {(row["network"], row["precision"]): np.median(row["step"]) for row in rows}
    best = {p: max(r["matrix GFLOP/s"] for r in rows if r["precision"] == p) for _, p in steps}
    limits = [
        {
            "network": "products of matrices",
            "precision": precision,
            "times float32": f"{rate / best['float32']:.2f}",
            "GFLOP/s": f"{rate:.0f}",
            "of the matrix rate": "100%",
        }
        for precision, rate in best.items()
    ]
    measured = [
        {
            "network": row["network"],
            "precision": row["precision"],
            "step of 2 patches (s)": f"{np.median(row['step']):.2f}",
            "from": f"{min(row['step']):.2f}",
            "to": f"{max(row['step']):.2f}",
            "times float32": f"{steps[row['network'], 'float32'] / np.median(row['step']):.2f}",
            "GFLOP/s": f"{row['GFLOP'] / np.median(row['step']):.0f}",
            "of the matrix rate": f"{row['GFLOP'] / min(row['step']) / best[row['precision']]:.0%}",
            "waiting for batches": f"{row['waiting']:.1%}",
        }
        for row in rows
    ]
    return pd.DataFrame(limits + measured, columns=list(measured[0])).fillna("–")
