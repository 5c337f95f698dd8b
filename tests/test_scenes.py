import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import rasterio
from conftest import write_geotiff

from glavitu import InputError, compile_tiles, open_tiles
from glavitu.geotiffs import read_raster
from glavitu.units import evenly, scale


def change(table, **columns):
    """Rewrite the table with the first row's values changed."""
    frame = pd.read_csv(table, dtype=str)
    for column, value in columns.items():
        frame.loc[0, column] = value
    frame.to_csv(table, index=False)


def test_scaling_maps_low_to_0_and_high_to_1_and_missing_to_0():
    values = np.array([[10.0, 100.0], [20.0, 300.0], [np.nan, 200.0]])
    # (20 - 10) / (20 - 10) = 1; (200 - 100) / (300 - 100) = 0.5
    assert scale(values, [10, 100], [20, 300]).tolist() == [[0, 0], [1, 1], [0, 0.5]]


def test_compiled_tiles_hold_the_scaled_rasters_and_where_they_lie(tile_table, tmp_path):
    paths = compile_tiles(tile_table, tmp_path / "out", patch_size=16)
    tiles = open_tiles(paths["train"])
    scaling = json.loads(tiles.attrs["scaling"])
    raster = read_raster(tile_table.parent / "optical_0.tif")
    expected = scale(raster.values, **scaling["optical"])
    assert np.array_equal(tiles["ALP-0"]["optical"], expected)
    assert np.allclose(np.percentile(raster.values, 99, axis=(0, 1)), scaling["optical"]["high"])
    assert tiles["ALP-0"].rio.crs.to_epsg() == 32632
    assert tiles["ALP-0"].rio.bounds() == raster.rio.bounds()
    assert tiles.region("ALP-0") == "ALP"


def test_a_mask_beside_a_raster_is_no_data(tile_table, tmp_path):
    raster = tile_table.parent / "dem_0.tif"
    mask = np.full((20, 20), 255, np.uint8)
    mask[:8] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(raster, "r+") as file:
        file.write_mask(mask)
    assert raster.with_name("dem_0.tif.msk").exists()
    found = read_raster(raster).isnull().all("band").values
    assert np.array_equal(found, mask == 0)
    tiles = open_tiles(compile_tiles(tile_table, tmp_path / "out", patch_size=20)["train"])
    labelled = tiles.read(next(iter(tiles)), "groundtruth").any(-1)
    assert not labelled[:8].any() and labelled[8:].any()


def test_a_sample_is_of_all_columns():
    image = np.tile(np.arange(1000.0), (1000, 1)).ravel()
    for most in (1000, 5000, 400_000):
        found = evenly(image, most, 1000)
        assert len(np.unique(found)) >= 100 and found.mean() == pytest.approx(499.5, rel=0.02)
        assert 0.9 * most < len(found) < 2 * most
    assert len(evenly(image, 10**7, 1000)) == 10**6


def test_validation_and_test_are_scaled_with_the_training_split(tile_table, tmp_path):
    paths = compile_tiles(tile_table, tmp_path / "out")
    scalings = {open_tiles(path).attrs["scaling"] for path in paths.values()}
    assert len(scalings) == 1


def test_small_tiles_are_padded_alike_on_both_sides_and_unlabelled_there(tile_table, tmp_path):
    tile = open_tiles(compile_tiles(tile_table, tmp_path / "out", patch_size=31)["test"])["ALP-2"]
    # (31 - 20) / 2, rounded up, is 6 on each side: 32 rows and columns
    assert (tile.attrs["padding_height"], tile.sizes["y"], tile.sizes["x"]) == (6, 32, 32)
    label = tile["groundtruth"].values
    assert label[:6].sum() == label[:, -6:].sum() == 0 and label[6:-6, 6:-6].sum() == 400
    assert tile["x"].values[6] == 500_015  # the first pixel of the raster stays where it was


def test_pixels_without_data_in_any_source_are_unlabelled(tile_table, tmp_path):
    values = np.full((2, 20, 20), 7, np.int16)
    values[:, 10:] = 9
    values[0, 3, 4] = 0  # nodata
    write_geotiff(tile_table.parent / "optical_0.tif", values)
    tile = open_tiles(compile_tiles(tile_table, tmp_path / "out")["train"])["ALP-0"]
    row, column = 3 + tile.attrs["padding_height"], 4 + tile.attrs["padding_width"]
    assert tile["groundtruth"].values[row, column].tolist() == [0, 0]
    assert tile["optical"].values[row, column, 0] == 0
    assert tile["groundtruth"].values.sum() == 399


