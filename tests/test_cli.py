"""Every door of the command line: what works prints its result, wrong input one line, status 2."""

import subprocess
import sys
from unittest.mock import Mock

import h5py
import nbformat
import pytest
import yaml

import glavitu
from glavitu.__main__ import main
from glavitu.files import read_json
from glavitu.study import NOTEBOOKS


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs a command line and returns status, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["glavitu", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            main()
        captured = capsys.readouterr()
        return exit.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def profile(tiny_profile, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(
        yaml.safe_dump({k: v for k, v in tiny_profile.as_dict().items() if k != "name"})
    )
    return path


def test_help_is_there_without_importing_keras():
    code = (
        "import sys; sys.argv = ['glavitu', '--help']\n"
        "from glavitu.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: sys.exit('keras' in sys.modules or 'xarray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "train" in done.stdout


@pytest.mark.parametrize("notebook", ["01_data_exploration", "04_results"])
def test_notebooks_without_a_network_do_not_wait_for_keras(notebook):
    cells = nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    imports = next(cell.source for cell in cells if cell.cell_type == "code")
    code = f"{imports}\nimport sys; sys.exit('keras' in sys.modules)"
    assert not subprocess.run([sys.executable, "-c", code]).returncode


def test_without_a_command_the_help_is_shown_as_it_is(run):
    status, _, err = run()
    assert status == 2 and "\n  train " in err and "error" not in err


def test_models_prints_the_published_numbers_of_parameters(run):
    status, out, _ = run("models")
    assert status == 0
    for number in ("101,743,362", "32,608,386", "8,918,530", "10,054,084"):
        assert number in out


def test_train_predict_evaluate(run, tiny_data, profile, tmp_path):
    common = ("--data", tiny_data, "--profile", profile, "--out", tmp_path)
    status, out, _ = run("train", "-m", "resunet", "-n", "mine", *common)
    assert status == 0 and "best validation IoU" in out
    assert (tmp_path / "logs" / "mine_log.csv").exists()
    status, out, _ = run("predict", "-n", "mine", *common)
    assert status == 0 and "2 tiles in" in out
    status, out, _ = run("evaluate", "-n", "mine", "--out", tmp_path)
    assert status == 0 and out.startswith("mean IoU 0.") and "  ALP" in out and "  SVAL" in out
    status, _, err = run("evaluate", "-m", "setr", "-n", "mine", "--out", tmp_path)
    assert status == 2 and "predictions/mine are by resunet, not setr" in err
    for command, *options in (("evaluate", "-n", ""), ("train", "--sources", "", *common)):
        status, _, err = run(command, *options)
        assert status == 2 and ("it is empty" in err or "sources is ['']" in err)
    assert run("predict", "-n", "mine", "--stride", 5, *common)[0] == 0
    record = read_json(tmp_path / "predictions" / "mine" / "predictions.json")
    assert record["recipe"]["stride"] == 5


def test_the_precision_of_the_command_line_is_used_instead_of_the_profiles(
    run, tiny_data, profile, tmp_path
):
    common = ("--data", tiny_data, "--profile", profile, "--out", tmp_path)
    for precision in ("bfloat16", "float32"):
        wanted = ("-n", precision, "--precision", precision, *common)
        assert run("train", "-m", "resunet", *wanted)[0] == 0
        assert run("predict", *wanted)[0] == 0
        assert run("calibrate", *wanted)[0] == 0
        weights, predictions = tmp_path / "weights", tmp_path / "predictions" / precision
        assert read_json(weights / f"{precision}.json")["settings"]["precision"] == precision
        assert read_json(predictions / "predictions.json")["recipe"]["precision"] == precision
        assert read_json(weights / f"{precision}.calibration.json")["precision"] == precision
    status, _, err = run("train", "--precision", "half", *common)
    assert status == 2 and "'half' is not one of 'auto', 'float32', 'bfloat16'" in err


@pytest.mark.parametrize(
    "error, detail",
    [
        (MemoryError("8 TiB"), " (8 TiB)"),
        (type("OwnError", (MemoryError,), {})(), ""),
        (type("ResourceExhaustedError", (Exception,), {})("OOM when"), ""),
        (type("XlaRuntimeError", (RuntimeError,), {})("RESOURCE_EXHAUSTED: out of"), ""),
    ],
)
def test_memory_that_does_not_suffice_is_said_in_one_line(error, detail, run, monkeypatch):
    monkeypatch.setattr("glavitu.models.build_model", Mock(side_effect=error))
    told = f"error: memory does not suffice{detail}; try smaller tiles, patches or batches\n"
    assert run("models") == (1, "", told)


def test_the_public_names_and_no_others_are_listed():
    assert glavitu.train  # a name that was used is a global, too
    assert dir(glavitu) == glavitu.__all__ and "train" in dir(glavitu)


def test_compile(run, tile_table, tmp_path):
    status, out, _ = run("compile", tile_table, tmp_path / "out", "--patch-size", 16)
    assert status == 0 and out.count("\n") == 3
    assert "test.hdf5: 1 tile of ALP; dem (1), optical (2); 100% labelled" in out


def test_wrong_input_gives_one_line_and_status_2(run, tiny_data, tile_table, profile, tmp_path):
    (tmp_path / "text").mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / "text" / f"{split}.hdf5").write_text("hello")
    (tmp_path / "lacking").mkdir()
    for split in ("train", "val"):
        with h5py.File(tmp_path / "lacking" / f"{split}.hdf5", "w") as file:
            with h5py.File(tiny_data / f"{split}.hdf5") as whole:
                for name in whole:
                    whole.copy(name, file)
            del file["SVAL1-0000/dem"]
    common = ("--profile", profile, "--out", tmp_path / "out")
    for arguments, message in [
        (("train", "--data", tmp_path / "none", *common), "no data folder"),
        (("train", "--data", tmp_path / "text", *common), "not an HDF5 file"),
        (("train", "--data", tmp_path / "lacking", *common), "tile SVAL1-0000 has no 'dem'"),
        (("train", "-m", "unet", *common), "'unet' is not one of 'setr', 'resunet'"),
        (("train", "--data", tiny_data, "--out", "x"), "smaller than the patch of 128"),
        (("train", "--data", tiny_data, "--profile", "none"), "no profile 'none'"),
        (("predict", "--data", tiny_data, *common), "no weights at"),
        (("evaluate", "--out", tmp_path / "out"), "no predictions"),
        (("compile", tmp_path / "none.csv", tmp_path / "out"), "no table at"),
        (("demo-data", tmp_path / "demo", "--regions", "XX"), "no demo region 'XX'"),
        (("demo-data", tmp_path / "demo", "--tile-size", 1), "tile_size is 1, expected a whole"),
        (("train", "--nonsense"), "No such option"),
        (("train", "--seed", "many"), "not a valid integer"),
        (("nonsense",), "No such command"),
        (("train", "--data", tiny_data, "--profile", profile, "--out", profile), "Not a directory"),
    ]:
        status, out, err = run(*arguments)
        assert (status, out) == (2, ""), arguments
        assert err.startswith("error: ") and message in err and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists() and not (tmp_path / "demo").exists()
