import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray
import shapely
from click.testing import CliRunner
from conftest import make_scene

from glavitu import InputError, map_scene, mapping, streaming
from glavitu.__main__ import cli
from glavitu.files import read_json, write_json
from glavitu.geotiffs import to_dataarray, write_raster
from glavitu.mapping_settings import check_date
from glavitu.outputs import calibration_path, record_path
from glavitu.provenance import fingerprint
from glavitu.remarks import NO_GLACIER


@pytest.fixture
def inventory(tmp_path):
    """Write one glacier that covers the northern half of the scene."""
    frame = gpd.GeoDataFrame(geometry=[shapely.box(5e5, 5e6 - 1050, 5e5 + 1350, 5e6)], crs=32632)
    frame.to_file(tmp_path / "inventory.gpkg")
    return tmp_path / "inventory.gpkg"


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_finished_map_is_compared_without_predicting_again(
    weights, scene, inventory, tmp_path, monkeypatch
):
    paths, out = scene[0], tmp_path / "out"
    expected = map_scene(weights, paths, tmp_path / "at_once", reference=inventory)
    map_scene(weights, paths, out)
    before = files(out)
    monkeypatch.setattr(streaming, "predict_strip", None)
    found = map_scene(weights, paths, out, reference=inventory)
    assert found["comparison"] == expected["comparison"]
    assert read_json(out / "map.json")["comparison"] == pytest.approx(expected["comparison"])
    changed = {name for name, time in files(out).items() if time != before.get(name)}
    assert changed == {"map.json", "comparison.csv", "quicklook.png"}
    before = files(out)
    for reference in (inventory, None):
        again = map_scene(weights, paths, out, reference=reference)
        assert again["comparison"] == pytest.approx(found["comparison"])
    assert files(out) == before


