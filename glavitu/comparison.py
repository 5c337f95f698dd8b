"""Compare methods by their pixel counts per tile: scores with intervals, and their differences.

A table of scores here has a row per run and tile: `name` of the run, `method` (runs of one method
differ in their seed only), `tile`, `region` and the counts tp, tn, fp and fn.
"""

import numpy as np
import pandas as pd
import xarray as xr

from glavitu.evaluation import COUNTS, pool
from glavitu.surfaces import SKY, SURFACES

REPLICATES = 2000
LEVELS = (0.025, 0.975)  # of 95 % intervals
FEWEST = 3  # tiles of a group that has an interval; those of two would be one of the two
ALL_GLACIER = "all_glacier"  # a method, of `all_glacier`


def bootstrap(scores, by="region", *, replicates=REPLICATES, seed=0):
    """Return the IoU of each method in each group, as it is and as other tiles and runs may give.

    Tiles are drawn with replacement within their group, the same ones for every method, so that
    differences between methods are paired (Efron and Tibshirani, 1993, chapters 8 and 13). Of n
    tiles, n - 1 are drawn: as many as there are would vary too little where they are few (Rao and
    Wu, 1988). Tiles without any glacier among them say nothing, and are drawn again. A method's
    runs are averaged; as there are few, what others would give is drawn from Student's
    t distribution about their mean, for all groups alike.

    Parameters
    ----------
    scores : pandas.DataFrame
        Counts per run and tile; every run has every tile.
    by : str
        Column of the groups.

    Returns
    -------
    xarray.Dataset
        ``observed`` (method, group) and ``drawn`` (replicate, method, group). Both are NaN for a
        group without glacier in its labels, for every method; what is drawn is NaN for a group of
        fewer than `FEWEST` tiles, or with glacier in a single one, too.
    """
    rng = np.random.default_rng(seed)
    groups = {}
    for group, tiles in scores.groupby(by):
        counts = tiles.set_index(["name", "tile"])[COUNTS].to_xarray()
        glacier = ((counts["tp"] + counts["fn"]) > 0).any("name").values
        draw = xr.DataArray(_draw(glacier, replicates, rng), dims=("replicate", "tile"))
        drawn = _iou(counts.isel(tile=draw)).where(len(glacier) >= FEWEST and glacier.sum() > 1)
        groups[group] = xr.Dataset({"observed": _iou(counts), "drawn": drawn})
    result = xr.concat(groups.values(), pd.Index(groups, name="group"))
    methods = scores.drop_duplicates("name").groupby("method", sort=False)["name"]
    averaged = [_average(result.sel(name=list(names)), rng) for _, names in methods]
    return xr.concat(averaged, pd.Index([method for method, _ in methods], name="method"))


def _average(runs, rng):
    """Average what was observed of runs, and in each replicate draw what the mean could be.

    That is their mean plus t s / sqrt(n), with their standard deviation s and a t of n - 1 degrees
    of freedom, as a weighted sum of the runs: so its sign is the same in all groups.
    """
    count, replicates = runs.sizes["name"], runs.sizes["replicate"]
    weights = np.full((replicates, count), 1 / count)
    if count > 1:
        normal = rng.standard_normal((replicates, count))
        spread = np.sqrt(rng.chisquare(count - 1, (replicates, 1)) * count)
        weights += (normal - normal.mean(1, keepdims=True)) / spread
    weights = xr.DataArray(weights, dims=("replicate", "name"))
    drawn = (runs["drawn"] * weights).sum("name", skipna=False).clip(0, 1)
    return xr.Dataset({"observed": runs["observed"].mean("name"), "drawn": drawn})


def _draw(glacier, replicates, rng):
    """Draw n - 1 of n tiles, with replacement; at least one with glacier, if one has."""
    count = max(1, len(glacier) - 1)
    drawn = rng.integers(len(glacier), size=(replicates, count))
    while glacier.any() and (without := ~glacier[drawn].any(1)).any():
        drawn[without] = rng.integers(len(glacier), size=(without.sum(), count))
    return drawn


def _mean(samples):
    """Average over the groups with glacier in their labels; NaN where one of them is NaN."""
    some = samples["observed"].notnull().any("method")
    return samples.sel(group=some).mean("group", skipna=False)


def _iou(counts):
    total = counts.sum("tile")
    glacier = total["tp"] + total["fn"]
    return total["tp"] / (glacier + total["fp"]).where(glacier > 0)


def with_interval(samples, label="IoU"):
    """Return a table of what was observed and its 95 % interval, from `bootstrap` or its means."""
    bounds = samples["drawn"].quantile(LEVELS, "replicate", skipna=False)
    low, high = (bounds.isel(quantile=i, drop=True) for i in (0, 1))
    table = xr.Dataset({label: samples["observed"], "low": low, "high": high})
    return table.to_dataframe().reset_index()


def by_region(scores):
    """Return a row per method and region: counts, rounded, and scores, means over runs.

    IoU has an interval.
    """
    samples = with_interval(bootstrap(scores)).rename(columns={"group": "region"})
    pooled = pool(scores, by=["method", "name", "region"]).drop(columns=["name", "IoU"])
    means = pooled.groupby(["method", "region"], as_index=False).mean()
    means[COUNTS] = means[COUNTS].round().astype(int)
    columns = ["method", "region", *COUNTS, "IoU", "low", "high"]
    columns += ["F1", "precision", "recall", "accuracy"]
    return samples.merge(means, on=["method", "region"], how="left")[columns]


