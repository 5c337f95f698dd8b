"""Demo data: which tiles there are, and that they are the same however they are made."""

import json

import numpy as np
import pandas as pd
import pytest

from glavitu import InputError, open_tiles
from glavitu.demo_data import make_demo_data, make_demo_scene
from glavitu.regions import UNSEEN
from glavitu.surfaces import SKY, SURFACES
from glavitu.synthetic import make_tile


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return make_demo_data(folder, tile_size=32, tiles_per_region=6, regions=["ALP", "NZ"])


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_regions_are_a_list(tmp_path):
    with pytest.raises(InputError, match="regions is 'ALP', expected a list"):
        make_demo_data(tmp_path / "demo", regions="ALP")


def test_unseen_regions_only_test_and_others_are_in_each_split(demo):
    assert "NZ" in UNSEEN
    splits = pd.read_csv(demo / "tiles.csv").value_counts(["region", "split"]).to_dict()
    # Of six tiles, a third tests and a sixth validates; of an unseen region only the third is made.
    assert splits == {("ALP", "test"): 2, ("ALP", "val"): 1, ("ALP", "train"): 3, ("NZ", "test"): 2}


def test_a_choice_of_regions_that_leaves_none_to_train_is_refused(tmp_path):
    with pytest.raises(InputError, match="the regions SVAL, NZ only test; add one .* ALP") as error:
        make_demo_data(tmp_path, regions=["SVAL", "NZ"])
    assert "\n" not in str(error.value)


def test_the_surface_layer_tells_ground_and_sky(demo):
    codes = {10 * sky + surface for sky in SKY.values() for surface in SURFACES.values()}
    for index, split in enumerate(("test", "test", "val", "train")):
        stored, made = (
            open_tiles(demo / f"{split}.hdf5")[f"ALP1-{index:04d}"],
            make_tile("ALP", index, size=32),
        )
        assert np.array_equal(stored["surface"] % 10, made["surface"])
        assert np.array_equal(stored["surface"] // 10, made["sky"])
        assert set(np.unique(stored["surface"])) <= codes
        ice = stored["surface"] % 10
        assert np.array_equal(stored["groundtruth"][..., 1], ice.isin([1, 2]))


def test_processes_make_the_same_data(demo, tmp_path):
    recipe = {"tile_size": 32, "tiles_per_region": 6, "regions": ["ALP", "NZ"]}
    assert contents(make_demo_data(tmp_path, **recipe, workers=2)) == contents(demo)


def test_a_scene_is_the_same_whenever_it_is_made(tmp_path):
    for name in ("now", "later"):
        make_demo_scene(tmp_path / name, size=64)
    assert contents(tmp_path / "now") == contents(tmp_path / "later")


def test_outlines_err_only_if_asked_for(demo, tmp_path):
    recipe = {"tile_size": 32, "tiles_per_region": 6, "regions": ["ALP", "NZ"]}
    wrong = make_demo_data(tmp_path, **recipe, outline_error=60)
    assert json.loads((demo / "demo_data.json").read_text())["outline_error"] == 0
    assert json.loads((wrong / "demo_data.json").read_text())["outline_error"] == 60
    exact, moved = (open_tiles(folder / "train.hdf5") for folder in (demo, wrong))
    differing = {
        variable
        for name in exact
        for variable in exact[name].data_vars
        if not np.array_equal(exact[name][variable], moved[name][variable])
    }
    assert differing == {"groundtruth"}
    for error in (-1, np.inf, np.nan, "30"):
        with pytest.raises(InputError, match=f"outline_error is {error!r}, expected metres"):
            make_demo_data(tmp_path / "other", outline_error=error)
    for regions, message in ((5, "regions is 5, expected a list"), ([["ALP"]], r"no demo region")):
        with pytest.raises(InputError, match=message):
            make_demo_data(tmp_path / "other", regions=regions)