def test_no_network_is_waited_for_where_none_is_needed(weights, scene, inventory, tmp_path):
    paths = {source: str(path) for source, path in scene[0].items()}
    arguments = str(weights), paths, str(tmp_path / "out")
    map_scene(*arguments)
    code = (
        f"import sys; from glavitu import InputError, map_scene; arguments = {arguments!r}\n"
        f"map_scene(*arguments, reference={str(inventory)!r})\n"
        "try: map_scene(*arguments, stride=1)\n"
        "except InputError: sys.exit('keras' in sys.modules)\n"
        "sys.exit('not refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "comparison.csv").exists()


def test_what_comes_after_the_probabilities_is_made_anew_without_predicting(
    weights, scene, tmp_path, monkeypatch
):
    paths, _ = scene
    out, other = tmp_path / "out", {"min_area": 0, "smooth": 20, "date": "2020"}
    few = mapping.map_scene(weights, paths, out, min_area=1)
    whole = mapping.map_scene(weights, paths, tmp_path / "whole", **other)
    original, asked = streaming.predict_strip, []
    monkeypatch.setattr(streaming, "predict_strip", lambda *a: asked.append(a) or original(*a))
    again = mapping.map_scene(weights, paths, out, **other, batch_size=3, overwrite=True)
    assert not asked and not list(out.glob(".part*"))
    assert few["outlines"] < again["outlines"] == whole["outlines"]
    for name in ("glacier.tif", "probability.tif", "confidence.tif"):
        assert np.array_equal(*(_band(folder / name) for folder in (out, tmp_path / "whole")))
    # what cannot be read of them is predicted again, as is all by other settings
    (out / "probability.tif").write_bytes((out / "probability.tif").read_bytes()[:-2000])
    mapping.map_scene(weights, paths, out, **other | {"smooth": 0}, overwrite=True)
    assert asked
    assert np.array_equal(_band(out / "glacier.tif"), _band(tmp_path / "whole" / "glacier.tif"))
    asked.clear()
    mapping.map_scene(weights, paths, out, **other, stride=16, overwrite=True)
    assert len(asked) == 5  # rows of windows over 70 pixels


def test_what_was_done_of_another_map_stays_while_the_old_one_is_asked_for(
    weights, scene, tmp_path, monkeypatch, capsys
):
    paths, out = scene[0], tmp_path / "out"
    map_scene(weights, paths, out)
    finished = files(out)
    original, asked = streaming.predict_strip, []

    def interrupted(job, row):
        asked.append(row)
        if len(asked) % 3 == 0:
            raise KeyboardInterrupt
        return original(job, row)

    monkeypatch.setattr(streaming, "predict_strip", interrupted)
    for stride in (4, 16):
        with pytest.raises(KeyboardInterrupt):
            map_scene(weights, paths, out, stride=stride, overwrite=True)
    assert "begun anew, as the map that was cut off had other settings" in _told(capsys)
    map_scene(weights, paths, out)
    begun = "out: a map with other settings was begun, and goes on when given them"
    assert _told(capsys) == f"{begun}\nout: mapped already\n"
    assert files(out).items() >= finished.items()
    asked.clear()
    monkeypatch.setattr(streaming, "predict_strip", lambda *a: asked.append(a) or original(*a))
    map_scene(weights, paths, out, stride=16, overwrite=True)
    assert 0 < len(asked) < 5  # rows of windows over 70 pixels
    assert not list(out.glob(".part*"))


def _told(capsys):
    return "".join(capsys.readouterr())


def _band(path):
    with rasterio.open(path) as file:
        return np.nan_to_num(file.read(1), nan=-1)


def test_an_inventory_of_the_world_is_cut_to_the_scene(weights, scene, inventory, tmp_path):
    expected = map_scene(weights, scene[0], tmp_path / "alone", reference=inventory)
    glacier = gpd.read_file(inventory).to_crs(4326)
    antipode = shapely.box(-171.1, -45.3, -170.9, -45)  # which no plane about the scene can hold
    world = gpd.GeoSeries([antipode, glacier.geometry[0]], crs=4326)
    world.to_file(tmp_path / "world.gpkg")
    found = map_scene(weights, scene[0], tmp_path / "out", reference=tmp_path / "world.gpkg")
    assert found["comparison"] == pytest.approx(expected["comparison"], rel=1e-3)
    assert pd.read_csv(tmp_path / "out" / "comparison.csv")["glacier"].tolist() == [1]  # its row


def test_another_reference_is_compared_anew(weights, scene, inventory, tmp_path):
    map_scene(weights, scene[0], tmp_path / "out", reference=inventory)
    wider = gpd.read_file(inventory)
    wider.geometry = wider.buffer(300)
    wider.to_file(inventory)
    found = map_scene(weights, scene[0], tmp_path / "out", reference=inventory)
    stored = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert stored["reference_km2"].sum() == pytest.approx(found["comparison"]["reference_km2"])
    assert found["comparison"]["reference_km2"] > 1350 * 1050e-6 * 1.2


def test_a_comparison_of_a_map_that_is_replaced_does_not_stay(
    weights, scene, inventory, tmp_path, capsys
):
    out = tmp_path / "out"
    first = map_scene(weights, scene[0], out, reference=inventory)
    same = map_scene(weights, scene[0], out, reference=inventory, date="2020", overwrite=True)
    assert "comparison goes" not in capsys.readouterr().out
    assert same["prediction_seconds"] == first["prediction_seconds"]  # of probabilities used again
    found = map_scene(weights, scene[0], out, stride=4, overwrite=True)
    assert "comparison" not in found and not (out / "comparison.csv").exists()
    assert "out: the comparison goes with the old map" in capsys.readouterr().out


def test_a_reference_may_have_no_glaciers_where_there_are_data(weights, tmp_path, capsys):
    paths, _ = make_scene(tmp_path / "scene", 20, 20)
    corner = shapely.box(5e5, 5e6 - 90, 5e5 + 90, 5e6)  # where the scene has no data
    gpd.GeoSeries([corner], crs=32632).to_file(tmp_path / "corner.gpkg")
    found = map_scene(weights, paths, tmp_path / "out", reference=tmp_path / "corner.gpkg")
    assert NO_GLACIER in found["remarks"] and "no outline" not in capsys.readouterr().out
    assert found["comparison"]["glaciers"] == found["comparison"]["reference_km2"] == 0
    assert found["comparison"]["mapped_km2"] == pytest.approx(found["area_km2"], rel=1e-3)
    assert "NaN" not in (tmp_path / "out" / "map.json").read_text()  # which is not JSON
    assert len(pd.read_csv(tmp_path / "out" / "comparison.csv")) == 0


def test_an_interrupted_comparison_is_not_claimed_and_is_cleared(
    weights, scene, inventory, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    map_scene(weights, scene[0], out, reference=inventory)
    gpd.read_file(inventory).assign(Name="x").to_file(inventory)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mapping, "draw", interrupt)
        map_scene(weights, scene[0], out, reference=inventory)
    assert "comparison" not in read_json(out / "map.json")
    map_scene(weights, scene[0], out, stride=4, overwrite=True)
    assert not (out / "comparison.csv").exists()


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_map_stays_whole_until_the_new_probabilities_are_there(
    weights, scene, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    map_scene(weights, scene[0], out)
    before = files(out)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(streaming, "predict_strip", interrupt)
        map_scene(weights, scene[0], out, stride=4, overwrite=True)
    assert files(out).items() >= before.items()
    map_scene(weights, scene[0], out)  # the old map is still there, as it was
    assert files(out).items() >= before.items()
    assert map_scene(weights, scene[0], out, stride=4, overwrite=True)["recipe"]["stride"] == 4


def test_an_input_that_is_an_output_through_a_link_is_refused(weights, scene, tmp_path):
    paths, out = scene[0], tmp_path / "out"
    map_scene(weights, paths, out)
    (tmp_path / "link.tif").symlink_to(out / "probability.tif")
    with pytest.raises(InputError, match="would be overwritten"):
        map_scene(weights, paths | {"dem": tmp_path / "link.tif"}, out, overwrite=True)


def test_a_map_that_has_lost_a_file_is_made_again(weights, scene, tmp_path):
    map_scene(weights, scene[0], tmp_path / "out")
    (tmp_path / "out" / "outlines.gpkg").unlink()
    map_scene(weights, scene[0], tmp_path / "out")
    assert (tmp_path / "out" / "outlines.gpkg").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stride": 4}, r"out has a map with stride 8 instead of 4; name .* .overwrite.$"),
        ({"symmetries": True}, "a map with symmetries False instead of True; name"),
        (
            {"picture": {"optical": [1, 2, 3]}},
            "picture none instead of optical=1,2,3; .*predicts nothing",
        ),
        (
            {"stride": 4, "symmetries": True, "min_area": 1},
            "stride 8 instead of 4, symmetries False instead of True, min_area 0.01 instead of 1.0",
        ),
        ({"factors": {"dem": 2}}, "a map with factors of dem none instead of 2; name"),
        ({"nodata": {"dem": 0}}, "a map with nodata of dem none instead of 0; name"),
        ({"grid": "dem"}, "a map with grid 'optical' instead of 'dem'; name"),
        ({"date": "2020"}, "a map with date '' instead of '2020'; name"),
    ],
)
def test_the_setting_that_differs_is_named(weights, scene, tmp_path, options, message):
    map_scene(weights, scene[0], tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(InputError, match=message) as raised:
        map_scene(weights, scene[0], tmp_path / "out", **options)
    assert "\n" not in str(raised.value)
    assert files(tmp_path / "out") == before


def test_what_changes_no_map_is_no_other_setting(weights, scene, tmp_path, capsys):
    paths, out = scene[0], tmp_path / "out"
    map_scene(weights, paths, out)
    before = files(out)
    map_scene(weights, paths, out, grid="optical", batch_size=3)
    moved = shutil.copytree(weights.parent, tmp_path / "moved") / weights.name
    copies = {s: shutil.copy(path, tmp_path / f"{s}-copy.tif") for s, path in paths.items()}
    map_scene(moved, copies, out)
    assert files(out) == before
    map_scene(moved, copies, out, min_area=1, overwrite=True)
    assert "its probabilities are used again" in capsys.readouterr().out


def test_paths_that_differ_at_their_end_are_told_apart(weights, scene, tmp_path):
    folder, out = tmp_path / ("long" * 50), tmp_path / "out"
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        shutil.copy(scene[0]["dem"], folder / name)
    with rasterio.open(folder / "b.tif", "r+") as file:
        file.write(file.read() + 1)
    map_scene(weights, scene[0] | {"dem": folder / "a.tif"}, out)
    with pytest.raises(InputError, match=r"paths of dem .*/a.tif' instead of .*/b.tif'; name"):
        map_scene(weights, scene[0] | {"dem": folder / "b.tif"}, out)


def test_a_map_that_is_replaced_says_what_differs(weights, scene, tmp_path, capsys):
    map_scene(weights, scene[0], tmp_path / "out", stride=16)
    map_scene(weights, scene[0], tmp_path / "out", overwrite=True)
    assert "out: the map with stride 16 instead of 8 will be replaced" in capsys.readouterr().out


def test_bands_in_another_order_than_the_trainings_are_refused(weights, scene, tmp_path):
    (paths, arrays), record = scene, read_json(record_path(weights))
    trained = ["blue", "green", "red"]
    write_json(record_path(weights), record | {"bands": {"optical": trained}})

    def name(*bands):
        values = arrays["optical"].transpose(2, 0, 1)
        place = (30, 0, 500_000, 0, -30, 5_000_000)
        array = to_dataarray(values, place, "EPSG:32632", nodata=np.nan, bands=bands)
        write_raster(paths["optical"], array)

    try:
        name("Red", "Green", "Blue")
        message = "bands of 'optical' are Red, Green, Blue, the network was trained on blue, green"
        with pytest.raises(InputError, match=message):
            map_scene(weights, paths, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        for bands in (("Blue", "Green", "Red"), ("B4", "B3", "B2")):
            name(*bands)
            map_scene(weights, paths, tmp_path / bands[0], stride=16)
    finally:
        write_json(record_path(weights), record)


def test_a_record_without_settings_is_no_map_of_ours(weights, scene, tmp_path):
    map_scene(weights, scene[0], tmp_path / "out")
    write_json(tmp_path / "out" / "map.json", {"recipe": ["stride"], "remarks": []})
    with pytest.raises(InputError, match=r"map.json holds no settings of a map; name another"):
        map_scene(weights, scene[0], tmp_path / "out")


@pytest.mark.parametrize("name", ["confidence.tif", "quicklook.png", "probability.tif"])
def test_a_file_of_a_map_that_was_changed_is_made_again(weights, scene, tmp_path, capsys, name):
    first = map_scene(weights, scene[0], tmp_path / "out")
    path = tmp_path / "out" / name
    before = path.read_bytes()
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=f"{name} is not what map wrote there; keep it elsewhere"):
        map_scene(weights, scene[0], tmp_path / "out")
    assert path.read_bytes() == b"damaged"
    capsys.readouterr()
    again = map_scene(weights, scene[0], tmp_path / "out", overwrite=True)
    said = capsys.readouterr().out
    assert ("its probabilities are used again" in said) is (name != "probability.tif")
    assert again["area_km2"] == first["area_km2"] and path.stat().st_size == len(before)


def test_a_comparison_that_was_cut_off_leaves_a_map_that_is_whole(
    weights, scene, tmp_path, monkeypatch
):
    paths, out = scene[0], tmp_path / "out"
    map_scene(weights, paths, out)
    with closing(sqlite3.connect(out / "outlines.gpkg")) as file:  # as GIS software does to show it
        file.execute("pragma journal_mode = wal")
    reference = tmp_path / "reference.gpkg"
    gpd.read_file(out / "outlines.gpkg").to_file(reference)
    with monkeypatch.context() as patch:
        patch.setattr("glavitu.mapping._write_record", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            map_scene(weights, paths, out, reference=reference)
    before = (out / "glacier.tif").stat().st_mtime_ns
    found = map_scene(weights, paths, out, reference=reference)
    assert (out / "glacier.tif").stat().st_mtime_ns == before
    assert found["comparison"]["iou"] == pytest.approx(1)
    assert map_scene(weights, paths, out) == found


@pytest.mark.parametrize("how", ["edited", "damaged"])
def test_outlines_that_were_changed_are_kept_unless_they_may_be_replaced(
    weights, scene, tmp_path, how
):
    out = tmp_path / "out"
    first, path = map_scene(weights, scene[0], out), out / "outlines.gpkg"
    outlines = gpd.read_file(path)
    outlines.to_file(tmp_path / "reference.gpkg")
    outlines.set_geometry(outlines.scale(0.5, 0.5)).to_file(path)
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:3000])
    before = path.read_bytes()
    for options in ({}, {"reference": tmp_path / "reference.gpkg"}):
        with pytest.raises(InputError, match="outlines.gpkg is not what map wrote there; keep it"):
            map_scene(weights, scene[0], out, **options)
    assert path.read_bytes() == before
    assert map_scene(weights, scene[0], out, overwrite=True)["files"] == first["files"]
    assert gpd.read_file(path).area.sum() == pytest.approx(outlines.area.sum())


