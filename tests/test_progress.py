"""Bars where nobody watches them."""

import time

from tqdm import tqdm

from glavitu import progress


def test_in_a_log_each_drawing_of_a_bar_is_a_line(monkeypatch, capsys):
    monkeypatch.setattr(
        progress, "tqdm", lambda *a, **k: tqdm(*a, **k | {"mininterval": 0, "delay": 0})
    )
    for _ in progress.progress(range(3), description="work"):
        time.sleep(0.01)
        progress.say("between")
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) >= 3 and all(line.startswith("work: ") for line in lines)
    assert captured.out == "between\n" * 3