def all_glacier(scores):
    """Return the scores of calling each pixel glacier, which is a yardstick for any other map."""
    one = scores[scores["name"] == scores["name"].iloc[0]]
    counts = {"tp": one["tp"] + one["fn"], "fp": one["fp"] + one["tn"], "tn": 0, "fn": 0}
    return one.assign(name=ALL_GLACIER, method=ALL_GLACIER, **counts)


def mean_iou(scores):
    """Return a row per method: mean IoU over regions with interval, std over regions and seeds.

    The regions are all there are (their deviations are divided by their number, as `summarise`
    does), the seeds a sample (by one less).
    """
    samples = bootstrap(scores)
    table = with_interval(_mean(samples), "mean IoU")
    regions = pool(scores, by=["method", "name", "region"]).query("tp + fn > 0")
    runs = regions.groupby(["method", "name"])["IoU"].mean()
    std = samples["observed"].std("group").to_series()
    table["std over regions"] = table["method"].map(std)
    table["std over seeds"] = table["method"].map(runs.groupby("method").std())
    pooled = pool(scores, by=["method", "name"]).groupby("method")["IoU"].mean()
    table["pooled IoU"] = table["method"].map(pooled)
    return table


def differences(scores, reference):
    """Return a row per other method: its mean IoU less that of `reference`, paired by tile."""
    means = _mean(bootstrap(scores))
    others = means.drop_sel({"method": reference}) - means.sel({"method": reference}, drop=True)
    return with_interval(others, "difference")


def generalisation(scores, seen):
    """Return mean IoU over the regions that were trained on, over the others, and the difference.

    Empty where all test regions were trained on, or none.
    """
    samples = bootstrap(scores)
    known = samples["group"].isin(list(seen))
    if known.all() or not known.any():
        return pd.DataFrame()
    groups = {"seen": _mean(samples.sel(group=known)), "unseen": _mean(samples.sel(group=~known))}
    groups["unseen less seen"] = groups["unseen"] - groups["seen"]
    return _stack(groups, "regions")


def debris_split(scores, surfaces):
    """Return pooled IoU of tiles rich in debris and of the others, and of either kind of ice.

    A tile is rich where the share of debris in its glaciers is above the median. *Debris-covered
    ice* counts false alarms on bare rock and under vegetation, which it resembles; *clean ice*
    those on snow and water. Empty where there is no ice at all.
    """
    kinds = surfaces.assign(kind=surfaces["code"] % 10)
    ice = kinds[kinds["kind"].isin([SURFACES["clean ice"], SURFACES["debris-covered ice"]])]
    if not (ice["tp"] + ice["fn"]).any():
        return pd.DataFrame()
    ice = ice[ice["name"] == ice["name"].iloc[0]]
    area = ice.assign(area=ice["tp"] + ice["fn"]).pivot_table(
        index="tile", columns="kind", values="area", aggfunc="sum", fill_value=0
    )
    share = area.get(SURFACES["debris-covered ice"], 0) / area.sum(axis=1)
    rich = scores["tile"].map(share).fillna(0) > share.median()
    tiles = bootstrap(
        scores.assign(group=np.where(rich, "debris-rich tiles", "other tiles")), "group"
    )
    family = {
        SURFACES["debris-covered ice"]: "debris-covered ice",
        SURFACES["rock"]: "debris-covered ice",
        SURFACES["vegetation"]: "debris-covered ice",
    }
    grounds = kinds.assign(group=kinds["kind"].map(family).fillna("clean ice"))
    grounds = grounds.groupby(["name", "method", "tile", "group"], as_index=False, sort=False)
    grounds = bootstrap(grounds[COUNTS].sum(), "group")
    table = pd.concat([with_interval(tiles), with_interval(grounds)], ignore_index=True)
    return table.rename(columns={"group": "where"})


def errors_by_surface(surfaces):
    """Return the share of pixels that each method maps wrongly (method, surface).

    Surfaces in the open; those in shadow and under cloud are taken together.
    """
    names = {code: name for name, code in SURFACES.items()}
    sky = surfaces["code"] // 10
    labels = (surfaces["code"] % 10).map(names).where(sky == SKY["clear"])
    labels = labels.mask(sky == SKY["shadow"], "in shadow").mask(sky == SKY["cloud"], "under cloud")
    counts = (
        surfaces.assign(surface=labels).groupby(["method", "surface"], sort=False)[COUNTS].sum()
    )
    share = (counts["fp"] + counts["fn"]) / counts.sum(axis=1)
    order = ["clean ice", "debris-covered ice", "seasonal snow", "rock", "vegetation", "water"]
    table = share.unstack().reindex(columns=[*order, "in shadow", "under cloud"])
    return table.loc[list(dict.fromkeys(surfaces["method"]))].dropna(axis=1, how="all")


def _stack(groups, name):
    tables = [
        with_interval(samples, "IoU").assign(**{name: key}) for key, samples in groups.items()
    ]
    return pd.concat(tables, ignore_index=True)[["method", name, "IoU", "low", "high"]]
