"""What changed under an old result is noticed, and two runs never make the same one at once."""

import json
import shutil
from dataclasses import replace

import geopandas as gpd
import h5py
import pytest
import rasterio
from shapely import box

from glavitu import InputError, compile_tiles
from glavitu.band_ratio import map_tiles
from glavitu.calibration import calibrate
from glavitu.demo_data import make_demo_data
from glavitu.evaluation import evaluate
from glavitu.files import locked
from glavitu.mapping import map_scene
from glavitu.mapping_settings import OUTPUTS
from glavitu.outlines import write_outlines
from glavitu.prediction import predict
from glavitu.profiles import UNFINISHED
from glavitu.study import ensure_data, run_study
from glavitu.training import train

DEMO = {"tile_size": 32, "tiles_per_region": 3, "regions": ["ALP"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make demo data, which all tests here copy."""
    return make_demo_data(tmp_path_factory.mktemp("demo") / "data", **DEMO)


@pytest.fixture
def trained(tiny_profile, made, tmp_path):
    """Train a tiny network; return the options of what uses it, and its weights."""
    data = shutil.copytree(made, tmp_path / "data")
    options = {"profile": replace(tiny_profile, stride=16), "data": data, "out": tmp_path}
    train("resunet", **options)
    return options, tmp_path / "weights" / "resunet.weights.h5"


def change(data, split):
    """Change one label of a split, in a new file of the same name and size."""
    shutil.copy(data / f"{split}.hdf5", data / "new")
    with h5py.File(data / "new", "r+") as file:
        label = file[next(iter(file))]["groundtruth"]
        label[0, 0] = label[0, 0][::-1]
    (data / "new").replace(data / f"{split}.hdf5")


def write_box(path, raster, width):
    """Write an outline in a corner of a raster."""
    with rasterio.open(raster) as file:
        x, y, crs = file.bounds.left, file.bounds.bottom, file.crs
    frame = gpd.GeoDataFrame(geometry=[box(x, y, x + width, y + 300)], crs=crs)
    write_outlines(frame, path)


def test_predictions_of_other_data_leave_no_scores_of_the_old(trained, tmp_path):
    options, _ = trained
    predict("resunet", **options)
    old = evaluate("resunet", out=tmp_path)
    folder = tmp_path / "predictions" / "resunet"
    assert {p.suffix for p in folder.iterdir()} == {".nc", ".csv", ".json"}
    change(options["data"], "test")
    (folder / ".part-GONE.nc").mkdir()  # of a run that was killed
    predict("resunet", **options)
    assert not (folder / ".part-GONE.nc").exists()
    assert not list(folder.glob("*.csv"))
    assert not evaluate("resunet", out=tmp_path)[["tp", "tn", "fp", "fn"]].equals(
        old[["tp", "tn", "fp", "fn"]]
    )


def test_predictions_are_made_anew_for_sources_in_another_order(trained, tmp_path):
    options, weights = trained
    record = tmp_path / "predictions" / "resunet" / "predictions.json"
    predict("resunet", **options)
    made = json.loads(record.read_text())
    made["recipe"]["inputs"].reverse()
    record.write_text(json.dumps(made))
    times = {p: p.stat().st_mtime_ns for p in record.parent.glob("*.nc")}
    predict("resunet", **options)
    assert all(p.stat().st_mtime_ns > then for p, then in times.items())


def test_scores_are_of_the_weights_that_are_there(trained):
    options, weights = trained
    predict(name="resunet", **options)
    evaluate("resunet", out=options["out"])
    train("resunet", seed=1, overwrite=True, **options)
    with pytest.raises(InputError, match=f"predictions in .* are not by {weights}; run predict"):
        evaluate("resunet", out=options["out"])
    predict(name="resunet", **options)
    assert len(evaluate("resunet", out=options["out"])) == 1
    other = shutil.copy(weights, options["out"] / "other.weights.h5")
    train("resunet", seed=2, overwrite=True, **options)
    predict(name="resunet", weights=other, **options)  # on purpose
    assert len(evaluate("resunet", out=options["out"])) == 1


def test_what_uses_a_training_that_has_not_ended_says_so(trained, made, tmp_path, capsys):
    options, weights = trained
    predict(name="resunet", **options)
    assert "not trained to the end" not in capsys.readouterr().out
    weights.with_name("resunet.checkpoint.h5").touch()
    predict(name="resunet", **options)
    assert "resunet: not trained to the end; the best weights so far" in capsys.readouterr().out
    paths = {source: made / source / "ALP1-0000.tif" for source in ("optical", "dem", "sar")}
    with pytest.raises(InputError, match="is of a training that has not ended; run train again"):
        map_scene(weights, paths, tmp_path / "map")


def test_the_band_ratio_leaves_no_tile_that_is_gone(made, tmp_path):
    data = shutil.copytree(made, tmp_path / "data")
    map_tiles(data, tmp_path)
    old = tmp_path / "predictions" / "band_ratio" / "ALP1-0000.nc"
    assert old.exists()
    with h5py.File(data / "test.hdf5", "r") as file, h5py.File(data / "new", "w") as new:
        file.copy("ALP1-0000", new, "ALP1-0009")
        new.attrs.update(file.attrs)
    (data / "new").replace(data / "test.hdf5")
    map_tiles(data, tmp_path)
    assert not old.exists() and set(evaluate("band_ratio", out=tmp_path)["tile"]) == {"ALP1-0009"}


def test_a_map_knows_its_calibration_its_reference_and_its_files(trained, made, tmp_path):
    options, weights = trained
    scene = {source: made / source / "ALP1-0000.tif" for source in ("optical", "dem", "sar")}
    first = map_scene(weights, scene, tmp_path / "map")
    assert first["recipe"]["calibration"] is None
    calibrate("resunet", **options)
    with pytest.raises(InputError, match="has a map with another calibration"):
        map_scene(weights, scene, tmp_path / "map")
    second = map_scene(weights, scene, tmp_path / "map", overwrite=True)
    assert second["recipe"]["calibration"][0] > 0
    (tmp_path / "map" / "confidence.tif").unlink()  # a map that lost a file is made anew
    map_scene(weights, scene, tmp_path / "map")
    assert {p.name for p in (tmp_path / "map").iterdir()} == {*OUTPUTS, "map.json"}
    reference = tmp_path / "reference.gpkg"
    write_box(reference, scene["optical"], 300)
    old = map_scene(weights, scene, tmp_path / "map", reference=reference)
    write_box(reference, scene["optical"], 360)
    new = map_scene(weights, scene, tmp_path / "map", reference=reference)
    assert new["comparison"] != old["comparison"]


def test_a_training_of_other_data_under_the_same_name_is_refused(trained):
    options, _ = trained
    change(options["data"], "val")
    with pytest.raises(InputError, match="another training named 'resunet' is in .* .other data"):
        train("resunet", **options)


def test_demo_data_cut_off_between_any_two_files_are_made_again(made, tiny_profile, tmp_path):
    profile = replace(tiny_profile, demo_data=DEMO)
    gone = ["demo_data.json", "train.hdf5", "val.hdf5", "test.hdf5", "tiles.csv"]
    for i in range(1, len(gone) + 1):
        data = shutil.copytree(made, tmp_path / f"data{i}")
        for name in gone[:i]:
            (data / name).unlink()
        (data / UNFINISHED).write_text("{}")
        ensure_data(profile, data)
        names = {p.relative_to(made) for p in made.rglob("*")}
        assert {p.relative_to(data) for p in data.rglob("*")} == names
    empty = tmp_path / "empty"
    empty.mkdir()
    assert ensure_data(profile, empty) == empty and (empty / "demo_data.json").exists()


def test_tiles_compiled_where_demo_data_were_cut_off_are_not_taken_for_those(made, tmp_path):
    data = shutil.copytree(made, tmp_path / "data")
    (data / "demo_data.json").unlink()
    (data / UNFINISHED).write_text("{}")
    compile_tiles(made / "tiles.csv", data, patch_size=32)
    with pytest.raises(InputError, match="holds data that are not demo data"):
        make_demo_data(data, **DEMO)


def test_two_runs_never_make_the_same_result_at_once(trained, made, tmp_path):
    options, weights = trained
    predict("resunet", **options)
    data = options["data"]
    scene = {source: made / source / "ALP1-0000.tif" for source in ("optical", "dem", "sar")}
    for path, run in {
        weights: lambda: train("resunet", **options),
        tmp_path / "predictions" / "resunet": lambda: predict("resunet", **options),
        tmp_path / "weights" / "resunet.calibration.json": lambda: calibrate("resunet", **options),
        data / "tiles": lambda: make_demo_data(data, **DEMO),
        tmp_path / "predictions" / "band_ratio": lambda: map_tiles(data, tmp_path),
        tmp_path / "new" / "tiles": lambda: compile_tiles(made / "tiles.csv", tmp_path / "new"),
        tmp_path / "map" / "map.json": lambda: map_scene(weights, scene, tmp_path / "map"),
        tmp_path / "study": lambda: run_study("smoke", data=data, out=tmp_path),
    }.items():
        with locked(path), pytest.raises(InputError, match="another run is at work on"):
            run()
    folder = tmp_path / "predictions" / "resunet"
    with locked(folder), pytest.raises(InputError, match="another run is at work on"):
        evaluate("resunet", out=tmp_path)
    assert not list(tmp_path.rglob(".lock*"))
