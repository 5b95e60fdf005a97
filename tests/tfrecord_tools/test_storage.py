import json
import os
import sys

import numpy as np
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
    value = {
        "α": (1, np.float32(2.5)),
        "none": np.array([[np.nan, 1], [-np.inf, 2]]),
        "n": np.int64(3),
    }
    storage.write_json(path, value)
    assert storage.read_json(path) == {"α": [1, 2.5], "none": [[None, 1], [None, 2]], "n": 3}
    with pytest.raises(TypeError):
        storage.write_json(path, {"a": {1}})
    assert storage.read_json(path)["n"] == 3, "the old file is left"
    (tmp_path / "file.json").write_text("{")
    with pytest.raises(ValueError, match=r"file\.json is not valid JSON"):
        storage.read_json(path)


# --- csv ---


def test_rows_by_name_or_in_order(tmp_path):
    path = str(tmp_path / "a.csv")
    rows = [{"a": 1, "b": None}, {"b": 'x,"y"', "a": 0.1}, {"a": "two\nlines"}]
    storage.write_csv(path, rows)
    text = 'a,b\n1,\n0.1,"x,""y"""\n"two\nlines",\n'
    with open(path, newline="", encoding="utf-8") as stream:
        assert stream.read() == text == storage.format_csv(rows)
    assert [row for _, row in storage.read_csv(path)] == [
        {"a": "1", "b": ""},
        {"a": "0.1", "b": 'x,"y"'},
        {"a": "two\nlines", "b": ""},
    ]
    storage.write_csv(path, iter([(1, "α"), (2, "b")]), delimiter="\t")
    with open(path, newline="", encoding="utf-8") as stream:
        assert stream.read() == "1\tα\n2\tb\n"
    assert storage.format_csv([], ("a", "b")) == "a,b\n"
    with pytest.raises(ValueError, match="expected the columns a, got also b"):
        storage.write_csv(path, [{"a": 1}, {"a": 1, "b": 2}])
    with open(path, encoding="utf-8") as stream:
        assert stream.read() == "1\tα\n2\tb\n", "the old file is left"


def test_cells_as_they_stand(tmp_path):
    path = tmp_path / "a.csv"
    rows = [["#1", " a"], ["", ""], [' "b" ', "c "]]
    storage.write_csv(str(path), rows, ("id", "x"))
    assert list(storage.read_csv(str(path), ("id",), exact=True)) == [
        (f"{path}, line 2", {"id": "#1"}),
        (f"{path}, line 4", {"id": ' "b" '}),
    ]


def test_rows_with_comments_blank_lines_byte_order_mark_and_any_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbf# comment\r\nx, y\r\n\r\n1, "a, b"\r\n"two\nlines",\xce\xb1 \r\n3,c'
    )
    assert list(storage.read_cells(str(path))) == [
        (f"{path}, line 2", ["x", "y"]),
        (f"{path}, line 4", ["1", "a, b"]),
        (f"{path}, line 5", ["two\nlines", "α"]),
        (f"{path}, line 7", ["3", "c"]),
    ]


def test_named_columns(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('other\tfile\tid\n"1\tb\tc\n')
    rows = storage.read_csv(
        str(path), ("path",), ("id", "absent"), aliases={"file": "path"}, delimiter="\t"
    )
    assert list(rows) == [(f"{path}, line 2", {"path": "b", "id": "c"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: expected a column 'path' \(or 'filename'\); the file is empty"),
        ("x,y\n1,2\n", r"line 1: expected a column 'path' \(or 'filename'\); found x, y"),
        ("path,filename\n1,2\n", "line 1: column 'path' is there 2 times"),
        ("path,y\n1,2\n3\n", r"line 3: expected 2 cells, as in the header \(path, y\), got 1"),
        ('path\n"a"b\n', "line 2: not a well-formed row"),
        ('path\n"a\n', "line 2: not a well-formed row"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"a\.csv, {message}"):
        list(storage.read_csv(str(path), ("path",), aliases={"filename": "path"}))


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.csv: expected a csv file there, found nothing"):
        list(storage.read_cells(str(tmp_path / "nowhere.csv")))
    with pytest.raises(ValueError, match="found a folder"):
        list(storage.read_cells(str(tmp_path)))
    (tmp_path / "latin.csv").write_bytes(b"p\xe4th\n")
    with pytest.raises(ValueError, match=r"latin\.csv: expected UTF-8"):
        list(storage.read_cells(str(tmp_path / "latin.csv")))


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
