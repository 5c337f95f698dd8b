"""Each broken input of the corpus is answered by one line that says what is wrong."""

import re
from pathlib import Path

import pytest
from corpus import DOORS
from corpus.harness import judge, run
from corpus.tiles_csv import ACCEPTED

CASES = [(door, case) for door, cases in DOORS.items() for case in cases]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{door}: {case.name}") for door, case in CASES]
)
def test_broken_input_is_answered_by_one_line(case, tmp_path):
    _, wrong = judge(case, tmp_path.resolve())
    assert not wrong


@pytest.mark.parametrize("name", ACCEPTED)
def test_tables_written_otherwise_are_read(name, tmp_path):
    assert run(ACCEPTED[name](tmp_path)).status == 0


def test_the_table_of_cases_is_current():
    table = Path(__file__).parents[1] / "figures" / "corpus.md"
    rows = re.findall(r"^\| (.*?) \| .* \| yes \|$", table.read_text(encoding="utf-8"), re.M)
    names = [case.name.replace("|", "\\|").replace("<", "&lt;") for _, case in CASES]
    assert [row for row in rows if row != "---"] == [" ".join(name.splitlines()) for name in names]
    assert len(CASES) >= 150


def test_names_of_cases_tell_them_apart():
    for door, cases in DOORS.items():
        assert len({case.name for case in cases}) == len(cases), door
