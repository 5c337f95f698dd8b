"""Map a scene of any size: rasters in; maps, outlines and how they were made out."""

import json
import time
from pathlib import Path

import rasterio

from glavitu import remarks, units
from glavitu.bands import check_order
from glavitu.errors import InputError
from glavitu.files import locked, write_json
from glavitu.grids import pixel_size
from glavitu.inventories import about, read_outlines
from glavitu.local_rasters import check_local, fingerprint_of
from glavitu.mapping_outputs import compare, draw, write_maps
from glavitu.mapping_settings import (
    OUTPUTS,
    by_source,
    changed_files,
    check_options,
    check_outputs,
    clear,
    finished,
    mark_of,
    read_trained,
)
from glavitu.platt import read_calibration, tells_little
from glavitu.progress import say
from glavitu.provenance import fingerprint, provenance
from glavitu.stacks import open_scene
from glavitu.streaming import connected, predict_scene, remove_parts, reuse
from glavitu.strips import Job, check_dropout, opened

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
    precision=None,
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
        ``confidence.tif`` (calibrated probability of the class mapped, below 0.5 where such a
        pixel is more often of the other), ``outlines.gpkg``,
        ``quicklook.png`` and ``map.json``; with a reference also ``comparison.csv``.
    grid : str, optional
        The source whose grid is the map's; by default ``optical``, or the network's first.
    nodata : dict of str to float, optional
        Source -> value that means no data in its raster, beside what the raster itself declares.
    factors : dict of str to float, optional
        Source -> what its values are multiplied by, to bring them to the training data's units.
        That of ``dem`` is for the elevation alone, from which a missing slope is then computed; a
        slope in the file stays as it is, in degrees.
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
    precision : str, optional
        What the network computes in, by default as the training was told: ``float32``,
        ``bfloat16``, or ``auto``, the faster one here; the workers of a scheduler do the same.
    min_area : float
        Least area of an outline, in km2; smaller ones are left out, of the comparison as well, and
        counted in ``map.json``.
    smooth : float
        How far the pixels' corners may be cut from outlines, in metres.
    date : str or datetime.date
        When the scene was seen, for the outlines: YYYY, YYYY-MM or YYYY-MM-DD.
    picture : dict of str to list of int, optional
        Source -> its bands, from 1, that ``quicklook.png`` shows as red, green and blue; by default
        SWIR1, NIR and red of ``optical``, or NIR, red and green, by what the raster calls its bands
        or, without names, as if they were in the order of the published data.
    reference : str or Path, optional
        Outlines to compare the map with, such as the inventory of a whole region: those about the
        scene are used, and there may be none. A map that is there already is not made again for it.
    scheduler : str or distributed.Client, optional
        Address of a dask scheduler whose workers predict, or a client of it; the workers must see
        the same files.
    overwrite : bool
        Whether to replace a map of another scene, or made with other settings. If only what comes
        after the probabilities is other (calibration, outlines, picture), nothing is predicted.

    Returns
    -------
    dict
        What ``map.json`` says; read its ``remarks``. A map that is there already is not made
        again; one that was cut off goes on where it was.

    Raises
    ------
    InputError
        For weights without a record, rasters or settings that do not fit, or a folder with another
        map: the message names the settings that differ. Files that were moved or copied are the
        same. Also where what a map left was changed since, such as an outline.
    """
    if not isinstance(weights, str | Path):
        raise InputError(
            f"weights are a {type(weights).__name__}, expected the path of a training's weight "
            "file: the record beside it says how rasters are to be scaled"
        )
    weights, out = Path(weights).absolute(), Path(out).absolute()
    built, scaling = read_trained(weights)
    paths = _absolute(paths)
    options = check_options(
        {
            "grid": grid,
            "nodata": nodata,
            "factors": factors,
            "own_scaling": own_scaling,
            "stride": stride,
            "batch_size": batch_size,
            "symmetries": symmetries,
            "dropout_samples": dropout_samples,
            "precision": precision,
            "min_area": min_area,
            "smooth": smooth,
            "date": date,
            "picture": picture,
        },
        built,
        scaling,
    )
    recipe = {
        "weights": str(weights),
        "paths": paths,
        "inputs": built["inputs"],
        "size": built["patch_size"],
        "scaling": scaling,
        "calibration": read_calibration(weights),
        "outlines": {key: options.pop(key) for key in ("min_area", "smooth", "date")},
    } | options
    inventory, given = None, None
    if reference is not None:
        inventory = read_outlines(reference)
        given = {"path": str(Path(reference).absolute()), "fingerprint": fingerprint(reference)}
    check_outputs(out, [str(weights), *paths.values(), *([given["path"]] if given else [])])
    if dropout_samples:
        check_dropout(str(weights), recipe["precision"])
    reading = {key: recipe[key] for key in ("inputs", "grid", "nodata", "factors")}
    reading["names"] = built["bands"]
    with rasterio.Env(GDAL_CACHEMAX=CACHE), open_scene(paths, **reading) as scene:
        for source, path in paths.items():
            check_order(path, {source: scene.band_names[source]}, built["bands"])
        recipe["fingerprints"] = {str(weights): fingerprint(weights)}
        recipe["fingerprints"] |= {path: fingerprint_of(path) for path in paths.values()}
        recipe = json.loads(json.dumps(recipe))
        with locked(out / "map.json"):
            record = finished(out, recipe, overwrite)
            if record:
                remove_parts(out, recipe)
            if record and (given is None or _is_compared(out, record, given)):
                say(f"{out.name}: mapped already")
                return record
            if given:
                inventory = about(scene.grid, inventory)
                if inventory.empty:
                    say(f"{out.name}: no outline of the reference is about the scene")
            if made := record is None:
                record = _make(scene, out, recipe, built, inventory, scheduler)
            if given:
                _compare(out, record, inventory, given)
                if not made:
                    draw(scene, out, inventory, recipe["picture"])
                _write_record(out, record, ["quicklook.png", "comparison.csv"])
    return record


def _absolute(paths):
    """Return source -> absolute path; refuse addresses."""
    paths = by_source("paths", paths)
    for path in paths.values():
        check_local(path)
    return {source: str(Path(path).absolute()) for source, path in paths.items()}


def _is_compared(out, record, reference):
    same = record.get("reference") == reference
    return same and not changed_files(out, record, ["comparison.csv"])


def _write_record(out, record, written):
    """Write ``map.json`` of a map that is there as a whole, and how to know the files `written`."""
    record["files"] = record.get("files", {}) | {name: mark_of(out / name) for name in written}
    write_json(out / "map.json", record)


def _make(scene, out, recipe, built, reference, scheduler):
    """Make a map; write and return its record."""
    from glavitu.backend import resolve  # not above, as in `strips`

    pixels = units.sample(scene)
    scaling = units.in_units(recipe["scaling"], recipe["factors"])
    if recipe["own_scaling"]:
        scaling = units.own_scaling(pixels)
    told = remarks.unlike_pixels(pixel_size(scene.grid), built["pixel_size"])
    told += remarks.unlike_training(pixels, scaling)
    advice = "say so by nodata, here {source}={value:.17g}"
    told += remarks.no_data(pixels, advice, scene.units)
    settings = {key: recipe[key] for key in Job._fields}
    job = Job(**settings | {"scaling": scaling, "precision": resolve(recipe["precision"])})
    if recipe["calibration"] and tells_little(recipe["calibration"][0]):
        told.append(remarks.LITTLE_TOLD)
    if scheduler is None:
        opened(job)  # weights that cannot be used show before anything is written
    replaced = reuse(scene, out, recipe)
    started = time.perf_counter()
    with connected(scheduler) as client:
        raw = predict_scene(job, scene, out, recipe, client)
    taken = round(time.perf_counter() - started, 1)
    clear(out, compares=reference is not None)
    record = {
        "architecture": built["architecture"],
        "grid": scene.report,
        "recipe": recipe,
        "prediction_seconds": replaced.get("prediction_seconds") if replaced else taken,
    }
    record |= write_maps(raw, scene, out, record)
    told += remarks.many_small(record, recipe["outlines"]["min_area"])
    record["remarks"] = told + remarks.mostly_empty(record["share_with_data"])
    draw(scene, out, reference, recipe["picture"])
    record["provenance"] = provenance()
    _write_record(out, record, OUTPUTS)
    remove_parts(out, recipe)
    return record


def _compare(out, record, reference, given):
    """Compare a map with a reference; add what was found to its record."""
    record.pop("comparison", None)
    kept = dict(record.get("files", {}))
    for name in ("quicklook.png", "comparison.csv"):  # which are written anew
        kept.pop(name, None)
    # cut off, it would look compared
    write_json(out / "map.json", record | {"reference": None, "files": kept})
    found = compare(out, reference)
    told = [remark for remark in record["remarks"] if remark != remarks.NO_GLACIER]
    record["remarks"] = told if found["glaciers"] else [*told, remarks.NO_GLACIER]
    record |= {"comparison": found, "reference": given}
