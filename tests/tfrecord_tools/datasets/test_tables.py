import pytest

from tfrecord_tools.datasets import tables


@pytest.mark.parametrize("text", ["", "ten", "-1", "nan", "inf"])
def test_bad_seconds(text):
    with pytest.raises(
        ValueError, match=f"here: start: expected a time in seconds, 0 or more, got '{text}'"
    ):
        tables.parse_seconds(text, "start", "here")


def test_numbers_spans_and_ids():
    assert tables.parse_seconds("1.5", "start", "here") == 1.5
    assert tables.parse_span("1", "1.5", "here") == (1.0, 1.5)
    with pytest.raises(
        ValueError, match="here: expected an end after the start, got 2 to 1 seconds"
    ):
        tables.parse_span("2", "1", "here")
    ids = tables.UniqueIds()
    ids.add("a", "line 1")
    with pytest.raises(ValueError, match="line 2: clip id 'a' was there before, at line 1"):
        ids.add("a", "line 2")
