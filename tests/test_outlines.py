"""Outlines: traced on pixel edges whatever the strips, areas on the ellipsoid, whole files."""

import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.errors import NotGeoreferencedWarning

from glavitu.areas import geodesic_area, project
from glavitu.errors import InputError
from glavitu.outlines import trace, valid_extent, write_outlines

UTM = (100, 0, 500_000, 0, -100, 5_000_000)  # 100 m pixels, on the central meridian
UTM_AREA = 0.9996**-2  # of a square km of the map, on the ground


def write(path, values, *, transform=UTM, crs="EPSG:32632", nodata=None):
    values = np.atleast_3d(np.asarray(values).T).transpose(2, 1, 0)
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    place = {"crs": crs, "transform": rasterio.Affine(*transform), "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
        file.write(values)
    return path


@pytest.fixture
def raster(tmp_path):
    return lambda values, name="map.tif", **how: write(tmp_path / name, values, **how)


def classes(*rows):
    return np.array([[int(c) if c in "01" else 255 for c in row] for row in rows], np.uint8)


def cell_area(south, north, degrees=1.0):
    """Area in km2 between two parallels, from the closed formula of the ellipsoid."""
    a, f = 6378.137, 1 / 298.257223563
    b, e = a * (1 - f), np.sqrt(f * (2 - f))
    s = np.sin(np.radians([south, north]))
    zone = s / (1 - (e * s) ** 2) + np.arctanh(e * s) / e
    return b**2 / 2 * np.radians(degrees) * (zone[1] - zone[0])


def test_a_ring_keeps_its_hole_and_lies_on_pixel_edges(raster):
    frame = trace(raster(classes("0000", "0111", "0101", "0111")))
    x, y = 500_100, 4_999_900  # upper left corner of the ring
    ring = shapely.box(x, y - 300, x + 300, y) - shapely.box(x + 100, y - 200, x + 200, y - 100)
    assert len(frame) == 1
    assert frame.geometry[0].equals(ring)
    assert shapely.get_num_coordinates(frame.geometry[0]) == 10  # two rings of 4, closed
    assert frame["area_km2"][0] == pytest.approx(0.08 * UTM_AREA, rel=1e-6)  # 8 pixels
    assert frame.crs == "EPSG:32632"


def test_pixels_that_share_a_corner_are_two_glaciers(raster):
    frame = trace(raster(classes("110", "001", "0-1")))
    assert frame["area_km2"].to_numpy() == pytest.approx([0.02 * UTM_AREA] * 2, rel=1e-6)


def test_no_data_and_other_values_are_no_glacier(raster):
    values = np.array([[1, 255, 2, 0]], np.uint8)
    assert trace(raster(values, nodata=255)).geometry.area.sum() == 10_000


def test_largest_first_and_small_ones_left_out(raster):
    path = raster(classes("1011", "0000", "1110"))
    frame = trace(path, min_area=0.015, attributes={"source": "S2", "date": "2020-08-01"})
    assert list(frame.columns) == ["id", "area_km2", "confidence", "source", "date", "geometry"]
    assert frame["id"].tolist() == [1, 2]
    assert frame.area.tolist() == [30_000, 20_000]
    assert frame["date"].tolist() == ["2020-08-01"] * 2
    assert len(trace(path, min_area=0)) == 3


@pytest.mark.parametrize("smooth", [0, 40])
@pytest.mark.parametrize("rows", [1, 7, 16])
def test_outlines_do_not_depend_on_the_strips(raster, rows, smooth):
    rng = np.random.default_rng(3)
    path = raster((rng.random((50, 40)) < 0.6).astype(np.uint8))  # near percolation: long, knotty
    values = rng.random((50, 40), np.float32)
    values[rng.random((50, 40)) < 0.3] = np.nan
    layer = raster(values, "confidence.tif", nodata=np.nan)
    whole = trace(path, confidence=layer, min_area=0, smooth=smooth, rows=50)
    strips = trace(path, confidence=layer, min_area=0, smooth=smooth, rows=rows)
    assert strips.to_wkb()["geometry"].equals(whole.to_wkb()["geometry"])
    assert strips["area_km2"].equals(whole["area_km2"])
    assert strips["confidence"].to_numpy() == pytest.approx(whole["confidence"], nan_ok=True)
    assert whole.is_valid.all()
    assert whole.union_all().area == pytest.approx(whole.area.sum())  # none overlap


def test_outlines_cover_the_glacier_pixels_and_no_others(raster):
    values = (np.random.default_rng(4).random((30, 30)) < 0.55).astype(np.uint8)
    frame = trace(raster(values), min_area=0, rows=7)
    again = rasterio.features.rasterize(
        frame.geometry, values.shape, transform=rasterio.Affine(*UTM), dtype=np.uint8
    )
    np.testing.assert_array_equal(again, values)
    assert frame.area.sum() == pytest.approx(1e4 * values.sum())


@pytest.mark.parametrize("rows", [1, 3])
def test_confidence_is_the_mean_over_known_pixels(raster, rows):
    path = raster(classes("11010", "10010", "00000"))
    values = np.full((3, 5), 0.1, np.float32)
    values[[0, 0, 1], [0, 1, 0]] = 0.5, 0.8, np.nan  # mean of the known two is 0.65
    values[:2, 3] = -1  # nothing known of the other glacier
    frame = trace(path, confidence=raster(values, "c.tif", nodata=-1), rows=rows)
    assert frame["confidence"].to_numpy() == pytest.approx([0.65, np.nan], nan_ok=True)
    assert trace(path)["confidence"].isna().all()


def test_an_empty_map_gives_an_empty_frame_of_the_same_columns(raster, tmp_path):
    attributes = {"model": "glavitu"}
    full = trace(raster(classes("11", "11")), attributes=attributes)
    empty = trace(raster(classes("00", "0-"), "empty.tif"), attributes=attributes)
    assert len(empty) == 0
    assert empty.dtypes.equals(full.dtypes)
    assert empty.crs == full.crs
    write_outlines(empty, tmp_path / "empty.gpkg")
    read = gpd.read_file(tmp_path / "empty.gpkg", layer="outlines")
    assert list(read.columns) == list(full.columns)
    assert read.crs == full.crs


def staircase(size):
    """A triangle of `size` steps with a hole of 4 by 4 pixels in its thick corner."""
    values = np.tril(np.ones((size, size), np.uint8))
    values[-6:-2, 2:6] = 0
    return np.pad(values, 2)


def test_smoothing_cuts_corners_and_keeps_area_holes_and_place(raster):
    path = raster(staircase(30))
    exact, smooth = trace(path).geometry[0], trace(path, smooth=50).geometry[0]
    assert smooth.is_valid
    assert len(smooth.interiors) == 1
    assert smooth.area == pytest.approx(exact.area, rel=0.01)
    # a step of 100 m cut halfway becomes its diagonal: 141 m instead of 200 m, for 29 steps
    assert exact.length - smooth.length > 29 * 58
    assert exact.hausdorff_distance(smooth) <= 50
    more = trace(path, smooth=80).geometry[0]  # steps are cut halfway, not beyond
    assert shapely.get_num_coordinates(more) == shapely.get_num_coordinates(smooth)
    assert trace(path, smooth=20).geometry[0].hausdorff_distance(exact) < 20 * 0.71  # half diagonal


def test_smoothing_spares_small_glaciers(raster):
    frame = trace(raster(classes("1")), smooth=50, min_area=0)
    # cutting d off both sides of 4 corners takes 2 d^2, at most 1 % of 10,000 m2: d <= 7.07
    assert 9_900 <= frame.area[0] < 9_980


def test_smoothing_is_in_metres_on_a_map_in_degrees(raster):
    degrees = (0.001, 0, 10, 0, -0.001, 60.1)  # pixels of 56 m by 111 m
    path = raster(np.pad(np.ones((100, 100), np.uint8), 2), transform=degrees, crs="EPSG:4326")
    corners = shapely.get_coordinates(trace(path, smooth=20).geometry[0])
    west, south = corners.min(axis=0)
    east_of_corner = corners[corners[:, 1] == south][:, 0].min() - west
    north_of_corner = corners[corners[:, 0] == west][:, 1].min() - south
    assert east_of_corner * 111_320 * np.cos(np.radians(60.05)) == pytest.approx(20, rel=0.01)
    assert north_of_corner * 111_300 == pytest.approx(20, rel=0.01)


def test_the_valid_extent_is_all_but_no_data(raster):
    extent = valid_extent(raster(classes("--1", "-01", "010")), rows=2)
    x, y = 500_000, 5_000_000
    expected = shapely.box(x, y - 300, x + 300, y) - shapely.union_all(
        [shapely.box(x, y - 100, x + 200, y), shapely.box(x, y - 200, x + 100, y)]
    )
    assert extent.geometry[0].equals(expected)
    assert extent.crs == "EPSG:32632"
    assert valid_extent(raster(classes("--"))).is_empty.all()


@pytest.mark.parametrize("reverse", [False, True])
def test_area_of_a_square_kilometre_in_utm(reverse):
    square = shapely.box(499_500, 5_000_000, 500_500, 5_001_000)
    hole = shapely.box(499_600, 5_000_100, 499_700, 5_000_300)  # 0.02 km2
    polygons = np.array([square - hole, square])
    polygons = shapely.reverse(polygons) if reverse else polygons
    areas = geodesic_area(polygons, "EPSG:32632")
    assert areas == pytest.approx([0.98 * UTM_AREA, UTM_AREA], rel=1e-5)


def test_area_of_cells_in_degrees():
    half = 255_032_810.9  # km2, half of the published 510,065,621.7 of WGS84
    assert cell_area(0, 90, 360) == pytest.approx(half)
    boxes = [(0, 0, 1, 1), (7, 60, 8, 61), (179.5, 60, 180.5, 61), (5, -71, 6, -70)]
    boxes += [(-180, 80, 180, 90), (-180, -90, 180, -80), (-180, 0, 180, 90)]
    areas = geodesic_area(shapely.box(*np.transpose(boxes)), "EPSG:4326")
    expected = [cell_area(0, 1), *[cell_area(60, 61)] * 2, cell_area(70, 71)]
    expected += [*[cell_area(80, 90, 360)] * 2, half]
    assert areas == pytest.approx(expected, rel=1e-3)
    assert areas[:4] == pytest.approx(expected[:4], rel=1e-5)


def test_area_in_polar_stereographic():
    # Snyder (1987, eq. 21-33 and 15-9): scale of EPSG:3413 at 80 N, true at 70 N
    e = 0.0818191908426
    m, t = [], []
    for s in np.sin(np.radians([70, 80])):
        m.append(np.sqrt((1 - s * s) / (1 - (e * s) ** 2)))
        t.append(np.sqrt((1 - s) / (1 + s) * ((1 + e * s) / (1 - e * s)) ** e))
    scale = m[0] / m[1] * t[1] / t[0]
    assert scale == pytest.approx(0.9772, abs=2e-4)
    x, y = project([shapely.Point(-40, 80)], "EPSG:4326", "EPSG:3413")[0].coords[0]
    square = shapely.box(x - 1000, y - 1000, x + 1000, y + 1000)
    around_the_pole = shapely.Point(0, 0).buffer(abs(complex(x, y)), quad_segs=256)
    areas = geodesic_area([square, around_the_pole], "EPSG:3413")
    assert areas == pytest.approx([4 / scale**2, cell_area(80, 90, 360)], rel=1e-4)


def test_area_of_nothing_and_of_nonsense():
    assert geodesic_area([], "EPSG:4326").shape == (0,)
    assert geodesic_area([shapely.Polygon()], "EPSG:32632") == [0]
    with pytest.raises(InputError, match="do not fit the CRS 'WGS 84'"):
        geodesic_area([shapely.box(500_000, 5_000_000, 500_100, 5_000_100)], "EPSG:4326")


def test_outlines_are_written_whole_over_what_a_killed_writer_left(raster, tmp_path):
    path = raster(classes("110", "001"))
    frame = trace(path, confidence=raster(np.eye(2, 3, dtype=np.float32), "c.tif"))
    frame["source"] = "S2"
    path = tmp_path / "new" / "outlines.gpkg"
    path.parent.mkdir()
    path.write_bytes(b"half a file")
    frame.to_file(path.with_name(".part-outlines.gpkg"), layer="killed")
    write_outlines(frame, path)
    assert gpd.list_layers(path)["name"].tolist() == ["outlines"]
    read = gpd.read_file(path)
    assert read.drop(columns="geometry").to_dict() == frame.drop(columns="geometry").to_dict()
    assert read.geometry.geom_equals(frame.geometry).all()
    assert [file.name for file in path.parent.iterdir()] == ["outlines.gpkg"]
    with pytest.raises(InputError, match="must end in .gpkg"):
        write_outlines(frame, tmp_path / "outlines.shp")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"values": np.ones((2, 3, 3), np.uint8)}, "bands of uint8, uint8"),
        ({"values": np.ones((3, 3), np.float32)}, "bands of float32"),
        ({"crs": None}, "has no CRS to place it by; assign it, as with gdal_edit.py"),
        ({"crs": 'LOCAL_CS["site",UNIT["metre",1]]'}, "has no CRS to place it by"),
        ({"transform": (100, 5, 500_000, 0, -100, 5_000_000)}, "rotated"),
        ({"transform": (100, 0, 500_000, 0, 100, 5_000_000)}, "not north-up"),
    ],
)
def test_a_map_that_cannot_be_traced(raster, how, reason):
    with pytest.raises(InputError, match=reason):
        trace(raster(how.pop("values", classes("111", "111")), **how))


