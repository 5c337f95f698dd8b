"""What networks trained on demo data make of real scenes.

    GLAVITU_REAL_DATA=DIR python -m benchmarks scenes [RUN] [DATA]

RUN is a folder of the extended study, by default `runs/extended`; DATA the demo data, by default
`data/demo`. Maps `DIR/scenes`: three scenes without glaciers, three of a small one, and Everest,
for which a network is trained on the demo's red, green, blue, NIR and elevation, as Landsat 7 and
the DEM have them there. Writes `runs/benchmarks/scenes.json`, `scenes.md`,
pictures of two scenes, and the maps.
"""

import shutil
from pathlib import Path

import click
import pandas as pd
import rasterio

from benchmarks import folder_from, write_table

COMPARED = {
    "iou": "IoU",
    "area_difference_percent": "area difference (%)",
    "distance_mean_m": "boundary distance (m)",
    "distance_p95_m": "its 95th percentile (m)",
}
REFLECTANCE = {"optical": 1e-4}  # of Sentinel-2 digital numbers
SCENES = {"no_glacier": ("282D", "38D", "637U"), "vinciguerra": ("2019", "2021", "2022")}
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
PICTURED = "vinciguerra", "2019"


def make_landsat_like(demo, out):
    """Compile the demo tiles with the sources that the Everest scene has; return the folder."""
    from glavitu import compile_tiles
    from glavitu.files import replacing
    from glavitu.geotiffs import read_raster, write_raster

    table = pd.read_csv(demo / "tiles.csv")
    for tile, path in zip(table["tile"], table["optical"], strict=True):
        optical = read_raster(demo / path).transpose("band", "y", "x")
        for source, bands in {"rgb": [2, 1, 0], "nir": [3]}.items():
            chosen = optical.isel(band=bands)
            chosen.attrs["long_name"] = tuple(optical.attrs["long_name"][band] for band in bands)
            write_raster(out / source / f"{tile}.tif", chosen)
        for source in ("dem", "groundtruth"):
            (out / source).mkdir(exist_ok=True)
            shutil.copy(demo / source / f"{tile}.tif", out / source / f"{tile}.tif")
    for source in ("rgb", "nir", "dem", "groundtruth"):
        table[source] = [f"{source}/{tile}.tif" for tile in table["tile"]]
    with replacing(out / "tiles.csv") as part:
        columns = ["tile", "region", "split", "rgb", "nir", "dem", "groundtruth"]
        table[columns].to_csv(part, index=False)
    compile_tiles(out / "tiles.csv", out, patch_size=256)
    return out


def extent_of(folder):
    """Return the share of a map's pixels with data that are glacier, and the km2 with data."""
    from glavitu.grids import Grid, pixel_size

    with rasterio.open(folder / "glacier.tif") as file:
        classes, grid = file.read(1), Grid(file.crs, file.transform, file.shape)
    known = classes != 255
    return float((classes == 1).sum() / known.sum()), known.sum() * pixel_size(grid) ** 2 / 1e6


def figures(found, folder):
    """Return the figures of a map and of its comparison, where there is one."""
    share, km2 = extent_of(folder)
    if "comparison" not in found:
        return {"mapped share": share}
    compared = {title: found["comparison"].get(key) for key, title in COMPARED.items()}
    yardstick = {"IoU of all glacier": found["comparison"]["reference_km2"] / km2}
    return {"mapped share": share} | compared | yardstick


def keep_picture(found, folder, name, what):
    """Store the quick look of a map and a caption with its figures for the README."""
    shutil.copy(folder / "quicklook.png", folder.parents[1] / f"{name}.png")
    agreement = found["comparison"]
    return (
        f"{what}, trained on demo data: IoU {agreement['iou']:.3f} with the reference where all "
        f"sources have data; {agreement['reference_km2']:.2f} km2 there, "
        f"{agreement['mapped_km2']:.2f} km2 mapped."
    )


def outlines_of(truth, path):
    """Write the outlines of a raster of 1 and 0, for comparison; return their path."""
    from glavitu.outlines import trace, write_outlines

    write_outlines(trace(truth, min_area=0), path)
    return path


def map_everest(real, demo, out):
    """Train a network on what the scene has, map it, and compare with the inventory."""
    from glavitu import map_scene, train

    data = out / "landsat_like"
    if not (data / "test.hdf5").exists():
        make_landsat_like(demo, data)
    train("resunet", profile="extended", data=data, out=out, name="landsat_like")
    paths = {"rgb": "landsat7_rgb.tif", "nir": "landsat7_nir.tif", "dem": "dem.tif"}
    paths = {source: real / "everest" / file for source, file in paths.items()}
    weights = out / "weights" / "landsat_like.weights.h5"
    options = {"grid": "rgb", "own_scaling": True, "nodata": {"dem": 0}}  # it declares none
    options["picture"] = {"rgb": [1, 2, 3]}
    options["reference"] = real / "everest" / "outlines.gpkg"
    return map_scene(weights, paths, out / "maps" / "everest", overwrite=True, **options)


@click.command()
@click.argument("run", type=FOLDER, default="runs/extended")
@click.argument("demo", type=FOLDER, default="data/demo")
def main(run, demo):
    from glavitu import map_scene

    real, out = folder_from("GLAVITU_REAL_DATA") / "scenes", Path("runs/benchmarks")
    rows, pictures = [], {}
    for kind, names in SCENES.items():
        for name in names:
            source = real / kind / name
            for network in ("glavitu", "glavitu-optical-dem", "glavitu-optical"):
                used = {"glavitu": 3, "glavitu-optical-dem": 2, "glavitu-optical": 1}[network]
                paths = {s: source / f"{s}.tif" for s in ("optical", "dem", "sar")[:used]}
                if not all(path.exists() for path in paths.values()):
                    continue
                folder = out / "maps" / f"{kind}-{name}-{network}"
                weights = run / "weights" / f"{network}.weights.h5"
                options = {"factors": REFLECTANCE, "nodata": {"optical": 0}, "overwrite": True}
                if (truth := source / "groundtruth.tif").exists():
                    reference = out / "maps" / f"{kind}-{name}.gpkg"
                    options["reference"] = outlines_of(truth, reference)
                found = map_scene(weights, paths, folder, **options)
                row = {"scene": f"{kind} {name}", "network": network} | figures(found, folder)
                rows.append(row)
                print(row, flush=True)
                if (kind, name) == PICTURED:
                    what = f"Vinciguerra in {name}, Sentinel-2 at 10 m, by {network}"
                    pictures["scene_vinciguerra"] = keep_picture(
                        found, folder, "scene_vinciguerra", what
                    )
    everest = map_everest(real, demo, out)
    folder = out / "maps" / "everest"
    network = "resunet on red, green, blue, NIR and DEM"
    rows.append({"scene": "everest", "network": network} | figures(everest, folder))
    what = f"Everest, Landsat 7 at 30 m, by {network}"
    pictures["scene_everest"] = keep_picture(everest, folder, "scene_everest", what)
    table = pd.DataFrame(rows)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    write_table("scenes", table, rows, pictures=pictures, everest=everest)
