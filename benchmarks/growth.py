"""Time and memory against the size of a scene, the number of tiles and the size of a batch.

    python -m benchmarks growth [SIDE ...]

Maps square scenes of SIDE pixels (default 1250 2500 5000 10000) and ten bands, predicts files of 10
to 40 tiles of 768 pixels, and trains on 512 patches in batches of 2 to 32. Each has a tiny network
and a process of its own, so that what grows is the data path and not the network. Memory is the
peak of what the process holds itself, looked at every 10 ms, less what it held when the network had
answered once; pages of mapped files, which the system drops where memory is short, do not count.
Writes `runs/benchmarks/growth.json`, `growth.md` and `growth_curves.png`.
"""

import tempfile
import threading
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
import rasterio
from rasterio.windows import Window

from benchmarks import OUT, in_process, own_memory, write_table
from benchmarks.loader import write_file

INPUTS = {"optical": 6, "dem": 2, "sar": 2}
SIDES = (1250, 2500, 5000, 10_000)
TILES = (10, 20, 40)
BATCHES = (2, 8, 32)
PATCH, PATCHES = 128, 512
SIZES = {"fusion_filters": 4, "filters": 4, "steps": 2}


def make_scene(folder, side):
    """Write rasters of squares of 64 pixels, about as large as glaciers; return source -> path."""
    rng = np.random.default_rng(0)
    paths = {}
    for source, bands in INPUTS.items():
        block = rng.random((bands, 8, 8)).repeat(64, 1).repeat(64, 2)
        block = (block * 1000).astype(np.int16)
        paths[source] = folder / f"{source}.tif"
        profile = {"driver": "GTiff", "count": bands, "height": side, "width": side}
        profile |= {"dtype": "int16", "crs": "EPSG:32632", "compress": "DEFLATE", "tiled": True}
        profile |= {"transform": rasterio.Affine(30, 0, 5e5, 0, -30, 5e6), "nodata": -1}
        with rasterio.open(paths[source], "w", **profile) as file:
            for row in range(0, side, 512):
                for column in range(0, side, 512):
                    height, width = min(512, side - row), min(512, side - column)
                    window = Window(column, row, width, height)
                    file.write(block[:, :height, :width], window=window)
    return paths


def make_network(folder):
    """Write the weights of a tiny network and the record that `map` reads; let it answer once."""
    from glavitu import build_model, load_model, save_weights
    from glavitu.files import write_json
    from glavitu.provenance import fingerprint

    weights = folder / "weights" / "net.weights.h5"
    save_weights(build_model("resunet", inputs=INPUTS, patch_size=PATCH, **SIZES), weights)
    scaling = {s: {"low": [0] * bands, "high": [1000] * bands} for s, bands in INPUTS.items()}
    record = {"weights": fingerprint(weights), "scaling": scaling}
    write_json(folder / "weights" / "net.json", record)
    batch = {s: np.zeros((8, PATCH, PATCH, n), np.float32) for s, n in INPUTS.items()}
    load_model(weights).predict_on_batch(batch)
    return weights


def prepare(what, value, folder):
    """Write what is to be worked on; return a function that does the work."""
    from glavitu import map_scene, train
    from glavitu.prediction import predict
    from glavitu.profiles import Profile

    weights = make_network(folder)
    if what == "scene":
        paths = make_scene(folder, value)
        return lambda: map_scene(weights, paths, folder / "map", min_area=0.1)
    common = {"name": "tiny", "data": str(folder), "patch_size": PATCH}
    if what == "tiles":
        write_file(folder / "test.hdf5", value)
        profile = Profile(**common)
        return lambda: predict(name="net", profile=profile, out=folder)
    for split, tiles in (("train", 10), ("val", 1)):
        write_file(folder / f"{split}.hdf5", tiles)
    profile = Profile(
        **common, epochs=1, batch_size=value, steps=PATCHES // value, sizes={"resunet": SIZES}
    )
    return lambda: train("resunet", profile=profile, out=folder, name="trained")


def measure(what, value):
    """Return seconds and MiB of memory."""
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(what, value, Path(folder))
        held, done = [own_memory()], threading.Event()

        def watch():
            while not done.wait(0.01):
                held.append(own_memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        try:
            work()
        finally:
            done.set()
        seconds = time.perf_counter() - started
        watcher.join()
        memory = max(held) - held[0]
        return {"what": what, "size": value, "seconds": round(seconds, 1), "MiB": round(memory)}


@click.command()
@click.argument("sides", type=click.IntRange(PATCH), nargs=-1)
def main(sides):
    sizes = {"scene": sides or SIDES, "tiles": TILES, "batch": BATCHES}
    rows = []
    for what, values in sizes.items():
        for value in values:
            rows.append(in_process(measure, what, value))
            print(rows[-1], flush=True)
    units = {"scene": "scene, pixels a side", "tiles": "tiles", "batch": "patches in a batch"}
    table = pd.DataFrame(rows)
    table["what"] = table["what"].map(units)
    table["seconds"] = table["seconds"].map("{:.1f}".format)
    draw(pd.DataFrame(rows), units)
    table = table.rename(columns={"MiB": "memory beyond the network (MiB)"})
    write_table("growth", table, rows, pictures={"growth_curves": "Time and memory by size"})


def draw(rows, units):
    """Draw seconds and memory against each size."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained", sharex="col")
    for column, (what, group) in zip(axes.T, rows.groupby("what", sort=False), strict=True):
        # a scene's time goes with its pixels
        size = group["size"] ** 2 / 1e6 if what == "scene" else group["size"]
        for ax, values in zip(column, ("seconds", "MiB"), strict=True):
            ax.plot(size, group[values], marker="o", color="#20639b")
            ax.set_ylim(0, 1.1 * group[values].max())
            ax.spines[["top", "right"]].set_visible(False)
        column[1].set_xlabel("scene, million pixels" if what == "scene" else units[what])
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("memory beyond\nthe network (MiB)")
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / "growth_curves.png", dpi=110)
