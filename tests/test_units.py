import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from glavitu import InputError, remarks, units
from glavitu.grids import Grid, pixel_size


class Scene:
    """A scene of one source, (y, x, band) in memory."""

    def __init__(self, values):
        self.values, self.shape, self.sources = values, values.shape[:2], {"dem": values.shape[2]}

    def read(self, row, column, height, width, sources=("dem",)):
        return {"dem": self.values[row : row + height, column : column + width]}


def test_the_size_of_pixels_is_that_on_the_ground():
    degree = 111_320  # metres of longitude at the equator
    places = [  # CRS, where, side of a pixel there, its metres
        (32632, (500_000, 5_000_000), 30, 30),
        (2263, (990_000, 200_000), 30, 9.144),  # in feet
        (3857, (0, 8_399_737.9), 20, 10),  # at 60 degrees north Mercator doubles lengths
        (4326, (10, 60), 0.001, degree * 0.001 * 0.5**0.5),
    ]
    for epsg, (x, y), side, metres in places:
        grid = Grid(CRS.from_epsg(epsg), Affine(side, 0, x, 0, -side, y), (4, 6))
        assert pixel_size(grid) == pytest.approx(metres, rel=5e-3), epsg


def test_a_sample_finds_data_that_lie_between_the_rows_it_looks_at():
    values = np.full((1000, 3, 2), np.nan, np.float32)
    values[701:704] = 7  # the sample is of every fifth row
    pixels = units.sample(Scene(values))["dem"]
    assert np.nanmin(pixels) == np.nanmax(pixels) == 7 and np.isfinite(pixels).sum() == 18


def test_a_scene_whose_bands_never_have_data_together_is_refused():
    values = np.full((300, 3, 2), np.nan, np.float32)
    with pytest.raises(InputError, match="'dem' has no data in this scene"):
        units.sample(Scene(values))


def test_own_scaling_is_the_percentiles_of_the_sample_and_never_empty():
    pixels = {"dem": np.arange(101.0)[:, None]}
    # of 0, 1, ..., 100 the 1st percentile is 1 and the 99th is 99
    assert units.own_scaling(pixels) == {"dem": {"low": [1], "high": [99]}}
    flat = np.append(np.full(1000, 5.0), 7)
    with pytest.raises(InputError, match="band 2 of 'dem' is 5 nearly all over the scene"):
        units.own_scaling({"dem": np.stack([np.arange(1001.0), flat], -1)})


def test_values_that_hardly_vary_are_remarked():
    pixels = {"optical": np.stack([np.linspace(0.1, 0.9, 50), np.linspace(0.1, 0.9, 50) / 1e4], -1)}
    (remark,) = remarks.unlike_training(pixels, {"optical": {"low": [0, 0], "high": [1, 1]}})
    assert remark.startswith("optical band 2: values hardly vary, by 0.01% of the training data's")


def test_tiles_in_other_units_than_most_are_named():
    reflectance = np.linspace(0.05, 0.9, 200).reshape(100, 2)
    tiles = {f"A-{i}": reflectance * (1 + i / 5) for i in range(5)}
    empty = {"A-6": reflectance * np.nan, "A-7": reflectance * 0}
    assert remarks.unlike_each_other("optical", tiles | empty) == []
    (remark,) = remarks.unlike_each_other("optical", tiles | {"B-1": reflectance * 14_000} | empty)
    assert (
        remark == "tile B-1: optical is about 10,000 times what it is in most tiles; other units?"
    )
    (remark,) = remarks.unlike_each_other("optical", tiles | {"B-1": reflectance * 13e-4})
    assert remark.startswith("tile B-1: optical is about 1/1,000 of what it is")
    assert remarks.unlike_each_other("dem", tiles | {"B-1": reflectance * 14_000}) == []


def test_tiles_in_other_units_than_the_training_split_are_remarked():
    reflectance = np.linspace(0.05, 0.9, 2 * 97 * 97).reshape(97, 97, 2)
    scaling = {"optical": {"low": [0.1, 0.1], "high": [0.8, 0.8]}}
    assert remarks.far_from_split({"optical": reflectance}, scaling) == []
    assert remarks.far_from_split({"optical": reflectance * np.nan}, scaling) == []
    (remark,) = remarks.far_from_split({"optical": reflectance * 1e4}, scaling)
    assert (
        remark == "optical bands 1 and 2 lie far from the range of the training split; other units?"
    )
    (remark,) = remarks.far_from_split({"optical": reflectance * [1, 1e4]}, scaling)
    assert remark.startswith("optical band 2 lies far")


