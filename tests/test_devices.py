"""Two virtual processors train as one does, each in a process of its own, by backend."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import TINY_SIZES

from benchmarks.parity import installed_backends
from glavitu import InputError
from glavitu.devices import on_devices

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
    assert np.allclose(one, two, rtol=1e-3)
    assert one[1, 0] < one[0, 0]  # it learned at all


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(InputError, match="64, but this machine has only|need the backend"):
        on_devices(64).__enter__()
