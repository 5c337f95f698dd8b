"""Store what a run wrote in `figures/`, and renew the README's tables from there.

    ./run_all.sh demo
    GLAVITU_REFERENCE=DIR python -m benchmarks parity
    python tools/publish.py runs/demo runs/benchmarks

A table in the README stands between `<!-- begin PATH -->` and `<!-- end PATH -->` and equals the
file at PATH; a test compares the two. No number is typed in.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd

from glavitu.results import title, to_markdown

ROOT = Path(__file__).parents[1]
# Best validation IoU of the class glacier and epochs run, from the published training logs.
PUBLISHED_LOGS = {
    "setr": (0.754, 36),
    "resunet": (0.828, 111),
    "transunet": (0.817, 80),
    "glavitu": (0.824, 146),
}


def store_demo(run, figures):
    """Copy the tables and figures of a demo run and say below each table where it comes from."""
    for path in [*run.glob("figures/*.png"), run / "results.csv", run / "results.json"]:
        shutil.copy(path, figures / path.name)
    record = json.loads((run / "results.json").read_text(encoding="utf-8"))
    origin = record["provenance"]
    commits = ", ".join(sorted(set(record["training_commits"].values())))
    caption = (
        f"\nDemo results: profile `{record['profile']['name']}`, seed {record['seed']}, trained at "
        f"commit {commits}, scored at {origin['commit']}, {origin['time'][:10]}, from "
        "[results.json](figures/results.json) and [results.csv](figures/results.csv).\n"
    )
    table = (run / "results.md").read_text(encoding="utf-8")
    (figures / "results.md").write_text(table + caption, encoding="utf-8")
    logs = to_markdown(_training_logs(record)) + caption
    (figures / "training_logs.md").write_text(logs, encoding="utf-8")


def _training_logs(record):
    ours = {row["architecture"]: row for row in record["networks"]}
    rows = [
        {
            "network": title(name),
            "published: best validation IoU": iou,
            "published: epochs": epochs,
            "demo: best validation IoU": ours[name]["best validation IoU"],
            "demo: epochs": ours[name]["epochs"],
        }
        for name, (iou, epochs) in PUBLISHED_LOGS.items()
    ]
    return pd.DataFrame(rows)


def store_parity(benchmarks, figures):
    """Copy the table of differences to the published networks."""
    origin = json.loads((benchmarks / "parity.json").read_text(encoding="utf-8"))["provenance"]
    versions = ", ".join(f"{k} {v}" for k, v in origin["versions"].items())
    caption = f"\nMeasured at commit {origin['commit']}, {origin['time'][:10]}, {versions}.\n"
    table = (benchmarks / "parity.md").read_text(encoding="utf-8")
    (figures / "parity.md").write_text(table + caption, encoding="utf-8")


def renew(readme, root=ROOT):
    """Return the README's text with every block replaced by the file it names."""
    return re.sub(
        r"(<!-- begin (\S+) -->\n).*?(<!-- end \2 -->)",
        lambda m: m[1] + (root / m[2]).read_text(encoding="utf-8") + m[3],
        readme,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    store_demo(Path(sys.argv[1]), ROOT / "figures")
    store_parity(Path(sys.argv[2]), ROOT / "figures")
    text = renew((ROOT / "README.md").read_text(encoding="utf-8"))
    (ROOT / "README.md").write_text(text, encoding="utf-8")
