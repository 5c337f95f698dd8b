import pytest

from glavitu.files import read_json, replacing, write_json


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.weights.h5"
    with replacing(path) as part:
        assert part.name.endswith("a.weights.h5") and not path.exists()
        part.write_text("first")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("sec")
        raise RuntimeError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1, None]})
    assert read_json(tmp_path / "a.json") == {"é": [1, None]}
