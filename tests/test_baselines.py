import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from test_folding import answer, norms, trained

from glavitu import InputError, build_model, load_model, load_weights, save_weights
from glavitu.backend import keras
from glavitu.folding import folded
from glavitu.models import BASELINES, default_sizes
from glavitu.training import compile_model

keras_cv = pytest.importorskip("keras_cv")

INPUTS = {"optical": 3, "dem": 2}
TINY = {
    "deeplabv3plus": {"filters": 2, "blocks": [2, 2, 2, 2], "dilations": [1, 2]}
    | {"pyramid_filters": 4, "low_level_filters": 2, "decoder_filters": 4},
    "segformer": {"embed_dims": [4, 4, 5, 8], "blocks": [1, 1, 1, 1], "decoder_filters": 4},
}
FULL = {"deeplabv3plus": 39_208_576, "segformer": 27_371_650}
each_baseline = pytest.mark.parametrize("architecture", BASELINES)


def tiny(architecture, *, inputs=INPUTS, patch_size=64, **changes):
    sizes = TINY[architecture] | changes
    return build_model(architecture, inputs=inputs, patch_size=patch_size, **sizes)


def make_batch(inputs=INPUTS, patch_size=64):
    rng = np.random.default_rng(0)
    return {s: rng.random((2, patch_size, patch_size, n), np.float32) for s, n in inputs.items()}


@each_baseline
def test_full_size_has_the_stated_number_of_parameters(architecture):
    assert build_model(architecture).count_params() == FULL[architecture]
    assert f"{FULL[architecture]:,}" in BASELINES[architecture].__doc__


@each_baseline
@pytest.mark.parametrize("inputs", [{"x": 1}, {"a": 2, "b": 3, "c": 1}])
def test_any_sources_give_probabilities_for_every_pixel(architecture, inputs):
    model = tiny(architecture, inputs=inputs, classes=3)
    heads = model.predict_on_batch(make_batch(inputs))
    assert model.name == architecture and list(model.input) == list(inputs)
    assert list(heads) == ["output"] and heads["output"].shape == (2, 64, 64, 3)
    assert heads["output"].dtype == np.float32
    assert np.allclose(heads["output"].sum(-1), 1, atol=1e-5)


@each_baseline
def test_norms_that_follow_convolutions_are_folded_and_others_stay(architecture):
    model, batch = trained(tiny(architecture)), make_batch()
    # of ResNetV2, the norms before convolutions stay: one in each of the 8 blocks
    assert norms(folded(model)) == {"deeplabv3plus": 8, "segformer": 0}[architecture]
    assert np.allclose(answer(folded(model), batch), answer(model, batch), atol=1e-5)


@each_baseline
def test_every_source_changes_the_answer(architecture):
    model, batch = tiny(architecture), make_batch()
    before = model.predict_on_batch(batch)["output"]
    for source in batch:
        changed = batch | {source: 5 * batch[source] ** 2}
        assert not np.allclose(model.predict_on_batch(changed)["output"], before, atol=1e-6)


@pytest.mark.parametrize(
    ("architecture", "patch_size"),
    [("deeplabv3plus", 32), ("deeplabv3plus", 384), ("segformer", 96), ("segformer", 384)],
)
def test_patches_can_have_another_size(architecture, patch_size):
    model = tiny(architecture, patch_size=patch_size)
    shape = (None, patch_size, patch_size, 2)
    assert model.output["output"].shape == shape
    assert model.count_params() == tiny(architecture).count_params()


def copy_layers(source, target):
    """Copy weights between layers that come in the same order."""
    for a, b in zip(*([x for x in y if x.weights] for y in (source, target)), strict=True):
        b.set_weights(a.get_weights())


def test_deeplabv3plus_answers_as_that_of_keras_cv():
    keras.utils.set_random_seed(0)
    backbone = keras_cv.models.ResNetV2Backbone(
        stackwise_filters=[2, 4, 8, 16],
        stackwise_blocks=[2, 2, 2, 2],
        stackwise_strides=[1, 2, 2, 2],
        include_rescaling=False,
        input_shape=(64, 64, 5),
    )
    theirs = keras_cv.models.DeepLabV3Plus(backbone, num_classes=2)
    sizes = default_sizes("deeplabv3plus") | {"filters": 2, "blocks": [2, 2, 2, 2]}
    ours = build_model("deeplabv3plus", inputs=INPUTS, patch_size=64, **sizes)
    # the norm after the last stage is not on the way to the answer
    encoder = [x for x in backbone.layers if x.weights and x.name != "post_bn"]
    (low_level,) = [x for x in theirs.layers if "low_level_feature_conv" in str(x.get_config())]
    parts = [theirs.spatial_pyramid_pooling, *low_level.layers, *theirs.segmentation_head.layers]
    names = ["pyramid", "low_level_conv", "low_level_norm", "decoder_conv", "decoder_norm"]
    decoder = [ours.get_layer(name) for name in [*names, "logits"]]
    copy_layers([*encoder, *parts], [*(ours.get_layer(x.name) for x in encoder), *decoder])
    batch = make_batch()
    expected = theirs.predict_on_batch(np.concatenate(list(batch.values()), -1))
    assert expected.std() > 0.01
    assert np.allclose(ours.predict_on_batch(batch)["output"], expected, atol=1e-5)


