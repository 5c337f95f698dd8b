"""Agreement with reference outlines: values worked out by hand."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from shapely import box

from glavitu.agreement import compare_outlines
from glavitu.errors import InputError

HERE = "+proj=laea +lat_0=78 +lon_0=16 +datum=WGS84 +units=m"  # metres are metres here


def outlines(*polygons, crs=HERE, **columns):
    return gpd.GeoDataFrame(columns, geometry=list(polygons), crs=crs)


def test_equal_outlines_agree():
    ours = outlines(box(0, 0, 1000, 1000), box(2000, 0, 3000, 500))
    summary, table = compare_outlines(ours, ours.to_crs("EPSG:32633"))
    assert summary["iou"] == pytest.approx(1, abs=1e-6)
    assert summary["mapped_km2"] == pytest.approx(1.5, rel=1e-6)
    assert summary["distance_p95_m"] == pytest.approx(0, abs=1e-3)
    assert [summary[f"glaciers{what}"] for what in ("", "_mapped", "_missed")] == [2, 2, 0]
    assert table["iou"].to_numpy() == pytest.approx([1, 1], abs=1e-6)
    assert table.crs == ours.crs


@pytest.mark.parametrize("crs", [HERE, "EPSG:4326"])
def test_a_shifted_square(crs):
    ours, theirs = outlines(box(0, 0, 1000, 1000)), outlines(box(0, 100, 1000, 1100)).to_crs(crs)
    summary, table = compare_outlines(ours, theirs)
    assert summary["iou"] == pytest.approx(900 / 1100, rel=1e-3)
    assert summary["area_difference_percent"] == pytest.approx(0, abs=1e-2)
    # of either square: 1000 m at 100 m, 1000 m at 90 m on average (near the corners the sides of
    # the other are nearer: less 2 * 100^2 / 2 / 1000), 2 * 100 m at 50 m, the rest at 0:
    # (100,000 + 90,000 + 10,000) / 4000 = 50
    assert summary["distance_mean_m"] == pytest.approx(50, rel=0.01)
    assert summary["distance_p95_m"] == pytest.approx(100, rel=0.01)
    row = table.iloc[0]
    assert row[["reference_km2", "covered_km2", "mapped_km2", "iou"]].tolist() == pytest.approx(
        [1, 0.9, 1, 900 / 1100], rel=1e-3
    )


def test_polygons_in_a_collection_are_kept():
    left, right = box(0, 0, 300, 300), box(300, 0, 600, 300)
    line = shapely.LineString([(0, 0), (9, 9)])
    mixed = shapely.GeometryCollection([right, line])  # as make_valid leaves it
    summary, _ = compare_outlines(outlines(left), outlines(left, mixed, line))
    assert summary["reference_km2"] == pytest.approx(0.18, rel=1e-6)
    assert (summary["iou"], summary["glaciers"]) == (pytest.approx(0.5, rel=1e-3), 2)


def test_distances_are_taken_both_ways():
    # a mapped lake 5 km off adds 400 of 8400 m of boundary, at 5 km and more: 5/105 of the points
    square, lake = box(0, 0, 1000, 1000), box(6000, 0, 6100, 100)
    there, _ = compare_outlines(outlines(square, lake), outlines(square))
    back, _ = compare_outlines(outlines(square), outlines(square, lake))
    assert there["distance_mean_m"] == pytest.approx(5050 * 5 / 105, rel=0.01)
    assert back["distance_mean_m"] == pytest.approx(there["distance_mean_m"], rel=1e-6)
    assert (back["glaciers_mapped"], back["glaciers_missed"]) == (1, 1)


def test_the_edge_of_the_scene_is_no_boundary():
    scene = box(0, 0, 1000, 1000)
    ours, theirs = outlines(box(0, 0, 1000, 500)), outlines(box(-500, -500, 1500, 600))
    summary, table = compare_outlines(ours, theirs, within=scene)
    assert summary["reference_km2"] == pytest.approx(0.6)
    assert summary["iou"] == pytest.approx(5 / 6)
    # only the lines y = 500 and y = 600 are boundaries, 100 m apart
    assert summary["distance_mean_m"] == pytest.approx(100, rel=1e-3)
    assert summary["distance_p95_m"] == pytest.approx(100, rel=1e-3)
    assert table["reference_km2"].tolist() == pytest.approx([0.6])
    uncut, _ = compare_outlines(ours, theirs)
    assert uncut["reference_km2"] == pytest.approx(2.2)
    as_series, _ = compare_outlines(ours, theirs, within=gpd.GeoSeries([scene], crs=HERE))
    assert as_series == summary


def test_the_edge_of_the_scene_is_known_in_another_crs_too():
    # 40 km of a parallel bend by some 100 m in the plane in which all is measured
    scene = box(10, 70, 11, 70.1)
    ours, theirs = box(10, 70, 11, 70.04), box(9, 69, 12, 70.05)
    summary, _ = compare_outlines(
        outlines(ours, crs="EPSG:4326"), outlines(theirs, crs="EPSG:4326"), within=scene
    )
    assert summary["distance_p95_m"] == pytest.approx(1116, rel=0.01)  # 0.01 degrees
    assert summary["distance_mean_m"] == pytest.approx(1116, rel=0.01)


def test_what_is_mapped_outside_is_divided_by_borders():
    # a band of 90 m above two glaciers of 1000 m and 500 m, and a lake that touches neither
    ours = outlines(box(0, 0, 1500, 590), box(5000, 0, 5100, 100))
    names = {"Name": ["x", "y", "z"], "RGIId": ["a", "b", "c"]}
    glaciers = [box(0, 0, 1000, 500), box(1000, 0, 1500, 500), box(0, -900, 100, -800)]
    summary, table = compare_outlines(ours, outlines(*glaciers, **names))
    assert table["glacier"].tolist() == ["a", "b", "c"]
    assert table["covered_km2"].tolist() == pytest.approx([0.5, 0.25, 0], abs=1e-6)
    assert table["mapped_km2"].tolist() == pytest.approx([0.59, 0.295, 0], abs=1e-6)
    assert table["iou"].tolist() == pytest.approx([50 / 59, 50 / 59, 0], abs=1e-6)
    assert table["area_difference_percent"].tolist() == pytest.approx([18, 18, -100], abs=1e-3)
    # 885,000 + 10,000 m2 are mapped, 750,000 of them rightly, of 760,000
    assert summary["iou"] == pytest.approx(750 / (760 + 135 + 10), rel=1e-6)
    assert summary["mapped_km2"] == pytest.approx(0.895, rel=1e-6)
    assert (summary["glaciers_mapped"], summary["glaciers_missed"]) == (2, 1)


@pytest.mark.parametrize(("share", "mapped"), [(0.51, 1), (0.49, 0)])
def test_a_glacier_counts_as_mapped_from_half_its_area(share, mapped):
    summary, _ = compare_outlines(
        outlines(box(0, 0, 1000 * share, 1000)), outlines(box(0, 0, 1000, 1000))
    )
    assert (summary["glaciers_mapped"], summary["glaciers_missed"]) == (mapped, 1 - mapped)


def test_overlaps_count_once_and_invalid_outlines_are_mended():
    # a bow tie of two triangles of 0.25 km2, and two squares that share half their area
    bow_tie = shapely.Polygon([(5000, 0), (6000, 1000), (6000, 0), (5000, 1000)])
    theirs = outlines(bow_tie, box(0, 0, 1000, 1000), box(500, 0, 1500, 1000), None)
    summary, table = compare_outlines(outlines(*[box(0, 0, 1500, 1000)] * 2), theirs)
    assert summary["reference_km2"] == pytest.approx(2.0, rel=1e-6)
    assert summary["mapped_km2"] == pytest.approx(1.5, rel=1e-6)
    assert summary["iou"] == pytest.approx(0.75, rel=1e-6)
    assert table["reference_km2"].tolist() == pytest.approx([0.5, 1, 1], rel=1e-6)
    assert table["glacier"].tolist() == [0, 1, 2]


def test_outlines_with_heights_and_islands():
    square = shapely.force_3d(box(0, 0, 1000, 1000) - box(400, 400, 600, 600), 500.0)
    theirs = outlines(shapely.MultiPolygon([square]))
    summary, _ = compare_outlines(outlines(box(0, 0, 1000, 1000)), theirs)
    assert summary["iou"] == pytest.approx(0.96, rel=1e-6)


def test_nothing_mapped():
    summary, table = compare_outlines(outlines(), outlines(box(0, 0, 1000, 1000)))
    assert (summary["iou"], summary["mapped_km2"], summary["glaciers_missed"]) == (0, 0, 1)
    assert np.isnan(summary["distance_mean_m"])
    assert table["area_difference_percent"].tolist() == [-100]


def test_a_reference_split_at_the_antimeridian():
    ours = outlines(box(179.9, 70, 180.1, 70.1), crs="EPSG:4326")
    theirs = outlines(box(179.9, 70, 180, 70.1), box(-180, 70, -179.9, 70.1), crs="EPSG:4326")
    summary, _ = compare_outlines(ours, theirs)
    assert summary["iou"] == pytest.approx(1, abs=1e-3)
    assert summary["distance_p95_m"] < 1


def test_at_the_pole():
    ours = outlines(box(-1000, -1000, 1000, 1000), crs="EPSG:3413")
    theirs = outlines(box(-1000, -1000, 1000, 500), crs="EPSG:3413")
    summary, _ = compare_outlines(ours, theirs)
    assert summary["iou"] == pytest.approx(0.75, rel=1e-4)


def test_thousands_of_glaciers():
    x, y = 200.0 * np.mgrid[:45, :45].reshape(2, -1)
    complex_ = box(-100, -100, 45 * 200, 45 * 200) - shapely.union_all(box(x, y, x + 50, y + 100))
    theirs = outlines(*box(x, y, x + 100, y + 100), id=np.arange(len(x)))
    summary, table = compare_outlines(outlines(complex_), theirs)
    assert table["covered_km2"].to_numpy() == pytest.approx(0.005, rel=1e-6)
    assert table["mapped_km2"].sum() == pytest.approx(summary["mapped_km2"], rel=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs", "within", "reason"),
    [
        (outlines(box(0, 0, 1, 1)), outlines(box(0, 0, 1, 1), crs=None), None, "reference .* CRS"),
        (outlines(box(0, 0, 1, 1), crs=None), outlines(box(0, 0, 1, 1)), None, "mapped .* CRS"),
        (outlines(box(0, 0, 1, 1)), outlines(shapely.Point(0, 0)), None, "no polygons"),
        (outlines(box(0, 0, 1, 1)), outlines(), None, "no glaciers"),
        (outlines(box(0, 0, 9, 9)), outlines(box(50, 0, 60, 9)), None, "away from"),
        (outlines(box(0, 0, 9, 9)), outlines(shapely.Point(0, 0)), box(0, 0, 9, 9), "no polygons"),
    ],
)
def test_outlines_that_cannot_be_compared(ours, theirs, within, reason):
    with pytest.raises(InputError, match=reason):
        compare_outlines(ours, theirs, within=within)


@pytest.mark.parametrize("theirs", [outlines(box(5000, 0, 6000, 900)), outlines()])
def test_a_scene_without_a_glacier_of_the_reference_has_false_alarms_alone(theirs):
    scene = box(0, 0, 1000, 1000)
    summary, table = compare_outlines(outlines(box(0, 0, 500, 200)), theirs, within=scene)
    assert summary["mapped_km2"] == pytest.approx(0.1, rel=1e-6)
    zeros = ("reference_km2", "glaciers", "glaciers_mapped", "glaciers_missed")
    assert [summary[name] for name in zeros] == [0] * 4
    none = ("iou", "area_difference_percent", "distance_mean_m", "distance_p95_m")
    assert np.isnan([summary[name] for name in none]).all()
    assert table.empty and "iou" in table
    for within in (scene, shapely.MultiPolygon()):  # data, or none
        nothing, _ = compare_outlines(outlines(), theirs, within=within)
        assert nothing["mapped_km2"] == 0 and np.isnan(nothing["iou"])
