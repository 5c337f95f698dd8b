import json
import shutil
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import nbformat
import pandas as pd
import pytest

from glavitu import InputError, charts, compile_tiles, load_profile, report, results
from glavitu.demo_data import make_demo_data, make_demo_scene
from glavitu.exploration import band_histograms, count_tiles, surface_shares
from glavitu.files import write_json
from glavitu.notebook_stamps import finish, holds, make_stamp
from glavitu.study import (
    NOTEBOOKS,
    StudyError,
    _execute,
    _steps,
    default_folders,
    ensure_data,
    run_study,
    scene_to_map,
)
from glavitu.tiles import open_tiles
from tools.publish import READMES, renew

SOURCES = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_notebooks_are_thin_parametrised_and_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[0].source.splitlines()[0].endswith("?")
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        assert not cell.outputs and cell.execution_count is None
        assert len(cell.source.splitlines()) <= 15 and "def " not in cell.source


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return make_demo_data(folder, tile_size=32, tiles_per_region=3, regions=["ALP", "CA"])


def test_demo_data_are_tiles_of_each_region_in_each_split(demo):
    for split in ("train", "val", "test"):
        tiles = open_tiles(demo / f"{split}.hdf5")
        assert sorted(tile.attrs["region"] for tile in tiles.values()) == ["ALP", "CA"]
        assert tiles.sources == {"dem": 2, "optical": 6, "sar": 2}
        assert all(tile.rio.crs.is_projected for tile in tiles.values())


def test_demo_data_are_the_same_for_the_same_seed(demo, tmp_path):
    again = make_demo_data(tmp_path, tile_size=32, tiles_per_region=3, regions=["ALP", "CA"])
    for name in ("train.hdf5", "tiles.csv", "optical/CA1-0001.tif"):
        assert (demo / name).read_bytes() == (again / name).read_bytes()


def test_demo_data_are_made_once_and_never_over_other_data(demo, tiny_data):
    times = {p: p.stat().st_mtime_ns for p in demo.iterdir()}
    make_demo_data(demo, tile_size=32, tiles_per_region=3, regions=["ALP", "CA"])
    assert times == {p: p.stat().st_mtime_ns for p in demo.iterdir()}
    with pytest.raises(InputError, match="holds demo data made with"):
        make_demo_data(demo, tile_size=32, tiles_per_region=3, regions=["ALP"])
    with pytest.raises(InputError, match="holds data that are not demo data"):
        make_demo_data(tiny_data)


def test_demo_data_are_not_compiled_over(tile_table, tmp_path):
    recipe = {"tile_size": 32, "tiles_per_region": 3, "regions": ["LL"]}
    make_demo_data(tmp_path / "demo", **recipe)
    with pytest.raises(InputError, match="demo holds demo data; name another folder"):
        compile_tiles(tile_table, tmp_path / "demo")
    make_demo_data(tmp_path / "demo", **recipe)


def test_shares_of_surfaces_sum_to_one_and_are_empty_where_unknown(demo, tiny_data):
    shares = surface_shares(open_tiles(demo / "train.hdf5"))
    assert shares.sum() == pytest.approx(1) and shares["clean ice"] > 0
    assert surface_shares(open_tiles(tiny_data / "train.hdf5")).empty


def test_counts_and_histograms_describe_the_tiles(demo):
    tiles = open_tiles(demo / "train.hdf5")
    counts = count_tiles(tiles)
    assert (counts["labelled"] == 32 * 32).all() and (counts["glacier"] > 0).all()
    histograms = band_histograms(tiles)
    shares = histograms.groupby(["source", "band"])[["background", "glacier"]].sum()
    assert len(shares) == 10 and shares.to_numpy() == pytest.approx(1)
    assert charts.plot_histograms(histograms)[0].get_title() == "dem elevation"


