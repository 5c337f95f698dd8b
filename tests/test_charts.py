import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from shapely import box

from glavitu import band_ratio, charts, plots
from glavitu.bands import PUBLISHED_BANDS, colours_of, in_words


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(labels):
    return [label.get_text() for label in labels]


def scored(**columns):
    """Return a table of IoU .5 and .75 with intervals, a row of two methods per value."""
    ((column, values),) = columns.items()
    rows = [
        {"method": method, column: value, "IoU": iou, "low": iou - 0.1, "high": iou + 0.1}
        for method, iou in (("glavitu", 0.5), ("setr", 0.75))
        for value in values
    ]
    return pd.DataFrame(rows)


def test_regions_never_trained_on_come_last_and_are_marked():
    ax = charts.plot_iou_by_region(scored(region=["NZ", "ALP", "CA"]), seen={"ALP", "CA"})
    assert texts(ax.get_xticklabels()) == ["ALP", "CA", "NZ\n(unseen)"]
    assert texts(ax.get_legend().get_texts()) == ["GlaViTU", "SETR"]
    # two methods share 0.8 of a region: 0.2 to the left and to the right of its middle
    points = [container[0].get_xydata() for container in ax.containers]
    assert np.allclose(points[0], [[-0.2, 0.5], [0.8, 0.5], [1.8, 0.5]])
    assert np.allclose(points[1], [[0.2, 0.75], [1.2, 0.75], [2.2, 0.75]])
    (grey,) = ax.patches
    assert (grey.get_x(), grey.get_width()) == (1.5, 1)


def test_nothing_is_marked_where_what_was_trained_on_is_not_known():
    ax = charts.plot_iou_by_region(scored(region=["ALP", "CA"]))
    assert texts(ax.get_xticklabels()) == ["ALP", "CA"] and not ax.patches


def test_differences_are_drawn_in_their_order_with_intervals():
    table = pd.DataFrame(
        {
            "method": ["resunet", "setr"],
            "difference": [0.02, -0.1],
            "low": [-0.01, -0.2],
            "high": [0.03, -0.05],
        }
    )
    ax = charts.plot_differences(table, "glavitu")
    assert texts(ax.get_yticklabels()) == ["SETR", "ResU-Net"]
    assert ax.get_xlabel() == "mean IoU less that of GlaViTU (bar: 95 % interval)"
    (bar,) = ax.containers[1][2]  # of ResU-Net
    assert np.allclose(bar.get_segments()[0], [[-0.01, 1], [0.03, 1]])


def test_costs_are_drawn_of_what_has_parameters_in_milliseconds():
    table = pd.DataFrame(
        {
            "network": ["GlaViTU", "Band ratio"],
            "method": ["glavitu", band_ratio.NAME],
            "mean IoU": [0.9, 0.6],
            "low": [0.8, 0.5],
            "high": [0.95, 0.7],
            "parameters": [1000, np.nan],
            "seconds per patch": [0.02, np.nan],
        }
    )
    left, right = charts.plot_costs(table)
    assert [container[0].get_xydata().tolist() for container in left.containers] == [[[1000, 0.9]]]
    assert [container[0].get_xydata().tolist() for container in right.containers] == [[[20, 0.9]]]
    assert texts(right.get_legend().get_texts()) == ["GlaViTU"]


def test_groups_stand_beside_each_other_in_the_order_of_the_table():
    ax = charts.plot_groups(scored(where=["seen", "unseen"]), "where")
    assert texts(ax.get_xticklabels()) == ["seen", "unseen"]
    # two methods share 0.7 of a group
    assert np.allclose(ax.containers[0][0].get_xdata(), [-0.175, 0.825])
    assert np.allclose(ax.containers[1][0].get_ydata(), 0.75)


def test_errors_by_surface_are_written_in_colours_that_can_be_read():
    table = pd.DataFrame({"method": ["glavitu"], "clean ice": [0.034], "debris-covered": [0.9]})
    ax = charts.plot_errors_by_surface(table)
    assert texts(ax.texts) == ["3.4%", "90.0%"]
    assert [text.get_color() for text in ax.texts] == ["black", "white"]
    assert texts(ax.get_xticklabels()) == ["clean\nice", "debris-\ncovered"]
    assert texts(ax.get_yticklabels()) == ["GlaViTU"]


def test_methods_are_told_apart_and_fewer_sources_are_hollow():
    styles = [charts.style(method) for method in charts.STYLES if method not in ("before", "after")]
    assert len({(s["color"], s["marker"]) for s in styles}) == len(styles)
    fewer = charts.style("glavitu optical")
    assert fewer == charts.style("glavitu") | {"markerfacecolor": "white"}
    choices = ("", " optical", " dem", " sar", " optical dem", " optical sar")
    assert len({str(charts.style(f"glavitu{choice}")) for choice in choices}) == 6


