import copy
import json
import os

import h5py
import numpy as np
import pytest
import xarray as xr
from conftest import make_tile_arrays

from glavitu import InputError, load_model, open_tiles, plots
from glavitu.exploration import band_histograms, surface_shares
from glavitu.hdf5 import check_all
from glavitu.hdf5_writing import write_tile
from glavitu.surfaces import UNKNOWN
from glavitu.tiles import check_same_scaling, find_split


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def write(path, tiles):
    with h5py.File(path, "w") as file:
        for name, (arrays, attributes) in tiles.items():
            write_tile(file, name, arrays, attributes)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
@pytest.mark.parametrize("options", [{}, {"chunks": (5, 7, 1)}, {"compression": "gzip"}])
def test_any_type_chunking_and_compression_is_read(tmp_path, rng, dtype, options):
    values = (rng.random((20, 24, 3)) * 9).astype(dtype)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("ALP1-0000/optical", data=values, **options)
    tiles = open_tiles(tmp_path / "a.hdf5")
    assert tiles["ALP1-0000"]["optical"].dtype == dtype
    assert np.array_equal(tiles["ALP1-0000"]["optical"], values)
    window = np.s_[3:9, 20:24]
    assert tiles.read("ALP1-0000", "optical", window).dtype == np.float32
    assert np.array_equal(tiles.read("ALP1-0000", "optical", window), values[window].astype("f4"))


def test_opening_reads_no_pixels(tmp_path, rng, monkeypatch):
    path = write(tmp_path / "a.hdf5", {"ALP1-0000": (make_tile_arrays(rng, 8, 8), {})})
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("read too early"))
    tile = open_tiles(path)["ALP1-0000"]
    tile["optical"].isel(x=slice(2, 4))


def test_a_lazy_tile_can_be_copied(tmp_path, rng):
    arrays = make_tile_arrays(rng, 8, 8)
    tile = open_tiles(write(tmp_path / "a.hdf5", {"A-1": (arrays, {})}))["A-1"]
    assert np.array_equal(copy.deepcopy(tile)["dem"], arrays["dem"])


def test_a_tile_can_be_changed_and_is_read_once(tmp_path, rng):
    arrays = make_tile_arrays(rng, 8, 8)
    tiles = open_tiles(write(tmp_path / "a.hdf5", {"A-1": (arrays, {})}))
    tile = tiles["A-1"]
    tile["dem"][0, 0, 0] = 7
    assert tile["dem"].values[0, 0, 0] == 7
    assert np.array_equal(tiles["A-1"]["dem"], arrays["dem"])
    kept = tile["optical"].values
    tiles.close()
    assert np.array_equal(tile["optical"], kept)


def test_a_source_cannot_be_called_like_the_bands_of_another(tmp_path, rng):
    arrays = make_tile_arrays(rng, 8, 8)
    arrays["dem_band"] = arrays["dem"]
    path = write(tmp_path / "a.hdf5", {"A-1": (arrays, {})})
    with pytest.raises(InputError, match="tile A-1: a source cannot be named 'dem_band' beside"):
        open_tiles(path)


def test_coordinates_and_crs_come_from_the_attributes(tmp_path, rng):
    attributes = {"transform": (30.0, 0, 5e5, 0, -30.0, 5e6), "crs": "EPSG:32632"}
    path = write(tmp_path / "a.hdf5", {"A-1": (make_tile_arrays(rng, 4, 6), attributes)})
    tile = open_tiles(path)["A-1"]
    assert tile["x"].values[0] == 500_015 and tile["y"].values[0] == 4_999_985  # pixel centres
    assert tile.rio.crs.to_epsg() == 32632
    assert tile.rio.bounds() == (500_000, 4_999_880, 500_180, 5_000_000)
    assert "spatial_ref" in tile.coords
    del attributes["crs"]
    path = write(tmp_path / "b.hdf5", {"A-1": (make_tile_arrays(rng, 4, 6), attributes)})
    tile = open_tiles(path)["A-1"]
    assert "spatial_ref" not in tile.coords and tile["y"].values[-1] == 4_999_895


