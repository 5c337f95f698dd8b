"""Change the code of modules at every place in one way and see whether the tests notice.

    pip install cosmic-ray
    python tools/mutation.py [MODULE ...] [--seed 0] [--resume] [--out DIR]
    python tools/publish.py runs/mutation figures

The places, and the ways to change each, are those of cosmic-ray's operators: another comparison,
`not` before a condition, a number one larger, a loop without iterations, …. `--seed` draws the way.
Each mutant is put in a copy of the checkout, where the tests of its module (`TESTS`) run until one
fails; a mutant that takes much longer than the code as it is counts as noticed, as one that hangs.
The tests run in a fork of a process that has imported the libraries but used none, which saves most
of the time: ten minutes on two cores. `--resume` keeps what an earlier run noticed and tries the
rest (again). `mutation_survivors.yaml` says why a mutant survives, by the lines changed.
"""

import argparse
import gc
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from difflib import unified_diff
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tqdm import tqdm

try:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names
except ImportError:
    sys.exit("mutation.py: cosmic-ray is missing (pip install cosmic-ray)")

from glavitu.files import write_json
from glavitu.provenance import provenance
from glavitu.report import to_markdown

ROOT = Path(__file__).parents[1]
TESTS = {  # module -> the tests that are about it, quick ones first
    "tiles": ["test_tiles.py", "test_evaluation.py", "test_patches.py"],
    "tile_datasets": ["test_tiles.py"],
    "tile_headers": ["test_tiles.py"],
    "patches": ["test_patches.py"],
    "evaluation": ["test_evaluation.py", "test_stale.py"],
    "prediction": ["test_evaluation.py", "test_prediction.py", "test_stale.py", "test_devices.py"],
    "trained": ["test_prediction.py", "test_stale.py", "test_calibration.py"],
    "prediction_datasets": ["test_evaluation.py", "test_prediction.py"],
    "windows": ["test_prediction.py"],
}
IMPORTS = ["keras", "rioxarray", "geopandas", "hypothesis.strategies"]
REASONS = Path(__file__).with_name("mutation_survivors.yaml")
OURS = ("glavitu", "tests", "tools", "benchmarks", "conftest")
PYTEST = ["-x", "-q", "-pno:cacheprovider", "--hypothesis-seed=0", "--basetemp=temp"]
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1"}


def source_of(module):
    """Return a module of the checkout as it is."""
    return (ROOT / f"glavitu/{module}.py").read_text(encoding="utf-8")


def mutants(module, seed):
    """Return a dict per place of a module: lines before and after, mutated source."""
    source = source_of(module)
    lines, places = source.splitlines(), {}
    nodes = [*ast_nodes(get_ast(source))]
    for name in operator_names():
        if get_operator(name).arguments():  # which variables; not a change that can be drawn
            continue
        operator, family = get_operator(name)(), name.partition("_")[0]
        found = [(node, p) for node in nodes for p, _ in operator.mutation_positions(node)]
        for occurrence, (node, start) in enumerate(found):
            if node.parent and node.parent.type != "parameters":  # where `*` is no operator
                places.setdefault((start, family), []).append((operator, occurrence))
    for ((line, column), family), ways in sorted(places.items()):
        # drawn by its own line, so that a change elsewhere leaves it
        draw = random.Random(f"{seed} {family} {lines[line - 1].strip()} {column}")
        draw.shuffle(ways)
        mutated = (mutate_code(source, *way) for way in ways)
        mutated = next(filter(compiles, mutated), source)
        if mutated == source:
            continue
        changed = [*unified_diff(lines, mutated.splitlines(), n=0, lineterm="")][3:]
        before, after = (
            " ".join(word for part in changed if part[0] == sign for word in part[1:].split())
            for sign in "-+"
        )
        yield {
            "module": module,
            "line": before,
            "becomes": after,
            "digest": hashlib.sha256(mutated.encode()).hexdigest()[:16],
            "source": mutated,
        }


