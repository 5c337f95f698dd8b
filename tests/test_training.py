import gc
import hashlib
import subprocess
import sys
import threading
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import weights_of

from glavitu import InputError, open_tiles
from glavitu.backend import keras
from glavitu.files import read_json
from glavitu.patches import PatchSequence
from glavitu.prediction import predict
from glavitu.provenance import fingerprint
from glavitu.recipe import Recipe
from glavitu.training import _check_labelled, train


def log_of(folder, name="resunet"):
    return pd.read_csv(folder / "logs" / f"{name}_log.csv").drop(columns="seconds")


def scored(monkeypatch, scores):
    """Have epochs score so, whatever they are worth; scores may be used up by several trainings."""
    scores, original = iter(scores), Recipe.on_epoch_end
    monkeypatch.setattr(
        Recipe,
        "on_epoch_end",
        lambda self, epoch, logs: original(self, epoch, logs | {"val_output_iou_1": next(scores)}),
    )


def test_training_leaves_log_weights_and_record(tiny_data, tiny_profile, tmp_path):
    log = train("glavitu", profile=tiny_profile, data=tiny_data, out=tmp_path)
    assert list(log["epoch"]) == [0, 1]
    heads = {"output_loss", "deepsupervision_loss", "val_output_loss", "val_deepsupervision_loss"}
    assert heads | {"val_output_iou_1", "output_precision_0", "learning_rate"} <= set(log)
    record = read_json(tmp_path / "weights" / "glavitu.json")
    assert record["settings"]["inputs"] == {"dem": 2, "optical": 3}
    assert record["best_validation_iou"] == log["val_output_iou_1"].max()
    assert {p.name for p in (tmp_path / "weights").iterdir()} == {
        "glavitu.json",
        "glavitu.weights.h5",
    }


def label_all(path, value):
    """Set the labels of all tiles to a value; return the path."""
    with h5py.File(path, "r+") as file:
        for tile in file:
            file[tile]["groundtruth"][:] = value
    return path


@pytest.mark.parametrize("split", ["train", "val"])
def test_tiles_without_a_labelled_pixel_are_refused_before_the_work(
    split, tiny_data, tiny_profile, tmp_path
):
    label_all(tiny_data / f"{split}.hdf5", 0)
    with pytest.raises(InputError, match=f"{split}.hdf5 has no labelled pixel"):
        train("resunet", profile=tiny_profile, data=tiny_data, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_labelled_pixel_is_enough_and_no_tile_after_it_is_read(tiny_data, monkeypatch):
    path = label_all(tiny_data / "train.hdf5", 0)
    with h5py.File(path, "r+") as file:
        file["ALP1-0000/groundtruth"][-1, -1, 0] = 1
    tiles, read = open_tiles(path), []
    whole = tiles.read
    monkeypatch.setattr(tiles, "read", lambda name, *rest: read.append(name) or whole(name, *rest))
    _check_labelled(tiles)
    assert read == ["ALP1-0000"]


def test_validation_labels_beyond_the_whole_patches_are_no_labels(
    tiny_data, tiny_profile, tmp_path
):
    with h5py.File(label_all(tiny_data / "val.hdf5", 0), "r+") as file:
        file["ALP1-0000/groundtruth"][32:, :, 0] = 1  # of 40 rows, with patches of 16
        file["SVAL1-0000/groundtruth"][:, 32:, 0] = 1
    with pytest.raises(InputError, match="val.hdf5 has no labelled pixel in any patch"):
        train("resunet", profile=tiny_profile, data=tiny_data, out=tmp_path / "out")


def test_a_profile_may_be_renamed(tiny_data, tiny_profile, tmp_path, capsys):
    for name in ("one", "other"):
        profile = replace(tiny_profile, name=name)
        train("resunet", profile=profile, data=tiny_data, out=tmp_path)
    assert "trained already" in capsys.readouterr().out
    assert read_json(tmp_path / "weights" / "resunet.json")["profile"] == "one"


def test_nothing_of_a_training_stays_at_work(tiny_data, tiny_profile, tmp_path):
    train("resunet", profile=tiny_profile, data=tiny_data, out=tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("patches")]
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each) is PatchSequence]
    assert not [each for each in kept if each.drawn or each.tiles or each.memory]