def test_the_verdict_says_how_far_the_others_are_apart():
    networks = {"method": ["setr", "glavitu"], "network": ["SETR", "GlaViTU"]}
    networks |= {"mean IoU": [0.8, 0.75], "low": [0.7, 0.7], "high": [0.9, 0.8]}
    networks |= {"std over seeds": [float("nan")] * 2}
    tables = {
        "networks": pd.DataFrame(networks | {"parameters": [9_000_000, 10]}),
        "differences": pd.DataFrame(
            {"method": ["setr"], "difference": [0.05], "low": [-0.01], "high": [0.1]}
        ),
        "regions": pd.DataFrame({"region": ["ALP"], "tp": [1], "fn": [0]}),
    }
    assert report.verdict(tables, "x").splitlines() == [
        "With the profile x, SETR has the highest mean IoU over regions, 0.800 (0.700 to 0.900).",
        "SETR: 0.050 above GlaViTU (-0.010 to 0.100), within what the choice of tiles does",
        "One seed: what another seed would change is in no interval.",
    ]
    for low, sure in ((-0.0006, "(-0.001 to 0.100), within"), (0.0006, "(0.001 to 0.100), beyond")):
        other = tables | {"differences": tables["differences"].assign(low=low)}
        assert sure in report.verdict(other, "x")
    row = {"method": "all_glacier", "network": "All glacier", "mean IoU": 0.81, "parameters": None}
    weak = pd.concat([tables["networks"], pd.DataFrame([row])], ignore_index=True)
    lines = report.verdict(tables | {"networks": weak}, "x").splitlines()
    assert lines[0].startswith("With the profile x, SETR has the highest mean IoU")
    assert lines[1] == "Calling every pixel glacier scores as much or more: 0.810."
    seeds = tables | {"networks": tables["networks"].assign(**{"std over seeds": 0.01})}
    assert "One seed" not in report.verdict(seeds, "x")
    assert "within what the choice of tiles and seeds does" in report.verdict(seeds, "x")
    for name in tables:
        tables[name] = tables[name].assign(low=float("nan"), high=float("nan"))
    assert report.verdict(tables, "x").splitlines()[1:] == [
        "SETR: 0.050 above GlaViTU",
        "No intervals: a region has fewer than 3 test tiles.",
    ]


def test_markdown_has_decimals_and_separators():
    table = pd.DataFrame({"network": ["a"], "IoU": [0.12345], "parameters": [1234567]})
    assert report.to_markdown(table).splitlines()[2] == "| a | 0.123 | 1,234,567 |"
    odd = pd.DataFrame({"region": ["A|B"], "none": [None], "nan": [float("nan")]}, dtype=object)
    assert report.to_markdown(odd).splitlines()[2] == r"| A\|B | – | – |"


def test_readable_tables_have_whole_numbers_of_parameters_and_a_dash_for_none():
    costs = {"epochs": [8.0, None], "training minutes": [2.5, None], "seconds per patch": [1, None]}
    costs["best validation IoU"] = [0.7, None]
    table = pd.DataFrame({"method": ["setr", "band_ratio"], "parameters": [1234567, None]} | costs)
    found = report.readable(table)
    assert list(found["parameters"]) == ["1,234,567", "–"]
    assert list(found["training minutes"]) == ["2.5", "–"]
    assert list(found["best validation IoU"]) == ["0.700", "–"]


@pytest.fixture(scope="module")
def short_study(tmp_path_factory):
    """Return folders and profile of a study of one tiny network, run once."""
    folder = tmp_path_factory.mktemp("study")
    profile = folder / "short.yaml"
    smoke = (NOTEBOOKS.parent / "profiles" / "smoke.yaml").read_text()
    profile.write_text(smoke + "architectures: [setr]\n")
    recipe = load_profile(profile).demo_data
    run_study(profile, data=make_demo_data(folder / "data", **recipe), out=folder / "out")
    return profile, folder / "data", folder / "out"


