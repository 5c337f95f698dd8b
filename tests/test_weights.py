import h5py
import keras
import numpy as np
import pytest
from conftest import TINY_SIZES

from benchmarks.parity import differences_under, installed_backends
from glavitu import InputError, build_model, load_model, load_weights, save_weights
from glavitu.models import NETWORKS
from glavitu.weights import PUBLISHED_STAGES

INPUTS = {"optical": 3, "dem": 2, "sar": 2}


def tiny(architecture, *, inputs=INPUTS, **changes):
    sizes = TINY_SIZES[architecture] | changes
    return build_model(architecture, inputs=inputs, patch_size=32, **sizes)


def write_published(model, path):
    """Write a model's weights as Keras 2 did, its Fusion branch by branch."""
    with h5py.File(path, "w") as file:
        groups = {source: [] for source in model.input}
        for i, prefixes in enumerate(PUBLISHED_STAGES[model.name]):
            layers = [x for x in model.layers if x.name.startswith(prefixes)]
            if i == 0:
                source = {x: x.name[len("fusion_") :].rpartition("_")[0] for x in layers}
                layers = [x for x in layers if source[x]]  # the sum has none, nor weights
                layers.sort(key=lambda x: list(model.input).index(source[x]))
            weights = [w for x in layers for w in x.trainable_weights]
            groups[f"stage{i}"] = weights + [w for x in layers for w in x.non_trainable_weights]
        file.attrs["layer_names"] = [name.encode() for name in groups]
        for name, weights in groups.items():
            group = file.create_group(name)
            names = [f"{i}/{w.name}:0" for i, w in enumerate(weights)]
            group.attrs["weight_names"] = [n.encode() for n in names]
            for n, weight in zip(names, weights, strict=True):
                group[n] = np.asarray(weight)


def randomise(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.random(w.shape) for w in model.get_weights()])
    return model


