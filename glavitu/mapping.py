"""Map a scene of any size: rasters in; maps, outlines and how they were made out.

A scene is predicted by rows of windows. Each row gives sums of weighted probabilities over its
strip; adding the strips in order, on one machine or many, gives the same sums whoever made them.
What is final is appended to one file, so that memory is bounded and a mapping that was cut off goes
on from there.
"""

import json
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.transform import array_bounds
from shapely import box

from glavitu import units
from glavitu.agreement import compare_outlines, read_outlines
from glavitu.calibration import read_calibration
from glavitu.errors import InputError
from glavitu.files import read_json, write_json
from glavitu.grids import open_scene
from glavitu.mapping_outputs import write_maps
from glavitu.progress import progress
from glavitu.provenance import fingerprint, provenance
from glavitu.strips import Job, predict_strip, scene_starts
from glavitu.weights import read_built

OUTPUTS = ("glacier.tif", "probability.tif", "confidence.tif", "outlines.gpkg", "quicklook.png")
CACHE = 128  # of GDAL, in MB; its own choice is a share of the machine's memory


def map_scene(
    weights,
    paths,
    out,
    *,
    grid=None,
    factors=None,
    own_scaling=False,
    stride=None,
    batch_size=8,
    symmetries=False,
    dropout_samples=0,
    min_area=0.01,
    smooth=0.0,
    date="",
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
    factors : dict of str to float, optional
        Source -> what its values are multiplied by, to bring them to the training data's units.
    own_scaling : bool
        Whether to scale by the scene's own 1st and 99th percentiles instead of the training data's:
        for units that cannot be brought into line. Brightness then says less.
    stride : int, optional
        Step between windows, in pixels; by default half a window, as published.
    batch_size : int
        Windows predicted at once.
    symmetries : bool
        Whether to average over the 8 flips and turns of each window; takes 8 times as long.
    dropout_samples : int
        Average over this many predictions with dropout at work (Gal and Ghahramani, 2016); 0: none.
    min_area : float
        Least area of an outline, in km2.
    smooth : float
        How far the pixels' corners may be cut from outlines, in metres.
    date : str
        When the scene was seen, for the outlines.
    reference : str or Path, optional
        Outlines to compare the map with.
    scheduler : str, optional
        Address of a dask scheduler whose workers predict; they must see the same files.
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
        For weights without a record, rasters that do not fit, or a folder with another scene's map.
    """
    weights, out = Path(weights).absolute(), Path(out).absolute()
    built, scaling = read_trained(weights)
    size = built["patch_size"]
    stride = min(stride or size // 2, size)
    given = [] if reference is None else [Path(reference).absolute()]
    if reference is not None:
        reference = read_outlines(reference)
    files = {source: Path(path).absolute() for source, path in paths.items()}
    _check_outputs(out, [*files.values(), weights, *given])
    paths = {source: str(path) for source, path in files.items()}
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE),
        open_scene(paths, inputs=built["inputs"], grid=grid) as scene,
    ):
        scaling = (
            units.own_scaling(scene) if own_scaling else units.in_units(scaling, factors or {})
        )
        job = Job(
            str(weights),
            paths,
            built["inputs"],
            grid,
            scaling,
            size,
            stride,
            batch_size,
            symmetries,
            dropout_samples,
        )
        recipe = json.loads(json.dumps(job._asdict())) | {
            "fingerprints": {p: fingerprint(p) for p in (job.weights, *job.paths.values())},
            "outlines": {"min_area": min_area, "smooth": smooth, "date": date},
            "compared": reference is not None,
        }
        if (done := _finished(out, recipe, overwrite)) is not None:
            return done
        if reference is not None:
            frame = box(*array_bounds(*scene.shape, scene.transform))
            frame = gpd.GeoDataFrame(geometry=[frame], crs=scene.crs)
            # what cannot be compared shows before the work
            compare_outlines(frame, reference, within=frame.geometry)
        record = {
            "architecture": built["architecture"],
            "grid": scene.report,
            "remarks": units.unlike_training(scene, scaling),
            "temperature": read_calibration(weights),
            "recipe": recipe,
        }
        started = time.perf_counter()
        raw = _predict(job, scene, out, recipe, scheduler)
        record["prediction_seconds"] = round(time.perf_counter() - started, 1)
        record |= write_maps(raw, scene, out, record, reference)
    record["provenance"] = provenance()
    write_json(out / "map.json", record)
    raw.unlink()
    raw.with_suffix(".json").unlink()
    return record


def _check_outputs(out, inputs):
    """Refuse a folder where files that are not of a map of ours would be lost."""
    names = [*OUTPUTS, "map.json", "comparison.csv"]
    lost = [path for path in inputs if path.parent == out and path.name in names]
    if not (out / "map.json").exists() and not (out / ".part-probability.json").exists():
        lost += [out / name for name in OUTPUTS if (out / name).exists()]
    if lost:
        raise InputError(f"{lost[0]} would be overwritten by the map; name another folder (-o)")


def _finished(out, recipe, overwrite):
    """Return the record of a map made by this very recipe; clear or refuse that of another."""
    record = out / "map.json"
    if not record.exists():
        return None
    found = read_json(record)
    if found["recipe"] == recipe:
        return found
    if not overwrite:
        raise InputError(
            f"{out} has a map of other rasters or settings; name another folder (-o) or --overwrite"
        )
    record.unlink()
    return None


def read_trained(weights):
    """Return what a weight file was built with, and the scaling of its training data."""
    if not weights.exists():
        raise InputError(f"no weights at {weights}; train a network first")
    built = read_built(weights)
    record = weights.with_name(weights.name.removesuffix(".weights.h5") + ".json")
    if built is None or not record.exists():
        raise InputError(
            f"{weights} lacks {'what it is for' if built is None else record.name}; map needs the "
            "weights of a training and the record that it left beside them"
        )
    scaling = read_json(record).get("scaling") or {}
    if missing := [source for source in built["inputs"] if source not in scaling]:
        raise InputError(f"{record} does not say how {missing[0]!r} was scaled for training")
    return built, {source: scaling[source] for source in built["inputs"]}


def _predict(job, scene, out, recipe, scheduler):
    """Write the blended probabilities as raw float32 (y, x), NaN without data; return the path."""
    raw = out / ".part-probability.f32"
    settings = raw.with_suffix(".json")
    out.mkdir(parents=True, exist_ok=True)
    if not (settings.exists() and read_json(settings) == recipe):
        raw.unlink(missing_ok=True)
        write_json(settings, recipe)
    height, width = scene.shape
    starts = scene_starts(height, job.size, job.stride)
    with open(raw, "ab") as file:
        done = file.tell() // (4 * width)
        file.truncate(done * 4 * width)
        # Also those windows before the first missing row that reach over it.
        rows = [row for row in starts if row + job.size > done < height]
        total = np.zeros((2, job.size, width), np.float32)  # weighted probabilities and weights
        bar = progress(
            _strips(job, rows, scheduler),
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


def _strips(job, rows, scheduler):
    """Yield the strips of rows of windows in order, made here or by dask workers."""
    if scheduler is None:
        yield from (predict_strip(job, row) for row in rows)
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError("a scheduler needs dask.distributed: pip install distributed") from None
    try:
        client = Client(scheduler, timeout="30s")
    except (OSError, ValueError) as error:
        raise InputError(f"no dask scheduler at {scheduler}: {error}") from None
    with client:
        waiting, ahead = [], 2 + 2 * sum(client.nthreads().values())
        for i in range(len(rows)):
            while len(waiting) < ahead and i + len(waiting) < len(rows):
                waiting.append(
                    client.submit(predict_strip, job, rows[i + len(waiting)], pure=False)
                )
            yield waiting.pop(0).result()
