"""Scaling of bands, by a training's units or a scene's own; numbers that were given, checked."""

import math
from numbers import Integral

import numpy as np

from glavitu.errors import InputError

COLUMNS = 100  # of an image that a sample is taken from, at least


def check_scaling(where, scaling, sources):
    """Raise `InputError` unless scaling has rising finite bounds for each band of its sources."""
    if not isinstance(scaling, dict) or not all(isinstance(s, dict) for s in scaling.values()):
        raise InputError(f"{where} is {scaling!r}, expected low and high by source")
    for source in set(scaling) & set(sources):
        low, high = (scaling[source].get(key) for key in ("low", "high"))
        for key, values in (("low", low), ("high", high)):
            if not are_numbers(values, sources[source]):
                raise InputError(
                    f"{where} of {source}: {key} is {values!r}, expected {sources[source]} numbers"
                )
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise InputError(f"{where} of {source}: low {low} is not below high {high}")


def are_numbers(values, count):
    """Tell whether values are a list of so many finite numbers."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, int | float) and np.isfinite(value) for value in values)
    )


def is_whole(number):
    """Tell whether this is a whole number, of Python or NumPy; True and False are none."""
    return isinstance(number, Integral) and not isinstance(number, bool)


def as_whole(name, number):
    """Return a whole number as `int`; raise `InputError` for anything else."""
    if not is_whole(number):
        raise InputError(f"{name} is {number!r}, expected a whole number, such as 4")
    return int(number)


def check_factors(factors, scaling):
    """Return factors by source; refuse those that are not positive or of no source."""
    for source, factor in factors.items():
        if source not in scaling or not 0 < factor < np.inf:
            raise InputError(
                f"factor {factor} of {source!r}, expected a positive number for one of "
                f"{', '.join(scaling)}"
            )
    return factors


def in_units(scaling, factors):
    """Return the scaling for values that `factors` would bring to the training data's units."""
    return {
        source: {key: _divided(source, values, factors) for key, values in bounds.items()}
        for source, bounds in scaling.items()
    }


def _divided(source, values, factors):
    """Return the bounds of a source's bands divided by its factor."""
    if source == "dem":
        return [values[0] / factor_of_dem(factors), *values[1:]]
    return [value / factors.get(source, 1) for value in values]


def factor_of_dem(factors):
    """Return what the first band of ``dem``, the elevation, is multiplied by to be in metres.

    Another band, such as the slope in degrees, stays as it is.
    """
    return factors.get("dem", 1)


def scale(array, low, high):
    """Scale bands linearly so that `low` becomes 0 and `high` 1; missing values become 0."""
    low, high = np.asarray(low), np.asarray(high)
    return np.nan_to_num((array - low) / (high - low)).astype(np.float32)


def evenly(pixels, most, width):
    """Return about `most` of the pixels (n, …), row after row of an image, from all its columns."""
    step = max(1, len(pixels) // most)
    while width // math.gcd(step, width) < min(width, COLUMNS):
        step += 1
    return pixels[::step]


def in_declared_units(values, scales, offsets):
    """Return stored values (band, ...) in the units that a raster declares by band, as float32."""
    if set(scales) == {1} and set(offsets) == {0}:
        return values.astype(np.float32)
    shape = (-1,) + (1,) * (values.ndim - 1)
    scales, offsets = (np.reshape(each, shape) for each in (scales, offsets))
    return (values.astype(np.float64) * scales + offsets).astype(np.float32)


def sample(scene):
    """Return pixels (n, band) of each source, of at most 200 rows and 2000 columns of a scene."""
    height, width = scene.shape
    every, sampled = -(-width // 2000), {source: [] for source in scene.sources}
    for row in range(0, height, -(-height // 200)):
        for source, pixels in scene.read(row, 0, 1, width).items():
            sampled[source].append(pixels[0, ::every].copy())
    values = {source: np.concatenate(rows) for source, rows in sampled.items()}
    for source, pixels in values.items():
        if np.isnan(pixels).all(0).any():
            values[source] = _first_data(scene, source)
    return values


def _first_data(scene, source):
    """Return the first rows in which every band of a source has data, (n, band)."""
    height, width = scene.shape
    for row in range(0, height, 64):
        pixels = scene.read(row, 0, min(64, height - row), width, [source])[source]
        if not np.isnan(pixels).all((0, 1)).any():
            return pixels.reshape(-1, pixels.shape[-1])
    raise InputError(f"{source!r} has no data in this scene")


def own_scaling(pixels):
    """Return the 1st and 99th percentile of each band of `sample`; refuse bands without spread."""
    scaling = {}
    for source, values in pixels.items():
        low, high = np.nanpercentile(values, (1, 99), axis=0)
        for band in np.flatnonzero(low == high)[:1]:
            raise InputError(
                f"band {band + 1} of {source!r} is {low[band]:g} nearly all over the scene, which "
                "gives no scaling of its own; leave own_scaling out"
            )
        scaling[source] = {"low": low.tolist(), "high": high.tolist()}
    return scaling
