import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from keras import metrics

from glavitu import InputError, pool, score
from glavitu.evaluation import (
    COUNTS,
    calibration_error,
    count_probabilities,
    count_surfaces,
    evaluate,
    read_prediction,
    reliability_curves,
    summarise,
    without_glacier,
)
from glavitu.files import write_json
from glavitu.hdf5_writing import write_netcdf
from glavitu.prediction_datasets import as_prediction
from glavitu.results import _read_counts


def prediction(truth, found, tile="A-0", region="A"):
    variables = {"groundtruth": truth, "glacier": found}
    variables = {name: (("y", "x"), np.asarray(v, np.uint8)) for name, v in variables.items()}
    return xr.Dataset(variables, attrs={"tile": tile, "region": region})


def test_pixels_are_counted_without_the_unlabelled():
    scores = score([prediction([[1, 1, 0, 0, 255]], [[1, 0, 1, 0, 1]])])
    assert scores.loc[0, ["tp", "tn", "fp", "fn"]].tolist() == [1, 1, 1, 1]
    # IoU 1 / (1 + 1 + 1), F1 2 / (2 + 1 + 1)
    assert scores.loc[0, ["IoU", "F1"]].tolist() == pytest.approx([1 / 3, 1 / 2])


def test_dimensions_of_a_label_may_be_in_another_order():
    tile = prediction([[1, 1, 0]], [[1, 0, 1]])
    turned = tile.assign(groundtruth=tile["groundtruth"].transpose("x", "y"))
    assert score(turned).equals(score(tile))


def test_pooled_scores_agree_with_keras():
    rng = np.random.default_rng(0)
    truths, founds = rng.integers(0, 2, (2, 5, 9, 9))
    pairs = enumerate(zip(truths, founds, strict=True))
    pooled = pool(score(prediction(t, f, tile=f"A-{i}") for i, (t, f) in pairs)).iloc[0]
    truth, found = truths.ravel(), founds.ravel()
    for name, metric in [
        ("IoU", metrics.BinaryIoU(target_class_ids=[1])),
        ("F1", metrics.F1Score(threshold=0.5)),
        ("precision", metrics.Precision()),
        ("recall", metrics.Recall()),
        ("accuracy", metrics.BinaryAccuracy()),
    ]:
        metric.update_state(truth[:, None], found[:, None].astype("float32"))
        assert pooled[name] == pytest.approx(float(np.squeeze(metric.result())))


def test_a_region_without_glacier_has_no_iou_and_does_not_count_in_the_mean():
    scores = score(
        [prediction([[1, 0]], [[1, 1]]), prediction([[0, 0]], [[0, 0]], "B-0", "B")],
    )
    assert np.isnan(pool(scores).set_index("region").loc["B", "IoU"])
    assert summarise(scores)["mean"] == 0.5


def test_a_false_alarm_in_a_region_without_glacier_does_not_lower_the_mean():
    scores = score(
        [prediction([[0, 0]], [[0, 1]], "B-0", "B"), prediction([[1, 0]], [[1, 1]])],
    )
    assert without_glacier(scores) == ["B"]
    assert summarise(scores)["mean"] == 0.5 and summarise(scores)["pooled"] == 1 / 3
    assert pool(scores)["region"].tolist() == ["A", "B"]


def test_mean_and_deviation_are_over_regions_and_pooled_over_pixels():
    counts = pd.DataFrame(
        {"region": ["A", "A", "B"], "tp": [1, 1, 1], "tn": 0, "fp": [0, 2, 0], "fn": [0, 0, 3]}
    )
    # A: 2 / 4, B: 1 / 4; all: 3 / 8
    assert summarise(counts) == {"mean": 0.375, "std": 0.125, "pooled": 0.375}


def test_tiles_without_a_region_are_pooled_as_one():
    counts = pd.DataFrame({"region": [None, None], "tp": [1, 2], "tn": 0, "fp": [1, 0], "fn": 0})
    assert pool(counts)["IoU"].tolist() == [0.75]


def test_counts_do_not_overflow():
    counts = pd.DataFrame({"region": "A", "tp": [10**10] * 3, "tn": 0, "fp": 0, "fn": 10**10})
    assert pool(counts).iloc[0]["tp"] == 3 * 10**10


def test_predictions_without_label_are_refused():
    with pytest.raises(InputError, match="tile A-0 has no groundtruth"):
        score([prediction([[1]], [[1]]).drop_vars("groundtruth")])


def test_a_single_prediction_can_be_scored():
    one = prediction([[1, 0]], [[1, 1]])
    assert score(one).equals(score([one]))


