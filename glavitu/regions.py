"""The eleven mountain regions of the paper, as the demo data has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """Climate, ground and light of a mountain region.

    Parameters
    ----------
    name : str
        Letters that tile names begin with.
    title : str
        Name in words.
    epsg : int
        Projected coordinate system, in metres.
    easting, northing : float
        Upper left corner of the region's first tile, in metres.
    relief : float
        Height of peaks over valleys, in metres.
    ela : float
        Mean elevation of the equilibrium line, in metres.
    debris : float
        Mean share of glacier area under debris, 0..1.
    snow : float
        Mean share of ice-free ground under seasonal snow, 0..1.
    treeline : float
        Upper limit of vegetation, in metres.
    sun_azimuth, sun_altitude : float
        Direction to the sun, in degrees clockwise from north and above the horizon.
    brightness : float
        Share of bright rock (granite, limestone) in dark (schist, basalt), 0..1.
    clouds : float
        Probability that a tile has clouds.
    """

    name: str
    title: str
    epsg: int
    easting: float
    northing: float
    relief: float
    ela: float
    debris: float
    snow: float
    treeline: float
    sun_azimuth: float
    sun_altitude: float
    brightness: float
    clouds: float = 0.3


# fmt: off
REGIONS = {row[0]: Region(*row) for row in [
    ("ALP",  "European Alps",      32632,  420e3, 5145e3, 1900, 2950, .18, .10, 2500, 150, 54, .5),
    ("AN",   "Antarctica",          3031,  -24e5, 1260e3, 1300,  600, .05, .18, -999,  50, 28, .2),
    ("AWA",  "Alaska, W. America", 32607,  501e3, 6720e3, 1900, 1500, .16, .12, 1100, 160, 46, .3),
    ("CA",   "Caucasus",           32638,  291e3, 4797e3, 1900, 3250, .15, .10, 2800, 145, 57, .5),
    ("GR",   "Greenland",           3413, -330e3, -216e4, 1300,  850, .08, .13,  200, 165, 36, .6),
    ("HMA",  "High-Mountain Asia", 32645,  489e3, 3096e3, 2300, 5450, .32, .08, 4700, 150, 50, .6),
    ("LL",   "Low latitudes",      32718,  213e3, 8994e3, 1500, 5000, .07, .08, 4700,  70, 58, .4),
    ("NZ",   "New Zealand",        32759,  432e3, 5172e3, 1900, 1850, .25, .12, 1500,  55, 48, .3),
    ("SA",   "Southern Andes",     32718,  615e3, 4794e3, 1700, 1250, .10, .18,  900,  50, 46, .4),
    ("SC",   "Scandinavia",        32632,  393e3, 6843e3, 1350, 1500, .04, .18, 1200, 165, 44, .5),
    ("SVAL", "Svalbard",           32633,  522e3, 8715e3, 1200,  420, .11, .20,   80, 175, 32, .3),
]}
# fmt: on

# Regions that only test, so that scores show how far a network carries: one wet and rich in
# debris, one of the far north.
UNSEEN = ("NZ", "SVAL")
