"""One battery for all networks."""

import keras
import numpy as np
import pytest
import xarray as xr
from conftest import TINY_SIZES

from glavitu import InputError, build_model, load_model, predict_tile, save_weights
from glavitu.folding import folded
from glavitu.layers import BatchNormalization, SpatialDropout2D
from glavitu.models import NETWORKS

PUBLISHED = {
    "setr": 101_743_362,
    "resunet": 32_608_386,
    "transunet": 8_918_530,
    "glavitu": 10_054_084,
}
each_network = pytest.mark.parametrize("architecture", NETWORKS)


@each_network
def test_published_size_has_the_published_number_of_parameters(architecture):
    assert build_model(architecture).count_params() == PUBLISHED[architecture]


@each_network
@pytest.mark.parametrize(
    "inputs", [{"x": 1}, {"optical": 4, "thermal": 1}, {"a": 2, "b": 3, "c": 1}]
)
def test_any_sources_give_probabilities_for_every_pixel(architecture, inputs):
    model = build_model(architecture, inputs=inputs, patch_size=32, **TINY_SIZES[architecture])
    rng = np.random.default_rng(0)
    batch = {s: rng.random((2, 32, 32, bands), dtype=np.float32) for s, bands in inputs.items()}
    heads = model.predict_on_batch(batch)
    assert set(heads) == {"output", "deepsupervision"} if architecture == "glavitu" else {"output"}
    for probabilities in heads.values():
        assert probabilities.shape == (2, 32, 32, 2)
        assert np.allclose(probabilities.sum(-1), 1, atol=1e-5)


@each_network
def test_every_source_changes_the_answer(architecture):
    model = build_model(
        architecture, inputs={"optical": 3, "sar": 2}, patch_size=32, **TINY_SIZES[architecture]
    )
    rng = np.random.default_rng(0)
    batch = {"optical": rng.random((1, 32, 32, 3)), "sar": rng.random((1, 32, 32, 2))}
    before = model.predict_on_batch(batch)["output"]
    for source in batch:
        changed = batch | {source: batch[source] + 1}
        assert not np.allclose(model.predict_on_batch(changed)["output"], before, atol=1e-6)


def test_networks_are_the_same_however_keras_is_configured():
    def answer(order):
        before = keras.config.image_data_format()
        keras.config.set_image_data_format(order)
        try:
            keras.utils.set_random_seed(0)
            model = build_model("glavitu", inputs={"a": 3}, patch_size=16, **TINY_SIZES["glavitu"])
            assert keras.config.image_data_format() == order
        finally:
            keras.config.set_image_data_format(before)
        image = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
        folds = folded(model).predict_on_batch({"a": image})["output"]
        return model.predict_on_batch({"a": image})["output"], folds

    assert np.array_equal(answer("channels_first"), answer("channels_last"))


def test_numbers_of_numpy_are_taken_and_truths_are_not(tmp_path):
    sizes = {"filters": np.int32(4), "steps": np.int64(2), "dropout": np.float32(0.5)}
    model = build_model("resunet", inputs={"a": np.int64(3)}, patch_size=np.int64(16), **sizes)
    save_weights(model, tmp_path / "a.weights.h5")
    assert load_model(tmp_path / "a.weights.h5").count_params() == model.count_params()
    for wrong in ({"inputs": {"a": True}}, {"filters": True}, {"patch_size": True}):
        with pytest.raises(InputError, match="True"):
            build_model("resunet", **({"inputs": {"a": 3}, "patch_size": 16} | wrong))


def test_sources_are_named_by_texts():
    with pytest.raises(InputError, match="a source cannot be named 1"):
        build_model("resunet", inputs={1: 3}, patch_size=16)


def test_a_source_called_like_a_layer_is_refused():
    with pytest.raises(InputError, match='resunet of output: The name "output" is used 2 times'):
        build_model("resunet", inputs={"output": 3}, patch_size=16, **TINY_SIZES["resunet"])


@each_network
def test_classes_can_be_more_than_two(architecture):
    sizes = TINY_SIZES[architecture] | {"classes": 5}
    assert build_model(architecture, patch_size=32, **sizes).output["output"].shape[-1] == 5


