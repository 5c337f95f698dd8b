"""Change valid inputs at random and see that each reader takes or refuses them, in one line.

    python tools/fuzz.py 640 [--seed 0] [--out runs/fuzzing]      # seconds in all
    python tools/publish.py runs/fuzzing figures
    python tools/fuzz.py 0 --reader "weight file" --index 7       # one input, in this process

A finding is an input that is answered by anything but success, `InputError` or `OSError`: another
exception, a crash of the process, memory beyond 4 GiB, or more than 10 s of a processor. Readers
run in a process of their own, so that a crash in GDAL or HDF5 is seen. Input `index` of a reader
depends on the seed alone. It ends with status 1 if anything is found.
"""

import argparse
import math
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from glavitu.errors import InputError  # noqa: E402
from glavitu.files import write_json  # noqa: E402
from glavitu.provenance import provenance  # noqa: E402
from glavitu.report import to_markdown  # noqa: E402

SECONDS = 10  # of a processor that a reader may take; others may use the machine, too
PATIENCE = 120  # seconds after which a reader is taken to wait for ever
SHOWN = 10  # findings of a reader
MEMORY = 4 << 30  # bytes of address space that it may add
TOKENS = [b"", b"\0", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"nan"]
TOKENS += [b"-1", b"1e999", b"9" * 30, b"\n", b"\r\n", b",", b'"', b"'", b"[", b"{", b": ", b"- "]
TOKENS += [b"../", b"/vsicurl/", b"http://", b"*a", b"&a", b"!!python/name:os", b"\xef\xbb\xbf"]


def read_csv(path):
    from glavitu.tile_tables import read_tile_table

    read_tile_table(path)


def read_yaml(path):
    from glavitu.profiles import load_profile

    load_profile(path).runs()


def read_tiles(path):
    from glavitu.tiles import open_tiles

    tiles = open_tiles(path)
    tiles.check(tiles.sources)
    tiles.check_values(tiles.sources)
    assert tiles.scaling is None or tiles.scaling
    for name, tile in tiles.items():
        tile.load()
        tiles.read(name, "groundtruth")


def read_geotiff(path):
    from glavitu.geotiffs import read_raster

    read_raster(path)


def read_scene(path):
    from glavitu.stacks import open_scene

    with open_scene({"optical": path}) as scene:
        scene.read(-1, -1, 8, 8)


def read_weights(path):
    from glavitu.weights import load_model

    load_model(path)


def read_record(path):
    from glavitu.mapping_settings import read_trained

    read_trained(path.with_name("mine.weights.h5"))


def read_netcdf(path):
    from glavitu.evaluation import count_probabilities, read_prediction, score

    prediction = read_prediction(path)
    score([prediction])
    count_probabilities(prediction)


def read_vectors(path):
    import geopandas as gpd
    from shapely import box

    from glavitu.agreement import compare_outlines
    from glavitu.inventories import read_outlines

    mapped = gpd.GeoDataFrame(geometry=[box(500_000, 4_999_000, 501_000, 5_000_000)], crs=32632)
    compare_outlines(mapped, read_outlines(path), within=mapped.geometry)


READERS = {  # name -> function, seed, its file
    "tiles.csv": (read_csv, "tile_table", "tiles.csv"),
    "profile": (read_yaml, "tile_files", "tiny.yaml"),
    "HDF5 tile file": (read_tiles, "tile_files", "data/train.hdf5"),
    "GeoTIFF tile": (read_geotiff, "tile_table", "dem_0.tif"),
    "raster of a scene": (read_scene, "tile_table", "optical_0.tif"),
    "weight file": (read_weights, "training", "weights/mine.weights.h5"),
    "record of a training": (read_record, "training", "weights/mine.json"),
    "prediction": (read_netcdf, "predictions", "predictions/mine/A-0.nc"),
    "outlines": (read_vectors, "scene", "outlines.gpkg"),
}


