import numpy as np
import pytest
from rasterio.crs import CRS

from glavitu import InputError, units


class Scene:
    """A scene of one source, (y, x, band) in memory."""

    def __init__(self, values):
        self.values, self.shape, self.sources = values, values.shape[:2], {"dem": values.shape[2]}

    def read(self, row, column, height, width, sources=("dem",)):
        assert list(sources) == ["dem"]
        return {"dem": self.values[row : row + height, column : column + width]}


@pytest.mark.parametrize(("epsg", "metres"), [(32632, 30), (4326, None), (2263, 9.144)])
def test_the_size_of_pixels_is_in_metres_and_unknown_in_degrees(epsg, metres):
    found = units.pixel_size((30.0, 0, 0, 0, -30.0, 0), CRS.from_epsg(epsg))
    assert found == (metres and pytest.approx(metres, rel=1e-5))  # 2263 is in feet


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
    (remark,) = units.unlike_training(pixels, {"optical": {"low": [0, 0], "high": [1, 1]}})
    assert remark.startswith("optical band 2 hardly varies: by 0.01% of the training data's 0 to 1")


@pytest.mark.parametrize(("share", "remarks"), [(0.049, 1), (0.05, 0), (1, 0), (0, 1)])
def test_a_scene_with_hardly_any_data_is_remarked(share, remarks):
    assert len(units.mostly_empty(share)) == remarks
