import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glavitu import InputError, load_model, load_profile, save_weights
from glavitu.models import build_model
from glavitu.profiles import ARCHITECTURES, Profile


def test_the_paper_profile_is_the_published_recipe():
    paper, published = load_profile("paper"), Profile(name="paper", data="")
    for name in published.as_dict():
        if name not in ("data", "sources"):
            assert getattr(paper, name) == getattr(published, name)
    assert paper.sources == ["optical", "dem", "sar"]


@pytest.mark.parametrize("name", ["demo", "extended", "smoke", "paper"])
def test_every_profile_builds_every_network(name):
    profile = load_profile(name)
    for architecture in profile.architectures:
        sizes = profile.sizes.get(architecture, {})
        build_model(architecture, patch_size=profile.patch_size, **sizes)
    assert set(ARCHITECTURES) <= set(profile.architectures)


@pytest.mark.parametrize("name", ["demo", "extended", "smoke"])
def test_every_network_of_a_profile_is_saved_and_loaded(name, tmp_path):
    profile, published = load_profile(name), {"optical": 6, "dem": 2, "sar": 2}
    for run in profile.runs()[: len(profile.runs()) // profile.repeats]:
        inputs = {source: published[source] for source in run.sources or published}
        sizes, patch_size = profile.sizes.get(run.architecture, {}), profile.patch_size
        model = build_model(run.architecture, inputs=inputs, patch_size=patch_size, **sizes)
        save_weights(model, tmp_path / "a.weights.h5")
        loaded = load_model(tmp_path / "a.weights.h5")
        for found, expected in zip(loaded.weights, model.weights, strict=True):
            assert np.array_equal(found, expected), found.path


def test_the_extended_study_is_the_demo_with_more():
    demo, extended = load_profile("demo"), load_profile("extended")
    for same in ("data", "demo_data", "patch_size", "learning_rate", "sources", "seed"):
        assert getattr(demo, same) == getattr(extended, same)
    for architecture in demo.architectures:
        narrow, wide = (p.sizes[architecture] for p in (demo, extended))
        widths = {name for name in narrow if name.endswith("filters")}
        assert {n: 2 * v if n in widths else v for n, v in narrow.items()} == wide
    patches = [p.batch_size * p.steps * p.epochs for p in (demo, extended)]
    assert patches[0] < patches[1] and len(demo.runs()) < len(extended.runs())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patch_sise: 3", "unknown parameter 'patch_sise'"),
        ("patch_size: -3", "patch_size is -3, expected a whole number from 1 to 8192"),
        ("patch_size: many", "patch_size is 'many'"),
        ("batch_size: 0", "batch_size is 0"),
        ("{batch_size: 3, devices: 2}", "batch_size is 3, expected a multiple of the 2 devices"),
        ("epochs: true", "epochs is True"),
        ("stride: 400", "stride is 400, expected a whole number from 0 to the patch_size of 384"),
        ("learning_rate: 0", "learning_rate is 0, expected between 0 and 1"),
        ("- a", "holds no parameters"),
        ("a: [", "is not YAML in line 1: expected the node content"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("architectures: [unet]", "unknown architecture 'unet'"),
        ("repeats: 0", "repeats is 0, expected a whole number from 1 to 1000"),
        ("ablation: {unet: [[dem]]}", "unknown architecture 'unet' in ablation"),
        ("ablation: {setr: [dem]}", "ablation of setr is .'dem'., expected a list of lists"),
        ("ablation: {setr: [[a, b], [a-b]]}", "two trainings would be called 'setr-a-b'"),
        ("sizes: {resunet: 3}", "sizes of resunet is 3, expected a dict"),
        ("sizes: {resunet: {classes: 3}}", "expected a dict, in which classes are 2"),
        ("sizes: {foo: {a: 1}}", "unknown architecture 'foo' in sizes"),
    ],
)
def test_profiles_that_cannot_be_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_profile(path)
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_and_paths_are_taken():
    profile = Profile("mine", Path("data"), epochs=np.int64(2), stride=np.int32(8))
    assert profile.with_changes(seed=np.uint8(3)) == Profile(
        "mine", "data", epochs=2, stride=8, seed=3
    )
    assert json.dumps(profile.as_dict())


def test_changes_of_what_no_profile_has_are_refused():
    with pytest.raises(InputError, match=r"a profile has no 'epoch'; known: name, .* epochs, "):
        load_profile("demo").with_changes(epoch=3)


def test_a_learning_rate_without_a_point_is_a_number(tmp_path):
    path = tmp_path / "mine.yaml"
    for text in ("1e-3", "1E-3", "1e-03"):
        path.write_text(f"learning_rate: {text}")
        assert load_profile(path).learning_rate == 0.001
    path.write_text("learning_rate: 1.2.3e-4")
    with pytest.raises(InputError, match="learning_rate is '1.2.3e-4', expected between 0 and 1"):
        load_profile(path)


def test_unknown_profiles_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match="no profile 'dmeo'; known: demo, extended, paper, smoke"):
        load_profile("dmeo")


def test_a_study_trains_each_network_with_each_seed_and_on_each_choice_of_sources():
    profile = Profile(name="x", data="", architectures=["setr", "glavitu"], repeats=2, seed=5)
    ablation = {"glavitu": [["optical"], ["optical", "dem"]]}
    runs = replace(profile, ablation=ablation).runs()
    first = ["setr", "glavitu", "glavitu-optical", "glavitu-optical-dem"]
    assert [run.name for run in runs] == first + [f"{name}-seed6" for name in first]
    assert [run.seed for run in runs] == [5] * 4 + [6] * 4
    assert runs[-1].method == "glavitu optical dem" and runs[-1].sources == ["optical", "dem"]
    assert [run.name for run in replace(profile, repeats=1).runs()] == ["setr", "glavitu"]
