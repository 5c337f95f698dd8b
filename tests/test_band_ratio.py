import json

import h5py
import numpy as np
import pytest

from glavitu import InputError, band_ratio, open_tiles
from glavitu.evaluation import evaluate
from glavitu.hdf5_writing import write_tile


@pytest.fixture
def folder(tmp_path):
    """Make tiles of six bands scaled to 0..1 whose ice has an NDSI of .5 to .8, the rest less."""
    rng = np.random.default_rng(0)
    scaling = {"optical": {"low": [0.1] * 6, "high": [0.9] * 6}}
    for split in ("train", "val", "test"):
        with h5py.File(tmp_path / f"{split}.hdf5", "w") as file:
            file.attrs["scaling"] = json.dumps(scaling)
            for name in ("A-0", "B-0"):
                ice = rng.random((20, 20)) < 0.4
                ndsi = np.where(
                    ice, rng.uniform(0.5, 0.8, ice.shape), rng.uniform(-0.3, 0.3, ice.shape)
                )
                optical = rng.uniform(0.2, 0.4, (20, 20, 6))
                optical[..., 4] = optical[..., 1] * (1 - ndsi) / (1 + ndsi)
                label = np.stack([~ice, ice], -1).astype(np.float32)
                label[:2] = 0
                arrays = {"optical": (optical - 0.1) / 0.8, "groundtruth": label}
                write_tile(file, name, arrays, {"padding_height": 1, "padding_width": 0})
    return tmp_path


def test_the_threshold_is_tuned_on_reflectance_and_maps_what_it_can(folder, tmp_path):
    rule = band_ratio.map_tiles(folder, tmp_path / "out")
    assert rule["band"] == "green" and 0.28 <= rule["threshold"] < 0.5
    assert rule["training_iou"] == pytest.approx(1)
    scores = evaluate(band_ratio.NAME, out=tmp_path / "out")
    assert scores["IoU"].tolist() == pytest.approx([1, 1])
    assert scores[["tp", "tn", "fp", "fn"]].sum(axis=1).tolist() == [17 * 20] * 2


def test_counts_above_each_threshold_are_those_of_comparing(folder, monkeypatch):
    tiles = open_tiles(folder / "train.hdf5")
    names = tiles.band_names["optical"]
    hits = found = total = 0
    for name in tiles:
        optical = band_ratio.reflectance(tiles.read(name, "optical"), tiles.scaling)
        label = tiles.read(name, "groundtruth")
        mapped = band_ratio.normalised_difference(optical, names, "red") > 0.1
        hits += (mapped & (label[..., 1] == 1)).sum()
        found += (mapped & label.any(-1)).sum()
        total += label[..., 1].sum()
    monkeypatch.setattr(band_ratio, "THRESHOLDS", np.array([0.1]))
    monkeypatch.setattr(band_ratio, "BRIGHT", ["red"])
    assert band_ratio.fit(tiles)["training_iou"] == pytest.approx(hits / (total + found - hits))


def test_reflectances_below_zero_are_taken_for_zero():
    optical = np.array([[-0.005, -0.010], [0.01, -0.02], [-0.02, 0.01], [0.3, 0.1]])
    found = band_ratio.normalised_difference(optical, ["green", "SWIR1"], "green")
    assert found == pytest.approx([0, 1, -1, 0.5])


def test_it_is_mapped_once_and_anew_for_other_data(folder, tmp_path):
    out = tmp_path / "out"
    band_ratio.map_tiles(folder, out)
    record = out / "predictions" / "band_ratio" / "predictions.json"
    before = record.stat().st_mtime_ns
    band_ratio.map_tiles(folder, out)
    assert record.stat().st_mtime_ns == before


def test_bands_in_an_unknown_order_are_refused(tiny_data):
    tiles = open_tiles(tiny_data / "train.hdf5")
    assert not band_ratio.applies(tiles)
    with pytest.raises(InputError, match="no optical bands named SWIR1 and green or red or NIR"):
        band_ratio.fit(tiles)


def test_other_bands_are_those_that_the_file_names(folder, tmp_path):
    for split in ("train", "test"):
        with h5py.File(folder / f"{split}.hdf5", "r+") as file:
            for tile in file.values():  # SWIR1, NIR, red, green
                bands = tile["optical"][()][..., [4, 3, 2, 1]]
                del tile["optical"]
                tile["optical"] = bands
            file.attrs["scaling"] = json.dumps({"optical": {"low": [0.1] * 4, "high": [0.9] * 4}})
    with pytest.raises(InputError, match="compile can name them"):  # they may be any four
        band_ratio.map_tiles(folder, tmp_path / "out")
    for split in ("train", "test"):
        with h5py.File(folder / f"{split}.hdf5", "r+") as file:
            file.attrs["bands"] = json.dumps({"optical": ["SWIR1", "NIR", "red", "green"]})
    rule = band_ratio.map_tiles(folder, tmp_path / "out")
    assert rule["band"] == "green" and rule["training_iou"] == pytest.approx(1)


def test_there_is_none_where_a_tile_lacks_the_optical_bands(folder):
    path = folder / "test.hdf5"
    assert band_ratio.applies(open_tiles(path))
    with h5py.File(path, "r+") as file:
        file["B-0/dem"] = file["B-0/optical"][..., :2]
        del file["B-0/optical"]
    assert not band_ratio.applies(open_tiles(path))
