import json
import os
import shutil
import signal
import threading
import time

import geopandas as gpd
import h5py
import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from conftest import SCENE_INPUTS as INPUTS
from conftest import SCENE_SCALING as SCALING
from conftest import TINY_SIZES, make_scene, write_record

from glavitu import (
    InputError,
    build_model,
    load_model,
    mapping,
    remarks,
    save_weights,
    streaming,
    strips,
)
from glavitu.__main__ import cli
from glavitu.files import read_json, write_json
from glavitu.geotiffs import to_dataarray, write_raster
from glavitu.hdf5 import check_all
from glavitu.units import scale
from glavitu.windows import blend

MAPS = ("glacier.tif", "probability.tif", "confidence.tif")


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_a_streamed_map_equals_the_blending_of_the_whole_scene(weights, scene, tmp_path):
    paths, arrays = scene
    mapping.map_scene(weights, paths, tmp_path / "out", batch_size=4, precision="float32")
    scaled = {source: scale(array, **SCALING[source]) for source, array in arrays.items()}
    model = load_model(weights)

    def read_windows(windows):
        return {
            s: np.stack([a[r : r + 16, c : c + 16] for r, c in windows]) for s, a in scaled.items()
        }

    def predict(batch):
        return model.predict_on_batch(batch)["output"]

    expected = blend(read_windows, predict, (70, 45), 16, 8, 4)[..., 1]
    expected[:4, :7] = np.nan
    found = read(tmp_path / "out" / "probability.tif")
    assert np.allclose(found, expected, atol=1e-5, equal_nan=True)
    assert 0.05 < (found > 0.5).mean() < 0.95  # or the comparison of classes would be empty
    classes = read(tmp_path / "out" / "glacier.tif")
    assert (classes[:4, :7] == 255).all() and np.isnan(found[:4, :7]).all()
    assert np.array_equal(classes == 1, np.nan_to_num(found) > 0.5)
    sure = read(tmp_path / "out" / "confidence.tif")
    assert np.allclose(sure, np.maximum(found, 1 - found), atol=1e-5, equal_nan=True)


