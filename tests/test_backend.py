import os
import subprocess
import sys
from pathlib import Path

import pytest

from glavitu.backend import keras, memory

CODE = """
import resource
from glavitu.backend import keras

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    keras.ops.ones((4096, 4096))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(min(faults() for _ in range(3)))
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="is about TensorFlow")
def test_tensorflow_keeps_its_memory_unless_told_otherwise():
    def faults(**told):
        left = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPU_")}
        left |= {"CUDA_VISIBLE_DEVICES": ""} | told
        command = [sys.executable, "-c", CODE]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=left).stdout)

    fresh = faults(TF_CPU_ALLOCATOR_USE_BFC="false")
    if fresh < 1000:
        pytest.skip("this system gives memory in large pages")
    assert faults() < fresh / 4


def test_the_memory_of_a_container_counts_where_it_is_less(monkeypatch):
    files = {}

    def read(path, encoding):
        if str(path) not in files:
            raise FileNotFoundError
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(os, "sysconf", lambda name: 1 << 20)
    monkeypatch.setattr("resource.getpagesize", lambda: 4096)
    assert memory() == 1 << 32
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert memory() == 1 << 32
    files["/sys/fs/cgroup/memory.max"] = "1048576\n"
    assert memory() == 1 << 20
    files.clear()
    monkeypatch.setattr(os, "sysconf", lambda name: -1)  # where it does not know
    assert memory() is None
