import json
import shutil

import h5py
import keras
import numpy as np
import pytest
from conftest import TINY_SIZES
from matplotlib import pyplot as plt
from scipy.optimize import fsolve
from scipy.special import expit, logit

from glavitu import InputError, build_model, load_model, open_tiles, predict_tile
from glavitu.backend import resolve
from glavitu.calibration import calibrate, reliability
from glavitu.charts import plot_reliability
from glavitu.outputs import calibration_path
from glavitu.platt import (
    SLOPES,
    Calibration,
    Histogram,
    calibrated,
    confidence,
    fit_calibration,
    read_calibration,
    tells_little,
)
from glavitu.prediction_datasets import as_prediction
from glavitu.weights import save_weights


def pixels_too_sure_by(slope, shift=0.0, count=200_000):
    """Return probabilities that are true only after calibration, and labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-0.5, 1.5, count)
    return expit((logits - shift) / slope), rng.random(count) < expit(logits)


def fitted_to_all_pixels(probability, glacier):
    """Return where the derivatives of the log likelihood of every pixel are zero."""
    logits = logit(np.clip(np.asarray(probability, np.float64), 1e-6, 1 - 1e-6))

    def derivatives(parameters):
        missing = glacier - expit(parameters[0] * logits + parameters[1])
        return logits @ missing / len(logits), missing.mean()

    return fsolve(derivatives, (1, 0))


@pytest.mark.parametrize(("slope", "shift"), [(2.5, 0), (1, 0.7), (0.4, -1)])
def test_the_slope_and_the_shift_that_are_true_are_found(slope, shift):
    found = fit_calibration(*pixels_too_sure_by(slope, shift))
    assert found.slope == pytest.approx(slope, rel=0.02)
    assert found.shift == pytest.approx(shift, abs=0.02)


def test_a_calibration_by_hand():
    # Three of four pixels said to be glacier by 0.9 are, and one of four said to be by 0.1:
    # slope logit(0.9) must be logit(3 / 4), and the same with minus.
    probability, glacier = [0.9] * 4 + [0.1] * 4, [1, 1, 1, 0, 1, 0, 0, 0]
    assert fit_calibration(probability, glacier) == pytest.approx((0.5, 0), abs=1e-4)
    # Three and one of eight: slope log(9) + shift = log(3 / 5), shift - slope log(9) = log(1 / 7)
    probability, glacier = [0.9] * 8 + [0.1] * 8, [1] * 3 + [0] * 5 + [1] + [0] * 7
    slope = (np.log(3 / 5) - np.log(1 / 7)) / 2 / np.log(9)
    expected = slope, np.log(3 / 5) - slope * np.log(9)
    assert fit_calibration(probability, glacier) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("slope", "shift"), [(2.5, 0.5), (0.4, 0), (1 / 6, -0.5)])
def test_the_fit_to_the_histogram_is_the_fit_to_all_pixels(slope, shift):
    # 1 / 6: a part of the probabilities is 0 or 1 in float32
    probability, glacier = pixels_too_sure_by(slope, shift)
    probability = probability.astype(np.float32)
    expected = fitted_to_all_pixels(probability, glacier)
    assert fit_calibration(probability, glacier) == pytest.approx(expected, abs=1e-3)


def test_a_histogram_of_parts_is_that_of_the_whole_and_counts_every_pixel():
    probability, glacier = pixels_too_sure_by(1 / 3, count=3000)
    probability[:3] = 0, 1, 1 + 1e-7
    parts = Histogram()
    for part in (slice(0, 700), slice(700, 700), slice(700, None)):
        parts.add(probability[part], glacier[part])
    assert (parts.pixels.sum(), parts.glacier.sum()) == (3000, glacier.sum())
    assert parts.fit() == pytest.approx(fit_calibration(probability, glacier), abs=1e-7)


def test_slopes_stay_within_bounds_where_the_map_is_all_right_or_all_wrong():
    right = fit_calibration([0.8, 0.2], [True, False]).slope
    wrong = fit_calibration([0.8, 0.2], [False, True]).slope
    assert 10 < right <= SLOPES[1] and wrong == pytest.approx(SLOPES[0])
    assert tells_little(wrong) and not tells_little(right)
    low = np.linspace(-13, -3, 2000)  # a shift larger than any logit
    slope, shift = fit_calibration(expit(low), low > -8)
    assert shift == pytest.approx(8 * slope, rel=0.01) and slope > 10


@pytest.mark.parametrize("glacier", [[], [True, True], [False, False]])
def test_one_class_alone_is_refused(glacier):
    with pytest.raises(InputError, match="both glacier and background"):
        fit_calibration([0.7] * len(glacier), glacier)


@pytest.mark.parametrize("glacier", [[1, 0, 255], [1, 0], [0.5, 0, 1]])
def test_labels_that_are_none_are_refused(glacier):
    with pytest.raises(InputError, match="expected for each probability whether it is of glacier"):
        fit_calibration([0.7, 0.2, 0.1], glacier)


def test_probabilities_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="not a number"):
        fit_calibration([0.2, np.nan], [False, True])


@pytest.mark.parametrize("slope", [0.05, 0.5, 1.7, 20])
def test_calibration_keeps_the_order(slope):
    probability = np.linspace(0, 1, 1001)
    found = calibrated(probability, Calibration(slope, 0))
    assert found.dtype == np.float32
    assert (np.diff(found) >= 0).all() and (np.diff(found[450:551]) > 0).all()
    assert np.allclose(found + found[::-1], 1, atol=1e-6)


def test_calibrated_probabilities_by_hand():
    # odds of 9 become 9 ** (1 / 2) = 3, and 9 ** 2 = 81, times e ** shift
    assert calibrated([[0.1, 0.9]], (0.5, 0)) == pytest.approx(np.array([[0.25, 0.75]]))
    assert calibrated([0.9], (2, 0)) == pytest.approx(81 / 82)
    assert calibrated([0.5, 0.9], (0.5, np.log(2))) == pytest.approx([2 / 3, 6 / 7])
    # 1 is taken as 1 - 1e-6, odds of a million, which become 1000
    assert calibrated([0, 1], (0.5, 0)) == pytest.approx([1 / 1001, 1000 / 1001], rel=1e-5)


def test_without_a_calibration_nothing_changes_and_no_data_stays_no_data():
    probability = np.append(np.random.default_rng(0).random(1000, np.float32), [0, 1])
    assert np.array_equal(calibrated(probability.astype(np.float32), None), probability)
    for calibration in (None, Calibration(0.3, 1)):
        assert np.isnan(calibrated([0.3, np.nan], calibration)).tolist() == [False, True]
        assert np.isnan(confidence([0.3, np.nan], calibration)).tolist() == [False, True]


def test_confidence_is_that_of_the_mapped_class():
    # odds of 4 and of 1 / 4 become 2 and 1 / 2, and then a quarter of that
    found = confidence([0.8, 0.2, 0.5], (0.5, 0))
    assert found == pytest.approx([2 / 3, 2 / 3, 0.5]) and found.dtype == np.float32
    assert confidence([0.8, 0.2, 0.5], (0.5, -np.log(4))) == pytest.approx([1 / 3, 8 / 9, 4 / 5])


def relabel(data, change):
    """Change the labels of the validation tiles in a new file, as the old one may be open."""
    path, new = data / "val.hdf5", data / "new.hdf5"
    shutil.copy(path, new)
    with h5py.File(new, "r+") as file:
        change(file)
    new.replace(path)


def unlabel(tile, rows):
    """Return a change that takes the labels of some rows."""
    return lambda file: file[tile]["groundtruth"].__setitem__(rows, 0)


@pytest.fixture
def trained(tiny_data, tiny_profile, tmp_path):
    """Make the weights of a tiny network, and tiles with unlabelled rows; return the options."""
    relabel(tiny_data, unlabel("ALP1-0000", slice(10, 20)))
    keras.utils.set_random_seed(0)
    sizes = TINY_SIZES["resunet"]
    model = build_model("resunet", inputs={"optical": 3, "dem": 2}, patch_size=16, **sizes)
    (tmp_path / "weights").mkdir()
    save_weights(model, tmp_path / "weights" / "mine.weights.h5")
    return {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}


@pytest.fixture
def known(monkeypatch):
    """Let the network answer with three times the log odds that are true, and 0.5 more."""

    def answer(model, tile, **_):
        rng = np.random.default_rng(len(tile.attrs["tile"]))
        sign = 2 * tile["groundtruth"].values[..., 1] - 1
        # Where x is N(m, 2 m) on glacier and N(-m, 2 m) elsewhere (mean, variance), the log odds of
        # glacier are x plus those of the tile, 0.4 to 0.6 here; m is 2.
        logits = rng.normal(2 * sign, 2) + np.log(0.4 / 0.6)
        probability = expit(3 * logits + 0.5).astype(np.float32)
        probability[:2] = probability[-2:] = 0.5  # padding
        return as_prediction(tile, probability, (probability > 0.5).astype(np.uint8))

    monkeypatch.setattr("glavitu.calibration.predict_tile", answer)


# 36 rows of 36 pixels without padding, two tiles, less ten unlabelled rows
PIXELS = 36 * 36 * 2 - 10 * 36


def test_a_network_that_is_too_sure_is_mended(trained, tmp_path, known):
    result = calibrate("mine", **trained)
    assert result["slope"] == pytest.approx(1 / 3, rel=0.15)
    assert result["shift"] == pytest.approx(-0.5 / 3, abs=0.1)
    assert result["ece_before"] > 0.05 > 0.03 > result["ece_after"]
    assert result["pixels"] == PIXELS
    weights = tmp_path / "weights" / "mine.weights.h5"
    assert read_calibration(weights) == (result["slope"], result["shift"])
    assert not list(tmp_path.rglob(".part-*"))


def test_labelled_pixels_of_the_validation_tiles_are_what_is_calibrated(trained, tmp_path):
    weights = tmp_path / "weights" / "mine.weights.h5"
    model = load_model(weights, precision=resolve("auto"))
    tiles = open_tiles(trained["data"] / "val.hdf5").values()
    predictions = [predict_tile(model, tile, stride=5) for tile in tiles]
    rng = np.random.default_rng(0)

    def label_by_the_network(file):
        for name, prediction in zip(file, predictions, strict=True):
            # true log odds are four times those predicted: the network is not sure enough
            odds = 4 * logit(prediction["probability"].values)
            glacier = rng.random(odds.shape) < expit(odds)
            label = file[name]["groundtruth"][2:-2]
            label[label.any(-1)] = np.stack([~glacier, glacier], -1)[label.any(-1)]
            file[name]["groundtruth"][2:-2] = label
            prediction["groundtruth"].values[...] = np.where(label.any(-1), glacier, 255)

    relabel(trained["data"], label_by_the_network)
    result = calibrate("mine", **trained | {"profile": trained["profile"].with_changes(stride=5)})
    truth, probability = (
        np.concatenate([p[key].values.ravel() for p in predictions])
        for key in ("groundtruth", "probability")
    )
    truth, probability = truth[truth != 255], probability[truth != 255]
    expected = fitted_to_all_pixels(probability, truth)
    assert [result["slope"], result["shift"]] == pytest.approx(expected, abs=1e-3)
    assert 1 < expected[0] < SLOPES[1]
    assert result["pixels"] == len(truth) == PIXELS
    # the error by hand: distance of mean probability and share of glacier in each twentieth
    bins = np.minimum(probability * 20, 19).astype(int)
    ece = sum(abs((probability - truth)[bins == b].sum()) for b in range(20)) / len(truth)
    assert result["ece_before"] == pytest.approx(ece, abs=1e-5)
    curve = reliability(result).set_index("method")
    assert curve.loc["after", "glacier"].sum() == truth.sum()
    after = calibrated(probability, (result["slope"], result["shift"])).astype(float)
    assert curve.loc["after", "total"].sum() == pytest.approx(after.sum(), rel=1e-6)


def test_a_calibration_is_not_repeated_unless_something_changed(
    trained, tmp_path, known, monkeypatch, capsys
):
    first = calibrate("mine", **trained)
    with monkeypatch.context() as patch:
        patch.setattr("glavitu.calibration.predict_tile", lambda *_, **__: pytest.fail("repeated"))
        assert calibrate("mine", **trained) == first
    path = tmp_path / "weights" / "mine.calibration.json"
    path.write_text(path.read_text()[:100])
    assert calibrate("mine", **trained)["slope"] == first["slope"]
    relabel(trained["data"], unlabel("ALP1-0000", slice(20, 30)))
    capsys.readouterr()
    assert calibrate("mine", **trained)["pixels"] == PIXELS - 10 * 36
    said = "mine.calibration.json: the calibration with other data will be replaced"
    assert said in capsys.readouterr().out
    weights = tmp_path / "weights" / "mine.weights.h5"
    with h5py.File(weights, "r+") as file:
        file.attrs["changed"] = 1
    with pytest.raises(InputError, match="is for other weights"):
        read_calibration(weights)
    assert calibrate("mine", **trained)["weights"] != first["weights"]
    assert read_calibration(weights).slope > 0


def test_calibration_needs_weights_and_labels(trained):
    with pytest.raises(InputError, match="no weights at"):
        calibrate("other", **trained)
    relabel(trained["data"], lambda file: file.pop("SVAL1-0000/groundtruth"))
    with pytest.raises(InputError, match="SVAL1-0000 has no label"):
        calibrate("mine", **trained)


def test_no_calibration_is_none_and_a_broken_one_is_one_line(tmp_path):
    weights = tmp_path / "a.weights.h5"
    weights.write_bytes(b"weights")
    assert read_calibration(weights) is None
    path = calibration_path(weights)
    assert path == tmp_path / "a.calibration.json"
    for content, message in {
        "{": "not JSON",
        "\udcff": "not UTF-8",
        "[2.0]": "slope is None",
        "{}": "slope is None",
        '{"temperature": 2.0}': "slope is None",
        '{"slope": 2.0}': "shift is None, expected a number",
        **{
            json.dumps({"slope": value, "shift": 0}): "expected a positive number"
            for value in (0, -1.5, float("nan"), float("inf"), 10**400, "2", True, [2], None)
        },
        '{"slope": 2.0, "shift": -1, "weights": "0123"}': "for other weights",
    }.items():
        path.write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(InputError, match=message) as error:
            read_calibration(weights)
        assert "a.calibration.json" in str(error.value) and "\n" not in str(error.value)


def test_reliability_curves_are_drawn(trained, known):
    result = calibrate("mine", **trained)
    curve = reliability(result)
    for method, table in curve.groupby("method"):
        assert table["pixels"].sum() == result["pixels"]
        distance = (table["probability"] - table["share"]).abs() * table["pixels"]
        assert distance.sum() / PIXELS == pytest.approx(result[f"ece_{method}"])
    ax = plot_reliability(curve)
    before, after = (text.get_text() for text in ax.get_legend().get_texts())
    assert before.startswith("before") and after.startswith("after")
    plt.close(ax.figure)