def test_narrow_chunks_of_a_strip_give_the_same_map(weights, scene, tmp_path, monkeypatch):
    paths, _ = scene
    mapping.map_scene(weights, paths, tmp_path / "whole", batch_size=1)
    monkeypatch.setattr(strips, "CHUNK", 32)
    mapping.map_scene(weights, paths, tmp_path / "chunks", batch_size=1)
    assert np.array_equal(
        *(read(tmp_path / n / "probability.tif") for n in ("whole", "chunks")), equal_nan=True
    )


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_map_cut_off_goes_on_and_ends_the_same(
    weights, scene, tmp_path, monkeypatch, stop, capsys
):
    paths, _ = scene
    mapping.map_scene(weights, paths, tmp_path / "whole")
    original, asked = streaming.predict_strip, []

    def interrupted(job, row):
        asked.append(row)
        if len(asked) > stop:
            raise KeyboardInterrupt
        return original(job, row)

    monkeypatch.setattr(streaming, "predict_strip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mapping.map_scene(weights, paths, tmp_path / "cut")
    assert not list((tmp_path / "cut").glob("*.tif"))
    with open(tmp_path / "cut" / ".part-probability.f32", "ab") as file:
        file.write(b"half a row")
    asked.clear()
    monkeypatch.setattr(streaming, "predict_strip", lambda *a: asked.append(a) or original(*a))
    capsys.readouterr()
    # also with settings that change no probability
    mapping.map_scene(weights, paths, tmp_path / "cut", min_area=1, date="2020", batch_size=7)
    assert "cut: goes on where it was cut off, " in "".join(capsys.readouterr())
    assert 0 < len(asked) <= 8 - stop + 2  # of 8 rows of windows, up to two again for the overlap
    for name in MAPS:
        a, b = (read(tmp_path / folder / name) for folder in ("whole", "cut"))
        assert np.array_equal(a, b, equal_nan=name != "glacier.tif")
    assert not list((tmp_path / "cut").glob(".part*"))


def test_a_scene_smaller_than_a_window_is_mapped(weights, tmp_path):
    paths, _ = make_scene(tmp_path / "scene", 9, 12)
    mapping.map_scene(weights, paths, tmp_path / "out")
    assert np.isfinite(read(tmp_path / "out" / "probability.tif")).sum() == 9 * 12 - 4 * 7


def test_factors_bring_values_to_the_units_of_training(weights, scene, tmp_path):
    paths, arrays = scene
    mapping.map_scene(weights, paths, tmp_path / "plain")
    values = to_dataarray(
        np.nan_to_num(arrays["optical"] * 1000, nan=-1).transpose(2, 0, 1).round().astype("i2"),
        (30, 0, 500_000, 0, -30, 5_000_000),
        "EPSG:32632",
        nodata=-1,
    )
    write_raster(tmp_path / "integers.tif", values)
    changed = paths | {"optical": tmp_path / "integers.tif"}
    mapping.map_scene(weights, changed, tmp_path / "factor", factors={"optical": 0.001})
    a, b = (read(tmp_path / name / "probability.tif") for name in ("plain", "factor"))
    assert np.allclose(a, b, atol=0.05, equal_nan=True)
    with pytest.raises(InputError, match="factor 2 of 'sar', expected a positive number for one"):
        mapping.map_scene(weights, paths, tmp_path / "none", factors={"sar": 2})


@pytest.mark.parametrize("bands", [1, 2])
def test_a_factor_of_the_dem_is_one_of_its_elevation(weights, scene, tmp_path, bands):
    paths, arrays = scene
    place = (30, 0, 500_000, 0, -30, 5_000_000)
    maps = []
    for name, units in (("metres", 1), ("decimetres", 10)):
        values = arrays["dem"].transpose(2, 0, 1)[:bands].copy()
        values[0] *= units
        write_raster(tmp_path / f"{name}.tif", to_dataarray(values, place, "EPSG:32632"))
        changed, out = paths | {"dem": tmp_path / f"{name}.tif"}, tmp_path / name
        mapping.map_scene(weights, changed, out, factors={"dem": 1 / units}, precision="float32")
        maps.append(read(out / "probability.tif"))
    assert np.allclose(*maps, atol=1e-4, equal_nan=True)


def test_own_scaling_does_not_know_units(weights, scene, tmp_path):
    paths, arrays = scene
    maps = []
    for factor in (1, 40):
        values = (arrays["dem"] * factor).transpose(2, 0, 1)
        place = (30, 0, 500_000, 0, -30, 5_000_000)
        write_raster(tmp_path / f"{factor}.tif", to_dataarray(values, place, "EPSG:32632"))
        changed = paths | {"dem": tmp_path / f"{factor}.tif"}
        mapping.map_scene(weights, changed, tmp_path / f"m{factor}", own_scaling=True)
        maps.append(read(tmp_path / f"m{factor}" / "probability.tif"))
    assert np.allclose(*maps, atol=1e-3, equal_nan=True)


def test_a_finished_map_is_kept_and_another_refused_unless_overwritten(weights, scene, tmp_path):
    paths, _ = scene
    out = tmp_path / "out"
    first = mapping.map_scene(weights, paths, out)
    before = (out / "glacier.tif").stat().st_mtime_ns
    assert mapping.map_scene(weights, paths, out)["outlines"] == first["outlines"]
    with pytest.raises(InputError, match="has a map with stride 8 instead of 4; name another"):
        mapping.map_scene(weights, paths, out, stride=4)
    assert (out / "glacier.tif").stat().st_mtime_ns == before
    mapping.map_scene(weights, paths, out, stride=4, overwrite=True)
    assert json.loads((out / "map.json").read_text())["recipe"]["stride"] == 4


def test_symmetries_and_dropout_change_the_map_and_are_the_same_again(weights, scene, tmp_path):
    paths, _ = scene
    plain = mapping.map_scene(weights, paths, tmp_path / "plain")
    assert plain["recipe"]["calibration"] is None
    for options in ({"symmetries": True}, {"dropout_samples": 2}):
        maps = []
        for again in ("a", "b"):
            mapping.map_scene(weights, paths, tmp_path / again, overwrite=True, **options)
            maps.append(read(tmp_path / again / "probability.tif"))
            shutil.rmtree(tmp_path / again)
        assert np.array_equal(*maps, equal_nan=True)
        difference = np.nanmax(np.abs(maps[0] - read(tmp_path / "plain" / "probability.tif")))
        assert 1e-5 < difference < 0.9


def test_dropout_differs_from_batch_to_batch_of_a_row(weights, tmp_path):
    paths, _ = make_scene(tmp_path / "scene", 16, 64)
    for path in paths.values():  # the same ground again and again
        with rasterio.open(path, "r+") as file:
            file.write(np.tile(file.read()[:, :, 8:24], 4))
    options = {"stride": 16, "batch_size": 1, "dropout_samples": 1}
    mapping.map_scene(weights, paths, tmp_path / "out", **options)
    windows = np.split(read(tmp_path / "out" / "probability.tif"), 4, axis=1)
    assert all(np.abs(window - windows[0]).max() > 1e-3 for window in windows[1:])


def test_dropout_of_a_network_without_any_is_refused(scene, tmp_path):
    sizes = TINY_SIZES["glavitu"] | {"dropout": 0}
    model = build_model("glavitu", inputs=INPUTS, patch_size=16, **sizes)
    save_weights(model, tmp_path / "dry.weights.h5")
    write_record(tmp_path / "dry.weights.h5", scaling=SCALING)
    arguments = (tmp_path / "dry.weights.h5", scene[0], tmp_path / "out")
    mapping.map_scene(*arguments)
    with pytest.raises(InputError, match=r"dry.weights.h5 holds a network without dropout"):
        mapping.map_scene(*arguments, dropout_samples=1, overwrite=True)
    assert all((tmp_path / "out" / name).exists() for name in MAPS)  # the old map stays


def test_gdal_may_keep_128_mb_while_a_scene_is_mapped(weights, scene, tmp_path, monkeypatch):
    found, original = [], streaming.predict_strip

    def strip(*arguments):
        found.append(rasterio.env.get_gdal_config("GDAL_CACHEMAX"))
        return original(*arguments)

    monkeypatch.setattr(streaming, "predict_strip", strip)
    mapping.map_scene(weights, scene[0], tmp_path / "out")
    assert set(found) == {128 * 1024 * 1024}


def test_rasters_that_were_replaced_are_read_anew(weights, tmp_path):
    paths, _ = make_scene(tmp_path / "scene", 40, 40)
    mapping.map_scene(weights, paths, tmp_path / "before")
    make_scene(tmp_path / "scene", 50, 60, seed=5)
    mapping.map_scene(weights, paths, tmp_path / "after")
    other, _ = make_scene(tmp_path / "other", 50, 60, seed=5)
    mapping.map_scene(weights, other, tmp_path / "fresh")
    after, fresh = (read(tmp_path / name / "probability.tif") for name in ("after", "fresh"))
    assert after.shape == (50, 60) and np.array_equal(after, fresh, equal_nan=True)


def test_symmetries_of_a_turned_scene_turn_the_map(weights, tmp_path):
    patches = {
        s: np.random.default_rng(0).random((2, 16, 16, b)).astype("f4") for s, b in INPUTS.items()
    }
    model = load_model(weights)
    job = strips.Job("", {}, INPUTS, None, {}, 16, 8, 2, True, 0, "float32", {}, SCALING)
    straight = strips._ask(model, patches, job, 0, 0)
    turned = strips._ask(
        model, {s: strips._turn(a, True, 1) for s, a in patches.items()}, job, 0, 0
    )
    assert np.allclose(strips._turn_back(turned, True, 1), straight, atol=1e-5)


def test_a_map_agrees_with_its_own_outlines(weights, scene, tmp_path):
    paths, _ = scene
    mapping.map_scene(weights, paths, tmp_path / "a", min_area=0)
    reference = tmp_path / "a" / "outlines.gpkg"
    found = mapping.map_scene(weights, paths, tmp_path / "b", min_area=0, reference=reference)
    assert found["comparison"]["iou"] == pytest.approx(1)
    table = tmp_path / "b" / "comparison.csv"
    before = table.read_bytes()
    table.unlink()
    mapping.map_scene(weights, paths, tmp_path / "b", min_area=0, reference=reference)
    assert table.read_bytes() == before


def test_a_mask_beside_a_raster_is_part_of_it_and_statistics_are_not(weights, scene, tmp_path):
    paths, arrays = scene
    values = arrays["dem"].transpose(2, 0, 1)  # a value that means no data would come first
    write_raster(paths["dem"], to_dataarray(values, (30, 0, 5e5, 0, -30, 5e6), "EPSG:32632"))
    first = mapping.map_scene(weights, paths, tmp_path / "out")
    beside = paths["dem"].with_name("dem.tif.aux.xml")
    beside.write_text(
        "<PAMDataset><PAMRasterBand band='1'><Metadata><MDI key='STATISTICS_MEAN'>1</MDI>"
        "</Metadata></PAMRasterBand></PAMDataset>"
    )
    assert mapping.map_scene(weights, paths, tmp_path / "out") == first
    beside.unlink()
    mask = np.full((70, 45), 255, np.uint8)
    mask[:20] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(paths["dem"], "r+") as file:
        file.write_mask(mask)
    with pytest.raises(InputError, match="another content of .*dem.tif"):
        mapping.map_scene(weights, paths, tmp_path / "out")
    again = mapping.map_scene(weights, paths, tmp_path / "out", overwrite=True)
    assert again["share_with_data"] == pytest.approx(50 / 70)


@pytest.mark.parametrize("path", ["https://example.org/x.tif", "/vsicurl/x.tif"])
def test_addresses_are_told_as_such(weights, scene, tmp_path, path):
    with pytest.raises(InputError, match=f"^{path} is not a local file; download it first"):
        mapping.map_scene(weights, scene[0] | {"dem": path}, tmp_path / "out")


def test_the_command_line_maps_and_refuses_in_one_line(weights, scene, tmp_path):
    paths, _ = scene
    base = ["map", "--weights", str(weights), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, [*base, "--optical", str(paths["optical"])])
    assert isinstance(result.exception, InputError) and "dem" in str(result.exception)
    result = CliRunner().invoke(cli, [*base, "-m", "setr", "--optical", "x"])
    assert "holds glavitu, not setr" in str(result.exception)
    sources = [f"--{source}={path}" for source, path in paths.items()]
    result = CliRunner().invoke(cli, [*base, "-m", "glavitu", *sources])
    assert result.exit_code == 0 and "1 outline, " in result.output, result.exception


def test_a_map_never_overwrites_what_it_was_given_or_found(weights, scene, tmp_path):
    paths, _ = scene
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "outlines.gpkg").write_bytes(b"an inventory")
    with pytest.raises(InputError, match=r"outlines\.gpkg would be overwritten"):
        mapping.map_scene(weights, paths, mine)
    dem = shutil.copy(paths["dem"], mine / "probability.tif")
    (mine / "outlines.gpkg").unlink()
    with pytest.raises(InputError, match=r"probability\.tif would be overwritten"):
        mapping.map_scene(weights, paths | {"dem": dem}, mine, overwrite=True)
    assert [p.name for p in mine.iterdir()] == ["probability.tif"]


