"""Store a demo run's figures and tables in `figures/` and its table in the README.

    ./run_all.sh demo && .venv/bin/python tools/publish_demo.py runs/demo

The numbers in the README come from here and from nowhere else; a test compares the two.
"""

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
START, END = "<!-- results: written by tools/publish_demo.py -->\n", "<!-- end of results -->"


def main(run):
    """Copy the figures and tables of the folder `run` and renew the README's table."""
    figures = ROOT / "figures"
    for path in [
        *run.glob("figures/*.png"),
        *(run / f"results.{s}" for s in ("csv", "json", "md")),
    ]:
        shutil.copy(path, figures / path.name)
    record = json.loads((run / "results.json").read_text())
    origin = record["provenance"]
    readme = (ROOT / "README.md").read_text()
    before, rest = readme.split(START)
    table = (run / "results.md").read_text()
    caption = (
        f"Demo results: profile `{record['profile']['name']}`, seed {record['seed']}, commit "
        f"{origin['commit']}, {origin['time'][:10]}, {origin['machine']}, from "
        "[results.json](figures/results.json) and [results.csv](figures/results.csv).\n"
    )
    (ROOT / "README.md").write_text(
        before + START + table + "\n" + caption + END + rest.split(END)[1]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
