"""Which devices compute: a GPU, or several, each with a part of every batch."""

from contextlib import contextmanager, nullcontext

from glavitu.backend import keras
from glavitu.errors import InputError


def on_gpu_of_jax():
    """Return whether Keras computes by JAX and on a GPU."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() != "cpu"


def on_devices(count):
    """Return a context in which networks are built for, and trained on, `count` devices.

    Under JAX a batch is split without changing what is computed. Under TensorFlow batch
    normalization sees the whole batch, but dropout is drawn, and the loss averaged over labelled
    pixels, device by device. In the mean of the validation loss over batches, one that had to be
    filled up counts as a full one.

    Raises
    ------
    InputError
        Where there are fewer devices, or the backend is torch.
    """
    if count == 1:
        return nullcontext()
    backend = keras.backend.backend()
    if backend not in _CONTEXTS:
        raise InputError(f"several devices need the backend tensorflow or jax, not {backend}")
    return _CONTEXTS[backend](count)


def _mirrored(count):
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy(_first(count, [device.name for device in found])).scope()


@contextmanager
def _data_parallel(count):
    import jax

    before = keras.distribution.distribution()
    parallel = keras.distribution.DataParallel(
        devices=_first(count, jax.devices()), auto_shard_dataset=False
    )
    keras.distribution.set_distribution(parallel)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _first(count, devices):
    if len(devices) < count:
        raise InputError(f"devices is {count}, but this machine has only {len(devices)} to use")
    return devices[:count]


_CONTEXTS = {"tensorflow": _mirrored, "jax": _data_parallel}
