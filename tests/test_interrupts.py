"""An interrupt gives one line and status 130, whatever is being imported, and leaves no process."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from glavitu.interrupts import held

LINE = "error: interrupted; the same command goes on from what is there"


def interrupt(arguments, moment, cwd):
    """Start a command; send SIGINT to all its processes, as a terminal does, at a moment.

    That is seconds, or a function that is true when it has come. Return status and lines of stderr.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "glavitu", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # also where the tests run in the background, which ignores interrupts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    if callable(moment):
        while process.poll() is None and not moment():
            time.sleep(0.02)
    else:
        time.sleep(moment)
    assert process.poll() is None, "the command ended before it could be interrupted"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    ends = time.monotonic() + 10  # for those that look after the others
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < ends:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    # Python dies of the signal itself where it came in code from a text, as that of a dataclass is,
    # though it was caught since; shells say 130 of both
    status = 130 if process.returncode == -signal.SIGINT else process.returncode
    return status, [line for line in errors.splitlines() if line]


@pytest.fixture
def training(tiny_data, tiny_profile, tmp_path):
    """Return the command line of a training that takes long."""
    content = {k: v for k, v in tiny_profile.as_dict().items() if k != "name"}
    profile = tmp_path / "tiny.yaml"
    profile.write_text(yaml.safe_dump(content | {"epochs": 10_000, "stop_patience": 10_000}))
    return ["train", "--profile", profile, "--data", tiny_data, "--out", tmp_path / "out"]


def test_an_interrupt_that_a_library_drops_is_raised_again():
    code = (
        "import signal, time, click\n"
        "from glavitu.running import run\n"
        "@click.command()\n"
        "def library():\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    except BaseException: time.sleep(1.5); print('cleaned up', flush=True)\n"
        "    time.sleep(60)\n"
        "    print('went on')\n"
        "run(library)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout) == (130, "cleaned up\n")
    assert done.stderr.strip() == "error: interrupted"


def test_an_interrupt_that_is_held_back_comes_after_the_block():
    done, ended = [], threading.Event()
    other = threading.Thread(target=ended.wait)  # which would take a signal that is blocked here
    other.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            with held():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
                done.append("block")
            done.append("after")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
        ended.set()
    assert done == ["block"]


def test_interrupts_are_only_held_where_they_are_handled():
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(_through_held).result() == "through"


def _through_held():
    with held():
        return "through"


@pytest.mark.parametrize("seconds", [1, 2])
def test_an_interrupt_while_tensorflow_is_imported(seconds, training, tmp_path):
    assert interrupt(training, seconds, tmp_path) == (130, [LINE])


def test_an_interrupt_while_processes_make_demo_data(tmp_path):
    made = tmp_path / "data" / "optical"
    arguments = ["demo-data", "data", "--regions", "ALP,CA,HMA", "--tile-size", 128]
    status, lines = interrupt(arguments, lambda: made.exists(), tmp_path)
    assert (status, lines) == (130, [LINE])
    assert not list((tmp_path / "data").rglob(".part-*"))


@pytest.mark.slow
def test_interrupts_at_random_moments_of_start_up_and_training(training, tmp_path):
    log = tmp_path / "out" / "logs" / "glavitu_log.csv"
    draw = random.Random(0)
    for _ in range(12):
        assert interrupt(training, draw.uniform(0.5, 6), tmp_path) == (130, [LINE])
    before = log.stat().st_mtime if log.exists() else 0
    later = lambda: log.exists() and log.stat().st_mtime > before  # noqa: E731
    assert interrupt(training, later, tmp_path) == (130, [LINE])


def kernels_of(folder):
    """Return the processes that run notebooks for a study in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = str(folder).encode() in (process / "environ").read_bytes()
            if mine and b"ipykernel" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            pass
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at other processes")
def test_an_interrupted_study_leaves_no_kernel_and_goes_on(tmp_path):
    out = tmp_path / "runs" / "smoke"
    arguments = ["study", "smoke"]
    seen = []

    def later():  # some seconds after another notebook's kernel started
        new = [kernel for kernel in kernels_of(out) if kernel not in seen]
        seen.extend(new)
        return bool(new) and (time.sleep(draw.uniform(0, 8)) or True)

    draw = random.Random(0)
    for _ in range(5):
        status, lines = interrupt(arguments, later, tmp_path)
        assert status == 130 and lines[-1] == LINE and not kernels_of(out), lines
        assert "Traceback" not in "".join(lines)
        assert not list(out.rglob(".lock-*"))
