"""What a set of tiles holds: counts by region and the distribution of each band by class."""

import numpy as np
import pandas as pd

from glavitu.errors import InputError
from glavitu.progress import progress
from glavitu.surfaces import SURFACE, SURFACES, UNKNOWN
from glavitu.units import evenly

SAMPLE = 20_000  # pixels per tile that a histogram is made of


def count_tiles(tiles):
    """Return a row per tile: region, and its pixels, labelled pixels and glacier pixels."""
    rows = []
    for name in progress(tiles, description="count"):
        label = tiles.read(name, "groundtruth")
        rows.append(
            {
                "tile": name,
                "region": tiles.region(name),
                "pixels": label.shape[0] * label.shape[1],
                "labelled": int(label.any(-1).sum()),
                "glacier": int((label[..., 1] > 0.5).sum()),
            }
        )
    return pd.DataFrame(rows)


def surface_shares(tiles):
    """Return the share of pixels of each surface; empty where the tiles do not say.

    The surfaces are those of `glavitu.surfaces.SURFACES`, whatever the sky.
    """
    codes = [tiles.read(name, SURFACE).ravel() for name in tiles if tiles.has(name, SURFACE)]
    if not codes:
        return pd.Series(dtype=float)
    counts = np.bincount(np.concatenate(codes), minlength=256)
    known = pd.Series({name: counts[code:UNKNOWN:10].sum() for name, code in SURFACES.items()})
    return known / known.sum() if known.any() else pd.Series(dtype=float)


def band_histograms(tiles, sources=None, *, bins=40):
    """Return the distribution of each band for both classes.

    Parameters
    ----------
    tiles : Tiles
        Tiles to sample, evenly, `SAMPLE` pixels each.
    sources : dict of str to int, optional
        Source -> bands, of every tile; by default all that the file has.
    bins : int
        Bins between the 1st and the 99th percentile of a band.

    Returns
    -------
    pandas.DataFrame
        Columns source, band (from 1), name (such as ``optical NIR``), from, to (scaled value),
        background and glacier (shares of the pixels of each class in the band; values beyond the
        range are in the outer bins).

    Raises
    ------
    InputError
        If no pixel is labelled.
    """
    sources = sources or tiles.sources
    pixels = [_sample(tiles, name, sources) for name in progress(tiles, description="histograms")]
    glacier = np.concatenate([labels for _, labels in pixels])
    if not len(glacier):
        raise InputError(f"{tiles.path} has no labelled pixel, whose bands could be counted")
    tables = []
    for source, bands in sources.items():
        values = np.concatenate([arrays[source] for arrays, _ in pixels])
        for band in range(bands):
            table = _histogram(values[:, band], glacier, bins)
            name = f"{source} {tiles.band_names[source][band]}"
            tables.append(table.assign(source=source, band=band + 1, name=name))
    return pd.concat(tables, ignore_index=True)


def _sample(tiles, name, sources):
    """Return values (n, band) by source and the label (n,) of evenly spread labelled pixels."""
    width, label = tiles.shape(name)[1], tiles.read(name, "groundtruth").reshape(-1, 2)
    chosen = np.flatnonzero(label.any(-1))
    chosen = evenly(chosen, SAMPLE, width)
    arrays = {
        source: tiles.read(name, source).reshape(-1, bands)[chosen]
        for source, bands in sources.items()
    }
    return arrays, label[chosen, 1] > 0.5


def _histogram(values, glacier, bins):
    low, high = np.percentile(values, (1, 99))
    edges = np.linspace(low, max(high, low + 1e-6), bins + 1)
    values = np.clip(values, edges[0], edges[-1])
    shares = {
        name: np.histogram(values[chosen], edges)[0] / max(1, chosen.sum())
        for name, chosen in (("background", ~glacier), ("glacier", glacier))
    }
    return pd.DataFrame({"from": edges[:-1], "to": edges[1:], **shares})
