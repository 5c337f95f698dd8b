"""What networks trained on demo data make of real scenes.

    GLAVITU_REAL_DATA=DIR python -m benchmarks scenes [RUN] [DATA]

RUN is a folder of the extended study, by default `runs/extended`; DATA the demo data, by default
`data/demo`. Maps `DIR/scenes`: three scenes without glaciers, three of a small one, and Everest,
for which a network is trained on the demo's red, green, blue, NIR and elevation, as Landsat 7 and
the DEM have them there. Writes `runs/benchmarks/scenes.json`, `scenes.md` and the maps.
"""

import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import rasterio

REFLECTANCE = {"optical": 1e-4}  # of Sentinel-2 digital numbers
SCENES = {"no_glacier": ("282D", "38D", "637U"), "vinciguerra": ("2019", "2021", "2022")}


def make_landsat_like(demo, out):
    """Compile the demo tiles with the sources that the Everest scene has; return the folder."""
    from glavitu import compile_tiles
    from glavitu.files import replacing
    from glavitu.scenes import read_raster, write_raster

    table = pd.read_csv(demo / "tiles.csv")
    for tile, path in zip(table["tile"], table["optical"], strict=True):
        optical = read_raster(demo / path).transpose("band", "y", "x")
        optical.attrs.pop("long_name", None)  # of six bands
        write_raster(out / "rgb" / f"{tile}.tif", optical.isel(band=[2, 1, 0]))
        write_raster(out / "nir" / f"{tile}.tif", optical.isel(band=[3]))
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


def share_mapped(folder):
    """Return the share of a map's pixels with data that are mapped as glacier."""
    with rasterio.open(folder / "glacier.tif") as file:
        classes = file.read(1)
    return float((classes == 1).sum() / (classes != 255).sum())


def iou_with(folder, truth):
    """Return the IoU of a map with a raster of the same grid."""
    with rasterio.open(folder / "glacier.tif") as file, rasterio.open(truth) as reference:
        mapped, true = file.read(1), reference.read(1)
    known, found, true = mapped != 255, mapped == 1, true == 1
    return float((found & true & known).sum() / ((found | true) & known).sum())


def map_everest(real, demo, out):
    """Train a network on what the scene has, map it, and compare with the inventory."""
    from glavitu import map_scene, train

    data = out / "landsat_like"
    if not (data / "test.hdf5").exists():
        make_landsat_like(demo, data)
    train("resunet", data=data, out=out, name="landsat_like")
    paths = {"rgb": "landsat7_rgb.tif", "nir": "landsat7_nir.tif", "dem": "dem.tif"}
    paths = {source: real / "everest" / file for source, file in paths.items()}
    weights = out / "weights" / "landsat_like.weights.h5"
    options = {"grid": "rgb", "own_scaling": True, "reference": real / "everest" / "outlines.gpkg"}
    return map_scene(weights, paths, out / "maps" / "everest", overwrite=True, **options)


def main(run="runs/extended", demo="data/demo"):
    from glavitu import map_scene
    from glavitu.files import replacing, write_json
    from glavitu.provenance import provenance
    from glavitu.results import to_markdown

    if "GLAVITU_REAL_DATA" not in os.environ:
        sys.exit("GLAVITU_REAL_DATA does not name the folder of the real scenes")
    real, run, out = (
        Path(os.environ["GLAVITU_REAL_DATA"]) / "scenes",
        Path(run),
        Path("runs/benchmarks"),
    )
    rows = []
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
                map_scene(weights, paths, folder, factors=REFLECTANCE, overwrite=True)
                row = {"scene": f"{kind} {name}", "network": network}
                row["mapped share"] = share_mapped(folder)
                if (source / "groundtruth.tif").exists():
                    row["IoU"] = iou_with(folder, source / "groundtruth.tif")
                rows.append(row)
                print(row, flush=True)
    everest = map_everest(real, Path(demo), out)
    summary = everest["comparison"]
    rows.append(
        {
            "scene": "everest",
            "network": "resunet on red, green, blue, NIR and DEM",
            "mapped share": share_mapped(out / "maps" / "everest"),
            "IoU": summary["iou"],
            "area difference (%)": summary["area_difference_percent"],
            "boundary distance (m)": summary["distance_mean_m"],
            "its 95th percentile (m)": summary["distance_p95_m"],
        }
    )
    table = pd.DataFrame(rows)
    record = {"rows": table.astype(object).where(table.notna(), None).to_dict("records")}
    write_json(out / "scenes.json", record | {"everest": everest, "provenance": provenance()})
    with replacing(out / "scenes.md") as part:
        part.write_text(to_markdown(table), encoding="utf-8")
    print(to_markdown(table))