def test_one_headed_networks_log_the_same_names(tiny_data, tiny_profile, tmp_path):
    log = train("resunet", profile=tiny_profile, data=tiny_data, out=tmp_path)
    assert {"output_accuracy", "val_output_iou_0", "val_output_recall_1"} <= set(log)


def test_the_network_learns_what_can_be_learned(tiny_data, tiny_profile, tmp_path):
    # the tiles' glacier is where one band is above 0.6: a few steps must find that
    profile = replace(tiny_profile, epochs=8, steps=30, batch_size=8, learning_rate=0.02)
    log = train("resunet", profile=profile, data=tiny_data, out=tmp_path)
    assert log["val_output_iou_1"].max() > 0.7


def test_the_learning_rate_warms_up_over_the_first_epoch(
    tiny_data, tiny_profile, tmp_path, monkeypatch
):
    rates = []
    monkeypatch.setattr(
        Recipe,
        "on_train_batch_end",
        lambda self, *_, **__: rates.append(float(self.model.optimizer.learning_rate)),
    )
    profile = replace(tiny_profile, steps=4, learning_rate=0.004)
    train("resunet", profile=profile, data=tiny_data, out=tmp_path)
    assert rates == pytest.approx([0, 0.001, 0.002, 0.003] + [0.004] * 4)


