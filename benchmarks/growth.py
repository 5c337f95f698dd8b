"""Time and memory of `map_scene` against the size of the scene.

    python -m benchmarks growth [SIDE ...]

Maps square scenes of SIDE pixels and ten bands (default 1250 2500 5000 10000) with a tiny network,
each in a process of its own, so that what grows is the streaming and not the network. Memory is the
peak of the process less what it held when the network had answered once. Writes
`runs/benchmarks/growth.json` and `growth.md`.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasterio.windows import Window

INPUTS = {"optical": 6, "dem": 2, "sar": 2}
SIDES = (1250, 2500, 5000, 10_000)
PATCH = 128


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
    """Write the weights of a tiny network and the record that `map` reads."""
    from glavitu import build_model, save_weights
    from glavitu.files import write_json

    sizes = {"fusion_filters": 4, "filters": 4, "steps": 2}
    weights = folder / "net.weights.h5"
    save_weights(build_model("resunet", inputs=INPUTS, patch_size=PATCH, **sizes), weights, **sizes)
    scaling = {s: {"low": [0] * bands, "high": [1000] * bands} for s, bands in INPUTS.items()}
    write_json(folder / "net.json", {"scaling": scaling})
    return weights


def measure(side):
    """Return seconds and MiB of memory for a scene."""
    from glavitu import load_model, map_scene

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        paths, weights = make_scene(folder, side), make_network(folder)
        model = load_model(weights)
        batch = {s: np.zeros((8, PATCH, PATCH, n), np.float32) for s, n in INPUTS.items()}
        model.predict_on_batch(batch)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        map_scene(weights, paths, folder / "map", min_area=0.1)
        return {
            "side": side,
            "seconds": round(time.perf_counter() - started, 1),
            "memory beyond the network (MiB)": round(
                (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            ),
        }


def main(*sides):
    from glavitu.files import replacing, write_json
    from glavitu.provenance import provenance
    from glavitu.results import to_markdown

    code = "import json, sys; from benchmarks.growth import measure; "
    code += "print(json.dumps(measure(int(sys.argv[1]))))"
    rows = []
    for side in map(int, sides or SIDES):
        command = [sys.executable, "-c", code, str(side)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table["microseconds per pixel"] = table["seconds"] * 1e6 / table["side"].astype(float) ** 2
    out = Path("runs/benchmarks")
    write_json(out / "growth.json", {"rows": rows, "provenance": provenance()})
    with replacing(out / "growth.md") as part:
        part.write_text(to_markdown(table), encoding="utf-8")
    print(to_markdown(table))
