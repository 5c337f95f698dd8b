"""Open the outputs of a map as its user would, without this package; print what is there as JSON.

python -I open_outputs.py FOLDER
"""

import json
import sys
from pathlib import Path

import geopandas as gpd
import pandas as pd
import rasterio


def describe(path):
    with rasterio.open(path) as file:
        structure = file.tags(ns="IMAGE_STRUCTURE")
        try:
            colours = {str(value): colour for value, colour in file.colormap(1).items()}
        except ValueError:
            colours = None
        return {
            "crs": file.crs.to_epsg(),
            "transform": file.transform[:6],
            "shape": file.shape,
            "bands": file.count,
            "dtype": file.dtypes[0],
            "nodata": str(file.nodata),
            "description": file.descriptions[0],
            "layout": structure.get("LAYOUT"),
            "compression": structure.get("COMPRESSION"),
            "blocks": file.block_shapes[0],
            "overviews": file.overviews(1),
            "values": sorted(set(file.read(1).ravel().tolist()))[:4] if colours else None,
            "colours": colours and {key: colours[key] for key in ("0", "1", "255")},
        }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    outlines = gpd.read_file(folder / "outlines.gpkg")
    summary = {path.name: describe(path) for path in folder.glob("*.tif")}
    summary["outlines"] = {
        "layers": gpd.list_layers(folder / "outlines.gpkg")["name"].tolist(),
        "crs": outlines.crs.to_epsg(),
        "columns": {name: str(dtype) for name, dtype in outlines.dtypes.items()},
        "kinds": sorted(set(outlines.geom_type)),
        "valid": bool(outlines.is_valid.all()),
        "plane_km2": float(outlines.area.sum() / 1e6),
        "rows": outlines.drop(columns="geometry").to_dict("records"),
    }
    summary["comparison"] = pd.read_csv(folder / "comparison.csv").columns.tolist()
    summary["map"] = sorted(json.loads((folder / "map.json").read_text()))
    assert "glavitu" not in sys.modules
    print(json.dumps(summary))
