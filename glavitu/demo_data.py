"""Demo data: made tiles as GeoTIFFs with a `tiles.csv`, compiled to HDF5 like own data."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from glavitu import __version__
from glavitu.errors import InputError
from glavitu.files import read_json, replacing, write_json
from glavitu.progress import progress
from glavitu.scenes import compile_tiles, to_dataarray, write_raster
from glavitu.sensors import BANDS
from glavitu.synthetic import REGIONS, make_tile
from glavitu.tiles import SPLITS

SOURCES = ("optical", "dem", "sar")


def make_demo_data(directory, *, tile_size=256, tiles_per_region=6, regions=None, seed=0):
    """Make demo tiles of several regions; the same arguments always give the same data.

    Writes GeoTIFFs by source, ``tiles.csv``, ``train.hdf5``, ``val.hdf5`` and ``test.hdf5``. Of
    each region, about half the tiles train, a sixth validates and a third tests. Data that are
    there already are left alone.

    Parameters
    ----------
    directory : str or Path
        Folder to make.
    tile_size : int
        Height and width of a tile, in pixels of 30 m.
    tiles_per_region : int
        At least 3, so that each split has a tile of every region.
    regions : list of str, optional
        Some of `glavitu.synthetic.REGIONS`; by default all.
    seed : int
        Of all randomness.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        For arguments that cannot be, or a folder that holds other data.
    """
    directory = Path(directory)
    regions = list(regions or REGIONS)
    unknown = [region for region in regions if region not in REGIONS]
    if unknown:
        raise InputError(f"no demo region {unknown[0]!r}; known: {', '.join(REGIONS)}")
    if tiles_per_region < 3 or tile_size < 32:
        raise InputError(
            "demo data needs 3 tiles per region or more, of 32 pixels or more; got "
            f"{tiles_per_region} of {tile_size}"
        )
    recipe = {
        "glavitu": __version__,
        "tile_size": tile_size,
        "tiles_per_region": tiles_per_region,
        "regions": regions,
        "seed": seed,
    }
    if _is_made(directory, recipe):
        return directory
    jobs = [(region, index) for region in regions for index in range(tiles_per_region)]
    with ThreadPoolExecutor() as pool:
        rows = pool.map(lambda job: _write_tile(directory, *job, tile_size, seed), jobs)
        rows = list(progress(rows, total=len(jobs), description="demo tiles"))
    table = pd.DataFrame(rows)
    table["split"] = [_split(index, tiles_per_region) for _, index in jobs]
    with replacing(directory / "tiles.csv") as part:
        table.to_csv(part, index=False)
    compile_tiles(directory / "tiles.csv", directory, patch_size=tile_size)
    write_json(directory / "demo_data.json", recipe)
    return directory


def _is_made(directory, recipe):
    record = directory / "demo_data.json"
    if record.exists():
        found = read_json(record)
        if found != recipe:
            raise InputError(
                f"{directory} holds demo data made with {found}, not {recipe}; remove it or name "
                "another folder"
            )
        return all((directory / f"{split}.hdf5").exists() for split in SPLITS)
    if any((directory / f"{split}.hdf5").exists() for split in SPLITS):
        raise InputError(f"{directory} holds data that are not demo data; name another folder")
    return False


def _split(index, count):
    """Return the split of a region's tile: first a third to test, one sixth (or 1) to validate."""
    tests, validations = max(1, count // 3), max(1, count // 6)
    if index < tests:
        return "test"
    return "val" if index < tests + validations else "train"


def _write_tile(directory, region, index, size, seed):
    """Write the GeoTIFFs of one tile and return its row of the table."""
    tile = make_tile(region, index, size=size, seed=seed)
    name = tile.attrs["tile"]
    row = {"tile": name, "region": region, "split": ""}
    for variable in (*SOURCES, "groundtruth"):
        values = np.atleast_3d(tile[variable].values).transpose(2, 0, 1)
        path = Path(variable) / f"{name}.tif"
        crs, bands = f"EPSG:{tile.attrs['epsg']}", BANDS.get(variable, ["glacier"])
        array = to_dataarray(values, tile.attrs["transform"], crs, bands=bands)
        write_raster(directory / path, array)
        row[variable] = path.as_posix()
    return row
