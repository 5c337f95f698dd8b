import errno
import subprocess
import sys
import threading

import pytest

from glavitu.errors import InputError
from glavitu.files import locked, read_json, remove_left_locks, replacing, write_json


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


def test_what_a_killed_writer_left_is_removed_with_all_beside_it(tmp_path):
    path, shown = tmp_path / "a.gpkg", []
    left = tmp_path / ".part-a.gpkg"
    left.mkdir()
    (left / "a.gpkg-journal").write_text("SQLite would put this into the new file")
    with replacing(path) as part:
        shown += part.parent.iterdir()
        part.write_text("new")
    assert not shown and [p.name for p in tmp_path.iterdir()] == ["a.gpkg"]


HOLD = (
    "import sys, time\nfrom glavitu.files import locked\n"
    "with locked(sys.argv[1]): print('held', flush=True); time.sleep(60)"
)


def test_a_second_run_is_refused_until_the_first_ends_however_it_does(tmp_path):
    path = tmp_path / "new" / "result"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match=f"at work on {path}; wait"), locked(path):
        pass
    with locked(tmp_path / "new" / "other"):
        pass
    holder.kill()
    holder.communicate()
    with locked(path):
        pass
    assert not list((tmp_path / "new").iterdir())


def test_locks_of_killed_holders_go_and_those_of_others_stay(tmp_path):
    paths = tmp_path / "weights" / "dead", tmp_path / "weights" / "alive"
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
        for path in paths
    ]
    assert all(holder.stdout.readline() == b"held\n" for holder in holders)
    holders[0].kill()
    holders[0].communicate()
    remove_left_locks(tmp_path)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [".lock-alive"]
    with pytest.raises(InputError, match="at work on"), locked(paths[1]):
        pass
    holders[1].kill()
    holders[1].communicate()


def test_of_many_runs_at_once_one_works_at_a_time(tmp_path):
    inside, most, refused = [0], [], []

    def work():
        for _ in range(200):
            try:
                with locked(tmp_path / "result"):
                    inside[0] += 1
                    most.append(inside[0])
                    inside[0] -= 1
            except InputError:
                refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) + len(refused) == 800


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    for error in (OSError(errno.ENOSPC, ""), RuntimeError("database or disk is full")):
        with pytest.raises(OSError) as told, replacing(tmp_path / "a"):
            raise ValueError from error
        assert told.value.filename == str(tmp_path / "a") and told.value.errno == errno.ENOSPC
    with pytest.raises(InputError), replacing(tmp_path / "a"):
        raise InputError("disk is full of input")
