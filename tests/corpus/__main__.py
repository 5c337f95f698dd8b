"""Write `figures/corpus.md`: every broken input and how it is answered."""

import sys
import tempfile
from pathlib import Path

from . import DOORS
from .harness import SECONDS, judge

TABLE = Path(__file__).parents[2] / "figures" / "corpus.md"


def main():
    """Judge every case; status 1 if one is answered wrongly."""
    lines, count, failed = [], 0, 0
    for door, cases in DOORS.items():
        lines += ["", f"## {door}", "", "| input | answer | as wanted |", "| --- | --- | --- |"]
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="glavitu-") as folder:
                message, wrong = judge(case, Path(folder).resolve())
            verdict = "; ".join(wrong) or "yes"
            lines.append(f"| {_cell(case.name)} | {_cell(message)} | {_cell(verdict)} |")
            count, failed = count + 1, failed + bool(wrong)
            if wrong:
                print(f"{door}: {case.name}: {verdict}", flush=True)
    head = (
        f"# {count} broken inputs, {count - failed} of them answered as wanted\n\n"
        f"One line, status 2, within {SECONDS} s, in little memory, nothing left behind or "
        "changed. Written by `python -m tests.corpus`.\n"
    )
    TABLE.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{count} cases, {failed} wrong: {TABLE}")
    return bool(failed)


def _cell(text):
    text = text if len(text) <= 240 else f"{text[:240]}…"
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
