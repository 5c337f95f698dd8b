"""The published sizes and recipe, cut to two steps; minutes on two processor cores."""

from dataclasses import replace

import numpy as np
import pytest

from glavitu import load_profile
from glavitu.demo_data import make_demo_data
from glavitu.evaluation import evaluate, read_prediction
from glavitu.models import NETWORKS
from glavitu.prediction import predict
from glavitu.training import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper") / "data"
    return make_demo_data(folder, tile_size=384, tiles_per_region=3, regions=["ALP"])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", NETWORKS)
def test_full_size_networks_train_two_steps_and_predict_a_tile(architecture, data, tmp_path):
    # a batch of 8 patches, as published, needs more memory than a small machine has
    profile = replace(load_profile("paper"), epochs=1, steps=2, batch_size=2)
    options = {"profile": profile, "data": data, "out": tmp_path}
    log = train(architecture, **options)
    assert len(log) == 1 and np.isfinite(log["val_loss"]).all()
    (file,) = predict(architecture, **options)
    prediction = read_prediction(file)
    assert prediction["probability"].shape == (384, 384)
    assert prediction["probability"].min() >= 0 and prediction["probability"].max() <= 1
    scores = evaluate(architecture, out=tmp_path)
    assert scores[["tp", "tn", "fp", "fn"]].to_numpy().sum() == 384 * 384
