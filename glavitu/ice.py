"""Glaciers on given terrain: mass balance, flow and the rock they carry.

Ice is snow that falls above the equilibrium line, is handed downhill from cell to cell and melts
below it: a steady state, on a square grid of some 100 m.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse

from glavitu import terrain

# Glen's flow law at 0 degrees C, exponent 3, in 1/(m^3 a); sliding carries as much again.
FLUIDITY = 2 * 2.1e-5


class Ice(NamedTuple):
    """A glacier state on the coarse grid; every field is an array (y, x)."""

    surface: np.ndarray
    """Elevation of the ice surface, in metres; below the bed where there is no ice."""
    speed: np.ndarray
    """Mean speed over depth, in metres a year."""
    debris: np.ndarray
    """Log of rock carried per ice flux, relative: high on moraines and stagnant tongues."""


def _routing(surface):
    """Sparse matrix that hands what a cell holds to its lower neighbours, steeper ones first."""
    falls = np.clip(terrain.drops_to_neighbours(surface), 0, None) ** 2
    falls[~np.isfinite(falls)] = 0
    weights = falls / np.maximum(falls.sum(axis=0), 1e-12)
    used = weights > 0
    giver = np.broadcast_to(np.arange(surface.size).reshape(surface.shape), used.shape)
    taker = terrain.neighbour_indices(surface.shape)
    size = (surface.size, surface.size)
    return sparse.csr_matrix((weights[used], (taker[used], giver[used])), shape=size)


def _route(routing, source, *, steps):
    """Steady flux through each cell of a `source` that is negative where flux is consumed."""
    flux = np.maximum(source.ravel(), 0)
    for _ in range(steps):
        before, flux = flux, np.maximum(routing @ flux + source.ravel(), 0)
        if np.abs(flux - before).max() <= 1e-5 * flux.max():
            break
    return flux.reshape(source.shape)


def mass_balance(elevation, ela, cell, *, gradient):
    """Yearly gain of ice: proportional to height over the equilibrium line, less on cliffs.

    Parameters
    ----------
    elevation, ela : numpy.ndarray
        Elevation of the ground and of the equilibrium line (y, x), in metres.
    cell : float
        Size of a cell, in metres.
    gradient : float
        Gain per metre of height below the line, 1/a; above it, half of that and 2 m/a at most.

    Returns
    -------
    numpy.ndarray
        Metres of ice a year (y, x).
    """
    height = elevation - ela
    # Snow does not stay on faces steeper than some 45 degrees.
    held = np.clip((1.4 - terrain.tangent_of_slope(elevation, cell)) / 0.6, 0, 1)
    gain = np.minimum(0.5 * gradient * height, 2) * held
    # Ice that reaches the sea calves.
    return np.where(height > 0, gain, gradient * height) - 20 * (elevation < 0)


def glaciers(bed, ela, cell, *, gradient=0.007, rounds=5):
    """Ice in balance with the climate, by routing the mass balance down the ice surface.

    Thickness follows from flux and surface slope by the shallow-ice relation
    ``flux = FLUIDITY * slope^3 * thickness^5``; a valley is then filled level across, and the flux
    is routed anew over the raised surface.

    Parameters
    ----------
    bed : numpy.ndarray
        Elevation of the ground (y, x), in metres.
    ela : numpy.ndarray
        Elevation of the equilibrium line (y, x), in metres.
    cell : float
        Size of a cell, in metres.
    gradient : float
        Mass-balance gradient in the ablation area, 1/a.
    rounds : int
        How many times flux and surface are brought into line.

    Returns
    -------
    Ice
        Surface, speed and debris on the grid of `bed`.
    """
    surface, steps = bed, int(1.5 * max(bed.shape))
    edge = ~np.pad(np.ones(np.array(bed.shape) - 2, bool), 1)
    # On a crest the mean slope is small, yet ice leaves to both sides: it stays thin there.
    crest = np.exp(-np.clip(bed - ndimage.gaussian_filter(bed, 300 / cell), 0, None) / 80)
    for _ in range(rounds):
        routing = _routing(terrain.fill_depressions(surface, edge, gradient=0.1))
        balance = mass_balance(surface, ela, cell, gradient=gradient)
        flux = _route(routing, balance * cell, steps=steps)
        slope = np.maximum(
            terrain.tangent_of_slope(ndimage.gaussian_filter(surface, 250 / cell), cell), 0.06
        )
        thickness = crest * (flux / (FLUIDITY * slope**3)) ** 0.2
        level = _level(bed, thickness, 150 / cell)
        surface = 0.5 * (surface + np.maximum(bed, level))
    speed = ndimage.gaussian_filter(flux, 1) / np.maximum(surface - bed, 20)
    return Ice(level, speed, _debris(routing, surface - bed, flux, bed, cell, steps))


def _level(bed, thickness, sigma):
    """Ice surface, level across valleys: local mean of bed + thickness where the ice is thick."""
    weight = np.where(thickness > 14, thickness**2, 0)
    total = ndimage.gaussian_filter(weight, sigma)
    level = ndimage.gaussian_filter(weight * (bed + thickness), sigma) / np.maximum(total, 1e-9)
    # Blur reaches a little beyond the ice; there the surface comes down to the bed as a parabola.
    support = np.clip(np.log(np.maximum(total, 1) / 10**2) / np.log(25), -1, 1)
    margin = np.sign(support) * np.sqrt(np.abs(support))
    filled = np.where((level > bed) & (margin > 0), (level - bed) * margin, 50 * margin)
    filled = np.where(level > bed, filled, np.minimum(level - bed, filled))
    # Steep upper basins hold a blanket of ice that follows the bed.
    blanket = ndimage.gaussian_filter(thickness, 1) - 18
    return bed + np.maximum(filled, blanket)


def _debris(routing, thickness, flux, bed, cell, steps):
    """Log of the rock that cliffs shed on to the ice, per flux that is left to carry it."""
    shed = np.where(thickness < 5, np.clip(terrain.tangent_of_slope(bed, cell) - 0.6, 0, 1), 0)
    load = _route(routing, shed, steps=steps)
    # Moraines are wider than the cell-wide paths that the routing prefers.
    load, flux = (ndimage.gaussian_filter(a, 0.7) for a in (load, flux))
    return np.log((load + 1e-3) / (flux + cell))
