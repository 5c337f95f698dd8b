"""Map all scenes of a table, one after the other, with one network."""

from pathlib import Path

import pandas as pd

from glavitu.errors import InputError
from glavitu.files import locked, read_json, replacing
from glavitu.mapping import map_scene
from glavitu.mapping_settings import check_options, read_trained
from glavitu.outputs import record_path
from glavitu.platt import read_calibration
from glavitu.progress import counted, say
from glavitu.streaming import connected
from glavitu.tables import inside, read_table

FIXED_COLUMNS = ("name", "date", "reference")
SUMMARY = "scenes.csv"
FIGURES = ("outlines", "area_km2")  # of a map, beside those of its comparison


def map_scenes(weights, csv, out, *, scheduler=None, **options):
    """Map the scenes of a table.

    Parameters
    ----------
    weights : str or Path
        As for `map_scene`; the network is loaded once.
    csv : str or Path
        Table with the columns ``name``, one per source the network was trained with, and if wanted
        ``date`` and ``reference``: files in the table's folder or below, relative to it.
    out : str or Path
        Folder for the maps of each scene, ``out/NAME``, and ``scenes.csv``: a row per scene of what
        was found, renewed after each; below them those of other maps that are in the folder.
    scheduler : str or distributed.Client, optional
        As for `map_scene`; the rows of windows of one scene after the other go to the workers.
    **options
        Of all scenes, as for `map_scene`.

    Returns
    -------
    pandas.DataFrame
        The table's rows of ``scenes.csv``: ``name``, ``date``, ``weights`` (the name of the
        training), ``outlines``, ``area_km2``, the figures of the comparison, ``remarks`` and
        ``error``, the line that says why a scene was not mapped; figures beside it are those of
        the map that stays. Scenes that are mapped already are not mapped again.

    Raises
    ------
    InputError
        For weights, settings or a table that cannot be used. A scene that cannot be mapped stops no
        other.
    """
    weights, csv, out = Path(weights), Path(csv), Path(out)
    if given := [key for key in ("date", "reference") if options.get(key)]:
        raise InputError(f"{given[0]} of scenes is in their table, a column of {csv}")
    built, scaling = read_trained(weights)
    inputs = list(built["inputs"])
    options = check_options(options, built, scaling)
    read_calibration(weights)  # one of other weights is refused once, not for each scene
    table = _read(csv, inputs)
    _check_summary(csv, out)
    rows = []
    with connected(scheduler) as client:
        for _, scene in table.iterrows():
            row = {"name": scene["name"], "date": scene["date"], "error": ""}
            try:
                row |= _map(weights, csv, scene, inputs, out, options | {"scheduler": client})
            except InputError as error:
                row["error"] = str(error)
            except PermissionError as error:
                row["error"] = f"{error.filename}: {error.strerror}"
            rows.append(row)
            _write(rows, out)
            _report(row)
    return _summary(rows)


def _read(csv, inputs):
    expected = f"name, {', '.join(inputs)}, and if wanted date and reference"
    table = read_table(csv, ("name", *inputs), expected)
    unknown = [column for column in table if column not in (*FIXED_COLUMNS, *inputs)]
    if unknown:
        raise InputError(f"{csv}: column {unknown[0]!r} is not used; expected {expected}")
    if (table["name"] == SUMMARY).any():
        raise InputError(f"{csv}: no scene can be named {SUMMARY!r}, as the summary is")
    if table.empty:
        raise InputError(f"{csv} has no scenes; expected a row for each")
    return table.assign(**{name: "" for name in FIXED_COLUMNS if name not in table})


def _check_summary(csv, out):
    """Refuse a folder whose table is not a summary of ours."""
    summary = out / SUMMARY
    if summary.exists() and (
        summary.samefile(csv) or b"outlines" not in summary.read_bytes()[:1000]
    ):
        raise InputError(
            f"{summary} would be overwritten by the summary; name another folder (out)"
        )


def _map(weights, csv, scene, inputs, out, options):
    """Map one scene; return its part of the summary."""
    paths = {source: inside(csv, scene[source]) for source in inputs if scene[source]}
    reference = inside(csv, scene["reference"]) if scene["reference"] else None
    options |= {"date": scene["date"], "reference": reference}
    return _figures(map_scene(weights, paths, out / scene["name"], **options))


def _maps(out, besides):
    """Return the rows of the maps that are in a folder besides those of some names."""
    folders = (record.parent for record in sorted(out.glob("*/map.json")))
    kept = {each.name: _kept(each) for each in folders if each.name not in besides}
    return [{"name": name} | row | {"error": ""} for name, row in kept.items() if row]


def _kept(folder):
    """Return the summary of a map that is there, nothing where it cannot be read."""
    try:
        found = _figures(read_json(folder / "map.json", *FIGURES, "recipe", "remarks"))
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return found if all(isinstance(found[key], int | float) for key in FIGURES) else {}


def _figures(found):
    recipe = found["recipe"]
    told = {
        "date": recipe["outlines"]["date"],
        "weights": record_path(Path(recipe["weights"])).stem,
        "remarks": " ".join(found["remarks"]),
    }
    return {key: found[key] for key in FIGURES} | found.get("comparison", {}) | told


def _report(row):
    if row["error"]:
        kept = "; the map that is there stays" * ("outlines" in row)
        say(f"{row['name']}: not mapped: {row['error']}{kept}")
        return
    iou = f", IoU {row['iou']:.3f} with the reference" if row.get("glaciers") else ""
    outlines = counted(row["outlines"], "outline")
    say(f"{row['name']}: {outlines}, {row['area_km2']:.2f} km2{iou}")
    if row["remarks"]:
        say(f"{row['name']}: {row['remarks']}")


def _write(rows, out):
    """Write the summary, with rows of the maps of other runs, also such as are at work."""
    with locked(out / SUMMARY, wait=True), replacing(out / SUMMARY) as part:
        for row in rows:
            if row["error"]:  # a run at work may have mapped it since
                row |= _kept(out / row["name"])
        others = _maps(out, besides={row["name"] for row in rows})
        _summary([*rows, *others]).to_csv(part, index=False)


def _summary(rows):
    """Return rows as a table, the figures of comparisons between the others."""
    summary = pd.DataFrame(rows)
    first, last = ["name", "date", "weights", *FIGURES], ["remarks", "error"]
    compared = [column for column in summary if column not in first + last]
    summary = summary.reindex(columns=first + compared + last)
    counts = {"outlines", "glaciers", "glaciers_mapped", "glaciers_missed"} & set(summary)
    return summary.astype(dict.fromkeys(counts, "Int64"))  # also where scenes have none