@pytest.mark.parametrize(
    ("name", "attributes", "region"),
    [
        ("ALP12-0003", {}, "ALP"),
        ("SVAL-7", {}, "SVAL"),
        ("HMA3", {}, "HMA"),
        ("ALP12-0003", {"region": "NZ"}, "NZ"),
        ("17-3", {}, "17-3"),
    ],
)
def test_region_is_the_attribute_or_the_letters_of_the_name(
    tmp_path, rng, name, attributes, region
):
    path = write(tmp_path / "a.hdf5", {name: (make_tile_arrays(rng, 4, 4), attributes)})
    assert open_tiles(path)[name].attrs["region"] == region


def test_the_successor_studys_label_is_read_as_groundtruth(tmp_path, rng):
    arrays = make_tile_arrays(rng, 4, 4)
    arrays["outlines"] = arrays.pop("groundtruth")
    tile = open_tiles(write(tmp_path / "a.hdf5", {"A-1": (arrays, {})}))["A-1"]
    assert np.array_equal(tile["groundtruth"], arrays["outlines"])


def test_sources_are_those_of_all_tiles_and_a_tile_lacking_one_is_named(tmp_path, rng):
    tiles = {
        "A-1": (make_tile_arrays(rng, 8, 8, {"optical": 2, "sar": 1}), {}),
        "A-2": (make_tile_arrays(rng, 8, 8, {"optical": 2}), {}),
    }
    tiles = open_tiles(write(tmp_path / "a.hdf5", tiles))
    assert tiles.sources == {"optical": 2, "sar": 1}
    tiles.check({"optical": 2}, 8)
    tiles.check({"optical": 2}, 5)
    for inputs, size, message in [
        (tiles.sources, 8, "tile A-2 has no 'sar'"),
        ({"optical": 3}, 8, "'optical' has 2 band"),
        ({"optical": 2}, 9, "smaller than the patch of 9"),
    ]:
        with pytest.raises(InputError, match=message):
            tiles.check(inputs, size)


def test_a_surface_layer_is_no_source(tmp_path, rng):
    plain, layered = make_tile_arrays(rng, 8, 6), make_tile_arrays(rng, 8, 6)
    layered["surface"] = rng.integers(0, 26, (8, 6)).astype(np.uint8)
    tiles = open_tiles(write(tmp_path / "a.hdf5", {"A-1": (layered, {}), "A-2": (plain, {})}))
    assert tiles.sources == {"dem": 2, "optical": 3} and tiles.shape("A-1") == (8, 6)
    assert tiles["A-1"]["surface"].dims == ("y", "x") and "surface" not in tiles["A-2"]
    assert np.array_equal(tiles["A-1"]["surface"], layered["surface"])
    window = tiles.read("A-1", "surface", np.s_[2:5, 1:])
    assert window.dtype == np.uint8 and np.array_equal(window, layered["surface"][2:5, 1:])
    tiles.check(tiles.sources, 6)
    with pytest.raises(InputError, match="has no 'surface', only dem, groundtruth, optical;"):
        tiles.check({"surface": 1})
    assert set(band_histograms(tiles)["source"]) == {"dem", "optical"}


@pytest.mark.parametrize("name", ["x", "y", "class", "spatial_ref"])
def test_a_source_cannot_be_called_like_a_coordinate(name, tmp_path, rng):
    path = write(tmp_path / "a.hdf5", {"A-1": (make_tile_arrays(rng, 8, 8, {name: 2}), {})})
    with pytest.raises(InputError, match=f"tile A-1 has a source '{name}', which is the name of"):
        open_tiles(path)


