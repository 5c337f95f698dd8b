import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import rasterio
from click.testing import CliRunner
from conftest import make_scene

from glavitu import (
    InputError,
    load_model,
    local_rasters,
    many_scenes,
    map_scene,
    map_scenes,
    strips,
)
from glavitu.__main__ import cli
from glavitu.outputs import calibration_path


@pytest.fixture
def table(tmp_path):
    """Make a table of three scenes, the second without its dem; return its path."""
    rows = []
    for i, name in enumerate(("a", "b", "c")):
        paths, _ = make_scene(tmp_path / "scenes" / name, 20, 24 + i, seed=i)
        rows.append({"name": name, "optical": f"{name}/optical.tif", "dem": f"{name}/dem.tif"})
    (tmp_path / "scenes" / "b" / "dem.tif").unlink()
    csv = tmp_path / "scenes" / "scenes.csv"
    pd.DataFrame(rows).assign(date=["2020", "2021-07", ""]).to_csv(csv, index=False)
    return csv


def change(csv, **columns):
    pd.read_csv(csv, keep_default_na=False).assign(**columns).to_csv(csv, index=False)


def probability(folder):
    with rasterio.open(folder / "probability.tif") as file:
        return file.read(1)


def test_every_scene_is_mapped_as_alone_and_one_that_cannot_be_stops_none(weights, table, tmp_path):
    out = tmp_path / "out"
    summary = map_scenes(weights, table, out, min_area=0)
    assert summary["error"].str.contains(r"no raster at .*b/dem\.tif").tolist() == [0, 1, 0]
    for name in ("a", "c"):
        paths = {source: table.parent / name / f"{source}.tif" for source in ("optical", "dem")}
        alone = map_scene(weights, paths, tmp_path / name, min_area=0)
        row = summary.set_index("name").loc[name]
        assert (row["outlines"], row["area_km2"]) == (alone["outlines"], alone["area_km2"])
        maps = [probability(folder / name) for folder in (tmp_path, out)]
        assert np.array_equal(*maps, equal_nan=True)
    assert not (out / "b").exists()
    stored = pd.read_csv(out / "scenes.csv", keep_default_na=False)
    assert stored["name"].tolist() == ["a", "b", "c"] and stored["outlines"][1] == ""
    assert stored["date"].tolist() == ["2020", "2021-07", ""]


def test_the_network_is_loaded_once_and_finished_scenes_are_skipped(
    weights, table, tmp_path, monkeypatch
):
    strips._load.cache_clear()
    loaded = []
    monkeypatch.setattr(
        "glavitu.weights.load_model", lambda *a, **k: loaded.append(a) or load_model(*a, **k)
    )
    first = map_scenes(weights, table, tmp_path / "out")
    assert len(loaded) == 1
    before = (tmp_path / "out" / "a" / "glacier.tif").stat().st_mtime_ns
    make_scene(table.parent / "b", 20, 25, seed=1)  # what was missing is there now
    again = map_scenes(weights, table, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "glacier.tif").stat().st_mtime_ns == before
    assert first["error"].ne("").sum() == 1 and again["error"].eq("").all()
    assert (tmp_path / "out" / "b" / "map.json").exists()


def test_scenes_with_a_reference_have_its_figures_in_the_summary(weights, table, tmp_path):
    first = map_scenes(weights, table, tmp_path / "first", min_area=0)
    assert "iou" not in first
    outlines = tmp_path / "first" / "a" / "outlines.gpkg"
    outlines.rename(table.parent / "a.gpkg")
    change(table, reference=["a.gpkg", "", ""])
    summary = map_scenes(weights, table, tmp_path / "out", min_area=0)
    assert summary["glaciers_mapped"].dtype == "Int64"  # not 3.0 where others have no reference
    assert summary["iou"][0] == pytest.approx(1) and summary["iou"][1:].isna().all()
    assert (tmp_path / "out" / "a" / "comparison.csv").exists()


def test_a_scene_whose_file_cannot_be_read_stops_no_other(weights, table, tmp_path, monkeypatch):
    original = local_rasters._start

    def refuse(path):
        if path.parent.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(local_rasters, "_start", refuse)
    summary = map_scenes(weights, table, tmp_path / "out")
    assert "Permission denied" in summary["error"][0] and summary["error"][2] == ""


