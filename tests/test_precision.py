from functools import partial

import keras
import numpy as np
import pytest
from conftest import TINY_SIZES
from keras import layers as stock

from glavitu import InputError, build_model, load_model, save_weights
from glavitu.backend import in_precision, resolve
from glavitu.layers import BatchNormalization, gelu
from glavitu.models import NETWORKS


@pytest.mark.parametrize("architecture", NETWORKS)
def test_bfloat16_gives_nearly_the_same_probabilities_in_float32(architecture, tmp_path):
    sizes, path = TINY_SIZES[architecture], tmp_path / "a.weights.h5"
    inputs = {"optical": 3, "dem": 2}
    keras.utils.set_random_seed(0)
    exact = build_model(architecture, inputs=inputs, patch_size=32, **sizes)
    save_weights(exact, path)
    fast = load_model(path, precision="bfloat16")
    rng = np.random.default_rng(0)
    batch = {s: rng.random((2, 32, 32, bands), dtype=np.float32) for s, bands in inputs.items()}
    answers = fast.predict_on_batch(batch)
    for head, expected in exact.predict_on_batch(batch).items():
        assert answers[head].dtype == np.float32
        assert np.allclose(answers[head].sum(-1), 1, atol=1e-5)  # not rounded to bfloat16
        assert 0 < np.abs(answers[head] - expected).max() < 0.05
    assert {variable.dtype for variable in fast.trainable_variables} == {"float32"}


def test_batch_normalization_in_bfloat16_is_that_of_keras():
    image = np.random.default_rng(0).normal(3, 2, (2, 2, 3, 4)).astype(np.float32)
    with in_precision("bfloat16"):
        ours = BatchNormalization()
    stock = keras.layers.BatchNormalization()
    image = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(image, "bfloat16"), "float32"))
    found, expected = ours(image, training=True), stock(image, training=True)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    assert np.allclose(keras.ops.cast(found, "float32"), expected, atol=0.02)
    for moving in ("moving_mean", "moving_variance"):
        assert np.allclose(getattr(ours, moving), getattr(stock, moving), rtol=1e-5), moving
    found, expected = ours(image, training=False), stock(image, training=False)
    assert np.allclose(keras.ops.cast(found, "float32"), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("option", ["scale", "center"])
def test_batch_normalization_without_a_scale_or_an_offset_is_that_of_keras(option):
    image = np.random.default_rng(0).normal(3, 2, (2, 2, 3, 4)).astype(np.float32)
    with in_precision("bfloat16"):
        pair = [kind(**{option: False}) for kind in (BatchNormalization, stock.BatchNormalization)]
    found, expected = (keras.ops.cast(layer(image, training=True), "float32") for layer in pair)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("way", ["clone", "file"])
def test_copies_of_a_network_compute_as_it_does(way, tmp_path):
    sizes, inputs = TINY_SIZES["glavitu"], {"optical": 3, "dem": 2}
    model = build_model("glavitu", inputs=inputs, patch_size=32, precision="bfloat16", **sizes)
    if way == "clone":
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
    else:
        model.save(tmp_path / "model.keras")
        copy = keras.models.load_model(tmp_path / "model.keras")
    draw = np.random.default_rng(0).random
    batch = {source: draw((2, 32, 32, bands), np.float32) for source, bands in inputs.items()}
    answers = [network.predict_on_batch(batch)["output"] for network in (model, copy)]
    assert np.array_equal(*answers)
    policies = [[layer.dtype_policy.name for layer in each.layers] for each in (model, copy)]
    assert policies[0] == policies[1] and "mixed_bfloat16" in policies[0]


def test_gelu_in_bfloat16_is_that_of_float32_rounded():
    image = keras.ops.cast(np.linspace(-6, 6, 999), "bfloat16")
    expected = keras.activations.gelu(keras.ops.cast(image, "float32"), approximate=False)
    found = gelu(image)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    assert np.array_equal(
        keras.ops.cast(found, "float32"),
        keras.ops.cast(keras.ops.cast(expected, "bfloat16"), "float32"),
    )


def test_auto_is_bfloat16_where_the_machine_is_fast_at_it(monkeypatch):
    for fast, expected in ((True, "bfloat16"), (False, "float32")):
        backend = keras.backend.backend()
        monkeypatch.setitem(resolve.__globals__["_HAS_UNITS"], backend, lambda fast=fast: fast)
        assert resolve("auto") == expected
        assert resolve("float32") == "float32" and resolve("bfloat16") == "bfloat16"


def test_the_precision_of_other_networks_stays_what_it_was():
    before = keras.config.dtype_policy()
    with pytest.raises(ZeroDivisionError), in_precision("bfloat16"):
        assert keras.config.dtype_policy().compute_dtype == "bfloat16"
        raise ZeroDivisionError
    assert keras.config.dtype_policy() == before


def test_models_are_built_and_loaded_in_the_faster_precision(monkeypatch, tmp_path):
    sizes, path = TINY_SIZES["resunet"], tmp_path / "a.weights.h5"
    build = partial(build_model, "resunet", inputs={"dem": 1}, patch_size=16, **sizes)
    save_weights(build(), path)
    units = resolve.__globals__["_HAS_UNITS"]
    for fast, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setitem(units, keras.backend.backend(), lambda fast=fast: fast)
        for model in (build(precision="auto"), load_model(path, precision="auto")):
            assert {layer.compute_dtype for layer in model.layers if layer.weights} >= {expected}


def test_an_unknown_precision_is_not_the_files_fault(tmp_path):
    told = "^precision is 'half', expected auto or float32 or bfloat16$"
    with pytest.raises(InputError, match=told):
        build_model("resunet", precision="half")
    sizes = TINY_SIZES["resunet"]
    model = build_model("resunet", inputs={"dem": 1}, patch_size=16, **sizes)
    save_weights(model, tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match=told):
        load_model(tmp_path / "a.weights.h5", precision="half")
