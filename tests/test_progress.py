"""Bars where nobody watches them."""

import sys
import time
from types import SimpleNamespace

from tqdm import tqdm

from glavitu import progress


def test_in_a_log_each_drawing_of_a_bar_is_a_line(monkeypatch, capsys):
    monkeypatch.setattr("tqdm.tqdm", lambda *a, **k: tqdm(*a, **k | {"mininterval": 0, "delay": 0}))
    for _ in progress.progress(range(3), description="work"):
        time.sleep(0.01)
        progress.say("between")
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) >= 3 and all(line.startswith("work: ") for line in lines)
    assert captured.out == "between\n" * 3


def test_in_a_notebook_a_bar_is_one_output_that_is_empty_in_the_end(monkeypatch, capsys):
    shown = []

    def display(data, *, raw, display_id):
        shown.append([data])
        return SimpleNamespace(update=lambda data, *, raw: shown[-1].append(data))

    monkeypatch.setattr("tqdm.tqdm", lambda *a, **k: tqdm(*a, **k | {"mininterval": 0, "delay": 0}))
    shell = SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    for _ in progress.progress(range(3), description="work"):
        time.sleep(0.01)
    assert capsys.readouterr() == ("", "") and len(shown) == 1
    texts = [data["text/plain"] for data in shown[0]]
    assert texts[0].startswith("work:") and any("2/3" in text for text in texts)
    assert texts[-1] == ""
    monkeypatch.setenv(progress.AS_LINES, "1")
    assert list(progress.progress(range(3), description="work")) == [0, 1, 2]
    assert len(shown) == 1 and "work: " in capsys.readouterr().err
