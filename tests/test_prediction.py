import json
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
import rasterio
import xarray as xr
from conftest import TINY_SIZES
from hypothesis import given, settings
from hypothesis import strategies as st
from test_weights import write_published

from glavitu import (
    InputError,
    build_model,
    compile_tiles,
    load_weights,
    open_tiles,
    predict_tile,
    save_weights,
)
from glavitu.backend import resolve
from glavitu.evaluation import read_prediction
from glavitu.outputs import Outputs
from glavitu.prediction import predict
from glavitu.prediction_datasets import (
    clear_predictions,
    is_predicted,
    write_predicted,
)
from glavitu.provenance import fingerprint
from glavitu.trained import find_trained
from glavitu.training import train
from glavitu.windows import blend, check_stride, window_starts, window_weights


def identity(size=16):
    """Return a network that answers with its only source as the probability of glacier."""
    source = keras.Input((size, size, 1), name="p")
    output = keras.layers.Concatenate(name="output")([1 - source, source])
    return keras.Model({"p": source}, {"output": output})


def tile_of(values, **attributes):
    attributes = {
        "tile": "A-0",
        "region": "A",
        "padding_height": 0,
        "padding_width": 0,
    } | attributes
    return xr.Dataset({"p": (("y", "x", "p_band"), values[..., None])}, attrs=attributes)


def save_untrained(path, inputs):
    """Write the weights of a small ResU-Net as `train` leaves them."""
    model = build_model("resunet", inputs=inputs, patch_size=16, **TINY_SIZES["resunet"])
    path.parent.mkdir()
    save_weights(model, path)


def test_window_weights_are_a_gaussian_of_the_distance_to_the_centre():
    weights = window_weights(3)
    # d^2 is 0 in the centre, 1 at the edge's middle, 2 in the corner
    assert np.allclose(weights[1], np.exp([-0.5, 0, -0.5]))
    assert weights[0, 0] == pytest.approx(np.exp(-1))


