"""Write the maps of a scene: GeoTIFFs for the cloud, outlines, a picture and a comparison."""

import matplotlib.pyplot as plt
import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from glavitu.agreement import compare_outlines
from glavitu.bands import colours_of, in_words
from glavitu.files import quietly, replacing, reserve
from glavitu.inventories import read_outlines
from glavitu.outlines import trace, valid_extent, write_outlines
from glavitu.platt import confidence
from glavitu.plots import plot_quicklook, stretch
from glavitu.streaming import ROWS
from glavitu.tiles import UNLABELLED

PICTURE = 1200  # most pixels of a side of the picture
CLASS_COLOURS = {0: (225, 220, 210, 255), 1: (0, 114, 178, 255), UNLABELLED: (0, 0, 0, 0)}


def write_maps(raw, scene, out, record):
    """Write rasters and outlines from raw probabilities (y, x), strip by strip; sum them up."""
    recipe = record["recipe"]
    rasters = {
        "glacier": (_classes, "uint8", UNLABELLED, "1 glacier, 0 not, 255 no data"),
        "probability": (np.asarray, "float32", np.nan, "probability of glacier"),
        "confidence": (
            lambda p: confidence(p, recipe["calibration"]),
            "float32",
            np.nan,
            f"probability of the class mapped{', calibrated' if recipe['calibration'] else ''}",
        ),
    }
    for name, kind in rasters.items():
        _write_raster(raw, scene, out / f"{name}.tif", *kind)
    options = recipe["outlines"]
    outlines = trace(
        out / "glacier.tif",
        confidence=out / "confidence.tif",
        min_area=options["min_area"],
        smooth=options["smooth"],
        attributes={
            "source": ", ".join(recipe["paths"]),
            "date": options["date"],
            "model": record["architecture"],
        },
    )
    write_outlines(outlines, out / "outlines.gpkg")
    known = sum(int(np.isfinite(strip).sum()) for _, strip in _strips(raw, scene))
    return {
        "outlines": len(outlines),
        "area_km2": float(outlines["area_km2"].sum()),
        **outlines.attrs,
        "share_with_data": known / (scene.shape[0] * scene.shape[1]),
    }


def compare(out, reference):
    """Compare the outlines of a map with others: write the table, return what has a value."""
    outlines, within = read_outlines(out / "outlines.gpkg"), valid_extent(out / "glacier.tif")
    summary, table = compare_outlines(outlines, reference, within=within)
    with replacing(out / "comparison.csv") as part:
        table.drop(columns="geometry").to_csv(part, index=False, float_format="%.6f")
    return {key: value for key, value in summary.items() if not np.isnan(value)}


def _classes(probability):
    return np.where(np.isnan(probability), UNLABELLED, probability > 0.5).astype(np.uint8)


def _strips(raw, scene):
    """Yield first row and raw probabilities (y, x) of strips of the scene."""
    height, width = scene.shape
    with open(raw, "rb") as file:
        for row in range(0, height, ROWS):
            rows = min(ROWS, height - row)
            yield row, np.fromfile(file, np.float32, rows * width).reshape(rows, width)


def _write_raster(raw, scene, path, convert, dtype, nodata, description):
    """Write one cloud-optimised GeoTIFF of a value for each raw probability."""
    height, width = scene.shape
    profile = {"driver": "GTiff", "count": 1, "dtype": dtype, "nodata": nodata}
    profile |= {"height": height, "width": width, "crs": scene.crs, "transform": scene.transform}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "BIGTIFF": "IF_SAFER"}
    with replacing(path) as part, quietly():
        plain = part.with_suffix(".plain.tif")
        reserve(plain, height * width * np.dtype(dtype).itemsize)
        with rasterio.open(plain, "w", **profile) as file:
            for row, strip in _strips(raw, scene):
                window = Window(0, row, *strip.shape[::-1])
                file.write(convert(strip).astype(dtype), 1, window=window)
            file.set_band_description(1, description)
            if dtype == "uint8":
                file.write_colormap(1, CLASS_COLOURS)
        how = {"driver": "COG", "compress": "DEFLATE", "BIGTIFF": "IF_SAFER"}
        how["overview_resampling"] = "NEAREST" if dtype == "uint8" else "AVERAGE"
        rasterio.shutil.copy(plain, part, **how)
        _read_all(part)


def _read_all(path):
    """Read every block of a raster: GDAL does not say when the disk was too full to write one."""
    with rasterio.open(path) as file:
        for _, window in file.block_windows(1):
            file.read(1, window=window)


def draw(scene, out, reference, picture=None):
    """Draw the quick look: every few rows and columns of a large scene, outlines to match.

    `picture` is as of `map_scene`.
    """
    outlines = read_outlines(out / "outlines.gpkg")
    step = -(-max(scene.shape) // PICTURE)
    height, width = scene.shape
    usual = "optical" if "optical" in scene.sources else max(scene.sources, key=scene.sources.get)
    ((source, bands),) = (picture or {usual: None}).items()
    names = scene.band_names[source]
    bands = bands or colours_of(names)
    strip = max(1, ROWS // step) * step
    rows = [
        scene.read(row, 0, min(strip, height - row), width, [source])[source][::step, ::step].copy()
        for row in range(0, height, strip)
    ]
    image = np.concatenate(rows)
    with rasterio.open(out / "probability.tif") as file:
        probability = file.read(1, out_shape=image.shape[:2])
    left, bottom, right, top = scene.grid.bounds
    if reference is not None:
        reference = reference.to_crs(outlines.crs)
    extent = left, right, bottom, top
    outlines = outlines.set_geometry(outlines.simplify(step * scene.transform.a / 2))
    image = stretch(image, bands)
    title = in_words(names, bands)
    axes = plot_quicklook(image, probability, outlines, reference, extent, title=title)
    with replacing(out / "quicklook.png") as part:
        axes[0].figure.savefig(part, dpi=110, format="png")
    plt.close(axes[0].figure)
