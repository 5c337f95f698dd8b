"""What computing in bfloat16 costs in IoU and saves in time, on the demo data.

    python -m benchmarks precision [SEEDS]

Trains each network of the profile `demo` with some seeds (default 3) in float32 and in bfloat16,
and tests it on the demo data's test split. Trainings below `runs/benchmarks/precision` that are
finished are not repeated. Takes an hour on two cores. Writes `runs/benchmarks/precision.json` and
`precision.md`.
"""

from pathlib import Path

import click
import pandas as pd

from benchmarks import OUT, write_table


def test(architecture, precision, seed, out):
    """Train and test once; return IoU and seconds."""
    from glavitu.evaluation import evaluate, summarise
    from glavitu.prediction import predict
    from glavitu.profiles import load_profile
    from glavitu.training import train

    profile = load_profile("demo").with_changes(precision=precision, seed=seed)
    name = f"{architecture}-{precision}-{seed}"
    log = train(architecture, profile=profile, out=out, name=name)
    predict(name=name, profile=profile, out=out)
    # the first epoch also compiles
    return {
        "network": architecture,
        "precision": precision,
        "seed": seed,
        "IoU": summarise(evaluate(name, out=out))["mean"],
        "seconds": float(log["seconds"][1:].median()),
    }


@click.command()
@click.argument("seeds", type=click.IntRange(1), default=3)
def main(seeds):
    from glavitu.profiles import ARCHITECTURES, load_profile
    from glavitu.study import ensure_data

    profile = load_profile("demo")
    ensure_data(profile, Path(profile.data))
    rows = [
        test(architecture, precision, seed, OUT / "precision")
        for seed in range(seeds)
        for architecture in ARCHITECTURES
        for precision in ("float32", "bfloat16")
    ]
    table = pd.DataFrame(rows).pivot_table(
        index="network", columns="precision", values=["IoU", "seconds"], aggfunc="mean"
    )
    table = table.loc[list(ARCHITECTURES)]
    iou, seconds = table["IoU"], table["seconds"]
    columns = {
        "seeds": seeds,
        "mean IoU, float32": iou["float32"],
        "mean IoU, bfloat16": iou["bfloat16"],
        "difference": iou["bfloat16"] - iou["float32"],
        "epoch, times faster": seconds["float32"] / seconds["bfloat16"],
    }
    table = pd.DataFrame(columns)
    table.loc["mean"] = table.mean()
    table["seeds"] = seeds
    write_table("precision", table.reset_index(names="network"), rows)
