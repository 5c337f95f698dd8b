"""Seconds and page faults of training steps and predictions, with fresh memory and with kept.

    python -m benchmarks memory [STEPS]

TensorFlow as it comes gives memory back to the system and gets it again page by page;
`glavitu.backend` has it kept. Each network at published size, in the faster precision of the
machine, is measured both ways, each in a process of its own: predictions of a patch of 384 pixels
by the network as it is built, then training steps of two. Takes up to half an hour on two cores.
Writes `runs/benchmarks/memory.json` and `memory.md`.
"""

import resource

import click
import numpy as np
import pandas as pd

from benchmarks import in_process, write_table
from benchmarks.training import BATCH, SIZE, seconds

WAYS = {"fresh": "false", "kept": "true"}


def repeated(function, repeats):
    """Return the seconds of calls after two that compile, page faults per call, and peak memory."""
    function()
    function()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    taken = seconds(function, repeats, first=0)
    after = resource.getrusage(resource.RUSAGE_SELF)
    faults = (after.ru_minflt - before) / repeats
    return {"seconds": taken, "faults": faults, "MiB": after.ru_maxrss / 1024}


def measure(architecture, steps):
    """Return what one network does in this process."""
    from glavitu.models import PUBLISHED_INPUTS, build_model
    from glavitu.training import compile_model

    model = build_model(architecture, precision="auto")
    rng = np.random.default_rng(0)
    shapes = {source: (BATCH, SIZE, SIZE, n) for source, n in PUBLISHED_INPUTS.items()}
    patches = {source: rng.random(shape, np.float32) for source, shape in shapes.items()}
    labels = np.eye(2, dtype=np.float32)[rng.integers(0, 2, (BATCH, SIZE, SIZE))]
    batch = patches, dict.fromkeys(model.output, labels)
    window = {source: array[:1] for source, array in patches.items()}
    found = {"prediction": repeated(lambda: model.predict_on_batch(window), steps)}
    compile_model(model)
    found["training"] = repeated(lambda: model.train_on_batch(*batch), steps)
    return found


@click.command()
@click.argument("steps", type=click.IntRange(1), default=5)
def main(steps):
    from glavitu.profiles import ARCHITECTURES

    rows = []
    for network in ARCHITECTURES:
        for way, kept in WAYS.items():
            found = in_process(measure, network, steps, TF_CPU_ALLOCATOR_USE_BFC=kept)
            rows.append({"network": network, "memory": way} | found)
            print(rows[-1], flush=True)
    write_table("memory", summary(rows), rows)


def summary(rows):
    """Return the table: a row per network, kind of work and way."""
    fresh = {row["network"]: row for row in rows if row["memory"] == "fresh"}
    return pd.DataFrame(
        {
            "network": row["network"],
            "work": work,
            "memory": row["memory"],
            "seconds": f"{np.median(row[work]['seconds']):.2f}",
            "from": f"{min(row[work]['seconds']):.2f}",
            "to": f"{max(row[work]['seconds']):.2f}",
            "times faster": f"{_ratio(fresh[row['network']][work], row[work]):.2f}",
            "page faults": round(row[work]["faults"]),
            "peak memory (MiB)": round(row[work]["MiB"]),
        }
        for work in ("training", "prediction")
        for row in rows
    )


def _ratio(fresh, found):
    return np.median(fresh["seconds"]) / np.median(found["seconds"])
