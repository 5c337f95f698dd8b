"""Two virtual processors train as one does, each in a process of its own, by backend."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from conftest import TINY_SIZES, make_tile_arrays

from benchmarks.parity import installed_backends
from glavitu import InputError
from glavitu.devices import on_devices
from glavitu.hdf5_writing import write_tile

TRAIN = """
import json, sys
from glavitu.backend import keras
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from glavitu.profiles import Profile
from glavitu.training import train
options, data, out = json.loads(sys.argv[1]), *sys.argv[2:]
logs = [
    train("resunet", data=data, out=f"{out}/{n}", profile=Profile(devices=n, **options))
    for n in (1, 2)
]
print(json.dumps([log[["loss", "val_loss", "val_output_iou_1"]].values.tolist() for log in logs]))
"""


@pytest.mark.parametrize("backend", [b for b in installed_backends() if b != "torch"])
def test_two_devices_give_the_log_of_one(backend, tiny_data, tmp_path):
    with h5py.File(tiny_data / "val.hdf5", "r+") as file:  # one patch more than whole batches
        write_tile(file, "ALP1-0001", make_tile_arrays(np.random.default_rng(1), 16, 16), {})
    options = {"name": "tiny", "data": "", "patch_size": 16, "batch_size": 4, "epochs": 2}
    options |= {"steps": 4, "learning_rate": 1e-3, "precision": "float32"}
    options["sizes"] = {"resunet": TINY_SIZES["resunet"] | {"dropout": 0.0}}
    flags = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, json.dumps(options), tiny_data, tmp_path],
        env=os.environ | flags,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = np.array(json.loads(done.stdout.splitlines()[-1]))
    assert np.allclose(one[:, [0, 2]], two[:, [0, 2]], rtol=1e-3)
    assert one[1, 0] < one[0, 0]  # it learned at all


BLEND = """
import numpy as np, xarray as xr
from glavitu import InputError, build_model, predict_tile, prediction
from glavitu.folding import folded
inputs = {"optical": 3, "dem": 1}
model = build_model("resunet", inputs=inputs, patch_size=16, filters=4, steps=2)
draw = np.random.default_rng(0).random
tile = xr.Dataset({s: (("y", "x", s), draw((40, 61, n), np.float32)) for s, n in inputs.items()})
for batch_size, stride in ((8, 8), (3, 5), (2, 16)):
    found = []
    for on_gpu in (False, True):
        prediction.on_gpu_of_jax = lambda: on_gpu
        found.append(predict_tile(model, tile, batch_size=batch_size, stride=stride))
    np.testing.assert_allclose(*(f["probability"] for f in found), atol=1e-5)
    assert found[1]["probability"].std() > 1e-4
network = folded(model)
traced, call = [], network.stateless_call
network.stateless_call = lambda *args, **options: traced.append(1) or call(*args, **options)
for size in ({"y": 24}, {"y": 32}, {"y": 32, "x": 48}):  # five windows a row, and four
    predict_tile(model, tile.isel({axis: slice(end) for axis, end in size.items()}), batch_size=1)
assert len(traced) == 1, traced  # it takes long to compile
"""


@pytest.mark.skipif("jax" not in installed_backends(), reason="needs JAX")
def test_a_tile_blended_on_the_device_is_that_blended_by_the_processor():
    done = subprocess.run(
        [sys.executable, "-c", BLEND],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(InputError, match="64, but this machine has only|need the backend"):
        on_devices(64).__enter__()
