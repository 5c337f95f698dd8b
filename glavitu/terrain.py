"""Mountains: fractal surfaces that rivers have cut, and the light that falls on them.

Relief is the steady state of river incision over a fractal surface, on a square grid; NumPy and
SciPy alone, and no loop over cells.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.fft import next_fast_len

NEIGHBOURS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


def fractal(shape, rng, *, slope=2.0, largest=None):
    """Random field with a power-law spectrum, by spectral synthesis.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    rng : numpy.random.Generator
        Source of randomness.
    slope : float
        Exponent of the amplitude spectrum; 2 looks like mountains, 1 like texture.
    largest : float, optional
        Longest wavelength that is kept, in cells; all of them by default.

    Returns
    -------
    numpy.ndarray
        Shape `shape`, mean 0, standard deviation 1.

    Examples
    --------
    >>> field = fractal((32, 48), np.random.default_rng(0))
    >>> field.shape, round(float(field.std()), 6)
    ((32, 48), 1.0)
    """
    # The transform is periodic, a landscape is not: make a larger one and keep a corner.
    rows, columns = (next_fast_len(int(1.25 * n) + 2, real=True) for n in shape)
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :])
    frequency[0, 0] = np.inf
    amplitude = frequency**-slope
    if largest is not None:
        amplitude[frequency < 1 / largest] = 0
    spectrum = np.fft.rfft2(rng.standard_normal((rows, columns))) * amplitude
    field = np.fft.irfft2(spectrum, s=(rows, columns))[: shape[0], : shape[1]]
    return (field - field.mean()) / field.std()


def fill_depressions(elevation, outlet, *, gradient=1e-3):
    """Raise pits until every cell drains to an outlet (Planchon and Darboux, 2002).

    Parameters
    ----------
    elevation : numpy.ndarray
        Elevation (y, x), in metres.
    outlet : numpy.ndarray of bool
        Cells (y, x) where water leaves the grid.
    gradient : float
        Least rise from a cell to the next one upstream, in metres.

    Returns
    -------
    numpy.ndarray
        Elevation (y, x), nowhere lower than the input.

    Examples
    --------
    >>> pit = np.array([[3.0, 3, 3], [3, 0, 3], [3, 2, 3]])
    >>> print(fill_depressions(pit, pit == 2, gradient=0.1)[1, 1])
    2.1
    """
    water = np.where(outlet, elevation, np.inf)
    while True:
        lower = np.maximum(elevation, ndimage.minimum_filter(water, 3, mode="nearest") + gradient)
        lower = np.minimum(water, np.where(outlet, elevation, lower))
        if np.array_equal(lower, water):
            return water
        water = lower


def drops_to_neighbours(elevation):
    """Fall to each of the eight neighbours per cell of distance, (8, y, x); negative uphill."""
    rows, columns = elevation.shape
    padded = np.pad(elevation, 1, constant_values=np.inf)
    shifted = (padded[1 + r : 1 + r + rows, 1 + c : 1 + c + columns] for r, c in NEIGHBOURS)
    return np.stack(
        [(elevation - z) / np.hypot(r, c) for z, (r, c) in zip(shifted, NEIGHBOURS, strict=True)]
    )


def neighbour_indices(shape):
    """Flat index of each of the eight neighbours, (8, y, x); meaningless beyond the edges."""
    offsets = [r * shape[1] + c for r, c in NEIGHBOURS]
    return np.arange(shape[0] * shape[1]).reshape(shape) + np.reshape(offsets, (8, 1, 1))


def _receivers(elevation, outlet, rng):
    """Flat index of the cell that each cell drains to, and the distance to it in cells.

    One more cell than the grid has stands for the outside, which drains to itself.
    """
    # Random weights keep valleys from locking on to the eight directions of the grid (Rho8).
    drops = drops_to_neighbours(elevation) * rng.uniform(0.7, 1.3, (8, *elevation.shape))
    steepest = drops.argmax(axis=0)[None]
    receiver = np.take_along_axis(neighbour_indices(elevation.shape), steepest, axis=0)[0]
    leaves = outlet | (drops.max(axis=0) <= 0)
    distance = np.hypot(*np.array(NEIGHBOURS).T)[steepest[0]]
    receiver = np.append(np.where(leaves, elevation.size, receiver), elevation.size)
    return receiver, np.append(np.where(leaves, 0, distance), 0)


def _upstream_area(receiver):
    """Count the cells that drain through each one, itself included."""
    outside = receiver.size - 1
    area = np.append(np.ones(outside), 0)
    # Each round doubles the length of the paths that are summed, which saves a loop over cells.
    while (receiver != outside).any():
        area += np.bincount(receiver, area, receiver.size)
        area[outside] = 0
        receiver = receiver[receiver]
    return area


def _sum_downstream(receiver, values):
    """Sum `values` along the path from each cell to the outside."""
    while (receiver != receiver.size - 1).any():
        values = values + values[receiver]
        receiver = receiver[receiver]
    return values


def _outlets(shape, rng):
    """Edges at base level: two or three of the four, so that ranges face any way."""
    edges = np.zeros(shape, bool)
    chosen = rng.choice(4, size=rng.integers(2, 4), replace=False)
    for edge in chosen:
        np.rot90(edges, edge)[0] = True
    return edges


def mountains(shape, rng, *, cell, relief, rounds=25, concavity=0.45):
    """Relief of a fluvial landscape in steady state, with troughs widened as glaciers do.

    Rivers cut until slope ~ area^-concavity everywhere, so elevation is the sum of that slope along
    the way to base level. Starting from a fractal, a few rounds let the divides settle.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    rng : numpy.random.Generator
        Source of randomness.
    cell : float
        Size of a cell, in metres.
    relief : float
        Elevation of the high peaks over base level, in metres.
    rounds : int
        How many times drainage and relief are brought into line.
    concavity : float
        How much gentler larger rivers are.

    Returns
    -------
    numpy.ndarray
        Elevation (y, x) over base level, in metres.
    """
    outlet = _outlets(shape, rng)
    far = ndimage.distance_transform_edt(~outlet) / max(shape)
    elevation = fill_depressions(2.5 * far + fractal(shape, rng, slope=1.7), outlet, gradient=1e-4)
    hardness = np.exp(0.5 * fractal(shape, rng, slope=1.5)).ravel()
    for share in np.linspace(0.3, 0.7, rounds):
        receiver, distance = _receivers(elevation, outlet, rng)
        area = _upstream_area(receiver)[:-1]
        # Below a tenth of a km2 hillslopes, not streams, shape the ground.
        incised = (area * (cell / 1000) ** 2 + 0.1) ** -concavity
        rise = np.append(hardness * incised, 0) * distance
        steady = _sum_downstream(receiver, rise)[:-1].reshape(shape)
        steady *= relief / np.percentile(steady, 99)
        elevation = (1 - share) * elevation * relief / elevation.max() + share * steady
    return _widen_valleys(elevation, area.reshape(shape), cell)


def _widen_valleys(elevation, area, cell):
    """Turn V-shaped valleys into troughs: the more water a valley drains, the flatter its floor."""
    drained = ndimage.gaussian_filter(np.log1p(area * (cell / 1000) ** 2), 1)
    trough = ndimage.gaussian_filter(elevation, 300 / cell)
    floor = np.clip(drained / 1.5, 0, 1)
    return ndimage.gaussian_filter(elevation + floor * (trough - elevation), 90 / cell)


def tangent_of_slope(elevation, cell):
    """Tangent of the slope, shape as given; `elevation` and `cell` in metres.

    Examples
    --------
    >>> ramp = np.outer(np.ones(4), [0.0, 30, 60, 90])
    >>> bool((tangent_of_slope(ramp, 30) == 1).all())
    True
    """
    return np.hypot(*np.gradient(elevation, cell))


def slope_towards(elevation, cell, *, azimuth):
    """Tangent of the slope that faces `azimuth`, negative where the ground falls the other way.

    Examples
    --------
    >>> ramp = np.outer(np.ones(4), [0.0, 30, 60, 90])
    >>> print(slope_towards(ramp, 30, azimuth=270)[0, 0].round(6))
    1.0
    """
    south, east = np.gradient(elevation, cell)
    azimuth = np.radians(azimuth)
    return np.cos(azimuth) * south - np.sin(azimuth) * east


def incidence(elevation, cell, *, azimuth, altitude):
    """Cosine of the angle between the ground's normal and a source of light, negative when behind.

    Parameters
    ----------
    elevation : numpy.ndarray
        Elevation (y, x) in metres, first row in the north.
    cell : float
        Size of a cell, in metres.
    azimuth, altitude : float
        Direction to the source, in degrees clockwise from north and above the horizon.

    Returns
    -------
    numpy.ndarray
        Cosine (y, x).

    Examples
    --------
    >>> flat = np.zeros((3, 3))
    >>> print(incidence(flat, 30, azimuth=135, altitude=30)[1, 1].round(2))
    0.5
    """
    altitude = np.radians(altitude)
    towards = np.cos(altitude) * slope_towards(elevation, cell, azimuth=azimuth)
    return (towards + np.sin(altitude)) / np.sqrt(1 + tangent_of_slope(elevation, cell) ** 2)


def shadow_ceiling(elevation, cell, *, azimuth, altitude):
    """Elevation (y, x) under which the ground lies in the shadow of other ground, in metres.

    Parameters as for `incidence`; light comes in straight across the edges of the grid.
    """
    row, column = -np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))
    fall = cell * np.tan(np.radians(altitude))
    ceiling = np.full(elevation.shape, -np.inf)
    for step in range(1, 2 + int(np.ptp(elevation) / fall)):
        moved = ndimage.shift(elevation, (-step * row, -step * column), order=1, mode="nearest")
        ceiling = np.maximum(ceiling, moved - step * fall)
        # Where nothing shades at one distance, what is farther shades nothing either.
        if (moved - step * fall <= elevation).all():
            break
    return ceiling
