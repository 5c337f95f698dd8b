"""Keras with its backend, imported without the chatter of TensorFlow's start."""

import os
from contextlib import contextmanager


@contextmanager
def _silence():
    """Drop what native code writes to stderr: TensorFlow logs before it can be told not to."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _silence():
    import keras
    from keras import layers, ops

__all__ = ["keras", "layers", "ops"]