def same_weights(a, b):
    pairs = zip(a.get_weights(), b.get_weights(), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("backend", installed_backends())
def test_published_networks_answers_are_matched(reference, backend):
    for case, heads in differences_under(backend, reference).items():
        assert all(difference < 1e-4 for difference in heads.values()), case


@pytest.mark.parametrize("architecture", NETWORKS)
def test_own_weights_come_back(architecture, tmp_path):
    model = randomise(tiny(architecture))
    model.save_weights(tmp_path / "a.weights.h5")
    other = tiny(architecture)
    load_weights(other, tmp_path / "a.weights.h5")
    assert same_weights(model, other)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_published_layout_is_read_whatever_the_order_of_sources(architecture, tmp_path):
    model = randomise(tiny(architecture))
    write_published(model, tmp_path / "published.h5")
    other = tiny(architecture, inputs={"sar": 2, "optical": 3, "dem": 2})
    load_weights(other, tmp_path / "published.h5")
    rng = np.random.default_rng(0)
    batch = {s: rng.random((1, 32, 32, n)) for s, n in INPUTS.items()}
    expected = model.predict_on_batch(batch)["output"]
    assert np.allclose(other.predict_on_batch(batch)["output"], expected, atol=1e-6)


@pytest.mark.parametrize("frozen", ["", "fusion_dem_norm2", "fusion"])
@pytest.mark.parametrize("architecture", NETWORKS)
def test_layers_may_be_frozen_before_published_weights_are_loaded(architecture, frozen, tmp_path):
    model = randomise(tiny(architecture))
    write_published(model, tmp_path / "published.h5")
    other = tiny(architecture)
    for layer in other.layers:
        layer.trainable = not layer.name.startswith(frozen)
    load_weights(other, tmp_path / "published.h5")
    stored, loaded = ({w.path: np.array(w) for w in each.weights} for each in (model, other))
    assert all(np.array_equal(loaded[path], values) for path, values in stored.items())


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize(
    ("other", "layer"),
    [
        (lambda: tiny("setr"), "setr_vit_positions|setr_pup_conv5|setr_vit_patches"),
        (lambda: tiny("glavitu", filters=8), "resunet_down1_conv1"),
        (lambda: tiny("glavitu", blocks=2), "setr_vit_block2_norm1"),
        (lambda: tiny("glavitu", inputs=INPUTS | {"dem": 1}), "fusion_dem_conv1"),
        (lambda: tiny("glavitu", inputs={"optical": 3}), "fusion_|setr_|resunet_"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_layer_and_change_nothing(
    tmp_path, published, other, layer
):
    model = tiny("glavitu")
    path = tmp_path / ("published.h5" if published else "own.weights.h5")
    write_published(model, path) if published else model.save_weights(path)
    other = other()
    before = [w.copy() for w in other.get_weights()]
    with pytest.raises(InputError, match=f"does not fit.*({layer})") as error:
        load_weights(other, path)
    assert "\n" not in str(error.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights(), strict=True))


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_weight_file_of_ours_says_which_network_it_is_for(architecture, tmp_path):
    model = randomise(tiny(architecture))
    save_weights(model, tmp_path / "a.weights.h5")
    other = load_model(tmp_path / "a.weights.h5")
    assert other.name == architecture and list(other.input) == list(INPUTS)
    assert same_weights(model, other)


def test_a_file_of_keras_with_another_ending_is_told_what_to_be_called(tmp_path):
    save_weights(tiny("resunet"), tmp_path / "a.weights.h5")
    (tmp_path / "a.weights.h5").rename(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"a\.h5 is a file of Keras 3, .* named NAME\.weights\.h5"):
        load_weights(tiny("resunet"), tmp_path / "a.h5")


def test_sources_of_equal_shape_in_another_order_are_refused(tmp_path):
    save_weights(tiny("resunet"), tmp_path / "a.weights.h5")
    swapped = tiny("resunet", inputs={"optical": 3, "sar": 2, "dem": 2})
    with pytest.raises(InputError, match="written for the sources optical, dem, sar, in this ord"):
        load_weights(swapped, tmp_path / "a.weights.h5")


def test_keras_own_files_of_sources_in_another_order_are_refused(tmp_path):
    model = tiny("resunet")
    model.save_weights(tmp_path / "a.weights.h5")
    load_weights(tiny("resunet"), tmp_path / "a.weights.h5")
    swapped = tiny("resunet", inputs={"optical": 3, "sar": 2, "dem": 2})
    with pytest.raises(InputError, match="has fusion_dem_conv1 where the model has fusion_sar_co"):
        load_weights(swapped, tmp_path / "a.weights.h5")


def test_a_source_may_be_called_as_another_one_begins(tmp_path):
    inputs = {"sar": 1, "sar_2": 2}
    model = randomise(tiny("resunet", inputs=inputs))
    write_published(model, tmp_path / "published.h5")
    other = tiny("resunet", inputs=inputs)
    load_weights(other, tmp_path / "published.h5")
    assert same_weights(model, other)


def test_a_whole_model_of_keras_is_told_as_such(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("model_weights")
    with pytest.raises(InputError, match="holds a whole model of Keras; load that with"):
        load_weights(tiny("resunet"), tmp_path / "a.h5")


def test_weights_of_a_network_of_unknown_sizes_are_not_written(tmp_path):
    model = keras.models.clone_model(tiny("resunet"))
    with pytest.raises(InputError, match="resunet is no network of build_model"):
        save_weights(model, tmp_path / "a.weights.h5")
    assert not list(tmp_path.iterdir())


def test_weights_are_written_under_names_of_weights_alone(tmp_path):
    with pytest.raises(InputError, match="a.h5 is no name for weights; it must end with .weights"):
        save_weights(tiny("resunet"), tmp_path / "a.h5")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no weights at .*none\.weights\.h5"):
        load_model(tmp_path / "none.weights.h5")


def test_a_file_that_does_not_say_is_not_guessed(tmp_path):
    tiny("resunet").save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match="does not say which network"):
        load_model(tmp_path / "a.weights.h5")


def test_file_with_more_layers_than_the_model_is_refused(tmp_path):
    tiny("setr", blocks=2).save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match="does not fit"):
        load_weights(tiny("setr"), tmp_path / "a.weights.h5")


def test_files_without_weights_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    model = tiny("resunet")
    for name, message in [
        ("none.h5", "no weights at"),
        ("text.h5", "not an HDF5 weight file"),
        ("empty.h5", "holds no Keras weights"),
    ]:
        with pytest.raises(InputError, match=message):
            load_weights(model, tmp_path / name)
