"""Pictures of tiles and maps; `glavitu.charts` draws numbers.

Each function draws on given or new axes, returns them, and never shows.
"""

import matplotlib.pyplot as plt
import numpy as np
from affine import Affine
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch as Swatch
from matplotlib.patheffects import Normal, Stroke

from glavitu import band_ratio
from glavitu.bands import colours_of, in_words
from glavitu.evaluation import read_prediction
from glavitu.grids import Grid, cell_sizes, pixel_size
from glavitu.report import title
from glavitu.tiles import UNLABELLED

TRUTH, MAPPED, MISS, FALSE_ALARM = "#FFFF00", "#FF00FF", "#E69F00", "#661100"
NO_LABEL = "#BBBBBB"


def shown(tile):
    """Return a tile's optical bands as an RGB image (y, x, 3) in 0..1, and what they are called.

    The image is grey without label. A tile without ``optical`` is shown by its first source.
    """
    source, bands, words = _chosen(tile)
    values = tile[source].values
    image = stretch(np.where(values == 0, np.nan, values), bands)  # 0 is the fill of missing data
    if "groundtruth" in tile:
        image[~tile["groundtruth"].values.any(-1)] = to_rgb(NO_LABEL)
    return image, words


def _chosen(tile):
    """Return the source that shows a tile, the numbers of its bands, and what they are called."""
    arrays = (name for name in tile if name != "groundtruth" and tile[name].ndim == 3)
    source = "optical" if "optical" in tile else next(arrays)
    names = tile[f"{source}_band"].values.tolist()
    bands = colours_of(names)
    return source, bands, in_words(names, bands)


def stretch(values, bands):
    """Return bands (y, x, band) as RGB between their 2nd and 98th percentile; NaN becomes 0.

    `bands` are the numbers of those for red, green and blue, from 1.
    """
    image = values[..., [band - 1 for band in bands]].astype(np.float32)
    if not np.isfinite(image).any():
        return np.zeros_like(image)
    low, high = np.nanpercentile(image, (2, 98), axis=(0, 1))
    return np.nan_to_num(np.clip((image - low) / np.maximum(high - low, 1e-6), 0, 1))


def plot_tiles(tiles, names, sources=None):
    """Draw tiles, one row each: in colour with the outline, then each source's first band.

    The sources are those given, which each tile must have; by default all that the file has.
    """
    sources = [source for source in sources or tiles.sources if source != "optical"]
    columns = len(sources) + 1
    _, axes = plt.subplots(
        len(names),
        columns,
        figsize=(3.1 * columns, 2.7 * len(names)),
        layout="constrained",
        squeeze=False,
    )
    for row, name in zip(axes, names, strict=True):
        tile = tiles[name]
        label = tile["groundtruth"].values
        row[0].imshow(shown(tile)[0])
        _outline(row[0], label[..., 1], TRUTH)
        _scale_bar(row[0], _pixel(tile))
        row[0].set_ylabel(name)
        for ax, source in zip(row[1:], sources, strict=True):
            band = np.ma.masked_where(~label.any(-1), tile[source].values[..., 0])
            image = ax.imshow(band, cmap="cividis")
            ax.set_facecolor(NO_LABEL)
            ax.figure.colorbar(image, ax=ax, label="scaled value", shrink=0.85)
    headings = [f"{source} {tiles.band_names[source][0]}" for source in sources]
    colours = _chosen(tiles[names[0]])[2]
    for ax, heading in zip(axes[0], [f"{colours}, outline", *headings], strict=True):
        ax.set_title(heading)
    return _bare(axes.ravel())


def plot_maps(tile, predictions, axes=None):
    """Draw a tile in colour, then each prediction over it: outlines and what is wrong.

    Parameters
    ----------
    tile : xarray.Dataset
        A tile of `open_tiles`.
    predictions : dict of str to xarray.Dataset
        Method -> prediction of that tile.
    axes : array of matplotlib.axes.Axes, optional
        One for the tile and one per prediction.
    """
    columns = len(predictions) + 1
    if axes is None:
        _, axes = plt.subplots(1, columns, figsize=(2.6 * columns, 3.1), layout="constrained")
    truth = next(iter(predictions.values()))["groundtruth"].values
    rows, cols = tile.attrs["padding_height"], tile.attrs["padding_width"]
    image = shown(tile)[0][rows : rows + truth.shape[0], cols : cols + truth.shape[1]]
    axes[0].imshow(image)
    _outline(axes[0], truth == 1, TRUTH)
    axes[0].set_title(f"{tile.attrs['tile']}\n{_chosen(tile)[2]}")
    for ax, (method, prediction) in zip(axes[1:], predictions.items(), strict=True):
        mapped = prediction["glacier"].values == 1
        shaded = image.mean(-1, keepdims=True).repeat(3, -1) * 0.6 + 0.3
        for colour, where in ((MISS, (truth == 1) & ~mapped), (FALSE_ALARM, (truth == 0) & mapped)):
            shaded[where] = to_rgb(colour)
        ax.imshow(shaded)
        _outline(ax, truth == 1, TRUTH)
        if method != band_ratio.NAME:  # whose speckle would hide what is under its outlines
            _outline(ax, mapped, MAPPED)
        ax.set_title(title(method))
    lines = {"true outline": TRUTH, "mapped outline": MAPPED}
    handles = [Line2D([], [], color=colour, label=label) for label, colour in lines.items()]
    swatches = {"missed": MISS, "false alarm": FALSE_ALARM}
    if (truth == UNLABELLED).any():
        swatches["no label"] = NO_LABEL
    handles += [Swatch(color=colour, label=label) for label, colour in swatches.items()]
    legend = {"loc": "outside lower center", "ncols": len(handles) if columns > 2 else 2}
    axes[0].figure.legend(handles=handles, frameon=False, **legend)
    _scale_bar(axes[0], _pixel(tile))
    return _bare(axes)


