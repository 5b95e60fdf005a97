import io
import re

import numpy as np
import pytest

from secost_tf.detection.screen import Screen, bar, event_line, sparkline
from secost_tf.detection.stream import Event


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.0, "    "),
        (1.0, "████"),
        (0.5, "██  "),
        (1 / 32, "▏   "),
        (0.25 + 7 / 32, "█▉  "),
        (7.0, "████"),
        (-1.0, "    "),
    ],
)
def test_a_bar(score, expected):
    assert bar(score, 4) == expected


def test_a_sparkline():
    assert sparkline([0.0, 0.125, 0.5, 1.0, 2.0, -1.0]) == " ▁▄██ "


def test_lines_of_events():
    assert event_line(Event(0, 12.8, None, 0.5), "Rain") == "   12.80 s  Rain begins"
    assert (
        event_line(Event(0, 12.8, 16.0, 0.93), "Rain")
        == "   16.00 s  Rain ends after 3.20 s, peak 0.93"
    )


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


NAMES = ("Rain", "Dog", "A class whose name is longer than most of them are, and then some")


def shown(text: str) -> list[str]:
    """What stands on the terminal after the text: its lines, without styles."""
    lines = [""]
    for piece in re.split(r"(\x1b\[\d+A\x1b\[J|\n)", re.sub(r"\x1b\[\d*m", "", text)):
        if up := re.fullmatch(r"\x1b\[(\d+)A\x1b\[J", piece):
            assert lines[-1] == "" and int(up[1]) < len(lines)
            lines = [*lines[: -int(up[1]) - 1], ""]
        elif piece == "\n":
            lines.append("")
        else:
            lines[-1] += piece
    return lines


@pytest.mark.usefixtures("narrow")
def test_the_table_is_drawn_in_its_place_and_events_stay_above_it():
    stream = io.StringIO()
    screen = Screen(stream, NAMES, "secost, version 1: a.wav", top=2, is_terminal=True)
    for second, scores in enumerate(([0.5, 0.1, 0.0], [0.25, 0.9, 0.0])):
        screen.add(np.array(scores))
        screen.events([Event(second, float(second), None, 0.5)])
        screen.draw(second + 0.5, [1])
    assert shown(stream.getvalue()) == [
        "    0.00 s  Rain begins",
        "    1.00 s  Dog begins",
        "",
        "     1.5 s  secost, version 1: a.wav",
        f"  Dog       {bar(0.9)} 0.90  ▁▇",
        f"  Rain      {bar(0.25)} 0.25  ▄▂",
        "",
    ]
    bold = re.findall(r"\x1b\[1m(.*?)\x1b\[0m", stream.getvalue())
    assert bold and all(row.startswith("  Dog") for row in bold)
    screen.close()
    assert shown(stream.getvalue()) == ["    0.00 s  Rain begins", "    1.00 s  Dog begins", ""]


@pytest.mark.parametrize("columns", [20, 30, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = io.StringIO()
    screen = Screen(stream, NAMES, "a long title " * 20, top=10, is_terminal=True)
    for _ in range(40):
        screen.add(np.array([0.5, 0.1, 1.0]))
    screen.draw(12.8, [])
    lines = shown(stream.getvalue())
    assert len(lines) == 2 + 3 + 1
    assert max(map(len, lines)) < columns


@pytest.mark.parametrize(("height", "rows"), [(24, 3), (6, 3), (5, 2), (2, 1)])
def test_the_table_is_not_higher_than_the_terminal(monkeypatch, height, rows):
    monkeypatch.setenv("LINES", str(height))
    stream = io.StringIO()
    screen = Screen(stream, NAMES, "title", top=10, is_terminal=True)
    screen.add(np.array([0.5, 0.1, 1.0]))
    screen.draw(12.8, [])
    assert len(shown(stream.getvalue())) == 2 + rows + 1


def test_elsewhere_than_on_a_terminal_there_are_events_alone():
    stream = io.StringIO()
    screen = Screen(stream, NAMES, "title", top=2, is_terminal=False)
    screen.add(np.array([0.5, 0.1, 0.0]))
    screen.events([Event(0, 0.0, None, 0.5)])
    screen.draw(0.5, [0])
    screen.close()
    assert stream.getvalue() == "    0.00 s  Rain begins\n"
