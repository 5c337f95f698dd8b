"""Patches a second that a GPU trains on and predicts, against its rate of matrix products.

    pip install "jax[cuda13]"; python -m benchmarks gpu [EPOCHS]

Under JAX, in bfloat16, each network at published size in a process of its own. It is trained with
`fit` in batches of eight patches of 384 pixels: on patches drawn from a tile file, as `train` does,
and on one batch that stays on the GPU, which is what the GPU can do where nobody has to feed it.
Then the windows of one batch are predicted again and again, and tiles of 3456 pixels as published,
from arrays in memory to datasets. A step counts as three times the operations of a prediction. How
long the GPU is busy is what `nvidia-smi` says. Takes three minutes a network, most of them to
compile, and writes after each `runs/benchmarks/gpu.json` and `gpu.md`.
"""

import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks import in_process, machine, write_table
from benchmarks.loader import BANDS, BATCH, SIZE, write_file
from benchmarks.training import operations, seconds

STEPS = 100  # in an epoch
SIDE = 8192  # of the matrices
TILE = 9 * SIZE
TILES = 4  # predicted one after the other
SOURCES = {name: bands for name, bands in BANDS.items() if name != "groundtruth"}


def matrix_rate():
    """Return the TFLOP/s of a product of matrices in bfloat16: the best of several tens."""
    import jax

    matrix = jax.random.normal(jax.random.key(0), (SIDE, SIDE), "bfloat16")
    product = jax.jit(lambda a, b: a @ b)

    def products(count=10):
        found = [product(matrix, matrix) for _ in range(count)]
        jax.block_until_ready(found)

    return 10 * 2 * SIDE**3 / 1e12 / min(seconds(products, 8))


@contextmanager
def busy():
    """Yield a list that in the end has the percentages of time in which the GPU was at work."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        sampling = subprocess.Popen([*command, "-lms", "50"], stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:  # no NVIDIA GPU
        yield []
        return
    found = []
    try:
        yield found
    finally:
        sampling.terminate()
        found += [float(line) for line in sampling.communicate()[0].split() if line.isdigit()]


def trained(model, batches, epochs, steps):
    """Return the seconds of each epoch of `fit`, after one that compiles, and how busy it was."""
    from glavitu.backend import keras

    class Clock(keras.callbacks.Callback):
        """The times at which epochs begin and end."""

        def __init__(self):
            super().__init__()
            self.taken = []

        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.taken.append(time.perf_counter() - self.started)

    clock = Clock()
    common = {"shuffle": False, "verbose": 0, "callbacks": [clock]}
    model.fit(batches, epochs=1, steps_per_epoch=2, **common)
    with busy() as shares:
        model.fit(batches, epochs=epochs, steps_per_epoch=steps, **common)
    return {"seconds": clock.taken[1:], "busy": shares}


def predicted(model, batch, rounds, steps):
    """Return the seconds in which a batch that stays on the GPU is predicted so many times."""
    import jax

    from glavitu.folding import folded

    network = folded(model)
    variables = [
        [variable.value for variable in found]
        for found in (network.trainable_variables, network.non_trainable_variables)
    ]
    predict = jax.jit(lambda *state: network.stateless_call(*state, training=False)[0])
    batch = jax.device_put(batch)

    def windows():
        jax.block_until_ready([predict(*variables, batch) for _ in range(steps)])

    windows()  # compiles
    with busy() as shares:
        taken = seconds(windows, rounds, first=0)
    return {"seconds": taken, "busy": shares}


def measure(architecture, epochs, steps, tile, folder):
    """Return what one network does in this process."""
    import jax
    import xarray as xr

    from glavitu import build_model, open_tiles, predict_tile
    from glavitu.backend import keras
    from glavitu.patches import PatchSequence
    from glavitu.training import compile_model
    from glavitu.windows import window_starts

    class OneBatch(keras.utils.PyDataset):
        """The same batch, on the device, without end."""

        num_batches = None

        def __init__(self, batch):
            super().__init__()
            self.batch = jax.device_put(batch)

        def __getitem__(self, index):
            return self.batch

    model = build_model(architecture, precision="bfloat16")
    compile_model(model)
    tiles = open_tiles(Path(folder) / "plain.hdf5")
    drawn = PatchSequence(
        tiles, SOURCES, SIZE, BATCH, tuple(model.output), random=True, steps=epochs * steps
    )
    found = {"network": architecture, "device": jax.devices()[0].device_kind}
    found |= {"GFLOP": operations(model), "matrix TFLOP/s": [matrix_rate()]}
    batch = drawn[0]
    found["one batch"] = trained(model, OneBatch(batch), epochs, steps)
    found["drawn"] = trained(model, drawn, epochs, steps)
    found["windows"] = predicted(model, batch[0], epochs, steps)
    rng = np.random.default_rng(0)
    scene = xr.Dataset(
        {s: (("y", "x", s), rng.random((tile, tile, n), np.float32)) for s, n in SOURCES.items()}
    )
    found["patches"] = dict.fromkeys(("one batch", "drawn", "windows"), steps * BATCH)
    found["patches"]["tiles"] = TILES * len(window_starts(tile, SIZE, SIZE // 2)) ** 2
    predict_tile(model, scene)
    with busy() as shares:
        taken = seconds(lambda: [predict_tile(model, scene) for _ in range(TILES)], epochs, first=0)
    found["tiles"] = {"seconds": taken, "busy": shares}
    found["matrix TFLOP/s"].append(matrix_rate())
    return found


@click.command()
@click.argument("epochs", type=click.IntRange(1), default=3)
def main(epochs):
    from glavitu.profiles import ARCHITECTURES

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_file(Path(folder) / "plain.hdf5", 10)
        for network in reversed(ARCHITECTURES):  # the study's own network first
            rows.append(
                in_process(measure, network, epochs, STEPS, TILE, folder, KERAS_BACKEND="jax")
            )
            gpu = f"{rows[0]['device']}; {machine()}"
            write_table("gpu", summary(rows), rows, machine=gpu)


def summary(rows):
    """Return the table: a row per network and work."""
    table = []
    limit = max(rate for row in rows for rate in row["matrix TFLOP/s"])
    works = {"one batch": "training, nothing to load", "drawn": "training"}
    works |= {"windows": "prediction, nothing to load", "tiles": "prediction of tiles"}
    for row in rows:
        for key, work in works.items():
            rates = row["patches"][key] / np.array(row[key]["seconds"])
            times = 1 if key in ("windows", "tiles") else 3
            flop = row["GFLOP"] * times * np.median(rates) / 1e3
            shares = row[key]["busy"]
            table.append(
                {
                    "network": row["network"],
                    "work": work,
                    "patches a second": f"{np.median(rates):,.0f}",
                    "from": f"{min(rates):,.0f}",
                    "to": f"{max(rates):,.0f}",
                    "TFLOP/s": f"{flop:.0f}",
                    "of the matrix rate": f"{flop / limit:.0%}",
                    "GPU busy": f"{np.mean(shares):.0f}%" if shares else "–",
                }
            )
    return pd.DataFrame(table)
