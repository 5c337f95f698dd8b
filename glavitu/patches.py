"""Which patches a network sees, and how they become batches.

First plan (pure, from tile shapes alone), then read, then augment. A batch is a function of
(seed, epoch, index) whatever the number of threads.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from glavitu.backend import keras


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


def augment(arrays, rng):
    """Flip, turn and zoom arrays (y, x, band) of one square patch alike.

    Vertical flip (p 0.5), horizontal flip (p 0.5), rotation by 90, 180 or 270 degrees (p 0.75), and
    (p 0.5) a square crop of 80-100 % of the side at a random place, scaled back bilinearly.
    """
    flip_y, flip_x = rng.random(2) < 0.5
    turns = rng.integers(4)
    if flip_y:
        arrays = [array[::-1] for array in arrays]
    if flip_x:
        arrays = [array[:, ::-1] for array in arrays]
    arrays = [np.rot90(array, turns) for array in arrays]
    if rng.random() < 0.5:
        size = arrays[0].shape[0]
        side = int(round(size * rng.uniform(0.8, 1.0)))
        row, column = rng.integers(size - side + 1, size=2)
        crop = np.s_[row : row + side, column : column + side]
        arrays = [resize(array[crop], size) for array in arrays]
    return [np.ascontiguousarray(array) for array in arrays]


def resize(array, size):
    """Resize (y, x, band) bilinearly to size x size pixels, with pixel centres at half integers."""
    for axis in (0, 1):
        length = array.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        below = np.minimum(position.astype(int), max(length - 2, 0))
        weight = (position - below).astype(np.float32)
        weight = weight.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        low = np.take(array, below, axis)
        array = low + weight * (np.take(array, np.minimum(below + 1, length - 1), axis) - low)
    return array


class PatchSequence(keras.utils.PyDataset):
    """Batches of patches of tiles for `keras.Model.fit`.

    Each batch is ``(inputs, labels, weights)``: float32 arrays (batch, size, size, bands) by
    source, the one-hot label (batch, size, size, classes) and the weight (batch, size, size), 1
    where a pixel is labelled and 0 elsewhere, both once per head of the network.

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
    threads : int
        Batches made at once, ahead of the one asked for.
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
        threads=2,
    ):
        super().__init__()
        self.tiles, self.inputs, self.size, self.batch_size = tiles, list(inputs), size, batch_size
        self.heads, self.random, self.seed, self.epoch = heads, random, seed, epoch
        self.shapes = {name: tiles.shape(name) for name in tiles}
        self.grid = None if random else grid_patches(self.shapes, size)
        self.steps = steps or batches_per_epoch(self.shapes, size, batch_size)
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="patches")
        self.ahead, self.drawn = threads + 1, {}

    def __len__(self):
        return self.steps if self.random else -(-len(self.grid) // self.batch_size)

    @property
    def num_batches(self):
        """What Keras may draw: no end in training, where `fit` is told the steps of an epoch."""
        return None if self.random else len(self)

    def __getitem__(self, index):
        end = index + self.ahead if self.random else min(index + self.ahead, len(self))
        kept = {i: batch for i, batch in self.drawn.items() if index <= i < end}
        self.drawn = {
            i: kept.get(i) or self.threads.submit(self.make, i) for i in range(index, end)
        }
        return self.drawn.pop(index).result()

    def make(self, index):
        """Read, augment and stack a batch."""
        patches = [self._read(patch) for patch in self.plan(index)]
        if self.random:
            rng = self._rng(index, 1)
            patches = [augment(arrays, rng) for arrays in patches]
        *sources, labels = (np.stack(arrays) for arrays in zip(*patches, strict=True))
        weights = (labels.sum(-1) > 0.999).astype(np.float32)
        return (
            dict(zip(self.inputs, sources, strict=True)),
            dict.fromkeys(self.heads, labels),
            dict.fromkeys(self.heads, weights),
        )

    def plan(self, index):
        """Return the patches of a batch."""
        if self.random:
            return random_patches(self.shapes, self.size, self.batch_size, self._rng(index, 0))
        return self.grid[index * self.batch_size : (index + 1) * self.batch_size]

    def _rng(self, index, purpose):
        epochs, step = divmod(index, self.steps)
        return np.random.default_rng([self.seed, self.epoch + epochs, step, purpose])

    def _read(self, patch):
        window = patch.window(self.size)
        return [self.tiles.read(patch.tile, v, window) for v in (*self.inputs, "groundtruth")]