def test_segformer_answers_as_that_of_keras_cv_but_for_a_softmax_at_full_resolution():
    keras.utils.set_random_seed(0)
    backbone = keras_cv.models.MiTBackbone(
        depths=[1, 1, 1, 1],
        embedding_dims=[4, 6, 5, 8],
        include_rescaling=False,
        input_shape=(64, 64, 5),
    )
    theirs = keras_cv.models.SegFormer(backbone, num_classes=2, projection_filters=4)
    ours = tiny("segformer", embed_dims=[4, 6, 5, 8])
    linear = [theirs.get_layer(f"linear_{dim}") for dim in (4, 6, 5, 8)]
    (fusion,) = [x for x in theirs.layers if isinstance(x, keras.Sequential)]
    logits = theirs.layers[-2]
    names = [f"decoder_linear{i}" for i in (1, 2, 3, 4)] + ["decoder_conv", "decoder_norm"]
    decoder = [ours.get_layer(name) for name in [*names, "logits"]]
    encoder = [x for x in ours.layers if x not in decoder]
    copy_layers([*backbone.layers, *linear, *fusion.layers, logits], [*encoder, *decoder])
    logits.activation = keras.activations.linear
    batch = make_batch()
    expected = theirs.predict_on_batch(np.concatenate(list(batch.values()), -1))
    expected = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    assert expected.std() > 0.01
    assert np.allclose(ours.predict_on_batch(batch)["output"], expected, atol=1e-5)


@each_baseline
def test_a_fit_changes_the_weights_and_the_file_brings_them_back(architecture, tmp_path):
    model, batch = tiny(architecture), make_batch()
    before = model.get_weights()
    compile_model(model)
    labels = np.eye(2, dtype=np.float32)[(batch["dem"][..., 0] > 0.5).astype(int)]
    history = model.fit(batch, {"output": labels}, batch_size=1, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all() and "output_iou_1" in history
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert np.mean(changed) > 0.8
    save_weights(model, tmp_path / "a.weights.h5")
    other = load_model(tmp_path / "a.weights.h5")
    answers = [keras.ops.convert_to_numpy(x(batch)["output"]) for x in (model, other)]
    assert np.array_equal(*answers)


@each_baseline
def test_weights_of_other_sizes_are_refused_by_layer(architecture, tmp_path):
    save_weights(tiny(architecture), tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match="does not fit.*layer decoder_(conv|linear)") as error:
        load_weights(tiny(architecture, decoder_filters=5), tmp_path / "a.weights.h5")
    assert "\n" not in str(error.value)
    (other,) = set(BASELINES) - {architecture}
    with pytest.raises(InputError, match="does not fit"):
        load_weights(tiny(other), tmp_path / "a.weights.h5")


@each_baseline
def test_default_sizes_are_those_a_record_gives_back(architecture):
    sizes = default_sizes(architecture)
    assert sizes["blocks"] == [3, 4, 6, 3]
    assert json.loads(json.dumps(sizes)) == sizes


@each_baseline
def test_published_weights_are_refused(architecture, tmp_path):
    with h5py.File(tmp_path / "published.h5", "w") as file:
        file.attrs["layer_names"] = []
    with pytest.raises(InputError, match=f"no published weights exist for {architecture}"):
        load_weights(tiny(architecture), tmp_path / "published.h5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("deeplabv3plus", {"patch_size": 48}), "multiple of 32, not 48"),
        (("segformer", {"patch_size": 80}), "multiple of 32, not 80"),
        (("segformer", {"patch_size": 32}), "patch_size of 64 or more, not 32"),
        (("segformer", {"heads": 4}), "segformer has no size 'heads'"),
        (("segformer", {"embed_dims": [4, 4, 6, 8]}), "multiples of 1, 2, 5, 8, not .4, 4, 6, 8"),
        (("segformer", {"embed_dims": 8}), "embed_dims must be four numbers, each 1 or more"),
        (
            ("segformer", {"blocks": [1, 1, 1, 0]}),
            r"blocks is \[1, 1, 1, 0\], expected whole numbers from 1 to 256",
        ),
        (("deeplabv3plus", {"blocks": [2, 2, 1, 2]}), "blocks must be four numbers, each 2 or m"),
        (("deeplabv3plus", {"blocks": [2, 2, 2]}), "blocks must be four numbers"),
        (("deeplabv3plus", {"dilations": 6}), "dilations must be one number or more, not 6"),
        (("deeplabv3plus", {"dilations": []}), "dilations must be one number or more"),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, message):
    architecture, changes = arguments
    with pytest.raises(InputError, match=message) as error:
        tiny(architecture, **changes)
    assert "\n" not in str(error.value)


@each_baseline
def test_without_keras_cv_one_line_says_what_is_needed(architecture, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)  # makes its import fail
    with pytest.raises(InputError, match=f"{architecture} needs keras-cv and TensorFlow") as error:
        tiny(architecture)
    assert "\n" not in str(error.value)


def test_keras_cv_is_imported_only_when_a_baseline_is_built_and_says_nothing():
    code = (
        "import sys, glavitu.models as m; assert 'keras_cv' not in sys.modules;"
        "m.build_model('resunet', patch_size=32, filters=2);"
        "assert 'keras_cv' not in sys.modules;"
        "m.build_model('deeplabv3plus', patch_size=32, filters=2); assert 'keras_cv' in sys.modules"
    )
    env = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
