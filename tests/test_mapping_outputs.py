import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import make_scene

from glavitu import map_scene, mapping_outputs
from glavitu.geotiffs import to_dataarray, write_raster
from glavitu.plots import stretch


@pytest.fixture(scope="module")
def made(weights, tmp_path_factory):
    """Map a scene larger than a block, and again with its own outlines as reference."""
    folder = tmp_path_factory.mktemp("made")
    paths, _ = make_scene(folder / "scene", 24, 520)
    options = {"min_area": 0, "stride": 16, "date": "2020-08-01"}
    found = map_scene(weights, paths, folder / "out", **options)
    reference = (folder / "out" / "outlines.gpkg").rename(folder / "reference.gpkg")
    map_scene(weights, paths, folder / "out", reference=reference, **options)
    return folder / "out", found


@pytest.fixture(scope="module")
def opened(made):
    """Return what a script that knows nothing of this package finds."""
    script = Path(__file__).with_name("open_outputs.py")
    command = [sys.executable, "-I", str(script), str(made[0])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "name, dtype, nodata, description",
    [
        ("glacier.tif", "uint8", "255.0", "1 glacier, 0 not, 255 no data"),
        ("probability.tif", "float32", "nan", "probability of glacier"),
        ("confidence.tif", "float32", "nan", "probability of the class mapped"),
    ],
)
def test_the_rasters_are_cloud_optimised_and_say_what_they_hold(
    opened, name, dtype, nodata, description
):
    found = opened[name]
    assert found["crs"] == 32632 and found["transform"] == [30, 0, 5e5, 0, -30, 5e6]
    assert found["shape"] == [24, 520] and found["bands"] == 1
    assert (found["dtype"], found["nodata"]) == (dtype, nodata)
    assert found["description"] == description
    assert (found["layout"], found["compression"]) == ("COG", "DEFLATE")
    assert found["blocks"] == [512, 512] and found["overviews"] == [2]


def test_the_classes_have_colours_and_no_data_is_transparent(opened):
    found = opened["glacier.tif"]
    assert found["values"] == [0, 1, 255]
    alphas = {value: colour[3] for value, colour in found["colours"].items()}
    assert alphas == {"0": 255, "1": 255, "255": 0}
    assert found["colours"]["0"] != found["colours"]["1"]


def test_the_outlines_open_as_the_readme_says(opened, made):
    outlines = opened["outlines"]
    assert outlines["layers"] == ["outlines"] and outlines["crs"] == 32632
    kinds = {"id": "int64", "area_km2": "float64", "confidence": "float64", "source": "object"}
    kinds |= {"date": "object", "model": "object", "geometry": "geometry"}
    found = {c: k.replace("str", "object") for c, k in outlines["columns"].items()}
    assert found == kinds
    assert outlines["kinds"] == ["Polygon"] and outlines["valid"]
    rows = outlines["rows"]
    assert len(rows) == made[1]["outlines"] > 0
    assert {(row["source"], row["date"], row["model"]) for row in rows} == {
        ("optical, dem", "2020-08-01", "glavitu")
    }
    assert all(0.5 <= row["confidence"] <= 1 for row in rows)
    with rasterio.open(made[0] / "glacier.tif") as file:
        pixels = int((file.read(1) == 1).sum())
    assert outlines["plane_km2"] == pytest.approx(pixels * 900e-6)
    assert sum(row["area_km2"] for row in rows) == pytest.approx(pixels * 900e-6, rel=2e-3)
    assert made[1]["area_km2"] == pytest.approx(sum(row["area_km2"] for row in rows))


def test_the_readme_names_the_columns_of_all_tables(opened):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for column in [*opened["outlines"]["columns"], *opened["comparison"]]:
        assert f"`{column}`" in readme or column == "geometry", column


def test_the_picture_shows_the_bands_asked_for():
    rising, falling = np.arange(4.0).reshape(2, 2), np.arange(3.0, -1, -1).reshape(2, 2)
    image = stretch(np.stack([np.ones((2, 2)), rising, falling], -1), [2, 3, 1])
    # between the 2nd and 98th percentile of 0, 1, 2, 3: 0.06 and 2.94
    wanted = np.clip((rising - 0.06) / 2.88, 0, 1)
    assert np.allclose(image[..., 0], wanted) and np.allclose(image[..., 1], wanted[::-1, ::-1])
    assert not image[..., 2].any()


def test_the_picture_says_which_bands_it_shows(weights, scene, tmp_path, monkeypatch):
    paths, arrays = scene
    values = arrays["optical"].transpose(2, 0, 1)
    array = to_dataarray(values, (30, 0, 5e5, 0, -30, 5e6), 32632, bands=("red", "SWIR1", "NIR"))
    write_raster(paths["optical"], array)
    titles, original = [], mapping_outputs.plot_quicklook
    keep = lambda *a, **k: titles.append(k["title"]) or original(*a, **k)  # noqa: E731
    monkeypatch.setattr(mapping_outputs, "plot_quicklook", keep)
    map_scene(weights, paths, tmp_path / "out")
    for picture in ({"optical": [1, 1, 3]}, {"dem": [2, 2, 1]}):
        map_scene(weights, paths, tmp_path / "out", picture=picture, overwrite=True)
    assert titles == ["SWIR1, NIR, red", "red, red, NIR", "slope, slope, elevation"]


def test_the_record_and_the_picture_are_there(opened, made):
    wanted = {"architecture", "grid", "remarks", "recipe", "outlines", "area_km2", "provenance"}
    assert wanted | {"comparison", "reference", "share_with_data"} <= set(opened["map"])
    assert np.isclose(made[1]["share_with_data"], 1 - 4 * 7 / (24 * 520))
    assert (made[0] / "quicklook.png").stat().st_size > 5000
