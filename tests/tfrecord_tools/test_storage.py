import json
import os
import subprocess
import sys

import pytest

from tfrecord_tools import storage


def test_join_and_is_remote():
    assert storage.join("a", "b", "c.txt") == os.path.join("a", "b", "c.txt")
    assert storage.join("s3://bucket/", "b", "c.txt") == "s3://bucket/b/c.txt"
    assert storage.is_remote("gs://bucket") and not storage.is_remote("/a/b")


def test_folders_and_files(tmp_path):
    folder = str(tmp_path / "a" / "b")
    assert not storage.exists(folder) and storage.list_dir(folder) == []
    storage.make_dirs(folder)
    storage.make_dirs(folder)
    for name in ("z", "y"):
        with storage.atomic_write(storage.join(folder, name), "wb") as stream:
            stream.write(b"12345")
    assert storage.is_dir(folder) and storage.list_dir(folder) == ["y", "z"]
    assert storage.size(storage.join(folder, "y")) == 5
    for _ in range(2):  # what is gone may be removed
        storage.remove(storage.join(folder, "y"))
        storage.remove_tree(str(tmp_path / "a"))
    assert not storage.exists(str(tmp_path / "a"))


def test_atomic_write_leaves_the_old_file_on_an_error(tmp_path):
    path = str(tmp_path / "file.txt")
    with storage.atomic_write(path) as stream:
        stream.write("old")
    with pytest.raises(RuntimeError), storage.atomic_write(path) as stream:
        stream.write("new")
        assert os.listdir(tmp_path) != ["file.txt"], "the new text is not written over the old"
        raise RuntimeError
    assert os.listdir(tmp_path) == ["file.txt"]
    with storage.open_file(path) as stream:
        assert stream.read() == "old"


def test_text_is_utf8_and_its_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"\xef\xbb\xbf\xce\xb1\r\n")
    with storage.open_file(str(path)) as stream:
        assert stream.read() == "α\r\n"


def test_json(tmp_path):
    path = str(tmp_path / "file.json")
    storage.write_json(path, {"α": [1, 2.5]})
    assert storage.read_json(path) == {"α": [1, 2.5]}
    with pytest.raises(ValueError):
        storage.write_json(path, float("nan"))
    (tmp_path / "file.json").write_text("{")
    with pytest.raises(ValueError, match=r"file\.json is not valid JSON"):
        storage.read_json(path)


def test_local_copy_of_a_local_file_is_itself(tmp_path):
    with storage.local_copy(str(tmp_path)) as path:
        assert path == str(tmp_path)


def test_remote_paths_go_through_tensorflow(monkeypatch):
    """`ram://` is TensorFlow's file system in memory."""
    pytest.importorskip("tensorflow")
    folder = "ram://folder/sub"
    storage.make_dirs(folder)
    path = storage.join(folder, "file.json")
    storage.write_json(path, {"a": 1})
    assert storage.read_json(path) == {"a": 1}
    assert (
        storage.exists(path)
        and storage.is_dir(folder)
        and storage.list_dir(folder) == ["file.json"]
    )
    assert storage.size(path) == len('{\n  "a": 1\n}\n')
    with storage.local_copy(path) as local, open(local) as stream:
        assert json.load(stream) == {"a": 1}
    storage.remove(path)
    storage.remove(path)
    assert storage.list_dir(folder) == []
    storage.remove_tree(folder)
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(ValueError, match="s3://bucket/key: s3:// needs tensorflow-io"):
        storage.exists("s3://bucket/key")


def test_importing_does_not_load_tensorflow():
    code = "import sys; from tfrecord_tools import shards; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