def test_training_curves_count_epochs_from_one():
    log = pd.DataFrame(
        {"epoch": [0, 1], "loss": [2, 1], "val_loss": [3, 2], "val_output_iou_1": [0.25, 0.5]}
    )
    losses, scores = charts.plot_training_curves({"glavitu": log})
    training, validation = losses.lines
    assert training.get_xydata().tolist() == [[1, 2], [2, 1]]
    assert validation.get_xydata().tolist() == [[1, 3], [2, 2]]
    assert scores.lines[0].get_xydata().tolist() == [[1, 0.25], [2, 0.5]]
    assert texts(scores.get_legend().get_texts()) == ["GlaViTU"]


def test_pictures_are_grey_without_label_and_dark_without_data():
    optical = np.arange(1, 2 * 3 * 6 + 1, dtype=np.float32).reshape(2, 3, 6)
    optical[0, 0] = 0
    label = np.zeros((2, 3, 2), np.float32)
    label[..., 0] = 1
    label[1, 2] = 0
    tile = xr.Dataset(
        {
            "optical": (("y", "x", "optical_band"), optical),
            "groundtruth": (("y", "x", "class"), label),
        },
        coords={"optical_band": list(PUBLISHED_BANDS["optical"])},
    )
    image, words = plots.shown(tile)
    assert words == "SWIR1, NIR, red"
    assert image.shape == (2, 3, 3)
    assert np.allclose(image[1, 2], to_rgb(plots.NO_LABEL))
    assert (image[0, 0] == 0).all() and image[1, 1].min() > 0.5


@pytest.mark.parametrize(
    "names, colours",
    [
        (["blue", "green", "red", "NIR", "SWIR1", "SWIR2"], "SWIR1, NIR, red"),
        (["red", "NIR", "SWIR1"], "SWIR1, NIR, red"),
        (["red", "green", "blue", "NIR"], "NIR, red, green"),
        (["red", "green", "blue"], "red, green, blue"),
        (["band 1", "band 2", "band 3", "band 4"], "band 4, band 3, band 2"),
        (["VV"], "VV"),
    ],
)
def test_bands_are_shown_by_name(names, colours):
    assert in_words(names, colours_of(names)) == colours


def test_maps_show_what_is_missed_and_what_is_a_false_alarm():
    truth, mapped = np.zeros((2, 8, 8), np.uint8)
    truth[2:6, 2:6] = 1
    mapped[2:6, 4:8] = 1  # two columns missed, two of false alarms
    tile = xr.Dataset(
        {
            "optical": (("y", "x", "optical_band"), np.ones((8, 8, 6), np.float32)),
            "groundtruth": (("y", "x", "class"), np.eye(2, dtype=np.float32)[truth]),
        },
        coords={"optical_band": list(PUBLISHED_BANDS["optical"])},
        attrs={"tile": "A-0", "padding_height": 0, "padding_width": 0},
    )
    prediction = xr.Dataset({"glacier": (("y", "x"), mapped), "groundtruth": (("y", "x"), truth)})
    axes = plots.plot_maps(tile, {"glavitu": prediction})
    assert texts([axes[0].title, axes[1].title]) == ["A-0\nSWIR1, NIR, red", "GlaViTU"]
    shown = [image.get_array() for image in axes[1].images]
    colours = [to_rgb(plots.MISS), to_rgb(plots.FALSE_ALARM)]
    for colour, row, column in zip(colours, (3, 3), (2, 7), strict=True):
        assert any(np.allclose(a[row, column][:3], colour, atol=0.02) for a in shown if a.ndim == 3)


def test_areas_of_glaciers_that_are_not_mapped_lie_on_the_edge():
    areas = pd.DataFrame({"reference_km2": [1, 4, 0.5], "mapped_km2": [2, 3, 0]})
    ax = charts.plot_areas(areas)
    points = ax.lines[1].get_xydata()
    assert np.allclose(points, [[1, 2], [4, 3], [0.5, 0.25]])
    assert ax.get_xlim() == ax.get_ylim() == (0.25, 8)


def test_pictures_of_scenes_have_a_scale_bar_of_metres_on_the_ground():
    north = 8_399_737.9, 8_409_737.9  # at 60 degrees Mercator doubles lengths
    for crs, extent, texts in (
        ("EPSG:32632", (500_000, 510_000, 0, 8000), ["2 km"]),
        ("EPSG:3857", (0, 20_000, *north), ["2 km"]),
        ("EPSG:4326", (10, 10.18, 60, 60.1), ["2 km"]),
        (None, (0, 10_000, 0, 8000), []),
    ):
        outlines = gpd.GeoDataFrame(geometry=[box(0, 0, 500, 500)], crs=crs)
        axes = plots.plot_quicklook(
            np.zeros((8, 10, 3)), np.zeros((8, 10)), outlines, extent=extent
        )
        assert [text.get_text() for text in axes[0].texts] == texts, crs
