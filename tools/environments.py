"""Run a short study offline, as another user, in an odd folder, from a read-only checkout, ….

    python tools/environments.py [--out runs/environments]
    python tools/publish.py runs/environments figures

Each way must end with the `results.csv` of the plain one. Ways that this machine does not allow are
said to be skipped; most need root, and a Python that other users may run. It ends with status 1 if
a way fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from glavitu.files import write_json
from glavitu.provenance import provenance
from glavitu.report import to_markdown

ROOT = Path(__file__).parents[1]
ODD = "Gletscher & Schnee/ледник 冰川 ø"
NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
OFFLINE = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def copy_checkout(target):
    """Copy what a checkout holds and a study needs, and a profile of a short one."""
    for part in ("glavitu", "notebooks", "profiles"):
        shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    profile = target / "profiles/short.yaml"
    text = (target / "profiles/smoke.yaml").read_text(encoding="utf-8")
    profile.write_text(text + "architectures: [glavitu]\n", encoding="utf-8")


def run_study(home, folder, *, prefix=(), user=None, read_only=False, **environment):
    """Run a study below a folder; return its results or the end of what it said, and seconds."""
    checkout, work = home / folder / "checkout", home / folder / "work"
    copy_checkout(checkout)
    work.mkdir()
    if user is not None:
        os.chown(work, user, user)
    if read_only:
        for path in (checkout, *checkout.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
    variables = os.environ | {"PYTHONPATH": str(checkout)} | environment
    began = time.monotonic()
    done = subprocess.run(
        [*prefix, sys.executable, "-P", "-m", "glavitu", "study", "short", "--out", "out"],
        cwd=work,
        env={k: v for k, v in variables.items() if v is not None},
        capture_output=True,
        text=True,
    )
    seconds = round(time.monotonic() - began)
    results = work / "out/results.csv"
    if done.returncode or not results.exists():
        return f"status {done.returncode}: " + " ".join(done.stderr.split())[-300:], seconds
    return results.read_bytes(), seconds


def allowed(prefix):
    """Return whether Python, started by Python as kernels are, can be run behind a prefix here."""
    code = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import h5py'], check=True)"
    )
    try:
        command = [*prefix, sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs/environments")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    ways = {
        "plain": {},
        "offline": {"prefix": OFFLINE},
        "spaces and other letters in the path": {"folder": ODD},
        "the same in the C locale": {"folder": f"C/{ODD}", "LC_ALL": "C", "LANG": None},
        "another user, no home": {"prefix": AS_NOBODY, "user": NOBODY, "HOME": "/nonexistent"},
        "another user, HOME unset": {"prefix": AS_NOBODY, "user": NOBODY, "HOME": None},
        "read-only checkout, another user": {"prefix": AS_NOBODY, "user": NOBODY}
        | {"read_only": True, "HOME": "/nonexistent"},
        "all of these": {"prefix": [*OFFLINE, *AS_NOBODY], "user": NOBODY, "read_only": True}
        | {"folder": f"all/{ODD}", "HOME": "/nonexistent", "LC_ALL": "C"},
    }
    rows, plain = [], None
    with tempfile.TemporaryDirectory(prefix="glavitu environments ") as folder:
        os.chmod(folder, 0o755)
        for i, (way, options) in enumerate(ways.items()):
            found, seconds, verdict = None, 0, "skipped: this machine does not allow it"
            if allowed(options.get("prefix", ())):
                options = {"folder": str(i)} | options
                found, seconds = run_study(Path(folder), **options)
                plain = plain or found
                verdict = "results equal" if found == plain else "results differ"
                if isinstance(found, str):
                    verdict = found
            rows.append({"way": way, "verdict": verdict, "seconds": seconds})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    (out / "environments.md").write_text(to_markdown(table), encoding="utf-8")
    write_json(out / "environments.json", {"rows": rows, "provenance": provenance()})
    sys.exit(not table["verdict"].str.startswith(("results equal", "skipped")).all())
