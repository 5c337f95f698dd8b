"""The study's results: a table over architectures and regions, and how it was made."""

from pathlib import Path

import pandas as pd

from glavitu.errors import InputError
from glavitu.evaluation import COUNTS, pool, summarise
from glavitu.files import read_json, replacing, write_json
from glavitu.provenance import provenance

TITLES = {
    "setr": "SETR",
    "resunet": "ResU-Net",
    "transunet": "TransU-Net",
    "glavitu": "GlaViTU",
}
SCORES = ["IoU", "F1", "precision", "recall", "accuracy"]


def title(architecture):
    """Return the name of a network as the paper writes it."""
    return TITLES.get(architecture, architecture)


def read_scores(out, names):
    """Return the scores per tile of several predictions, with a column `architecture`."""
    tables = []
    for name in names:
        path = Path(out) / "predictions" / name / "scores.csv"
        if not path.exists():
            raise InputError(f"no scores at {path}; run predict and evaluate for {name!r} first")
        tables.append(pd.read_csv(path, keep_default_na=False).assign(architecture=name))
    return pd.concat(tables, ignore_index=True)


def read_logs(out, names):
    """Return the training logs of several networks by name."""
    return {name: pd.read_csv(Path(out) / "logs" / f"{name}_log.csv") for name in names}


def by_region(scores):
    """Return one row per architecture and region, in the order the architectures came in."""
    table = pool(scores, by=["architecture", "region"])
    order = list(dict.fromkeys(scores["architecture"]))
    return table.sort_values(
        "architecture", key=lambda names: names.map(order.index), kind="stable", ignore_index=True
    )[["architecture", "region", *COUNTS, *SCORES]]


def overview(scores, records):
    """Return one row per architecture: parameters, mean IoU over regions, pooled IoU, minutes."""
    rows = []
    for name, tiles in scores.groupby("architecture", sort=False):
        summary = summarise(tiles)
        rows.append(
            {
                "architecture": name,
                "network": title(name),
                "parameters": records[name]["parameters"],
                "mean IoU": summary["mean"],
                "std over regions": summary["std"],
                "pooled IoU": summary["pooled"],
                "best validation IoU": records[name]["best_validation_iou"],
                "epochs": records[name]["epochs"],
                "training minutes": records[name]["seconds"] / 60,
            }
        )
    return pd.DataFrame(rows)


def typical_tiles(scores, regions):
    """Return for each region the tile whose IoU, pooled over architectures, is the median."""
    tiles = pool(scores, by=["region", "tile"]).sort_values("IoU")
    groups = {region: tiles.loc[tiles["region"] == region, "tile"] for region in regions}
    return [group.iloc[(len(group) - 1) // 2] for group in groups.values()]


def verdict(networks, profile):
    """Say in words which network has the highest mean IoU, and where GlaViTU stands."""
    table = networks.set_index("architecture")
    best = table.loc[table["mean IoU"].idxmax()]
    text = f"With the profile {profile}, {best['network']} has the highest mean IoU over regions, "
    text += f"{best['mean IoU']:.3f}."
    if "glavitu" in table.index and best["network"] != title("glavitu"):
        behind = best["mean IoU"] - table.loc["glavitu", "mean IoU"]
        text += f" GlaViTU is {behind:.3f} below it."
    if table["parameters"].max() < 8_000_000:
        text += " These networks are narrower than the paper's and compare with each other only."
    return text


def read_records(out, names):
    """Return the records of several trainings by name."""
    return {name: read_json(Path(out) / "weights" / f"{name}.json") for name in names}


def write_results(out, profile, names):
    """Write ``results.csv``, ``results.json``, ``results.md`` and ``regions.md`` into `out`.

    Returns
    -------
    (pandas.DataFrame, pandas.DataFrame)
        The tables of `overview` and `by_region`.
    """
    out = Path(out)
    scores, records = read_scores(out, names), read_records(out, names)
    regions, networks = by_region(scores), overview(scores, records)
    with replacing(out / "results.csv") as part:
        regions.to_csv(part, index=False)
    predictions = {
        name: read_json(out / "predictions" / name / "predictions.json")["seconds"]
        for name in names
    }
    write_json(
        out / "results.json",
        {
            "profile": profile.as_dict(),
            "seed": profile.seed,
            "networks": networks.to_dict("records"),
            "training_seconds": {name: records[name]["seconds"] for name in names},
            "training_commits": {name: records[name]["provenance"]["commit"] for name in names},
            "prediction_seconds": predictions,
            "data": records[names[0]]["settings"]["data"],
            "provenance": provenance(),
        },
    )
    shown = networks.drop(columns="architecture").round({"training minutes": 1})
    names_shown = regions["architecture"].map(title)
    for name, table in {
        "results": shown,
        "regions": regions.assign(architecture=names_shown).drop(columns="accuracy"),
    }.items():
        with replacing(out / f"{name}.md") as part:
            part.write_text(to_markdown(table), encoding="utf-8")
    return networks, regions


def to_markdown(table):
    """Return a table as Markdown: three decimals, counts with thousands separators."""
    rows = [list(table.columns), ["---"] * table.shape[1]]
    rows += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _cell(value):
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
