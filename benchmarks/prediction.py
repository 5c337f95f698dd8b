"""Seconds that GlaViTU at published size takes for a tile, and what a wider stride costs in IoU.

    python -m benchmarks prediction [WEIGHTS_FOLDER TEST_FILE]

A tile of 1152 pixels is predicted window after window in float32, as a plain script would; and by
`predict_tile` in float32 and bfloat16, in windows half a window apart as published, three quarters,
and side by side. What a stride costs is measured where trained networks are given: as the mean
over regions of the IoU on TEST_FILE. Writes `runs/benchmarks/prediction.json` and `prediction.md`.
"""

import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks import write_table

TILE, SIZE = 1152, 384
BANDS = {"optical": 6, "dem": 2, "sar": 2}
STRIDES = {"half a window, as published": 2 / 4, "three quarters": 3 / 4, "side by side": 1}


def plain(model, tile):
    """Predict window after window, as a plain script would; return probabilities (y, x, class)."""
    from glavitu.windows import window_starts, window_weights

    total, weight_sum = np.zeros((TILE, TILE, 2)), np.zeros((TILE, TILE, 1))
    weights = window_weights(SIZE)[..., None]
    for row in window_starts(TILE, SIZE, SIZE // 2):
        for column in window_starts(TILE, SIZE, SIZE // 2):
            window = np.s_[row : row + SIZE, column : column + SIZE]
            batch = {source: tile[source].values[window][None] for source in BANDS}
            total[window] += weights * model.predict(batch, verbose=0)["output"][0]
            weight_sum[window] += weights
    return total / weight_sum


def timings(rounds):
    """Return way of predicting -> seconds in each round."""
    import xarray as xr

    from glavitu import build_model, predict_tile

    rng = np.random.default_rng(0)
    tile = xr.Dataset(
        {s: (("y", "x", s), rng.random((TILE, TILE, n), np.float32)) for s, n in BANDS.items()}
    )
    models = {p: build_model("glavitu", precision=p) for p in ("float32", "bfloat16")}
    ways = {("window after window", "float32"): lambda: plain(models["float32"], tile)}
    for name, part in STRIDES.items():
        for precision, model in models.items():
            ways[name, precision] = lambda model=model, part=part: predict_tile(
                model, tile, stride=int(part * SIZE)
            )
    found = {way: [] for way in ways}
    for _ in range(rounds + 1):  # the first one compiles
        for way, function in ways.items():
            started = time.perf_counter()
            function()
            found[way].append(time.perf_counter() - started)
    return {way: seconds[1:] for way, seconds in found.items()}


def scores(weights, test):
    """Return a row per network, stride and precision: the mean IoU over regions."""
    from glavitu import load_model, open_tiles, predict_tile, score
    from glavitu.evaluation import summarise
    from glavitu.models import inputs_of

    tiles, rows = open_tiles(test), []
    for path in sorted(Path(weights).glob("*.weights.h5")):
        for name, part in STRIDES.items():
            for precision in ("float32", "bfloat16"):
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
    slowest = np.array(next(iter(taken.values())))
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
