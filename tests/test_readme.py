"""The README's code runs as it stands."""

import re
import shutil
from pathlib import Path

import pytest

from glavitu import compile_tiles, open_tiles
from glavitu.demo_data import make_demo_scene

README = Path(__file__).parents[1] / "README.md"


def test_tiles_from_a_scene_and_an_inventory(tmp_path, monkeypatch):
    scene = make_demo_scene(tmp_path / "scene", size=144, seed=2)
    for source, name in {
        "optical": "optical.tif",
        "dem": "dem.tif",
        "reference": "rgi.gpkg",
    }.items():
        shutil.copy(scene[source], tmp_path / name)
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    (code,) = re.findall(
        r"an inventory, in Python</summary>\n\n```python\n(.*?)```", text, re.DOTALL
    )
    assert "size, folder = 512" in code
    exec(code.replace("size, folder = 512", "size, folder = 64"), {})
    files = compile_tiles(tmp_path / "tiles" / "tiles.csv", tmp_path / "data", patch_size=64)
    tiles = {name: tile for path in files.values() for name, tile in open_tiles(path).items()}
    assert len(tiles) == 4 and tiles["MINE-0"].sizes["y"] == 64
    label = sum(tile["groundtruth"].values.sum((0, 1)) for tile in tiles.values())
    assert label.sum() > 0.9 * 4 * 64**2 and label[1] > 100
    assert list(tiles["MINE-0"]["optical_band"].values[:2]) == ["blue", "green"]
    assert pytest.approx(30, rel=0.01) == abs(float(tiles["MINE-0"]["y"].diff("y")[0]))
