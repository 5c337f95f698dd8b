"""Seconds a training step takes at published size, and what makes it fast.

    python -m benchmarks training [STEPS]

Each network trains in float32 as Keras and TensorFlow come; then with what `glavitu` adds, one
after the other; and, where the machine has the units, in bfloat16. Each of these ways has a process
of its own, with batches of two patches of 384 pixels. In the same process, square matrices are
multiplied for what the machine can do; and `glavitu` as it is trains from a tile file, for the
share of the time in which a step waits for its batch. A step counts as three times the operations
of a prediction. Takes up to half an hour on two cores. Writes `runs/benchmarks/training.json` and
`training.md`.
"""

import resource
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
# Each with what those before it have.
WAYS = ["as Keras and TensorFlow come", "oneDNN", "memory kept", "batch normalization in one"]
WAYS += ["bfloat16"]


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
    """Return the GFLOP of one prediction of one patch."""
    import tensorflow as tf

    inputs = {s: tf.TensorSpec((1, *t.shape[1:])) for s, t in model.input.items()}
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(inputs)
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return tf.compat.v1.profiler.profile(function.graph, options=options).total_float_ops / 1e9


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


def as_it_comes():
    """Start TensorFlow before `glavitu.backend` can set anything."""
    import tensorflow as tf

    tf.matmul(tf.ones((2, 2)), tf.ones((2, 2)))


def stock(model):
    """Return a network after having its batch normalization computed as Keras composes it."""
    for layer in model.layers:
        if hasattr(layer, "by_kernel"):
            layer.by_kernel = False
    return model


def measure(architecture, way, steps, folder):
    """Return what one network does in this process."""
    if way == WAYS[0]:
        as_it_comes()
    from glavitu import build_model, open_tiles
    from glavitu.patches import PatchSequence
    from glavitu.training import compile_model

    precision = "bfloat16" if way == WAYS[-1] else "float32"
    rates = [matrix_rate(precision)]
    model = build_model(architecture, precision=precision)
    if way in WAYS[:3]:
        stock(model)
    compile_model(model)
    sources = [name for name in BANDS if name != "groundtruth"]
    tiles = open_tiles(Path(folder) / "plain.hdf5")
    batches = Waiting(
        PatchSequence(tiles, sources, SIZE, BATCH, tuple(model.output), random=True, steps=100)
    )
    batch = batches()
    seconds(lambda: model.train_on_batch(*batch), 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    taken = seconds(lambda: model.train_on_batch(*batch), steps, first=0)
    after = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "network": architecture,
        "way": way,
        "precision": precision,
        "seconds": taken,
        "faults": (after.ru_minflt - before) / steps,
        "MiB": after.ru_maxrss / 1024,
        "GFLOP": 3 * BATCH * operations(model),
    }
    if way in WAYS[3:]:
        batches()
        batches.seconds, started = 0.0, time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(*batches())
        found["waiting"] = batches.seconds / (time.perf_counter() - started)
    rates.append(matrix_rate(precision))
    return found | {"matrix GFLOP/s": max(rates)}


@click.command()
@click.argument("steps", type=click.IntRange(1), default=3)
def main(steps):
    from glavitu.backend import resolve
    from glavitu.profiles import ARCHITECTURES

    rows = []
    ways = WAYS if resolve("auto") == "bfloat16" else WAYS[:-1]
    with tempfile.TemporaryDirectory() as folder:
        write_file(Path(folder) / "plain.hdf5", 10)
        for network in ARCHITECTURES:
            for way in ways:
                kept = {"TF_CPU_ALLOCATOR_USE_BFC": str(way not in WAYS[:2]).lower()}
                rows.append(in_process(measure, network, way, steps, folder, **kept))
                print(rows[-1], flush=True)
    write_table("training", summary(rows), rows)


def summary(rows):
    """Return the table: a row per network and way."""
    steps = {(row["network"], row["way"]): np.median(row["seconds"]) for row in rows}
    best = {}
    for row in rows:
        best[row["precision"]] = max(best.get(row["precision"], 0), row["matrix GFLOP/s"])
    return pd.DataFrame(
        {
            "network": row["network"],
            "step with": row["way"],
            "seconds of 2 patches": f"{np.median(row['seconds']):.2f}",
            "from": f"{min(row['seconds']):.2f}",
            "to": f"{max(row['seconds']):.2f}",
            "times faster": f"{steps[row['network'], WAYS[0]] / np.median(row['seconds']):.2f}",
            "GFLOP/s": f"{(rate := row['GFLOP'] / np.median(row['seconds'])):.0f}",
            "of the matrix rate": f"{rate / best[row['precision']]:.0%}",
            "page faults": f"{row['faults']:,.0f}",
            "peak memory (MiB)": f"{row['MiB']:,.0f}",
            "waiting for batches": f"{row['waiting']:.1%}" if "waiting" in row else "–",
        }
        for row in rows
    )