def test_changed_rasters_and_a_new_calibration_are_named(weights, scene, tmp_path):
    paths, _ = scene
    map_scene(weights, paths, tmp_path / "out")
    calibration = calibration_path(weights)
    write_json(calibration, {"slope": 1.5, "shift": 0, "weights": fingerprint(weights)})
    try:
        with pytest.raises(InputError, match="a map with another calibration;"):
            map_scene(weights, paths, tmp_path / "out")
    finally:
        calibration.unlink()
    make_scene(paths["dem"].parent, 70, 45, seed=7)
    with pytest.raises(InputError, match=r"a map with another content of /.*\.tif; name"):
        map_scene(weights, paths, tmp_path / "out")


def test_an_output_that_is_a_file_is_refused(weights, scene, tmp_path):
    with pytest.raises(InputError, match="dem.tif is a file; name a folder"):
        map_scene(weights, scene[0], scene[0]["dem"])


@pytest.mark.parametrize("stride", [-1, 0, 17])
def test_a_stride_that_leaves_gaps_is_refused(weights, scene, tmp_path, stride):
    with pytest.raises(InputError, match=f"stride {stride} would leave gaps .* of 16 pixels"):
        map_scene(weights, scene[0], tmp_path / "out", stride=stride)


@pytest.mark.parametrize("date", ["", "2020", "2020-08", "2020-02-29"])
def test_dates_that_are_one_are_kept(date):
    assert check_date(date) == date


