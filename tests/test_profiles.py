import pytest

from glavitu import InputError, load_profile
from glavitu.models import NETWORKS, build_model
from glavitu.profiles import Profile


def test_the_paper_profile_is_the_published_recipe():
    paper, published = load_profile("paper"), Profile(name="paper", data="")
    for name in published.as_dict():
        if name not in ("data", "sources"):
            assert getattr(paper, name) == getattr(published, name)
    assert paper.sources == ["optical", "dem", "sar"]


@pytest.mark.parametrize("name", ["demo", "smoke", "paper"])
def test_every_profile_builds_every_network(name):
    profile = load_profile(name)
    for architecture in profile.architectures:
        sizes = profile.sizes.get(architecture, {})
        build_model(architecture, patch_size=profile.patch_size, **sizes)
    assert set(profile.architectures) == set(NETWORKS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patch_sise: 3", "unknown parameter 'patch_sise'"),
        ("patch_size: -3", "patch_size is -3, expected 1 or more"),
        ("patch_size: many", "patch_size is 'many'"),
        ("batch_size: 0", "batch_size is 0"),
        ("epochs: true", "epochs is True"),
        ("stride: 400", "stride is 400, expected 0 to the patch_size of 384"),
        ("learning_rate: 0", "learning_rate is 0, expected between 0 and 1"),
        ("- a", "holds no parameters"),
        ("a: [", "is not YAML"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("architectures: [unet]", "unknown architecture 'unet'"),
        ("sizes: {resunet: 3}", "sizes of resunet is 3, expected a dict"),
        ("sizes: {foo: {a: 1}}", "sizes of unknown architecture 'foo'"),
    ],
)
def test_profiles_that_cannot_be_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_profile(path)
    assert "\n" not in str(error.value)


def test_a_learning_rate_without_a_point_is_a_number(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("learning_rate: 1e-3")
    assert load_profile(path).learning_rate == 0.001


def test_unknown_profiles_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match="no profile 'dmeo'; known: demo, paper, smoke"):
        load_profile("dmeo")
