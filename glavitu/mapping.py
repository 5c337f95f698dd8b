"""Map a scene of any size: rasters in; maps, outlines and how they were made out.

A scene is predicted by rows of windows. Each row gives sums of weighted probabilities over its
strip; adding the strips in order, on one machine or many, gives the same sums whoever made them.
What is final is appended to one file, so that memory is bounded and a mapping that was cut off goes
on from there.
"""

import json
import time
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.transform import array_bounds
from shapely import box

from glavitu import units
from glavitu.agreement import compare_outlines, read_outlines
from glavitu.backend import resolve
from glavitu.calibration import read_calibration
from glavitu.errors import InputError
from glavitu.files import locked, naming, read_json, write_json
from glavitu.grids import open_scene
from glavitu.mapping_outputs import compare, draw, write_maps
from glavitu.mapping_settings import (
    check_date,
    check_numbers,
    check_outputs,
    check_picture,
    clear,
    finished,
    read_trained,
)
from glavitu.progress import progress, say
from glavitu.provenance import fingerprint, provenance
from glavitu.strips import Job, check_dropout, opened, predict_strip, scene_starts
from glavitu.windows import check_stride

AFTERWARDS = ("temperature", "picture", "outlines")  # what changes no probability
CACHE = 128 << 20  # bytes of GDAL's; its own choice is a share of the machine's memory


def map_scene(
    weights,
    paths,
    out,
    *,
    grid=None,
    nodata=None,
    factors=None,
    own_scaling=False,
    stride=None,
    batch_size=8,
    symmetries=False,
    dropout_samples=0,
    precision="auto",
    min_area=0.01,
    smooth=0.0,
    date="",
    picture=None,
    reference=None,
    scheduler=None,
    overwrite=False,
):
    """Map the glaciers of a scene.

    Parameters
    ----------
    weights : str or Path
        Weights of a training, ``NAME.weights.h5``. The scaling stands beside them in ``NAME.json``
        and the calibration, if there is one, in ``NAME.calibration.json``.
    paths : dict of str to str or Path
        Source -> raster, one for each source the network was trained with. Rasters on other grids
        are brought to one; slope is computed where the ``dem`` is elevation alone.
    out : str or Path
        Folder for ``glacier.tif`` (1 glacier, 0 not, 255 no data), ``probability.tif``,
        ``confidence.tif`` (calibrated probability of the class mapped), ``outlines.gpkg``,
        ``quicklook.png`` and ``map.json``; with a reference also ``comparison.csv``.
    grid : str, optional
        The source whose grid is the map's; by default ``optical``.
    nodata : dict of str to float, optional
        Source -> value that means no data in its raster, beside what the raster itself declares.
    factors : dict of str to float, optional
        Source -> what its values are multiplied by, to bring them to the training data's units.
    own_scaling : bool
        Whether to scale by the scene's own 1st and 99th percentiles instead of the training data's:
        for units that cannot be brought into line. Brightness then says less.
    stride : int, optional
        Step between windows, in pixels, at most a window; by default half of one, as published.
    batch_size : int
        Windows predicted at once.
    symmetries : bool
        Whether to average over the 8 flips and turns of each window; takes 8 times as long.
    dropout_samples : int
        Average over this many predictions with dropout at work (Gal and Ghahramani, 2016); 0: none.
    precision : str
        What the network computes in: ``float32``, ``bfloat16``, or ``auto``, the faster one here;
        the workers of a scheduler then do the same.
    min_area : float
        Least area of an outline, in km2.
    smooth : float
        How far the pixels' corners may be cut from outlines, in metres.
    date : str
        When the scene was seen, for the outlines: YYYY, YYYY-MM or YYYY-MM-DD.
    picture : dict of str to list of int, optional
        Source -> its bands, from 1, that ``quicklook.png`` shows as red, green and blue; by default
        those of ``optical`` that make the usual false colours, if it begins with blue, green, red.
    reference : str or Path, optional
        Outlines to compare the map with; a map that is there already is compared as it is.
    scheduler : str or distributed.Client, optional
        Address of a dask scheduler whose workers predict, or a client of it; the workers must see
        the same files.
    overwrite : bool
        Whether to replace a map of another scene, or made with other settings.

    Returns
    -------
    dict
        What ``map.json`` says. A map that is there already is not made again; one that was cut off
        goes on where it was.

    Raises
    ------
    InputError
        For weights without a record, rasters or settings that do not fit, or a folder with another
        map: the message names the first setting that differs.
    """
    if not isinstance(weights, str | Path):
        raise InputError(
            f"weights are a {type(weights).__name__}, expected the path of a training's weight "
            "file: the record beside it says how rasters are to be scaled"
        )
    weights, out = Path(weights).absolute(), Path(out).absolute()
    built, trained = read_trained(weights)
    least = {"batch_size": (batch_size, 1), "dropout_samples": (dropout_samples, 0)}
    check_numbers(least | {"min_area": (min_area, 0), "smooth": (smooth, 0)})
    settings = {
        "weights": str(weights),
        "paths": {source: str(Path(path).absolute()) for source, path in paths.items()},
        "inputs": built["inputs"],
        "grid": grid,
        "nodata": nodata or {},
        "size": built["patch_size"],
        "stride": check_stride(stride, built["patch_size"]),
        "batch_size": batch_size,
        "symmetries": symmetries,
        "dropout_samples": dropout_samples,
        "precision": precision,
    }
    recipe = settings | {
        "factors": factors or {},
        "own_scaling": own_scaling,
        "scaling": trained,
        "temperature": read_calibration(weights),
        "picture": check_picture(picture, built["inputs"]),
        "outlines": {"min_area": min_area, "smooth": smooth, "date": check_date(date)},
    }
    scaling = units.in_units(trained, recipe["factors"])
    files = [str(weights), *settings["paths"].values()]
    given, inventory = None, None
    if reference is not None:
        inventory = read_outlines(reference)
        given = {"path": str(Path(reference).absolute()), "fingerprint": fingerprint(reference)}
    check_outputs(out, files if given is None else [*files, given["path"]])
    if dropout_samples:
        check_dropout(str(weights), resolve(precision))
    reading = {key: settings[key] for key in ("inputs", "grid", "nodata")}
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE),
        open_scene(settings["paths"], **reading) as scene,
    ):
        recipe["fingerprints"] = {path: fingerprint(path) for path in files}
        recipe = json.loads(json.dumps(recipe))
        with locked(out / "map.json"):
            record = finished(out, recipe, overwrite)
            if record:
                _tidy(out)
            if record and given in (None, record.get("reference")):
                say(f"{out.name}: mapped already")
                return record
            if given:
                _check_place(scene, inventory)
            if made := record is None:
                pixels = units.sample(scene)
                if own_scaling:
                    scaling = units.own_scaling(pixels)
                size = units.pixel_size(scene.transform, scene.crs)
                record = {
                    "architecture": built["architecture"],
                    "grid": scene.report,
                    "remarks": units.unlike_pixels(size, built["pixel_size"])
                    + units.unlike_training(pixels, scaling),
                    "recipe": recipe,
                }
                settings["precision"] = resolve(precision)
                job = Job(**settings, scaling=scaling)
                record = _make(job, scene, out, record, inventory, scheduler)
            if given:
                record |= {"comparison": compare(out, inventory), "reference": given}
                if not made:
                    draw(scene, out, inventory, recipe["picture"])
                write_json(out / "map.json", record)
    return record