def test_a_slope_in_radians_is_remarked():
    slope = np.linspace(0, 60, 200)[:, None]
    terrain = np.concatenate([np.linspace(900, 3000, 200)[:, None], slope], 1)
    scaling = {"dem": {"low": [500.0, 1.0], "high": [4000.0, 50.0]}}
    assert remarks.unlike_training({"dem": terrain}, scaling) == []
    terrain[:, 1] = np.radians(terrain[:, 1])
    (remark,) = remarks.unlike_training({"dem": terrain}, scaling)
    assert remark.startswith("dem band 2") and "Slope is to be in degrees" in remark


def test_a_slope_in_percent_is_remarked_if_the_training_was_in_degrees():
    degrees = np.linspace(0, 55, 200)
    percent = 100 * np.tan(np.radians(degrees))
    terrain = np.stack([np.linspace(900, 3000, 200), percent], 1)
    scaling = {"dem": {"low": [500.0, 1.0], "high": [4000.0, 70.0]}}
    (remark,) = remarks.unlike_training({"dem": terrain}, scaling)
    assert remark.startswith("dem band 2: values reach 13") and "in degrees" in remark
    scaling["dem"]["high"][1] = 150.0
    assert remarks.unlike_training({"dem": terrain}, scaling) == []
    assert remarks.no_degrees(terrain) == [remark]
    assert remarks.no_degrees(terrain[:, :1]) == []


@pytest.mark.parametrize("value", [-9999, -99999, -32768, -32767, np.finfo(np.float32).min])
def test_values_that_often_mean_no_data_are_known(value):
    (remark,) = remarks.no_data({"sar": np.float32([[1], [2], [3], [value]])}, "")
    assert remark.startswith("sar: 25% of the pixels are ")


def test_a_source_without_data_in_a_band_hides_no_other():
    empty = np.column_stack([np.arange(99.0), np.full(99, np.nan)])
    scaling = {source: {"low": [0, 0], "high": [99, 99]} for source in ("dem", "sar")}
    pixels = {"dem": empty, "sar": np.full((99, 2), 1e6)}
    (remark,) = remarks.unlike_training(pixels, scaling)
    assert remark.startswith("sar bands 1 and 2: 100% of the pixels are far")


def test_pixels_of_zeros_are_remarked_but_for_the_sea():
    filled = np.ones((100, 2))
    filled[:31] = 0
    (remark,) = remarks.no_data({"sar": np.zeros((9, 2))}, "")
    assert remark.startswith("sar: 100% of the pixels are 0;")
    coast = np.column_stack([np.maximum(np.arange(-30, 70), 0), np.zeros(100)])
    (remark,) = remarks.no_data({"optical": filled, "dem": coast}, "say {source}={value:g}")
    assert remark == ("optical: 31% of the pixels are 0; if that means no data, say optical=0.")
    filled[:, 1] = 1  # one band that is 0 is dark
    assert remarks.no_data({"optical": filled}, "") == []
    some = np.ones((100, 2))
    some[0] = 0
    assert remarks.no_data({"optical": some}, "") == []
    high = np.column_stack([np.arange(4000, 4100), np.arange(100)])
    high[::20, 0] = 0  # where the slope computed beside them is none
    (remark,) = remarks.no_data({"dem": high}, "say {source}={value:g}")
    assert remark == "dem: 5% of the pixels are 0; if that means no data, say dem=0."


def test_pixels_of_what_often_means_no_data_are_remarked_and_not_taken_for_values():
    terrain = np.stack([np.linspace(900, 3000, 200), np.linspace(0, 50, 200)], 1)
    scaling = {"dem": {"low": [500.0, 1.0], "high": [4000.0, 50.0]}}
    for filler in remarks.FILLERS:
        filled = terrain.copy()
        filled[:60, 0] = filler
        (remark,) = remarks.no_data({"dem": filled}, "say {source}={value:.17g}")
        assert remark.startswith("dem: 30% of the pixels are -")
        assert float(remark.partition("dem=")[2].rstrip(".")) == filler
        assert remarks.unlike_training({"dem": filled}, scaling) == []
        filled[:, 0] = filler
        assert remarks.unlike_training({"dem": filled}, scaling) == []


def test_bands_in_other_units_are_remarked_in_one_line():
    pixels = {"optical": np.linspace(0.1, 0.9, 50)[:, None] * [1000, 1, 1000]}
    bounds = {"optical": {"low": [0, 0, 0.1], "high": [1, 1, 0.8]}}
    (remark,) = remarks.unlike_training(pixels, bounds)
    assert remark.startswith(
        "optical bands 1 and 3: 100% of the pixels are far from the training data's 0 to 1 and "
        "0.1 to 0.8"
    )


@pytest.mark.parametrize(("share", "count"), [(0.049, 1), (0.05, 0), (1, 0), (0, 1)])
def test_a_scene_with_hardly_any_data_is_remarked(share, count):
    assert len(remarks.mostly_empty(share)) == count
