"""What the bands of sources are called: as rasters or a user say, or as in the published data."""

from glavitu.errors import InputError
from glavitu.profiles import are_names

PUBLISHED_BANDS = {
    "optical": ("blue", "green", "red", "NIR", "SWIR1", "SWIR2"),
    "dem": ("elevation", "slope"),
}
# Bands that pictures show as red, green and blue: the first three that are all there.
COLOURS = (("SWIR1", "NIR", "red"), ("NIR", "red", "green"), ("red", "green", "blue"))


def names_in(raster):
    """Return what a raster (y, x, band) calls its bands, nothing if it does not name each."""
    names = raster.attrs.get("long_name", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    return names if len(names) == raster.sizes["band"] and are_names(names) else ()


def check_count(where, source, found, expected):
    """Refuse another number of bands of a source than expected; `where` names file or tile."""
    if found != expected:
        raise InputError(f"{where}: {source!r} has {found} band(s), expected {expected}")


def check_names(bands, sources):
    """Return source -> names as lists; refuse those that are not one for each band of a source.

    `sources` is source -> number of bands.
    """
    for source, names in bands.items():
        if not _are_list(names) or len(names) != sources[source]:
            raise InputError(
                f"the bands of {source!r} are named {names!r}, expected {sources[source]} "
                "different names"
            )
    return {source: list(names) for source, names in bands.items()}


def check_order(where, found, expected, who="the network was trained on"):
    """Refuse bands of a source that are those expected, by their names, but in another order.

    `found` and `expected` are source -> names; other names say nothing, as they differ in spelling.
    """
    for source in found.keys() & expected.keys():
        one, other = ([name.casefold() for name in names[source]] for names in (found, expected))
        if one != other and sorted(one) == sorted(other):
            raise InputError(
                f"{where}: the bands of {source!r} are {', '.join(found[source])}, {who} "
                f"{', '.join(expected[source])}; bring them into that order"
            )


def complete_names(said, sources, where):
    """Return names for every band of `sources`, source -> number of bands.

    They are those `said`, else those of the published data, else ``band 1`` and so on. `where` is
    what an error names if nothing of the kind was said.
    """
    if not isinstance(said, dict) or not all(map(_are_list, said.values())):
        raise InputError(f"{where} names no bands of sources")
    found = {}
    for source, count in sources.items():
        known = [names.get(source, ()) for names in (said, PUBLISHED_BANDS)]
        numbered = _numbered(count)
        found[source] = next((list(names) for names in known if len(names) == count), numbered)
    return found


def are_numbered(names):
    """Tell whether names of bands are none, or say no more than their numbers."""
    return list(names) == _numbered(len(names))


def _numbered(count):
    return [f"band {band + 1}" for band in range(count)]


def recorded_names(record, sources, where):
    """Return source -> names of its bands by the record of a training; none if it has none."""
    if "bands" not in record:
        return {}
    return complete_names(record["bands"], sources, f"{where}: bands")


def colours_of(names):
    """Return the numbers, from 1, of the bands that a picture shows as red, green and blue.

    Where none of `COLOURS` are there by name, bands are taken to begin with blue, green, red, NIR
    and SWIR1; fewer than three make a grey picture of the first.

    Examples
    --------
    >>> colours_of(["red", "green", "blue", "NIR"])
    [4, 1, 2]
    >>> colours_of(["elevation", "slope"])
    [1, 1, 1]
    """
    for colours in COLOURS:
        if set(colours) <= set(names):
            return [list(names).index(colour) + 1 for colour in colours]
    last = min(len(names), 5)
    return [last, last - 1, last - 2] if last > 2 else [1, 1, 1]


def in_words(names, bands):
    """Return what bands of these numbers are called, such as a picture's; once where all are one.

    Examples
    --------
    >>> in_words(["red", "green", "blue", "NIR"], [4, 1, 2]), in_words(["slope"], [1, 1, 1])
    ('NIR, red, green', 'slope')
    """
    return ", ".join(names[band - 1] for band in (bands if len(set(bands)) > 1 else bands[:1]))


def _are_list(names):
    return isinstance(names, list | tuple) and are_names(names)


def usual_grid(sources):
    """Return the source whose grid a scene has where none is named."""
    return "optical" if "optical" in sources else next(iter(sources))
