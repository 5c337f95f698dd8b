"""Agreement of mapped outlines with reference outlines, as glaciologists report it."""

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import Transformer

from glavitu.areas import project
from glavitu.boundaries import distances_between, edges_of, lengths_of, tree_of
from glavitu.errors import InputError
from glavitu.inventories import check_crs, names_of, polygonal, polygons_in

SAME = 1e-3  # metres within which two boundaries are one
HAIRLINE = 0.1  # metres; gaps as thin as this are where two boundaries were meant to coincide
FOUND = 0.5  # share of a glacier's area from which it counts as mapped
VERTICES = 500  # of the pieces into which polygons are cut to be overlaid quickly


def compare_outlines(mapped, reference, *, within=None, step=10.0):
    """Compare mapped outlines with reference outlines.

    All is measured in an equal-area projection about the scene. Outlines that overlap count once
    in the totals.

    Parameters
    ----------
    mapped : geopandas.GeoDataFrame
        The mapped outlines; may be empty.
    reference : geopandas.GeoDataFrame
        The outlines taken for true, a row per glacier, in any CRS; invalid ones are mended.
    within : shapely geometry or geopandas.GeoSeries, optional
        The part of the ground that was mapped, as polygon in the CRS of `mapped`. Both outlines
        are cut to it, and boundaries that run along its edge are left out of the distances; the
        reference may have no glacier in it. Without it, all of the reference counts.
    step : float
        Metres between the points of a boundary whose distance to the other is taken.

    Returns
    -------
    summary : dict
        ``iou`` (of all that is mapped and all of the reference), ``mapped_km2``,
        ``reference_km2``, ``area_difference_percent`` (mapped less reference, of the reference),
        ``distance_mean_m`` and ``distance_p95_m`` (from each boundary to the other, the points of
        both pooled), ``glaciers`` (of the reference, in the scene), ``glaciers_mapped`` (at least
        half their area is) and ``glaciers_missed`` (the others). NaN is what has no value: a
        distance without two boundaries, IoU and difference without a glacier of the reference.
    table : geopandas.GeoDataFrame
        A row per glacier of the reference in the scene: ``glacier`` (the column RGIId, rgi_id,
        glac_id, id or Name of `reference`, the first there is, or its index),
        ``reference_km2``, ``covered_km2`` (mapped inside the glacier), ``mapped_km2`` (that and
        the glacier's share of what is mapped outside), ``area_difference_percent``, ``iou``
        (covered, of the reference and the share outside together), ``geometry`` (the glacier in
        the scene, in the CRS of `mapped`).

    Raises
    ------
    InputError
        For outlines without CRS, and for a reference without polygons or, where all of it counts,
        away from the mapped outlines.

    Notes
    -----
    What is mapped outside the whole reference falls into connected parts. A part that shares a
    border with one glacier counts to it; one that borders on several is divided in proportion to
    the lengths of these borders; one that borders on none, such as a lake taken for a glacier,
    counts in the summary only.
    """
    check_crs(mapped, "mapped")
    glaciers = _named(reference)
    within = None if within is None else shapely.union_all(np.atleast_1d(np.asarray(within)))
    plane = _plane_about((([within], mapped.crs), _located(mapped), _located(glaciers)))
    scene = None if within is None else _in_plane([within], mapped.crs, plane)[0]
    everywhere = _in_plane(glaciers.geometry, glaciers.crs, plane)
    ours = shapely.union_all(_clip(_in_plane(mapped.geometry, mapped.crs, plane), scene))
    if scene is None:
        _check_overlap(ours, everywhere)
    names = {"glacier": glaciers["glacier"].to_numpy()}
    glaciers = gpd.GeoDataFrame(names, geometry=_clip(everywhere, scene), crs=plane)
    glaciers = glaciers[glaciers.area > 0].reset_index(drop=True)
    theirs = shapely.union_all(glaciers.geometry.to_numpy())
    outside = polygonal(np.array([shapely.difference(ours, theirs)]))[0]
    table = _table(glaciers, ours, outside).to_crs(mapped.crs)
    distances = distances_between(ours, theirs, scene, step)
    distances = distances if len(distances) else np.array([np.nan])
    covered = max(0.0, ours.area - outside.area)  # but for rounding
    found = int((table["covered_km2"] >= FOUND * table["reference_km2"]).sum())
    summary = {
        "iou": covered / (theirs.area + outside.area) if len(table) else np.nan,
        "mapped_km2": ours.area / 1e6,
        "reference_km2": theirs.area / 1e6,
        "area_difference_percent": 100 * (ours.area / theirs.area - 1) if len(table) else np.nan,
        "distance_mean_m": round(float(distances.mean()), 3),
        "distance_p95_m": round(float(np.percentile(distances, 95)), 3),
        "glaciers": len(table),
        "glaciers_mapped": found,
        "glaciers_missed": len(table) - found,
    }
    return summary, table


def _named(reference):
    """Return the polygons of the reference, with what they are called as `glacier`."""
    glaciers = polygons_in(reference)
    names = {"glacier": names_of(glaciers)}
    return gpd.GeoDataFrame(names, geometry=glaciers.geometry.to_numpy(), crs=glaciers.crs)


