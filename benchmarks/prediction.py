"""Seconds that GlaViTU at published size takes for a tile, and what a wider stride costs in IoU.

    python -m benchmarks prediction [WEIGHTS_FOLDER TEST_FILE]

A tile of 1152 pixels is predicted window after window in float32, as a plain script with Keras and
TensorFlow as they come would, in a process of its own; and by `predict_tile` in float32 and, where
the machine has the units, in bfloat16, in windows half a window apart as published, three quarters,
and side by side. What a stride costs is measured where trained networks are given: as the mean
over regions of the IoU on TEST_FILE. Writes `runs/benchmarks/prediction.json` and `prediction.md`.
"""

import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks import in_process, write_table
from benchmarks.training import as_it_comes, stock

TILE, SIZE = 1152, 384
BANDS = {"optical": 6, "dem": 2, "sar": 2}
PLAIN = ("window after window", "float32")
STRIDES = {"half a window, as published": 2 / 4, "three quarters": 3 / 4, "side by side": 1}


def tile():
    """Return a tile of random numbers."""
    import xarray as xr

    rng = np.random.default_rng(0)
    return xr.Dataset(
        {s: (("y", "x", s), rng.random((TILE, TILE, n), np.float32)) for s, n in BANDS.items()}
    )


def plain():
    """Return the seconds for a tile, window after window, after one window that compiles."""
    as_it_comes()
    from glavitu import build_model
    from glavitu.windows import window_starts, window_weights

    model = stock(build_model("glavitu"))
    images = {source: array.values for source, array in tile().items()}
    total, weight_sum = np.zeros((TILE, TILE, 2)), np.zeros((TILE, TILE, 1))
    weights = window_weights(SIZE)[..., None]
    starts = window_starts(TILE, SIZE, SIZE // 2)
    model.predict(
        {source: image[None, :SIZE, :SIZE] for source, image in images.items()}, verbose=0
    )
    started = time.perf_counter()
    for row in starts:
        for column in starts:
            window = np.s_[row : row + SIZE, column : column + SIZE]
            batch = {source: image[window][None] for source, image in images.items()}
            total[window] += weights * model.predict(batch, verbose=0)["output"][0]
            weight_sum[window] += weights
    total /= weight_sum
    return time.perf_counter() - started


def precisions():
    """Return those that are fast on this machine."""
    from glavitu.backend import resolve

    return list(dict.fromkeys(["float32", resolve("auto")]))


def timings(rounds):
    """Return way of predicting -> seconds in each round."""
    from glavitu import build_model, predict_tile

    models, image = {p: build_model("glavitu", precision=p) for p in precisions()}, tile()
    ways = {PLAIN: lambda: in_process(plain)}
    for name, part in STRIDES.items():
        for precision, model in models.items():
            ways[name, precision] = lambda model=model, part=part: timed(
                predict_tile, model, image, stride=int(part * SIZE)
            )
    for way in list(ways)[1:]:
        ways[way]()  # compiles
    found = {way: [] for way in ways}
    for _ in range(rounds):
        for way, function in ways.items():
            found[way].append(function())
    return found


def timed(function, *arguments, **options):
    """Return the seconds of a call."""
    started = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - started


def scores(weights, test):
    """Return way of predicting -> mean over networks of the IoU's difference, and the worst."""
    from glavitu import load_model, open_tiles, predict_tile, score
    from glavitu.evaluation import summarise
    from glavitu.models import inputs_of

    tiles, rows = open_tiles(test), []
    for path in sorted(Path(weights).glob("*.weights.h5")):
        for name, part in STRIDES.items():
            for precision in precisions():
                model = load_model(path, precision=precision)
                stride = int(part * inputs_of(model)[0])
                found = [predict_tile(model, tile, stride=stride) for tile in tiles.values()]
                iou = summarise(score(found))["mean"]
                row = {"network": path.name, "stride": name, "precision": precision, "IoU": iou}
                rows.append(row)
                print(row, flush=True)
    return rows


@click.command()
@click.argument("weights", type=click.Path(exists=True, file_okay=False), required=False)
@click.argument("test", type=click.Path(exists=True, dir_okay=False), required=False)
@click.argument("rounds", type=click.IntRange(1), default=3)
def main(weights, test, rounds):
    if weights and not test:
        raise click.UsageError(f"{weights} alone; expected a tile file to test on beside it")
    taken = timings(rounds)
    rows = scores(weights, test) if weights else []
    exact = {
        r["network"]: r["IoU"] for r in rows if (r["stride"], r["precision"]) == list(taken)[1]
    }
    slowest = np.array(taken[PLAIN])
    table = []
    for (name, precision), seconds in taken.items():
        row = {"windows": name, "precision": precision, "seconds": f"{np.median(seconds):.1f}"}
        row |= {"from": f"{min(seconds):.1f}", "to": f"{max(seconds):.1f}"}
        row["times faster"] = f"{np.median(slowest / seconds):.1f}"
        costs = [
            r["IoU"] - exact[r["network"]]
            for r in rows
            if (r["stride"], r["precision"]) == (name, precision)
        ]
        row["IoU difference, mean"] = f"{np.mean(costs):+.4f}" if costs else "–"
        row["worst network"] = f"{min(costs):+.4f}" if costs else "–"
        table.append(row)
    seconds = [{"way": way, "seconds": found} for way, found in taken.items()]
    write_table("prediction", pd.DataFrame(table), {"seconds": seconds, "scores": rows})
