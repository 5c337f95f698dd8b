"""The study from data to figures: the notebooks, run in order by papermill."""

import builtins
import hashlib
import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from glavitu import band_ratio
from glavitu.errors import InputError, lack_of_memory
from glavitu.files import locked, remove_left_locks, scratch
from glavitu.notebook_stamps import finish, holds, make_stamp, stamp_of
from glavitu.outputs import Outputs
from glavitu.profiles import SCENE_OPTIONS, UNFINISHED, load_profile
from glavitu.progress import AS_LINES, say
from glavitu.provenance import fingerprint
from glavitu.tiles import SPLITS, find_split, open_tiles

PACKAGE = Path(__file__).parent
NOTEBOOKS = PACKAGE.parent / "notebooks"


class StudyError(Exception):
    """A notebook that failed: says which, in which cell, and why."""


def run_study(profile="demo", *, data=None, out=None, seed=None, overwrite=False):
    """Run the notebooks in order, 02 and 03 once per training; skip what is up to date.

    Parameters
    ----------
    profile : str or Path
        The parameters of the study: the name of a profile, or a YAML file.
    data : str or Path, optional
        Folder of the tile files; by default the profile's, made if it is missing and can be.
    out : str or Path, optional
        Folder for all that comes out, by default ``runs/PROFILE``.
    seed : int, optional
        Instead of the profile's.
    overwrite : bool
        Whether to replace trainings in `out` that were made with other settings or data.

    Raises
    ------
    InputError
        For a profile, data or a scene that cannot be used, or trainings of another study in `out`.
    StudyError
        When a notebook fails.
    """
    if not NOTEBOOKS.is_dir():
        raise InputError(f"no notebooks at {NOTEBOOKS}; run a study from a clone of the repository")
    name = str(profile)
    profile = load_profile(profile).with_changes(seed=seed)
    data, out = ready_folders(profile, data, out)
    with locked(out / "study"):
        try:
            _run(name, profile, data, out, overwrite)
        finally:
            remove_left_locks(out)  # of kernels that an interrupt ended


def _run(name, profile, data, out, overwrite):
    """Run those notebooks that are not up to date."""
    if name.endswith((".yaml", ".yml")):
        name = str(Path(name).absolute())
    common = {"profile": name, "data": str(data), "out": str(out)}
    key = _digest(
        *(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))),
        json.dumps(profile.as_dict(), sort_keys=True, default=str),  # a date is none of JSON's
        *(fingerprint(find_split(data, split)) for split in SPLITS),
    )
    scene = _scene_files(profile, data)  # before the work, for one that is missing
    known = set()
    for notebook, parameters, inputs, results in _steps(profile, data, out, scene):
        source = NOTEBOOKS / f"{notebook}.ipynb"
        suffix = f"_{parameters['name']}" if "name" in parameters else ""
        target = out / "notebooks" / f"{notebook}{suffix}.ipynb"
        key = _digest(
            key,
            source.read_text(encoding="utf-8"),
            json.dumps(parameters),
            *(fingerprint(path) for path in inputs),
        )
        if (stamp := stamp_of(target)) and holds(stamp, key, out, results, known):
            say(f"{target.stem}: up to date")
        else:
            started = time.perf_counter()
            say(f"{target.stem}:")
            given = common | parameters
            if notebook == "02_train":  # which changes no result, so it is in no key
                given["overwrite"] = overwrite
            with scratch(out / ".jupyter") as folder, _kernels_environment(folder):
                _execute(source, target, given)
            stamp = make_stamp(key, out, results, known)
            finish(target, stamp)
            say(f"{target.stem}: done in {time.perf_counter() - started:.0f} s")
        known |= set(stamp["results"])
        if "name" in parameters:  # what follows uses what a training and its test left
            key = _digest(key, json.dumps(stamp, sort_keys=True))
    if notebook != "05_map_a_scene":
        say("05_map_a_scene: not run, as the profile names no scene")
    say(f"results: {out / 'results.csv'}, {out / 'tables'}, {out / 'figures'}")


def _scene_files(profile, data):
    """Return the files of the profile's scene, and masks and the like beside them.

    One missing that is used is refused.
    """
    if not profile.scene:
        return []
    from glavitu.local_rasters import files_of  # with GDAL, which most do not need

    rasters, options = scene_to_map(profile, None)
    files = rasters | {key: options[key] for key in ("reference",) if key in options}
    sources = open_tiles(find_split(data, "train")).sources
    used = {"reference", *sources}
    for source, path in files.items():
        if source in used and not path.is_file():
            raise InputError(
                f"profile {profile.name}: no file at {path}, the {source} of its scene"
            )
    taken = [set(run.sources or profile.select(sources)) for run in profile.runs()]
    if not any(inputs <= set(rasters) for inputs in taken):
        lacking = sorted(min((inputs - set(rasters) for inputs in taken), key=len))
        raise InputError(
            f"profile {profile.name}: its scene lacks {', '.join(lacking)}, so that no network of "
            f"the study can map it; it names {', '.join(rasters)}"
        )
    return [each for path in files.values() if path.is_file() for each in files_of(path)]


