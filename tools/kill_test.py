"""Kill every command at random moments, start it again, and compare with an undisturbed run.

    python tools/kill_test.py [--seed 0] [--out runs/kills]
    python tools/publish.py runs/kills figures

Half of the kills come after a random time, half when a random file appears, changes or goes. After
each, every file that looks whole must be; after the command was run to its end, all files must
equal those of an undisturbed run, whatever says when and how long aside, and nothing else may be
left. It takes about a quarter of an hour, and ends with status 1 if anything is amiss.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import h5py
import nbformat
import numpy as np
import pandas as pd
import rasterio
import yaml

from glavitu.demo_data import make_demo_scene
from glavitu.files import write_json
from glavitu.provenance import provenance
from glavitu.report import to_markdown

ROOT = Path(__file__).parents[1]
POLL = 0.01  # seconds
TIMES = ("seconds", "provenance", "minutes", "ms per patch")
PICTURED = (".png", ".ipynb", ".md")  # hold dates or times: are they there?
DATA = ["demo-data", "data", "--tile-size", "96", "--tiles-per-region", "9", "--regions", "ALP,CA"]
COMMON = ["--profile", "profile.yaml", "--data", "data", "--out", "."]
# Name -> the command, and how often it is killed.
COMMANDS = {
    "demo-data": (DATA, 4),
    "compile": (["compile", "data/tiles.csv", "compiled", "--patch-size", "96"], 5),
    "train": (["train", "-m", "glavitu", *COMMON], 6),
    "predict": (["predict", "-n", "glavitu", *COMMON], 5),
    "calibrate": (["calibrate", "-n", "glavitu", *COMMON], 4),
    "map": (
        ["map", "--weights", "weights/glavitu.weights.h5", "-o", "map", "--stride", "8"]
        + ["--optical", "scene/optical.tif", "--dem", "scene/dem.tif", "--sar", "scene/sar.tif"]
        + ["--reference", "scene/outlines.gpkg"],
        5,
    ),
    "study": (["study", "profile.yaml", "--data", "data", "--out", "."], 6),
}
INPUTS = {"demo-data": [], "compile": ["data"], "train": ["data"], "study": ["data"]}
INPUTS |= {"predict": ["data", "weights"], "calibrate": ["data", "weights"]}
INPUTS |= {"map": ["weights", "scene"]}


def write_profile(path):
    """Write a profile that trains for some seconds."""
    smoke = yaml.safe_load((ROOT / "profiles/smoke.yaml").read_text())
    smoke |= {"architectures": ["glavitu"], "epochs": 12, "steps": 12, "stop_patience": 12}
    path.write_text(yaml.safe_dump(smoke | {"demo_data": {}, "stride": 4}))


def start(command, folder):
    """Start a command in a process group of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "glavitu", *command],
        cwd=folder,
        env=environment,
        text=True,
        stdout=open(folder.parent / "stdout", "w"),
        stderr=open(folder.parent / "stderr", "w"),
        start_new_session=True,
    )


