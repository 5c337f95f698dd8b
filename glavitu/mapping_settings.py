"""Settings of a map: they are checked, and compared with those of an existing map."""

import re
from datetime import date as calendar
from datetime import datetime
from numbers import Real
from pathlib import Path

from glavitu.bands import recorded_names, usual_grid
from glavitu.differences import changes
from glavitu.errors import InputError
from glavitu.files import read_json
from glavitu.inventories import content_of
from glavitu.outputs import read_built, read_record, record_path
from glavitu.profiles import PRECISIONS, check_precision
from glavitu.progress import say
from glavitu.provenance import fingerprint
from glavitu.units import are_numbers, as_whole, check_factors, check_scaling, is_whole
from glavitu.windows import check_stride

RAW = ".part-probability.f32"  # the probabilities so far; their settings beside them end in .json
AFTERWARDS = ("calibration", "picture", "outlines")  # of a recipe; they change no probability
UNSPOKEN = {"calibration": "another calibration", "fingerprints": "another content of {}"}
OUTPUTS = ("glacier.tif", "probability.tif", "confidence.tif", "outlines.gpkg", "quicklook.png")


def read_trained(weights):
    """Return what a weight file was built with, and how its training's data were scaled.

    With the former come the ``pixel_size`` and the names of the ``bands`` of these data, and the
    ``precision`` that the training was told.
    """
    built = read_built(weights)
    record = record_path(weights)
    if weights.with_name(f"{record.stem}.checkpoint.h5").exists():
        raise InputError(f"{weights} is of a training that has not ended; run train again")
    if built is None or not record.exists():
        lack = "does not say what it is for" if built is None else f"lacks {record.name}"
        raise InputError(
            f"{weights} {lack}; map needs the weights of a training and the record that it left "
            "beside them"
        )
    content = read_record(weights, "scaling")
    built["pixel_size"] = content.get("pixel_size")
    if built["pixel_size"] is not None and not are_numbers([built["pixel_size"]], 1):
        raise InputError(f"{record}: pixel_size is {built['pixel_size']!r}, expected metres")
    settings = content.get("settings")
    known = isinstance(settings, dict) and settings.get("precision") in PRECISIONS
    built["precision"] = settings["precision"] if known else "auto"
    built["bands"] = recorded_names(content, built["inputs"], record)
    scaling = content["scaling"] or {}
    check_scaling(f"{record}: scaling", scaling, built["inputs"])
    if missing := [source for source in built["inputs"] if source not in scaling]:
        raise InputError(f"{record} does not say how {missing[0]!r} was scaled for training")
    return built, {source: scaling[source] for source in built["inputs"]}


def check_options(options, built, scaling):
    """Return options of maps as plain Python values; refuse those that suit no scene.

    Parameters
    ----------
    options : dict
        Any of the keyword arguments of `glavitu.map_scene`; those of NumPy's types become Python's.
    built, scaling
        What `read_trained` returns.
    """
    size = built["patch_size"]
    checks = {
        "grid": lambda grid: _grid(grid, built["inputs"]),
        "nodata": lambda values: _numbers("nodata", values),
        "factors": lambda values: check_factors(_numbers("factor", values), scaling),
        "own_scaling": bool,
        "stride": lambda value: check_stride(value, size),
        "batch_size": lambda value: _at_least(1, "batch_size", as_whole("batch_size", value)),
        "symmetries": bool,
        "precision": lambda value: check_precision(built["precision"] if value is None else value),
        "dropout_samples": lambda value: _at_least(
            0, "dropout_samples", as_whole("dropout_samples", value)
        ),
        "min_area": lambda value: float(_at_least(0, "min_area", value)),
        "smooth": lambda value: float(_at_least(0, "smooth", value)),
        "date": check_date,
        "picture": lambda picture: _picture(picture, built["inputs"]),
    }
    given = {name: check for name, check in checks.items() if name in options}
    return options | {name: check(options[name]) for name, check in given.items()}


def _picture(picture, inputs):
    """Return which bands of which source to draw, None for the usual ones."""
    if not by_source("picture", picture):
        return None
    for source, bands in picture.items():
        if source not in inputs:
            raise InputError(f"picture of {source!r}, expected one of {', '.join(inputs)}")
        bands = list(bands) if isinstance(bands, list | tuple) else [bands]
        known = [is_whole(band) and 1 <= band <= inputs[source] for band in bands]
        if len(known) != 3 or not all(known):
            raise InputError(
                f"picture of {source!r} has the bands {', '.join(map(str, bands))}, expected "
                f"three of 1 to {inputs[source]}, for red, green and blue"
            )
    if len(picture) > 1:
        raise InputError(f"pictures of {' and '.join(picture)}, expected one source")
    return {source: [int(band) for band in bands] for source, bands in picture.items()}


def by_source(name, values):
    """Return a dict, of sources, for a dict or None; refuse anything else."""
    if values is not None and not isinstance(values, dict):
        raise InputError(f"{name} is {values!r}, expected a dict by source, such as {{'dem': ...}}")
    return values or {}


def _grid(grid, inputs):
    """Return the source whose grid is the map's: that given, optical, or the network's first."""
    if grid not in (None, *inputs):
        raise InputError(f"grid is {grid!r}, expected {' or '.join(inputs)}")
    return grid or usual_grid(inputs)