def test_the_tables_are_markdown_too_where_they_hold_anything(short_study):
    _, _, out = short_study
    tables = {p.stem for p in (out / "tables").iterdir()}
    assert tables == {"networks", "regions", "differences", "generalisation", "debris", "surfaces"}
    text = (out / "tables" / "networks.md").read_text()
    assert "| SETR | 0." in text and "Band ratio" in text and "nan" not in text


def test_the_study_leaves_notebooks_tables_and_figures(short_study):
    _, _, out = short_study
    assert {p.stem for p in (out / "notebooks").iterdir()} == {
        "01_data_exploration",
        "02_train_setr",
        "03_test_setr",
        "04_results",
        "05_map_a_scene",
    }
    table = pd.read_csv(out / "results.csv")
    columns = "method region tp tn fp fn IoU low high F1 precision recall accuracy"
    assert list(table) == columns.split() and set(table["method"]) == {"setr", "band_ratio"}
    record = json.loads((out / "results.json").read_text())
    assert record["seed"] == 0 and record["profile"]["name"] == "short"
    assert record["provenance"]["versions"]["keras"] and "commit" in record["provenance"]
    figures = {p.name for p in (out / "figures").iterdir()}
    assert len(figures) == 10 and all((out / "figures" / f).stat().st_size > 5000 for f in figures)


def test_a_second_run_repeats_nothing_and_a_changed_one_what_it_must(short_study, capsys):
    profile, data, out = short_study
    run_study(profile, data=data, out=out)
    assert capsys.readouterr().out.count("up to date") == 5
    (out / "results.csv").unlink()
    run_study(profile, data=data, out=out)
    assert capsys.readouterr().out.count("up to date") == 4
    assert (out / "results.csv").exists()
    scores = out / "predictions" / "setr" / "scores.csv"
    whole = scores.read_bytes()
    scores.write_bytes(whole[:-20])
    run_study(profile, data=data, out=out)
    said = capsys.readouterr().out
    assert "02_train_setr: up to date" in said and "03_test_setr: done" in said
    assert "04_results: up to date" in said and scores.read_bytes() == whole


def test_whatever_is_damaged_of_a_study_is_one_notebooks(short_study):
    profile, data, out = short_study

    def stamps():
        known, found = set(), {}
        for notebook, _, _, left in _steps(load_profile(profile), data, out, []):
            found[notebook] = make_stamp("key", out, left, known)
            known |= set(found[notebook]["results"])
        return found

    before = stamps()
    files = [p for p in out.rglob("*") if p.is_file() and "notebooks" not in p.parts]
    assert len(files) > 40
    for path in files:
        aside = path.with_name(f".{path.name}")
        path.rename(aside)
        gone = stamps()
        path.write_text("damaged")
        other = stamps()
        aside.replace(path)
        for after in (gone, other):
            assert sum(after[name] != before[name] for name in before) == 1, path
    assert stamps() == before
    stray = next(out.glob("predictions/*/*.nc")).with_suffix(".nc.aux.xml")  # as of QGIS
    stray.write_text("<PAMDataset/>")
    assert stamps() == before
    stray.unlink()


def test_files_beside_its_results_leave_a_notebook_up_to_date(tmp_path):
    (tmp_path / "map").mkdir()
    (tmp_path / "map" / "a.tif").write_text("a")
    results = [tmp_path / "map"]
    stamp = make_stamp("key", tmp_path, results, set())
    (tmp_path / "map" / "notes.txt").write_text("mine")
    assert holds(stamp, "key", tmp_path, results, set())
    assert not holds(stamp, "other", tmp_path, results, set())
    for wrong in (
        None,
        "key",
        {"key": "key"},
        {"key": "key", "results": {}},
        {"results": {"a": 1}},
    ):
        assert not holds(wrong, "key", tmp_path, results, set())
    (tmp_path / "map" / "a.tif").write_text("b")
    assert not holds(stamp, "key", tmp_path, results, set())