def files_of(folder, hidden=False):
    """Return relative path -> size and time of change."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if hidden or name[0] != "."]
        for name in names:
            path = Path(parent, name)
            if hidden or name[0] != ".":
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue
                found[path.relative_to(folder).as_posix()] = stat.st_size, stat.st_mtime_ns
    return found


def watch(process, folder, stop):
    """Return how many times files changed before `stop(seconds, changes)` or the end, and when."""
    began, before, changes = time.monotonic(), files_of(folder, hidden=True), []
    while process.poll() is None:
        now = files_of(folder, hidden=True)
        if now != before:
            changes.append(time.monotonic() - began)
            before = now
        if stop(time.monotonic() - began, len(changes)):
            break
        time.sleep(POLL)
    return changes, time.monotonic() - began


def prepare(name, home):
    """Make the folder a command starts in anew; its inputs come from the commands before it."""
    folder = home / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_profile(folder / "profile.yaml")
    for part in INPUTS[name]:
        shutil.copytree(home / part, folder / part)
    return folder


def read(path):
    """Return what a file holds, without times; raises if it is not whole."""
    if path.suffix in (".h5", ".hdf5", ".nc"):
        found = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda key, item: found.update(
                    {
                        key: (np.asarray(item[()]).tobytes(), item.shape)
                        if hasattr(item, "shape")
                        else None
                    }
                    | {f"{key}@{k}": str(v) for k, v in item.attrs.items() if k[0] not in "_D"}
                )
            )
        return found
    if path.suffix == ".tif":
        with rasterio.open(path) as file:
            file.read()
        return path.read_bytes()
    if path.suffix == ".gpkg":
        return gpd.read_file(path).to_json()
    if path.suffix == ".csv":
        table = pd.read_csv(path)
        return table.drop(columns="seconds", errors="ignore").to_csv()
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".ipynb":
        nbformat.read(path, as_version=4)
    return None if path.suffix in PICTURED else path.read_bytes()


def timeless(content):
    """Return JSON without what tells times and commits."""
    if isinstance(content, dict):
        kept = {k: v for k, v in content.items() if not any(time in k for time in TIMES)}
        return {k: timeless(v) for k, v in kept.items()}
    return [timeless(v) for v in content] if isinstance(content, list) else content


def broken(folder):
    """Return the files that look whole and are not; a notebook says itself whether it is."""
    bad = []
    for name in files_of(folder):
        if not name.endswith(".ipynb"):
            try:
                read(folder / name)
            except Exception as error:
                bad.append(f"{name}: {error}")
    return bad


def differences(whole, cut):
    """Return the files that differ, are missing or are left over."""
    names = set(files_of(whole)) | set(files_of(cut, hidden=True))
    there = [n for n in names if (whole / n).exists() and (cut / n).exists()]
    other = [name for name in names if name not in there]
    return sorted(other + [name for name in there if read(whole / name) != read(cut / name)])


def finished_notebooks(folder):
    """Return the notebooks of a study that carry a stamp."""
    found = set()
    for path in folder.glob("notebooks/*.ipynb"):
        try:
            if "glavitu" in nbformat.read(path, as_version=4).metadata:
                found.add(path.stem)
        except (nbformat.reader.NotJSONError, json.JSONDecodeError):
            pass
    return found


def run_whole(command, folder):
    """Run a command to its end; return when files changed and how long it took."""
    process = start(command, folder)
    changes, seconds = watch(process, folder, lambda *_: False)
    if process.wait():
        raise SystemExit((folder.parent / "stderr").read_text())
    return changes, seconds


def try_command(name, home, draw):
    """Kill a command as often as is said; return a row of the table."""
    command, kills = COMMANDS[name]
    folder = prepare(name, home)
    changes, duration = run_whole(command, folder)
    whole = home / f"whole-{name}"
    shutil.rmtree(whole, ignore_errors=True)
    folder.rename(whole)
    for part in ("data", "weights"):
        if name in ("demo-data", "train") and (whole / part).exists():
            shutil.copytree(whole / part, home / part, dirs_exist_ok=True)
    final, given = len(files_of(whole)), len(files_of(prepare(name, home)))
    moments, progress, amiss, ends, early = [], [], [], 0, 0
    while len(moments) < kills:
        kill = len(moments)
        share = (kill + draw.random()) / kills * 0.7**early  # spread over the run
        at, after, pause = duration, 1 + int(share * len(changes)), draw.uniform(0, 0.05)
        if kill % 2 and changes:
            at = changes[0] * 0.8 + share * (duration - changes[0] * 0.8)
            after = float("inf")
        done = finished_notebooks(folder)
        process = start(command, folder)
        _, seconds = watch(process, folder, lambda s, n, at=at, after=after: s > at or n >= after)
        time.sleep(pause)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(round(seconds + pause, 1))
            progress.append((len(files_of(folder)) - given) / max(1, final - given))
            amiss += broken(folder)
            early = 0
        elif process.returncode:
            raise SystemExit(f"{name}: " + (home / "stderr").read_text())
        amiss += [f"{n} repeated" for n in done if f"{n}: up to date" not in said(home, n)]
        early += process.returncode == 0  # it ended before it could be killed
        if process.returncode == 0 or len(moments) == kills:
            run_whole(command, folder)
            amiss += differences(whole, folder)
            ends += 1
            folder = prepare(name, home)
    print(f"{name}: {kills} kills, {ends} ends, {amiss or 'equal'}", flush=True)
    return {
        "command": name,
        "undisturbed, s": round(duration, 1),
        "kills": kills,
        "killed after, s": ", ".join(f"{m:g}" for m in moments),
        "files whole by then": ", ".join(f"{share:.0%}" for share in progress),
        "runs to the end": ends,
        "equal": "no: " + "; ".join(amiss) if amiss else "yes",
    }


def said(home, notebook):
    """Return what the last study said, or what it would have if it did not get that far."""
    text = (home / "stdout").read_text()
    return text if notebook in text else f"{notebook}: up to date"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/kills")
    parser.add_argument(
        "--only", help="comma-separated names of commands; those whose files they use come first"
    )
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(COMMANDS)
    if unknown := [name for name in chosen if name not in COMMANDS]:
        parser.error(f"unknown command {unknown[0]!r}; known: {', '.join(COMMANDS)}")
    home = options.out.absolute() / "scratch"
    home.mkdir(parents=True, exist_ok=True)
    make_demo_scene(home / "scene", size=192)
    rows = []
    for name in chosen:  # what is done is stored, should the rest be cut off
        rows.append(try_command(name, home, random.Random(f"{options.seed} {name}")))
        table = pd.DataFrame(rows)
        total = f"\n{table['kills'].sum()} kills, seed {options.seed}.\n"
        (options.out / "kills.md").write_text(to_markdown(table) + total, encoding="utf-8")
        record = {"seed": options.seed, "rows": rows, "provenance": provenance()}
        write_json(options.out / "kills.json", record)
    shutil.rmtree(home)
    sys.exit(not (table["equal"] == "yes").all())
