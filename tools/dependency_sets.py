"""Run the tests with the oldest and the newest dependencies that `pyproject.toml` allows.

    python tools/dependency_sets.py [--renew] [--out runs/dependencies]
    python tools/publish.py runs/dependencies figures

The newest are those of `requirements.lock`, the oldest those of `requirements/oldest.txt`, which
`--renew` resolves anew: the least version of everything that `pyproject.toml` names. Each set is
installed into a fresh environment, with uv, and removed after the default tests. It takes half an
hour on two cores, and ends with status 1 unless all tests pass.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pandas as pd

from glavitu.files import write_json
from glavitu.provenance import provenance
from glavitu.report import to_markdown

ROOT = Path(__file__).parents[1]
SETS = {"oldest": ROOT / "requirements/oldest.txt", "newest": ROOT / "requirements.lock"}
COMPILE = ["pip", "compile", "-", "--resolution", "lowest-direct", "--no-annotate", "--no-header"]
HEADER = "# Written by tools/dependency_sets.py --renew: the least versions pyproject.toml allows\n"


def named():
    """Return what `pyproject.toml` asks for, line by line."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = content["project"]["optional-dependencies"]
    return (
        content["project"]["dependencies"] + extras["test"] + content["dependency-groups"]["build"]
    )


def renew(uv, python):
    """Resolve the oldest set, away from the project, whose own constraints are for the newest."""
    done = subprocess.run(
        [uv, *COMPILE, "-q", "--python-version", python],
        cwd="/",
        input="\n".join(named()),
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    SETS["oldest"].parent.mkdir(exist_ok=True)
    SETS["oldest"].write_text(HEADER + done.stdout, encoding="utf-8")


def run_tests(uv, python, requirements, folder):
    """Install a set, run the default tests; return versions, pytest's last line and seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([uv, "venv", "-q", "--python", python, folder], check=True)
    interpreter = folder / "bin/python"
    install = [uv, "pip", "install", "-q", "--python", interpreter]
    subprocess.run([*install, "-r", requirements], cwd="/", check=True)
    build = ["--no-deps", "--no-build-isolation", "-e", ROOT]
    subprocess.run([*install, *build], cwd="/", check=True)
    began = time.monotonic()
    tests = subprocess.run(
        [interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        text=True,
        stdout=subprocess.PIPE,
    )
    seconds = time.monotonic() - began
    print(tests.stdout[-3000:], flush=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    found = {d.metadata["Name"].lower(): d.version for d in distributions(path=[str(packages)])}
    shutil.rmtree(folder)
    return found, tests.stdout.strip().splitlines()[-1], round(seconds), tests.returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--renew", action="store_true", help="resolve the oldest set anew")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/dependencies")
    parser.add_argument("--uv", default="uv")
    parser.add_argument("--python", default="3.11", help="for both environments")
    options = parser.parse_args()
    if not shutil.which(options.uv):
        parser.error(f"no program {options.uv!r}; expected uv (pip install uv)")
    if options.renew:
        renew(options.uv, options.python)
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(re.match(r"[\w-]+", line)[0] for line in named())
    table, verdicts = pd.DataFrame({"package": list(names)}), {}
    for name, requirements in SETS.items():
        found, *verdicts[name] = run_tests(
            options.uv, options.python, requirements, out / f"environment-{name}"
        )
        table[name] = [found[package.lower()] for package in table["package"]]
    rows = [
        {"package": what} | {name: str(verdict[i]) for name, verdict in verdicts.items()}
        for i, what in enumerate(("tests", "seconds"))
    ]
    table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    (out / "dependencies.md").write_text(to_markdown(table), encoding="utf-8")
    write_json(
        out / "dependencies.json", {"rows": table.to_dict("records"), "provenance": provenance()}
    )
    sys.exit(any(verdict[2] for verdict in verdicts.values()))