def add_surface(table, values):
    """Give the table a surface layer for its first tile alone; return the codes."""
    values = np.asarray(values)
    write_geotiff(table.parent / "surface_0.tif", values[None], nodata=99)
    frame = pd.read_csv(table)
    frame.insert(3, "surface", ["surface_0.tif", "", ""])
    frame.to_csv(table, index=False)
    return values


def test_the_surface_layer_is_stored_as_it_is_and_is_no_source(tile_table, tmp_path):
    plain = compile_tiles(tile_table, tmp_path / "plain", patch_size=31)
    codes = add_surface(tile_table, np.arange(400, dtype=np.uint8).reshape(20, 20) % 26)
    paths = compile_tiles(tile_table, tmp_path / "out", patch_size=31)
    tiles, before = open_tiles(paths["train"]), open_tiles(plain["train"])
    assert tiles.sources == before.sources and tiles.attrs == before.attrs
    surface = tiles.read("ALP-0", "surface")
    assert surface.dtype == np.uint8 and np.array_equal(surface[6:-6, 6:-6], codes)
    assert (surface[:6] == 255).all() and (surface[:, -6:] == 255).all()  # padding is unknown
    for variable in ("optical", "dem", "groundtruth"):
        assert np.array_equal(tiles.read("ALP-0", variable), before.read("ALP-0", variable))
    assert "surface" not in open_tiles(paths["val"])["ALP-1"]  # whose entry is empty


