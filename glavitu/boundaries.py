"""Boundaries of polygons as edges: points along them and distances between them, in metres."""

import numpy as np
import shapely

ALONG = 1.0  # metres from the edge of the scene within which a boundary runs along it


def distances_between(ours, theirs, scene, step):
    """Return the distances from points of each boundary to the other, pooled."""
    edges = [_own_edges(outline, scene) for outline in (ours, theirs)]
    if not all(len(some) for some in edges):
        return np.empty(0)
    one_way = [
        tree_of(target).query_nearest(
            shapely.points(_along(some, step)), return_distance=True, all_matches=False
        )[1]
        for some, target in (edges, edges[::-1])
    ]
    return np.concatenate(one_way)


def _own_edges(outline, scene):
    """Return the edges of an outline that do not merely run along the edge of the scene."""
    edges, _ = edges_of(np.array([outline]))
    if scene is None or not len(edges):
        return edges
    limit = tree_of(edges_of(np.array([scene]))[0])
    cut = np.ones(len(edges), bool)
    for points in (edges[:, 0], edges.mean(axis=1), edges[:, 1]):
        near = limit.query(shapely.points(points), predicate="dwithin", distance=ALONG)[0]
        cut &= np.isin(np.arange(len(edges)), near)
    return edges[~cut]


def _along(edges, step):
    """Return points (n, 2) about every `step` along edges (n, 2 ends, 2)."""
    ends = np.cumsum(lengths_of(edges))
    count = max(1, round(ends[-1] / step))
    places = (np.arange(count) + 0.5) * ends[-1] / count
    edge = np.searchsorted(ends, places)
    rest = ((ends[edge] - places) / lengths_of(edges)[edge])[:, None]
    return edges[edge, 0] * rest + edges[edge, 1] * (1 - rest)


def edges_of(polygons):
    """Return the edges (n, 2 ends, 2) of polygons and for each the index of its polygon."""
    parts, polygon = shapely.get_parts(polygons, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    edges = np.stack([points[:-1], points[1:]], axis=1)[same]
    polygon = polygon[part[ring[:-1][same]]]
    long = lengths_of(edges) > 0
    return edges[long], polygon[long]


def lengths_of(edges):
    """Return the lengths of edges (n, 2 ends, 2)."""
    return np.hypot(*(edges[:, 1] - edges[:, 0]).T)


def tree_of(edges):
    """Return a search tree of edges (n, 2 ends, 2)."""
    return shapely.STRtree(shapely.linestrings(edges))
