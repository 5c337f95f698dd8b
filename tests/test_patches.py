import h5py
import numpy as np
import pytest
from conftest import make_tile_arrays
from hypothesis import given
from hypothesis import strategies as st

from glavitu import open_tiles, patches
from glavitu.hdf5_writing import write_tile
from glavitu.patches import (
    Augmentation,
    Patch,
    PatchSequence,
    batches_per_epoch,
    grid_patches,
    random_patches,
    resize,
)


def test_grid_patches_are_consecutive_and_leave_the_rest_out():
    # 40 x 36 pixels hold 2 x 2 whole patches of 16; the rest of 8 and 4 is left out
    assert grid_patches({"A": (40, 36)}, 16) == [
        Patch("A", 0, 0),
        Patch("A", 0, 16),
        Patch("A", 16, 0),
        Patch("A", 16, 16),
    ]


def test_an_epoch_is_twice_the_whole_patches_over_the_batch_size():
    # N = 2*3 + 1*1 = 7 whole patches; 2 * floor(7 / 3) = 4 batches
    assert batches_per_epoch({"A": (20, 30), "B": (19, 10)}, 10, 3) == 4
    assert batches_per_epoch({"A": (10, 10)}, 10, 8) == 1


@given(st.integers(8, 40), st.integers(8, 40), st.integers(0, 99))
def test_random_patches_lie_within_their_tile(height, width, seed):
    rng = np.random.default_rng(seed)
    for patch in random_patches({"A": (height, width)}, 8, 20, rng):
        assert 0 <= patch.row <= height - 8 and 0 <= patch.column <= width - 8


def test_tiles_and_corners_are_drawn_uniformly():
    rng = np.random.default_rng(0)
    drawn = random_patches({"small": (10, 10), "large": (100, 100)}, 8, 6000, rng)
    small = [patch for patch in drawn if patch.tile == "small"]
    assert abs(len(small) / 6000 - 0.5) < 0.03  # by tile, not by area
    rows = np.bincount([patch.row for patch in small]) / len(small)
    assert np.allclose(rows, 1 / 3, atol=0.04)  # corners 0, 1 and 2


def augmented(image, change):
    out = np.empty_like(image)
    change.apply(image, out)
    return out


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flip_y", [False, True])
@pytest.mark.parametrize("flip_x", [False, True])
def test_flips_come_before_turns(flip_y, flip_x, turns):
    image = np.random.default_rng(0).random((8, 8, 3), dtype=np.float32)
    expected = image[::-1] if flip_y else image
    expected = np.rot90(expected[:, ::-1] if flip_x else expected, turns)
    assert np.array_equal(augmented(image, Augmentation(flip_y, flip_x, turns)), expected)


@given(st.integers(0, 99), st.sampled_from([1, 3]))
def test_a_zoom_shows_the_square_flipped_and_turned(seed, bands):
    rng = np.random.default_rng(seed)
    image = rng.random((16, 16, bands), dtype=np.float32)
    change = Augmentation.draw(16, rng)._replace(square=(2, 1, 13))
    zoomed = np.empty_like(image)
    resize(image[2:15, 1:14], zoomed)
    assert np.allclose(augmented(image, change), augmented(zoomed, change._replace(square=None)))