def compiles(source):
    """Return whether Python takes the source, as it does not take every operator everywhere."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(source, "mutant", "exec")
        return True
    except SyntaxError:
        return False


def copy_checkout(folder):
    """Make this worker's copy of what tests need, and go there."""
    home = Path(tempfile.mkdtemp(dir=folder))
    for part in ("glavitu", "tests", "tools", "benchmarks", "profiles", "notebooks"):
        shutil.copytree(ROOT / part, home / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", home)
    os.chdir(home)
    os.environ["PYTHONPATH"] = str(home)  # of processes that tests start
    gc.freeze()  # what is imported is not searched for garbage in each fork


def put(module, source):
    """Write a module, and remove its bytecode: another source may have the same size and time."""
    Path(f"glavitu/{module}.py").write_text(source, encoding="utf-8")
    for compiled in Path("glavitu/__pycache__").glob(f"{module}.*"):
        compiled.unlink()


def attempt(mutant, limits):
    """Run the tests on a mutant; return its row without the source, and what became of it."""
    module, limit = mutant["module"], limits.get(mutant["module"], float("inf"))
    whole = Path(f"glavitu/{module}.py").read_text(encoding="utf-8")
    put(module, mutant["source"])
    began, child = time.monotonic(), os.fork()
    if not child:
        run_tests([f"glavitu/{module}.py", *(f"tests/{name}" for name in TESTS[module])])
    status = None
    while status is None and time.monotonic() - began < limit:
        time.sleep(0.02)
        ended, code = os.waitpid(child, os.WNOHANG)
        status = code if ended else None
    if status is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    put(module, whole)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", Path("said").read_text(), re.MULTILINE)
    row = {key: value for key, value in mutant.items() if key != "source"}
    return row | {
        "verdict": "hangs" if status is None else "noticed" if status else "survives",
        "by": failed[0] if failed else "",
        "seconds": round(time.monotonic() - began, 1),
    }


def run_tests(paths):
    """Run tests in this process, with the package of the folder it is in, and end it."""
    os.setsid()
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT]
    os._exit(pytest.main([*PYTEST, *paths]))


def tables(rows, reasons):
    """Return the share noticed by module, and the survivors with reasons, as Markdown."""
    counts = pd.crosstab([row["module"] for row in rows], [row["verdict"] for row in rows])
    counts = counts.reindex(columns=["noticed", "hangs", "survives"], fill_value=0)
    counts.loc["all"] = counts.sum()
    mutants = counts.sum(axis=1)
    counts.insert(0, "mutants", mutants)
    counts["share noticed"] = (1 - counts["survives"] / mutants).map("{:.1%}".format)
    survivors = [
        {
            "module": row["module"],
            "line": code(row["line"]),
            "becomes": code(row["becomes"]),
            "why no test notices": reasons.get(key(row), "no reason known"),
        }
        for row in rows
        if row["verdict"] == "survives"
    ]
    shares = counts.rename_axis("module").reset_index().rename(columns={"hangs": "noticed: hangs"})
    return to_markdown(shares), to_markdown(pd.DataFrame(survivors))


def code(text):
    """Return code for a cell of a table."""
    return f"`{text}`".replace("|", "\\|") if text else "(removed)"


def key(row):
    """Return what a reason is known by."""
    return row["module"], row["line"], row["becomes"]


def main():
    """Try every mutant, and store what became of each when it is known."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", default=list(TESTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="keep what an earlier run noticed")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/mutation")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    for name in IMPORTS:
        importlib.import_module(name)
    todo = {m["digest"]: m for name in options.modules for m in mutants(name, options.seed)}
    rows, limits, origin = dict.fromkeys(todo), {}, provenance()
    if options.resume:
        earlier = json.loads((out / "mutation.json").read_text(encoding="utf-8"))["rows"]
        noticed = {row["digest"]: row for row in earlier if row["verdict"] != "survives"}
        rows |= {digest: row for digest, row in noticed.items() if digest in rows}
    reasons = {key(row): row["why"] for row in yaml.safe_load(REASONS.read_text(encoding="utf-8"))}
    context = multiprocessing.get_context("fork")
    with (
        tempfile.TemporaryDirectory(prefix="glavitu-mutation-") as folder,
        context.Pool(options.workers, copy_checkout, (folder,)) as pool,
    ):
        whole = [{"module": name, "source": source_of(name)} for name in options.modules]
        for row in pool.map(partial(attempt, limits={}), whole, 1):
            if row["verdict"] != "survives":
                raise SystemExit(f"{row['module']}: without a change, {row['by']} fails")
            limits[row["module"]] = 20 + 3 * row["seconds"]
        left = [mutant for digest, mutant in todo.items() if not rows[digest]]
        found = pool.imap_unordered(partial(attempt, limits=limits), left)
        for row in tqdm(found, total=len(left)):
            rows[row["digest"]] = row
            done = [row for row in rows.values() if row]
            text = f"\nOne mutant of every place, drawn by seed {options.seed}. Survivors:\n\n"
            (out / "mutation.md").write_text(text.join(tables(done, reasons)), encoding="utf-8")
            record = {"seed": options.seed, "rows": done, "provenance": origin}
            write_json(out / "mutation.json", record)


if __name__ == "__main__":
    main()
