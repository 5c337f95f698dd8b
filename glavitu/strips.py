"""Predict one row of windows of a scene, here or in a worker elsewhere.

Keras is imported by what needs a network, so that a map that is there, or cannot be made, needs no
seconds to say so.
"""

import json
import os
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from glavitu.errors import InputError
from glavitu.local_rasters import files_of
from glavitu.stacks import open_scene
from glavitu.units import scale
from glavitu.windows import filled, in_batches, window_starts, window_weights

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
    factors: dict
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
        batches = in_batches(windows, job.batch_size)
        for batch, whole in zip(batches, filled(batches), strict=True):
            patches = {
                source: np.stack([array[:, c - left : c - left + size] for c in whole])
                for source, array in arrays.items()
            }
            answers = _ask(model, patches, job, row, batch[0])
            for column, probability in zip(batch, answers, strict=False):
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


def _ask(model, patches, job, row, column):
    """Return the probability of glacier (n, y, x), averaged over symmetries and dropout."""
    from glavitu.backend import ops

    turned = [(flip, turns) for flip in (False, True) for turns in range(4)]
    answers = []
    for flip, turns in turned if job.symmetries else turned[:1]:
        changed = {source: _turn(array, flip, turns) for source, array in patches.items()}
        if not job.dropout_samples:
            answers.append(
                _turn_back(model.predict_on_batch(changed)["output"][..., 1], flip, turns)
            )
        for sample in range(job.dropout_samples):
            _seed_dropout(model, row, column, sample)
            output = model(changed, training=True)["output"][..., 1]
            answers.append(_turn_back(ops.convert_to_numpy(output), flip, turns))
    return np.mean(answers, axis=0, dtype=np.float32)


def _turn(array, flip, turns):
    return np.rot90(array[:, :, ::-1] if flip else array, turns, axes=(1, 2))


def _turn_back(array, flip, turns):
    array = np.rot90(array, -turns, axes=(1, 2))
    return array[:, :, ::-1] if flip else array


def _seed_dropout(model, row, column, sample):
    """Make the masks of a batch depend on its place and the sample only, whoever predicts."""
    for i, state in enumerate(_masks(model)):
        sequence = np.random.SeedSequence([row, column, sample, i])
        state.assign(sequence.generate_state(2, np.uint32))


def _masks(model):
    """Return the states of the random numbers that a network drops features by."""
    variables = model.non_trainable_variables
    return [variable for variable in variables if variable.name == "seed_generator_state"]


def check_dropout(weights, precision):
    """Refuse the weights of a network that drops no features."""
    from glavitu.backend import resolve

    if not _masks(_load(weights, _version(weights), resolve(precision))):
        raise InputError(f"{weights} holds a network without dropout; leave its samples out")


def opened(job):
    """Return model and scene of a job; a worker opens them once."""
    model = _load(job.weights, _version(job.weights), job.precision)
    versions = tuple(_version(file) for path in job.paths.values() for file in files_of(path))
    settings = [job.paths, job.inputs, job.grid, job.nodata, job.factors]
    return model, _scene(json.dumps(settings), versions)


def _version(path):
    """Return what changes where a file is replaced or written to."""
    state = os.stat(path)
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@lru_cache(maxsize=2)
def _load(weights, version, precision):
    from glavitu.folding import folded
    from glavitu.weights import load_model

    model = folded(load_model(weights, precision=precision))
    model.trainable = False  # norms that are not folded keep their statistics where dropout works
    return model


@lru_cache(maxsize=2)
def _scene(key, versions):
    paths, inputs, grid, nodata, factors = json.loads(key)
    return open_scene(paths, inputs=inputs, grid=grid, nodata=nodata, factors=factors)