def test_augmentation_happens_as_often_as_published():
    changes = [Augmentation.draw(384, np.random.default_rng(seed)) for seed in range(4000)]
    assert np.mean([change.flip_y for change in changes]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([change.flip_x for change in changes]) == pytest.approx(0.5, abs=0.03)
    turns = np.bincount([change.turns for change in changes]) / 4000
    assert turns == pytest.approx([0.25] * 4, abs=0.03)
    squares = np.array([change.square for change in changes if change.square])
    assert len(squares) / 4000 == pytest.approx(0.5, abs=0.03)
    sides = squares[:, 2]
    assert sides.min() >= 307 and sides.max() <= 384 and sides.mean() == pytest.approx(345.6, abs=2)
    assert (squares[:, :2].min(0) >= 0).all() and (squares[:, :2] + sides[:, None] <= 384).all()
    # the place is uniform: on average the middle of what is left
    assert (squares[:, 0] - (384 - sides) / 2).mean() == pytest.approx(0, abs=1.5)


def test_resize_is_bilinear_between_pixel_centres():
    out = np.empty((4, 4, 1), np.float32)
    resize(np.array([[[0.0], [0.0]], [[1.0], [1.0]]], np.float32), out)
    # the centres of 4 pixels over 2: -0.25, 0.25, 0.75, 1.25 -> 0 and 1 at the edges
    assert out[:, 0, 0].tolist() == [0, 0.25, 0.75, 1]
    resize(np.array([[[0.0], [1.0]], [[0.0], [1.0]]], np.float32), out)
    assert out[0, :, 0].tolist() == [0, 0.25, 0.75, 1]


@pytest.mark.parametrize(("side", "size"), [(5, 250), (90, 201), (250, 7), (3, 96)])
def test_resize_agrees_with_numpy_along_both_axes(side, size):
    image = np.random.default_rng(0).random((side, side, 2), dtype=np.float32)
    out = np.empty((size, size, 2), np.float32)
    resize(image, out)
    at, centres = (np.arange(size) + 0.5) * side / size, np.arange(side) + 0.5

    def interpolate(line):
        return np.interp(at, centres, line)

    expected = np.apply_along_axis(interpolate, 0, np.apply_along_axis(interpolate, 1, image))
    assert np.allclose(out, expected, atol=1e-5)


@given(st.integers(1, 20), st.integers(1, 40))
def test_resize_keeps_a_constant_constant_and_one_hot_sums_one(side, size):
    out = np.empty((size, size, 2), np.float32)
    resize(np.full((side, side, 2), 0.5, np.float32), out)
    assert np.allclose(out.sum(-1), 1)


@pytest.fixture
def tiles(tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name in ("A-0", "B-1", "C-2"):
            write_tile(file, name, make_tile_arrays(rng, 40, 36), {})
    return open_tiles(tmp_path / "a.hdf5")


def sequence(tiles, **options):
    options = {"random": True, "seed": 3} | options
    return PatchSequence(tiles, ["dem", "optical"], 16, 4, ("output", "deep"), **options)


def test_a_batch_has_inputs_by_source_and_labels_and_weights_by_head(tiles):
    inputs, labels, weights = sequence(tiles)[0]
    assert {s: a.shape for s, a in inputs.items()} == {
        "dem": (4, 16, 16, 2),
        "optical": (4, 16, 16, 3),
    }
    assert labels["output"].shape == (4, 16, 16, 2) and weights["deep"].shape == (4, 16, 16)
    assert all(a.dtype == np.float32 for d in (inputs, labels, weights) for a in d.values())


def test_batches_augmented_by_jax_are_those_of_the_processor(tiles):
    for index in range(12):  # 48 patches: all flips and turns, half of them zoomed
        expected = sequence(tiles)[index]
        found = sequence(tiles, on_device=True)[index]
        for here, there in zip(expected, found, strict=True):
            assert here.keys() == there.keys()
            for name, array in here.items():
                assert there[name].shape == array.shape and there[name].dtype == array.dtype
                assert np.allclose(array, there[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("on_gpu", "random", "asked", "expected"),
    [
        (True, True, None, True),
        (True, False, None, False),
        (False, True, None, False),
        (False, False, None, False),
        (True, True, False, False),
        (False, True, True, True),
    ],
)
def test_a_gpu_augments_what_is_drawn_to_train(tiles, monkeypatch, on_gpu, random, asked, expected):
    monkeypatch.setattr(patches, "on_gpu_of_jax", lambda: on_gpu)
    assert sequence(tiles, random=random, on_device=asked).on_device is expected


def test_a_batch_is_a_function_of_seed_epoch_and_index(tiles):
    first, again = sequence(tiles)[1], sequence(tiles, threads=1)[1]
    assert np.array_equal(first[0]["optical"], again[0]["optical"])
    for other in (sequence(tiles)[0], sequence(tiles, epoch=1)[1], sequence(tiles, seed=4)[1]):
        assert not np.array_equal(first[0]["optical"], other[0]["optical"])


def test_batches_of_training_go_on_over_epochs_in_whatever_order_they_are_drawn(tiles):
    drawn, resumed = sequence(tiles, steps=3), sequence(tiles, steps=3, epoch=1)
    assert drawn.num_batches is None and len(drawn) == 3
    later, first = drawn[4], drawn[0]
    assert np.array_equal(later[0]["optical"], resumed[1][0]["optical"])
    assert np.array_equal(first[0]["optical"], sequence(tiles, steps=3)[0][0]["optical"])
    assert not np.array_equal(first[0]["optical"], drawn[3][0]["optical"])
    # of epoch 2, whether it is the third of one training or the second of one that began in epoch 1
    assert np.array_equal(drawn[7][0]["optical"], resumed[4][0]["optical"])


def test_how_a_patch_is_augmented_does_not_hang_on_where_it_lies(tiles, monkeypatch):
    drawn, draw = [], Augmentation.draw
    monkeypatch.setattr(Augmentation, "draw", lambda *a: drawn.append(draw(*a)) or drawn[-1])
    training, found = sequence(tiles), set()
    for index in range(60):
        drawn.clear()
        training.make(index)
        found |= {(i, p.tile, drawn[0].flip_y) for i, p in enumerate(training.plan(index))}
    assert len(found) == 4 * 3 * 2  # each patch of a batch from each tile, its first flipped or not


@pytest.mark.parametrize("random", [True, False])
def test_batches_drawn_in_order_are_made_once(tiles, monkeypatch, random):
    made, make = [], PatchSequence.make
    monkeypatch.setattr(PatchSequence, "make", lambda s, i: (made.append(i), make(s, i))[1])
    batches = sequence(tiles, random=random)
    for i in range(3):
        batches[i]
    assert {0, 1, 2} <= set(made) and len(made) == len(set(made))
    assert random or len(made) == 3  # validation ends there


def test_validation_walks_over_every_patch_once_in_order(tiles):
    validation = sequence(tiles, random=False)
    # 3 tiles of 2 x 2 patches in batches of 4
    assert len(validation) == 3
    inputs, _, _ = validation[1]
    assert len(inputs["optical"]) == 4
    assert np.array_equal(inputs["optical"][3], tiles.read("B-1", "optical", np.s_[16:32, 16:32]))


def test_the_last_batch_of_validation_holds_the_rest(tiles):
    # 12 patches in batches of 5
    validation = PatchSequence(tiles, ["dem"], 16, 5, ("output",), random=False)
    assert [len(validation[i][0]["dem"]) for i in range(len(validation))] == [5, 5, 2]


def test_unlabelled_pixels_weigh_nothing_even_after_zooming(tmp_path):
    arrays = make_tile_arrays(np.random.default_rng(0), 16, 16)
    arrays["groundtruth"][:, :7] = 0
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        write_tile(file, "A-0", arrays, {})
    tiles = open_tiles(tmp_path / "b.hdf5")
    _, _, weights = sequence(tiles, random=False)[0]
    assert weights["output"].sum() == 9 * 16
    for index in range(20):
        _, labels, weights = sequence(tiles)[index]
        assert set(np.unique(weights["output"])) <= {0, 1}
        assert np.allclose(labels["output"].sum(-1)[weights["output"] == 1], 1, atol=1e-3)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_last_batch_is_filled_up_for_devices_with_what_does_not_count(tiles, devices):
    whole = sequence(tiles, random=False)
    filled = sequence(tiles, random=False, devices=devices)
    assert len(whole.grid) == 12 and len(filled) == len(whole) == 3
    whole.grid, filled.grid = whole.grid[:9], filled.grid[:9]
    for index, rest in ((0, 4), (2, 1)):
        for plain, more in zip(whole[index], filled[index], strict=True):
            for name, array in plain.items():
                assert len(array) == rest and len(more[name]) == -(-rest // devices) * devices
                assert np.array_equal(more[name][:rest], array) and not more[name][rest:].any()
