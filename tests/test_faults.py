"""A training killed at random moments ends where an undisturbed one does."""

import random
import subprocess
import sys
import time
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import weights_of

KILLS = 12


def epochs_in(log):
    return len(pd.read_csv(log)) if log.exists() else 0


@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_like_an_undisturbed_one(
    tiny_data, tiny_profile, tmp_path
):
    profile = tmp_path / "tiny.yaml"
    changed = replace(tiny_profile, epochs=60, steps=10, stop_patience=60)
    parameters = {k: v for k, v in changed.as_dict().items() if k != "name"}
    profile.write_text(yaml.safe_dump(parameters))

    def start(out):
        command = [sys.executable, "-m", "glavitu", "train", "--profile", profile]
        command += ["--data", tiny_data, "--out", out]
        return subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)

    started = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    duration = time.monotonic() - started
    whole = pd.read_csv(tmp_path / "whole" / "logs" / "glavitu_log.csv")
    epoch = whole["seconds"].iloc[1:].median()
    start_up = duration - whole["seconds"].sum()

    draw = random.Random(0)
    log = tmp_path / "cut" / "logs" / "glavitu_log.csv"
    kills, epochs = 0, []
    while kills < KILLS:
        process = start(tmp_path / "cut")
        if kills % 4 == 3:  # anywhere in start-up and resuming
            time.sleep(draw.uniform(0, start_up))
        else:  # in training, validation or writing, after one more whole epoch
            rows = epochs_in(log)
            while epochs_in(log) == rows and process.poll() is None:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 2 * epoch))
        assert process.poll() is None, "the training ended before it could be killed"
        process.kill()
        process.wait()
        kills += 1
        epochs.append(epochs_in(log))
        files = (tmp_path / "cut" / "weights").glob("*.h5")
        whole_files = (path for path in files if path.name[0] != ".")
        for path in whole_files:
            h5py.File(path).close()  # whole, whenever the kill came
    assert start(tmp_path / "cut").wait() == 0
    print(f"killed {kills} times, whole epochs in the log then: {epochs}")
    assert max(epochs) > 0 and epochs == sorted(epochs)

    cut = pd.read_csv(tmp_path / "cut" / "logs" / "glavitu_log.csv")
    pd.testing.assert_frame_equal(whole.drop(columns="seconds"), cut.drop(columns="seconds"))
    expected, found = (
        weights_of(tmp_path / "whole", "glavitu"),
        weights_of(tmp_path / "cut", "glavitu"),
    )
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[key], found[key]) for key in expected)
    assert not list((tmp_path / "cut").rglob("*.checkpoint.h5"))
