"""Which patches a network sees, and how they become batches.

First plan (pure, from tile shapes alone), then read, then augment. A batch is a function of
(seed, epoch, index) whatever the number of threads.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from glavitu.backend import keras
from glavitu.devices import on_gpu_of_jax
from glavitu.machine import cores
from glavitu.memory import Memory

CLASSES = 2
ROWS = 96  # resized at once: few enough to stay in the processor's cache


class Patch(NamedTuple):
    """A square window of a tile, by its top left corner."""

    tile: str
    row: int
    column: int

    def window(self, size):
        """Return the index of the window in an array (y, x, …)."""
        return np.s_[self.row : self.row + size, self.column : self.column + size]


def grid_patches(shapes, size):
    """Return every non-overlapping patch in order, tile by tile, row by row.

    Parameters
    ----------
    shapes : dict of str to (int, int)
        Tile name -> height and width, in pixels; rests smaller than a patch are left out.
    size : int
        Height and width of a patch, in pixels.

    Examples
    --------
    >>> grid_patches({"ALP1-0003": (64, 100)}, 32)[-1]
    Patch(tile='ALP1-0003', row=32, column=64)
    """
    return [
        Patch(tile, row, column)
        for tile, (height, width) in shapes.items()
        for row in range(0, height - size + 1, size)
        for column in range(0, width - size + 1, size)
    ]


def random_patches(shapes, size, count, rng):
    """Draw patches: a tile uniformly at random, then a corner uniformly at random."""
    tiles = list(shapes)
    drawn = [tiles[i] for i in rng.integers(len(tiles), size=count)]
    return [Patch(tile, *(int(rng.integers(s - size + 1)) for s in shapes[tile])) for tile in drawn]


def batches_per_epoch(shapes, size, batch_size):
    """Return the published length of an epoch, 2 floor(N / batch) with N whole patches; least 1."""
    return max(1, 2 * (len(grid_patches(shapes, size)) // batch_size))


class Augmentation(NamedTuple):
    """What happens to a patch: flips, then quarter turns, then a zoom into a square of it."""

    flip_y: bool = False
    flip_x: bool = False
    turns: int = 0
    square: tuple = None
    """Row, column and side of the square, in pixels; None leaves the patch as large as it is."""

    @classmethod
    def draw(cls, size, rng):
        """Draw as published: each flip p 0.5, a turn p 0.75, a square of 80-100 % p 0.5."""
        flip_y, flip_x = rng.random(2) < 0.5
        turns, square = int(rng.integers(4)), None
        if rng.random() < 0.5:
            side = round(size * rng.uniform(0.8, 1.0))
            square = (*(int(v) for v in rng.integers(size - side + 1, size=2)), side)
        return cls(flip_y, flip_x, turns, square)

    def apply(self, array, out):
        """Write the augmented (y, x, band) array to `out`, of the same shape, in as few passes.

        Flips and turns cost little: they say in which order `out` is written. As every place of
        the square is as likely as its mirror images, it is cut out first.
        """
        out = np.rot90(out, -self.turns)[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        if self.square:
            row, column, side = self.square
            resize(array[row : row + side, column : column + side], out)
        else:
            _pixels(out)[...] = _pixels(array)


def resize(array, out):
    """Write a square (y, x, band) array bilinearly resized to `out`, a square of another size.

    Both are float32. Pixel centres lie at half integers; beyond the outermost, values are repeated.
    Along y, then x: each time as a product with a sparse matrix, from the left.
    """
    length, size, bands = len(array), len(out), out.shape[2]
    weights, strips = _bilinear(length, size)
    columns, out = np.ascontiguousarray(array).reshape(length, -1), _pixels(out)
    for first, strip in zip(range(0, size, ROWS), strips, strict=True):
        rows = _pixels((strip @ columns).reshape(-1, length, bands))
        turned = np.ascontiguousarray(rows.T).view(np.float32).reshape(length, -1)
        turned = (weights @ turned).reshape(size, -1, bands)
        out[first : first + ROWS] = _pixels(turned).T


def _pixels(array):
    """Return an array (y, x, band) as (y, x), all bands of a pixel copied as one element."""
    return array.view(np.dtype((np.void, array.itemsize * array.shape[2])))[..., 0]


@lru_cache(maxsize=256)
def _bilinear(length, size):
    """Return the sparse matrix (size, length) that interpolates linearly, whole and in strips."""
    position = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    below = np.minimum(position.astype(int), max(length - 2, 0))
    weight = position - below
    columns = np.stack([below, np.minimum(below + 1, length - 1)], 1).ravel()
    values = np.stack([1 - weight, weight], 1).ravel().astype(np.float32)
    matrix = csr_matrix((values, columns, np.arange(0, 2 * size + 1, 2)), shape=(size, length))
    return matrix, [matrix[first : first + ROWS] for first in range(0, size, ROWS)]


class PatchSequence(keras.utils.PyDataset):
    """Batches of patches of tiles for `keras.Model.fit`; `close` it afterwards.

    Of random patches there is no end, so that `fit` needs `steps_per_epoch`. Each batch is
    ``(inputs, labels, weights)``: float32 arrays (batch, size, size, bands) by source, the one-hot
    label (batch, size, size, classes) and the weight (batch, size, size), 1 where a pixel is
    labelled and 0 elsewhere, both once per head of the network.

    Parameters
    ----------
    tiles : Tiles
        The tiles to read from.
    inputs : iterable of str
        The sources to read.
    size, batch_size : int
        Height and width of a patch in pixels; patches in a batch.
    heads : tuple of str
        Names of the network's outputs.
    random : bool
        True draws and augments patches at random, without end (training); False walks over every
        non-overlapping patch in order (validation).
    seed, epoch : int
        Of the random draws: batch `index` is the one of ``epoch + index // steps`` in the place
        ``index % steps``. So it does not matter when Keras draws ahead, or twice.
    steps : int, optional
        Batches in an epoch of random patches, by default the published `batches_per_epoch`.
    threads : int, optional
        Batches made at once, ahead of the one asked for; by default one per core, at most 8.
    on_device : bool, optional
        Whether JAX augments, and the batches are its arrays; by default for training on a GPU.
    devices : int
        Devices that share a batch: one with fewer patches than a multiple of them is filled up with
        patches of zeros, no pixel of which has a weight.
    """

    def __init__(
        self,
        tiles,
        inputs,
        size,
        batch_size,
        heads,
        *,
        random,
        seed=0,
        epoch=0,
        steps=None,
        threads=None,
        on_device=None,
        devices=1,
    ):
        super().__init__()
        self.tiles, self.inputs = tiles.unpacked(), list(inputs)
        self.size, self.batch_size = size, batch_size
        self.heads, self.random, self.seed, self.epoch = heads, random, seed, epoch
        self.shapes = {name: tiles.shape(name) for name in tiles}
        self.grid = None if random else grid_patches(self.shapes, size)
        self.on_device = random and on_gpu_of_jax() if on_device is None else on_device
        self.steps = steps or batches_per_epoch(self.shapes, size, batch_size)
        self.devices = devices
        threads = threads or min(cores(), 8)
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="patches")
        self.ahead, self.drawn = threads + 1, {}
        bands = [tiles.sources[source] for source in self.inputs]
        shapes = [(size, size, n) for n in (*bands, CLASSES)] + [(size, size)]
        self.memory = Memory(shapes, self._filled(batch_size), self.ahead)

    def __len__(self):
        return self.steps if self.random else -(-len(self.grid) // self.batch_size)

    @property
    def num_batches(self):
        """What Keras may draw: no end in training, where `fit` is told the steps of an epoch."""
        return None if self.random else len(self)

    def __getitem__(self, index):
        end = index + self.ahead if self.random else min(index + self.ahead, len(self))
        kept = {i: batch for i, batch in self.drawn.items() if index <= i < end}
        self.drawn = {i: kept.get(i) or self.pool.submit(self.make, i) for i in range(index, end)}
        return self.drawn.pop(index).result()

    def close(self):
        """End the threads, and let go of the tiles and of batches that were made ahead.

        Keras may keep the sequence itself for as long as the process lives.
        """
        self.pool.shutdown(cancel_futures=True)
        self.drawn, self.tiles, self.memory = {}, None, None

    def make(self, index):
        """Read and augment a batch."""
        patches, rng = self.plan(index), self._rng(index, 1)
        changes = [
            Augmentation.draw(self.size, rng) if self.random else Augmentation() for _ in patches
        ]
        *arrays, weights = self.memory.arrays(self._filled(len(patches)))
        for array in (*arrays, weights):
            array[len(patches) :] = 0
        variables = [*self.inputs, "groundtruth"]
        for i, (patch, change) in enumerate(zip(patches, changes, strict=True)):
            for variable, array in zip(variables, arrays, strict=True):
                values = self.tiles.read(patch.tile, variable, patch.window(self.size))
                (Augmentation() if self.on_device else change).apply(values, array[i])
            if not self.on_device:
                # summed by class: NumPy is slow to sum over an axis this short
                weights[i] = sum(np.moveaxis(arrays[-1][i], -1, 0)) > 0.999
        if self.on_device:
            from glavitu.device_augmentation import augmented

            *arrays, weights = augmented(arrays, changes)
        *sources, labels = arrays
        return (
            dict(zip(self.inputs, sources, strict=True)),
            dict.fromkeys(self.heads, labels),
            dict.fromkeys(self.heads, weights),
        )

    def _filled(self, count):
        """Return how many patches there are with those that fill a batch up for the devices."""
        return -(-count // self.devices) * self.devices

    def plan(self, index):
        """Return the patches of a batch."""
        if self.random:
            return random_patches(self.shapes, self.size, self.batch_size, self._rng(index, 0))
        return self.grid[index * self.batch_size : (index + 1) * self.batch_size]

    def _rng(self, index, purpose):
        epochs, step = divmod(index, self.steps)
        return np.random.default_rng([self.seed, self.epoch + epochs, step, purpose])
