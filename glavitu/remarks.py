"""Are values what a network was trained on, and in one unit? Remarks where they seem not to be."""

import numpy as np

from glavitu.units import evenly, in_declared_units

NO_GLACIER = "The reference has no glacier where the scene has data; are its place and CRS right?"
LITTLE_TOLD = "By the calibration, probabilities tell little; is the network mostly right?"
FILLERS = (-9999.0, -99999.0, -32768.0, -32767.0, float(np.finfo(np.float32).min))
SAMPLE = 10_000  # pixels of a tile that are looked at
# A remark is made
FAR = 0.2  # above this share of pixels beyond the training data's range, widened by half,
FLAT = 0.03  # where values spread less than this share of the training data's range,
ZERO = 0.01  # above this share of pixels that are 0 in every band of a source,
UNLIKE = 1.5  # where pixels are so many times as large as the training data's, or as small,
REMOTE = 10.0  # where a tile's values lie so many ranges of the training data away,
MANY = 100  # where they are so many times those of other tiles, or as small a part of them,
SCARCE = 0.05  # below this share of pixels with data,
SMALL = 0.05  # above this share of the area mapped in outlines too small to be kept,
GAP = 0.05  # where elevations but for 0 begin higher than this share of the highest,
STEEPEST = 90  # and where the second band of ``dem``, the slope, is more than degrees can be.


def unlike_training(pixels, scaling):
    """Say which bands of `units.sample` lie mostly outside of what the training data held.

    What may mean no data (see `no_data`) is left out.
    """
    remarks = []
    for source, values in pixels.items():
        values = np.where(np.isin(values, FILLERS), np.nan, values)
        if np.isnan(values).all(0).any():
            continue
        low, high = (np.array(scaling[source][key]) for key in ("low", "high"))
        scaled = (values - low) / (high - low)
        least, most = np.nanpercentile(values, (1, 99), axis=0)
        with np.errstate(invalid="ignore"):
            outside = ((scaled < -0.5) | (scaled > 1.5)).sum(0) / np.isfinite(scaled).sum(0)
        if (far := np.flatnonzero(outside > FAR)).size:
            remarks.append(
                f"{_bands(source, far)}: {_from_to(outside[far], '.0%')} of the pixels are far "
                f"from the training data's {_ranges(low[far], high[far])} (in this raster's "
                f"units); most are {_ranges(least[far], most[far])}. Other units, which a factor "
                "mends (or, where their zero is another, a scale and an offset in the raster), or "
                f"other ground?{_advice(source, far)}"
            )
        spread = (most - least) / (high - low)
        if (flat := np.flatnonzero((outside <= FAR) & (spread < FLAT))).size:
            remarks.append(
                f"{_bands(source, flat)}: values hardly vary, by {_from_to(spread[flat], '.2%')} "
                f"of the training data's {_ranges(low[flat], high[flat])} (in this raster's "
                f"units); other units?{_advice(source, flat)}"
            )
        if source == "dem" and len(high) > 1 and outside[1] <= FAR and high[1] <= STEEPEST:
            remarks += no_degrees(values)
    return remarks


def no_degrees(dem):
    """Say so where the second of the bands (n, band) of ``dem``, the slope, is in other units."""
    most = np.nanpercentile(dem, 99, axis=0)[1:2]
    return [
        f"dem band 2: values reach {value:.4g}; if it is slope, it is to be in degrees, in which "
        "map computes it where it is left out"
        for value in most
        if value > STEEPEST
    ]


def no_data(pixels, advice, units=None):
    """Say which sources, name -> pixels (n, band), may mean no data by a value, and what to do.

    By 0 in every band, or by one of `FILLERS` in any. Elevations may be 0 where there is the sea;
    in ``dem`` it is remarked if none other is low. Values are those before the scales and offsets
    in `units`, by source, were applied.
    """
    remarks = []
    for source, values in pixels.items():
        scales, offsets = (units or {}).get(source, ((1,), (0,)))
        as_read = {  # by band
            value: in_declared_units(np.full(len(scales), value), scales, offsets)
            for value in (0, *FILLERS)
        }
        shares = {value: (values == as_read[value]).any(1).mean() for value in FILLERS}
        zeros = (values == as_read[0]).all(1)
        if source == "dem":
            zeros = _far_from_others(values[:, 0], *(bands[0] for bands in as_read.values()))
        if (zero := zeros.mean()) > ZERO:
            shares[0] = zero
        remarks += [
            f"{source}: {_percent(share)} of the pixels are {value:g}; if that means no data, "
            f"{advice.format(source=source, value=value)}."
            for value, share in shares.items()
            if share
        ]
    return remarks


