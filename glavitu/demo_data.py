"""Demo data: made tiles as GeoTIFFs with a `tiles.csv`, compiled to HDF5 like own data."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from numbers import Real
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd

from glavitu import __version__
from glavitu.errors import InputError
from glavitu.files import locked, making, read_json, replacing, write_json
from glavitu.geotiffs import to_dataarray, write_raster
from glavitu.machine import cores
from glavitu.profiles import UNFINISHED
from glavitu.progress import progress
from glavitu.regions import REGIONS, UNSEEN
from glavitu.scenes import survey, write_splits
from glavitu.sensors import BANDS
from glavitu.synthetic import make_tile
from glavitu.tiles import SPLITS
from glavitu.units import is_whole

# Layer -> names of its bands.
NAMES = BANDS | {"groundtruth": ("glacier",), "surface": ("surface",)}
WRITTEN = "2023-07-16T00:00:00Z"  # what the outlines of a scene state as the time of writing


def make_demo_data(
    directory,
    *,
    tile_size=256,
    tiles_per_region=9,
    regions=None,
    seed=0,
    outline_error=0.0,
    workers=1,
):
    """Make demo tiles of several regions; the same arguments always give the same data.

    Writes GeoTIFFs by source, ``tiles.csv``, ``train.hdf5``, ``val.hdf5`` and ``test.hdf5``. Of
    each region, about half the tiles train, a sixth validates and a third tests; of the regions
    `glavitu.regions.UNSEEN`, only that third is made. The layer ``surface`` is that of
    `glavitu.compile_tiles`. Data that are there already are left alone.

    Parameters
    ----------
    directory : str or Path
        Folder to make.
    tile_size : int
        Height and width of a tile, in pixels of 30 m.
    tiles_per_region : int
        At least 3, so that each split has a tile of every region that trains.
    regions : list of str, optional
        Some of `glavitu.regions.REGIONS`; by default all.
    seed : int
        Of all randomness.
    outline_error : float
        Of `glavitu.synthetic.make_tile`: metres by which outlines are off.
    workers : int, optional
        Processes, which give the same data in any number; None means one per processor, if there
        are tiles enough. A script that asks for more than one does so under
        ``if __name__ == "__main__":``.

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
    counts = {"tile_size": (tile_size, 32, 8192), "tiles_per_region": (tiles_per_region, 3, 10_000)}
    for name, (value, least, most) in (counts | {"seed": (seed, 0, 2**32 - 1)}).items():
        if not is_whole(value) or not least <= value <= most:
            raise InputError(
                f"demo data: {name} is {value!r}, expected a whole number from {least} to {most}"
            )
    if regions is not None and not isinstance(regions, list | tuple):
        raise InputError(f"demo data: regions is {regions!r}, expected a list such as [ALP, HMA]")
    regions = list(regions or REGIONS)
    unknown = [region for region in regions if region not in tuple(REGIONS)]  # not all have a hash
    if unknown:
        raise InputError(f"no demo region {unknown[0]!r}; known: {', '.join(REGIONS)}")
    if set(regions) <= set(UNSEEN):
        raise InputError(
            f"the regions {', '.join(regions)} only test; add one that trains, such as "
            f"{next(region for region in REGIONS if region not in UNSEEN)}"
        )
    if len(set(regions)) < len(regions):
        raise InputError(f"demo data: a region twice in {', '.join(regions)}")
    if not isinstance(outline_error, Real) or not 0 <= outline_error < np.inf:
        raise InputError(f"outline_error is {outline_error!r}, expected metres, 0 or more")
    recipe = {
        "glavitu": __version__,
        "tile_size": tile_size,
        "tiles_per_region": tiles_per_region,
        "regions": regions,
        "seed": seed,
        "outline_error": float(outline_error),
    }
    with locked(directory / "tiles"):
        if not _is_made(directory, recipe):
            write_json(directory / UNFINISHED, recipe)
            _make(directory, recipe, workers)
            write_json(directory / "demo_data.json", recipe)
        (directory / UNFINISHED).unlink(missing_ok=True)
    return directory