def test_files_of_predictions_can_be_scored(tmp_path):
    for tile in ("A-0", "A-1"):
        write_prediction(tmp_path, tile, [[1, 1, 0, 255]], [[0.9, 0.1, 0.8, 0.9]])
    files = sorted(tmp_path.glob("*.nc"))
    assert score(files)["tile"].tolist() == ["A-0", "A-1"]
    assert score(str(files[0])).loc[0, ["tp", "fn", "fp"]].tolist() == [1, 1, 1]
    for path in (tmp_path / "none.nc", tmp_path):
        with pytest.raises(InputError, match=f"no file of a prediction at {path}"):
            score(path)
    tile = prediction([[1]], [[1]]).drop_vars("glacier")
    with pytest.raises(InputError, match="tile A-0 has no glacier to score; predict it first"):
        score(tile)


def test_a_prediction_with_a_text_that_is_none_is_refused(tmp_path):
    write_prediction(tmp_path, "A-0", [[1, 0]], [[0.9, 0.1]])
    with h5py.File(tmp_path / "A-0.nc", "r+") as file:
        file.attrs.create("region", b"A\xe2", dtype=h5py.string_dtype())  # UTF-8, it says
    with pytest.raises(InputError, match="A-0.nc, which predict makes anew, is damaged"):
        score(tmp_path / "A-0.nc")


def test_no_predictions_have_no_score():
    with pytest.raises(InputError, match="no predictions to score"):
        score([])


def test_pixels_are_counted_by_surface_without_unknown_and_unlabelled():
    mapped = prediction([[1, 1, 0, 0, 255, 1]], [[1, 0, 1, 0, 1, 1]])
    mapped["surface"] = (("y", "x"), np.array([[1, 1, 10, 10, 1, 255]], np.uint8))
    rows = count_surfaces(mapped).set_index("code")
    assert rows.loc[1, ["tp", "tn", "fp", "fn"]].tolist() == [1, 0, 0, 1]
    assert rows.loc[10, ["tp", "tn", "fp", "fn"]].tolist() == [0, 1, 1, 0]
    assert set(rows.index) == {1, 10}


def test_calibration_error_is_the_mean_distance_weighted_by_pixels():
    mapped = prediction([[1, 0, 0, 0, 255]], [[0, 0, 0, 0, 0]])
    mapped["probability"] = (("y", "x"), np.array([[0.9, 0.9, 0.1, 0.1, 0.1]]))
    bins = count_probabilities(mapped)
    assert bins["pixels"].sum() == 4 and bins.set_index("bin").loc[18, "glacier"] == 1
    # at .9: share .5, off by .4; at .1: share 0, off by .1; two pixels each
    assert calibration_error(bins) == pytest.approx(0.25)
    ones = prediction([[1]], [[1]])
    ones["probability"] = (("y", "x"), np.array([[1.0]]))
    assert count_probabilities(ones)["pixels"].iloc[-1] == 1


def test_reliability_is_the_share_of_glacier_at_the_mean_probability_of_a_bin():
    counts = {"bin": [3, 18], "pixels": [4, 5], "glacier": [1, 4], "total": [0.6, 4.6]}
    bins = pd.DataFrame(counts).assign(method="a")
    curves = reliability_curves(pd.concat([bins, bins.assign(method="b", glacier=[4, 0])]))
    assert curves["share"].tolist() == pytest.approx([0.25, 0.8, 1, 0])
    assert curves["probability"].tolist() == pytest.approx([0.15, 0.92] * 2)
    # of 9 pixels, 4 off by .1 and 5 by .12; or by .85 and .92
    errors = [(0.4 + 0.6) / 9] * 2 + [(3.4 + 4.6) / 9] * 2
    assert curves["error"].tolist() == pytest.approx(errors)


def write_prediction(folder, tile, classes, probability, surface=None):
    """Write a prediction as `predict` does; 255 is unlabelled."""
    label = np.stack([np.equal(classes, 0), np.equal(classes, 1)], -1)
    tile = xr.Dataset(
        {"groundtruth": (("y", "x", "class"), label.astype(np.float32))},
        attrs={"tile": tile, "region": tile[0]},
    )
    if surface is not None:
        tile["surface"] = (("y", "x"), np.array(surface, np.uint8))
    probability = np.array(probability, np.float32)
    mapped = as_prediction(tile, probability, (probability > 0.5).astype(np.uint8))
    write_netcdf(mapped, folder / f"{mapped.tile}.nc")


