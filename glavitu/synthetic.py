"""Demo tiles: made-up mountains of the paper's eleven regions, as satellites would see them.

Glaciers come from a mass-balance and flow model, never from a threshold on the pictures; so debris,
seasonal snow, shade, lakes and clouds mislead band ratios here for the same reasons as in nature.
A tile is a pure function of its region, number, seed, size and resolution.

What is modelled:

- Ground (`glavitu.terrain`): rivers cut a fractal surface until slope ~ area^-0.45 (Flint's law),
  and valleys are widened to troughs. Elevation bears a smooth error of 1 m.
- Ice (`glavitu.ice`): a mass balance linear in height over an equilibrium line that lies lower on
  shaded slopes (0.007/a below it, half of that above, at most 2 m/a), routed downhill; thickness
  from the shallow-ice flux of Glen's flow law (exponent 3, 0 degrees C), doubled for sliding. Ice
  is in balance with the climate; in the sea it calves.
- Debris: rock shed by cliffs travels with the ice and gathers on moraines and slow tongues, in the
  region's share of the glacier area. Seasonal snow, plants, tongue lakes and the sea around.
- Pictures (`glavitu.sensors`): mixtures of spectra rounded from Landsat scenes and libraries (Hall
  et al. 1995; Warren and Brandt 2008; USGS) under sun, skylight, cast shadow, haze and clouds.
- Radar: typical C-band backscatter and repeat-pass coherence by surface, less coherence on fast,
  steep or wet ground; foreshortening, layover and shadow at 39 degrees of incidence, a noise floor
  of -24 dB and the speckle of five looks.

What is not: glaciers in retreat, surges and thermal regimes; crevasses; thin debris, avalanche
cones and rock glaciers; forests, fields and buildings; reflectance that depends on the view; the
season; misregistration of sources. Outlines are perfect unless `outline_error` asks for the
imperfections of real inventories. Scores on such tiles order methods; they say nothing about how
well real glaciers are mapped.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
import xarray as xr
from scipy import ndimage
from scipy.interpolate import RectBivariateSpline

from glavitu import ice, sensors, terrain
from glavitu.regions import REGIONS, Region
from glavitu.sensors import BANDS, Ground
from glavitu.surfaces import SURFACES
from glavitu.terrain import fractal

# Side of a cell of the terrain and ice model, and least side of its domain, in metres.
CELL = 90.0
DOMAIN = 11_500.0


def make_tile(region, index, *, size, seed=0, resolution=30.0, outline_error=0.0):
    """Make one demo tile.

    Parameters
    ----------
    region : Region or str
        The region, or its name in `REGIONS`.
    index : int
        Number of the tile within the region; tiles do not overlap.
    size : int
        Rows and columns, in pixels.
    seed : int
        Another seed gives another world.
    resolution : float
        Size of a pixel, in metres.
    outline_error : float
        Standard deviation of a smooth displacement of the outlines, east and north, in metres, as
        inventories have it; moves `groundtruth`, and nothing else.

    Returns
    -------
    xarray.Dataset
        `optical` (y, x, optical_band), top-of-atmosphere reflectance; `dem` (y, x, dem_band),
        elevation in metres and slope in degrees; `sar` (y, x, sar_band), backscatter in dB and
        interferometric coherence 0..1; all float32. As uint8 (y, x): `groundtruth`, 1 on glaciers;
        `surface`, codes of `SURFACES`; `sky`, codes of `surfaces.SKY`, what optical sensors meet.
        Coordinates y and x are pixel centres in metres. Attributes: `tile`, `region`, `epsg`,
        `transform` (affine a, b, c, d, e, f).

    Raises
    ------
    ValueError
        If the region is not known, the size is less than 16 or the error of outlines below 0.

    Examples
    --------
    >>> tile = make_tile("SVAL", 3, size=32)
    >>> tile.attrs["tile"], dict(tile.sizes)["y"], tile.optical.dtype.name
    ('SVAL1-0003', 32, 'float32')
    >>> bool((tile.groundtruth == tile.surface.isin([1, 2])).all())
    True
    """
    region = _find_region(region)
    if size < 16:
        raise ValueError(f"size is {size} pixels, expected at least 16; ask for a larger tile")
    if not 0 <= outline_error < np.inf:
        raise ValueError(f"outline_error is {outline_error} m, expected 0 or more")
    world = [seed, crc32(region.name.encode()), index]
    rng = np.random.default_rng(world)
    ground = _model_ground(region, rng, size, resolution)
    lakes, ground = _add_lakes(ground, rng, resolution)
    surface = _classify(region, ground, lakes, rng, resolution)
    optical, sky = sensors.observe_optical(region, ground, surface, rng, resolution)
    arrays = {
        "optical": optical,
        "dem": sensors.observe_dem(ground, rng, resolution),
        "sar": sensors.observe_sar(ground, surface, rng, resolution),
        "groundtruth": _displace(ground.ice, world, outline_error / resolution),
        "surface": surface,
        "sky": sky,
    }
    return _as_dataset(arrays, region, index, resolution)


def _find_region(region):
    if isinstance(region, Region):
        return region
    if region not in REGIONS:
        raise ValueError(f"region {region!r} is not known; choose from {', '.join(REGIONS)}")
    return REGIONS[region]


def _model_ground(region, rng, size, resolution):
    """Terrain and glaciers on a domain larger than the tile, so that ice may enter from outside."""
    extent = size * resolution
    cells = int(np.ceil(max(1.5 * extent, DOMAIN) / CELL))
    bed = terrain.mountains((cells, cells), rng, cell=CELL, relief=region.relief)
    # The line crosses every domain: where it would not, there are no glaciers to map.
    bed += region.ela - np.quantile(bed, rng.uniform(0.78, 0.91))
    sun = {"azimuth": region.sun_azimuth, "altitude": region.sun_altitude}
    smooth = ndimage.gaussian_filter(bed, 2)
    warmth = terrain.incidence(smooth, CELL, **sun) / np.sin(np.radians(region.sun_altitude)) - 1
    ela = region.ela + 150 * np.clip(warmth, -1, 1)
    state = ice.glaciers(bed, ela, CELL)
    thickness = np.clip(state.surface - bed, -60, None)
    corner = _choose_corner(thickness > 8, extent / CELL, rng)
    surface = bed + np.maximum(thickness, 0)
    ceiling = terrain.shadow_ceiling(surface, CELL, **sun)
    fields = (bed, thickness, state.speed, state.debris, surface - ela, ceiling)
    return _refine(
        *(_sample(field, corner, size, resolution) for field in fields), region, rng, resolution
    )


def _choose_corner(glacier, extent, rng):
    """Upper left corner of a tile (row, column) with about as much ice as chance asks for."""
    width = int(np.ceil(extent))
    share = ndimage.uniform_filter(glacier.astype(float), width, origin=-(width // 2))
    # A kilometre along the border is left out: there the model falls off to its base level.
    allowed = share[10 : glacier.shape[0] - width - 10, 10 : glacier.shape[1] - width - 10]
    miss = np.abs(allowed - rng.uniform(0.12, 0.45)) + rng.uniform(0, 0.03, allowed.shape)
    return np.add(np.unravel_index(miss.argmin(), allowed.shape), 10)


def _sample(field, corner, size, resolution):
    """Field of the coarse grid at the pixel centres of a tile, by cubic interpolation."""
    centres = (np.arange(size) + 0.5) * resolution / CELL
    spline = RectBivariateSpline(*(np.arange(n) for n in field.shape), field)
    return spline(corner[0] + centres, corner[1] + centres)


def _refine(bed, thickness, speed, debris, over_ela, ceiling, region, rng, resolution):
    """Add ground detail below the size of a cell, and find the ice that stands above it."""
    texture = fractal(bed.shape, rng, slope=1.9, largest=400 / resolution)
    steepness = np.minimum(terrain.tangent_of_slope(bed, resolution), 1.2)
    # Ground detail grows with relief and slope: some 15 m on the walls of the highest mountains.
    detail = region.relief / 150 * (0.15 + steepness) * texture
    glacier = _clean(thickness - 0.5 * detail > 8, resolution)
    surface = bed + np.maximum(thickness, 0.5 * detail) + 0.5 * texture
    # Glaciers end where their surface meets the sea, and the sea is level.
    glacier &= surface > 1
    ground = np.where(glacier, surface, np.maximum(bed + detail, 0))
    return Ground(ground, glacier, np.maximum(speed, 0), debris, over_ela, ceiling)


def _clean(mask, resolution):
    """Drop patches below 0.05 km2 from a mask and close holes below 0.02 km2."""
    pixel = (resolution / 1000) ** 2
    mask = ndimage.binary_opening(mask)
    mask = _large(mask, 0.05 / pixel)
    return ~_large(~mask, 0.02 / pixel)


def _large(mask, least):
    labels, _ = ndimage.label(mask)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    return (counts >= least)[labels]


def _add_lakes(ground, rng, resolution):
    """Water mask and flooded ground: the sea, and lakes in front of some tongues."""
    elevation, pixel = ground.elevation.copy(), (resolution / 1000) ** 2
    tongues, count = ndimage.label(_large(ground.ice, 0.3 / pixel))
    ends = ndimage.minimum_position(elevation, tongues, range(1, count + 1))
    wobble = 1 + 0.25 * fractal(elevation.shape, rng, slope=1.8, largest=600 / resolution)
    water = ~ground.ice & (elevation <= 0)
    rows, columns = np.indices(elevation.shape)
    for row, column in ends:
        radius = rng.uniform(-200, 500) / resolution
        near = np.hypot(rows - row, columns - column) < radius * wobble
        flooded = np.abs(elevation - elevation[row, column] + 10) < 20
        basin = _large(ndimage.binary_opening(near & flooded & ~ground.ice), 0.015 / pixel)
        if basin.any() and elevation[row, column] > 1:
            elevation[basin] = elevation[basin].min()
            water |= basin
    return water, ground._replace(elevation=elevation)


def _classify(region, ground, water, rng, resolution):
    """Surface codes (y, x): debris on ice; water, seasonal snow and plants on the rest."""
    patches = fractal(water.shape, rng, slope=1.5, largest=1500 / resolution)
    slope = terrain.tangent_of_slope(ground.elevation, resolution)
    hollow = ndimage.gaussian_filter(ground.elevation, 120 / resolution) - ground.elevation
    snowiness = ground.over_ela + 120 * patches - 500 * slope + 6 * hollow
    land = ~ground.ice & ~water
    snow = _highest(snowiness, land, region.snow * rng.uniform(0.3, 1.7))
    green = ground.elevation + 80 * patches + 150 * slope < region.treeline
    ablation = ground.ice & (ground.over_ela < -20)
    share = region.debris * rng.uniform(0.5, 1.5) * ground.ice.sum() / max(ablation.sum(), 1)
    # Stones roll off steep ice; specks of them are not mapped.
    stoniness = ground.debris + 0.3 * patches - 4 * slope
    debris = _highest(stoniness, ablation, min(share, 0.8))
    debris = _large(debris, 0.01 / (resolution / 1000) ** 2)
    codes = [SURFACES[name] for name in ("clean ice", "water", "seasonal snow", "vegetation")]
    surface = np.select([ground.ice, water, snow, land & green], codes, SURFACES["rock"])
    surface[debris] = SURFACES["debris-covered ice"]
    return surface


def _displace(mask, world, error):
    """Mask whose outlines a smooth random field has moved; `error` in pixels."""
    if error == 0:
        return mask
    # A generator of its own, so that only the outlines differ from a tile without error.
    rng = np.random.default_rng([*world, 1])
    shifts = (error * fractal(mask.shape, rng, slope=2.0, largest=50) for _ in range(2))
    places = [index + shift for index, shift in zip(np.indices(mask.shape), shifts, strict=True)]
    return ndimage.map_coordinates(mask.astype(float), places, order=1, mode="nearest") > 0.5


def _highest(score, where, share):
    """Mask of the given share of the pixels in `where`, those that score highest."""
    if not where.any():
        return where
    return where & (score > np.quantile(score[where], 1 - share))


def _as_dataset(arrays, region, index, resolution):
    size = len(arrays["surface"])
    left = region.easting + index % 20 * size * resolution
    top = region.northing - index // 20 * size * resolution
    steps = (np.arange(size) + 0.5) * resolution
    coords = {f"{source}_band": list(bands) for source, bands in BANDS.items()}
    variables = {
        name: (("y", "x", f"{name}_band"), array.astype("float32"))
        if name in BANDS
        else (("y", "x"), array.astype("uint8"))
        for name, array in arrays.items()
    }
    attrs = {
        "tile": f"{region.name}1-{index:04d}",
        "region": region.name,
        "epsg": region.epsg,
        "transform": (resolution, 0.0, left, 0.0, -resolution, top),
    }
    return xr.Dataset(variables, coords | {"y": top - steps, "x": left + steps}, attrs)