def plot_map_grid(tiles, names, folder, methods):
    """Draw `plot_maps` for several tiles, one row each.

    Parameters
    ----------
    tiles : Tiles
        The test tiles.
    names : list of str
        The tiles to draw.
    folder : Path
        Folder with the predictions, ``METHOD/TILE.nc``.
    methods : list of str
        Whose predictions to draw.
    """
    columns = len(methods) + 1
    _, axes = plt.subplots(
        len(names),
        columns,
        figsize=(2.2 * max(columns, 2.6), 2.35 * len(names) + 0.3),
        layout="constrained",
        squeeze=False,
    )
    for row, name in zip(axes, names, strict=True):
        predictions = {m: read_prediction(folder / m / f"{name}.nc") for m in methods}
        plot_maps(tiles[name], predictions, row)
        row[0].set(title="", ylabel=name)
    axes[0, 0].set_title(f"{_chosen(tiles[names[0]])[2]}, outline")
    for ax in axes[1:, 1:].flat:
        ax.set_title("")
    for legend in axes[0, 0].figure.legends[1:]:
        legend.remove()
    return axes


def _outline(ax, glacier, colour):
    if glacier.any() and not glacier.all():
        ax.contour(glacier.astype(float), levels=[0.5], colors=colour, linewidths=0.8)


def _pixel(tile):
    """Return the size of a tile's pixels in metres, None where it is not known."""
    if "x" not in tile.coords or "spatial_ref" not in tile.coords:
        return None
    return pixel_size(Grid(tile.rio.crs, tile.rio.transform(), (tile.sizes["y"], tile.sizes["x"])))


def _scale_bar(ax, unit):
    """Draw a length of whole kilometres, about a fifth of the width.

    `unit` is what one step in x is in metres, None where that is not known.
    """
    if unit is None or not np.isfinite(unit):
        return
    left, right = ax.get_xlim()
    width = abs(right - left) * unit / 1000
    length = max(1, round(width / 5))
    if length > 0.8 * width:
        return
    ends = left + 0.05 * (right - left), left + (0.05 + length / width) * (right - left)
    where = {"transform": ax.get_xaxis_transform()}
    dark = [Stroke(linewidth=5, foreground="black"), Normal()]
    ax.plot(ends, [0.95, 0.95], color="white", lw=3, path_effects=dark, **where)
    dark = [Stroke(linewidth=2, foreground="black"), Normal()]
    style = {"color": "white", "va": "top", "fontsize": "small", "path_effects": dark}
    ax.text(ends[0], 0.92, f"{length} km", **style, **where)


def _bare(axes):
    for ax in np.atleast_1d(axes):
        ax.set(xticks=[], yticks=[])
    return axes


def plot_quicklook(
    image, probability, outlines, reference=None, extent=None, *, title="", axes=None
):
    """Draw a scene in colour with outlines, and the probability of glacier.

    Parameters
    ----------
    image : numpy.ndarray
        RGB (y, x, 3), as of `stretch`.
    probability : numpy.ndarray
        (y, x), NaN without data.
    outlines, reference : geopandas.GeoDataFrame
        What was mapped and, if there is any, what it is compared with; in the CRS of `extent`.
    extent : (float, float, float, float), optional
        Left, right, bottom and top of the picture, in units of the CRS.
    title : str
        What the colours show, such as "SWIR1, NIR, red".
    """
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    axes[0].imshow(image, extent=extent)
    drawn = {"mapped outlines": (outlines, MAPPED), "reference": (reference, TRUTH)}
    drawn = {label: pair for label, pair in drawn.items() if pair[0] is not None and len(pair[0])}
    for frame, colour in reversed(drawn.values()):
        frame.boundary.plot(ax=axes[0], color=colour, lw=0.8, aspect=None)
    handles = [Line2D([], [], color=colour, label=label) for label, (_, colour) in drawn.items()]
    axes[0].legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2)
    axes[0].set(title=title, xlim=extent and extent[:2], ylim=extent and extent[2:])
    raster = axes[1].imshow(probability, extent=extent, cmap="cividis", vmin=0, vmax=1)
    axes[1].set_title("probability of glacier (white: no data)")
    axes[1].figure.colorbar(raster, ax=axes[1], shrink=0.8)
    axes[0].set(xlabel="", ylabel="")  # geopandas names the axes of the CRS
    if extent and outlines.crs is not None:
        left, right, bottom, top = extent
        whole = Grid(outlines.crs, Affine(right - left, 0, left, 0, bottom - top, top), (1, 1))
        _scale_bar(axes[0], cell_sizes(whole, 0.5, 0.5)[1, 0] / (right - left))
    return _bare(axes)
