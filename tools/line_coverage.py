"""Count the lines of `glavitu/` that the default tests run, also in processes that they start.

    pip install "coverage>=7.10"
    python tools/line_coverage.py [PYTEST OPTION ...]
    python tools/publish.py runs/coverage figures

It takes as long as the tests, some ten minutes on two cores, and ends with their status. What only
the kernels of notebooks run, such as most of what seems to lack in `results.py` and `plots.py`, is
not counted: a study ends them at once when a notebook is done.
"""

import argparse
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pandas as pd

from glavitu.files import write_json
from glavitu.provenance import provenance
from glavitu.report import to_markdown

ROOT = Path(__file__).parents[1]
SETTINGS = f"""[run]
source = {ROOT}/glavitu
data_file = {ROOT}/runs/coverage/data/coverage
parallel = true
concurrency = multiprocessing, thread
patch = subprocess
"""


def row(name, measured, missing=""):
    """Return a row of the table."""
    summary = measured["summary"] if "summary" in measured else measured["totals"]
    return {
        "module": name,
        "statements": summary["num_statements"],
        "run by tests": f"{summary['percent_covered']:.1f} %",
        "lines not run": missing,
    }


def in_ranges(lines):
    """Return line numbers in order as text: 3, 7-9."""
    runs = groupby(enumerate(lines), lambda item: item[1] - item[0])
    runs = [[line for _, line in run] for _, run in runs]
    return ", ".join(f"{run[0]}-{run[-1]}" if run[1:] else str(run[0]) for run in runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    _, options = parser.parse_known_args()
    if not find_spec("coverage"):
        parser.error("coverage is missing (pip install coverage)")
    out = ROOT / "runs/coverage"
    shutil.rmtree(out, ignore_errors=True)
    (out / "data").mkdir(parents=True)
    settings, report = out / "data/settings", out / "data/report"
    settings.write_text(SETTINGS, encoding="utf-8")
    coverage = [sys.executable, "-m", "coverage"]
    pytest = ["pytest", "-n", "logical", "--maxprocesses", "4", *options]
    tests = subprocess.run([*coverage, "run", f"--rcfile={settings}", "-m", *pytest], cwd=ROOT)
    for command in (["combine", "-q"], ["json", "-q", "-i", "-o", report]):
        command.insert(1, f"--rcfile={settings}")
        subprocess.run([*coverage, *command], cwd=ROOT, check=True)
    found = json.loads(report.read_text(encoding="utf-8"))
    rows = [
        row(path.removeprefix("glavitu/"), measured, in_ranges(measured["missing_lines"]))
        for path, measured in found["files"].items()
        if measured["missing_lines"]
    ]
    rows.append(row("all modules", found))
    (out / "coverage.md").write_text(to_markdown(pd.DataFrame(rows)), encoding="utf-8")
    write_json(out / "coverage.json", {"rows": rows, "provenance": provenance()})
    sys.exit(tests.returncode)
