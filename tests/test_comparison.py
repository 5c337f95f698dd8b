import numpy as np
import pandas as pd
import pytest

from glavitu import comparison
from glavitu.evaluation import COUNTS


def table(ious, regions, method="glavitu", name=None):
    """Make scores of tiles of 100 glacier pixels each: `ious` are their shares found."""
    tp = (np.array(ious) * 100).round().astype(int)
    return pd.DataFrame(
        {"name": name or method, "method": method, "region": regions}
        | {"tile": [f"{r}-{i}" for i, r in enumerate(regions)], "tp": tp, "tn": 0, "fp": 0}
        | {"fn": 100 - tp}
    )


def test_the_bootstrap_draws_tiles_within_their_region():
    ious = [0.2, 0.5, 0.8]
    scores = table([*ious, 0.5, 0.5, 0.5], [*"AAA", *"BBB"])
    samples = comparison.bootstrap(scores, replicates=4000)
    assert samples["observed"].values.ravel().tolist() == pytest.approx([0.5, 0.5])
    drawn = samples["drawn"].sel(group="A").values.ravel()
    # two of three tiles: nine pairs, three of which have a mean of .5
    values, counts = np.unique(drawn.round(3), return_counts=True)
    assert values.tolist() == [0.2, 0.35, 0.5, 0.65, 0.8]
    assert counts / 4000 == pytest.approx(np.array([1, 2, 3, 2, 1]) / 9, abs=0.03)
    assert drawn.var() == pytest.approx(np.var(ious, ddof=1) / 3, rel=0.1)  # of a mean of three
    assert np.allclose(samples["drawn"].sel(group="B"), 0.5)


def test_intervals_are_those_of_the_mean_for_many_tiles():
    rng = np.random.default_rng(0)
    ious = rng.uniform(0.3, 0.9, 400)
    row = comparison.mean_iou(table(ious, ["A"] * 400)).iloc[0]
    error = 1.96 * ious.std() / 20
    assert row["mean IoU"] == pytest.approx(ious.mean(), abs=1e-3)
    assert row["low"] == pytest.approx(ious.mean() - error, abs=0.004)
    assert row["high"] == pytest.approx(ious.mean() + error, abs=0.004)


def test_differences_are_paired_by_tile():
    ious = np.linspace(0.1, 0.8, 20)
    better = table(ious + 0.1, ["A"] * 20, "resunet")
    both = pd.concat([table(ious, ["A"] * 20), better])
    row = comparison.differences(both, "glavitu").iloc[0]
    # every tile is better by .1: so is every draw, however unlike the tiles are
    assert row["method"] == "resunet"
    assert row[["difference", "low", "high"]].tolist() == pytest.approx([0.1] * 3)


def test_runs_of_a_method_are_averaged_and_their_spread_is_given():
    regions = ["A", "A", "B", "B"]
    runs = [
        table([0.4] * 4, regions, name="glavitu"),
        table([0.6] * 4, regions, name="glavitu-seed1"),
        table([0.9] * 4, regions, "setr"),
    ]
    rows = comparison.mean_iou(pd.concat(runs)).set_index("method")
    assert rows.index.tolist() == ["glavitu", "setr"]
    assert rows.loc["glavitu", "mean IoU"] == pytest.approx(0.5)
    assert rows.loc["glavitu", "std over seeds"] == pytest.approx(np.std([0.4, 0.6], ddof=1))
    assert np.isnan(rows.loc["setr", "std over seeds"])


def test_false_alarms_where_there_is_no_glacier_spread_no_seeds():
    runs = [table([0.8, 0.8], ["A", "A"], name=name) for name in ("glavitu", "glavitu-seed1")]
    empty = [run.assign(region="B", tp=0, fn=0, fp=[0, 0]) for run in runs]
    empty[1] = empty[1].assign(fp=5)
    rows = comparison.mean_iou(pd.concat([*runs, *empty]))
    assert rows["std over seeds"].tolist() == [0]


def test_there_is_no_interval_where_a_region_has_less_than_three_tiles():
    scores = table([0.2, 0.4, 0.3, 0.6, 0.6], [*"AAA", *"BB"])
    row = comparison.mean_iou(scores).iloc[0]
    assert row["mean IoU"] == pytest.approx((0.3 + 0.6) / 2) and np.isnan(row["low"])
    regions = comparison.by_region(scores).set_index("region")
    assert regions["low"].isna().to_dict() == {"A": False, "B": True}


