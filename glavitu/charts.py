"""Charts of trainings, scores and data.

Each function draws on given or new axes, returns them, and never shows.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from glavitu import band_ratio
from glavitu.report import title

# Okabe and Ito's palette, told apart with colour-vision deficiencies too.
STYLES = {
    "setr": ("#E69F00", "s"),
    "resunet": ("#56B4E9", "^"),
    "transunet": ("#009E73", "D"),
    "glavitu": ("#D55E00", "o"),
    "deeplabv3plus": ("#0072B2", "v"),
    "segformer": ("#CC79A7", "P"),
    band_ratio.NAME: ("#444444", "x"),
    "before": ("#E69F00", "s"),
    "after": ("#0072B2", "o"),
}
# Which part of a marker is filled for a choice of sources; none for optical bands alone.
FILLS = {"dem optical": "bottom", "optical sar": "top", "dem": "left", "sar": "right"}


def style(method):
    """Return colour and marker of a method; of fewer sources it is hollow, or filled in part.

    That tells apart most choices of the published sources; other ones are hollow.
    """
    architecture, *sources = method.split(" ")
    colour, marker = STYLES.get(architecture, ("#777777", "o"))
    looks = {"color": colour, "marker": marker}
    if not sources:
        return looks
    fill = FILLS.get(" ".join(sorted(sources)), "none")
    if fill == "none":
        return looks | {"markerfacecolor": "white"}
    return looks | {"markerfacecoloralt": "white", "fillstyle": fill}


def tidy(ax, axis="both"):
    """Give axes a light grid and no box."""
    ax.grid(axis=axis, alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_histograms(histograms, axes=None):
    """Draw the distribution of each band for both classes, from a table of `band_histograms`."""
    bands = list(histograms.groupby("name", sort=False))
    if axes is None:
        columns = min(5, len(bands))
        rows = -(-len(bands) // columns)
        _, axes = plt.subplots(
            rows, columns, figsize=(2.2 * columns, 1.9 * rows), layout="constrained", squeeze=False
        )
    axes = np.ravel(axes)
    for ax, (name, table) in zip(axes, bands, strict=False):
        for label, colour in (("background", "#E69F00"), ("glacier", "#0072B2")):
            ax.stairs(
                table[label], [*table["from"], table["to"].iloc[-1]], color=colour, label=label
            )
        ax.set(title=name, yticks=[])
    for ax in axes[len(bands) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    axes[0].figure.supxlabel("scaled value")
    axes[0].figure.supylabel("share of pixels")
    return axes


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


def plot_iou_by_region(regions, seen=None, ax=None):
    """Draw IoU per region with its interval, one marker per method.

    Parameters
    ----------
    regions : pandas.DataFrame
        As of `glavitu.comparison.by_region`.
    seen : set of str, optional
        The regions that were trained on; the others are marked.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(10, 4), layout="constrained")
    methods = list(dict.fromkeys(regions["method"]))
    names = sorted(set(regions["region"]), key=lambda n: (seen is not None and n not in seen, n))
    _side_by_side(ax, regions, "region", names, width=0.8)
    ax.set(ylabel="IoU of the class glacier", xlabel="region (bars: 95 % intervals)")
    ax.set(ylim=(0, 1), xlim=(-0.5, len(names) - 0.5))
    unseen = [name for name in names if seen is not None and name not in seen]
    ax.set_xticks(range(len(names)), [f"{n}\n(unseen)" if n in unseen else n for n in names])
    if 0 < len(unseen) < len(names):
        ax.axvspan(len(names) - len(unseen) - 0.5, len(names) - 0.5, color="#EEEEEE", zorder=0)
    ax.legend(
        ncols=min(len(methods), 5), loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False
    )
    return tidy(ax, axis="y")


def plot_differences(differences, reference, ax=None):
    """Draw each method's mean IoU less that of the reference, with its paired interval."""
    if ax is None:
        height = 1 + 0.35 * len(differences)
        _, ax = plt.subplots(figsize=(6.4, height), layout="constrained")
    order = differences.sort_values("difference", ignore_index=True)
    for y, row in enumerate(order.to_dict("records")):
        error = [[row["difference"] - row["low"]], [row["high"] - row["difference"]]]
        ax.errorbar(row["difference"], y, xerr=error, capsize=3, **style(row["method"]))
    ax.axvline(0, color="black", lw=0.8)
    ax.set_yticks(range(len(order)), order["method"].map(title))
    ax.set(xlabel=f"mean IoU less that of {title(reference)} (bar: 95 % interval)")
    ax.margins(y=0.15)
    return tidy(ax, axis="x")