def test_surfaces_without_data_are_unknown_and_keep_their_label(tile_table, tmp_path):
    codes = np.full((20, 20), 5, np.uint8)
    codes[3, 4] = 99  # nodata
    add_surface(tile_table, codes)
    tile = open_tiles(compile_tiles(tile_table, tmp_path / "out", patch_size=20)["train"])["ALP-0"]
    assert tile["surface"].values[3, 4] == 255 and (tile["surface"] == 5).sum() == 399
    assert tile["groundtruth"].values.sum() == 400


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((20, 20), 1.5, np.float32), "surface_0.tif: surfaces must be one band of whole"),
        (np.full((20, 20), 256, np.int16), "surface_0.tif: surfaces must be one band of whole"),
        (np.full((20, 20), -1, np.int16), "surface_0.tif: surfaces must be one band of whole"),
        (np.ones((20, 21), np.uint8), "tile ALP-0: .*surface_0.tif has the grid 20x21"),
    ],
)
def test_surface_layers_that_are_none_are_refused(tile_table, tmp_path, values, message):
    add_surface(tile_table, values)
    with pytest.raises(InputError, match=message) as error:
        compile_tiles(tile_table, tmp_path / "out")
    assert "\n" not in str(error.value) and not list((tmp_path / "out").glob("*.hdf5"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"optical": "none.tif"}, "no raster at .*none.tif"),
        ({"optical": "tiles.csv"}, "convert it to a GeoTIFF"),
        ({"optical": "../../x.tif"}, "leaves the folder"),
        ({"optical": "/vsicurl/http://x/y.tif"}, "leaves the folder"),
        ({"optical": "http://x/y.tif"}, "leaves the folder"),
        ({"optical": ""}, "tile 'ALP-0' lacks 'optical'"),
        ({"tile": "ALP-1"}, "tile 'ALP-1' twice"),
        ({"tile": "A/B"}, "may hold only letters"),
        (
            {"groundtruth": "groundtruth_2.tif"},
            "tiles ALP-0 and ALP-2 have one file of 'groundtruth'",
        ),
        ({"split": "training"}, "unknown split 'training'"),
        ({"split": "val"}, "the split 'train' is empty"),
        ({"groundtruth": "dem_0.tif"}, "labels must be one band of 0 and 1"),
        ({"dem": "optical_0.tif"}, r"dem_1.tif: 'dem' has 1 band\(s\), expected 2"),
    ],
)
def test_tables_that_cannot_be_compiled_are_refused_and_leave_nothing(
    tile_table, tmp_path, columns, message
):
    change(tile_table, **columns)
    with pytest.raises(InputError, match=message) as error:
        compile_tiles(tile_table, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_labels_whose_background_counts_as_no_data_are_refused(tile_table, tmp_path):
    with rasterio.open(tile_table.parent / "groundtruth_1.tif", "r+") as label:
        label.nodata = 0
    with pytest.raises(InputError, match=r"tile ALP-1: .*groundtruth_1.tif declares 0 as no data,"):
        compile_tiles(tile_table, tmp_path / "out", patch_size=16)
    assert not (tmp_path / "out").exists()


def test_bands_have_the_names_given_or_those_of_the_rasters(tile_table, tmp_path):
    def names(**options):
        paths = compile_tiles(tile_table, tmp_path / "out", patch_size=16, **options)
        found = [open_tiles(path).band_names for path in paths.values()]
        assert found[0] == found[1] == found[2]
        return found[0]

    assert names() == {"optical": ["band 1", "band 2"], "dem": ["band 1"]}
    with rasterio.open(tile_table.parent / "optical_0.tif", "r+") as file:
        file.descriptions = ("red", "SWIR1")
    assert names()["optical"] == ["red", "SWIR1"]
    given = {"optical": ["green", "SWIR1"], "dem": ["height"]}
    assert names(bands=given) == given
    for wrong in ({"optical": ["red"]}, {"optical": ["a", "a"]}, {"dem": "x"}, {"sar": ["x"]}):
        with pytest.raises(InputError, match="bands of '(optical|dem|sar)' are named"):
            names(bands=wrong)


@pytest.mark.parametrize("name", [".", "dem_band", "a/b", "x"])
def test_sources_whose_names_cannot_be_are_refused(tile_table, tmp_path, name):
    pd.read_csv(tile_table).rename(columns={"optical": name}).to_csv(tile_table, index=False)
    with pytest.raises(InputError, match="a source cannot be named"):
        compile_tiles(tile_table, tmp_path / "out")


@pytest.mark.parametrize("size", [0, 128.5, "128", True])
def test_patches_of_a_size_that_cannot_be_are_refused(tile_table, tmp_path, size):
    with pytest.raises(InputError, match=f"patch_size is {size!r}, expected a whole number"):
        compile_tiles(tile_table, tmp_path / "out", patch_size=size)


@pytest.mark.parametrize("column", ["tile", "region", "split", "groundtruth"])
def test_a_missing_column_is_named(tile_table, tmp_path, column):
    pd.read_csv(tile_table).drop(columns=column).to_csv(tile_table, index=False)
    with pytest.raises(InputError, match=f"has no column '{column}'"):
        compile_tiles(tile_table, tmp_path / "out")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_of_other_separators_are_told_as_such(tile_table, tmp_path, separator):
    pd.read_csv(tile_table).to_csv(tile_table, sep=separator, index=False)
    with pytest.raises(InputError, match=r"is separated by .*; expected commas"):
        compile_tiles(tile_table, tmp_path / "out")


@pytest.mark.parametrize(
    ("shape", "transform"),
    [((1, 10, 10), (60, 0, 500_000, 0, -60, 5_000_000)), ((1, 20, 20), (30, 0, 0, 0, -30, 0))],
)
def test_rasters_on_different_grids_are_named(tile_table, tmp_path, shape, transform):
    write_geotiff(tile_table.parent / "dem_0.tif", np.ones(shape, np.int16), transform=transform)
    with pytest.raises(InputError, match="tile ALP-0: .*dem_0.tif has the grid"):
        compile_tiles(tile_table, tmp_path / "out")


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        ("EPSG:4326", "dem_0.tif|groundtruth_0.tif has coordinates that are no place in EPSG:4326"),
        ("EPSG:4978", "groundtruth_0.tif has no CRS to place it by"),
    ],
)
def test_tiles_that_lie_nowhere_in_their_crs_are_refused(tile_table, tmp_path, crs, message):
    for source in ("optical", "dem", "groundtruth"):
        with rasterio.open(tile_table.parent / f"{source}_0.tif", "r+") as file:
            file.crs = crs
    with pytest.raises(InputError, match=message):
        compile_tiles(tile_table, tmp_path / "out")


def test_tiles_that_declare_other_scales_are_brought_to_the_same_units(tile_table, tmp_path):
    before = open_tiles(compile_tiles(tile_table, tmp_path / "before", patch_size=20)["val"])
    with rasterio.open(tile_table.parent / "optical_1.tif", "r+") as file:
        file.write(file.read() + 1000)
        file.offsets = (-1000, -1000)
    after = open_tiles(compile_tiles(tile_table, tmp_path / "after", patch_size=20)["val"])
    assert after.scaling == before.scaling
    assert np.array_equal(after.read("ALP-1", "optical"), before.read("ALP-1", "optical"))