def _far_from_others(elevation, zero, *fillers):
    """Tell which elevations are zero, if the others, but for fillers, begin far above."""
    zeros = elevation == zero
    others = elevation[np.isfinite(elevation) & ~zeros & ~np.isin(elevation, fillers)]
    low, high = np.percentile(others - zero, (1, 99)) if len(others) else (0, 0)
    return zeros & (low > GAP * high)


def _advice(source, bands):
    slope = " Slope is to be in degrees; without it, it is computed."
    return slope if source == "dem" and 1 in bands else ""


def _percent(share):
    return f"{share:.0%}" if share >= 0.01 else f"{100 * share:.2g}%"


def unlike_each_other(source, tiles):
    """Say which tiles, name -> pixels (n, band) of a source, hold values of another magnitude.

    That is against the median tile. In the ``dem``, land low and high differs as much.
    """
    sizes = np.array([_magnitude(pixels) for pixels in tiles.values()])
    if np.isnan(sizes).all():
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.median(sizes / np.nanmedian(sizes, axis=0), axis=1)
    times = {name: ratio for name, ratio in zip(tiles, ratios, strict=True) if np.isfinite(ratio)}
    return [
        f"tile {name}: {source} is about {_times(ratio)} what it is in most tiles; other units?"
        for name, ratio in times.items()
        if source != "dem" and (ratio > MANY or 0 < ratio < 1 / MANY)
    ]


def _magnitude(pixels):
    """Return the 90th percentile of each band's absolute values, NaN where there are none."""
    pixels = np.abs(pixels[np.isfinite(pixels).all(1)])
    return np.percentile(pixels, 90, axis=0) if len(pixels) else np.full(pixels.shape[1], np.nan)


def _times(ratio):
    return f"{ratio:,.0f} times" if ratio > 1 else f"1/{1 / ratio:,.0f} of"


def far_from_split(arrays, scaling):
    """Say which sources (y, x, band) of a tile are far from what the training split holds."""
    remarks = []
    for source, array in arrays.items():
        pixels = evenly(array.reshape(-1, array.shape[-1]), SAMPLE, array.shape[1])
        pixels = pixels[np.isfinite(pixels).all(1)]
        low, high = (np.array(scaling[source][key]) for key in ("low", "high"))
        middle = (np.median(pixels, axis=0) - low) / (high - low) if len(pixels) else low * 0
        if (far := np.flatnonzero(np.abs(middle) > REMOTE)).size:
            remarks.append(
                f"{_bands(source, far)} lie{'s' * (len(far) == 1)} far from the range of the "
                "training split; other units?"
            )
    return remarks


def _bands(source, bands):
    return f"{source} band{'s' * (len(bands) > 1)} {_listed(str(band + 1) for band in bands)}"


def _ranges(low, high):
    return _listed(f"{a:.4g} to {b:.4g}" for a, b in zip(low, high, strict=True))


def _from_to(shares, form):
    least, most = format(min(shares), form), format(max(shares), form)
    return least if least == most else f"{least} to {most}"


def _listed(texts):
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def unlike_pixels(size, trained):
    """Say so where pixels, in metres, are much larger or smaller than those of the training."""
    if not size or not trained or 1 / UNLIKE < size / trained < UNLIKE:
        return []
    return [
        f"Pixels are {size:.3g} m wide, those of the training data {trained:.3g} m: the network "
        "sees glaciers of another size than it knows."
    ]


def many_small(record, min_area):
    """Say so where much of what is mapped is in outlines that are too small to be kept."""
    left_out = record["left_out_km2"]
    if left_out <= SMALL * (left_out + record["area_km2"]):
        return []
    return [
        f"{record['left_out']} outlines of less than {min_area:g} km2, {left_out:.3g} km2 in all, "
        "are left out of the outlines and of what is compared."
    ]


def mostly_empty(share_with_data):
    """Say so where hardly any pixel has data in all sources."""
    if share_with_data >= SCARCE:
        return []
    return [
        f"Only {share_with_data:.2%} of the pixels have data in all sources; do the rasters cover "
        "one place, and is what they declare as no data right?"
    ]