def test_a_notebook_that_is_done_has_no_bars_and_all_else(tmp_path):
    bar = "setr:  35%|###4      | 151/432 [00:30<00:55,  5.03batch/s]\n"
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text=f"epoch 1\n{bar}"),
        nbformat.v4.new_output("stream", name="stderr", text=bar + bar.replace("35%", "100%")),
        nbformat.v4.new_output("stream", name="stderr", text=f"{bar}UserWarning: 50%\n{bar}"),
        nbformat.v4.new_output("display_data", {"text/plain": "a figure"}),
    ]
    cells = [nbformat.v4.new_markdown_cell("# Why?"), nbformat.v4.new_code_cell("1")]
    cells[1].outputs = outputs
    path = tmp_path / "done.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    finish(path, {"key": "k"})
    done = nbformat.read(path, as_version=4)
    assert done.metadata["glavitu"] == {"key": "k"}
    left = done.cells[1].outputs
    assert [output.get("text") for output in left] == [
        f"epoch 1\n{bar}",
        "UserWarning: 50%\n",
        None,
    ]


def test_results_are_not_made_of_predictions_by_other_weights(short_study):
    profile, data, out = short_study
    weights = out / "weights" / "setr.weights.h5"
    whole = weights.read_bytes()
    weights.write_bytes(whole + b"0")
    try:
        with pytest.raises(InputError, match="are not by .*setr.weights.h5 .* run predict"):
            results.Results(load_profile(profile), data, out)
    finally:
        weights.write_bytes(whole)


def test_a_profile_names_a_scene_of_its_own_and_how_to_read_it(short_study, tmp_path):
    profile, data, out = short_study
    scene = make_demo_scene(tmp_path / "scene", size=64, seed=2)
    options = {"grid": "dem", "nodata": {"sar": 0}, "thermal": "none.tif"}
    own = tmp_path / "own.yaml"
    lines = [f"  {key}: {json.dumps(v, default=str)}" for key, v in (scene | options).items()]
    lines = [*lines, "  date: 2020-08-31"]  # which YAML takes for a date
    own.write_text("\n".join([profile.read_text(), "scene:", *lines]))
    target = tmp_path / "05.ipynb"
    common = {"profile": str(own), "data": str(data), "out": str(tmp_path / "out")}
    shutil.copytree(out / "weights", tmp_path / "out" / "weights")
    _execute(NOTEBOOKS / "05_map_a_scene.ipynb", target, common)
    found = json.loads((tmp_path / "out" / "map" / "map.json").read_text())
    recipe = found["recipe"]
    assert recipe["paths"] == {key: str(scene[key]) for key in ("optical", "dem", "sar")}
    assert (recipe["grid"], recipe["nodata"]) == ("dem", {"sar": 0})
    assert recipe["outlines"]["date"] == "2020-08-31"
    assert found["comparison"]["glaciers"] == len(gpd.read_file(scene["reference"]))
    text = target.read_text()
    assert "not used: thermal" in text and "cannot be trusted on real ground" in text


def test_trainings_of_another_study_stay_unless_overwritten(short_study, monkeypatch):
    profile, data, out = short_study
    weights = out / "weights" / "setr.weights.h5"
    before = weights.read_bytes()
    other = (
        r"02_train_setr stopped .* another training named 'setr' is in .* \(seed 0 instead of 1\)"
    )
    with pytest.raises(InputError, match=other):
        run_study(profile, data=data, out=out, seed=1)
    assert weights.read_bytes() == before
    run_study(profile, data=data, out=out)
    asked = {}
    monkeypatch.setattr(
        "glavitu.study._execute", lambda source, target, given: asked.update({source.stem: given})
    )
    monkeypatch.setattr("glavitu.study.stamp_of", lambda target: None)
    monkeypatch.setattr("glavitu.study.finish", lambda target, stamp: None)
    run_study(profile, data=data, out=out, overwrite=True)
    assert asked["02_train"]["overwrite"] and "overwrite" not in asked["03_test"]