def test_bands_that_are_named_in_another_order_than_in_the_rasters_are_refused(
    tile_table, tmp_path
):
    with rasterio.open(tile_table.parent / "optical_0.tif", "r+") as file:
        file.descriptions = ("red", "NIR")
    told = r"the bands of 'optical' are red, NIR, compile was told NIR, red; bring them"
    with pytest.raises(InputError, match=told):
        compile_tiles(tile_table, tmp_path / "out", bands={"optical": ["NIR", "red"]})
    assert compile_tiles(tile_table, tmp_path / "out", bands={"optical": ["B4", "B5"]})


def test_rasters_whose_corners_differ_by_rounding_are_on_one_grid(tile_table, tmp_path):
    values = np.arange(400, dtype=np.int16).reshape(1, 20, 20)
    transform = (30 + 1e-9, 0, 500_000 + 1e-6, 0, -30, 5_000_000)
    write_geotiff(tile_table.parent / "dem_0.tif", values, transform=transform)
    assert set(compile_tiles(tile_table, tmp_path / "out")) == {"train", "val", "test"}


@pytest.mark.filterwarnings("ignore:Transform that is non-rectilinear:UserWarning")
@pytest.mark.parametrize(
    "transform", [(30, 5, 0, 5, -30, 0), (30, 0, 0, 0, 30, 0), (-30, 0, 0, 0, -30, 0)]
)
def test_rotated_and_south_up_rasters_are_refused(tile_table, tmp_path, transform):
    write_geotiff(tile_table.parent / "dem_0.tif", np.ones((1, 20, 20)), transform=transform)
    with pytest.raises(InputError, match="rotated or not north-up"):
        compile_tiles(tile_table, tmp_path / "out")


BYTES = {"width": 20, "height": 20, "count": 4, "dtype": "uint8"}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_without_georeferencing_is_told_how_to_get_it(tile_table, tmp_path):
    with rasterio.open(
        tile_table.parent / "dem_0.tif", "w", driver="GTiff", **BYTES | {"count": 1}
    ) as file:
        file.write(np.ones((1, 20, 20), np.uint8))
    with pytest.raises(InputError, match="dem_0.tif has no georeferencing; assign it, as"):
        compile_tiles(tile_table, tmp_path / "out")


def test_the_fourth_band_of_bytes_is_data_although_gdal_calls_it_transparency(tmp_path):
    values = np.random.default_rng(4).integers(0, 3, (4, 20, 20)).astype(np.uint8)
    place = {"transform": rasterio.Affine(30, 0, 5e5, 0, -30, 5e6), "crs": "EPSG:32632"}
    with rasterio.open(tmp_path / "o.tif", "w", driver="GTiff", **BYTES, **place) as file:
        file.write(values)
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.colorinterp[3].name == "alpha"
    assert np.array_equal(read_raster(tmp_path / "o.tif"), np.moveaxis(values, 0, -1))


@pytest.mark.parametrize(("value", "message"), [(5, "is 5.0 all over"), (0, "without any data")])
def test_bands_that_say_nothing_are_refused(tile_table, tmp_path, value, message):
    write_geotiff(tile_table.parent / "dem_0.tif", np.full((1, 20, 20), value, np.int16))
    with pytest.raises(InputError, match=message):
        compile_tiles(tile_table, tmp_path / "out")


def test_a_tile_without_a_labelled_pixel_is_named(tile_table, tmp_path, capsys):
    compile_tiles(tile_table, tmp_path / "out")
    assert "no pixel" not in capsys.readouterr().out
    folder = tile_table.parent
    for source in ("optical", "groundtruth"):
        shutil.copy(folder / f"{source}_0.tif", folder / f"{source}_3.tif")
    write_geotiff(folder / "dem_3.tif", np.zeros((1, 20, 20), np.int16))  # no data
    row = "ALP-3,ALP,train,optical_3.tif,dem_3.tif,groundtruth_3.tif\n"
    tile_table.write_text(tile_table.read_text() + row)
    compile_tiles(tile_table, tmp_path / "out")
    assert "tile ALP-3 has no pixel that is labelled" in capsys.readouterr().out


