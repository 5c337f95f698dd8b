"""Where results say they come from."""

import importlib.util
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