def test_dates_of_python_and_pandas_are_taken():
    moment = pd.Timestamp("2020-08-31 10:30")
    assert {check_date(date) for date in (moment, moment.date())} == {"2020-08-31"}
    assert check_date(None) == ""


@pytest.mark.parametrize("date", ["August", "20200801", "2020-13", "2021-02-29", "2020-8-1"])
def test_dates_that_are_none_are_refused(weights, scene, tmp_path, date):
    with pytest.raises(InputError, match=f"date '{date}', expected YYYY, YYYY-MM or YYYY-MM-DD"):
        map_scene(weights, scene[0], tmp_path / "out", date=date)
    assert not (tmp_path / "out").exists()


def test_an_almost_empty_scene_is_remarked(weights, scene, tmp_path):
    paths, arrays = scene
    assert map_scene(weights, paths, tmp_path / "plain", min_area=0)["remarks"] == []
    low = float(np.sort(arrays["dem"][..., 0].ravel())[-64])
    # 64 of 70 x 45 pixels keep their data, but those in the corner where the optical has none
    values = np.where(arrays["dem"] >= low, arrays["dem"], 0)[..., :1].repeat(2, -1)
    array = to_dataarray(values.transpose(2, 0, 1), (30, 0, 5e5, 0, -30, 5e6), "EPSG:32632")
    write_raster(tmp_path / "dem.tif", array)
    changed = paths | {"dem": tmp_path / "dem.tif"}
    found = map_scene(weights, changed, tmp_path / "out", nodata={"dem": 0})
    shares = (found["share_with_data"], 64 / 3150)
    assert 0.9 * shares[1] <= shares[0] <= shares[1]
    assert found["remarks"][-1].startswith(f"Only {shares[0]:.2%} of the pixels have data in all")