def test_a_map_without_georeferencing_is_told_in_one_line(tmp_path):
    with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
        kind = {"driver": "GTiff", "width": 2, "height": 2, "count": 1, "dtype": "uint8"}
        rasterio.open(tmp_path / "map.tif", "w", **kind).close()
    with warnings.catch_warnings(action="error"), pytest.raises(InputError, match="has no CRS"):
        trace(tmp_path / "map.tif")


def test_files_that_are_missing_or_damaged(raster, tmp_path):
    path = raster(np.ones((300, 300), np.uint8))
    with pytest.raises(InputError, match="not a local file"):
        trace("/vsicurl/https://example.org/map.tif")
    for wrong in (tmp_path, tmp_path / "none.tif"):
        with pytest.raises(InputError, match="no raster at"):
            trace(wrong)
    (tmp_path / "text.tif").write_text("hello")
    with pytest.raises(InputError, match="not a raster GDAL can read"):
        trace(tmp_path / "text.tif")
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(InputError, match="damaged"):
        trace(path)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"transform": (100, 0, 500_050, 0, -100, 5_000_000)}, "not on the grid"),
        ({"crs": "EPSG:32633"}, "not on the grid"),
        ({"values": np.ones((2, 3), np.float32)}, "not on the grid"),
        ({"values": np.ones((2, 2, 2), np.float32)}, "2 bands"),
    ],
)
def test_confidence_that_does_not_fit(raster, how, reason):
    path = raster(classes("11", "11"))
    values = how.pop("values", np.ones((2, 2), np.float32))
    with pytest.raises(InputError, match=reason):
        trace(path, confidence=raster(values, "c.tif", **how))


def test_attributes_do_not_hide_columns(raster):
    with pytest.raises(InputError, match="'Area_km2' has the name"):
        trace(raster(classes("1")), attributes={"Area_km2": "1"})