def test_a_reference_elsewhere_is_told_before_the_work_and_with_the_map(
    weights, scene, tmp_path, capsys
):
    paths, _ = scene
    far = gpd.GeoSeries([shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
    far.to_file(tmp_path / "far.gpkg")
    reference = {"reference": tmp_path / "far.gpkg"}
    found = mapping.map_scene(weights, paths, tmp_path / "out", min_area=0, **reference)
    assert "out: no outline of the reference is about the scene" in capsys.readouterr().out
    assert found["remarks"].count(remarks.NO_GLACIER) == 1
    assert found["comparison"]["glaciers"] == 0 and "iou" not in found["comparison"]
    assert mapping.map_scene(weights, paths, tmp_path / "out", min_area=0, **reference) == found
    copied = shutil.copy(tmp_path / "out" / "outlines.gpkg", tmp_path / "own.gpkg")
    again = mapping.map_scene(weights, paths, tmp_path / "out", min_area=0, reference=copied)
    assert again["comparison"]["iou"] == pytest.approx(1)
    assert remarks.NO_GLACIER not in again["remarks"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size is 0, expected a number of at least 1"),
        ({"dropout_samples": -1}, "dropout_samples is -1"),
        ({"min_area": float("nan")}, "min_area is nan"),
        ({"smooth": float("inf")}, "smooth is inf"),
        ({"nodata": 0}, "nodata is 0, expected a dict by source"),
        ({"factors": 0.5}, "factor is 0.5, expected a dict by source"),
        ({"picture": [3, 2, 1]}, r"picture is \[3, 2, 1\], expected a dict by source"),
        ({"paths": ["optical.tif"]}, r"paths is \['optical.tif'\], expected a dict by source"),
        ({"grid": "swir"}, "grid is 'swir', expected optical or dem"),
        ({"precision": "half"}, "precision is 'half', expected auto or float32 or bfloat16"),
    ],
)
def test_options_that_cannot_be_are_refused(weights, scene, tmp_path, options, message):
    options = {"paths": scene[0]} | options
    with pytest.raises(InputError, match=message):
        mapping.map_scene(weights, out=tmp_path / "out", **options)


def test_numbers_of_numpy_are_taken_and_fractions_refused(weights, scene, tmp_path):
    options = {"batch_size": np.int64(4), "stride": np.int64(16), "min_area": np.float32(1)}
    options |= {"factors": {"dem": np.float32(2)}, "nodata": {"dem": np.int16(-1)}}
    options |= {"picture": {"optical": list(np.arange(1, 4))}, "own_scaling": np.bool_(False)}
    found = mapping.map_scene(weights, scene[0], tmp_path / "out", **options)
    assert found["recipe"]["stride"] == 16 and found["recipe"]["factors"] == {"dem": 2}
    assert found["recipe"]["picture"] == {"optical": [1, 2, 3]}
    assert mapping.map_scene(weights, scene[0], tmp_path / "out", **options) == found
    for name in ("batch_size", "stride", "dropout_samples"):
        for number in (2.5, "4", 4.0, True):
            with pytest.raises(InputError, match=f"{name} is {number!r}, expected a whole number"):
                mapping.map_scene(weights, scene[0], tmp_path / "none", **{name: number})
    assert not (tmp_path / "none").exists()


def test_values_unlike_the_training_data_are_remarked(weights, scene, tmp_path):
    paths, arrays = scene
    assert mapping.map_scene(weights, paths, tmp_path / "plain", min_area=0)["remarks"] == []
    values = (arrays["dem"] * 1000).transpose(2, 0, 1)
    place = (30, 0, 500_000, 0, -30, 5_000_000)
    write_raster(tmp_path / "dem.tif", to_dataarray(values, place, "EPSG:32632"))
    changed = paths | {"dem": tmp_path / "dem.tif"}
    found = mapping.map_scene(weights, changed, tmp_path / "out", min_area=0)
    (remark,) = found["remarks"]
    assert remark.startswith("dem bands 1 and 2: 100% of the pixels are far")


def test_outlines_too_small_to_be_kept_are_counted_and_remarked(weights, scene, tmp_path):
    whole = mapping.map_scene(weights, scene[0], tmp_path / "whole", min_area=0)
    assert whole["left_out"] == whole["left_out_km2"] == 0
    second = gpd.read_file(tmp_path / "whole" / "outlines.gpkg")["area_km2"].iloc[1]
    found = mapping.map_scene(weights, scene[0], tmp_path / "out", min_area=1.01 * second)
    assert (found["outlines"], found["left_out"]) == (1, whole["outlines"] - 1)
    assert found["area_km2"] + found["left_out_km2"] == pytest.approx(whole["area_km2"])
    record = {"left_out": 7, "left_out_km2": 0.4, "area_km2": 6}
    (remark,) = remarks.many_small(record, 0.02)
    assert remark.startswith("7 outlines of less than 0.02 km2, 0.4 km2 in all, are left out")
    assert remarks.many_small(record | {"area_km2": 8}, 0.02) == []


def test_bands_without_names_are_called_as_in_the_training(weights, scene, tmp_path):
    folder = shutil.copytree(weights.parent, tmp_path / "weights")
    record = read_json(folder / "net.json")
    record["bands"] = {"optical": ["green", "red", "NIR"]}
    write_json(folder / "net.json", record)
    found = mapping.map_scene(folder / weights.name, scene[0], tmp_path / "out")
    assert "optical does not name its bands; taken for green, red, NIR." in found["grid"]


def test_precision_is_by_default_as_the_training_was_told(weights, scene, tmp_path):
    folder = shutil.copytree(weights.parent, tmp_path / "weights")
    record = read_json(folder / "net.json")
    for told, used in (("float32", "float32"), ("auto", "auto"), ("half", "auto")):
        record["settings"] = {"precision": told}
        write_json(folder / "net.json", record)
        found = mapping.map_scene(folder / weights.name, scene[0], tmp_path / told)
        assert found["recipe"]["precision"] == used


def test_pixels_of_another_size_than_the_trainings_are_remarked(weights, scene, tmp_path):
    folder = shutil.copytree(weights.parent, tmp_path / "weights")
    record = json.loads((folder / "net.json").read_text())
    for size, told in ((25, []), (10, ["Pixels are 30 m wide, those of the training data 10 m"])):
        write_json(folder / "net.json", record | {"pixel_size": size})
        found = mapping.map_scene(folder / weights.name, scene[0], tmp_path / f"out{size}")
        assert [remark.partition(":")[0] for remark in found["remarks"]] == told
    write_json(folder / "net.json", record | {"pixel_size": "wide"})
    with pytest.raises(InputError, match=r"net.json: pixel_size is 'wide', expected metres"):
        mapping.map_scene(folder / weights.name, scene[0], tmp_path / "out")


def test_a_scheduler_that_is_not_there_is_named(weights, scene, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    from distributed import Client

    def refuse(*_, **__):
        raise OSError("timed out")

    monkeypatch.setattr(Client, "__init__", refuse)
    with pytest.raises(InputError, match="no dask scheduler at tcp://nowhere:1: timed out"):
        mapping.map_scene(weights, scene[0], tmp_path / "out", scheduler="tcp://nowhere:1")
    assert not (tmp_path / "out").exists()


def test_a_network_instead_of_its_weights_is_refused(scene, tmp_path):
    with pytest.raises(InputError, match="weights are a dict, expected the path of a training's"):
        mapping.map_scene({}, scene[0], tmp_path / "out")


def test_weights_without_a_record_are_refused(weights, scene, tmp_path):
    lone = shutil.copy(weights, tmp_path / "lone.weights.h5")
    with pytest.raises(InputError, match=r"lacks lone\.json; map needs"):
        mapping.map_scene(lone, scene[0], tmp_path / "out")
    for record, message in [
        ({"scaling": {"optical": SCALING["optical"]}}, "does not say how 'dem' was scaled"),
        ({"weights": "of others", "scaling": SCALING}, r"lone\.json was not written with lone\."),
    ]:
        write_record(lone, **record)
        with pytest.raises(InputError, match=message):
            mapping.map_scene(lone, scene[0], tmp_path / "out")
    with pytest.raises(InputError, match="no weights at"):
        mapping.map_scene(tmp_path / "none.weights.h5", scene[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_no_numbers_are_refused_before_anything_is_written(
    weights, scene, tmp_path
):
    paths, _ = scene
    shutil.copytree(weights.parent, tmp_path / "weights")
    broken = tmp_path / "weights" / weights.name
    with h5py.File(broken, "r+") as file:
        for array in check_all(file).values():
            array[()] = np.full(array.shape, np.nan)
    write_record(broken, scaling=SCALING)
    with pytest.raises(InputError, match="not finite; train again"):
        mapping.map_scene(broken, paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cluster_gives_the_same_map_also_when_a_worker_dies(weights, tmp_path):
    distributed = pytest.importorskip("distributed")
    paths, _ = make_scene(tmp_path / "scene", 400, 45)
    mapping.map_scene(weights, paths, tmp_path / "local")
    killed = []

    def kill_a_worker(cluster):
        raw = tmp_path / "cluster" / ".part-probability.f32"
        while not (raw.exists() and raw.stat().st_size):
            time.sleep(0.001)
        killed.append(next(iter(cluster.workers.values())).pid)
        os.kill(killed[0], signal.SIGKILL)

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        killer = threading.Thread(target=kill_a_worker, args=[cluster])
        killer.start()
        mapping.map_scene(weights, paths, tmp_path / "cluster", scheduler=cluster.scheduler_address)
        killer.join()
    assert killed
    for name in MAPS:
        a, b = (read(tmp_path / folder / name) for folder in ("local", "cluster"))
        assert np.array_equal(a, b, equal_nan=name != "glacier.tif")