def plot_costs(networks, axes=None):
    """Draw mean IoU against the number of parameters and against prediction time per patch."""
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    table = networks.dropna(subset=["parameters"])
    table = table.assign(milliseconds=table["seconds per patch"] * 1000)
    columns = {"parameters": "parameters", "milliseconds": "prediction time per patch (ms)"}
    for ax, (column, label) in zip(axes, columns.items(), strict=True):
        for row in table.to_dict("records"):
            error = [[row["mean IoU"] - row["low"]], [row["high"] - row["mean IoU"]]]
            ax.errorbar(
                row[column],
                row["mean IoU"],
                yerr=error,
                capsize=3,
                label=row["network"],
                **style(row["method"]),
            )
        ax.set(xscale="log", xlabel=label)
        decade = table[column].max() > 10 * table[column].min()
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if decade else MaxNLocator(4))
        ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.15)
        tidy(ax)
    axes[0].set_ylabel("mean IoU over regions (bar: 95 %)")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return axes


def plot_groups(table, column, ax=None):
    """Draw IoU with interval by the values of a column, one marker per method."""
    values = list(dict.fromkeys(table[column]))
    if ax is None:
        _, ax = plt.subplots(figsize=(2.2 + 1.9 * len(values), 3.6), layout="constrained")
    _side_by_side(ax, table, column, values, width=0.7)
    ax.set(ylabel="IoU (bars: 95 % intervals)", ylim=(-0.02, 1))
    ax.set_xticks(range(len(values)), values)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return tidy(ax, axis="y")


def plot_errors_by_surface(surfaces, ax=None):
    """Draw the share of pixels mapped wrongly, a row per method and a column per surface."""
    table = surfaces.set_index("method")
    if ax is None:
        _, ax = plt.subplots(figsize=(9, 1.4 + 0.36 * len(table)), layout="constrained")
    image = ax.imshow(table, cmap="magma_r", vmin=0, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(table.to_numpy()):
        colour = "white" if value > 0.5 else "black"
        ax.text(x, y, f"{value:.1%}", ha="center", va="center", color=colour, fontsize="small")
    names = [name.replace("-", "-\n").replace(" ", "\n") for name in table.columns]
    ax.set_xticks(range(table.shape[1]), names)
    ax.set_yticks(range(len(table)), [title(method) for method in table.index])
    ax.figure.colorbar(image, ax=ax, label="mapped wrongly", format=PercentFormatter(1))
    return ax


def plot_reliability(calibration, ax=None):
    """Draw the share of glacier against the predicted probability, one line per method.

    Bins with less than a ten-thousandth of the pixels are left out: their shares are chance.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    ax.plot([0, 1], [0, 1], color="grey", lw=1, ls="--")
    for method, table in calibration.groupby("method", sort=False):
        table = table[table["pixels"] > 1e-4 * table["pixels"].sum()]
        label = f"{title(method)}: {table['error'].iloc[0]:.3f}"
        ax.plot(table["probability"], table["share"], ms=4, label=label, **style(method))
    ax.set(xlabel="predicted probability of glacier", ylabel="share of pixels that are glacier")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.legend(title="expected calibration error", loc="upper left", frameon=False)
    return tidy(ax)


def plot_areas(glaciers, ax=None):
    """Draw mapped against reference area per glacier, from the table ``comparison.csv`` of a map.

    What is not mapped at all lies on the lower edge.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(4.4, 4), layout="constrained")
    areas = glaciers[["reference_km2", "mapped_km2"]]
    least = areas.where(areas > 0).min().min() / 2
    ends = [least, 2 * areas.max().max()]
    ax.plot(ends, ends, color="grey", lw=1, ls="--")
    ax.plot(*areas.clip(lower=least).to_numpy().T, "o", color="#0072B2", alpha=0.7)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ax.set(xlabel="area in the reference (km2)", ylabel="area mapped (km2)")
    return tidy(ax)


def _side_by_side(ax, table, column, values, width):
    """Draw IoU with interval at each of the values of a column, one method beside the other."""
    methods = list(dict.fromkeys(table["method"]))
    for i, method in enumerate(methods):
        rows = table[table["method"] == method].set_index(column).loc[values]
        x = np.arange(len(values)) + (i - (len(methods) - 1) / 2) * width / len(methods)
        error = np.abs([rows["IoU"] - rows["low"], rows["high"] - rows["IoU"]])
        look = {"ls": "", "ms": 5, "lw": 1, "capsize": 0, "label": title(method)}
        ax.errorbar(x, rows["IoU"], yerr=error, **look, **style(method))
