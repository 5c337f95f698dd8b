"""What satellites record of modelled ground: optical reflectance, elevation and radar."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from glavitu import terrain
from glavitu.bands import PUBLISHED_BANDS
from glavitu.surfaces import SKY, SURFACES
from glavitu.terrain import fractal

BANDS = PUBLISHED_BANDS | {"sar": ("backscatter", "coherence")}

# Top-of-atmosphere reflectance in the six optical bands, rounded from Landsat scenes and spectral
# libraries (Hall et al. 1995; Warren and Brandt 2008; USGS).
SPECTRA = {
    "snow": (0.88, 0.88, 0.87, 0.78, 0.13, 0.10),
    "firn": (0.72, 0.72, 0.70, 0.58, 0.09, 0.07),
    "ice": (0.50, 0.49, 0.45, 0.33, 0.05, 0.04),
    "dirty ice": (0.30, 0.30, 0.28, 0.22, 0.09, 0.07),
    "dark rock": (0.11, 0.12, 0.13, 0.15, 0.17, 0.15),
    "bright rock": (0.21, 0.24, 0.27, 0.31, 0.35, 0.31),
    "clear water": (0.09, 0.07, 0.05, 0.02, 0.01, 0.01),
    "milky water": (0.20, 0.23, 0.19, 0.09, 0.02, 0.01),
    "vegetation": (0.06, 0.08, 0.06, 0.32, 0.17, 0.08),
}
CLOUD = (0.60, 0.59, 0.60, 0.62, 0.48, 0.36)
SKYLIGHT = (0.28, 0.22, 0.17, 0.12, 0.07, 0.06)
HAZE = (0.050, 0.030, 0.018, 0.008, 0.003, 0.002)

# C-band VV backscatter in dB on flat ground, and coherence over some days, by surface code.
BACKSCATTER = np.array([-9.0, -14.0, -10.0, -14.5, -20.0, -9.5])
COHERENCE = np.array([0.78, 0.25, 0.28, 0.45, 0.12, 0.45])
# Direction to the radar in degrees: 39 degrees of incidence on flat ground. Its noise, in dB.
LOOK = {"azimuth": 280.0, "altitude": 51.0}
NOISE_FLOOR = -24.0


class Ground(NamedTuple):
    """The modelled place on the pixels of a tile; every field is an array (y, x)."""

    elevation: np.ndarray
    """Elevation of the ground, ice or water, in metres."""
    ice: np.ndarray
    """True on glaciers."""
    speed: np.ndarray
    """Speed of the ice, in metres a year."""
    debris: np.ndarray
    """Tendency to debris, as in `glavitu.ice.Ice`."""
    over_ela: np.ndarray
    """Height over the equilibrium line, in metres."""
    ceiling: np.ndarray
    """Elevation under which other ground takes the sun away, in metres."""


def _abundances(region, ground, surface, rng, resolution):
    """Share of each spectrum in each pixel, (y, x, spectrum)."""
    shape = surface.shape
    coarse = fractal(shape, rng, slope=1.4, largest=2000 / resolution)
    fine = fractal(shape, rng, slope=0.8, largest=300 / resolution)
    is_ = {name: surface == code for name, code in SURFACES.items()}
    bright = np.clip(region.brightness + 0.25 * coarse + 0.1 * fine, 0, 1)
    firn = 1 / (1 + np.exp(-(ground.over_ela + 60 * coarse) / 40))
    dirt = (1 - firn) * np.clip(0.3 + 0.2 * fine + 0.15 * coarse, 0, 1)
    cover = np.clip(0.8 + 0.2 * fine, 0.3, 1) * is_["seasonal snow"]
    stones = is_["rock"] | is_["debris-covered ice"] | is_["seasonal snow"]
    stones = stones * (1 - cover) * np.where(is_["debris-covered ice"], 0.93, 1)
    shares = {
        "snow": cover + is_["clean ice"] * firn * np.clip(firn - 0.4, 0, 1),
        "ice": is_["clean ice"] * (1 - firn - dirt) + 0.07 * is_["debris-covered ice"],
        "dirty ice": is_["clean ice"] * dirt,
        "dark rock": stones * (1 - bright),
        "bright rock": stones * bright,
        "clear water": is_["water"] * (ground.elevation <= 0),
        "milky water": is_["water"] * (ground.elevation > 0),
        "vegetation": is_["vegetation"] * 1.0,
    }
    shares["firn"] = is_["clean ice"] * firn - (shares["snow"] - cover)
    # Half a pixel of blur mixes neighbours as the sensor's point spread does.
    return np.stack([ndimage.gaussian_filter(shares[name], 0.55) for name in SPECTRA], axis=-1)


def _clouds(region, shape, rng, resolution):
    """Opacity of the clouds, 0..1 (y, x)."""
    field = fractal(shape, rng, slope=1.8, largest=4000 / resolution)
    cloudy = rng.uniform() < region.clouds
    return np.clip((field - rng.uniform(0.6, 1.6)) / 1.0, 0, 0.95) * cloudy


def observe_optical(region, ground, surface, rng, resolution):
    """Reflectance (y, x, 6) under sun, skylight, clouds and haze; and codes of `SKY` (y, x)."""
    sun = {"azimuth": region.sun_azimuth, "altitude": region.sun_altitude}
    cosine = terrain.incidence(ground.elevation, resolution, **sun)
    direct = np.clip(cosine / np.sin(np.radians(region.sun_altitude)), 0, 1.8)
    shaded = (ground.ceiling > ground.elevation + 5) | (direct == 0)
    opacity = _clouds(region, surface.shape, rng, resolution)
    azimuth = np.radians(region.sun_azimuth)
    away = np.array([np.cos(azimuth), -np.sin(azimuth)]) * 400 / resolution
    light = ndimage.gaussian_filter(direct * ~shaded, 0.5)
    light *= 1 - ndimage.shift(opacity, away, order=1)
    ground_light = light[..., None] * (1 - np.array(SKYLIGHT)) + SKYLIGHT
    spectra = np.array(list(SPECTRA.values()))
    reflectance = _abundances(region, ground, surface, rng, resolution) @ spectra
    texture = np.exp(0.06 * fractal(surface.shape, rng, slope=1.0, largest=20))
    seen = reflectance * texture[..., None] * ground_light + HAZE
    seen += opacity[..., None] * (np.array(CLOUD) - seen)
    seen += rng.normal(0, 0.004, seen.shape) * (1 + 2 * seen)
    sky = np.select([opacity > 0.4, shaded], [SKY["cloud"], SKY["shadow"]], SKY["clear"])
    return np.clip(seen, 0, 1.6), sky


def observe_dem(ground, rng, resolution):
    """Elevation in metres, with the error of a radar DEM, and its slope in degrees: (y, x, 2)."""
    error = fractal(ground.elevation.shape, rng, slope=1.5, largest=300 / resolution)
    elevation = ground.elevation + error
    slope = np.degrees(np.arctan(terrain.tangent_of_slope(elevation, resolution)))
    return np.stack([elevation, slope], axis=-1)


def observe_sar(ground, surface, rng, resolution):
    """Speckled VV backscatter in dB and interferometric coherence: (y, x, 2)."""
    wet = fractal(surface.shape, rng, slope=1.3, largest=1500 / resolution)
    brightening, layover, shadow = _radar_geometry(ground.elevation, resolution)
    power = 10 ** ((BACKSCATTER[surface] + 0.8 * wet + brightening) / 10) * ~shadow
    power += 10 ** (NOISE_FLOOR / 10)
    # Speckle of five looks is gamma-distributed with mean 1.
    backscatter = 10 * np.log10(power * rng.gamma(5, 1 / 5, surface.shape))
    stagnant = 0.25 * np.exp(-ground.speed / 5) * ground.ice
    steepness = np.minimum(terrain.tangent_of_slope(ground.elevation, resolution), 1.5)
    expected = COHERENCE[surface] + stagnant - 0.12 * steepness - 0.07 * np.maximum(wet, 0)
    # What overlaps in layover differs between two passes; in shadow only noise is left.
    expected = np.select([shadow, layover], [0.15, 0.4 * expected], expected)
    # Coherence is estimated over a window of pixels, and worse where it is low.
    expected = ndimage.gaussian_filter(expected, 40 / resolution)
    error = ndimage.gaussian_filter(rng.normal(0, 0.3, surface.shape), 0.8) * (1 - expected**2)
    return np.stack([backscatter, np.clip(expected + error, 0, 1)], axis=-1)


def _radar_geometry(elevation, resolution):
    """Brightening of slopes in dB, and the masks of layover and of radar shadow: each (y, x)."""
    facing = terrain.incidence(elevation, resolution, **LOOK) / np.sin(np.radians(LOOK["altitude"]))
    incidence = np.radians(90 - LOOK["altitude"])
    tilt = np.arctan(terrain.slope_towards(elevation, resolution, azimuth=LOOK["azimuth"]))
    # The ground that a range cell holds grows as 1 / sin of the angle that is left to layover.
    crowding = np.sin(incidence) / np.maximum(np.sin(incidence - tilt), 0.15)
    brightening = 18 * np.log10(np.clip(facing, 0.15, None)) + 10 * np.log10(crowding)
    shadow = terrain.shadow_ceiling(elevation, resolution, **LOOK) > elevation + 1
    return brightening, tilt > incidence, shadow