@given(st.integers(16, 90), st.integers(16, 90), st.integers(1, 16), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_blending_exact_windows_gives_the_image_back(height, width, stride, batch_size):
    image = np.random.default_rng(0).random((height, width, 2), dtype=np.float32)
    blended = blend(
        lambda windows: [image[r : r + 16, c : c + 16] for r, c in windows],
        lambda batch: batch,
        (height, width),
        16,
        stride,
        batch_size,
    )
    assert np.allclose(blended, image, atol=1e-5)


@given(st.integers(8, 200), st.integers(1, 8))
def test_windows_cover_everything_and_stay_inside(length, stride):
    starts = window_starts(length, 8, stride)
    covered = {pixel for start in starts for pixel in range(start, start + 8)}
    assert covered == set(range(length))


def test_windows_end_flush_with_the_edge_and_none_is_twice():
    assert window_starts(16, 8, 4) == [0, 4, 8]
    assert window_starts(17, 8, 4) == [0, 4, 8, 9]
    assert window_starts(8, 8, 4) == [0]


def test_overlapping_windows_are_averaged_with_their_weights():
    # two windows of 4 at 0 and 2 answer 0 and 1; pixel 2 lies at 2 of the first, 0 of the second
    answers = iter([np.zeros((4, 4, 1)), np.ones((4, 4, 1))])
    blended = blend(len, lambda count: [next(answers) for _ in range(count)], (4, 6), 4, 2, 8)
    w = window_weights(4)[0]
    assert blended[0, 2, 0] == pytest.approx(w[0] / (w[0] + w[2]))
    assert blended.shape == (4, 6, 1) and blended.dtype == np.float32


def test_all_batches_have_one_size_and_what_fills_the_last_counts_for_nothing():
    sizes = []

    def predict(windows):  # window 4, which fills up the last batch, answers otherwise there
        sizes.append(len(windows))
        return [np.full((4, 4, 1), 1.0 if i < 2 else 9.0) for i in range(len(windows))]

    blended = blend(lambda windows: windows, predict, (4, 20), 4, 4, 4)
    assert sizes == [3, 3]
    assert blended[0, :, 0].tolist() == [1] * 8 + [9] * 4 + [1] * 8


def test_prediction_has_probability_class_and_label_without_padding():
    rng = np.random.default_rng(0)
    values = rng.random((24, 30), dtype=np.float32)
    tile = tile_of(values, padding_height=3, padding_width=1)
    tile["surface"] = (("y", "x"), rng.integers(0, 26, (24, 30)).astype(np.uint8))
    label = np.zeros((24, 30, 2))
    label[..., 1] = 1
    label[5] = 0
    tile["groundtruth"] = (("y", "x", "class"), label)
    result = predict_tile(identity(), tile, stride=7)
    inner = np.s_[3:21, 1:29]
    assert np.allclose(result["probability"], values[inner], atol=1e-5)
    assert np.array_equal(result["glacier"], values[inner] > 0.5)
    assert (result["groundtruth"].values[2] == 255).all()
    assert result["groundtruth"].values[3:].min() == 1
    assert np.array_equal(result["surface"], tile["surface"][inner])
    assert result["probability"].attrs == {"long_name": "probability of the class glacier"}
    flags = result["glacier"].attrs["flag_values"]
    assert flags.tolist() == [0, 1] and flags.dtype == result["glacier"].dtype


def test_a_tile_that_says_nothing_of_padding_and_label_is_predicted_whole():
    tile = xr.Dataset({"p": (("y", "x", "p_band"), np.full((20, 18, 1), 0.7, np.float32))})
    result = predict_tile(identity(), tile)
    assert dict(result.sizes) == {"y": 20, "x": 18}
    assert set(result.data_vars) == {"probability", "glacier"}
    without_crs = predict_tile(identity(), tile.assign_coords(spatial_ref=0))
    assert without_crs["probability"].identical(result["probability"].assign_coords(spatial_ref=0))


def test_dimensions_in_another_order_are_those_of_the_tile_and_others_are_refused():
    values = np.random.default_rng(0).random((20, 20, 1), dtype=np.float32)
    tile = xr.Dataset({"p": (("y", "x", "band"), values)})
    expected = predict_tile(identity(), tile)["probability"]
    for order in (("x", "y", "band"), ("band", "y", "x")):
        found = predict_tile(identity(), tile.transpose(*order))["probability"]
        assert found.dims == ("y", "x") and np.array_equal(found, expected)
    with pytest.raises(InputError, match="'p' has the dimensions y, x; expected y, x and one of"):
        predict_tile(identity(), tile.isel(band=0))
    with pytest.raises(InputError, match="'p' has the dimensions x, row, band; expected y, x and"):
        predict_tile(identity(), tile.rename(y="row"))


def test_labels_of_codes_and_batches_of_nothing_are_refused():
    tile = tile_of(np.zeros((20, 20), np.float32))
    with pytest.raises(InputError, match="batch_size is 0, expected 1 or more"):
        predict_tile(identity(), tile, batch_size=0)
    tile["groundtruth"] = (("y", "x"), np.zeros((20, 20), np.uint8))
    with pytest.raises(InputError, match="groundtruth has 2 dimensions, expected y, x, class"):
        predict_tile(identity(), tile)


def test_predictions_by_given_weights_have_the_name_of_their_network(
    tiny_data, tiny_profile, tmp_path, capsys
):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    train("resunet", name="mine", **options)
    weights = tmp_path / "weights" / "mine.weights.h5"
    assert {path.parent.name for path in predict(weights=weights, **options)} == {"resunet"}
    assert "are replaced" not in capsys.readouterr().out
    predict(weights=weights, stride=5, **options)
    assert (
        "resunet: the predictions with stride 8 instead of 5 are replaced"
        in capsys.readouterr().out
    )
    predict("resunet", name="mine", stride=5, **options)
    assert "anew" not in capsys.readouterr().out
    folder = tmp_path / "predictions" / "mine"
    next(folder.glob("*.nc")).unlink()
    predict(name="mine", stride=5, **options)
    assert "mine: the predictions with files that are gone or changed" in capsys.readouterr().out
    predict(name="mine", weights=weights, stride=5, **options)
    assert "mine: the predictions with weights left out are replaced" in capsys.readouterr().out
    train("resunet", name="mine", overwrite=True, seed=1, **options)
    predict(name="mine", weights=weights, stride=5, **options)
    assert "mine: the predictions with other weights are replaced" in capsys.readouterr().out


def test_tiles_scaled_otherwise_than_the_trainings_are_refused(tiny_data, tiny_profile, tmp_path):
    def rescale(split, high):
        with h5py.File(tiny_data / f"{split}.hdf5", "r+") as file:
            file.attrs["scaling"] = json.dumps({"dem": {"low": [0, 0], "high": [high, 9]}})

    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    rescale("train", 9)
    rescale("val", 8)
    with pytest.raises(InputError, match=r"val.hdf5: 'dem' is scaled from \[0, 0\] to \[8, 9\]"):
        train("resunet", **options)
    rescale("val", 9)
    train("resunet", **options)
    assert len(predict("resunet", **options)) == 2  # of a test split that does not say
    rescale("test", 8)
    with pytest.raises(InputError, match="test.hdf5: 'dem' is scaled .* compile the splits"):
        predict("resunet", **options)


def test_tiles_whose_bands_are_in_another_order_are_refused(tiny_data, tiny_profile, tmp_path):
    def name(split, *bands):
        with h5py.File(tiny_data / f"{split}.hdf5", "r+") as file:
            file.attrs["bands"] = json.dumps({"dem": bands})

    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    name("train", "slope", "elevation")
    with pytest.raises(InputError, match="val.hdf5: the bands of 'dem' are elevation, slope, the"):
        train("resunet", **options)
    name("val", "slope", "elevation")
    train("resunet", **options)
    with pytest.raises(InputError, match="test.hdf5: .* was trained on slope, elevation; bring"):
        predict("resunet", **options)
    name("test", "slope", "elevation")
    assert len(predict("resunet", **options)) == 2


def test_the_order_of_bands_that_are_not_used_does_not_matter(tiny_data, tiny_profile, tmp_path):
    with h5py.File(tiny_data / "train.hdf5", "r+") as file:
        file.attrs["bands"] = json.dumps({"dem": ["slope", "elevation"]})
    profile = tiny_profile.with_changes(sources=["optical"])
    assert len(train("resunet", profile=profile, data=tiny_data, out=tmp_path)) == 2


def test_windows_leave_no_gaps():
    assert [check_stride(stride, 16) for stride in (None, 1, 16)] == [8, 1, 16]
    for stride in (0, 17):
        with pytest.raises(InputError, match=f"stride {stride} would leave gaps .* use 1 to 16"):
            check_stride(stride, 16)


def test_windows_are_half_a_window_apart_by_default():
    source = keras.Input((16, 16, 1), name="p")
    ramp = source * np.linspace(0, 1, 16, dtype=np.float32)[None, :, None, None]
    model = keras.Model(
        {"p": source}, {"output": keras.layers.Concatenate(name="output")([1 - ramp, ramp])}
    )
    tile = tile_of(np.ones((40, 40), np.float32))
    found = {stride: predict_tile(model, tile, stride=stride) for stride in (None, 8, 12)}
    assert np.array_equal(found[None]["probability"], found[8]["probability"])
    assert not np.allclose(found[None]["probability"], found[12]["probability"])


def test_tiles_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"a tile is a str, expected an xarray.Dataset"):
        predict_tile(identity(), "ALP1-0000")
    with pytest.raises(InputError, match=r"a network is a str, expected a keras.Model of named"):
        predict_tile("mine.weights.h5", tile_of(np.zeros((20, 20), np.float32)))
    image = keras.Input((16, 16, 1))
    with pytest.raises(InputError, match=r"a network is a Functional, expected .* answer named"):
        predict_tile(keras.Model(image, image), tile_of(np.zeros((20, 20), np.float32)))
    with pytest.raises(InputError, match="is 15x30 pixels, smaller than a window of 16"):
        predict_tile(identity(), tile_of(np.zeros((15, 30), np.float32)))
    with pytest.raises(InputError, match="tile A-0 has no 'p', which the network needs"):
        predict_tile(identity(), tile_of(np.zeros((20, 20), np.float32)).rename(p="q"))
    two = xr.concat([tile_of(np.zeros((20, 20), np.float32))] * 2, "p_band")
    with pytest.raises(InputError, match=r"'p' has 2 band\(s\), expected 1"):
        predict_tile(identity(), two.transpose("y", "x", "p_band"))
    with pytest.raises(InputError, match="tile A-0: 'p' .*not finite"):
        predict_tile(identity(), tile_of(np.full((20, 20), np.nan, np.float32)))
    for stride in (-1, 0, 17):
        with pytest.raises(InputError, match=f"stride {stride} would leave gaps .* of 16 pixels"):
            predict_tile(identity(), tile_of(np.zeros((50, 50), np.float32)), stride=stride)
    with pytest.raises(InputError, match="stride is 2.5, expected a whole number"):
        predict_tile(identity(), tile_of(np.zeros((50, 50), np.float32)), stride=2.5)