def _tidy(out):
    """Remove what a map that was cut off goes on from."""
    for end in ("f32", "json"):
        (out / f".part-probability.{end}").unlink(missing_ok=True)


def _check_place(scene, reference):
    """Refuse a reference that cannot be compared with the scene, before the work."""
    frame = box(*array_bounds(*scene.shape, scene.transform))
    frame = gpd.GeoDataFrame(geometry=[frame], crs=scene.crs)
    compare_outlines(frame, reference, within=frame.geometry)


def _make(job, scene, out, record, reference, scheduler):
    """Make a map; write and return the completed record."""
    if scheduler is None:
        opened(job)  # weights that cannot be used show before anything is written
    clear(out)
    started = time.perf_counter()
    with connected(scheduler) as client:
        raw = _predict(job, scene, out, record["recipe"], client)
    record["prediction_seconds"] = round(time.perf_counter() - started, 1)
    record |= write_maps(raw, scene, out, record)
    record["remarks"] += units.mostly_empty(record["share_with_data"])
    draw(scene, out, reference, record["recipe"]["picture"])
    record["provenance"] = provenance()
    write_json(out / "map.json", record)
    _tidy(out)
    return record


def _predict(job, scene, out, recipe, client):
    """Write the blended probabilities as raw float32 (y, x), NaN without data; return the path."""
    raw = out / ".part-probability.f32"
    settings = raw.with_suffix(".json")
    out.mkdir(parents=True, exist_ok=True)
    decisive = {key: value for key, value in recipe.items() if key not in AFTERWARDS}
    if not recipe["dropout_samples"]:  # which are drawn for each batch
        del decisive["batch_size"]
    if not (settings.exists() and read_json(settings) == decisive):
        raw.unlink(missing_ok=True)
        write_json(settings, decisive)
    height, width = scene.shape
    starts = scene_starts(height, job.size, job.stride)
    with naming(raw), open(raw, "ab") as file:
        done = file.tell() // (4 * width)
        file.truncate(done * 4 * width)
        # Also those windows before the first missing row that reach over it.
        rows = [row for row in starts if row + job.size > done < height]
        total = np.zeros((2, job.size, width), np.float32)  # weighted probabilities and weights
        bar = progress(
            _strips(job, rows, client),
            description="map",
            total=len(starts),
            initial=len(starts) - len(rows),
        )
        for row, (sums, valid) in zip(rows, bar, strict=True):
            total += sums
            following = next((start for start in starts if start > row), height)
            first, end = max(row, done) - row, min(following, height) - row
            if first < end:
                final = total[:, first:end]
                with np.errstate(invalid="ignore"):
                    probability = np.where(valid[first:end], final[0] / final[1], np.nan)
                file.write(probability.astype(np.float32).tobytes())
                file.flush()
            total = np.roll(total, -(following - row), axis=1)
            total[:, job.size - (following - row) :] = 0
    return raw


@contextmanager
def connected(scheduler):
    """Yield a dask client for an address; None and a client are yielded as they are."""
    if not isinstance(scheduler, str):
        yield scheduler
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError("a scheduler needs dask.distributed: pip install distributed") from None
    try:
        client = Client(scheduler, timeout="8s")
    except (OSError, ValueError) as error:
        raise InputError(f"no dask scheduler at {scheduler}: {error}") from None
    with client:
        yield client


def _strips(job, rows, client):
    """Yield the strips of rows of windows in order, made here or by dask workers."""
    if client is None:
        yield from (predict_strip(job, row) for row in rows)
        return
    waiting, ahead = [], 2 + 2 * sum(client.nthreads().values())
    for i in range(len(rows)):
        while len(waiting) < ahead and i + len(waiting) < len(rows):
            waiting.append(client.submit(predict_strip, job, rows[i + len(waiting)], pure=False))
        yield waiting.pop(0).result()