def test_a_scene_that_is_not_there_shows_before_the_work(short_study, tmp_path):
    profile, data, _ = short_study
    own = tmp_path / "own.yaml"
    own.write_text(profile.read_text() + "scene: {thermal: unused.tif, optical: none.tif}\n")
    with pytest.raises(InputError, match=r"profile own: no file at .*none.tif, the optical of its"):
        run_study(own, data=data, out=tmp_path / "out")
    own.write_text(profile.read_text() + f"scene: {{optical: {own}}}\n")
    with pytest.raises(InputError, match=r"own: its scene lacks dem, sar, so that no network of"):
        run_study(own, data=data, out=tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.ipynb"))


def test_every_notebook_that_looks_for_trainings_gets_the_seed(tiny_profile, tmp_path):
    profile = replace(tiny_profile, seed=7, repeats=2, scene={"optical": "o.tif"})
    steps = {name: given for name, given, *_ in _steps(profile, tmp_path, tmp_path, [])}
    assert {steps[name]["seed"] for name in ("04_results", "05_map_a_scene")} == {7}
    assert steps["05_map_a_scene"]["seed"] == 7 and steps["02_train"]["seed"] == 8


def test_runs_whose_files_would_lie_elsewhere_are_refused(tiny_profile, tmp_path):
    profile = replace(tiny_profile, ablation={"glavitu": [["../../evil"]]})
    with pytest.raises(InputError, match=r"name 'glavitu-../../evil' must be a plain file name"):
        list(_steps(profile, tmp_path, tmp_path, []))


def test_a_study_is_not_up_to_date_for_another_package_or_scene(
    short_study, tmp_path, monkeypatch, capsys
):
    profile, data, out = short_study
    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("1")
    monkeypatch.setattr("glavitu.study.PACKAGE", package)
    monkeypatch.setattr("glavitu.study._execute", lambda source, target, parameters: None)
    stamps = {}
    monkeypatch.setattr("glavitu.study.stamp_of", lambda target: stamps.get(target))
    monkeypatch.setattr("glavitu.study.finish", stamps.__setitem__)
    own, scene = tmp_path / "own.yaml", tmp_path / "o.tif"
    scene.write_text("ground")
    sources = ", ".join(f"{source}: {scene}" for source in ("optical", "dem", "sar"))
    own.write_text(profile.read_text() + f"scene: {{{sources}}}\n")

    def up_to_date():
        run_study(own, data=data, out=out)
        return capsys.readouterr().out.count("up to date")

    assert [up_to_date(), up_to_date()] == [0, 5]
    scene.write_text("other ground")
    assert [up_to_date(), up_to_date()] == [4, 5]
    scene.with_name("o.tif.msk").write_text("mask")
    assert [up_to_date(), up_to_date()] == [4, 5]
    (package / "code.py").write_text("2")
    assert up_to_date() == 0


def test_relative_rasters_of_a_yaml_file_start_at_its_folder(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("scene: {dem: d.tif, reference: a/r.gpkg, grid: dem, factors: {dem: 2}}")
    paths, options = scene_to_map(load_profile(own), "out")
    assert paths == {"dem": tmp_path / "d.tif"}
    assert options["reference"] == tmp_path / "a" / "r.gpkg"
    assert (options["grid"], options["factors"]) == ("dem", {"dem": 2})
    own.write_text("scene: {dem: ''}")
    with pytest.raises(InputError):
        load_profile(own)


@pytest.mark.parametrize("cwd", [NOTEBOOKS, NOTEBOOKS.parent, "/"])
def test_relative_rasters_of_a_scene_start_at_the_projects_folder(cwd, tiny_profile, monkeypatch):
    monkeypatch.chdir(cwd)
    profile = replace(tiny_profile, scene={"dem": "d.tif", "reference": "r.gpkg", "grid": "dem"})
    paths, options = scene_to_map(profile, "out")
    assert paths == {"dem": NOTEBOOKS.parent / "d.tif"}
    assert options == {"reference": NOTEBOOKS.parent / "r.gpkg", "grid": "dem"}


def test_the_best_training_is_one_of_the_sources_there_are(tiny_profile, tmp_path):
    profile = replace(
        tiny_profile, architectures=["glavitu", "setr"], ablation={"glavitu": [["optical"]]}
    )
    for name, sources, iou in (
        ("glavitu", ["optical", "dem"], 0.8),
        ("setr", ["optical", "dem"], 0.7),
        ("glavitu-optical", ["optical"], 0.6),
    ):
        settings = {"inputs": dict.fromkeys(sources, 3)}
        record = {"settings": settings, "best_validation_iou": iou}
        write_json(tmp_path / "weights" / f"{name}.json", record)
    assert results.best_training(profile, tmp_path, ["optical", "dem", "sar"]) == "glavitu"
    assert results.best_training(profile, tmp_path, ["optical"]) == "glavitu-optical"
    with pytest.raises(InputError, match="no network trained in .* works on dem alone"):
        results.best_training(profile, tmp_path, ["dem"])
    (tmp_path / "weights" / "glavitu.json").unlink()  # as where a study is not done yet
    assert results.best_training(profile, tmp_path, ["optical", "dem"]) == "setr"
    with pytest.raises(InputError, match="no training of the profile tiny in .*none; train one"):
        results.best_training(profile, tmp_path / "none", ["dem"])


def test_folders_are_the_projects_in_the_folder_of_the_notebooks(tiny_profile, monkeypatch):
    project = NOTEBOOKS.parent
    monkeypatch.chdir(NOTEBOOKS)
    assert default_folders(tiny_profile, "", "") == (project / "unused", project / "runs/tiny")
    assert default_folders(tiny_profile, "data/mine", "/o") == (project / "data/mine", Path("/o"))


def test_results_are_of_trainings_with_the_seeds_of_the_study(short_study):
    profile, data, out = short_study
    with pytest.raises(InputError, match="setr in .* was trained with the seed 0, not 5"):
        results.Results(load_profile(profile).with_changes(seed=5), data, out)


@pytest.mark.parametrize(
    "failing, why",
    [
        ("1 / 0", " in cell 1: ZeroDivisionError: division by zero"),
        ("raise MemoryError", " in cell 1: memory does not suffice; try smaller"),
        ("import os; os._exit(9)", ": its process was ended"),
    ],
)
def test_a_failing_notebook_is_named_with_its_cell(
    failing, why, short_study, tmp_path, monkeypatch
):
    profile, data, _ = short_study
    broken = tmp_path / "notebooks"
    broken.mkdir()
    for source in SOURCES:
        text = source.read_text()
        if source.stem == "01_data_exploration":
            text = text.replace("import pandas as pd", f"import pandas as pd; {failing}")
        (broken / source.name).write_text(text)
    monkeypatch.setattr("glavitu.study.NOTEBOOKS", broken)
    with pytest.raises(StudyError, match=f"01_data_exploration stopped{why}"):
        run_study(profile, data=data, out=tmp_path / "out")


def test_data_are_made_only_where_nobody_named_other_ones(tiny_profile, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no data folder"):
        ensure_data(tiny_profile, tmp_path / "none")
    with pytest.raises(InputError, match="no data folder at .*typo"):
        run_study("smoke", data=tmp_path / "typo", out=tmp_path / "out")
    recipe = {"tile_size": 32, "tiles_per_region": 3, "regions": ["LL"]}
    profile = replace(tiny_profile, demo_data=recipe)
    assert len(open_tiles(ensure_data(profile, tmp_path / "made") / "test.hdf5")) == 1


def test_the_readme_shows_the_figures_and_numbers_of_the_stored_demo_run():
    root = Path(__file__).parents[1]
    texts = [path.read_text(encoding="utf-8") for path in READMES]
    for text in texts:
        assert renew(text) == text and text.count("<!-- begin ") >= 6
    for figure in (root / "figures").rglob("*.png"):
        assert f"{figure.relative_to(root).as_posix()})" in "".join(texts)