def test_evaluation_leaves_scores_by_tile_probability_and_surface(tmp_path):
    folder = tmp_path / "predictions" / "mine"
    write_prediction(folder, "A-0", [[1, 0, 255]], [[0.9, 0.9, 0.9]])
    with pytest.raises(InputError, match="run predict first"):  # it was cut off
        evaluate("mine", out=tmp_path)
    write_json(folder / "predictions.json", {"recipe": {"tiles": ["A-0"]}})
    evaluate("mine", out=tmp_path)
    assert not (folder / "surfaces.csv").exists()
    write_json(folder / "predictions.json", {"recipe": {"tiles": ["A-0", "B-0"]}})
    with pytest.raises(InputError, match="no prediction of tile B-0 in .*; run predict again"):
        evaluate("mine", out=tmp_path)
    write_prediction(folder, "B-0", [[1, 1, 0]], [[0.9, 0.1, 0.1]], [[1, 1, 10]])
    (folder / "copy of A-0.nc").write_bytes((folder / "A-0.nc").read_bytes())
    scores = evaluate("mine", out=tmp_path)
    assert scores["tile"].tolist() == ["A-0", "B-0"]
    assert scores[["tp", "tn", "fp", "fn"]].to_numpy().tolist() == [[1, 0, 1, 0], [1, 1, 0, 1]]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "scores.csv"), scores)
    bins = pd.read_csv(folder / "reliability.csv")
    assert bins["bin"].tolist() == list(range(20)) and bins["pixels"].sum() == 5
    # pixels of .9: two of three are glacier; of .1: one of two
    found = bins.loc[bins["pixels"] > 0, ["pixels", "glacier", "total"]].to_numpy()
    assert found == pytest.approx(np.array([[2, 1, 0.2], [3, 2, 2.7]]))
    surfaces = pd.read_csv(folder / "surfaces.csv")
    assert list(surfaces) == ["tile", "region", "code", "tp", "tn", "fp", "fn"]
    assert surfaces.to_numpy().tolist() == [
        ["B-0", "B", 1, 1, 0, 0, 1],
        ["B-0", "B", 10, 0, 1, 0, 0],
    ]


def test_evaluation_needs_predictions(tmp_path):
    with pytest.raises(InputError, match="no predictions in .*; run predict first"):
        evaluate("mine", out=tmp_path)
    for recipe in ([], {}, {"tiles": []}, {"tiles": "A-0"}):
        write_json(tmp_path / "predictions" / "mine" / "predictions.json", {"recipe": recipe})
        with pytest.raises(InputError, match="predictions.json names no tiles; run predict again"):
            evaluate("mine", out=tmp_path)


def test_a_prediction_is_read_as_codes_and_one_without_a_map_is_refused(tmp_path):
    write_prediction(tmp_path, "A-0", [[1, 0, 255]], [[0.9, 0.1, 0.2]])
    mapped = read_prediction(tmp_path / "A-0.nc")
    assert mapped["groundtruth"].dtype == np.uint8
    assert mapped["groundtruth"].values.tolist() == [[1, 0, 255]]
    with xr.open_dataset(tmp_path / "A-0.nc") as masked:  # unlabelled is NaN there
        assert score(masked).equals(score(mapped))
        assert count_probabilities(masked).equals(count_probabilities(mapped))
    write_netcdf(mapped.drop_vars("glacier"), tmp_path / "A-1.nc")
    with pytest.raises(InputError, match="A-1.nc has no 'glacier'; run predict again"):
        read_prediction(tmp_path / "A-1.nc")


def test_names_of_digits_stay_what_they_are(tmp_path):
    table = pd.DataFrame({"tile": ["0001", "0002"], "region": ["07", "11"]})
    table[COUNTS] = 1
    table.to_csv(tmp_path / "scores.csv", index=False)
    read = _read_counts(tmp_path / "scores.csv", ["tile", "region", *COUNTS])
    assert read["tile"].tolist() == ["0001", "0002"] and read["region"].tolist() == ["07", "11"]


def test_surfaces_that_nobody_knows_leave_no_table(tmp_path):
    folder = tmp_path / "predictions" / "mine"
    mapped = prediction([[1, 0]], [[1, 1]])
    mapped["probability"] = mapped["glacier"].astype(np.float32)
    for code in (1, 255):
        mapped["surface"] = (("y", "x"), np.full((1, 2), code, np.uint8))
        write_netcdf(mapped, folder / "A-0.nc")
        write_json(folder / "predictions.json", {"recipe": {"tiles": ["A-0"]}})
        evaluate("mine", out=tmp_path)
        assert (folder / "surfaces.csv").exists() == (code == 1)
