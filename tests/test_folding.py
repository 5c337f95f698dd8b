import gc
import weakref

import numpy as np
import pytest
import xarray as xr
from conftest import TINY_SIZES

from glavitu import build_model, predict_tile
from glavitu.backend import in_precision, keras
from glavitu.folding import folded
from glavitu.models import NETWORKS

INPUTS = {"optical": 3, "dem": 2}
each_network = pytest.mark.parametrize("architecture", NETWORKS)
layers = keras.layers


def make_batch(size=32):
    rng = np.random.default_rng(0)
    return {source: rng.random((2, size, size, n), np.float32) for source, n in INPUTS.items()}


def trained(model):
    """Give every weight a value that it could have after a training; return the model."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    for weight in model.non_trainable_weights:
        if weight.name == "moving_mean":
            weight.assign(rng.normal(0, 0.3, weight.shape))
        elif weight.name == "moving_variance":
            weight.assign(rng.uniform(0.3, 3, weight.shape))
    return model


def tiny(architecture, **options):
    sizes = TINY_SIZES[architecture] | options
    return trained(build_model(architecture, inputs=INPUTS, patch_size=32, **sizes))


def answer(model, batch):
    return model.predict_on_batch(batch)["output"]


def norms(model):
    return sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)


@each_network
def test_without_its_norms_and_other_heads_a_network_answers_the_same(architecture):
    model, batch = tiny(architecture), make_batch()
    made_of, expected = model.to_json(), model.predict_on_batch(batch)
    fast = folded(model)
    assert (norms(model) > 0, norms(fast)) == (True, 0)
    assert list(fast.output) == ["output"] and fast.name == architecture
    assert np.allclose(answer(fast, batch), expected["output"], atol=1e-5)
    assert model.to_json() == made_of
    for head, probabilities in model.predict_on_batch(batch).items():
        assert np.array_equal(probabilities, expected[head]), head


def one_pixel(precision="float32", *, mean=3, variance=4 - 1e-3, gamma=5, beta=7, **convolution):
    """Return a network of a convolution, 2 x + 1, and a norm of its answer."""
    with in_precision(precision):
        source = keras.Input((1, 1, 1), name="p")
        image = layers.Conv2D(1, 1, name="convolution", **convolution)(source)
        image = layers.BatchNormalization(name="norm")(image)
        output = layers.Activation("linear", name="output", dtype="float32")(image)
    model = keras.Model({"p": source}, {"output": output})
    model.get_layer("convolution").set_weights(
        [np.full((1, 1, 1, 1), 2), *([np.ones(1)] if convolution.get("use_bias", True) else [])]
    )
    model.get_layer("norm").set_weights(
        [np.full(1, value) for value in (gamma, beta, mean, variance)]
    )
    return model


@pytest.mark.parametrize(("use_bias", "expected"), [(True, 12), (False, 9.5)])
def test_a_norm_becomes_part_of_kernel_and_bias(use_bias, expected):
    # x = 2: (2 * 2 + 1 - 3) / 2 * 5 + 7 = 12; without the bias of 1, (4 - 3) / 2 * 5 + 7 = 9.5
    model = folded(one_pixel(use_bias=use_bias))
    assert norms(model) == 0
    assert answer(model, {"p": np.full((1, 1, 1, 1), 2)}) == pytest.approx(expected, rel=1e-5)


def test_a_network_in_bfloat16_is_folded_in_float32():
    # (2 x + 1 - 1000.75) * 1 + 1000 = 1.25 at x = 0.5; in bfloat16 1000.75 is 1000
    model = folded(one_pixel("bfloat16", mean=1000.75, variance=1 - 1e-3, gamma=1, beta=1000))
    assert answer(model, {"p": np.full((1, 1, 1, 1), 0.5)}) == pytest.approx(1.25)


def test_a_norm_of_what_is_no_plain_convolution_stays():
    model = one_pixel(activation="relu")
    assert norms(folded(model)) == 1
    # x = -2: (max(2 * -2 + 1, 0) - 3) / 2 * 5 + 7 = -0.5
    assert answer(folded(model), {"p": np.full((1, 1, 1, 1), -2)}) == pytest.approx(-0.5, rel=1e-5)


def test_a_convolution_that_others_read_too_stays_for_them():
    source = keras.Input((4, 4, 1), name="p")
    image = layers.Conv2D(2, 3, padding="same")(source)
    output = layers.Add(name="output")([layers.BatchNormalization()(image), image])
    model = trained(keras.Model({"p": source}, {"output": output}))
    batch = {"p": make_batch(4)["dem"][..., :1]}
    assert norms(folded(model)) == 0
    assert np.allclose(answer(folded(model), batch), answer(model, batch), atol=1e-5)


def test_weights_that_change_are_those_of_the_next_prediction():
    model, rng = tiny("resunet"), np.random.default_rng(1)
    tile = xr.Dataset(
        {s: (("y", "x", s), rng.random((40, 36, n), np.float32)) for s, n in INPUTS.items()}
    )
    before = predict_tile(model, tile)["probability"]
    changed = [weight + rng.normal(0, 0.1, weight.shape) ** 2 for weight in model.get_weights()]
    model.set_weights(changed)
    after = predict_tile(model, tile)["probability"]
    other = tiny("resunet")
    other.set_weights(changed)
    assert np.allclose(after, predict_tile(other, tile)["probability"], atol=1e-6)
    assert np.abs(after - before).max() > 0.01


def test_dropout_is_at_work_where_asked_for_but_statistics_of_batches_are_not():
    batch = make_batch()
    calm, random = (folded(tiny("glavitu", dropout=share)) for share in (0, 0.5))
    statistics = [np.array(weight) for weight in calm.non_trainable_weights]
    answers = [
        keras.ops.convert_to_numpy(model(batch, training=True)["output"])
        for model in (calm, random)
    ]
    assert np.allclose(answers[0], answer(calm, batch), atol=1e-5)
    assert not np.allclose(answers[1], answer(random, batch), atol=0.01)
    for weight, before in zip(calm.non_trainable_weights, statistics, strict=True):
        assert np.array_equal(weight, before)


def test_a_network_is_folded_once_and_not_kept():
    model = tiny("setr")
    assert folded(model) is folded(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
