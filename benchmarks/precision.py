"""What computing in bfloat16 costs in IoU, on the demo data.

    python -m benchmarks precision [SEEDS]

Trains each network as the profile `extended` says with some seeds (default 3) in float32 and in
bfloat16, and tests it on the demo data's test split. Trainings below `runs/benchmarks/precision`
that are finished are not repeated: the table says at which commits each network was trained. Takes
one to three hours on two cores. Writes `runs/benchmarks/precision.json` and `precision.md`.
"""

from pathlib import Path

import click
import pandas as pd

from benchmarks import OUT, write_table


def test(architecture, precision, seed, out):
    """Train and test once; return the mean IoU over regions, and the commit of the training."""
    from glavitu.evaluation import evaluate, summarise
    from glavitu.files import read_json
    from glavitu.outputs import Outputs
    from glavitu.prediction import predict
    from glavitu.profiles import load_profile
    from glavitu.training import train

    profile = load_profile("extended").with_changes(precision=precision, seed=seed)
    name = f"{architecture}-{precision}-{seed}"
    train(architecture, profile=profile, out=out, name=name)
    predict(name=name, profile=profile, out=out)
    return {
        "network": architecture,
        "precision": precision,
        "seed": seed,
        "IoU": summarise(evaluate(name, out=out))["mean"],
        "commit": read_json(Outputs(out, name).record, "provenance")["provenance"]["commit"],
    }


def _listed(commits):
    return ", ".join(sorted({str(commit) for commit in commits}))


@click.command()
@click.argument("seeds", type=click.IntRange(1), default=3)
def main(seeds):
    from glavitu.profiles import ARCHITECTURES, load_profile
    from glavitu.study import ensure_data

    profile = load_profile("extended")
    ensure_data(profile, Path(profile.data))
    rows = [
        test(architecture, precision, seed, OUT / "precision")
        for seed in range(seeds)
        for architecture in ARCHITECTURES
        for precision in ("float32", "bfloat16")
    ]
    found = pd.DataFrame(rows).pivot(index=["network", "seed"], columns="precision", values="IoU")
    found["difference"] = found["bfloat16"] - found["float32"]
    networks = found.groupby("network")
    means, differences = networks.mean(), networks["difference"]
    table = pd.DataFrame(
        {
            "mean IoU, float32": means["float32"],
            "mean IoU, bfloat16": means["bfloat16"],
            "difference": means["difference"],
            "least of a seed": differences.min(),
            "largest": differences.max(),
        }
    ).loc[list(ARCHITECTURES)]
    table.loc["mean"] = table.mean()
    over_networks = found.groupby("seed")["difference"].mean()
    table.loc["mean", ["least of a seed", "largest"]] = over_networks.min(), over_networks.max()
    table.insert(0, "seeds", seeds)
    commits = pd.DataFrame(rows).groupby("network")["commit"].agg(_listed)
    table["trained at"] = commits.reindex(table.index, fill_value="–")
    write_table("precision", table.reset_index(names="network"), rows)
