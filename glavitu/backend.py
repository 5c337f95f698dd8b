"""Keras with its backend: without the chatter of TensorFlow's start, fast memory, its precision."""

import os
import resource
from contextlib import contextmanager, suppress
from pathlib import Path

from glavitu.errors import InputError
from glavitu.files import quietly
from glavitu.interrupts import held
from glavitu.profiles import check_precision


def memory():
    """Return the bytes of memory of the machine, or of the container if less; None if unknown."""
    found = []
    with suppress(ValueError, OSError):
        found.append(os.sysconf("SC_PHYS_PAGES") * resource.getpagesize())
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of either version of cgroups
        with suppress(ValueError, OSError):
            found.append(int(Path("/sys/fs/cgroup", limit).read_text(encoding="utf-8")))
    return min((size for size in found if size > 0), default=None)


def keep_memory():
    """Have TensorFlow keep the memory it was given, on processors as it does on GPUs.

    Fresh memory comes from the system page by page, which takes much of a training step. By itself
    TensorFlow would then take 64 GB at most; beyond what there is, the system ends the process. So
    it may take nine tenths. What the environment says already stays.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
    if size := memory():
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(int(0.9 * size) >> 20))


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keep_memory()
try:
    with held(), quietly():  # TensorFlow logs before it can be told not to
        import keras
        from keras import layers, ops
except (ImportError, ValueError) as error:
    if not (asked := os.environ.get("KERAS_BACKEND")):
        raise
    raise InputError(f"Keras does not load with KERAS_BACKEND={asked}: {error}") from None


def resolve(precision):
    """Return ``"bfloat16"`` or ``"float32"``: for ``"auto"``, the faster one on this machine.

    bfloat16 is faster on GPUs of compute capability 8 or more and, under TensorFlow, on processors
    with AMX or AVX-512 instructions for it.
    """
    if check_precision(precision) != "auto":
        return precision
    has_units = _HAS_UNITS.get(keras.backend.backend())
    return "bfloat16" if has_units and has_units() else "float32"


@contextmanager
def in_precision(precision):
    """Build networks that compute in ``"float32"`` or ``"bfloat16"``; variables stay float32.

    Bands come last, also where Keras is configured otherwise.
    """
    before = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy({"bfloat16": "mixed_bfloat16"}.get(precision, precision))
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before[0])
        keras.config.set_image_data_format(before[1])


def _tensorflow_units():
    import tensorflow as tf

    if gpus := tf.config.list_physical_devices("GPU"):
        found = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0,))
        return found[0] >= 8
    processor = Path("/proc/cpuinfo")
    flags = processor.read_text(encoding="utf-8") if processor.exists() else ""
    return "amx_bf16" in flags or "avx512_bf16" in flags


def _jax_units():
    import jax

    device = jax.devices()[0]
    return device.platform == "gpu" and float(device.compute_capability) >= 8


def _torch_units():
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8


_HAS_UNITS = {"tensorflow": _tensorflow_units, "jax": _jax_units, "torch": _torch_units}

__all__ = ["in_precision", "keras", "layers", "ops", "resolve"]
