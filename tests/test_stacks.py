import os
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from pyproj import Transformer
from rasterio.vrt import _boundless_vrt_doc
from scipy.ndimage import binary_dilation

from glavitu.errors import InputError
from glavitu.geotiffs import read_raster
from glavitu.local_rasters import files_of, fingerprint_of
from glavitu.stacks import open_scene, slope_of
from glavitu.terrain import incidence, tangent_of_slope

EAST, NORTH = 500_000, 5_000_000  # of the upper left corner, in UTM 32N
CLIFF = np.repeat([[0.0, 9]], 8, axis=0).repeat(4, axis=1)  # 0 on the left half of 8x8, 9 right


def write(path, values, *, corner=(EAST, NORTH), cell=10, crs="EPSG:32632", nodata=None, mask=None):
    """Write values (band, y, x) or (y, x) as a GeoTIFF; return its path."""
    values = np.atleast_3d(np.asarray(values).T).T
    down = -cell if np.isscalar(cell) else cell[0]
    right = cell if np.isscalar(cell) else cell[1]
    profile = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    profile |= {"dtype": values.dtype, "crs": crs, "nodata": nodata, "driver": "GTiff"}
    profile["transform"] = rasterio.Affine(right, 0, corner[0], 0, down, corner[1])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(values)
        if mask is not None:
            file.write_mask(mask)
    return path


@pytest.fixture
def optical(tmp_path):
    """Write two bands of 60x50 pixels of 30 m, without 0; return the path."""
    values = np.random.default_rng(0).integers(1, 1000, (2, 60, 50)).astype(np.uint16)
    return write(tmp_path / "optical.tif", values, cell=30)


def centres(shape, *, corner=(EAST, NORTH), cell=30):
    """Easting and northing (y, x) of the centres of pixels."""
    rows, columns = np.indices(shape) + 0.5
    return corner[0] + cell * columns, corner[1] - cell * rows


def whole(scene):
    return scene.read(0, 0, *scene.shape)


def test_a_scene_on_one_grid_is_read_as_it_is_stored(optical, tmp_path):
    sar = np.random.default_rng(1).normal(-10, 3, (2, 60, 50)).astype(np.float32)
    scene = open_scene({"sar": write(tmp_path / "sar.tif", sar, cell=30), "optical": optical})
    assert scene.shape == (60, 50) and scene.crs.to_epsg() == 32632
    assert tuple(scene.transform)[:6] == (30, 0, EAST, 0, -30, NORTH)
    assert scene.sources == {"sar": 2, "optical": 2}
    assert scene.report == ["The grid is that of optical: 60 x 50 pixels of 30 m in EPSG:32632."]
    arrays = whole(scene)
    assert arrays["optical"].dtype == arrays["sar"].dtype == np.float32
    assert np.array_equal(arrays["optical"], read_raster(optical).values)
    assert np.array_equal(arrays["sar"], np.moveaxis(sar, 0, -1))


def test_sources_come_in_the_order_the_network_wants(optical, tmp_path):
    sar = write(tmp_path / "sar.tif", np.ones((60, 50), np.float32), cell=30)
    scene = open_scene({"sar": sar, "optical": optical}, inputs={"optical": 2, "sar": 1})
    assert list(scene.sources) == list(scene.read(0, 0, 1, 1)) == ["optical", "sar"]


def test_windows_beyond_the_scene_are_without_data_there(optical):
    scene = open_scene({"optical": optical})
    full = whole(scene)["optical"]
    array = scene.read(-3, 45, 10, 8)["optical"]
    assert np.array_equal(array[3:, :5], full[:7, 45:])
    assert np.isnan(array[:3]).all() and np.isnan(array[:, 5:]).all()
    assert np.isnan(scene.read(60, 0, 4, 4)["optical"]).all()
    assert np.isnan(scene.read(-9, -9, 4, 4)["optical"]).all()


def test_another_extent_on_the_same_pixels_is_moved_and_not_interpolated(optical, tmp_path):
    values = np.random.default_rng(2).random((20, 100)).astype(np.float32)
    low = (EAST - 30 * 5, NORTH - 30 * 50)  # 50 rows down, 5 columns to the left
    high = (EAST + 30 * 5, NORTH + 30 * 4)  # 4 rows up, 5 columns to the right
    sar = write(tmp_path / "sar.tif", values, corner=low, cell=30)
    dem = write(tmp_path / "dem.tif", values, corner=high, cell=30)
    scene = open_scene({"optical": optical, "sar": sar, "dem": dem})
    expected = {name: np.full((60, 50), np.nan, np.float32) for name in ("sar", "dem")}
    expected["sar"][50:] = values[:10, 5:55]
    expected["dem"][:16, 5:] = values[4:, :45]
    for name, inside in expected.items():
        array = scene.read(-7, -7, 74, 64)[name][..., 0]
        assert np.array_equal(array, np.pad(inside, 7, constant_values=np.nan), equal_nan=True)
    assert len(scene.report) == 1


def test_origins_that_differ_by_rounding_are_the_same_grid(optical, tmp_path):
    sar = np.random.default_rng(3).random((60, 50)).astype(np.float32)
    path = write(tmp_path / "sar.tif", sar, corner=(EAST + 1e-7, NORTH - 1e-7), cell=30)
    assert np.array_equal(whole(open_scene({"optical": optical, "sar": path}))["sar"][..., 0], sar)


def test_the_grid_can_be_that_of_another_source(optical, tmp_path):
    dem = write(tmp_path / "dem.tif", np.ones((90, 75), np.float32), cell=20)
    paths = {"optical": optical, "dem": dem}
    assert open_scene(paths, grid="dem").shape == (90, 75)
    assert open_scene({"sar": dem, "dem": dem}).shape == (90, 75)
    with pytest.raises(InputError, match="no 'sar' to take the grid from; use 'optical', 'dem'"):
        open_scene(paths, grid="sar")


