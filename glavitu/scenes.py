"""`compile_tiles`: a `tiles.csv` of GeoTIFFs to HDF5 tile files."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from glavitu import __version__
from glavitu.bands import check_count, check_names, check_order, names_in
from glavitu.errors import InputError
from glavitu.files import locked, replacing
from glavitu.hdf5 import open_file, plain, reading
from glavitu.hdf5_writing import open_new, write_tile
from glavitu.profiles import UNFINISHED
from glavitu.progress import progress, say
from glavitu.remarks import far_from_split, no_data, no_degrees, unlike_each_other
from glavitu.surfaces import SURFACE, UNKNOWN
from glavitu.tile_rasters import read_tile
from glavitu.tile_tables import read_tile_table, sources_of
from glavitu.tiles import SPLITS
from glavitu.units import evenly, is_whole, scale

LARGEST_PATCH = 1 << 14  # pixels of a side
SAMPLE = 2_000_000  # pixels per band from which the percentiles are estimated


def compile_tiles(csv, directory, *, patch_size=384, bands=None):
    """Compile a table of GeoTIFF tiles to ``train.hdf5``, ``val.hdf5`` and ``test.hdf5``.

    Sources are scaled to about 0..1, linearly, from the 1st to the 99th percentile of the training
    split, band by band; scales and offsets that rasters declare are applied before. A pixel that
    lacks data in at least one source, or has no label, is unlabelled (its one-hot is all zero) and
    its missing values are 0. Tiles smaller than a patch are padded with unlabelled zeros on each
    side.

    Parameters
    ----------
    csv : str or Path
        Table with the columns ``tile``, ``region``, ``split`` (train, val or test), one column per
        source, and ``groundtruth`` (1 = glacier, 0 = not): paths relative to the table's folder.
        An optional column ``surface``, which tiles may leave empty, names rasters of whole numbers
        that are kept for scoring, unscaled, and are no source: a surface (0 rock, 1 clean ice,
        2 debris-covered ice, 3 seasonal snow, 4 water, 5 vegetation) plus 10 in shadow or 20 under
        cloud; 255 or no data means unknown.
    directory : str or Path
        Folder for the three files; those of an earlier call are replaced.
    patch_size : int
        Least height and width of the stored tiles, in pixels.
    bands : dict of str to list of str, optional
        Source -> names of its bands, in order, for figures and the band ratio (which needs SWIR1
        and green, red or NIR of ``optical``); by default what the rasters call their bands.

    Returns
    -------
    dict of str to Path
        The file of each split.

    Raises
    ------
    InputError
        For a table or raster that cannot be used, or a folder with demo data or tile files from
        elsewhere, such as downloaded ones; nothing is written then.
    """
    if not is_whole(patch_size) or not 1 <= patch_size <= LARGEST_PATCH:
        raise InputError(
            f"patch_size is {patch_size!r}, expected a whole number from 1 to {LARGEST_PATCH}"
        )
    _check_replaceable(directory)
    table, scaling, names = survey(csv, bands)
    if any(path.exists() for path in _files(directory).values()):
        say(f"{directory}: the files of an earlier compile are replaced")
    with locked(Path(directory) / "tiles"):
        (Path(directory) / UNFINISHED).unlink(missing_ok=True)
        return write_splits(table, scaling, names, directory, patch_size)


def _check_replaceable(directory):
    """Refuse a folder with tile files that are not of `compile_tiles` and may be all there is.

    Those of other names are meant, too, as they would be hidden behind the new ones, and demo data.
    """
    directory = Path(directory)
    if (directory / "demo_data.json").exists():
        raise InputError(f"{directory} holds demo data; name another folder")
    named = [path for path in _files(directory).values() if path.exists()]
    for path in named + sorted(p for split in SPLITS for p in directory.glob(f"{split}_*.hdf5")):
        with suppress(InputError, IsADirectoryError), open_file(path) as file, reading(path):
            if str(plain(file.attrs).get("software")).startswith("glavitu "):
                continue
        raise InputError(f"{path} was not written by compile; name another folder, or remove it")


def _files(directory):
    return {split: Path(directory) / f"{split}.hdf5" for split in SPLITS}


def survey(csv, bands=None):
    """Return the table at `csv`, checked, and by source the scaling and the names of its bands."""
    table = read_tile_table(Path(csv))
    sources = sources_of(table)
    if unknown := [source for source in bands or {} if source not in sources]:
        raise InputError(
            f"bands of {unknown[0]!r} are named, but the sources are {', '.join(sources)}"
        )
    scaling, names = _training_scaling(table, sources)
    counts = {source: len(bounds["low"]) for source, bounds in scaling.items()}
    given = check_names(bands or {}, counts)
    check_order(csv, names, given, "compile was told")
    return table, scaling, names | given


def write_splits(table, scaling, names, directory, patch_size):
    """Write the files of `compile_tiles`, of what `survey` gives, to a folder that is locked."""
    paths = _files(directory)
    with (
        replacing(paths["train"]) as train,
        replacing(paths["val"]) as val,
        replacing(paths["test"]) as test,
    ):
        for split, part in zip(SPLITS, (train, val, test), strict=True):
            _write_split(part, table[table["split"] == split], scaling, names, patch_size)
        # Never some of these tiles beside some of those before, which were scaled otherwise.
        for old in (*paths.values(), Path(directory) / "demo_data.json"):
            old.unlink(missing_ok=True)
    return paths


def _training_scaling(table, sources):
    """Return per source the 1st and 99th percentile of each band over the training split.

    Also the names of the bands, of those sources whose rasters all call them the same.
    """
    rows = table[table["split"] == "train"]
    share = max(1000, SAMPLE // len(rows))
    samples, units = {source: [] for source in sources}, {}
    bands, names = {}, {source: set() for source in sources}
    for _, row in progress(rows.iterrows(), total=len(rows), description="statistics"):
        arrays = read_tile(row, sources)[1]
        bands = bands or {source: array.sizes["band"] for source, array in arrays.items()}
        _check_bands(row, arrays, bands)
        for source, array in arrays.items():
            names[source].add(names_in(array))
            units.setdefault(source, array.encoding["units"])
            pixels = array.values.reshape(-1, array.sizes["band"])
            samples[source].append(evenly(pixels, share, array.sizes["x"]))
    for source, tiles in samples.items():
        for remark in unlike_each_other(source, dict(zip(rows["tile"], tiles, strict=True))):
            say(remark)
    scaling = {s: _percentiles(s, tiles, units[s]) for s, tiles in samples.items()}
    same = {source: found.pop() for source, found in names.items() if len(found) == 1}
    return scaling, {source: list(found) for source, found in same.items() if found}


def _percentiles(source, tiles, units):
    pixels = np.concatenate(tiles)
    if np.isnan(pixels).all(axis=0).any():
        raise InputError(f"{source!r} has a band without any data in the training split")
    advice = "declare it, as with gdal_edit.py -a_nodata {value:.17g}"
    told = no_data({source: pixels}, advice, {source: units})
    for remark in told + (no_degrees(pixels) if source == "dem" else []):
        say(remark)
    low, high = np.nanpercentile(pixels, (1, 99), axis=0)
    if (low == high).any():
        band = int(np.flatnonzero(low == high)[0])
        raise InputError(
            f"band {band + 1} of {source!r} is {low[band]} all over the training split"
        )
    return {"low": low.tolist(), "high": high.tolist()}


def _write_split(path, rows, scaling, names, patch_size):
    labelled, expected = False, {s: len(bounds["low"]) for s, bounds in scaling.items()}
    with open_new(path) as file:
        file.attrs["scaling"] = json.dumps(scaling)
        file.attrs["bands"] = json.dumps(names)
        file.attrs["software"] = f"glavitu {__version__}"
        for _, row in progress(rows.iterrows(), total=len(rows), description=rows["split"].iloc[0]):
            label, arrays, surface = read_tile(row, list(scaling))
            _check_bands(row, arrays, expected)
            if row["split"] != "train":  # of whose tiles the scaling is made
                for remark in far_from_split({s: a.values for s, a in arrays.items()}, scaling):
                    say(f"tile {row['tile']}: {remark}")
            tile, attributes = _prepare(label, arrays, surface, scaling, patch_size)
            if tile["groundtruth"].any():
                labelled = True
            else:
                say(f"tile {row['tile']} has no pixel that is labelled and has data everywhere")
            write_tile(file, row["tile"], tile, attributes | {"region": row["region"]})
            file.flush()
    if not labelled:
        raise InputError(
            f"no pixel of the split {row['split']!r} is labelled and has data in every source"
        )


def _check_bands(row, arrays, expected):
    """Refuse a tile whose sources have other numbers of bands than the first one to train on."""
    for source, array in arrays.items():
        where = f"tile {row['tile']}: {row[source]}"
        check_count(where, source, array.sizes["band"], expected[source])


def _prepare(label, arrays, surface, scaling, patch_size):
    """Return the arrays of a tile as they are stored, and its attributes."""
    valid = np.isfinite(label.values[..., 0])
    for array in arrays.values():
        valid &= np.isfinite(array.values).all(axis=-1)
    glacier = label.values[..., 0] == 1
    stored = {source: scale(array.values, **scaling[source]) for source, array in arrays.items()}
    stored["groundtruth"] = np.stack([valid & ~glacier, valid & glacier], -1).astype(np.float32)
    pads = [max(0, -(-(patch_size - side) // 2)) for side in valid.shape]
    stored = {
        name: np.pad(array, [(pads[0],) * 2, (pads[1],) * 2, (0, 0)])
        for name, array in stored.items()
    }
    if surface is not None:
        stored[SURFACE] = np.pad(surface, [(pad,) * 2 for pad in pads], constant_values=UNKNOWN)
    a, _, c, _, e, f = tuple(label.rio.transform())[:6]
    attributes = {
        "padding_height": pads[0],
        "padding_width": pads[1],
        "transform": (a, 0.0, c - a * pads[1], 0.0, e, f - e * pads[0]),
    }
    if label.rio.crs:
        attributes["crs"] = label.rio.crs.to_string()
    return stored, attributes