def _check_overlap(ours, glaciers):
    """Check that the extents of mapped outlines and of the reference meet."""
    if not len(glaciers):
        raise InputError("the reference has no glaciers to compare with")
    boxes = [shapely.box(*shapely.total_bounds(some)) for some in (ours, glaciers)]
    if not ours.is_empty and not shapely.intersects(*boxes):
        raise InputError("the reference lies away from the mapped outlines; check its CRS")


def _located(frame):
    return frame.geometry, frame.crs


def _plane_about(candidates):
    """Return the equal-area projection about the first geometries that are not empty.

    Each candidate is geometries and their CRS; poles and the antimeridian are no special cases.
    """
    centres = ((shapely.get_coordinates(shapely.centroid(g)), crs) for g, crs in candidates)
    nowhere = np.zeros((1, 2)), "EPSG:4326"
    points, crs = next(((points, crs) for points, crs in centres if len(points)), nowhere)
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    longitudes, latitudes = np.radians(to_degrees.transform(*points.T))
    east, north, up = (
        (np.cos(longitudes) * np.cos(latitudes)).mean(),
        (np.sin(longitudes) * np.cos(latitudes)).mean(),
        np.sin(latitudes).mean(),
    )
    longitude = np.degrees(np.arctan2(north, east))
    latitude = np.degrees(np.arctan2(up, np.hypot(east, north)))
    return f"+proj=laea +lat_0={latitude:.4f} +lon_0={longitude:.4f} +datum=WGS84 +units=m"


def _in_plane(geometries, crs, plane):
    geometries = shapely.force_2d(np.asarray(geometries, dtype=object))
    return _mended(project(_mended(geometries), crs, plane))


def _mended(geometries):
    """Return geometries made valid, and only what is polygon of them."""
    geometries = geometries.copy()
    broken = ~shapely.is_valid(geometries)
    geometries[broken] = shapely.make_valid(geometries[broken])
    return polygonal(geometries)


def _clip(polygons, scene):
    """Return what of polygons lies in the scene, all if it is None."""
    if scene is None:
        return polygons
    shapely.prepare(scene)
    clipped = polygons.copy()
    crossing = ~shapely.contains_properly(scene, polygons)
    clipped[crossing] = polygonal(shapely.intersection(polygons[crossing], scene))
    return clipped


def _table(glaciers, ours, outside):
    """Return the row of each glacier; all in one plane."""
    area = glaciers.area.to_numpy() / 1e6
    covered = _covered(ours, glaciers.geometry.to_numpy()) / 1e6
    beyond = _shares(outside, glaciers.geometry.to_numpy()) / 1e6
    return gpd.GeoDataFrame(
        {
            "glacier": glaciers["glacier"],
            "reference_km2": area,
            "covered_km2": covered,
            "mapped_km2": covered + beyond,
            "area_difference_percent": 100 * ((covered + beyond) / area - 1),
            "iou": covered / (area + beyond),
        },
        geometry=glaciers.geometry,
        crs=glaciers.crs,
    )


def _covered(ours, glaciers):
    """Return the area of each glacier that is mapped."""
    pieces = _cut_small(shapely.get_parts(ours))
    glacier, piece = shapely.STRtree(pieces).query(glaciers, predicate="intersects")
    areas = shapely.area(shapely.intersection(glaciers[glacier], pieces[piece]))
    return np.bincount(glacier, areas, minlength=len(glaciers))


def _cut_small(polygons):
    """Cut polygons in halves until none has many vertices."""
    small = []
    while len(polygons):
        large = shapely.get_num_coordinates(polygons) > VERTICES
        small.append(polygons[~large])
        polygons = polygons[large]
        west, south, east, north = shapely.bounds(polygons).reshape(-1, 4).T
        wide = east - west > north - south
        x, y = (west + east) / 2, (south + north) / 2
        first = shapely.box(west, south, np.where(wide, x, east), np.where(wide, north, y))
        second = shapely.box(np.where(wide, x, west), np.where(wide, south, y), east, north)
        halves = [shapely.intersection(polygons, half) for half in (first, second)]
        polygons = polygonal(np.concatenate(halves))
    return np.concatenate([np.empty(0, object), *small])


def _shares(outside, glaciers):
    """Return each glacier's share of the area that is mapped outside of all."""
    parts = _without_hairlines(shapely.get_parts(outside))
    edges, part = edges_of(parts)
    borders, glacier = edges_of(glaciers)
    middles = shapely.points(edges.mean(axis=1))
    edge, border = tree_of(borders).query(middles, predicate="dwithin", distance=SAME)
    shared = pd.DataFrame({"edge": edge, "part": part[edge], "glacier": glacier[border]})
    shared = shared.drop_duplicates(["edge", "glacier"])
    shared["length"] = lengths_of(edges)[shared["edge"]]
    shared = shared.groupby(["part", "glacier"], as_index=False)["length"].sum()
    of_part = shared["length"] / shared.groupby("part")["length"].transform("sum")
    areas = of_part * shapely.area(parts)[shared["part"]]
    return np.bincount(shared["glacier"], areas, minlength=len(glaciers))


def _without_hairlines(polygons):
    """Return polygons without what is so thin that it would only link parts of them."""
    inner = shapely.get_parts(shapely.buffer(polygons, -HAIRLINE / 2, join_style="mitre"))
    return shapely.buffer(inner, HAIRLINE / 2, join_style="mitre")
