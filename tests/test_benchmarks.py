"""Benchmarks and tools answer wrong arguments with one line and status 2, before any work."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ("gpu", "growth", "loader", "memory", "parity", "precision", "prediction", "scenes")
BENCHMARKS += ("start", "training")


@pytest.fixture
def answer(monkeypatch, capsys):
    """Return a function that runs a program without the data folders: status, output, errors."""

    def answer(program, *arguments):
        for name in ("GLAVITU_REFERENCE", "GLAVITU_REAL_DATA"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(program, run_name="__main__")
        captured = capsys.readouterr()
        return exit.value.code or 0, captured.out, captured.err

    return answer


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["start", "many"], "'many' is not a valid integer"),
        (["gpu", "0"], "0 is not in the range x>=1"),
        (["training", "0"], "0 is not in the range x>=1"),
        (["growth", "1000", "-5"], "-5"),
        (["start", "1", "2"], "unexpected extra argument (2)"),
        (["parity"], "GLAVITU_REFERENCE is None, expected a folder"),
        (["scenes", "tests", "tests"], "GLAVITU_REAL_DATA is None, expected a folder"),
        (["scenes", "none"], "'none' does not exist"),
        (["prediction", "none"], "'none' does not exist"),
        (["prediction", "tests"], "expected a tile file"),
    ],
)
def test_a_benchmark_that_cannot_run_says_why(arguments, told, answer):
    status, out, errors = answer("benchmarks/__main__.py", *arguments)
    assert (status, out) == (2, "") and told in errors and errors.count("\n") == 1, errors


def test_a_benchmark_says_what_else_to_install(answer, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)  # as where it is not installed
    status, _, errors = answer("benchmarks/__main__.py", "loader")
    assert status == 2 and "pip install opencv-python-headless" in errors


def test_without_a_name_the_help_is_shown_as_it_is(answer):
    status, _, errors = answer("benchmarks/__main__.py")
    assert status == 2 and "\n  memory " in errors and "error" not in errors


def test_help_lists_every_benchmark_with_what_it_measures(answer):
    status, out, _ = answer("benchmarks/__main__.py", "--help")
    assert status == 0
    for name in BENCHMARKS:
        assert any(line.split()[:1] == [name] and line.split()[1:] for line in out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["publish.py"], "SOURCE"),
        (["publish.py", "none", "figures"], "'none' does not exist"),
        (["publish.py", "tests", "figures"], "tests holds no results"),
        (["publish.py", "figures", "/elsewhere"], "/elsewhere is not below"),
        (["kill_test.py", "--only", "nonsense"], "unknown command 'nonsense'"),
        (["fuzz.py", "soon"], "'soon'"),
        (["fuzz.py", "0", "--index", "7"], "--index needs --reader"),
        (["dependency_sets.py", "--uv", "none"], "no program 'none'"),
        (["environments.py", "--nonsense"], "--nonsense"),
    ],
)
def test_a_tool_that_cannot_run_says_why(arguments, told, answer):
    status, out, errors = answer(f"tools/{arguments[0]}", *arguments[1:])
    assert (status, out) == (2, ""), errors
    assert told in errors.splitlines()[-1] and "Traceback" not in errors, errors


@pytest.mark.parametrize(("what", "value"), [("scene", 300), ("tiles", 1)])
def test_what_growth_is_measured_with_can_be_worked_on(what, value, tmp_path):
    from benchmarks.growth import prepare

    assert prepare(what, value, tmp_path)()