def _make(directory, recipe, workers):
    """Write the rasters of all tiles, their table and the files compiled of them."""
    regions, tiles_per_region = recipe["regions"], recipe["tiles_per_region"]
    jobs = [
        (region, index)
        for region in regions
        for index in range(tiles_per_region)
        if region not in UNSEEN or _split(index, tiles_per_region) == "test"
    ]
    options = {"size": recipe["tile_size"]} | {k: recipe[k] for k in ("seed", "outline_error")}
    # A process takes a second or two to start, in which it could make some small tiles.
    workers = workers or min(cores(), len(jobs) // 8)
    with making(directory), _mapping(workers) as mapped:
        rows = mapped(partial(_write_tile, directory, options), jobs)
        rows = list(progress(rows, total=len(jobs), description="demo tiles"))
    table = pd.DataFrame(rows)
    table["split"] = [_split(index, tiles_per_region) for _, index in jobs]
    with replacing(directory / "tiles.csv") as part:
        table.to_csv(part, index=False)
    write_splits(*survey(directory / "tiles.csv"), directory, recipe["tile_size"])


def make_demo_scene(directory, region="ALP", *, size=512, seed=1):
    """Make the rasters of one demo scene as a user may have them, and its true outlines.

    Writes ``optical.tif`` and ``sar.tif`` of 30 m, ``dem.tif`` of elevation alone and of 60 m,
    ``truth.tif`` (1 glacier, 0 not) and its ``outlines.gpkg``. Another seed than the tiles' gives
    another world than theirs; the same arguments always give the same files.

    Returns
    -------
    dict of str to Path
        Source -> raster, and ``reference`` -> outlines.
    """
    # not above: every process that makes tiles would import geopandas, too
    from glavitu.outlines import trace, write_outlines

    tile = make_tile(region, 0, size=size + size % 2, seed=seed)
    crs, transform = f"EPSG:{tile.attrs['epsg']}", tile.attrs["transform"]
    a, b, c, d, e, f = transform
    elevation = tile["dem"].values[..., :1]
    half = elevation.reshape(len(elevation) // 2, 2, -1, 2, 1).mean((1, 3))
    rasters = {
        "optical": (tile["optical"].values, transform, BANDS["optical"]),
        "dem": (half, (2 * a, b, c, d, 2 * e, f), BANDS["dem"][:1]),
        "sar": (tile["sar"].values, transform, BANDS["sar"]),
        "truth": (tile["groundtruth"].values[..., None], transform, ["glacier"]),
    }
    directory = Path(directory)
    for name, (values, place, bands) in rasters.items():
        array = to_dataarray(values.transpose(2, 0, 1), place, crs, bands=bands)
        write_raster(directory / f"{name}.tif", array)
    write_outlines(trace(directory / "truth.tif"), directory / "outlines.gpkg", written=WRITTEN)
    paths = {name: directory / f"{name}.tif" for name in BANDS}
    return paths | {"reference": directory / "outlines.gpkg"}


def _is_made(directory, recipe):
    record = directory / "demo_data.json"
    if (directory / UNFINISHED).exists() and not record.exists():
        return False
    if record.exists():
        found = read_json(record, "tile_size")
        if differs := [key for key in recipe if found.get(key) != recipe[key]]:
            others = ", ".join(f"{key} {found.get(key)}" for key in differs)
            wanted = ", ".join(f"{key} {recipe[key]}" for key in differs)
            raise InputError(
                f"{directory} holds demo data made with {others}, not {wanted}; remove it or name "
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


@contextmanager
def _mapping(workers):
    """Yield `map`, or one that spreads the calls over processes where threads would take turns."""
    if workers < 2:
        yield map
        return
    # Forking would copy the threads of TensorFlow, where a notebook has loaded it.
    context = get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, initializer=_follow_parent) as pool:
            yield partial(_map_undisturbed, pool)
    except BrokenProcessPool:
        raise InputError(
            "the processes that make demo tiles ended early: memory ran out, or a script called "
            'make_demo_data outside of `if __name__ == "__main__":`; try workers=1'
        ) from None


def _map_undisturbed(pool, function, jobs):
    """Start the processes so that interrupts are left to this one from their first moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.map(function, jobs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_parent():
    """End when the parent process is killed."""
    Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def _write_tile(directory, options, job):
    """Write the GeoTIFFs of one tile, a (region, index), and return its row of the table."""
    region, index = job
    tile = make_tile(region, index, **options)
    name = tile.attrs["tile"]
    row = {"tile": name, "region": region, "split": ""}
    tile["surface"] += 10 * tile["sky"]
    for variable in NAMES:
        values = np.atleast_3d(tile[variable].values).transpose(2, 0, 1)
        path = Path(variable) / f"{name}.tif"
        crs, bands = f"EPSG:{tile.attrs['epsg']}", NAMES[variable]
        array = to_dataarray(values, tile.attrs["transform"], crs, bands=bands)
        write_raster(directory / path, array)
        row[variable] = path.as_posix()
    return row