def test_histograms_are_of_the_sources_that_every_tile_has(tmp_path, rng):
    some = make_tile_arrays(rng, 8, 8, {"optical": 2, "dem": 1})
    all_ = make_tile_arrays(rng, 8, 8, {"optical": 2, "dem": 1, "thermal": 1})
    tiles = open_tiles(write(tmp_path / "a.hdf5", {"A-1": (some, {}), "A-2": (all_, {})}))
    assert "thermal" in tiles.sources
    histograms = band_histograms(tiles, {"dem": 1})
    assert set(histograms["source"]) == {"dem"} and histograms["glacier"].sum() == pytest.approx(1)
    axes = plots.plot_tiles(tiles, ["A-1", "A-2"], {"optical": 2, "dem": 1})
    assert len(axes) == 4


def test_the_pixel_size_is_that_of_the_transform_where_there_is_one(tmp_path, rng):
    place = {"transform": [20.0, 0, 5e5, 0, -20.0, 5e6], "crs": "EPSG:32632"}
    for name, attributes, size in (("a", place, 20), ("b", {}, None)):
        path = write(tmp_path / name, {"A-1": (make_tile_arrays(rng, 8, 8), attributes)})
        assert open_tiles(path).pixel_size == (size and pytest.approx(size, rel=1e-3))


def test_a_source_called_surface_stays_one(tmp_path, rng):
    arrays = make_tile_arrays(rng, 8, 8, {"surface": 2})
    tiles = open_tiles(write(tmp_path / "a.hdf5", {"A-1": (arrays, {})}))
    assert tiles.sources == {"surface": 2}
    assert tiles.read("A-1", "surface").shape == (8, 8, 2)


def test_what_is_no_layer_of_a_tile_is_left_out(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["A-1/dem"], file["A-1/mask"] = np.zeros((4, 6, 1)), np.zeros((4, 6))
        file["A-1/surface"], file["A-1/cube"] = np.zeros(4), np.zeros((4, 6, 1, 1))
        file["A-1/notes/dem"] = np.zeros((4, 6, 1))
    assert set(open_tiles(tmp_path / "a.hdf5")["A-1"].data_vars) == {"dem"}


def test_a_tile_says_how_much_of_it_is_padding(tmp_path, rng):
    # at most 2 * 4 = 8 of 9 rows and 2 * 3 = 6 of 8 columns
    padded = (make_tile_arrays(rng, 9, 8), {"padding_height": 4, "padding_width": 3})
    tiles = {"A-1": padded, "A-2": (make_tile_arrays(rng, 9, 8), {})}
    tiles = open_tiles(write(tmp_path / "a.hdf5", tiles))
    names = ("padding_height", "padding_width")
    assert [tiles["A-1"].attrs[name] for name in names] == [4, 3]
    assert [tiles["A-2"].attrs[name] for name in names] == [0, 0]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"padding_height": 5}, "padding_height is 5, expected a whole number less than half of 9"),
        (
            {"padding_height": -1},
            "padding_height is -1, expected a whole number less than half of 9",
        ),
        ({"padding_width": 4}, "padding_width is 4, expected a whole number less than half of 8"),
        ({"padding_width": 1.5}, "padding_width is 1.5"),
        ({"transform": [30.0, 0, 5e5, 0, -30]}, r"transform is .*, not 6 numbers"),
        ({"transform": [30.0, 1, 5e5, -1, -30, 5e6]}, "transform is .*, which is rotated"),
        ({"transform": [30.0, 1, 5e5, 0, -30, 5e6]}, "transform is .*, which is rotated"),
        ({"transform": [30.0, 0, 5e5, 1, -30, 5e6]}, "transform is .*, which is rotated"),
    ],
)
def test_a_tile_that_lies_nowhere_is_refused(tmp_path, rng, attributes, message):
    path = write(tmp_path / "a.hdf5", {"A-1": (make_tile_arrays(rng, 9, 8), attributes)})
    with pytest.raises(InputError, match=f"tile A-1: {message}"):
        open_tiles(path)["A-1"]