def test_tiles_in_other_units_are_named(tile_table, tmp_path, capsys):
    folder = tile_table.parent
    with rasterio.open(folder / "optical_2.tif") as file:  # of the test split
        values = file.read()
    write_geotiff(folder / "optical_2.tif", values.astype(np.int32) * 10_000)
    for i in (3, 4):  # more to train on, of which the last is in other units
        for source in ("dem", "groundtruth"):
            shutil.copy(folder / f"{source}_0.tif", folder / f"{source}_{i}.tif")
        write_geotiff(folder / f"optical_{i}.tif", values.astype(np.int32) * 10_000 ** (i - 3))
    row = "ALP-{i},ALP,train,optical_{i}.tif,dem_{i}.tif,groundtruth_{i}.tif\n"
    tile_table.write_text(tile_table.read_text() + row.format(i=3))
    compile_tiles(tile_table, tmp_path / "out")
    told = [line for line in capsys.readouterr().out.splitlines() if "other units?" in line]
    assert len(told) == 1 and told[0].startswith("tile ALP-2: optical bands 1 and 2 lie far from")
    tile_table.write_text(tile_table.read_text() + row.format(i=4))
    compile_tiles(tile_table, tmp_path / "more")
    told = [line for line in capsys.readouterr().out.splitlines() if "other units?" in line]
    assert len(told) == 1 and told[0].startswith("tile ALP-4: optical is about ")


def test_blanks_around_a_tables_entries_do_not_matter(tile_table, tmp_path):
    tile_table.write_text(tile_table.read_text().replace(",", " , "))
    assert len(open_tiles(compile_tiles(tile_table, tmp_path / "out")["test"])) == 1


def test_existing_files_survive_a_compilation_that_fails(tile_table, tmp_path):
    before = compile_tiles(tile_table, tmp_path / "out")["test"].read_bytes()
    write_geotiff(tile_table.parent / "dem_2.tif", np.ones((2, 20, 20), np.int16))
    with pytest.raises(InputError):
        compile_tiles(tile_table, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "test.hdf5",
        "train.hdf5",
        "val.hdf5",
    ]
    assert (tmp_path / "out" / "test.hdf5").read_bytes() == before


def test_tile_files_from_elsewhere_are_never_replaced(tile_table, tmp_path, capsys):
    files = compile_tiles(tile_table, tmp_path / "out")
    assert "replaced" not in capsys.readouterr().out
    compile_tiles(tile_table, tmp_path / "out")  # its own are
    assert "out: the files of an earlier compile are replaced" in capsys.readouterr().out
    with h5py.File(files["val"], "a") as file:
        del file.attrs["software"]
    before = {path: path.read_bytes() for path in files.values()}
    with pytest.raises(InputError, match=r"val.hdf5 was not written by compile"):
        compile_tiles(tile_table, tmp_path / "out")
    files["val"].write_text("notes")
    with pytest.raises(InputError, match=r"val.hdf5 was not written by compile"):
        compile_tiles(tile_table, tmp_path / "out")
    assert files["val"].read_text() == "notes"
    files["val"].rename(tmp_path / "out" / "val_ps384_igarss23.hdf5")  # which it would hide
    with pytest.raises(InputError, match=r"val_ps384_igarss23.hdf5 was not written by compile"):
        compile_tiles(tile_table, tmp_path / "out")
    assert all(path.read_bytes() == before[path] for path in (files["train"], files["test"]))


@pytest.mark.parametrize(
    ("name", "size", "sources"),
    [
        ("zanskar", 512, {"optical": 4, "thermal": 1}),
        ("debris", 500, {"dem": 2, "insar": 1, "optical": 5, "thermal": 1}),
    ],
)
def test_real_tiles_compile(real_data, tmp_path, name, size, sources):
    table = real_data / name / "tiles.csv"
    paths = compile_tiles(table, tmp_path / name)
    counts = pd.read_csv(table)["split"].value_counts()
    for split, path in paths.items():
        tiles = open_tiles(path)
        assert len(tiles) == counts[split] and tiles.sources == sources
        for tile in tiles.values():
            assert tile.sizes["y"] == tile.sizes["x"] == size and tile.rio.crs.is_projected
    with h5py.File(paths["train"]) as file:
        means = [group["optical"][()].mean() for group in file.values()]
    assert 0.05 < np.mean(means) < 0.7