def default_folders(profile, data, out):
    """Return the folders of the data and of the results; empty means the profile's.

    In the folder of the notebooks, relative ones are below the project's.
    """
    return _base() / (data or profile.data), _base() / (out or Path("runs", profile.name))


def ready_folders(profile, data, out):
    """Return `default_folders`, absolute; demo data are made where no folder of data is named."""
    make = not data
    data, out = (folder.absolute() for folder in default_folders(profile, data, out))
    return ensure_data(profile, data, make=make), out


def _base():
    here = Path.cwd()
    return here.parent if here == NOTEBOOKS else here


def scene_to_map(profile, out):
    """Return source -> raster of the profile's scene, and options of `map_scene` for it.

    A demo scene is made in `out` where the profile names none. Relative paths are from the
    project's folder; those of a YAML file are absolute when it is loaded.
    """
    if not profile.scene:
        from glavitu.demo_data import make_demo_scene

        scene = make_demo_scene(Path(out) / "scene", size=2 * profile.patch_size)
        return scene, {"reference": scene.pop("reference")}
    options = {key: value for key, value in profile.scene.items() if key in SCENE_OPTIONS}
    paths = {key: value for key, value in profile.scene.items() if key not in SCENE_OPTIONS}
    if "reference" in options:
        options["reference"] = NOTEBOOKS.parent / options["reference"]
    return {source: NOTEBOOKS.parent / path for source, path in paths.items()}, options


def ensure_data(profile, data, *, make=True):
    """Return the folder of the data, after making demo data if it is missing and `make` is true."""
    data = Path(data)
    found = data.exists() and any(path.name[0] != "." for path in data.iterdir())
    if not profile.demo_data or not make or (found and not (data / UNFINISHED).exists()):
        for split in SPLITS:
            find_split(data, split)
        return data
    from glavitu.demo_data import make_demo_data

    say(f"making demo data in {data}")
    return make_demo_data(data, **profile.demo_data, workers=None)


def _steps(profile, data, out, scene):
    """Yield the notebooks in order.

    Of each: its name, its parameters beyond the common ones, the files that it reads and no other
    does (those of the profile's `scene`), and what it leaves: files, and folders with all in them
    that no notebook before has left.
    """
    seed = {"seed": profile.seed}
    yield "01_data_exploration", {}, [], [out / "figures" / "data.png"]
    for run in profile.runs():
        files = Outputs(out, run.name)
        yield "02_train", run._asdict(), [], [files.weights, files.record, files.log]
        tested = {"architecture": run.architecture, "name": run.name}
        yield "03_test", tested, [], [out / "predictions" / run.name, files.calibration]
    made = ["results.csv", "results.json", "tables", "figures", f"predictions/{band_ratio.NAME}"]
    yield "04_results", seed, [], [out / name for name in made]
    if profile.scene or (data / "demo_data.json").exists():
        yield "05_map_a_scene", seed, scene, [out / "map", *([] if scene else [out / "scene"])]


@contextmanager
def _kernels_environment(folder):
    """Have kernels leave their files in a folder that is removed, also after they were killed.

    So no home is needed, nor does it matter what a user has IPython do at its start. Their bars
    come as lines, which papermill passes on.
    """
    before = dict(os.environ)
    os.environ |= {"JUPYTER_RUNTIME_DIR": str(folder), "IPYTHONDIR": str(folder), AS_LINES: "1"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _execute(source, target, parameters):
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel, not a user's
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            source,
            target,
            parameters,
            kernel_name="python3",
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            cwd=str(NOTEBOOKS),
            shutdown_kernel="immediate",  # without the tracebacks of an interrupt
            extra_arguments=["--log-level=CRITICAL"],
        )
    except PapermillExecutionError as error:
        why = lack_of_memory(error.ename, error.evalue) or f"{error.ename}: {error.evalue}"
        message = f"{target.stem} stopped in cell {error.exec_count}: {why} (see {target})"
        known = getattr(builtins, error.ename, StudyError)
        wrong_input = error.ename == "InputError" or issubclass(known, OSError)
        kind = InputError if wrong_input else StudyError
        raise kind(" ".join(message.split())) from None
    except DeadKernelError:
        raise StudyError(
            f"{target.stem} stopped: its process was ended, by the system where memory does not "
            "suffice; try smaller patches or batches"
        ) from None


def _digest(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