def test_the_learning_rate_drops_and_training_stops_without_progress(
    tiny_data, tiny_profile, tmp_path, monkeypatch
):
    scored(monkeypatch, [0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    profile = replace(tiny_profile, epochs=9, reduce_patience=2, stop_patience=4, learning_rate=0.1)
    log = train("resunet", profile=profile, data=tiny_data, out=tmp_path)
    # best in epoch 0; dropped after 2 epochs without better, again after 4, where it stops
    assert len(log) == 5
    assert log["learning_rate"].iloc[1:].tolist() == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert read_json(tmp_path / "weights" / "resunet.json")["best_epoch"] == 1


def test_a_training_cut_off_goes_on_as_if_it_had_not_been(
    tiny_data, tiny_profile, tmp_path, monkeypatch
):
    profile = replace(tiny_profile, epochs=4)
    options = {"profile": profile, "data": tiny_data}
    train("resunet", out=tmp_path / "whole", **options)

    begin = Recipe.on_epoch_begin
    for stop in (1, 2, 3):

        def interrupted(self, epoch, logs=None, stop=stop):
            if epoch == stop:
                raise KeyboardInterrupt
            begin(self, epoch, logs)

        monkeypatch.setattr(Recipe, "on_epoch_begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train("resunet", out=tmp_path / "cut", **options)
        assert len(log_of(tmp_path / "cut")) == stop
    monkeypatch.setattr(Recipe, "on_epoch_begin", begin)
    train("resunet", out=tmp_path / "cut", **options)

    pd.testing.assert_frame_equal(log_of(tmp_path / "whole"), log_of(tmp_path / "cut"))
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert all(np.array_equal(whole[key], cut[key]) for key in whole)


def test_a_training_that_is_done_is_not_repeated(tiny_data, tiny_profile, tmp_path, monkeypatch):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    first = train("resunet", **options)
    monkeypatch.setattr("glavitu.training.build_model", lambda *_, **__: pytest.fail("repeated"))
    pd.testing.assert_frame_equal(first, train("resunet", **options))


def test_a_result_of_other_settings_is_kept_unless_overwritten(tiny_data, tiny_profile, tmp_path):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    train("resunet", **options)
    before = weights_of(tmp_path)
    with pytest.raises(
        InputError, match=r"another training named 'resunet' is in .* \(seed 0 instead of 1\)"
    ):
        train("resunet", seed=1, **options)
    profile = tiny_profile.with_changes(sources=["dem"], epochs=5)
    told = r"\(inputs of optical 3 instead of none, epochs \d instead of 5\)"
    with pytest.raises(InputError, match=told):
        train("resunet", **options | {"profile": profile})
    assert all(np.array_equal(v, weights_of(tmp_path)[k]) for k, v in before.items())
    calibration = tmp_path / "weights" / "resunet.calibration.json"
    calibration.touch()  # of the weights that are replaced
    train("resunet", seed=1, overwrite=True, **options)
    assert not calibration.exists()
    assert read_json(tmp_path / "weights" / "resunet.json")["settings"]["seed"] == 1


def test_weights_of_others_are_not_taken_for_a_training_nor_replaced(
    tiny_data, tiny_profile, tmp_path
):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    weights = tmp_path / "weights" / "resunet.weights.h5"
    weights.parent.mkdir()
    weights.write_text("published")
    with pytest.raises(InputError, match=r"has no record of a training.*overwrite"):
        train("resunet", **options)
    assert weights.read_text() == "published"
    assert len(train("resunet", overwrite=True, **options)) == 2


def test_a_training_killed_before_its_best_weights_are_in_place_writes_them_again(
    tiny_data, tiny_profile, tmp_path, monkeypatch
):
    options = {"profile": tiny_profile, "data": tiny_data}
    scored(monkeypatch, [0.4, 0.5, 0.4, 0.5])
    train("resunet", out=tmp_path / "whole", **options)
    write = Recipe._write_checkpoint

    def killed(self, variables):
        write(self, variables)
        if self.history:
            raise KeyboardInterrupt

    weights = tmp_path / "cut" / "weights" / "resunet.weights.h5"
    for was_there in (False, True):  # in either epoch
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Recipe, "_write_checkpoint", killed)
            train("resunet", out=tmp_path / "cut", **options)
        assert weights.exists() == was_there
    train("resunet", out=tmp_path / "cut", **options)
    assert read_json(weights.with_name("resunet.json"))["weights"] == fingerprint(weights)
    pd.testing.assert_frame_equal(log_of(tmp_path / "whole"), log_of(tmp_path / "cut"))
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(np.array_equal(whole[key], cut[key]) for key in whole)


def cut_off(monkeypatch, after=1, **options):
    """Train until the epoch after so many begins."""
    begin = Recipe.on_epoch_begin

    def interrupted(self, epoch, logs=None):
        if epoch == after:
            raise KeyboardInterrupt
        begin(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "on_epoch_begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train("resunet", **options)


def test_weights_gone_meanwhile_are_written_again_or_found_again(
    tiny_data, tiny_profile, tmp_path, monkeypatch, capsys
):
    profile = replace(tiny_profile, epochs=3)
    options = {"profile": profile, "data": tiny_data, "out": tmp_path}
    weights = tmp_path / "weights" / "resunet.weights.h5"
    scored(monkeypatch, [0.5, 0.4, 0.5, 0.4, 0.3])
    cut_off(monkeypatch, after=1, **options)
    best = weights_of(tmp_path)
    weights.unlink()  # of the last epoch: the checkpoint has them, too
    cut_off(monkeypatch, after=2, **options)
    assert "goes on after epoch 1" in capsys.readouterr().out
    assert all(np.array_equal(array, weights_of(tmp_path)[key]) for key, array in best.items())
    weights.unlink()  # of the epoch before
    assert len(train("resunet", **options)) == 3
    told = capsys.readouterr().out
    assert "its best weights are gone, so it begins anew" in told and "epoch 1/3" in told
    assert all(np.array_equal(array, weights_of(tmp_path)[key]) for key, array in best.items())


def test_other_weights_in_the_place_of_the_best_are_not_taken_for_them(
    tiny_data, tiny_profile, tmp_path, monkeypatch
):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path / "mine"}
    train("resunet", **options | {"out": tmp_path / "others"}, seed=1)
    others = (tmp_path / "others" / "weights" / "resunet.weights.h5").read_bytes()
    weights = tmp_path / "mine" / "weights" / "resunet.weights.h5"
    cut_off(monkeypatch, **options)
    for content in (b"hello", others):
        weights.write_bytes(content)
        with pytest.raises(InputError, match=r"resunet\.weights\.h5 is not what .*overwrite"):
            train("resunet", **options)
        assert weights.read_bytes() == content
    with pytest.raises(InputError, match=r"weights\.h5 is not what .*; run train again"):
        predict("resunet", **options)
    assert len(train("resunet", overwrite=True, **options)) == 2
    assert weights.read_bytes() != others
    weights.write_bytes(others)  # after it has ended
    with pytest.raises(InputError, match=r"is not what its training left there"):
        train("resunet", **options)
    with pytest.raises(InputError, match=r"resunet\.json was not written with resunet"):
        predict("resunet", **options)


def test_a_training_whose_weights_are_gone_is_made_again_and_says_so(
    tiny_data, tiny_profile, tmp_path, capsys
):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    log = train("resunet", **options)
    (tmp_path / "weights" / "resunet.weights.h5").unlink()
    pd.testing.assert_frame_equal(
        log.drop(columns="seconds"), train("resunet", **options).drop(columns="seconds")
    )
    assert "its weights are gone, so it is trained anew" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["history", "variable_3"])
def test_a_damaged_checkpoint_is_named(key, tiny_data, tiny_profile, tmp_path, monkeypatch):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    cut_off(monkeypatch, **options)
    with h5py.File(tmp_path / "weights" / "resunet.checkpoint.h5", "r+") as file:
        del file[key]
    with pytest.raises(InputError, match=r"resunet\.checkpoint\.h5, remove it to begin anew"):
        train("resunet", **options)


def test_a_training_whose_log_is_gone_is_made_again_if_wanted(tiny_data, tiny_profile, tmp_path):
    options = {"profile": tiny_profile, "data": tiny_data, "out": tmp_path}
    train("resunet", **options)
    (tmp_path / "logs" / "resunet_log.csv").unlink()
    with pytest.raises(InputError, match=r"resunet_log\.csv, the log .* is gone.*overwrite"):
        train("resunet", **options)
    assert len(train("resunet", overwrite=True, **options)) == 2


def test_a_training_that_cannot_be_replaces_none(tiny_data, tiny_profile, tmp_path):
    options = {"data": tiny_data, "out": tmp_path, "overwrite": True}
    log = train("resunet", profile=tiny_profile, **options)
    before = {path: path.read_bytes() for path in tmp_path.rglob("resunet*") if path.is_file()}
    profile = tiny_profile.with_changes(seed=1, devices=1000, batch_size=1000)
    with pytest.raises(InputError, match="devices is 1000"):
        train("resunet", profile=profile, **options)
    assert len(before) >= 3 and all(path.read_bytes() == old for path, old in before.items())
    pd.testing.assert_frame_equal(log, train("resunet", profile=tiny_profile, **options))


def test_a_loss_that_is_not_a_number_stops_with_advice(
    tiny_data, tiny_profile, tmp_path, monkeypatch
):
    original = Recipe.on_epoch_end
    monkeypatch.setattr(
        Recipe,
        "on_epoch_end",
        lambda self, epoch, logs: original(self, epoch, logs | {"loss": float("nan")}),
    )
    with pytest.raises(InputError, match="loss is nan in epoch 1; lower the learning rate"):
        train("resunet", profile=tiny_profile, data=tiny_data, out=tmp_path)


def test_data_that_do_not_fit_are_refused(tiny_data, tiny_profile, tmp_path):
    for changes, message in [
        ({"patch_size": 48}, "smaller than the patch of 48"),
        ({"sources": ["sar"]}, "asks for the source 'sar'; the data has dem, optical"),
    ]:
        with pytest.raises(InputError, match=message):
            train("resunet", profile=replace(tiny_profile, **changes), data=tiny_data, out=tmp_path)
    with pytest.raises(InputError, match="plain file name"):
        train("resunet", profile=tiny_profile, data=tiny_data, out=tmp_path, name="../x")
    assert not (tmp_path / "weights").exists()


def test_two_processes_train_the_same_weights_bit_for_bit(tiny_data, tiny_profile, tmp_path):
    profile = tmp_path / "tiny.yaml"
    parameters = {k: v for k, v in tiny_profile.as_dict().items() if k != "name"}
    profile.write_text(yaml.safe_dump(parameters))
    digests = []
    for run in ("a", "b"):
        command = [sys.executable, "-m", "glavitu", "train", "-m", "glavitu", "--profile", profile]
        command += ["--data", tiny_data, "--out", tmp_path / run]
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
        arrays = weights_of(tmp_path / run, "glavitu")
        digests.append({key: hashlib.sha256(a.tobytes()).digest() for key, a in arrays.items()})
    assert digests[0] == digests[1] and len(digests[0]) > 50


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="is about TensorFlow's graphs")
def test_a_step_is_traced_once(tiny_data, tiny_profile, tmp_path, monkeypatch):
    traced, step = [], keras.Model.train_step
    monkeypatch.setattr(keras.Model, "train_step", lambda *a: traced.append(a) or step(*a))
    train("glavitu", profile=tiny_profile, data=tiny_data, out=tmp_path)
    assert len(traced) == 1
