"""Pictures of tiles, maps and trainings; `glavitu.charts` draws the scores.

Each function draws on given or new axes, returns them, and never shows.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch as Swatch
from matplotlib.patheffects import Normal, Stroke

from glavitu import band_ratio
from glavitu.charts import style, tidy
from glavitu.evaluation import read_prediction
from glavitu.exploration import band_name
from glavitu.report import title
from glavitu.tiles import UNLABELLED
from glavitu.units import pixel_size

TRUTH, MAPPED, MISS, FALSE_ALARM = "#FFFF00", "#FF00FF", "#E69F00", "#661100"
NO_LABEL = "#BBBBBB"


def false_colour(tile, source="optical"):
    """Return a tile's optical bands as an RGB image (y, x, 3) in 0..1, grey without label.

    SWIR1, NIR and red of six or five bands; the last three of four or three; otherwise the first.
    """
    if source not in tile:
        source = next(name for name in tile if name != "groundtruth" and tile[name].ndim == 3)
    values = tile[source].values
    image = stretch(np.where(values == 0, np.nan, values))  # 0 is the fill of missing data
    if "groundtruth" in tile:
        image[~tile["groundtruth"].values.any(-1)] = to_rgb(NO_LABEL)
    return image


def stretch(values, bands=None):
    """Return bands (y, x, band) as RGB between their 2nd and 98th percentile; NaN becomes 0.

    The bands of red, green and blue are counted from 1, by default those of `false_colour`.
    """
    false = {6: (5, 4, 3), 5: (5, 4, 3), 4: (4, 3, 2), 3: (3, 2, 1)}
    order = bands or false.get(values.shape[2], (1, 1, 1))
    image = values[..., [band - 1 for band in order]].astype(np.float32)
    if not np.isfinite(image).any():
        return np.zeros_like(image)
    low, high = np.nanpercentile(image, (2, 98), axis=(0, 1))
    return np.nan_to_num(np.clip((image - low) / np.maximum(high - low, 1e-6), 0, 1))


def plot_tiles(tiles, names, sources=None):
    """Draw tiles, one row each: false colour with the outline, then each source's first band.

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
        row[0].imshow(false_colour(tile))
        _outline(row[0], label[..., 1], TRUTH)
        _scale_bar(row[0], _pixel(tile))
        row[0].set_ylabel(name)
        for ax, source in zip(row[1:], sources, strict=True):
            band = np.ma.masked_where(~label.any(-1), tile[source].values[..., 0])
            image = ax.imshow(band, cmap="cividis")
            ax.set_facecolor(NO_LABEL)
            ax.figure.colorbar(image, ax=ax, label="scaled value", shrink=0.85)
    headings = [band_name(source, 1, tile[source].shape[2]) for source in sources]
    for ax, heading in zip(axes[0], ["false colour, outline", *headings], strict=True):
        ax.set_title(heading)
    return _bare(axes.ravel())


def plot_training_curves(logs, axes=None):
    """Draw training and validation loss, and validation IoU, against the epoch."""
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, log in logs.items():
        epochs, colour = log["epoch"] + 1, style(name)["color"]
        axes[0].plot(epochs, log["loss"], color=colour, ls=":")
        axes[0].plot(epochs, log["val_loss"], color=colour, marker=style(name)["marker"], ms=4)
        axes[1].plot(
            epochs,
            log["val_output_iou_1"],
            color=colour,
            marker=style(name)["marker"],
            ms=4,
            label=title(name),
        )
    axes[0].set(xlabel="epoch", ylabel="focal loss (sum over heads)", yscale="log")
    axes[0].legend(
        handles=[
            Line2D([], [], color="grey", ls=":", label="training"),
            Line2D([], [], color="grey", marker="o", ms=4, label="validation"),
        ]
    )
    axes[1].set(xlabel="epoch", ylabel="validation IoU (mean over patches)", ylim=(0, 1))
    axes[1].legend()
    for ax in axes:
        ax.xaxis.get_major_locator().set_params(integer=True)
        tidy(ax)
    return axes


def plot_maps(tile, predictions, axes=None):
    """Draw a tile in false colour, then each prediction over it: outlines and what is wrong.

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
    image = false_colour(tile)[rows : rows + truth.shape[0], cols : cols + truth.shape[1]]
    axes[0].imshow(image)
    _outline(axes[0], truth == 1, TRUTH)
    axes[0].set_title(f"{tile.attrs['tile']}")
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
    legend = {"loc": "outside lower center", "ncols": len(handles), "frameon": False}
    axes[0].figure.legend(handles=handles, **legend)
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
        figsize=(2.2 * columns, 2.35 * len(names) + 0.3),
        layout="constrained",
        squeeze=False,
    )
    for row, name in zip(axes, names, strict=True):
        plot_maps(
            tiles[name], {m: read_prediction(folder / m / f"{name}.nc") for m in methods}, row
        )
    for row, name in zip(axes, names, strict=True):
        row[0].set(title="false colour, outline" if name == names[0] else "", ylabel=name)
    for ax in axes[1:, 1:].flat:
        ax.set_title("")
    for legend in axes[0, 0].figure.legends[1:]:
        legend.remove()
    return axes


def plot_histograms(histograms, axes=None):
    """Draw the distribution of each band for both classes, from a table of `band_histograms`."""
    bands = list(histograms.groupby(["source", "band"], sort=False))
    if axes is None:
        columns = min(5, len(bands))
        rows = -(-len(bands) // columns)
        _, axes = plt.subplots(
            rows, columns, figsize=(2.2 * columns, 1.9 * rows), layout="constrained", squeeze=False
        )
    axes = np.ravel(axes)
    counts = histograms.groupby("source")["band"].max()
    for ax, ((source, band), table) in zip(axes, bands, strict=False):
        for label, colour in (("background", "#E69F00"), ("glacier", "#0072B2")):
            ax.stairs(
                table[label], [*table["from"], table["to"].iloc[-1]], color=colour, label=label
            )
        ax.set(title=band_name(source, band, counts[source]), yticks=[])
    for ax in axes[len(bands) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    axes[0].figure.supxlabel("scaled value")
    axes[0].figure.supylabel("share of pixels")
    return axes


def _outline(ax, glacier, colour):
    if glacier.any() and not glacier.all():
        ax.contour(glacier.astype(float), levels=[0.5], colors=colour, linewidths=0.8)


def _pixel(tile):
    """Return the size of a tile's pixels in metres, None where it is not known."""
    if "x" in tile.coords and "spatial_ref" in tile.coords and tile.rio.crs.is_projected:
        return pixel_size([float(tile["x"][1] - tile["x"][0])], tile.rio.crs)
    return None


def _scale_bar(ax, unit):
    """Draw a length of whole kilometres, about a fifth of the width, where the unit of x is known.

    `unit` is in metres.
    """
    if unit is None:
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
    image, probability, outlines, reference=None, extent=None, *, title="false colour", axes=None
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
        What the colours show.
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
    shown = axes[1].imshow(probability, extent=extent, cmap="cividis", vmin=0, vmax=1)
    axes[1].set_title("probability of glacier (white: no data)")
    axes[1].figure.colorbar(shown, ax=axes[1], shrink=0.8)
    axes[0].set(xlabel="", ylabel="")  # geopandas names the axes of the CRS
    if extent and outlines.crs is not None and outlines.crs.is_projected:
        _scale_bar(axes[0], outlines.crs.axis_info[0].unit_conversion_factor)
    return _bare(axes)