def test_predictions_are_there_if_all_are_and_were_made_so(tmp_path):
    def fill(*names):
        for name in names:
            (tmp_path / name).write_text("")

    recipe = {"tiles": ["A-0", "B-0"], "stride": 8}
    assert not is_predicted(tmp_path, recipe)  # an empty folder
    fill("A-0.nc", "B-0.nc", "scores.csv")
    write_predicted(tmp_path, recipe)
    assert is_predicted(tmp_path, recipe)
    assert (tmp_path / "scores.csv").exists()
    assert not is_predicted(tmp_path, recipe | {"stride": 4})
    (tmp_path / "A-0.nc").unlink()
    assert not is_predicted(tmp_path, recipe)
    (tmp_path / "A-0.nc").write_text("of another network")
    assert not is_predicted(tmp_path, recipe)
    fill("A-0.nc")
    assert is_predicted(tmp_path, recipe)
    (tmp_path / "predictions.json").unlink()  # as where it was cut off
    assert not is_predicted(tmp_path, recipe)
    (tmp_path / ".part-1").mkdir()
    clear_predictions(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_predict_leaves_a_file_per_tile_and_does_not_repeat_itself(
    tiny_data, tiny_profile, tmp_path, monkeypatch
):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    train("resunet", **options)
    files = predict("resunet", **options)
    assert [file.stem for file in files] == list(open_tiles(tiny_data / "test.hdf5"))
    assert read_prediction(files[0]).attrs["region"] == "ALP"
    assert read_prediction(files[0]).sizes == {"y": 36, "x": 36}
    monkeypatch.setattr("glavitu.trained.Trained.load_for", lambda *_: pytest.fail("repeated"))
    assert predict("resunet", **options) == files


def test_predictions_stay_where_new_ones_cannot_be_made(tiny_data, tiny_profile, tmp_path):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    train("resunet", **options)
    before = {file: file.read_bytes() for file in predict("resunet", **options)}
    with h5py.File(tiny_data / "test.hdf5", "r+") as file:
        file["SVAL1-0000/optical"][0, 0, 0] = np.nan
    with pytest.raises(InputError, match="SVAL1-0000: 'optical'"):
        predict("resunet", **options)
    assert all(file.read_bytes() == old for file, old in before.items())
    assert (tmp_path / "predictions" / "resunet" / "predictions.json").exists()


def test_predictions_say_how_they_were_made(weights, tiny_data, tiny_profile, tmp_path):
    with h5py.File(tiny_data / "test.hdf5", "r+") as file:
        del file["SVAL1-0000/groundtruth"]  # where a network is used, there is no label
    options = {"data": tiny_data, "out": tmp_path, "weights": weights, "name": "mine"}
    files = predict(profile=replace(tiny_profile, stride=6), **options)
    assert "groundtruth" in read_prediction(files[0])
    assert "groundtruth" not in read_prediction(files[1])
    with h5py.File(files[0]) as file:
        assert file["probability"].compression == "gzip"
    path = tmp_path / "predictions" / "mine" / "predictions.json"
    record = json.loads(path.read_text())
    # 40x36 pixels: rows 0, 6, 12, 18, 24, columns 0, 6, 12, 18, 20; two tiles
    assert record["windows"] == 2 * 5 * 5 and record["architecture"] == "glavitu"
    assert record["recipe"]["weights"] == fingerprint(weights)
    assert record["recipe"]["stride"] == 6
    predict(profile=replace(tiny_profile, stride=0), **options)  # half a window
    assert json.loads(path.read_text())["recipe"]["stride"] == 8
    predict(profile=replace(tiny_profile, patch_size=64, stride=40), **options)
    assert json.loads(path.read_text())["recipe"]["stride"] == 16  # that of these weights at most


def test_published_weights_predict_without_a_training(tiny_data, tiny_profile, tmp_path):
    model = build_model(
        "glavitu", inputs={"dem": 2, "optical": 3}, patch_size=16, **TINY_SIZES["glavitu"]
    )
    write_published(model, tmp_path / "published.h5")
    files = predict(
        "glavitu",
        profile=tiny_profile,
        data=tiny_data,
        out=tmp_path,
        weights=tmp_path / "published.h5",
    )
    model = build_model(
        "glavitu",
        inputs={"dem": 2, "optical": 3},
        patch_size=16,
        precision=resolve("auto"),
        **TINY_SIZES["glavitu"],
    )
    load_weights(model, tmp_path / "published.h5")
    tiles, paths = open_tiles(tiny_data / "test.hdf5"), Outputs(tmp_path, "new")
    found = find_trained(None, tiny_profile, tiles, paths, tmp_path / "published.h5")
    assert found.architecture == "glavitu"  # where nothing says which network it is
    expected = predict_tile(model, open_tiles(tiny_data / "test.hdf5")["ALP1-0000"])
    found = read_prediction(files[0])["probability"]
    assert np.allclose(found, expected["probability"], atol=1e-6)


def test_predictions_open_where_they_lie_in_gis_software(tile_table, tiny_profile, tmp_path):
    compile_tiles(tile_table, tmp_path / "data", patch_size=16)
    options = {"profile": tiny_profile, "data": tmp_path / "data", "out": tmp_path}
    save_untrained(tmp_path / "weights" / "resunet.weights.h5", {"dem": 1, "optical": 2})
    (file,) = predict("resunet", **options)
    with rasterio.open(f"netcdf:{file}:glacier") as raster:
        assert raster.crs.to_epsg() == 32632
        assert raster.transform[:6] == (30, 0, 500_000, 0, -30, 5_000_000)
    with rasterio.open(f"netcdf:{file}:groundtruth") as raster:
        assert raster.nodata == 255
    assert read_prediction(file)["groundtruth"].dtype == np.uint8


def test_weights_of_another_network_are_refused(tiny_data, tiny_profile, tmp_path):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    weights = tmp_path / "weights" / "mine.weights.h5"
    save_untrained(weights, {"dem": 2, "optical": 3})
    with pytest.raises(InputError, match="does not fit setr: it holds resunet"):
        predict("setr", name="mine", **options)
    with pytest.raises(InputError, match="does not fit setr"):
        predict("setr", weights=weights, **options)
    with pytest.raises(InputError, match="no weights at"):
        predict("setr", **options)
