import math

import pytest

from tfrecord_tools import text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599, "59 min 59 s"),
        (7 * 3600 + 125, "7 h 02 min"),
    ],
)
def test_durations_are_readable(seconds, shown):
    assert text.format_duration(seconds) == shown


def test_figures_sizes_and_counts():
    assert [text.format_figure(value) for value in (0.12345, -1, None, math.nan, math.inf)] == [
        *("0.1235", "-1.0000", "-", "-", "-"),
    ]
    assert text.format_figure(0.5, "+.1%", missing="") == "+50.0%"
    assert [text.format_size(size) for size in (400, 999_600, 1_234_567, 3.07e9)] == [
        *("0 kB", "1000 kB", "1.23 MB", "3.07 GB"),
    ]
    assert [text.format_count(count, "seed") for count in (0, 1, 2)] == [
        *("0 seeds", "1 seed", "2 seeds"),
    ]


def test_numbers_in_tables():
    assert text.parse_int("3", "fold", "here") == 3
    with pytest.raises(ValueError, match=r"here: fold: expected a whole number, got '3\.0'"):
        text.parse_int("3.0", "fold", "here")
    for bound in ("0", "1.0"):
        assert text.parse_number(bound, "alpha", "here", "a share", 0, 1) == float(bound)
    for wrong in ("", "ten", "-0.1", "1.1", "nan", "inf"):
        with pytest.raises(ValueError, match=f"here: alpha: expected a share, got '{wrong}'"):
            text.parse_number(wrong, "alpha", "here", "a share", 0, 1)


def test_lists_name_the_first_and_count_the_rest():
    assert text.join_some("abcde") == "a, b, c, d, e"
    assert text.join_some("abcdefg") == "a, b, c, d, e and 2 more"
    assert text.join_some(iter("abc"), most=2, separator="; ") == "a; b and 1 more"
    assert text.join_some([]) == ""


def test_suggestions():
    assert text.suggest("Speach", ["Music", "Speech"]) == "did you mean 'Speech'?"
    assert text.suggest("Barks", ["Bark", "Barke"]) == "did you mean 'Bark' or 'Barke'?"
    assert text.suggest("xyz", ["Bark"]) == ""


def test_a_table():
    rows = [("a", "1.5", "[red]x"), ("日本", "-10", ":smile:")]
    assert text.format_table(rows, ("name", "figure", "note"), left=(0,)).splitlines() == [
        "name  figure     note",
        "---------------------",
        "a        1.5   [red]x",
        "日本     -10  :smile:",
    ]
    assert text.format_table(iter(rows), left=(0, 2)).splitlines() == [
        "a     1.5  [red]x",
        "日本  -10  :smile:",
    ]
    assert text.format_table([]) == ""


def test_a_table_is_never_cut(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    row = [f"cell {place} of many" for place in range(20)]
    assert text.format_table([row], row).splitlines()[2] == "  ".join(row)


def test_a_heading_is_bold_on_a_terminal_alone(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    header, *_, row = text.format_table([("1",)], ("figure",)).splitlines()
    assert header.startswith("\x1b[1m") and "figure" in header and row == "     1"