@pytest.fixture
def scaled(tmp_path, rng):
    """Return what writes tiles that say how they were scaled, and opens them."""

    def write_scaled(name, scaling):
        path = write(tmp_path / name, {"A-1": (make_tile_arrays(rng, 8, 8), {})})
        with h5py.File(path, "r+") as file:
            file.attrs["scaling"] = json.dumps(scaling)
        return open_tiles(path)

    return write_scaled


def test_a_file_says_what_it_holds_and_how_it_was_scaled(scaled):
    scaling = {"dem": {"low": [0, 0], "high": [9, 9]}}
    tiles = scaled("a.hdf5", scaling)
    assert tiles.scaling == scaling and tiles.attrs == {"scaling": json.dumps(scaling)}
    assert repr(tiles) == "<Tiles a.hdf5, tiles: 1, sources: dem (2), optical (3)>"
    assert scaled("unknown.hdf5", None).scaling is None
    with pytest.raises(InputError, match="scaling of dem: low is .*, expected 2 numbers"):
        assert scaled("narrow.hdf5", {"dem": {"low": [0], "high": [9]}}).scaling


@pytest.mark.parametrize("bounds", [{"low": [0.5, 0]}, {"high": [9, 8]}])
def test_tiles_scaled_otherwise_are_refused_where_both_scalings_are_known(scaled, bounds):
    known = {"dem": {"low": [0, 0], "high": [9, 9]}}
    tiles = scaled("a.hdf5", known)
    other = {"dem": known["dem"] | bounds}
    for same in (copy.deepcopy(known), None, {}, {"optical": other["dem"]}):
        check_same_scaling(tiles, same, ["optical", "dem"])
    check_same_scaling(scaled("unknown.hdf5", None), known, ["dem"])
    check_same_scaling(tiles, other, ["optical"])
    with pytest.raises(InputError, match="'dem' is scaled from .* compile the splits together"):
        check_same_scaling(tiles, other, ["optical", "dem"])


def test_attributes_that_would_end_the_process_are_left_out(tmp_path, rng):
    path = write(tmp_path / "a.hdf5", {"A-1": (make_tile_arrays(rng, 8, 8), {"region": "X"})})
    letters = h5py.h5t.vlen_create(h5py.h5t.C_S1.copy())  # a sequence of texts, not of numbers
    with h5py.File(path, "r+") as file:
        del file["A-1"].attrs["region"]
        for place in (file, file["A-1"]):
            h5py.h5a.create(place.id, b"region", letters, h5py.h5s.create(h5py.h5s.SCALAR))
    tiles = open_tiles(path)
    assert tiles.region("A-1") == "A" and tiles.attrs == {}
    with (
        h5py.File(path) as file,
        pytest.raises(InputError, match="region is an attribute of a kind"),
    ):
        check_all(file)


def test_what_is_no_utf8_in_an_attribute_is_replaced(tmp_path, rng):
    path = write(tmp_path / "a.hdf5", {"A-0": (make_tile_arrays(rng, 8, 8), {})})
    with h5py.File(path, "r+") as file:
        file["A-0"].attrs.create("region", b"Z\xfcrich", dtype=h5py.string_dtype())
        file["A-0"].attrs.create("by", np.bytes_(b"M\xfcller"))
    attributes = open_tiles(path)["A-0"].attrs
    assert (attributes["region"], attributes["by"]) == ("Z\ufffdrich", "M\ufffdller")


def test_an_attribute_that_is_true_can_be_written_as_netcdf(tmp_path, rng):
    attributes = {"checked": True}
    tiles = open_tiles(
        write(tmp_path / "a.hdf5", {"A-0": (make_tile_arrays(rng, 8, 8), attributes)})
    )
    tiles["A-0"].to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert xr.load_dataset(tmp_path / "a.nc").attrs["checked"] == 1


def test_pickled_tiles_open_the_file_anew(tmp_path, rng, monkeypatch):
    write(tmp_path / "a.hdf5", {"A-0": (make_tile_arrays(rng, 8, 8), {})})
    monkeypatch.chdir(tmp_path)
    function, arguments = open_tiles("a.hdf5").__reduce__()  # what is pickled
    monkeypatch.chdir("/")
    assert list(function(*arguments)) == ["A-0"]


