"""A full disk gives one line and status 2; what was there stays, and the same command goes on."""

import os
import resource
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
import yaml
from test_mapping import make_scene

from glavitu.__main__ import main
from glavitu.demo_data import make_demo_data
from glavitu.files import replacing
from glavitu.geotiffs import to_dataarray, write_raster
from glavitu.hdf5_writing import creating, write_netcdf
from glavitu.mapping_outputs import _read_all


@pytest.fixture
def limit():
    """Return a function that limits the size of files, which acts as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_hdf5(path, values):
    with creating(path) as file:
        for i, row in enumerate(values):  # small ones, which HDF5 keeps until it closes the file
            file[f"{i}"] = row


def write_nc(path, values):
    write_netcdf(xr.Dataset({"a": (("y", "x"), values)}), path)


def write_tif(path, values):
    write_raster(path, to_dataarray(values[None], (30, 0, 0, 0, -30, 0), "EPSG:32632"))


@pytest.mark.parametrize("write", [write_hdf5, write_nc, write_tif])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_file_that_finds_no_room_is_told_and_the_old_one_stays(write, share, limit, tmp_path):
    values = np.random.default_rng(0).random((200, 100))
    path = tmp_path / "a.tif"
    write(path, values[:3])
    old, scratch = path.read_bytes(), tmp_path / "b.tif"
    write(scratch, values)
    size = scratch.stat().st_size
    scratch.unlink()
    limit(int(share * size))
    with pytest.raises(OSError) as told:
        write(path, values)
    assert told.value.filename == str(path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]
    limit(2 * size)
    write(path, values)
    assert path.stat().st_size == size


def test_a_file_whose_disk_fills_up_stops_at_the_next_flush(limit, tmp_path):
    limit(10_000)
    with pytest.raises(OSError, match="File too large"), creating(tmp_path / "a.hdf5") as file:
        file["a"] = np.zeros(5000)
        file.flush()
        pytest.fail("went on")


def test_the_command_line_says_how_to_go_on(limit, tile_table, tmp_path, monkeypatch, capsys):
    arguments = ["glavitu", "compile", tile_table, tmp_path / "out", "--patch-size", "64"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    limit(20_000)
    with pytest.raises(SystemExit) as exit:
        main()
    limit(10_000_000)  # pytest writes files, too
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1 and str(tmp_path / "out") in error
    assert error.endswith("File too large; make room, then the same command goes on from here\n")


def test_a_raster_that_lacks_a_block_is_not_taken_for_whole(tmp_path):
    write_tif(tmp_path / "a.tif", np.random.default_rng(0).random((600, 600)))
    _read_all(tmp_path / "a.tif")
    os.truncate(tmp_path / "a.tif", (tmp_path / "a.tif").stat().st_size - 1000)
    with pytest.raises(rasterio.errors.RasterioIOError), replacing(tmp_path / "b.tif") as part:
        shutil.copy(tmp_path / "a.tif", part)
        _read_all(part)
    assert not (tmp_path / "b.tif").exists()


def sizes_in(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk"
)
@pytest.mark.parametrize("command", ["demo-data", "compile", "train", "predict", "map"])
def test_a_command_on_a_small_disk_stops_in_one_line_and_goes_on(command, tiny_profile, tmp_path):
    """On disks of several sizes, up to almost enough."""
    here, disk = tmp_path / "here", tmp_path / "disk"
    disk.mkdir()
    data = make_demo_data(here / "data", tile_size=48, tiles_per_region=3, regions=["ALP", "CA"])
    scene, _ = make_scene(here / "scene", 200, 200)
    parameters = {k: v for k, v in tiny_profile.as_dict().items() if k != "name"}
    profile = here / "tiny.yaml"
    profile.write_text(yaml.safe_dump(parameters | {"sources": ["optical", "dem"]}))
    common = ["--profile", profile, "--data", data]
    arguments = {
        "demo-data": ["demo-data", "OUT/data", "--tile-size", 48, "--tiles-per-region", 3]
        + ["--regions", "ALP"],
        "compile": ["compile", data / "tiles.csv", "OUT", "--patch-size", 48],
        "train": ["train", "-m", "resunet", *common, "--out", "OUT"],
        "predict": ["predict", "-n", "resunet", *common, "--out", "OUT"],
        "map": ["map", "--weights", here / "mine/weights/resunet.weights.h5", "-o", "OUT/map"]
        + ["--optical", scene["optical"], "--dem", scene["dem"], "--own-scaling"],
    }

    def run(command, out):
        parts = [str(part).replace("OUT", str(out)) for part in arguments[command]]
        return subprocess.run(
            [sys.executable, "-m", "glavitu", *parts], capture_output=True, text=True
        )

    if command == "map":
        for sources in ("optical", "dem"):  # six and two bands, as those of the training
            tif = data / sources / "ALP1-0000.tif"
            shutil.copy(tif, scene[sources])
    if command in ("predict", "map"):
        assert run("train", here / "mine").returncode == 0
    whole = here / "whole"
    whole.mkdir()
    if command == "predict":
        shutil.copytree(here / "mine", whole, dirs_exist_ok=True)
    before = sizes_in(whole)
    assert (done := run(command, whole)).returncode == 0, done.stderr
    size = sizes_in(whole) - before
    failures = 0
    for share in (0.1, 0.4, 0.7, 0.9, 1.0, 1.1):
        bytes_ = int(before + share * size) + 20_000
        mount = ["mount", "-t", "tmpfs", "-o", f"size={bytes_}", "none", disk]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
        try:
            if command == "predict":
                shutil.copytree(here / "mine", disk, dirs_exist_ok=True)
            (disk / "old").write_text("old")
            stopped = run(command, disk)
            if stopped.returncode:
                failures += 1
                assert stopped.returncode == 2, stopped.stderr
                lines = stopped.stderr.splitlines()
                assert len(lines) == 1, stopped.stderr
                assert "No space left on device; make room, then the same" in lines[0]
            for path in disk.rglob("*.*5"):
                h5py.File(path).close()
            assert not list(disk.rglob(".part-*5")) and not list(disk.rglob(".lock*"))
            subprocess.run(["mount", "-o", "remount,size=500m", disk], check=True)
            assert (done := run(command, disk)).returncode == 0, done.stderr
            names = {p.relative_to(whole) for p in whole.rglob("*")}
            assert {p.relative_to(disk) for p in disk.rglob("*")} - names == {
                (disk / "old").relative_to(disk)
            }
        finally:
            subprocess.run(["umount", disk], check=True)
    assert failures >= 3