def test_all_glacier_finds_all_and_takes_all_ground_for_it():
    scores = table([0.2, 0.5], ["A", "A"]).assign(tn=[30, 20], fp=[0, 10])
    (row,) = comparison.mean_iou(comparison.all_glacier(scores)).to_dict("records")
    assert row["method"] == "all_glacier"
    assert row["mean IoU"] == row["pooled IoU"] == pytest.approx(200 / (200 + 30 + 30))
    counts = comparison.all_glacier(scores)[COUNTS].sum()
    assert counts.to_dict() == {"tp": 200, "tn": 0, "fp": 60, "fn": 0}


def test_no_interval_is_of_a_single_tile_with_glacier_and_none_leaves_0_to_1():
    scores = table([0.2, 0, 0], [*"AAA"])
    scores.loc[1:2, ["tp", "fn"]] = 0
    assert comparison.by_region(scores)[["low", "high"]].isna().all(axis=None)
    runs = [table([iou] * 3, [*"AAA"], name=name) for iou, name in ((0.9, "a"), (0.97, "b"))]
    (row,) = comparison.by_region(pd.concat(runs, ignore_index=True)).to_dict("records")
    assert 0 <= row["low"] < 0.9 and row["high"] == 1
    runs = [table([iou] * 3, [*"AAA"], name=name) for iou, name in ((0.02, "a"), (0.1, "b"))]
    (row,) = comparison.by_region(pd.concat(runs, ignore_index=True)).to_dict("records")
    assert row["low"] == 0


def test_tiles_whose_glaciers_are_all_missed_are_drawn_too():
    (row,) = comparison.by_region(table([0, 0, 0.5], [*"AAA"])).to_dict("records")
    assert (row["low"], row["high"]) == (0, 0.5)


def test_every_draw_is_of_all_regions_also_where_a_tile_has_no_glacier():
    scores = table([0.2, 0.2, 0, 0.8, 0.8, 0.8], [*"AAA", *"BBB"])
    scores.loc[2:2, ["tp", "fn"]] = 0
    samples = comparison.bootstrap(scores, replicates=200)
    assert np.allclose(samples["drawn"].sel(group="A"), 0.2)
    row = comparison.mean_iou(scores).iloc[0]
    assert row[["mean IoU", "low", "high"]].tolist() == pytest.approx([0.5] * 3)
    scores["fp"] = [0, 0, 100, 0, 0, 0]  # false alarms without glacier count where they are drawn
    drawn = comparison.bootstrap(scores)["drawn"].sel(group="A").values.ravel()
    assert set(drawn.round(6)) == {0.1, 0.2}


def test_a_region_without_glacier_does_not_count():
    scores = table([0.4, 0.4, 0.4, 0, 0], [*"AAA", *"BB"])
    scores.loc[scores["region"] == "B", ["tp", "fn"]] = 0
    row = comparison.mean_iou(scores).iloc[0]
    assert row[["mean IoU", "low", "high"]].tolist() == pytest.approx([0.4] * 3)


def test_seen_and_unseen_regions_are_compared():
    scores = table([0.8, 0.8, 0.5, 0.5], ["A", "A", "B", "B"])
    rows = comparison.generalisation(scores, {"A"}).set_index("regions")
    assert rows["IoU"].to_dict() == pytest.approx(
        {"seen": 0.8, "unseen": 0.5, "unseen less seen": -0.3}
    )
    assert comparison.generalisation(scores, {"A", "B"}).empty


def surfaces(rows):
    counts = pd.DataFrame(rows, columns=["tile", "code", "tp", "tn", "fp", "fn"])
    return counts.assign(name="setr", method="setr", region="A")