def mutate(data, rng):
    """Return bytes changed in one to eight places."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64, 512))
        kind = rng.randrange(7)
        if kind == 0 and data:  # bits
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:  # a byte
            data[at % len(data)] = rng.randrange(256)
        elif kind == 2:  # overwrite
            token = rng.choice(TOKENS)
            data[at : at + len(token)] = token
        elif kind == 3:  # insert
            data[at:at] = rng.choice((rng.choice(TOKENS), rng.randbytes(length)))
        elif kind == 4:  # remove
            del data[at : at + length]
        elif kind == 5:  # copy within
            source = rng.randrange(len(data) + 1)
            data[at : at + length] = data[source : source + length]
        elif rng.random() < 0.2:  # cut
            del data[at:]
    return bytes(data)


@cache
def _folder(seed):
    """Return a folder with the valid inputs of a seed, which lives as long as this process."""
    from tests.corpus import seeds

    folder = tempfile.TemporaryDirectory(prefix="glavitu-fuzz-")
    getattr(seeds, seed)(Path(folder.name))
    return folder


def attempt(reader, seed, index):
    """Let a reader read input `index`; return what came of it."""
    read, made, name = READERS[reader]
    path = Path(_folder(made).name) / name
    whole = path.read_bytes()
    path.write_bytes(mutate(whole, random.Random(f"{seed} {reader} {index}")))
    try:
        read(path)
        return "read"
    except (InputError, OSError):
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        path.write_bytes(whole)


def work(reader, seed, index, answers):
    """Attempt inputs from `index` on without end, and send each answer; run in its own process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    read, made, name = READERS[reader]
    read(Path(_folder(made).name) / name)  # what is valid is read; that also imports
    answers.send("ready")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    while True:
        until = math.ceil(time.process_time()) + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (until, most))
        answers.send(attempt(reader, seed, index))
        index += 1


def fuzz(reader, seed, seconds):
    """Return how many inputs were taken, refused and neither, and the findings by index."""
    context = multiprocessing.get_context("spawn")
    counts, findings, index, spent = Counter(), {}, 0, 0.0
    while spent < seconds:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(reader, seed, index, theirs), daemon=True)
        process.start()
        theirs.close()
        ours.recv()  # EOFError where what is valid cannot be read
        while spent < seconds:
            started = time.perf_counter()
            try:
                answer = ours.recv() if ours.poll(PATIENCE) else f"more than {PATIENCE} s"
            except EOFError:
                process.join()
                answer = f"ended with {process.exitcode}"
                if process.exitcode == -signal.SIGXCPU:
                    answer = f"more than {SECONDS} s of a processor"
            spent += time.perf_counter() - started
            if answer not in ("read", "refused"):
                findings[index] = answer
            counts[answer if answer in ("read", "refused") else "finding"] += 1
            index += 1
            if answer.startswith(("ended", "more")):
                break
        process.kill()
        process.join()
    return counts, findings, spent


def report(results, seed, out):
    """Write the table of readers, and the findings below it."""
    rows, found = [], []
    for reader, (counts, findings, spent) in results.items():
        rows.append({"reader": reader, "inputs": sum(counts.values()), "seconds": round(spent)})
        rows[-1] |= {"read": counts["read"], "refused in one line": counts["refused"]}
        rows[-1]["findings"] = counts["finding"]
        found += [f"\n{reader}, input {i}: {text}\n" for i, text in [*findings.items()][:SHOWN]]
    table = pd.DataFrame(rows)
    text = (
        f"\n{table['inputs'].sum():,} inputs in {table['seconds'].sum():,} s, seed {seed}: valid "
        "files changed at random in one to eight places. A finding is anything but success or one "
        f"line: another exception, a crash, {MEMORY >> 30} GiB more, {SECONDS} s of a processor.\n"
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "fuzzing.md").write_text(to_markdown(table) + "".join(found) + text, encoding="utf-8")
    write_json(out / "fuzzing.json", {"seed": seed, "rows": rows, "provenance": provenance()})


def main():
    """Fuzz every reader, or one, or one input again; return the status to end with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/fuzzing")
    parser.add_argument("--reader", choices=READERS)
    parser.add_argument("--index", type=int)
    options = parser.parse_args()
    if options.index is not None and options.reader is None:
        parser.error("--index needs --reader")
    if options.index is not None:
        print(attempt(options.reader, options.seed, options.index))
        return 0
    folder = tempfile.TemporaryDirectory(prefix="glavitu-fuzz-")
    os.environ["TMPDIR"] = folder.name  # of the processes, some of which are killed
    results = {}
    for reader in [options.reader] if options.reader else READERS:
        results[reader] = fuzz(reader, options.seed, options.seconds / len(READERS))
        counts, findings, spent = results[reader]
        shown = [*findings.items()][:SHOWN]
        print(f"{reader}: {dict(counts)} in {spent:.0f} s", *shown, sep="\n", flush=True)
    if not options.reader:
        report(results, options.seed, options.out)
    return int(any(findings for _, findings, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main())
