"""Predict one row of windows of a scene, here or in a worker elsewhere."""

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glavitu.backend import keras
from glavitu.folding import folded
from glavitu.grids import open_scene
from glavitu.prediction import window_starts, window_weights
from glavitu.scenes import scale
from glavitu.weights import load_model

CHUNK = 8192  # columns of a strip held in memory at once, in pixels


class Job(NamedTuple):
    """All that a worker must know to predict a row of windows; small, and safe to send."""

    weights: str
    paths: dict
    inputs: dict
    grid: str
    nodata: dict
    size: int
    stride: int
    batch_size: int
    symmetries: bool
    dropout_samples: int
    precision: str
    scaling: dict


def scene_starts(length, size, stride):
    """Return the first pixels of windows over a length that may be less than a window."""
    return window_starts(length, size, stride) if length >= size else [0]


def predict_strip(job, row):
    """Predict one row of windows.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Sums of weighted probabilities and of weights (2, size, width), float32; and where every
        source has data (size, width).
    """
    model, scene = opened(job)
    width, size = scene.shape[1], job.size
    sums = np.zeros((2, size, width), np.float32)
    valid = np.zeros((size, width), bool)
    weights = window_weights(size)
    columns = scene_starts(width, size, job.stride)
    for chunk in _chunks(columns, CHUNK - size):
        left = chunk[0]
        arrays = scene.read(row, left, size, chunk[-1] + size - left)
        here = np.all([np.isfinite(array).all(-1) for array in arrays.values()], axis=0)
        part = here[:, : width - left]
        valid[:, left : left + part.shape[1]] |= part
        arrays = {source: scale(array, **job.scaling[source]) for source, array in arrays.items()}
        # Windows without any data say nothing.
        windows = [c for c in chunk if here[:, c - left : c - left + size].any()]
        for first in range(0, len(windows), job.batch_size):
            batch = windows[first : first + job.batch_size]
            patches = {
                source: np.stack([array[:, c - left : c - left + size] for c in batch])
                for source, array in arrays.items()
            }
            for column, probability in zip(batch, _ask(model, patches, job, row), strict=True):
                end = min(column + size, width)
                sums[0, :, column:end] += (weights * probability)[:, : end - column]
                sums[1, :, column:end] += weights[:, : end - column]
    return sums, valid


def _chunks(columns, length):
    """Split the columns of windows into runs of about `length` pixels."""
    chunks = [[columns[0]]]
    for column in columns[1:]:
        if column - chunks[-1][0] > length:
            chunks.append([])
        chunks[-1].append(column)
    return chunks


def _ask(model, patches, job, row):
    """Return the probability of glacier (n, y, x), averaged over symmetries and dropout."""
    turned = [(flip, turns) for flip in (False, True) for turns in range(4)]
    answers = []
    for flip, turns in turned if job.symmetries else turned[:1]:
        changed = {source: _turn(array, flip, turns) for source, array in patches.items()}
        if not job.dropout_samples:
            answers.append(
                _turn_back(model.predict_on_batch(changed)["output"][..., 1], flip, turns)
            )
        for sample in range(job.dropout_samples):
            _seed_dropout(model, row, sample)
            output = model(changed, training=True)["output"][..., 1]
            answers.append(_turn_back(keras.ops.convert_to_numpy(output), flip, turns))
    return np.mean(answers, axis=0, dtype=np.float32)


def _turn(array, flip, turns):
    return np.rot90(array[:, :, ::-1] if flip else array, turns, axes=(1, 2))


def _turn_back(array, flip, turns):
    array = np.rot90(array, -turns, axes=(1, 2))
    return array[:, :, ::-1] if flip else array


def _seed_dropout(model, row, sample):
    """Make dropout depend on place and sample only, whoever predicts."""
    for i, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.SpatialDropout2D | keras.layers.Dropout):
            layer.seed_generator.state.assign(np.array([row, 1000 * sample + i], "uint32"))


def opened(job):
    """Return model and scene of a job; a worker opens them once."""
    modified = Path(job.weights).stat().st_mtime_ns
    return _load(job.weights, modified, job.precision), _scene(
        json.dumps([job.paths, job.inputs, job.grid, job.nodata])
    )


@lru_cache(maxsize=2)
def _load(weights, modified, precision):
    model = folded(load_model(weights, precision=precision))
    model.trainable = False  # norms that are not folded keep their statistics where dropout works
    return model


@lru_cache(maxsize=2)
def _scene(key):
    paths, inputs, grid, nodata = json.loads(key)
    return open_scene(paths, inputs=inputs, grid=grid, nodata=nodata)
