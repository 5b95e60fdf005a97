import pytest

from tfrecord_tools.datasets import tables


def test_rows_with_comments_blank_lines_byte_order_mark_and_any_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbf# comment\r\nx, y\r\n\r\n1, "a, b"\r\n"two\nlines",\xce\xb1 \r\n3,c'
    )
    assert list(tables.read_cells(str(path))) == [
        (f"{path}, line 2", ["x", "y"]),
        (f"{path}, line 4", ["1", "a, b"]),
        (f"{path}, line 5", ["two\nlines", "α"]),
        (f"{path}, line 7", ["3", "c"]),
    ]


def test_named_columns(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('other\tfile\tid\n"1\tb\tc\n')
    rows = tables.read_table(
        str(path), ("path",), ("id", "absent"), {"file": "path"}, delimiter="\t"
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
        list(tables.read_table(str(path), ("path",), aliases={"filename": "path"}))


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.csv: expected a csv file there, found nothing"):
        list(tables.read_cells(str(tmp_path / "nowhere.csv")))
    with pytest.raises(ValueError, match="found a folder"):
        list(tables.read_cells(str(tmp_path)))
    (tmp_path / "latin.csv").write_bytes(b"p\xe4th\n")
    with pytest.raises(ValueError, match=r"latin\.csv: expected UTF-8"):
        list(tables.read_cells(str(tmp_path / "latin.csv")))


@pytest.mark.parametrize("text", ["", "ten", "-1", "nan", "inf"])
def test_bad_seconds(text):
    with pytest.raises(
        ValueError, match=f"here: start: expected a time in seconds, 0 or more, got '{text}'"
    ):
        tables.parse_seconds(text, "start", "here")


def test_numbers_spans_and_ids():
    assert tables.parse_seconds("1.5", "start", "here") == 1.5
    assert tables.parse_int("3", "fold", "here") == 3
    with pytest.raises(ValueError, match=r"here: fold: expected a whole number, got '3\.0'"):
        tables.parse_int("3.0", "fold", "here")
    tables.check_span(1.0, None, "here")
    with pytest.raises(
        ValueError, match="here: expected an end after the start, got 2 to 1 seconds"
    ):
        tables.check_span(2.0, 1.0, "here")
    ids = tables.UniqueIds()
    ids.add("a", "line 1")
    with pytest.raises(ValueError, match="line 2: clip id 'a' was there before, at line 1"):
        ids.add("a", "line 2")
