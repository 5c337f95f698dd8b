"""The study's results: tables over methods and regions, and how they were made."""

from pathlib import Path

import pandas as pd

from glavitu import band_ratio, comparison
from glavitu.errors import InputError
from glavitu.evaluation import COUNTS, evaluate, pool, reliability_curves
from glavitu.files import read_json, replacing, write_json
from glavitu.outputs import read_record
from glavitu.provenance import fingerprint, provenance
from glavitu.report import readable, title, to_markdown
from glavitu.tiles import SPLITS, find_split, open_tiles

RECORD = ("settings", "parameters", "best_validation_iou", "epochs", "seconds", "provenance")


class Results:
    """What the runs of a study left below `out`, and the tables made of it.

    Attributes
    ----------
    scores : pandas.DataFrame
        A row per run and test tile, as `glavitu.comparison` describes; of the band ratio too, where
        the optical bands allow one.
    surfaces : pandas.DataFrame
        The same by what the ground is; empty where the tiles do not say.
    rule : dict or None
        The band ratio.
    """

    COLUMNS = {
        "scores": ["tile", "region", *COUNTS],
        "surfaces": ["tile", "region", "code", *COUNTS],
        "reliability": ["bin", "pixels", "glacier", "total"],
    }

    def __init__(self, profile, data, out):
        self.profile, self.data, self.out = profile, Path(data), Path(out)
        self.runs = {run.name: run.method for run in profile.runs()}
        self.rule = None
        if band_ratio.applies(open_tiles(find_split(data, "test"))):
            self.rule = band_ratio.map_tiles(data, out)
            evaluate(band_ratio.NAME, out=out)
        shown = self.runs | ({band_ratio.NAME: band_ratio.NAME} if self.rule else {})
        self.predictions = self._read_predictions()
        self.scores = self._read("scores", shown)
        self.surfaces = self._read("surfaces", shown)
        self.reliability = self._read("reliability", self.runs)
        self.records = {run.name: self._read_record(run) for run in profile.runs()}

    def _read_record(self, run):
        """Return the record of a training, of the seed that the study says."""
        record = read_record(self.out / f"weights/{run.name}.weights.h5", *RECORD)
        if (seed := _settings(record).get("seed")) != run.seed:
            raise InputError(
                f"{run.name} in {self.out} was trained with the seed {seed}, not {run.seed}"
            )
        return record

    def _read_predictions(self):
        """Return the records of the predictions, of weights and tiles that are still there."""
        tiles, records = fingerprint(find_split(self.data, "test")), {}
        for name in self.runs:
            weights, folder = self.out / f"weights/{name}.weights.h5", self.out / "predictions"
            record = folder / name / "predictions.json"
            if not weights.exists() or not record.exists():
                raise InputError(f"no predictions in {folder / name}; run train and predict first")
            records[name] = read_json(record, "seconds", "windows", "recipe", "provenance")
            recipe = _settings(records[name], "recipe")
            used = recipe.get("weights"), recipe.get("data")
            if used != (fingerprint(weights), tiles):
                raise InputError(
                    f"the predictions in {folder / name} are not by {weights} or of the tiles in "
                    f"{self.data} as they are now; run predict and evaluate for {name!r} again"
                )
        return records

    def _read(self, table, runs):
        tables = []
        for name, method in runs.items():
            folder = self.out / "predictions" / name
            if not (folder / "scores.csv").exists():
                raise InputError(f"no scores in {folder}; run predict and evaluate for {name!r}")
            if (folder / f"{table}.csv").exists():
                read = _read_counts(folder / f"{table}.csv", self.COLUMNS[table])
                tables.append(read.assign(name=name, method=method))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    @property
    def seen(self):
        """The regions with tiles in the training split."""
        tiles = open_tiles(find_split(self.data, "train"))
        return {tiles.region(name) for name in tiles}

    @property
    def reference(self):
        """The method others are compared with: GlaViTU, or the first."""
        methods = list(self.runs.values())
        return "glavitu" if "glavitu" in methods else methods[0]

    def logs(self):
        """Return the training logs of the first run of each architecture."""
        names = self.profile.architectures
        return {name: pd.read_csv(self.out / "logs" / f"{name}_log.csv") for name in names}

    def networks(self):
        """Return a row per method, and of all glacier: scores, intervals, and what they cost."""
        yardstick = comparison.all_glacier(self.scores)
        table = comparison.mean_iou(pd.concat([self.scores, yardstick], ignore_index=True))
        table.insert(1, "network", table["method"].map(title))
        costs = pd.DataFrame(
            {
                "method": method,
                "parameters": self.records[name]["parameters"],
                "best validation IoU": self.records[name]["best_validation_iou"],
                "epochs": self.records[name]["epochs"],
                "training minutes": self.records[name]["seconds"] / 60,
                "seconds per patch": self.predictions[name]["seconds"]
                / self.predictions[name]["windows"],
            }
            for name, method in self.runs.items()
        )
        return table.merge(costs.groupby("method").mean(), on="method", how="left")

    def calibration(self):
        """Return a row per method and bin of probability, and its expected calibration error."""
        counts = self.reliability.groupby(["method", "bin"], sort=False)
        return reliability_curves(counts[["pixels", "glacier", "total"]].sum().reset_index())

    def tables(self):
        """Return every table that can be made, by name."""
        tables = {
            "networks": self.networks(),
            "regions": comparison.by_region(self.scores),
            "differences": pd.DataFrame(),
            "generalisation": comparison.generalisation(self.scores, self.seen),
            "debris": pd.DataFrame(),
            "surfaces": pd.DataFrame(),
        }
        if self.scores["method"].nunique() > 1:
            tables["differences"] = comparison.differences(self.scores, self.reference)
        if not self.surfaces.empty:
            tables["debris"] = comparison.debris_split(self.scores, self.surfaces)
            tables["surfaces"] = comparison.errors_by_surface(self.surfaces).reset_index()
        return tables

    def typical_tiles(self, regions):
        """Return for each region the tile with glacier whose IoU over all methods is the median."""
        tiles = pool(self.scores, by=["region", "tile"]).query("tp + fn > 0").sort_values("IoU")
        groups = (tiles.loc[tiles["region"] == region, "tile"] for region in regions)
        return [group.iloc[(len(group) - 1) // 2] for group in groups]

    def write(self):
        """Write ``results.csv``, ``results.json`` and a Markdown file per table below ``tables/``.

        Returns
        -------
        dict of str to pandas.DataFrame
            The tables.
        """
        tables = self.tables()
        with replacing(self.out / "results.csv") as part:
            tables["regions"].to_csv(part, index=False)
        for name, table in tables.items():
            if not table.empty:
                with replacing(self.out / "tables" / f"{name}.md") as part:
                    part.write_text(to_markdown(readable(table)), encoding="utf-8")
        write_json(
            self.out / "results.json",
            {
                "profile": self.profile.as_dict(),
                "seed": self.profile.seed,
                "demo_data": (self.data / "demo_data.json").exists(),
                "tables": {name: _records(table) for name, table in tables.items()},
                "band_ratio": self.rule,
                "training_seconds": {k: r["seconds"] for k, r in self.records.items()},
                "prediction_seconds": {k: r["seconds"] for k, r in self.predictions.items()},
                "training_commits": {k: r["provenance"]["commit"] for k, r in self.records.items()},
                "prediction_commits": {
                    k: r["provenance"]["commit"] for k, r in self.predictions.items()
                },
                "data": {k: fingerprint(find_split(self.data, k)) for k in SPLITS},
                "provenance": provenance(),
            },
        )
        return tables


def _read_counts(path, columns):
    """Read a table of `glavitu.evaluation.evaluate`, and check that it is one."""
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype={"tile": str, "region": str})
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path} is no table; run evaluate again ({error})") from None
    for column in columns:
        if column not in table or column in COUNTS and table[column].dtype.kind != "i":
            raise InputError(f"{path} has no counts {column!r}; run evaluate again")
    return table


def best_training(profile, out, sources):
    """Return the name of the training with the best validation IoU among those of `sources`."""
    scores = {}
    records = (Path(out) / f"weights/{run.name}.json" for run in profile.runs())
    if not (there := [path for path in records if path.exists()]):
        raise InputError(f"no training of the profile {profile.name} in {out}; train one first")
    for path in there:
        record = read_json(path, "settings", "best_validation_iou")
        if set(_settings(record).get("inputs", [None])) <= set(sources):
            scores[path.stem] = record["best_validation_iou"]
    if not scores:
        raise InputError(f"no network trained in {out} works on {', '.join(sources)} alone")
    return max(scores, key=scores.get)


def _settings(record, key="settings"):
    """Return the settings in a record; those of one that is not ours are none."""
    return record[key] if isinstance(record[key], dict) else {}


def _records(table):
    return table.astype(object).where(table.notna(), None).to_dict("records")