@pytest.mark.parametrize("vit_patch", [4, 8, 16, 32])
def test_patches_of_the_transformer_can_have_another_size(vit_patch):
    model = build_model("setr", patch_size=64, **TINY_SIZES["setr"], vit_patch=vit_patch)
    assert model.output["output"].shape == (None, 64, 64, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "unet"}, "unknown architecture 'unet'; known: setr, resunet"),
        ({"architecture": "resunet", "widht": 3}, "resunet has no size 'widht'"),
        ({"architecture": "resunet", "classes": 1}, "classes is 1, expected whole numbers"),
        ({"architecture": "resunet", "filters": [8]}, r"filters is \[8\], expected whole numbers"),
        ({"architecture": "resunet", "inputs": {}}, "expected source -> bands of one source"),
        ({"architecture": "resunet", "inputs": ["optical"]}, "expected source -> bands of one"),
        ({"architecture": "resunet", "inputs": {"a/b": 1}}, "cannot be named 'a/b'"),
        ({"architecture": "resunet", "inputs": {"optical": 0}}, "1 band or more"),
        ({"architecture": "setr", "embed_dim": 10, "heads": 4}, "not a multiple of heads"),
        ({"architecture": "setr", "vit_patch": 3}, "vit_patch 3 is not"),
        ({"architecture": "resunet", "patch_size": 40}, "multiple of 16, not 40"),
        ({"architecture": "transunet", "patch_size": 24}, "multiple of 16, not 24"),
        ({"architecture": "glavitu", "patch_size": 0}, "multiple of 16, not 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model(**arguments)


@pytest.mark.parametrize(
    ("shape", "options"),
    [((4, 6, 5, 3), {}), ((4, 3, 6, 5), {"axis": 1}), ((4, 7), {}), ((4, 6, 5, 3), {"mask": True})],
)
def test_batch_normalization_in_bfloat16_is_that_of_keras(shape, options):
    values = np.random.default_rng(0).normal(2, 3, shape).astype("float32")
    mask = {"mask": np.arange(24).reshape(4, 6, 1) % 3 > 0} if options.pop("mask", None) else {}
    found = []
    for kind in (BatchNormalization, keras.layers.BatchNormalization):
        layer = kind(dtype="mixed_bfloat16", **options)
        answer = layer(values, training=True, **mask)
        found.append([np.float32(each) for each in (answer, layer.moving_mean)])
    for ours, theirs in zip(*found, strict=True):
        assert np.allclose(ours, theirs, atol=0.05)


def test_what_answers_no_patches_is_refused():
    tile = xr.Dataset({"a": (("y", "x", "band"), np.zeros((16, 16, 2)))})
    images = {n: keras.Input((n, 16, 2), name="a") for n in (None, 16, 24)}
    three = build_model(
        "resunet", inputs={"a": 2}, patch_size=16, classes=3, **TINY_SIZES["resunet"]
    )
    half = keras.layers.Conv2D(2, 1, strides=2)(images[16])
    for model, message in (
        (keras.Sequential([keras.layers.Dense(2)]), "a network is a Sequential, expected"),
        (keras.Model({"a": images[16]}, images[16]), "a network is a Functional, expected"),
        (keras.Model({"a": images[24]}, {"output": images[24]}), "answers no square patches"),
        (keras.Model({"a": images[16]}, {"output": half}), "answers no square patches"),
        (three, "resunet tells 3 classes apart; a map has 2"),
    ):
        with pytest.raises(InputError, match=message):
            predict_tile(model, tile)


@pytest.mark.parametrize("order", ["channels_last", "channels_first"])
@pytest.mark.parametrize("training", [True, False])
def test_spatial_dropout_is_that_of_keras(training, order):
    image = np.random.default_rng(0).normal(size=(3, 8, 6, 5)).astype("float32")
    ours, theirs = (
        keras.ops.convert_to_numpy(kind(0.4, seed=1, data_format=order)(image, training=training))
        for kind in (SpatialDropout2D, keras.layers.SpatialDropout2D)
    )
    assert np.allclose(ours, theirs, rtol=1e-6, atol=0)
    assert np.array_equal(ours, image) is not training
