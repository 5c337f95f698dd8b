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
)
from glavitu.backend import resolve
from glavitu.evaluation import read_prediction
from glavitu.prediction import blend, predict, window_starts, window_weights
from glavitu.training import train


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


def test_overlapping_windows_are_averaged_with_their_weights():
    # two windows of 4 at 0 and 2 answer 0 and 1; pixel 2 lies at 2 of the first, 0 of the second
    answers = iter([np.zeros((4, 4, 1)), np.ones((4, 4, 1))])
    blended = blend(lambda windows: [next(answers) for _ in windows], (4, 6), 4, 2, 8)
    w = window_weights(4)[0]
    assert blended[0, 2, 0] == pytest.approx(w[0] / (w[0] + w[2]))


def test_prediction_has_probability_class_and_label_without_padding():
    rng = np.random.default_rng(0)
    values = rng.random((24, 30), dtype=np.float32)
    tile = tile_of(values, padding_height=3, padding_width=0)
    label = np.zeros((24, 30, 2))
    label[..., 1] = 1
    label[5] = 0
    tile["groundtruth"] = (("y", "x", "class"), label)
    result = predict_tile(identity(), tile, stride=7)
    assert np.allclose(result["probability"], values[3:21], atol=1e-5)
    assert np.array_equal(result["glacier"], values[3:21] > 0.5)
    assert (result["groundtruth"].values[2] == 255).all()
    assert result["groundtruth"].values[3:].min() == 1


def test_tiles_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="smaller than a window of 16"):
        predict_tile(identity(), tile_of(np.zeros((15, 30), np.float32)))
    with pytest.raises(InputError, match=r"'p' has 0 band\(s\)"):
        predict_tile(identity(), tile_of(np.zeros((20, 20), np.float32)).rename(p="q"))


def test_predict_leaves_a_file_per_tile_and_does_not_repeat_itself(
    tiny_data, tiny_profile, tmp_path, monkeypatch
):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    train("resunet", **options)
    files = predict("resunet", **options)
    assert [file.stem for file in files] == list(open_tiles(tiny_data / "test.hdf5"))
    assert read_prediction(files[0]).attrs["region"] == "ALP"
    assert read_prediction(files[0]).sizes == {"y": 36, "x": 36}
    monkeypatch.setattr("glavitu.prediction.predict_tile", lambda *_: pytest.fail("repeated"))
    assert predict("resunet", **options) == files


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
    expected = predict_tile(model, open_tiles(tiny_data / "test.hdf5")["ALP1-0000"])
    found = read_prediction(files[0])["probability"]
    assert np.allclose(found, expected["probability"], atol=1e-6)


def test_predictions_open_where_they_lie_in_gis_software(tile_table, tiny_profile, tmp_path):
    compile_tiles(tile_table, tmp_path / "data", patch_size=16)
    options = {"profile": tiny_profile, "data": tmp_path / "data", "out": tmp_path}
    train("resunet", **options)
    (file,) = predict("resunet", **options)
    with rasterio.open(f"netcdf:{file}:glacier") as raster:
        assert raster.crs.to_epsg() == 32632
        assert raster.transform[:6] == (30, 0, 500_000, 0, -30, 5_000_000)
    with rasterio.open(f"netcdf:{file}:groundtruth") as raster:
        assert raster.nodata == 255
    assert read_prediction(file)["groundtruth"].dtype == np.uint8


def test_weights_of_another_network_are_refused(tiny_data, tiny_profile, tmp_path):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    train("resunet", name="mine", **options)
    with pytest.raises(InputError, match="does not fit setr: it holds resunet"):
        predict("setr", name="mine", **options)
    weights = tmp_path / "weights" / "mine.weights.h5"
    with pytest.raises(InputError, match="does not fit setr"):
        predict("setr", weights=weights, **options)
    with pytest.raises(InputError, match="no weights at"):
        predict("setr", **options)
