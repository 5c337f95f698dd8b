"""Values that mean no data but that a raster does not declare."""

import numpy as np
import pytest
import rasterio

from glavitu import InputError, map_scene, remarks, units
from glavitu.stacks import open_scene

PLACE = rasterio.Affine(30, 0, 500_000, 0, -30, 5_000_000)


def write(path, values, *, cell=30, nodata=None, mask=None):
    place = PLACE @ rasterio.Affine.scale(cell / 30)
    profile = {"driver": "GTiff", "crs": "EPSG:32632", "transform": place, "nodata": nodata}
    profile |= {"count": 1, "dtype": values.dtype, "width": len(values[0]), "height": len(values)}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values, 1)
        if mask is not None:
            file.write_mask(mask)
    return path


@pytest.fixture
def optical(tmp_path):
    return write(tmp_path / "optical.tif", np.ones((8, 8), np.float32))


def read(optical, dem, nodata=None):
    with open_scene({"optical": optical, "dem": dem}, nodata=nodata) as scene:
        return scene.read(0, 0, 8, 8)["dem"][..., 0]


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("declared", [None, -9999])
@pytest.mark.parametrize("cell", [30, 10, 60])  # on the grid, averaged, interpolated
def test_a_named_value_is_no_data_beside_the_declared_one(optical, tmp_path, cell, declared, dtype):
    side = 8 * 30 // cell
    values = np.full((side, side), 100, dtype)
    values[: side // 4] = 0
    if declared is not None:
        values[-(side // 4) :] = declared
    dem = write(tmp_path / "dem.tif", values, cell=cell, nodata=declared)
    assert (read(optical, dem)[0] == 0).all()
    found = read(optical, dem, {"dem": 0})
    # a gap of two rows is narrower by up to half a pixel of the source: by one row of the grid
    assert np.isnan(found[0]).all() and np.isnan(found[-1]).all() == (declared is not None)
    assert (found[2:-2] == 100).all()
    assert set(found[np.isfinite(found)]) == {100}  # nothing is mixed with what is no data


@pytest.mark.parametrize("value", [-3.4e38, -999.9, 0.1])
def test_a_named_value_is_that_of_floats_of_less_digits(optical, tmp_path, value):
    values = np.full((8, 8), 100, np.float32)
    values[:2] = value
    found = read(optical, write(tmp_path / "dem.tif", values), {"dem": value})
    assert np.isnan(found[:2]).all() and (found[2:] == 100).all()


@pytest.mark.parametrize("value", [-9999, 300, 255.5, -9999.5])
@pytest.mark.parametrize("cell", [30, 10, 60])  # on the grid, averaged, interpolated
def test_a_named_value_that_no_pixel_can_have_changes_nothing(optical, tmp_path, cell, value):
    values = np.full((240 // cell, 240 // cell), 100, np.uint8)
    values[: 120 // cell] = 7
    dem = write(tmp_path / "dem.tif", values, cell=cell, nodata=7)
    found = read(optical, dem, {"dem": value})
    assert np.array_equal(found, read(optical, dem), equal_nan=True)
    assert np.isnan(found[:3]).all() and (found[5:] == 100).all()


@pytest.mark.parametrize("scale", [1, 0.5, 2.75e-5])
def test_what_often_means_no_data_is_remarked_as_it_is_stored(optical, tmp_path, scale):
    values = np.full((8, 8), 7000, np.int16)
    values[:2], values[2:4] = 0, -9999
    dem = write(tmp_path / "dem.tif", values)
    with rasterio.open(dem, "r+") as file:
        file.scales, file.offsets = [scale], [-0.2]
    with open_scene({"optical": optical, "dem": dem}) as scene:
        told = remarks.no_data(units.sample(scene), "{value:g}", scene.units)
    assert told == [
        "dem: 25% of the pixels are -9999; if that means no data, -9999.",
        "dem: 25% of the pixels are 0; if that means no data, 0.",
    ]


@pytest.mark.parametrize("cell", [30, 10, 60])  # on the grid, averaged, interpolated
@pytest.mark.parametrize("how", ["mask", "nodata"])
def test_bands_that_are_masked_each_in_its_own_way(optical, tmp_path, cell, how):
    side = 8 * 30 // cell
    values = np.full((2, side, side), 100, np.uint8)
    values[0, : side // 2], values[1, side // 2 :] = 7, 8
    place = PLACE @ rasterio.Affine.scale(cell / 30)
    profile = {"driver": "GTiff", "crs": "EPSG:32632", "transform": place, "count": 2}
    profile |= {"dtype": "uint8", "width": side, "height": side}
    dem = tmp_path / "dem.tif"
    with rasterio.open(dem, "w", **profile) as file:
        file.write(values)
    if how == "mask":
        with rasterio.open(f"{dem}.msk", "w", **profile) as file:
            file.write(np.where(values < 100, 0, 255))
            file.update_tags(INTERNAL_MASK_FLAGS_1=0, INTERNAL_MASK_FLAGS_2=0)
    else:
        bands = "".join(
            f'<PAMRasterBand band="{i}"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
            for i, value in ((1, 7), (2, 8))
        )
        dem.with_name("dem.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    with open_scene({"optical": optical, "dem": dem}) as scene:
        found = scene.read(0, 0, 8, 8)["dem"]
    assert set(found[np.isfinite(found)]) == {100}
    assert np.isnan(found[:3, :, 0]).all() and np.isnan(found[5:, :, 1]).all()
    assert np.isfinite(found[5:, :, 0]).all() and np.isfinite(found[:3, :, 1]).all()


def test_masks_count_beside_a_named_value(optical, tmp_path):
    values = np.full((24, 24), 100, np.int16)
    values[:6], mask = 0, np.full((24, 24), 255, np.uint8)
    mask[-6:] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        dem = write(tmp_path / "dem.tif", values, cell=10, mask=mask)
    found = read(optical, dem, {"dem": 0})
    assert np.isnan(found[[0, 1, -1, -2]]).all() and (found[2:-2] == 100).all()


def test_undeclared_nan_does_not_blank_its_neighbours_also_with_a_named_value(optical, tmp_path):
    values = np.full((24, 24), 100, np.float32)
    values[:6], values[-1, -1] = 0, np.nan
    found = read(optical, write(tmp_path / "dem.tif", values, cell=10), {"dem": 0})
    assert np.isnan(found[:2]).all() and (found[2:] == 100).all()


def test_a_value_for_a_source_that_is_not_there_is_refused(optical):
    with pytest.raises(InputError, match="nodata of 'dme', expected one of 'optical'"):
        open_scene({"optical": optical}, nodata={"dme": 0})


def test_a_map_has_no_data_where_a_named_value_is(weights, scene, tmp_path):
    paths, arrays = scene
    values = arrays["dem"][..., 0].copy()
    values[40:50, 20:30] = 0
    dem = write(tmp_path / "dem.tif", values)
    out = tmp_path / "out"
    map_scene(weights, paths | {"dem": dem}, out, nodata={"dem": 0})
    with rasterio.open(out / "glacier.tif") as file:
        missing = file.read(1) == 255
    expected = np.zeros((70, 45), bool)
    expected[40:50, 20:30] = expected[:4, :7] = True
    assert np.array_equal(missing, expected)
