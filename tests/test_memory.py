import gc

import numpy as np
import pytest

from glavitu.memory import Memory


@pytest.fixture
def memory():
    return Memory([(3, 2), (4,)], 5, kept=2)


def address(arrays):
    return arrays[0].__array_interface__["data"][0]


def test_arrays_have_their_shapes_and_share_no_value(memory):
    first, second = memory.arrays(4)  # 4 of the 5 there is room for
    assert first.shape == (4, 3, 2) and second.shape == (4, 4)
    assert first.dtype == second.dtype == np.float32
    first[...], second[...] = 1, 2
    assert (first == 1).all() and (second == 2).all()


def test_memory_that_nothing_refers_to_is_used_again(memory):
    arrays = memory.arrays(5)
    before = address(arrays)
    del arrays
    assert address(memory.arrays(5)) == before


@pytest.mark.parametrize(
    "keep",
    [
        lambda array: array,
        lambda array: array[1:, ::-1].T,
        lambda array: array.reshape(-1).view(np.int32),
        lambda array: memoryview(array),
        lambda array: np.asarray(memoryview(array)),
        lambda array: np.frombuffer(array, np.float32),
        lambda array: np.from_dlpack(array),
    ],
)
def test_memory_is_not_used_again_while_a_view_of_it_is_kept(memory, keep):
    first, second = memory.arrays(5)
    first[...] = second[...] = 1
    kept = keep(first)
    before = np.array(kept)
    del first, second
    for _ in range(4):
        for array in memory.arrays(5):
            array[...] = 2
    assert np.array_equal(np.array(kept), before)


def tensorflow(array):
    return pytest.importorskip("tensorflow").convert_to_tensor(array)


def torch(array):
    return pytest.importorskip("torch").from_numpy(array)


def jax(array):
    import jax

    return jax.device_put(array)


@pytest.mark.parametrize("convert", [tensorflow, torch, jax])
def test_memory_is_not_used_again_while_a_tensor_made_of_it_is_kept(convert):
    memory = Memory([(64, 64)] * 3, 8, kept=2)  # one of them may lie so that it is not copied
    arrays = memory.arrays(8)
    for array in arrays:
        array[...] = 1
    kept = [convert(array) for array in arrays]
    del array, arrays
    gc.collect()
    for _ in range(4):
        for array in memory.arrays(8):
            array[...] = 2
    assert all((np.asarray(tensor) == 1).all() for tensor in kept)


def test_no_more_than_agreed_is_kept(memory):
    lent = [memory.arrays(5) for _ in range(6)]
    del lent
    assert len(memory.free) == 2