def test_a_summary_that_is_no_text_is_not_overwritten(weights, table, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scenes.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"scenes\.csv would be overwritten"):
        map_scenes(weights, table, tmp_path / "out")


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"optcal": "x"}, "column 'optcal' is not used; expected name, optical, dem, and if"),
        ({"name": "a"}, "name 'a' twice"),
        ({"name": ["a", "..", "c"]}, r"name '\.\.' may hold only letters"),
        (
            {"name": ["a", "scenes.csv", "c"]},
            r"no scene can be named 'scenes\.csv', as the summary",
        ),
    ],
)
def test_tables_that_cannot_be_used_are_refused_before_the_work(
    weights, table, tmp_path, columns, message
):
    change(table, **columns)
    with pytest.raises(InputError, match=message):
        map_scenes(weights, table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_of_numpy_are_taken(weights, table, tmp_path):
    options = {"stride": np.int64(16), "min_area": np.float32(0), "symmetries": np.bool_(False)}
    options |= {"factors": {"dem": np.float32(2)}, "picture": {"optical": list(np.arange(1, 4))}}
    summary = map_scenes(weights, table, tmp_path / "out", **options)
    assert summary["error"].ne("").tolist() == [False, True, False]


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 17},
        {"stride": 4.5},
        {"factors": {"sar": 2}},
        {"factors": {"dem": "2"}},
        {"batch_size": 0},
        {"smooth": -1},
        {"grid": "swir"},
        {"precision": "half"},
    ],
)
def test_settings_that_suit_no_scene_are_refused_once(weights, table, tmp_path, options):
    with pytest.raises(InputError, match=f"{next(iter(options)).rstrip('s')} "):
        map_scenes(weights, table, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_missing_column_and_an_empty_table_are_named(weights, table, tmp_path):
    content = pd.read_csv(table)
    content.drop(columns="dem").to_csv(table, index=False)
    with pytest.raises(InputError, match="has no column 'dem'; expected name, optical, dem, and"):
        map_scenes(weights, table, tmp_path / "out")
    content[:0].to_csv(table, index=False)
    with pytest.raises(InputError, match="has no scenes"):
        map_scenes(weights, table, tmp_path / "out")


def test_entries_stay_in_the_tables_folder_and_may_be_empty(weights, table, tmp_path):
    change(table, optical=["../x.tif", "a/optical.tif", ""])
    summary = map_scenes(weights, table, tmp_path / "out")
    assert "leaves the folder of the table" in summary["error"][0]
    assert "no raster of 'optical' was given" in summary["error"][2]


def test_the_summary_overwrites_no_table_of_others(weights, table, tmp_path):
    content = table.read_bytes()
    for out in (table.parent, tmp_path / "other"):
        if out != table.parent:
            out.mkdir()
            (out / "scenes.csv").write_text("name,notes\n")
        with pytest.raises(InputError, match=r"scenes\.csv would be overwritten"):
            map_scenes(weights, table, out)
    assert table.read_bytes() == content


def test_the_command_line_says_one_line_per_scene_and_ends_with_status_2(weights, table, tmp_path):
    command = [sys.executable, "-m", "glavitu", "map", "--weights", str(weights)]
    command += ["--scenes", str(table), "-o", str(tmp_path / "out"), "--min-area", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["a", "b", "c"]
    assert lines[1].startswith("b: not mapped: no raster at ") and " outline" in lines[2]
    assert "error: 1 of 3 scenes not mapped; see " in done.stderr
    assert "Traceback" not in done.stderr


def test_what_belongs_into_the_table_is_refused_beside_it(weights, table, tmp_path):
    base = ["map", "--weights", str(weights), "--scenes", str(table), "-o", str(tmp_path / "out")]
    for more in (["--dem", "d.tif"], ["--date", "2020"], ["--reference", "r.gpkg"]):
        result = CliRunner().invoke(cli, [*base, *more])
        assert result.exit_code == 2 and "are in its table" in result.output
    assert not (tmp_path / "out").exists()


def test_figures_of_maps_that_stay_are_kept_where_others_are_refused(weights, table, tmp_path):
    before = map_scenes(weights, table, tmp_path / "out", min_area=0)
    after = map_scenes(weights, table, tmp_path / "out", min_area=1)
    assert after["error"].str.contains("has a map with|no raster").all()
    columns = ["name", "outlines", "area_km2"]
    pd.testing.assert_frame_equal(after[columns], before[columns])
    for broken in ("{}", "[", '{"recipe": {}, "outlines": "x", "area_km2": 1, "remarks": 5}'):
        (tmp_path / "out" / "a" / "map.json").write_text(broken)
        summary = map_scenes(weights, table, tmp_path / "out", min_area=1)
        assert summary["error"].ne("").all() and summary["outlines"].isna().tolist()[:2] == [1, 1]


def test_the_summary_keeps_the_maps_of_other_tables(weights, table, tmp_path):
    rows = pd.read_csv(table, keep_default_na=False)
    rows[rows["name"] == "a"].to_csv(table, index=False)
    map_scenes(weights, table, tmp_path / "out", min_area=0)
    rows[rows["name"] == "c"].to_csv(table, index=False)
    summary = map_scenes(weights, table, tmp_path / "out", min_area=0)
    assert summary["name"].tolist() == ["c"]
    stored = pd.read_csv(tmp_path / "out" / "scenes.csv", dtype={"date": str})
    assert stored["name"].tolist() == ["c", "a"]
    assert stored["date"][1] == "2020" and stored["outlines"].notna().all()
    assert stored["weights"].tolist() == ["net", "net"]
    rows[rows["name"] == "a"].to_csv(table, index=False)
    map_scenes(weights, table, tmp_path / "out", min_area=0)
    again = pd.read_csv(tmp_path / "out" / "scenes.csv", dtype={"date": str})
    assert again["name"].tolist() == ["a", "c"]
    assert again.loc[1, "area_km2"] == stored.loc[0, "area_km2"]


def test_the_summary_keeps_the_maps_of_a_run_at_work_beside_it(
    weights, table, tmp_path, monkeypatch
):
    rows = pd.read_csv(table, keep_default_na=False)
    other = table.with_name("other.csv")
    rows[rows["name"] == "c"].to_csv(other, index=False)
    rows[rows["name"] == "a"].to_csv(table, index=False)

    def map_another(*arguments, **options):
        monkeypatch.setattr(many_scenes, "map_scene", map_scene)
        map_scenes(weights, other, tmp_path / "out")
        return map_scene(*arguments, **options)

    monkeypatch.setattr(many_scenes, "map_scene", map_another)
    map_scenes(weights, table, tmp_path / "out")
    stored = pd.read_csv(tmp_path / "out" / "scenes.csv")
    assert stored["name"].tolist() == ["a", "c"] and stored["outlines"].notna().all()
    assert not list((tmp_path / "out").glob(".*"))


def test_dates_and_references_are_the_tables(weights, table, tmp_path):
    for option in ({"date": "2020"}, {"reference": "r.gpkg"}):
        with pytest.raises(InputError, match=f"{next(iter(option))} of scenes is in their table"):
            map_scenes(weights, table, tmp_path / "out", **option)


def test_a_calibration_of_other_weights_is_said_once(weights, table, tmp_path):
    path = calibration_path(weights)
    path.write_text('{"slope": 2.0, "shift": 0, "weights": "0123"}')
    try:
        with pytest.raises(InputError, match="is for other weights"):
            map_scenes(weights, table, tmp_path / "out")
    finally:
        path.unlink()
    assert not (tmp_path / "out").exists()


def test_workers_of_a_cluster_give_the_same_maps(weights, table, tmp_path):
    distributed = pytest.importorskip("distributed")
    map_scenes(weights, table, tmp_path / "local")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        summary = map_scenes(weights, table, tmp_path / "cluster", scheduler=address)
    assert summary["error"].eq("").tolist() == [True, False, True]
    for name in ("a", "c"):
        maps = [probability(tmp_path / run / name) for run in ("local", "cluster")]
        assert np.array_equal(*maps, equal_nan=True)
