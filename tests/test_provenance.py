"""Where results say they come from."""

import importlib.util
import os
import shutil
import subprocess

import pytest

from glavitu import provenance


@pytest.fixture
def repository(tmp_path):
    """Return a function that runs git in a repository of one's own."""

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", *who, *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / ".gitignore").write_text(".venv\n__pycache__\n")
    for folder in ("glavitu", ".venv/glavitu"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(provenance.__file__, tmp_path / folder)
    git("add", ".")
    git("commit", "-qm", "all")
    return git


def commit_seen_from(folder):
    spec = importlib.util.spec_from_file_location("copy", folder / "provenance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.commit()


def test_the_commit_is_that_of_the_own_checkout_alone(repository, tmp_path):
    head = repository("rev-parse", "--short=12", "HEAD")
    assert commit_seen_from(tmp_path / "glavitu") == head
    assert commit_seen_from(tmp_path / ".venv" / "glavitu") is None
    (tmp_path / "glavitu" / "more.py").write_text("")
    assert commit_seen_from(tmp_path / "glavitu") == f"{head}+changes"


def test_the_fingerprint_of_a_large_file_is_kept_until_it_is_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "large"
    path.write_bytes(bytes(3000))
    small = provenance.fingerprint(path)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(provenance, "_LARGE", 1000)
    assert provenance.fingerprint(path) == small  # whose writer may not be done
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(provenance, "_SETTLED", -1)
    assert provenance.fingerprint(path) == small
    (kept,) = (tmp_path / "cache" / "glavitu").iterdir()
    kept.write_text("e" * 16)
    assert provenance.fingerprint(path) == "e" * 16
    for damaged in (b"cut short", b"x" * 16, b"\xff" * 16):
        kept.write_bytes(damaged)
        assert provenance.fingerprint(path) == small
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with open(path, "r+b") as file:
        file.seek(2500)
        file.write(b"1")
    os.utime(path, ns=times)
    assert provenance.fingerprint(path) not in (small, "e" * 16)
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))  # no folder
    assert len(provenance.fingerprint(path)) == 16


def test_results_of_other_code_are_told(monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: "b")
    assert provenance.by_other_code({"provenance": {"commit": "a"}}) == ", by the code at commit a"
    for record in ({"provenance": {"commit": "b"}}, {"provenance": {"commit": None}}, {}):
        assert provenance.by_other_code(record) == ""
    monkeypatch.setattr(provenance, "commit", lambda: None)  # without git
    assert provenance.by_other_code({"provenance": {"commit": "a"}}) == ""