def test_unpacked_tiles_share_the_file(tmp_path, rng, monkeypatch):
    tiles = open_tiles(write(tmp_path / "a.hdf5", {"A-0": (make_tile_arrays(rng, 8, 8), {})}))
    monkeypatch.setattr("glavitu.tiles.open_file", lambda path: pytest.fail("opened again"))
    assert list(tiles.unpacked()) == ["A-0"]


def test_closed_tiles_say_so_whatever_is_asked(tmp_path, rng):
    path = write(tmp_path / "a.hdf5", {"A-0": (make_tile_arrays(rng, 8, 8), {})})
    with open_tiles(path) as tiles:
        told = repr(tiles)
    assert repr(tiles) == told and len(tiles) == 1
    for ask in (
        lambda: tiles["A-0"],
        lambda: tiles.attrs,
        lambda: tiles.scaling,
        lambda: tiles.region("A-0"),
        lambda: tiles.shape("A-0"),
        lambda: tiles.read("A-0", "dem"),
    ):
        with pytest.raises(InputError, match="was closed; open it again"):
            ask()


def test_tiles_are_a_mapping_and_can_be_closed(tmp_path, rng):
    path = write(tmp_path / "a.hdf5", {"A-1": (make_tile_arrays(rng, 8, 8), {})})
    with open_tiles(path) as tiles:
        assert "A-1" in tiles and "X" not in tiles and tiles.get("X") is None
        assert tiles["A-1"]["dem"].values.shape == (8, 8, 2)
    with h5py.File(path, "r+") as file:  # which an open one would not allow
        file.attrs["x"] = 1


def test_tiles_of_no_pixels_or_with_values_that_are_not_finite_are_named(tmp_path, rng):
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file.create_dataset("A-1/dem", (0, 5, 1))
    with pytest.raises(InputError, match="tile A-1 is 0x5 pixels"):
        open_tiles(tmp_path / "empty.hdf5").check({"dem": 1}, labelled=False)
    tiles = {name: (make_tile_arrays(rng, 8, 8), {}) for name in ("A-1", "A-2")}
    tiles["A-2"][0]["dem"][3, 4, 1] = np.nan
    tiles = open_tiles(write(tmp_path / "a.hdf5", tiles))
    tiles.check_values({"optical": 3})
    with pytest.raises(InputError, match="tile A-2: 'dem'"):
        tiles.check_values(tiles.sources)


def test_unlabelled_tiles_are_named(tmp_path, rng):
    arrays = make_tile_arrays(rng, 8, 8)
    del arrays["groundtruth"]
    tiles = open_tiles(write(tmp_path / "a.hdf5", {"A-1": (arrays, {})}))
    tiles.check(tiles.sources, labelled=False)
    with pytest.raises(InputError, match="has no label"):
        tiles.check(tiles.sources)


def test_what_cannot_be_counted_is_told_or_empty(tmp_path, rng):
    arrays = make_tile_arrays(rng, 8, 8)
    arrays["groundtruth"] = np.zeros((8, 8, 2), np.float32)
    arrays["surface"] = np.full((8, 8), UNKNOWN, np.uint8)
    tiles = open_tiles(write(tmp_path / "a.hdf5", {"A-1": (arrays, {})}))
    assert surface_shares(tiles).empty
    with pytest.raises(InputError, match="a.hdf5 has no labelled pixel"):
        band_histograms(tiles)
    tiles.close()
    with pytest.raises(InputError, match="a.hdf5 was closed; open it again"):
        tiles.read("A-1", "groundtruth")