def test_sources_given_twice_or_misspelt_are_named(weights, scene, tmp_path):
    paths, _ = scene
    base = ["map", "--weights", str(weights), "-o", str(tmp_path / "out")]
    optical, dem = (f"{source}={path}" for source, path in paths.items())
    twice = [*base, "--source", optical, "--source", dem, "--source", dem]
    assert "'dem' is given twice" in CliRunner().invoke(cli, twice).output
    both = [*base, "--source", optical, "--dem", str(paths["dem"]), "--source", dem]
    assert "'dem' is given twice" in CliRunner().invoke(cli, both).output
    typo = [*base, "--source", optical, "--source", f"dme={paths['dem']}"]
    message = str(CliRunner().invoke(cli, typo).exception)
    assert "'dme' is not used; expected 'optical', 'dem'" in message


def test_a_map_in_bfloat16_is_nearly_the_same_and_says_so(weights, scene, tmp_path):
    paths, _ = scene
    for precision in ("float32", "bfloat16"):
        record = mapping.map_scene(weights, paths, tmp_path / precision, precision=precision)
        assert record["recipe"]["precision"] == precision
    maps = [tmp_path / precision / "probability.tif" for precision in ("float32", "bfloat16")]
    exact, fast = (rioxarray.open_rasterio(path).values for path in maps)
    assert 0 < np.nanmax(np.abs(exact - fast)) < 0.05