def test_debris_and_clean_ice_are_scored_apart():
    rows = surfaces(
        # codes: 0 rock, 1 clean ice, 2 debris, 3 snow; 12 debris in shadow
        [("A-0", 0, 0, 5, 5, 0), ("A-0", 2, 10, 0, 0, 5), ("A-0", 12, 5, 0, 0, 5)]
        + [("A-1", 1, 30, 0, 0, 10), ("A-1", 3, 0, 1, 10, 0)]
        + [("A-2", 1, 40, 0, 0, 0), ("A-2", 2, 0, 0, 0, 1), ("A-3", 0, 0, 9, 0, 0)]
    )
    scores = rows.groupby(["name", "method", "region", "tile"], as_index=False).sum()
    table = comparison.debris_split(scores, rows).set_index("where")["IoU"]
    # debris: 15 hits of 26, 5 false alarms on rock; clean: 70 of 80, 10 on snow
    assert table["debris-covered ice"] == pytest.approx(15 / 31)
    assert table["clean ice"] == pytest.approx(70 / 90)
    # only tile 0 has more debris than the median tile with ice
    assert table["debris-rich tiles"] == pytest.approx(15 / 30)


def test_a_tile_is_rich_in_debris_by_what_there_is_not_by_what_is_found():
    rows = surfaces(
        [("A-0", 2, 2, 0, 0, 8), ("A-0", 1, 10, 0, 0, 0)]  # half of the ice, most of it missed
        + [("A-1", 2, 3, 0, 0, 0), ("A-1", 1, 10, 0, 0, 0)]
        + [("A-2", 1, 20, 0, 0, 0)]
    )
    scores = rows.groupby(["name", "method", "region", "tile"], as_index=False).sum()
    second = scores.assign(name="other", method="other", tp=scores["tp"] + scores["fn"], fn=0)
    both = pd.concat([scores, second], ignore_index=True)
    found = pd.concat([rows, rows.assign(name="other", method="other")], ignore_index=True)
    table = comparison.debris_split(both, found)
    assert table.index.is_unique
    table = table.set_index(["method", "where"])["IoU"]
    assert table["setr", "debris-rich tiles"] == pytest.approx(12 / 20)
    assert table["setr", "other tiles"] == table["other", "debris-rich tiles"] == 1


def test_errors_are_counted_by_surface_and_sky():
    rows = surfaces(
        [("A-0", 0, 0, 3, 1, 0), ("A-0", 1, 8, 0, 0, 2), ("A-0", 10, 0, 1, 1, 0)]
        + [("A-0", 11, 2, 0, 0, 0), ("A-0", 21, 0, 0, 0, 4)]
    )
    errors = comparison.errors_by_surface(rows).loc["setr"]
    assert errors.to_dict() == pytest.approx(
        {"clean ice": 0.2, "rock": 0.25, "in shadow": 0.25, "under cloud": 1}
    )


def test_regions_hold_means_over_runs():
    runs = [
        table([iou] * 2, ["A", "A"]).assign(name=name) for iou, name in ((0.2, "a"), (0.6, "b"))
    ]
    alone = [comparison.by_region(run).iloc[0] for run in runs]
    row = comparison.by_region(pd.concat(runs, ignore_index=True)).iloc[0]
    for column in ("IoU", "F1", "precision", "recall", "accuracy"):
        assert row[column] == pytest.approx((alone[0][column] + alone[1][column]) / 2)
    for column in COUNTS:
        assert row[column] == round((alone[0][column] + alone[1][column]) / 2)


def test_intervals_hold_what_another_seed_would_change():
    ious = {"a": 0.5, "b": 0.6, "c": 0.7}
    runs = [table([iou] * 6, [*"AAABBB"], name=name) for name, iou in ious.items()]
    other = table([0.6] * 6, [*"AAABBB"], method="setr")
    scores = pd.concat([*runs, other], ignore_index=True)
    samples = comparison.bootstrap(scores, replicates=20_000)
    drawn = samples["drawn"].sel({"method": "glavitu"})
    assert np.allclose(drawn.sel(group="A"), drawn.sel(group="B"))  # one draw of runs for all
    # s / sqrt(3) times the quantiles of Student's t of two degrees of freedom, from a table
    errors = (drawn.sel(group="A") - 0.6) / (0.1 / np.sqrt(3))
    for level, quantile in ((0.5, 0), (0.75, 0.816), (0.95, 2.920), (0.025, -4.303)):
        assert float(errors.quantile(level)) == pytest.approx(quantile, rel=0.08, abs=0.03)
    assert np.allclose(samples["drawn"].sel({"method": "setr"}), 0.6)
    assert samples["observed"].values == pytest.approx(0.6)
    assert list(samples["method"].values) == ["glavitu", "setr"]
