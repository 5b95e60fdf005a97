"""What stands on a terminal, and elsewhere, by a small model of a terminal's cursor."""

import io
import itertools
import re

import numpy as np
import pytest

from secost_tf.detection.events import Event
from secost_tf.detection.screen import Screen, event_line, sparkline

NAMES = ("Rain", "Dog", "A class whose name is longer than most of them are, [and] then some")


def test_a_sparkline():
    assert sparkline([0.0, 0.125, 0.5, 1.0, 2.0, -1.0]) == " ▁▄██ "


def test_lines_of_events():
    assert event_line(Event(0, 12.8, None, 0.5), "Rain") == "   12.80 s  Rain begins"
    ended = event_line(Event(0, 12.8, 16.0, 0.93), "Rain")
    assert ended == "   16.00 s  Rain ends after 3.20 s, peak 0.93"


@pytest.fixture
def terminal(monkeypatch):
    """Makes the terminal as wide and high as is said."""

    def resize(columns: int, lines: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(lines))
        monkeypatch.setenv("TERM", "xterm")

    resize(80, 24)
    return resize


def screen_of(stream, top=10, title="title", is_terminal=True) -> Screen:
    return Screen(stream, NAMES, title, top, is_terminal, itertools.count().__next__)


def shown(text: str) -> list[str]:
    """What stands on the terminal after the text: its lines, without styles."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\n|\r|[^\x1b\n\r]+", text):
        if piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            column = 0
        elif up := re.fullmatch(r"\x1b\[(\d+)A", piece):
            row -= int(up[1])
            assert row >= 0
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif not piece.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + piece
            column += len(piece)
        if piece == "\n":
            column = 0
    return [line.rstrip() for line in lines]


def test_the_table_is_drawn_in_its_place_and_events_stay_above_it(terminal):
    stream = io.StringIO()
    with screen_of(stream, top=2, title="secost, version 1: a.wav") as screen:
        for second, scores in enumerate(([0.5, 0.125, 0.0], [0.25, 0.875, 0.0])):
            screen.add(np.array([scores]), [Event(second, float(second), None, 0.5)])
            screen.draw(second + 0.5, [Event(1, 1.0, None, 0.875)])
        during = stream.getvalue()
    events = ["    0.00 s  Rain begins", "    1.00 s  Dog begins"]
    assert shown(during) == [
        *events,
        "",
        "     1.5 s  secost, version 1: a.wav",
        f"  Dog  {'█' * 21}    0.88 ▁▇",
        f"  Rain {'█' * 6}{' ' * 18} 0.25 ▄▂",
    ]
    bold = re.findall(r"\x1b\[1m *([A-Za-z]+)", during)
    assert bold and set(bold) == {"Dog"}
    assert [line for line in shown(stream.getvalue()) if line] == events


@pytest.mark.parametrize("columns", [24, 44, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(terminal, columns):
    terminal(columns, 24)
    stream = io.StringIO()
    with screen_of(stream, title="a long title " * 20) as screen:
        screen.add(np.tile([0.5, 0.1, 1.0], (40, 1)), [])
        screen.draw(12.8, [])
        lines = shown(stream.getvalue())
    assert len(lines) == 2 + 3
    assert max(map(len, lines)) <= columns
    assert all(number in "".join(lines) for number in ("0.50", "0.10", "1.00"))
    assert any(line.startswith("  A class") for line in lines)


@pytest.mark.parametrize(("height", "rows"), [(24, 3), (8, 3), (6, 2), (5, 1), (2, 1)])
def test_the_table_leaves_a_third_of_the_terminal_to_events(terminal, height, rows):
    terminal(80, height)
    stream = io.StringIO()
    with screen_of(stream) as screen:
        screen.add(np.array([[0.5, 0.1, 1.0]]), [])
        screen.draw(12.8, [])
        lines = shown(stream.getvalue())
    assert len(lines) == min(2 + rows, height)


def test_what_is_drawn_too_soon_is_left_out(terminal):
    stream = io.StringIO()
    clock = iter([0.0, 0.05, 0.2]).__next__
    with Screen(stream, NAMES, "title", 2, True, clock) as screen:
        screen.add(np.array([[0.5, 0.1, 1.0]]), [])
        for second in (1, 2, 3):
            screen.draw(second, [])
    drawn = [second for second in (1, 2, 3) if f"{second:8.1f} s" in stream.getvalue()]
    assert drawn == [1, 3]


@pytest.mark.parametrize("kind", ["file", "dumb"])
def test_elsewhere_than_on_a_terminal_there_are_events_alone(terminal, monkeypatch, kind):
    if kind == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    with screen_of(stream, is_terminal=None if kind == "file" else True) as screen:
        screen.add(np.array([[0.5, 0.1, 0.0]]), [Event(0, 0.0, None, 0.5)])
        screen.draw(0.5, [Event(0, 0.0, None, 0.5)])
    assert stream.getvalue() == "    0.00 s  Rain begins\n"
