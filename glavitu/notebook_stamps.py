"""Stamps of executed notebooks, by which one is known to be up to date."""

from glavitu.files import replacing
from glavitu.progress import without_bars
from glavitu.provenance import fingerprint


def holds(stamp, key, out, results, known):
    """Tell whether a stamp is of this key, and all results are as they were, whatever is beside."""
    if not isinstance(stamp, dict) or not isinstance(stamp.get("results"), dict):
        return False
    now = make_stamp(key, out, results, known)
    found = {name: now["results"].get(name) for name in stamp["results"]}
    return stamp.get("key") == key and stamp["results"] == found and bool(found)


def make_stamp(key, out, results, known):
    """Return what tells that a notebook is up to date: its key, and its results as they are now.

    Of folders, files below `out` that are `known` from notebooks before are left out, and what GIS
    software writes beside rasters that it shows.
    """
    files = []
    for path in results:
        files += sorted(path.glob("[!.]*")) if path.is_dir() else [path]
    names = {p.relative_to(out).as_posix(): p for p in files if not p.name.endswith(".aux.xml")}
    return {
        "key": key,
        "results": {
            name: fingerprint(path) if path.is_file() else None
            for name, path in names.items()
            if name not in known
        },
    }


def finish(target, stamp):
    """Stamp an executed notebook, and take the bars out: they were for those who waited."""
    import nbformat  # takes a second or two; notebooks use this module for their folders alone

    notebook = nbformat.read(target, as_version=4)
    notebook.metadata["glavitu"] = stamp
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        for output in cell.outputs:
            if output.get("name") == "stderr":
                output.text = without_bars(output.text)
        cell.outputs = [output for output in cell.outputs if output.get("text") != ""]
    with replacing(target) as part:
        nbformat.write(notebook, part)


def stamp_of(target):
    """Return the stamp that a notebook executed to its end carries."""
    if not target.exists():
        return None
    import nbformat

    try:
        return nbformat.read(target, as_version=4).metadata.get("glavitu")
    except (nbformat.ValidationError, ValueError, LookupError, TypeError, AttributeError):
        return None  # of no notebook