@pytest.mark.parametrize(
    ("dtype", "nodata", "missing"),
    [
        ("uint16", 0, 0),
        ("uint8", 255, 255),
        ("int16", -32768, -32768),
        ("float32", -9999, -9999),
        ("float32", np.nan, np.nan),
        ("float32", None, np.nan),
        ("float32", float(np.finfo(np.float32).min), np.finfo(np.float32).min),
        ("float64", float(np.finfo(np.float64).min), np.finfo(np.float64).min),
    ],
)
@pytest.mark.parametrize("cell", [30, 50, 10])  # as they are, interpolated, averaged
def test_pixels_without_data_are_nan_and_do_not_spread(
    optical, tmp_path, dtype, nodata, missing, cell
):
    values = np.full((2, 1800 // cell, 1500 // cell), 100, dtype)
    values[0, : 300 // cell] = missing  # in the uppermost 300 m, which are 10 rows, of one band
    path = write(tmp_path / "sar.tif", values, cell=cell, nodata=nodata)
    array = whole(open_scene({"optical": optical, "sar": path}))["sar"]
    # a row at 285 m lies between pixels at 275 m, without data, and at 325 m, which counts alone
    assert np.isnan(array[: 9 if cell == 50 else 10, :, 0]).all()
    assert set(array[9, :, 0]) == {100} or cell != 50
    assert (array[10:, :, 0] == 100).all() and (array[..., 1] == 100).all()


@pytest.mark.parametrize("cell", [30, 50, 10])
def test_infinite_pixels_and_the_files_mask_are_nan(optical, tmp_path, cell):
    values = np.full((1800 // cell, 1500 // cell), 100, np.float32)
    mask = np.full(values.shape, 255, np.uint8)
    mask[: 300 // cell] = 0
    masked = write(tmp_path / "masked.tif", values, cell=cell, mask=mask)
    values[: 300 // cell] = -np.inf
    infinite = write(tmp_path / "infinite.tif", values, cell=cell)
    arrays = whole(open_scene({"optical": optical, "masked": masked, "infinite": infinite}))
    for array in arrays["masked"], arrays["infinite"]:
        assert np.isnan(array[:10]).all() and (array[11:] == 100).all()
    assert (arrays["masked"][10] == 100).all()


def test_the_fourth_band_of_bytes_is_data_although_gdal_calls_it_transparency(tmp_path):
    values = np.random.default_rng(4).integers(0, 3, (4, 20, 20)).astype(np.uint8)
    path = write(tmp_path / "optical.tif", values)
    array = whole(open_scene({"optical": path}, inputs={"optical": 4}))["optical"]
    assert np.array_equal(array, np.moveaxis(values, 0, -1))
    assert np.array_equal(array, read_raster(path).values)
    coarse = write(tmp_path / "dem.tif", np.ones((10, 10), np.float32), cell=20)
    with pytest.raises(InputError, match="band 4 of .*optical.tif is marked as transparency"):
        open_scene({"optical": path, "dem": coarse}, grid="dem")


def test_a_finer_source_is_averaged(optical, tmp_path):
    values = np.random.default_rng(5).random((180, 150)).astype(np.float32)
    scene = open_scene({"optical": optical, "dem": write(tmp_path / "dem.tif", values)})
    # each pixel of 30 m holds 3x3 of 10 m
    expected = values.reshape(60, 3, 50, 3).mean(axis=(1, 3))
    assert np.allclose(whole(scene)["dem"][..., 0], expected, atol=1e-6)
    assert scene.report[1:] == ["dem was averaged from 10 m in EPSG:32632."]


def test_averages_weigh_pixels_by_the_part_of_them_inside(optical, tmp_path):
    values = np.zeros((150, 125), np.float32)
    values[:, 2] = 12
    scene = open_scene({"optical": optical, "dem": write(tmp_path / "dem.tif", values, cell=12)})
    # the third column reaches from 24 m to 36 m: 6 m in either of the first two pixels of 30 m
    expected = [12 * 6 / 30, 12 * 6 / 30, 0]
    assert np.allclose(scene.read(7, 0, 1, 3)["dem"][0, :, 0], expected, atol=1e-5)


@pytest.mark.parametrize("cell", [50, 30, 20])
def test_a_plane_is_interpolated_where_it_lies(optical, tmp_path, cell):
    corner = (EAST - 333, NORTH + 222)
    x, y = centres((3000 // cell, 3000 // cell), corner=corner, cell=cell)
    plane = (x - EAST + 2 * (NORTH - y)).astype(np.float32)
    scene = open_scene(
        {"optical": optical, "dem": write(tmp_path / "dem.tif", plane, corner=corner, cell=cell)}
    )
    x, y = centres(scene.shape)
    assert np.allclose(whole(scene)["dem"][..., 0], x - EAST + 2 * (NORTH - y), atol=1e-2)
    assert scene.report[1:] == [f"dem was interpolated bilinearly from {cell} m in EPSG:32632."]


@pytest.mark.parametrize(
    ("crs", "cell", "how"),
    [
        ("EPSG:4326", 3e-4, "interpolated bilinearly from 0.0003 degrees in EPSG:4326"),
        ("EPSG:4326", 5e-5, "averaged from 5e-05 degrees in EPSG:4326"),
        ("EPSG:32633", 25, "interpolated bilinearly from 25 m in EPSG:32633"),
    ],
)
def test_another_crs_is_reprojected_to_the_right_place(optical, tmp_path, crs, cell, how):
    to_other = Transformer.from_crs("EPSG:32632", crs, always_xy=True)
    left, bottom, right, top = to_other.transform_bounds(EAST, NORTH - 1800, EAST + 1500, NORTH)
    corner, shape = (left, top), (int((top - bottom) / cell), int((right - left) / cell))
    x, y = centres(shape, corner=corner, cell=cell)
    easting, northing = to_other.transform(x, y, direction="INVERSE")
    plane = (easting - EAST + 2 * (NORTH - northing)).astype(np.float32)
    path = write(tmp_path / "dem.tif", plane, corner=corner, cell=cell, crs=crs)
    scene = open_scene({"optical": optical, "dem": path})
    x, y = centres(scene.shape)
    difference = whole(scene)["dem"][..., 0] - (x - EAST + 2 * (NORTH - y))
    assert np.isfinite(difference[2:-2, 2:-2]).all()
    # an average is off by the parts of pixels that stand out of a turned one, under 2 m of slope 2
    assert np.abs(difference[2:-2, 2:-2]).max() < (3 if how.startswith("averaged") else 0.1)
    assert abs(difference[2:-2, 2:-2].mean()) < 0.1
    assert scene.report[1:] == [f"dem was {how}."]


def test_a_source_that_covers_a_part_is_nan_elsewhere(optical, tmp_path):
    values = np.ones((40, 40), np.float32)
    corner = (EAST - 200, NORTH + 100)  # covers 600 m to the right and 700 m down
    path = write(tmp_path / "dem.tif", values, corner=corner, cell=20)
    array = whole(open_scene({"optical": optical, "dem": path}))["dem"][..., 0]
    rows, columns = 700 / 30, 600 / 30
    inside = np.zeros((60, 50), bool)
    inside[: round(rows), : round(columns)] = True
    assert np.array_equal(np.isfinite(array), inside)


@pytest.mark.parametrize("left", [179, -180])
def test_a_grid_across_the_antimeridian_gets_either_side(tmp_path, left):
    # UTM 1N begins at 180 degrees, 193 km west of 3 degrees further at 55 degrees north
    edge = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True).transform(180, 54.8)
    corner = (edge[0] - 2000, edge[1] + 2000)
    optical = write(
        tmp_path / "optical.tif", np.ones((40, 40)), corner=corner, cell=100, crs="EPSG:32601"
    )
    dem = write(
        tmp_path / "dem.tif", np.ones((400, 1000)), corner=(left, 55), cell=1e-3, crs="EPSG:4326"
    )
    array = whole(open_scene({"optical": optical, "dem": dem}))["dem"][..., 0]
    west, east = np.isfinite(array[:, :18]), np.isfinite(array[:, 22:])
    assert west.all() == (left == 179) and east.all() == (left == -180)
    assert west.any() != east.any()


@pytest.mark.parametrize(
    ("crs", "corner", "cell", "west"),
    [
        ("EPSG:32631", (170_000, 4_750_000), 100, 0),  # UTM 31N, a part of it west of Greenwich
        ("EPSG:32606", (500_000, 7_000_000), 100, 0),  # Alaska
        ("EPSG:32601", (347_000, 7_000_000), 100, 179.5),  # across 180 degrees
        ("EPSG:4326", (-150, 63), 0.001, 209),  # on the same pixels
        ("EPSG:4326", (-150, 63), 0.0017, 209),
        ("EPSG:4326", (179.99, 63), 0.001, -180),
        ("EPSG:4326", (-0.6, 63), 0.03, 0),
    ],
)
def test_longitudes_that_differ_by_360_degrees_are_refused(tmp_path, crs, corner, cell, west):
    optical = write(tmp_path / "optical.tif", np.ones((40, 40)), corner=corner, cell=cell, crs=crs)
    cell, size = (0.1, (1800, 3600)) if west == 0 else (0.001, (30_000, 2000))
    dem = write(
        tmp_path / "dem.tif", np.ones(size, np.uint8), corner=(west, 90), cell=cell, crs="EPSG:4326"
    )
    refuse(
        "dem.tif has other longitudes than .*optical.tif .* rio warp --like",
        {"optical": optical, "dem": dem},
    )


@pytest.mark.parametrize(
    ("crs", "corner", "cell", "size"),
    [
        ("EPSG:32601", (299_000, 6_080_000), 100, (1801, 3601)),  # across 180 degrees
        ("EPSG:3413", (-20_000, 20_000), 1000, (1801, 3600)),  # over the pole
    ],
)
def test_a_world_that_begins_half_a_pixel_before_180_degrees_is_used(
    tmp_path, crs, corner, cell, size
):
    optical = write(tmp_path / "optical.tif", np.ones((40, 40)), corner=corner, cell=cell, crs=crs)
    dem = write(
        tmp_path / "dem.tif", np.ones(size), corner=(-180.05, 90.05), cell=0.1, crs="EPSG:4326"
    )
    assert np.isfinite(whole(open_scene({"optical": optical, "dem": dem}))["dem"]).all()


def test_overviews_in_a_file_that_a_raster_names_are_refused(optical):
    with rasterio.open(optical, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/somewhere/else.tif")
    refuse("has overviews in another file", {"optical": optical})
    with pytest.raises(InputError, match="has overviews in another file"):
        read_raster(optical)


def test_the_header_beside_a_raster_is_a_part_of_it(optical, tmp_path):
    path = tmp_path / "o.img"
    with rasterio.open(optical) as source:
        profile = {key: source.profile[key] for key in ("count", "dtype", "height", "width")}
        profile |= {"crs": source.crs, "transform": source.transform}
        with rasterio.open(path, "w", driver="ENVI", **profile) as file:
            file.write(source.read())
    header = path.with_suffix(".hdr")
    assert header in files_of(path)
    before = fingerprint_of(path)
    text = header.read_text()
    assert "interleave = bsq" in text
    header.write_text(text.replace("interleave = bsq", "interleave = bip"))
    assert fingerprint_of(path) != before


@pytest.mark.parametrize("nodata", [{}, {"dem": 5.0}])
@pytest.mark.parametrize("corner", [(EAST, NORTH), (EAST + 15, NORTH)])
def test_a_file_that_two_drivers_know_is_read_by_the_one_that_reads_its_own_pixels(
    optical, tmp_path, nodata, corner
):
    path, other = tmp_path / "o.img", tmp_path / "other.mrf"
    with rasterio.open(optical) as source, rasterio.Env() as env:
        if "MRF" not in env.drivers():
            pytest.skip("needs GDAL with MRF")
        place = rasterio.Affine(30, 0, corner[0], 0, -30, corner[1])
        profile = {"count": 1, "dtype": "uint8", "height": 60, "width": 50, "crs": source.crs}
        for file, driver in ((other, "MRF"), (path, "ENVI")):
            with rasterio.open(file, "w", driver=driver, transform=place, **profile) as file:
                file.write(np.full((1, 60, 50), 7, np.uint8))
    text = other.read_text()
    pixels = np.full(3000, 5, np.uint8)
    pixels[: len(text)] = list(text.encode())
    path.write_bytes(pixels.tobytes())  # ENVI's pixels begin with a header of MRF
    with rasterio.open(path) as file:
        assert file.driver == "MRF"
    with open_scene({"optical": optical, "dem": path}, nodata=nodata) as scene:
        found = whole(scene)["dem"][..., 0]
    last = found[-5:, 5:-5]
    assert np.isnan(last).all() if nodata else (last == 5).all()


@pytest.mark.parametrize(
    "name", ["o.jp2", "o.asc", "o.bil", "o.img", "o.png", "N45E009.hgt", "o.dt1"]
)
def test_every_format_that_is_promised_is_read(tmp_path, name):
    values = np.random.default_rng(0).integers(1, 200, (1, 1201, 1201)).astype(np.int16)
    drivers = {".jp2": "JP2OpenJPEG", ".asc": "AAIGrid", ".bil": "EHdr", ".img": "ENVI"}
    drivers |= {".png": "PNG", ".hgt": "SRTMHGT", ".dt1": "DTED"}
    options = {"QUALITY": 100, "REVERSIBLE": "YES"} if name == "o.jp2" else {}
    if name == "o.png":
        values = values.astype(np.uint8)
    step = 1 / 1200
    plain = write(
        tmp_path / "plain.tif",
        values,
        cell=step,
        crs="EPSG:4326",
        corner=(9 - step / 2, 46 + step / 2),
    )
    with rasterio.Env() as env:
        if drivers[(tmp_path / name).suffix] not in env.drivers():
            pytest.skip("needs GDAL with that driver")
    rasterio.shutil.copy(
        plain, tmp_path / name, driver=drivers[(tmp_path / name).suffix], **options
    )
    if name == "o.png":
        (tmp_path / "o.png.aux.xml").write_text("<PAMDataset><SRS>EPSG:4326</SRS></PAMDataset>")
        (tmp_path / "o.pgw").write_text(f"{step}\n0\n0\n{-step}\n9\n46\n")
    with open_scene({"dem": tmp_path / name}) as scene:
        assert np.array_equal(whole(scene)["dem"], np.moveaxis(values, 0, -1))


def test_a_fingerprint_is_of_pixels_masks_and_place_not_of_metadata(optical):
    marks = {fingerprint_of(optical)}
    optical.with_name("optical_MTL.txt").write_text("GROUP = L1_METADATA_FILE\nEND\n")
    optical.with_name("optical.IMD").write_text("version = R")
    optical.with_name("optical.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    assert fingerprint_of(optical) in marks
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(optical, "r+") as file:
        file.write_mask(np.eye(60, 50) > 0)
    assert len(marks := marks | {fingerprint_of(optical)}) == 2
    moved = write(optical.with_name("moved.tif"), np.ones((1, 9, 9)))
    marks.add(fingerprint_of(moved))
    write(moved, np.ones((1, 9, 9)), corner=(EAST + 10, NORTH))
    assert len(marks | {fingerprint_of(moved)}) == 4


def test_of_a_link_masks_beside_it_are_read(optical, tmp_path):
    mask = np.full((60, 50), 255, np.uint8)
    mask[:10] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(optical, "r+") as file:
        file.write_mask(mask)
    store = tmp_path / "store"
    store.mkdir()
    for name, key in ((optical.name, "aa"), (f"{optical.name}.msk", "bb")):  # as git-annex does
        (tmp_path / name).rename(store / key)
        (tmp_path / name).symlink_to(store / key)
    for read in (whole(open_scene({"optical": optical}))["optical"], read_raster(optical).values):
        assert np.array_equal(np.isnan(read).all(-1), mask == 0)
    (store / "aa").with_suffix(".msk").write_bytes((store / "bb").read_bytes())
    refuse("is a link, and masks or headers are both beside it and", {"optical": optical})


@pytest.mark.parametrize("name", ["o.prj", "o.tif.aux.xml"])
def test_what_a_gis_leaves_beside_a_link_hides_no_mask(optical, tmp_path, name):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(optical, "r+") as file:
        file.write_mask(np.zeros((60, 50), np.uint8))
    link = tmp_path / "linked" / "o.tif"
    link.parent.mkdir()
    link.symlink_to(optical)
    link.with_name(name).write_text("<PAMDataset></PAMDataset>")
    assert np.isnan(whole(open_scene({"optical": link}))["optical"]).all()
    assert np.isnan(read_raster(link)).all()


def test_a_question_mark_in_the_name_of_a_raster_is_told(optical, tmp_path):
    path = tmp_path / "a?b.img"
    rasterio.shutil.copy(optical, path, driver="ENVI")
    finer = write(tmp_path / "dem.tif", np.ones((9, 9)))
    options = {"grid": "dem", "nodata": {"optical": 5}}
    scene = open_scene({"optical": path, "dem": finer}, **options)
    with pytest.raises(InputError, match="cannot be named so; take the question mark away"):
        whole(scene)


def test_large_numbers_keep_their_digits_where_an_offset_makes_them_small(tmp_path):
    values = 2**24 + np.arange(101, 117, dtype=np.int32).reshape(4, 4)
    dem = write(tmp_path / "dem.tif", values)
    with rasterio.open(dem, "r+") as file:
        file.offsets = [-(2.0**24)]
    assert whole(open_scene({"dem": dem}))["dem"].ravel().tolist() == list(range(101, 117))


@pytest.mark.parametrize("end", [".msk", ".MSK", ".Ovr"])
def test_files_beside_a_raster_lead_nowhere_in_letters_of_any_case(optical, tmp_path, end):
    (tmp_path / f"{Path(optical).name}{end}").write_text("<VRTDataset")
    refuse(f"{end}, which GDAL reads with .*, is no TIFF; remove it", {"optical": optical})
    with pytest.raises(InputError, match="is no TIFF; remove it"):
        read_raster(optical)


def test_a_driver_whose_files_name_others_is_not_asked(optical, tmp_path):
    path = tmp_path / "o.mrf"
    with rasterio.open(optical) as source, rasterio.Env() as env:
        if "MRF" not in env.drivers():
            pytest.skip("needs GDAL with MRF")
        profile = {key: source.profile[key] for key in ("count", "dtype", "height", "width")}
        profile |= {"crs": source.crs, "transform": source.transform}
        with rasterio.open(path, "w", driver="MRF", **profile) as file:
            file.write(source.read())
    refuse("o.mrf is not a raster GDAL can read: .*; convert it to a GeoTIFF", {"optical": path})


def test_a_mask_beside_the_file_that_a_link_leads_to_is_its(optical, tmp_path):
    mask = np.full((60, 50), 255, np.uint8)
    mask[:10] = 0
    link = tmp_path / "linked" / "o.tif"
    link.parent.mkdir()
    link.symlink_to(optical)
    before = fingerprint_of(link)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(optical, "r+") as file:
        file.write_mask(mask)
    assert files_of(link)[1].name == f"{Path(optical).name}.msk"
    assert fingerprint_of(link) != before
    for read in (whole(open_scene({"optical": link}))["optical"], read_raster(link).values):
        assert np.array_equal(np.isnan(read).all(-1), mask == 0)


@pytest.mark.parametrize(
    ("crs", "corner", "cell", "size"),
    [
        ("EPSG:32632", (EAST - 100, NORTH + 50), 7, 1800),
        ("EPSG:32632", (EAST - 100, NORTH + 50), 100, 120),
        ("EPSG:4326", (9.005, 45.152), 2e-4, 700),
    ],
)
def test_a_window_is_the_same_part_of_a_larger_read(tmp_path, crs, corner, cell, size):
    rng = np.random.default_rng(6)
    shape = (300, 600)  # more than one of GDAL's blocks of 128 by 512
    values = rng.integers(0, 1000, (2, *shape)).astype(np.uint16)
    elevation = rng.uniform(0, 1000, (size, size)).astype(np.float32)
    elevation[rng.random(elevation.shape) < 0.05] = -9999
    paths = {
        "optical": write(tmp_path / "optical.tif", values, cell=30, nodata=0),
        "dem": write(
            tmp_path / "dem.tif", elevation, corner=corner, cell=cell, crs=crs, nodata=-9999
        ),
    }
    larger = open_scene(paths, inputs={"optical": 2, "dem": 2}).read(-40, -40, 380, 680)
    assert 0.05 < np.isfinite(larger["dem"]).mean() < 0.95
    for _ in range(25):
        (row, column), (height, width) = rng.integers(-40, (200, 400)), rng.integers(1, 140, 2)
        part = np.s_[row + 40 : row + 40 + height, column + 40 : column + 40 + width]
        with open_scene(paths, inputs={"optical": 2, "dem": 2}) as scene:
            window = scene.read(int(row), int(column), int(height), int(width))
        assert np.array_equal(window["optical"], larger["optical"][part], equal_nan=True)
        assert np.allclose(window["dem"], larger["dem"][part], rtol=0, atol=1e-4, equal_nan=True)


def test_a_plane_has_its_slope_up_to_the_edges_of_the_scene_and_of_voids(optical, tmp_path):
    x, y = centres((60, 50))
    plane = (0.3 * (x - EAST) + 0.4 * (NORTH - y)).astype(np.float32)
    plane[20:25, 30:33] = plane[40, 10] = -9999
    dem = write(tmp_path / "dem.tif", plane, cell=30, nodata=-9999)
    scene = open_scene({"optical": optical, "dem": dem}, inputs={"optical": 2, "dem": 2})
    assert scene.sources == {"optical": 2, "dem": 2}
    assert scene.report[1:] == ["The slope was computed from the elevation of dem on the grid."]
    elevation, slope = np.moveaxis(whole(scene)["dem"], -1, 0)
    assert np.array_equal(np.isnan(elevation), plane == -9999)
    assert np.array_equal(np.isnan(slope), plane == -9999)
    # arctan(sqrt(0.3^2 + 0.4^2)) = arctan(0.5) = 26.565 degrees
    assert np.allclose(slope[plane != -9999], 26.565, atol=0.02)
    beyond = scene.read(-2, 0, 4, 60)["dem"]
    assert np.isnan(beyond[:2]).all() and np.isnan(beyond[:, 50:]).all()


@pytest.mark.parametrize("latitude", [0, 46, -70])
def test_slope_in_degrees_of_longitude_and_latitude(tmp_path, latitude):
    cell = 0.001
    rows, columns = np.indices((20, 20))
    corner = (10, latitude + 10 * cell)
    # metres per degree of WGS84: of latitude 110574 at 0, 111142 at 46 and 111562 at 70,
    # of longitude 111320, 77465 and 38188
    north, east = {0: (110574, 111320), 46: (111142, 77465), -70: (111562, 38188)}[latitude]
    for ramp, metres in ((rows, north), (columns, east)):
        path = write(
            tmp_path / "dem.tif",
            (ramp * metres * cell).astype(np.float32),
            corner=corner,
            cell=cell,
            crs="EPSG:4326",
        )
        slope = whole(open_scene({"dem": path}, inputs={"dem": 2}))["dem"][..., 1]
        assert np.allclose(np.tan(np.radians(slope)), 1, atol=3e-3)  # 45 degrees


def test_pixels_in_degrees_are_told_in_metres(tmp_path):
    path = write(tmp_path / "a.tif", CLIFF, corner=(10, 46.004), cell=0.001, crs="EPSG:4326")
    # about 46 degrees north: see the metres per degree above
    assert open_scene({"optical": path}).report == [
        "The grid is that of optical: 8 x 8 pixels of 0.001 degrees in EPSG:4326, 111 m high and "
        "77.5 m wide in the middle; they are mapped as they are, but networks expect square pixels "
        "in metres."
    ]


def test_slope_where_the_pixels_of_a_map_are_no_metres_on_the_ground(tmp_path):
    # Mercator's metres are 0.5 on the ground at 60 degrees north, US feet are 0.3048
    north = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(10, 60)[1]
    ramp = np.outer(np.ones(10), 10.0 * np.arange(10)).astype(np.float32)
    mercator = write(tmp_path / "dem.tif", ramp, corner=(0, north + 100), cell=20, crs="EPSG:3857")
    slope = whole(open_scene({"dem": mercator}, inputs={"dem": 2}))["dem"][..., 1]
    assert np.allclose(slope, 45, atol=0.2)
    feet = write(
        tmp_path / "feet.tif", ramp, corner=(2e6, 5e5), cell=10 / 0.3048006, crs="EPSG:2231"
    )
    slope = whole(open_scene({"dem": feet}, inputs={"dem": 2}))["dem"][..., 1]
    assert np.allclose(slope, 45, atol=0.1)


@pytest.mark.parametrize("aspect", [0, 60, 120])
def test_slope_where_the_rows_and_columns_of_a_map_are_not_perpendicular(tmp_path, aspect):
    crs = "+proj=sinu +R=6378137 +units=m"  # as of MODIS, in the Himalaya
    east, north = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(86, 28)
    x, y = centres((20, 20), corner=(east, north), cell=100)
    degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    local = "+proj=aeqd +lat_0=28 +lon_0=86 +ellps=WGS84"
    x, y = Transformer.from_crs("EPSG:4326", local, always_xy=True).transform(*degrees)
    up = np.sin(np.radians(aspect)) * x + np.cos(np.radians(aspect)) * y
    plane = (5000 + np.tan(np.radians(30)) * up).astype(np.float32)
    dem = write(tmp_path / "dem.tif", plane, corner=(east, north), cell=100, crs=crs)
    slope = whole(open_scene({"dem": dem}, inputs={"dem": 2}))["dem"][1:-1, 1:-1, 1]
    assert np.allclose(slope, 30, atol=0.2)


def test_declared_scales_and_offsets_are_applied(optical, tmp_path):
    stored = np.arange(1, 9, dtype=np.int16).reshape(2, 2, 2)
    for corner in ((EAST, NORTH), (EAST + 15, NORTH)):  # on the grid, interpolated
        dem = write(tmp_path / "dem.tif", stored, cell=30, corner=corner, nodata=1)
        plain = whole(open_scene({"optical": optical, "dem": dem}))["dem"]
        before = fingerprint_of(dem)
        with rasterio.open(dem, "r+") as file:
            file.scales, file.offsets = (0.1, 2), (0, -5)
        scene = open_scene({"optical": optical, "dem": dem})
        expected = plain * np.float32([0.1, 2]) + np.float32([0, -5])
        assert np.array_equal(whole(scene)["dem"], expected, equal_nan=True)
        assert np.isfinite(expected).any()
        assert scene.report[-2:] == [
            "dem declares scales (0.1, 2), which were applied.",
            "dem declares offsets (0, -5), which were applied.",
        ]
        assert fingerprint_of(dem) != before
    expected = np.array([[np.nan, 0.2], [0.3, 0.4]], np.float32)
    assert np.array_equal(read_raster(dem).values[..., 0], expected, equal_nan=True)


def test_heights_in_a_crs_are_no_matter_for_where_a_raster_lies(optical, tmp_path):
    latlon = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
    west, north = latlon.transform(EAST - 300, NORTH + 300)
    values = np.arange(400, dtype=np.float32).reshape(20, 20)
    found = []
    for crs in ("EPSG:4326", "EPSG:9518"):  # the second with heights over EGM2008
        dem = write(tmp_path / "dem.tif", values, corner=(west, north), cell=0.002, crs=crs)
        found.append(whole(open_scene({"optical": optical, "dem": dem}))["dem"])
    assert np.isfinite(found[0]).all() and np.allclose(*found, atol=1e-3)


def test_horns_weights():
    # of the eight neighbours only the one in the east, then the north-east, is 8 m higher
    for place, weight in (((1, 2), 2), ((0, 2), 1)):
        elevation = np.zeros((3, 3))
        elevation[place] = 8
        rise = weight * 8 / (8 * 10)
        both = rise * (2**0.5 if weight == 1 else 1)  # a corner counts along either axis
        assert np.isclose(slope_of(elevation, 10, 10)[0, 0], np.degrees(np.arctan(both)))


def test_a_lonely_pixel_is_flat_and_height_and_width_are_not_swapped():
    alone = np.full((3, 3), np.nan)
    alone[1, 1] = 5
    assert slope_of(alone, 10, 10)[0, 0] == 0
    ramp = np.outer(np.arange(4.0), np.ones(4))  # 1 m per row
    assert np.allclose(slope_of(ramp, 1, 100), 45)


def test_slope_is_that_of_the_demo_data_where_the_ground_is_smooth(tmp_path):
    rows, columns = np.indices((50, 50))
    ground = 300 * np.sin(rows / 12) * np.cos(columns / 15)
    path = write(tmp_path / "dem.tif", ground.astype(np.float32), cell=30)
    slope = whole(open_scene({"dem": path}, inputs={"dem": 2}))["dem"][..., 1]
    demo = np.degrees(np.arctan(tangent_of_slope(ground, 30)))
    assert demo.max() > 30 and np.abs(slope - demo)[1:-1, 1:-1].max() < 0.5


def test_threads_read_the_same(optical, tmp_path):
    values = np.random.default_rng(7).random((180, 150)).astype(np.float32)
    paths = {"optical": optical, "dem": write(tmp_path / "dem.tif", values)}
    scene = open_scene(paths, inputs={"optical": 2, "dem": 2})
    full = whole(scene)
    windows = [(row, column) for row in range(0, 60, 5) for column in range(0, 50, 5)] * 2
    with ThreadPoolExecutor(6) as pool:
        parts = list(pool.map(lambda at: scene.read(*at, 5, 5), windows))
    for (row, column), part in zip(windows, parts, strict=True):
        for source in full:
            expected = full[source][row : row + 5, column : column + 5]
            assert np.array_equal(part[source], expected)


def test_a_copied_scene_reads_the_same_from_another_folder(optical, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene = open_scene({"optical": "optical.tif"})
    full = whole(scene)["optical"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    copy = deepcopy(scene)  # as a scene is sent to other processes
    assert np.array_equal(whole(copy)["optical"], full)
    assert (copy.shape, copy.crs, copy.transform, copy.sources, copy.report) == (
        *(scene.shape, scene.crs, scene.transform, scene.sources, scene.report),
    )


def times_opened(path):
    """How often this process has a file open."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no list of open files on this system")
    links = [os.readlink(link) for link in folder.iterdir() if os.path.lexists(link)]
    return links.count(str(path))


def test_close_closes_the_files_and_a_read_opens_them_again(optical, tmp_path):
    dem = write(tmp_path / "dem.tif", np.ones((180, 150), np.float32))
    scene = open_scene({"optical": optical, "dem": dem})
    assert times_opened(optical) == times_opened(dem) == 0
    with scene:
        whole(scene)
        assert times_opened(optical) == times_opened(dem) == 1
    assert times_opened(optical) == times_opened(dem) == 0
    assert whole(scene)["dem"].max() == 1


def test_each_thread_has_files_of_its_own(optical):
    with open_scene({"optical": optical}) as scene, ThreadPoolExecutor(3) as pool:
        meeting = threading.Barrier(3)

        def read(_):
            scene.read(0, 0, 1, 1)
            meeting.wait(10)

        list(pool.map(read, range(3)))
        assert times_opened(optical) == 3
    assert times_opened(optical) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_files_of_its_own(optical):
    scene = open_scene({"optical": optical})
    whole(scene)
    before = times_opened(optical)
    child = os.fork()
    if not child:
        whole(scene)
        os._exit(times_opened(optical))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == before + 1


def refuse(message, paths, **options):
    with pytest.raises(InputError, match=message) as error:
        open_scene(paths, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"optical": 3}, r"optical.tif: 'optical' has 2 band\(s\), expected 3"),
        ({"optical": 2, "dem": 2}, "no raster of 'dem' was given; expected 'optical', 'dem'"),
        ({"sar": 2}, "optical.tif: 'optical' is not used; expected 'sar'"),
        ({}, "optical.tif: 'optical' is not used"),
    ],
)
def test_sources_that_do_not_fit_the_network_are_refused(optical, inputs, message):
    refuse(message, {"optical": optical}, inputs=inputs)


def test_only_a_dem_of_one_band_gets_a_slope(optical, tmp_path):
    one = write(tmp_path / "one.tif", np.ones((60, 50), np.float32), cell=30)
    refuse("'sar' has 1 band", {"optical": optical, "sar": one}, inputs={"optical": 2, "sar": 2})
    refuse("'dem' has 1 band", {"optical": optical, "dem": one}, inputs={"optical": 2, "dem": 3})
    stored = open_scene({"optical": optical, "dem": optical}, inputs={"optical": 2, "dem": 2})
    arrays = whole(stored)
    assert np.array_equal(arrays["dem"], arrays["optical"])  # a file with slope is used as it is
    assert open_scene({"dem": one}).sources == {"dem": 1}


def test_extra_sources_are_named(optical):
    message = "optical.tif: 'sar' is not used; expected 'optical'"
    refuse(message, {"optical": optical, "sar": optical}, inputs={"optical": 2})
    refuse("a scene needs at least one raster", {})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.tif", "no raster at .*none.tif"),
        (".", "no raster at"),
        ("http://x/y.tif", "http://x/y.tif is not a local file; download it first"),
        ("s3://x/y.tif", "is not a local file"),
        ("/vsicurl/http://x/y.tif", "is not a local file"),
        ("/vsizip/x.zip/y.tif", "is not a local file"),
    ],
)
def test_paths_that_are_no_local_file_are_refused(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    refuse(message, {"optical": path})


def test_files_that_are_no_raster_are_refused(tmp_path):
    (tmp_path / "a.tif").write_text("tile,region\n")
    refuse("a.tif is not a raster GDAL can read", {"optical": tmp_path / "a.tif"})
    (tmp_path / "a.tif").write_bytes(b"")
    refuse("a.tif is not a raster GDAL can read", {"optical": tmp_path / "a.tif"})


def test_files_that_refer_to_others_are_refused_whatever_they_are_called(optical, tmp_path):
    with rasterio.open(optical) as dataset:
        document = _boundless_vrt_doc(dataset)
    virtual = tmp_path / "virtual.tif"
    virtual.write_bytes(document if isinstance(document, bytes) else document.encode())
    with rasterio.open(virtual) as dataset:
        assert dataset.driver == "VRT"
    refuse("virtual.tif only refers to other rasters; convert it", {"optical": virtual})
    virtual.write_text("<VRTDataset")  # GDAL, which would fail, is not even asked
    refuse("virtual.tif only refers to other rasters", {"optical": virtual})
    server = tmp_path / "server.tif"
    server.write_text(
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://localhost:1/${z}/${x}/${y}</ServerUrl>"
        "</Service><DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>9</UpperLeftY><LowerRightX>9"
        "</LowerRightX><LowerRightY>0</LowerRightY><SizeX>9</SizeX><SizeY>9</SizeY></DataWindow>"
        "<Projection>EPSG:32632</Projection></GDAL_WMS>"
    )
    with rasterio.open(server) as dataset:
        assert dataset.driver == "WMS"
    refuse("server.tif is not a raster GDAL can read", {"optical": server})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crs": None}, "has no CRS to place it by; assign it"),
        ({"crs": 'LOCAL_CS["site",UNIT["metre",1]]'}, "has no CRS to place it by"),
        ({"cell": (10, 10)}, "is rotated or not north-up"),
        ({"cell": (-10, -10)}, "is rotated or not north-up"),
    ],
)
def test_rasters_without_a_north_up_place_are_refused(tmp_path, changes, message):
    path = write(tmp_path / "a.tif", CLIFF, **changes)
    refuse(f"a.tif {message}", {"optical": path})


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rasters_without_georeferencing_are_told_how_to_get_it(tmp_path):
    path = write(tmp_path / "a.tif", CLIFF, corner=(0, 0), cell=(1, 1))
    refuse("a.tif has no georeferencing; assign it, as with gdal_edit.py -a_ullr", {"a": path})


def test_rotated_rasters_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", CLIFF)
    with rasterio.open(path, "r+") as file:
        file.transform = rasterio.Affine(10, 1, EAST, 1, -10, NORTH)
    refuse("a.tif is rotated or not north-up", {"optical": path})


def test_complex_rasters_are_refused(tmp_path):
    path = write(tmp_path / "sar.tif", CLIFF.astype(np.complex64))
    refuse("sar.tif holds complex numbers; convert them", {"sar": path})


@pytest.mark.parametrize(
    ("crs", "corner", "cell"),
    [
        ("EPSG:32632", (EAST + 1500, NORTH), 30),  # begins where the grid ends
        ("EPSG:32632", (EAST + 2000, NORTH), 17),
        ("EPSG:32645", (EAST, NORTH), 30),
        ("EPSG:4326", (-70, -50), 0.001),
    ],
)
def test_rasters_of_another_place_are_refused(optical, tmp_path, crs, corner, cell):
    dem = write(tmp_path / "dem.tif", CLIFF, crs=crs, corner=corner, cell=cell)
    message = "dem.tif does not overlap .*optical.tif; give rasters of one place"
    refuse(message, {"optical": optical, "dem": dem})


def test_a_broken_file_is_named_when_it_is_read(optical):
    whole_file = optical.read_bytes()
    scene = open_scene({"optical": optical})
    optical.write_bytes(whole_file[:300] + b"\0" * 10)
    with pytest.raises(InputError, match="optical.tif cannot be read: ") as error:
        whole(scene)
    assert "\n" not in str(error.value)
    optical.unlink()
    scene.close()
    with pytest.raises(InputError, match="optical.tif cannot be read: "):
        whole(scene)


@pytest.mark.parametrize("name", ["282D", "38D", "637U"])
def test_real_scenes_on_one_grid_are_read_as_they_are(real_data, name):
    paths = {
        source: real_data / "scenes/no_glacier" / name / f"{source}.tif"
        for source in ("optical", "dem", "sar")
    }
    scene = open_scene(paths, inputs={"optical": 6, "dem": 2, "sar": 2})
    assert len(scene.report) == 2  # the grid, the slope, and nothing resampled
    for source, array in whole(scene).items():
        stored = read_raster(paths[source]).values
        assert np.array_equal(array[..., : stored.shape[2]], stored, equal_nan=True)


def test_the_light_on_everest_falls_on_the_slopes_of_the_dem(real_data):
    folder = real_data / "scenes/everest"
    paths = {"optical": folder / "landsat7_nir.tif", "dem": folder / "dem.tif"}
    scene = open_scene(paths, inputs={"optical": 1, "dem": 2})
    assert scene.report[1] == "dem was averaged from 8 m in EPSG:32645."
    arrays = whole(scene)
    elevation, slope = np.moveaxis(arrays["dem"], -1, 0)
    lit = incidence(elevation, 30, azimuth=150, altitude=45)
    # the DEM has voids of 0 m, which it does not declare: cliffs around them
    smooth = ~binary_dilation(~(slope < 70), iterations=2)

    def agreement(rows, columns):
        moved = np.roll(arrays["optical"][..., 0], (rows, columns), (0, 1))
        return np.corrcoef(lit[smooth], moved[smooth])[0, 1]

    here = agreement(0, 0)
    assert here > 0.3
    assert all(here > agreement(*by) for by in ((4, 0), (-4, 0), (0, 4), (0, -4)))
