"""Store what a run wrote in `figures/`, and renew the READMEs' tables from there.

    ./run_all.sh demo && python tools/publish.py runs/demo figures
    ./run_all.sh extended && python tools/publish.py runs/extended figures/extended
    python -m benchmarks parity && python tools/publish.py runs/benchmarks figures

and so on for a study of own data, and for every benchmark.

A table in a README stands between `<!-- begin PATH -->` and `<!-- end PATH -->` and equals the
file at PATH; a test compares the two. No number is typed in. Of the pictures, those that the README
shows are stored.
"""

import json
import re
import shutil
from pathlib import Path

import click
import pandas as pd

from glavitu.report import title, to_markdown
from glavitu.running import run

ROOT = Path(__file__).resolve().parents[1]
READMES = ROOT / "README.md", ROOT / "benchmarks" / "README.md"
# Best validation IoU of the class glacier and epochs run, from the published training logs.
PUBLISHED_LOGS = {
    "setr": (0.754, 36),
    "resunet": (0.828, 111),
    "transunet": (0.817, 80),
    "glavitu": (0.824, 146),
}


def store_study(run, folder, readme):
    """Copy tables and pictures of a run and say below each table where it comes from."""
    record = json.loads((run / "results.json").read_text(encoding="utf-8"))
    where = folder.relative_to(ROOT).as_posix()
    pictures = [*run.glob("figures/*.png"), *run.glob("map/*.png")]
    for path in [*pictures, run / "results.csv", run / "results.json"]:
        if path.suffix != ".png" or f"({where}/{path.name})" in readme:
            shutil.copy(path, folder / path.name)
    tables = {path.stem: path.read_text(encoding="utf-8") for path in run.glob("tables/*.md")}
    if where == "figures":
        tables["training_logs"] = to_markdown(_training_logs(record))
        shutil.copy(run / "map/quicklook.png", folder)
        (folder / "quicklook.md").write_text(_quicklook(run, where), encoding="utf-8")
    for name, table in tables.items():
        (folder / f"{name}.md").write_text(table + _caption(record, where), encoding="utf-8")


def _quicklook(run, where):
    """Return the picture of the run's map, which says which network made it."""
    record = json.loads((run / "map/map.json").read_text(encoding="utf-8"))
    what = (
        "A demo scene with mapped outlines, and the probability of glacier, by "
        f"{title(record['architecture'])}, which has the best validation IoU of the demo (commit "
        f"{record['provenance']['commit']})."
    )
    return f"![{what}]({where}/quicklook.png)\n\n{what}\n"


def _caption(record, where):
    origin = record["provenance"]
    trained, predicted = (
        ", ".join(sorted({str(commit) for commit in record[f"{what}_commits"].values()}))
        for what in ("training", "prediction")
    )
    kind = "Demo results" if record["demo_data"] else "Results"
    return (
        f"\n{kind}: profile `{record['profile']['name']}`, seed {record['seed']}, trained at "
        f"commit {trained}, predicted at {predicted}, scored at {origin['commit']}, "
        f"{origin['time'][:10]}, from [results.json]({where}/results.json) and "
        f"[results.csv]({where}/results.csv).\n"
    )


def _training_logs(record):
    ours = {row["method"]: row for row in record["tables"]["networks"]}
    rows = [
        {
            "network": title(name),
            "published: best validation IoU": iou,
            "published: epochs": epochs,
            "demo: best validation IoU": ours[name]["best validation IoU"],
            "demo: epochs": int(ours[name]["epochs"]),
        }
        for name, (iou, epochs) in PUBLISHED_LOGS.items()
    ]
    return pd.DataFrame(rows)


def store_benchmarks(benchmarks, folder):
    """Copy tables and captioned pictures of benchmarks, and say below each where it comes from."""
    for path in benchmarks.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        origin = record["provenance"]
        versions = ", ".join(f"{k} {v}" for k, v in origin["versions"].items())
        caption = f"\nMeasured at commit {origin['commit']}, {origin['time'][:10]}, {versions}"
        caption += f"; {record['machine']}.\n" if "machine" in record else ".\n"
        table = path.with_suffix(".md").read_text(encoding="utf-8")
        (folder / f"{path.stem}.md").write_text(table + caption, encoding="utf-8")
        for name, text in record.get("pictures", {}).items():
            shutil.copy(benchmarks / f"{name}.png", folder / f"{name}.png")
            where = folder.relative_to(ROOT).as_posix()
            picture = f"![{text}]({where}/{name}.png)\n\n{text}\n"
            (folder / f"{name}.md").write_text(picture, encoding="utf-8")


def renew(readme, root=ROOT):
    """Return the README's text with every block replaced by the file it names."""
    return re.sub(
        r"(<!-- begin (\S+) -->\n).*?(<!-- end \2 -->)",
        lambda m: m[1] + (root / m[2]).read_text(encoding="utf-8") + m[3],
        readme,
        flags=re.DOTALL,
    )


@click.command(help=__doc__.partition("\n")[0])
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target")
def main(source, target):
    target = (ROOT / target).resolve()
    if not any(source.glob("*.json")):
        raise click.UsageError(f"{source} holds no results (*.json)")
    if source.resolve() == target:
        raise click.UsageError(f"{source} is where results are stored already")
    if not target.is_relative_to(ROOT):
        raise click.UsageError(f"{target} is not below {ROOT}")
    text = READMES[0].read_text(encoding="utf-8")
    target.mkdir(parents=True, exist_ok=True)
    if (source / "results.json").exists():
        store_study(source, target, text)
    else:
        store_benchmarks(source, target)
    for readme in READMES:
        readme.write_text(renew(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    run(main)