def _at_least(least, name, number):
    if not isinstance(number, Real) or not least <= number < float("inf"):
        raise InputError(f"{name} is {number!r}, expected a number of at least {least}")
    return number


def _numbers(name, values):
    """Return a dict of numbers of any kind as numbers that JSON knows; refuse others."""
    values = by_source(name, values)
    for source, value in values.items():
        if not isinstance(value, Real):
            raise InputError(f"{name} of {source!r} is {value!r}, expected a number")
    return {
        source: value if isinstance(value, int) else float(value)
        for source, value in values.items()
    }


def check_date(date):
    """Refuse anything that is not a date, such as 30 February; an empty text means unknown."""
    date = "" if date is None else str(date.date() if isinstance(date, datetime) else date)
    if date:
        try:
            if not re.fullmatch(r"\d{4}(-\d\d){0,2}", date):
                raise ValueError
            calendar.fromisoformat((date + "-01-01")[:10])
        except ValueError:
            raise InputError(
                f"date {date!r}, expected YYYY, YYYY-MM or YYYY-MM-DD, such as 2020-08-31"
            ) from None
    return date


def check_outputs(out, inputs):
    """Refuse a folder where files that are not of a map of ours would be lost."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder (out)")
    files = [out / name for name in (*OUTPUTS, "comparison.csv", "map.json")]
    resolved = {path.resolve() for path in files}  # also through links and ..
    lost = [path for path in inputs if Path(path).resolve() in resolved]
    if not (out / "map.json").exists() and not (out / RAW).with_suffix(".json").exists():
        lost += [path for path in files if path.exists()]
    if lost:
        raise InputError(f"{lost[0]} would be overwritten by the map; name another folder (out)")


def finished(out, recipe, overwrite):
    """Return the record of a map made by this very recipe, None where there is none.

    A map of another recipe is refused, unless it may be overwritten.
    """
    path = out / "map.json"
    if not path.exists():
        return None
    record = read_json(path, "recipe", "remarks")
    if not isinstance(record["recipe"], dict):
        raise InputError(f"{path} holds no settings of a map; name another folder (out)")
    old = placed(record["recipe"], recipe)
    change = changes(_compared(old), _compared(recipe), UNSPOKEN)
    if not change and not (lost := changed_files(out, record, OUTPUTS)):
        return record
    if not change and not overwrite and (there := [name for name in lost if (out / name).exists()]):
        raise InputError(
            f"{out / there[0]} is not what map wrote there; keep it elsewhere, and replace the map "
            "(overwrite)"
        )
    if change and not overwrite:
        kept = ", which predicts nothing again" * (decisive(old) == decisive(recipe))
        raise InputError(
            f"{out} has a map with {change}; name another folder (out) or replace it "
            f"(overwrite){kept}"
        )
    if change:
        say(f"{out.name}: the map with {change} will be replaced")
    return None


def changed_files(out, record, names):
    """Return those files of a map that are gone, or not what its record says."""
    said = record.get("files") or {}
    return [
        name
        for name in names
        if not (out / name).is_file() or (name in said and mark_of(out / name) != said[name])
    ]


def mark_of(path):
    """Return what tells whether a file of a map was changed.

    Of outlines it is their content: GIS software writes into the file when it shows them.
    """
    return content_of(path) if path.suffix == ".gpkg" else fingerprint(path)


def placed(old, new):
    """Return an old recipe with its files where the new one has them, if they are the same."""
    was, paths = old.get("fingerprints"), old.get("paths")
    if not isinstance(was, dict) or not isinstance(paths, dict):
        return old
    pairs = [(path, new["paths"].get(source)) for source, path in paths.items()]
    pairs += [(old.get("weights"), new["weights"])]
    moved = {
        before: after
        for before, after in pairs
        if isinstance(before, str) and was.get(before) == new["fingerprints"].get(after, "gone")
    }
    return old | {
        "weights": moved.get(old.get("weights"), old.get("weights")),
        "paths": {source: moved.get(path, path) for source, path in paths.items()},
        "fingerprints": {moved.get(path, path): found for path, found in was.items()},
    }


def _compared(recipe):
    """Return the settings that a map is compared by, those of outlines beside the others."""
    outlines = recipe.get("outlines")
    rest = {key: recipe.get(key) for key in AFTERWARDS if key != "outlines"}
    return decisive(recipe) | rest | (outlines if isinstance(outlines, dict) else {})


def decisive(recipe):
    """Return those settings that change probabilities."""
    found = {key: value for key, value in recipe.items() if key not in AFTERWARDS}
    if not recipe.get("dropout_samples"):  # which are drawn for each batch
        found.pop("batch_size", None)
    return found


def clear(out, *, compares):
    """Remove a map of ours; its record last, as maps without one count as somebody else's.

    Say so where its comparison goes, too, and the new map is not compared.
    """
    if (out / "map.json").exists():
        record = read_json(out / "map.json")
        if record.get("reference") and not compares:
            say(f"{out.name}: the comparison goes with the old map; the new one has no reference")
        compared = ["comparison.csv"] * ("reference" in record)
        for name in (*OUTPUTS, *compared, "map.json"):
            (out / name).unlink(missing_ok=True)
