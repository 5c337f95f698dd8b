"""Predict a scene by rows of windows, here or by dask workers, in little memory.

Each row gives sums of weighted probabilities over its strip; adding the strips in order, on one
machine or many, gives the same sums whoever made them. What is final is appended to one file, so
that memory is bounded and a mapping that was cut off goes on from there.
"""

from contextlib import contextmanager, suppress

import numpy as np
import rasterio
from rasterio.windows import Window

from glavitu.errors import InputError
from glavitu.files import naming, read_json, write_json
from glavitu.mapping_settings import RAW, changed_files, decisive, placed
from glavitu.progress import progress, say
from glavitu.strips import predict_strip, scene_starts

ROWS = 256  # of a raster read or written at once


def remove_parts(out, recipe):
    """Remove what the map goes on from; say so where another map that was cut off needs it."""
    raw = out / RAW
    if raw.exists() and not _is_begun(raw, recipe):
        say(f"{out.name}: a map with other settings was begun, and goes on when given them")
        return
    for path in (raw, raw.with_suffix(".json")):
        path.unlink(missing_ok=True)


def _is_begun(raw, recipe):
    """Tell whether the probabilities so far are of this recipe."""
    settings = raw.with_suffix(".json")
    with suppress(InputError):  # cut short
        return settings.exists() and read_json(settings) == decisive(recipe)
    return False


def reuse(scene, out, recipe):
    """Have a map go on from the probabilities of the one it replaces, if settings gave the same.

    Rows that cannot be read are left to be predicted again. Returns the record of the map that is
    replaced, None where nothing is used of it.
    """
    raw, map_ = out / RAW, out / "probability.tif"
    if not ((out / "map.json").exists() and map_.exists()):
        return None
    record = read_json(out / "map.json", "recipe")
    if changed_files(out, record, [map_.name]):
        return None
    if decisive(placed(record["recipe"], recipe)) != decisive(recipe):
        return None
    height, width = scene.shape
    with suppress(rasterio.errors.RasterioIOError), rasterio.open(map_) as old:
        if old.shape != scene.shape:
            return None
        say(f"{out.name}: its probabilities are used again")
        with naming(raw), open(raw, "wb") as file:
            write_json(raw.with_suffix(".json"), decisive(recipe))
            for row in range(0, height, ROWS):
                window = Window(0, row, width, min(ROWS, height - row))
                file.write(old.read(1, window=window).tobytes())
    return record


def predict_scene(job, scene, out, recipe, client):
    """Write the blended probabilities as raw float32 (y, x), NaN without data; return the path."""
    raw = out / RAW
    out.mkdir(parents=True, exist_ok=True)
    if not _is_begun(raw, recipe):
        if raw.exists():
            say(f"{out.name}: begun anew, as the map that was cut off had other settings")
            raw.unlink()
        write_json(raw.with_suffix(".json"), decisive(recipe))
    height, width = scene.shape
    starts = scene_starts(height, job.size, job.stride)
    with naming(raw), open(raw, "ab") as file:
        done = file.tell() // (4 * width)
        file.truncate(done * 4 * width)
        if 0 < done < height:
            say(f"{out.name}: goes on where it was cut off, {done / height:.0%} are done")
        # Also those windows before the first missing row that reach over it.
        rows = [row for row in starts if row + job.size > done < height]
        total = np.zeros((2, job.size, width), np.float32)  # weighted probabilities and weights
        bar = progress(
            _strips(job, rows, client),
            description="map",
            total=len(starts),
            initial=len(starts) - len(rows),
            unit="row",
        )
        for row, (sums, valid) in zip(rows, bar, strict=True):
            total += sums
            following = next((start for start in starts if start > row), height)
            first, end = max(row, done) - row, min(following, height) - row
            if first < end:
                final = total[:, first:end]
                with np.errstate(invalid="ignore"):
                    probability = np.where(valid[first:end], final[0] / final[1], np.nan)
                file.write(probability.astype(np.float32).tobytes())
                file.flush()
            total = np.roll(total, -(following - row), axis=1)
            total[:, job.size - (following - row) :] = 0
    return raw


@contextmanager
def connected(scheduler):
    """Yield a dask client for an address; None and a client are yielded as they are."""
    if not isinstance(scheduler, str):
        yield scheduler
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError("a scheduler needs dask.distributed: pip install distributed") from None
    try:
        client = Client(scheduler, timeout="8s")
    except (OSError, ValueError) as error:
        raise InputError(f"no dask scheduler at {scheduler}: {error}") from None
    with client:
        yield client


def _strips(job, rows, client):
    """Yield the strips of rows of windows in order, made here or by dask workers."""
    if client is None:
        yield from (predict_strip(job, row) for row in rows)
        return
    waiting, ahead = [], 2 + 2 * sum(client.nthreads().values())
    for i in range(len(rows)):
        while len(waiting) < ahead and i + len(waiting) < len(rows):
            waiting.append(client.submit(predict_strip, job, rows[i + len(waiting)], pure=False))
        yield waiting.pop(0).result()
