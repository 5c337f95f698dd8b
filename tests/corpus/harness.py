"""Give glavitu a broken input and judge its answer."""

import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from tqdm import tqdm

SECONDS = 20  # of a processor that an answer may take; starting to train takes half of them
MEMORY = 4 << 30  # bytes of address space that an answer may add; TensorFlow takes some of it


class Case(NamedTuple):
    """One broken input."""

    name: str
    make: callable
    """From an empty folder to the command line, after writing the input there."""
    words: tuple
    """What the message must hold."""
    environment: dict = None
    """Variables of a process of its own; None runs in this one."""


class Answer(NamedTuple):
    status: int
    error: str
    """What came on stderr."""
    seconds: float


def run(arguments):
    """Run a command line in this process, its memory limited."""
    from glavitu.__main__ import main

    logging.getLogger("tensorflow").setLevel("ERROR")  # it remarks on many trainings in a process
    before, argv = time.process_time(), sys.argv
    sys.argv = ["glavitu", *map(str, arguments)]
    try:
        with (
            _caught_stderr() as caught,
            redirect_stdout(StringIO()),
            _little_memory(),
            patch.object(tqdm, "display"),  # a machine that is busy shows bars, too
        ):
            main()
    except SystemExit as exit:
        status = exit.code or 0
    finally:
        sys.argv = argv
    return Answer(status, caught[0], time.process_time() - before)


@contextmanager
def _caught_stderr():
    """Catch what Python and native code write to stderr; it is the list's one item in the end."""
    caught, stderr = [], os.dup(2)
    with tempfile.TemporaryFile("w+", encoding="utf-8", buffering=1, newline="") as file:
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stderr(file):
                yield caught
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            caught.append(file.read())


@contextmanager
def _little_memory():
    if not Path("/proc/self/statm").exists():
        yield
        return
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def run_process(arguments, environment):
    """Run a command line in a process of its own."""
    before = _children_time()
    done = subprocess.run(
        [sys.executable, "-m", "glavitu", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    return Answer(done.returncode, done.stderr, _children_time() - before)


def _children_time():
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def judge(case, folder):
    """Return the message that a case is answered by, and what is wrong with the answer."""
    arguments = case.make(folder)
    before = _tree(folder)
    try:
        if case.environment is None:
            answer = run(arguments)
        else:
            answer = run_process(arguments, case.environment)
    except Exception as error:
        return "", [f"{type(error).__name__}: {error}"]
    wrong = [] if answer.status == 2 else [f"status {answer.status}"]
    shown = re.sub(r"[^\n]*\r", "", answer.error)  # without bars that were cleared
    if not shown.startswith("error: ") or shown.count("\n") != 1:
        wrong.append("not one line")
    wrong += [f"lacks {word!r}" for word in case.words if word not in shown]
    if answer.seconds > SECONDS:
        wrong.append(f"took {answer.seconds:.0f} s")
    if (after := _tree(folder)) != before:
        wrong.append(f"changed {sorted(str(p) for p, _ in after ^ before)}")
    message = shown.strip().removeprefix("error: ")
    for place in (folder, Path.cwd()):
        message = message.replace(f"{place}/", "").replace(str(place), ".")
    return message, wrong


def _tree(folder):
    return {
        (path.relative_to(folder), path.lstat().st_mtime_ns if path.is_file() else "folder")
        for path in folder.rglob("*")
    }
