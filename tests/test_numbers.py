"""What could go wrong unseen: huge counts, classes that are not there, parameters as code."""

import ast

import numpy as np
import pandas as pd
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from glavitu import InputError, pool
from glavitu.comparison import bootstrap, debris_split, differences, mean_iou
from glavitu.evaluation import calibration_error, summarise, with_scores, without_glacier
from glavitu.platt import Histogram
from glavitu.report import verdict
from glavitu.results import _read_counts
from glavitu.study import NOTEBOOKS
from glavitu.surfaces import SURFACES

MANY = 10**10  # pixels; 2**31 is 2 * 10**9, and float32 counts to 2 * 10**7


def counts(rows):
    columns = ["name", "tile", "region", "tp", "tn", "fp", "fn"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(method=table["name"])


def test_scores_of_ten_billion_pixels_are_exact():
    tiles = counts([("a", f"A-{i}", "A", MANY + 1, MANY, 0, MANY - 1) for i in range(3)])
    pooled = pool(tiles).iloc[0]
    assert pooled["tp"] == 3 * (MANY + 1) and pooled["IoU"] == (MANY + 1) / (2 * MANY)
    observed = bootstrap(tiles, replicates=5)["observed"]
    assert observed.item() == (MANY + 1) / (2 * MANY)
    assert (bootstrap(tiles, replicates=5)["drawn"] == observed.item()).all()


def test_small_counts_do_not_overflow_when_they_are_summed():
    tiles = counts([("a", f"A-{i}", "A", 2**31 - 1, 0, 0, 0) for i in range(4)])
    small = tiles.astype({c: np.int32 for c in ("tp", "tn", "fp", "fn")})
    assert pool(small).iloc[0]["tp"] == 4 * (2**31 - 1)
    assert (with_scores(small)["F1"] == 1).all()  # 2 tp is beyond int32


def test_calibration_of_ten_billion_pixels():
    bins = pd.DataFrame({"pixels": [MANY, MANY], "glacier": [0, MANY], "total": [0.0, MANY * 0.9]})
    # the first bin is right, the second off by 0.1
    assert calibration_error(bins) == pytest.approx(0.05)
    histogram = Histogram()
    histogram.add([0.9] * 4, [True, True, True, False])
    few = histogram.fit()
    histogram.pixels, histogram.glacier = histogram.pixels * MANY, histogram.glacier * MANY
    histogram.total *= MANY
    assert histogram.fit() == pytest.approx(few, abs=1e-6)


# In region B no label is glacier: method a maps none there, method b a single pixel.
EMPTY = [
    ("a", "A-0", "A", 3, 0, 1, 0),
    ("a", "B-0", "B", 0, 9, 0, 0),
    ("b", "A-0", "A", 3, 0, 1, 0),
    ("b", "B-0", "B", 0, 8, 1, 0),
]


def test_a_region_without_glacier_counts_in_no_mean_for_any_method():
    scores = counts(EMPTY)
    for name, method in scores.groupby("name"):
        assert without_glacier(method) == ["B"], name
        assert summarise(method)["mean"] == 0.75 and summarise(method)["std"] == 0
    # pooled over all pixels, the false alarm counts: 3 / 4 and 3 / 5
    assert summarise(scores[scores["name"] == "b"])["pooled"] == 0.6
    assert mean_iou(scores)["mean IoU"].tolist() == [0.75, 0.75]
    assert differences(scores, "a")["difference"].tolist() == [0]


def test_scores_of_classes_that_are_not_there_are_nan():
    nothing = with_scores(counts([("a", "A-0", "A", 0, 9, 0, 0)])).iloc[0]
    assert nothing[["IoU", "F1", "precision", "recall"]].isna().all()
    assert nothing["accuracy"] == 1
    unlabelled = with_scores(counts([("a", "A-0", "A", 0, 0, 0, 0)])).iloc[0]
    assert np.isnan(unlabelled["accuracy"])


def test_the_verdict_says_what_does_not_count():
    networks = pd.DataFrame(
        {"method": ["a"], "network": ["A"], "mean IoU": [0.75], "low": [0.7], "high": [0.8]}
    ).assign(**{"parameters": 1, "std over seeds": np.nan})
    regions = counts(EMPTY[:2])
    tables = {"networks": networks, "regions": regions, "differences": pd.DataFrame()}
    assert "No glacier in the labels of B: not in any mean." in verdict(tables, "demo")
    tables["networks"] = networks.assign(**{"mean IoU": np.nan})
    assert "nothing to compare" in verdict(tables, "demo")


def test_tiles_without_ice_have_no_share_of_debris():
    scores = counts(EMPTY)
    surfaces = counts(EMPTY[1:2]).assign(code=SURFACES["rock"])
    assert debris_split(scores, surfaces).empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no table"),
        ("tile,region\nA-0,A\n", "no counts 'tp'"),
        ("tile,region,tp,tn,fp,fn\nA-0,A,many,0,0,0\n", "no counts 'tp'"),
        ("tile,region,tp,tn,fp,fn\nA-0,A,1,0,0,0.5\n", "no counts 'fn'"),
    ],
)
def test_tables_of_scores_that_are_none_are_refused(tmp_path, text, message):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        _read_counts(tmp_path / "scores.csv", ["tile", "region", "tp", "tn", "fp", "fn"])


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_parameters_of_notebooks_stay_values_whatever_they_say(path):
    code = ['"; import os; os.system("x") #', "'''\nimport os\n'''", "\\", "{0}", "\n%run x\n", "é"]
    given = {"profile": code[0], "data": code[1], "out": code[2] + '"', "name": code[4]}
    given |= {"sources": code}
    notebook = parameterize_notebook(load_notebook_node(str(path)), given)
    tagged = "injected-parameters"
    cell = next(c for c in notebook.cells if tagged in c.metadata.get("tags", []))
    values = {
        line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(cell.source).body
    }
    assert values == given
