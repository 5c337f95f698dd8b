"""Augmented patches a second, against a straightforward loader and the machine's memory.

    pip install opencv-python-headless; python -m benchmarks loader [ROUNDS]

Patches of 384 pixels and ten bands, with labels, in batches of 8, from tiles of 768 pixels: a file
of 1.1 GB as `compile` writes it, and a smaller one that is compressed. The straightforward loader
makes batches of float64 in one thread and resizes band by band with OpenCV. The loaders take turns,
so that what else the machine does meets all of them. Writes `runs/benchmarks/loader.json` and
`loader.md`.
"""

import importlib.util
import itertools
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
import h5py
import numpy as np
import pandas as pd

from benchmarks import own_memory, write_table

BANDS = {"optical": 6, "dem": 2, "sar": 2, "groundtruth": 2}
SIZE, BATCH, TILE = 384, 8, 768
BATCHES = 12  # in a round
BATCH_BYTES = 4 * BATCH * SIZE * SIZE * sum(BANDS.values())


def write_file(path, tiles, **storage):
    """Write tiles of random values."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.random((TILE, TILE, bands), np.float32) for name, bands in BANDS.items()}
    arrays["groundtruth"] = np.eye(2, dtype=np.float32)[(arrays["optical"][..., 0] > 0.6) * 1]
    for name in ("optical", "dem", "sar"):  # real reflectances have no more than 12 bits
        arrays[name] = np.round(arrays[name] * 4096) / np.float32(4096)
    with h5py.File(path, "w") as file:
        for i in range(tiles):
            for name, array in arrays.items():
                file.create_dataset(f"ALP-{i}/{name}", data=array, **storage)
    return path


def straightforward(path):
    """Yield batches as a plain script would make them."""
    import cv2

    rng = np.random.default_rng(0)
    with h5py.File(path) as file:
        names = list(file)
        while True:
            batch = {b: np.zeros((BATCH, SIZE, SIZE, n)) for b, n in BANDS.items()}
            for i in range(BATCH):
                tile = file[names[rng.integers(len(names))]]
                row, column = rng.integers(TILE - SIZE + 1, size=2)
                flips, turns = rng.random(2) < 0.5, rng.integers(4)
                side = round(SIZE * rng.uniform(0.8, 1)) if rng.random() < 0.5 else None
                top, left = rng.integers(SIZE - side + 1, size=2) if side else (0, 0)
                for name in BANDS:
                    patch = tile[name][row : row + SIZE, column : column + SIZE]
                    patch = patch[::-1] if flips[0] else patch
                    patch = np.rot90(patch[:, ::-1] if flips[1] else patch, turns)
                    if side:
                        patch = patch[top : top + side, left : left + side]
                        bands = np.moveaxis(patch, -1, 0)
                        bands = [cv2.resize(band.copy(), (SIZE, SIZE)) for band in bands]
                        patch = np.stack(bands, -1)
                    batch[name][i] = patch
            yield batch


def ours(path, threads):
    """Yield batches as training gets them."""
    from glavitu import open_tiles
    from glavitu.patches import PatchSequence

    sources = [name for name in BANDS if name != "groundtruth"]
    heads = ("output", "deepsupervision")
    batches = PatchSequence(
        open_tiles(path), sources, SIZE, BATCH, heads, random=True, steps=100, threads=threads
    )
    try:
        for index in itertools.count():
            yield batches[index]
    finally:  # nothing is drawn ahead while another loader is measured
        batches.close()


def rate(batches):
    """Return patches a second, after the first batches."""
    for _ in range(4):
        next(batches)
    started = time.perf_counter()
    for _ in range(BATCHES):
        next(batches)
    seconds = time.perf_counter() - started
    memory = own_memory()
    batches.close()
    return BATCHES * BATCH / seconds, memory


def copied(count):
    """Return how many patches a second there would be if each were copied once in memory."""
    pairs = [np.ones((2, 1 << 24), np.float32) for _ in range(count)]
    with ThreadPoolExecutor(count) as threads:
        started = time.perf_counter()
        list(threads.map(lambda pair: np.copyto(*pair), pairs))
        seconds = time.perf_counter() - started
    return BATCH * sum(pair[0].nbytes for pair in pairs) / BATCH_BYTES / seconds


@click.command()
@click.argument("rounds", type=click.IntRange(1), default=7)
def main(rounds):
    if not importlib.util.find_spec("cv2"):
        raise click.UsageError("needs OpenCV: pip install opencv-python-headless")
    with tempfile.TemporaryDirectory() as folder:
        plain = write_file(Path(folder) / "plain.hdf5", 40)
        storage = {"chunks": (128, 128, 2), "compression": "gzip", "shuffle": True}
        packed = write_file(Path(folder) / "packed.hdf5", 6, **storage)
        loaders = {
            "straightforward": partial(straightforward, plain),
            "glavitu, 1 thread": partial(ours, plain, 1),
            "glavitu, 2 threads": partial(ours, plain, 2),
            "compressed, straightforward": partial(straightforward, packed),
            "compressed, glavitu, 2 threads": partial(ours, packed, 2),
        }
        limits = {f"limit: one copy in memory, {n} thread{'s' * (n > 1)}": n for n in (1, 2)}
        found = {name: [] for name in [*loaders, *limits]}
        memory = {name: [] for name in loaders}
        for _ in range(rounds):
            for name, load in loaders.items():
                patches, held = rate(load())
                found[name].append(patches)
                memory[name].append(held)
            for name, threads in limits.items():
                found[name].append(copied(threads))
    rows = []
    for name, rates in found.items():
        kind = "compressed, " if name.startswith("compressed") else ""
        ratios = np.array(rates) / found[f"{kind}straightforward"]
        rows.append(
            {
                "loader": name,
                "patches a second": f"{np.median(rates):.0f}",
                "from": f"{min(rates):.0f}",
                "to": f"{max(rates):.0f}",
                "times the straightforward": f"{np.median(ratios):.1f}",
                "memory of the process (MiB)": f"{max(memory[name]):.0f}" if name in memory else "",
            }
        )
    write_table("loader", pd.DataFrame(rows), {"rates": found, "memory_mib": memory})
