"""What the bands of sources are called: as rasters or a user say, or as in the published data."""

from glavitu.errors import InputError
from glavitu.profiles import are_names

PUBLISHED_BANDS = {
    "optical": ("blue", "green", "red", "NIR", "SWIR1", "SWIR2"),
    "dem": ("elevation", "slope"),
}


def names_in(raster):
    """Return what a raster (y, x, band) calls its bands, nothing if it does not name each."""
    names = raster.attrs.get("long_name", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    return names if len(names) == raster.sizes["band"] and are_names(names) else ()


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
        numbered = [f"band {band + 1}" for band in range(count)]
        found[source] = next((list(names) for names in known if len(names) == count), numbered)
    return found


def _are_list(names):
    return isinstance(names, list | tuple) and are_names(names)
