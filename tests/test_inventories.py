"""Outlines that others drew: files of them, and those about a scene."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from shapely import box

from glavitu.errors import InputError
from glavitu.grids import Grid
from glavitu.inventories import about, names_of, read_outlines


def outlines(*polygons, crs="EPSG:4326", **columns):
    return gpd.GeoDataFrame(columns, geometry=list(polygons), crs=crs)


def grid(west, north, *, side=1000, pixels=100, crs="EPSG:4326"):
    transform = rasterio.Affine(side / pixels, 0, west, 0, -side / pixels, north)
    return Grid(rasterio.crs.CRS.from_user_input(crs), transform, (pixels, pixels))


def test_only_outlines_about_the_scene_are_left_with_what_they_are_called():
    x, y = np.mgrid[:40, :50].reshape(2, -1)
    region = outlines(*box(x / 10 + 8, y / 10 + 43, x / 10 + 8.05, y / 10 + 43.05), id=x * 50 + y)
    here = grid(9.12, 46.03, side=0.2)  # 9.12 to 9.32 E, 45.83 to 46.03 N
    near = about(here, region.iloc[::-1])
    # columns from 9.1 (to 9.15), 9.2 and 9.3; rows from 45.8 (to 45.85), 45.9 and 46
    assert sorted(near["id"]) == [50 * x + y for x in (11, 12, 13) for y in (28, 29, 30)]
    utm = about(here, region.to_crs(32632))
    assert set(utm["id"]) == set(near["id"]) and utm.crs == 32632


def test_a_column_of_names_without_any_is_passed_over():
    named = outlines(box(9, 45, 10, 46), box(10, 45, 11, 46), id=[None, None], Name=["a", "b"])
    assert names_of(named).tolist() == ["a", "b"]
    assert names_of(named[["geometry"]]).tolist() == [0, 1]


def test_outlines_in_a_crs_with_heights_are_found():
    here = outlines(box(9, 45, 10, 46), crs="EPSG:9518")
    assert len(about(grid(500_000, 5_050_000, crs="EPSG:32632"), here)) == 1


@pytest.mark.parametrize(
    "crs, west, north, side",
    [("EPSG:4326", 179.9, 70, 0.2), ("EPSG:32660", 6e5, 7.8e6, 3e5), ("EPSG:3413", -5e5, 5e5, 1e6)],
)
@pytest.mark.parametrize("turn", [0, 360, -360])
def test_the_antimeridian_and_the_pole_are_no_special_cases(crs, west, north, side, turn):
    here = grid(west, north, side=side, crs=crs)
    middle = shapely.Point(west + side / 2, north - side / 2)
    at = gpd.GeoSeries([middle], crs=crs).to_crs(4326)[0]
    inside = box(at.x - 0.01 + turn, at.y - 0.01, at.x + 0.01 + turn, at.y + 0.01)
    far = box(turn, at.y - 20, turn + 1, at.y - 19)
    assert about(here, outlines(inside, far, Name=["a", "b"]))["Name"].tolist() == ["a"]


@pytest.mark.parametrize(
    "reference, reason",
    [
        (outlines(shapely.Point(9, 46)), "no polygons"),
        (outlines(box(9, 45, 10, 46), crs=None), "have no CRS"),
        (
            outlines(box(9, 45, 10, 46), crs='LOCAL_CS["Undefined Cartesian SRS",UNIT["Meter",1]]'),
            "have the CRS 'Undefined Cartesian SRS', which is of no place on Earth",
        ),
    ],
)
def test_an_inventory_that_is_none_is_refused(reference, reason):
    with pytest.raises(InputError, match=reason):
        about(grid(9, 46, side=0.1), reference)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp"])
def test_outlines_are_read_from_any_vector_file(tmp_path, name):
    frame = outlines(box(10, 60, 11, 61), crs="EPSG:4326", Name=["a"])
    frame.to_file(tmp_path / name)
    read = read_outlines(tmp_path / name)
    assert read["Name"].tolist() == ["a"]
    assert read.geometry[0].equals(frame.geometry[0])


def test_the_first_layer_with_geometries_is_read(tmp_path):
    path = tmp_path / "a.gpkg"
    gpd.GeoDataFrame(pd.DataFrame({"note": ["x"]})).to_file(path, layer="notes")
    outlines(box(0, 0, 1, 1), crs="EPSG:4326").to_file(path, layer="outlines", mode="a")
    outlines(box(5, 5, 6, 6), crs="EPSG:4326").to_file(path, layer="others", mode="a")
    assert read_outlines(path).total_bounds.tolist() == [0, 0, 1, 1]


def test_files_that_are_no_outlines(tmp_path):
    addresses = ["/vsicurl/http://a.org/a.gpkg", "https://a.org/a.gpkg", "zip:///a.zip"]
    for path in (*addresses, "/vsizip/a.zip"):
        with pytest.raises(InputError, match="not a file on this machine"):
            read_outlines(path)
    for path in (tmp_path, tmp_path / "none.gpkg"):
        with pytest.raises(InputError, match="no file of outlines"):
            read_outlines(path)
    (tmp_path / "text.gpkg").write_text("hello")
    with pytest.raises(InputError, match="not a vector file") as caught:
        read_outlines(tmp_path / "text.gpkg")
    assert "\n" not in str(caught.value)
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), tmp_path / "table.gpkg")
    with pytest.raises(InputError, match="no geometries"):
        read_outlines(tmp_path / "table.gpkg")


@pytest.mark.filterwarnings("error")  # GDAL's reasons are in our line
def test_a_ring_that_is_open_is_told_in_one_line(tmp_path):
    ring = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]}
    (tmp_path / "a.geojson").write_text(json.dumps(ring))
    with pytest.raises(InputError, match="has a broken geometry: .* mend it in a GIS"):
        read_outlines(tmp_path / "a.geojson")


@pytest.mark.parametrize(
    "elsewhere",
    [
        outlines(box(8, 45, 8.5, 45.5), box(9.5, 46.5, 10, 47)),
        outlines(box(50, 0, 60, 9)),
        outlines(box(50, 0, 60, 9), crs="EPSG:32632"),
        outlines(),
    ],
)
def test_a_scene_may_have_none_of_the_glaciers(elsewhere):
    assert about(grid(9, 46, side=0.1), elsewhere).empty