def test_files_that_hold_no_tiles_are_refused(tmp_path, rng):
    (tmp_path / "text.hdf5").write_text("not HDF5")
    (tmp_path / "cut.hdf5").write_bytes(
        write(tmp_path / "a.hdf5", {"A-1": (make_tile_arrays(rng, 8, 8), {})}).read_bytes()[:900]
    )
    with h5py.File(tmp_path / "empty.hdf5", "w"):
        pass
    with h5py.File(tmp_path / "flat.hdf5", "w") as file:
        file["A-1/optical"] = file["A-1/surface"] = np.zeros((4, 4))
    with h5py.File(tmp_path / "uneven.hdf5", "w") as file:
        file["A-1/optical"], file["A-1/dem"] = np.zeros((4, 4, 1)), np.zeros((4, 5, 1))
    with h5py.File(tmp_path / "narrow.hdf5", "w") as file:
        file["A-1/optical"], file["A-1/surface"] = np.zeros((4, 4, 1)), np.zeros((4, 5))
    with h5py.File(tmp_path / "linked.hdf5", "w") as file:
        file["A-1/optical"] = h5py.ExternalLink("/etc/other.hdf5", "/x")
    with h5py.File(tmp_path / "soft.hdf5", "w") as file:
        file["A-1"] = h5py.SoftLink("/elsewhere")
    for name, message in [
        ("none", "no tile file"),
        ("text", "not an HDF5 file"),
        ("cut", "not an HDF5 file"),
        ("empty", "holds no tiles"),
        ("flat", r"holds no \(y, x, band\)"),
        ("uneven", r"arrays of different sizes: dem \(4, 5\), optical \(4, 4\)$"),
        ("narrow", "arrays of different sizes"),
        ("linked", "is a link"),
        ("soft", "is a link"),
    ]:
        with pytest.raises(InputError, match=message):
            open_tiles(tmp_path / f"{name}.hdf5")


def test_splits_are_found_under_both_names(tmp_path):
    with pytest.raises(InputError, match="no data folder"):
        find_split(tmp_path / "none", "val")
    with pytest.raises(InputError, match="has no val.hdf5"):
        find_split(tmp_path, "val")
    (tmp_path / "val_ps384_igarss23.hdf5").touch()
    assert find_split(tmp_path, "val").name == "val_ps384_igarss23.hdf5"
    (tmp_path / "val.hdf5").touch()
    assert find_split(tmp_path, "val").name == "val.hdf5"


def test_a_file_that_may_not_be_read_is_told_as_such(tiny_data):
    path = tiny_data / "test.hdf5"
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    for read in (open_tiles, load_model):
        with pytest.raises(PermissionError) as told:
            read(path)
        assert str(told.value.filename) == str(path)


def test_bands_are_chosen_by_their_names(tmp_path, rng):
    arrays = make_tile_arrays(rng, 8, 8)
    tile = open_tiles(write(tmp_path / "a.hdf5", {"A-1": (arrays, {})}))["A-1"]
    assert np.array_equal(tile["dem"].sel(dem_band="slope"), arrays["dem"][..., 1])
    assert tile["optical_band"].values.tolist() == ["band 1", "band 2", "band 3"]
    fewer = arrays | {"dem": arrays["dem"][..., :1]}
    tiles = open_tiles(write(tmp_path / "b.hdf5", {"A-1": (fewer, {}), "A-2": (arrays, {})}))
    names = [tile["dem_band"].values.tolist() for tile in tiles.values()]
    assert names == [["band 1"], ["elevation", "slope"]]


@pytest.mark.parametrize("bands", ["[]", '{"dem": "xy"}', '{"dem": ["a", "a"]}', '{"dem": [1, 2]}'])
def test_names_of_bands_that_are_none_are_refused(tmp_path, rng, bands):
    path = write(tmp_path / "a.hdf5", {"A-1": (make_tile_arrays(rng, 8, 8), {})})
    assert open_tiles(path).band_names["dem"] == ["elevation", "slope"]
    with h5py.File(path, "r+") as file:
        file.attrs["bands"] = bands
    with pytest.raises(InputError, match="a.hdf5: the attribute bands names no bands"):
        _ = open_tiles(path).band_names
