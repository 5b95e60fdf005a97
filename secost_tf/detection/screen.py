"""What a monitor shows: on a terminal a table that is drawn anew in its place, elsewhere plain
lines of events.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Sequence
from typing import TextIO

import numpy as np

from secost_tf.detection.stream import Event

_EIGHTHS = " ▏▎▍▌▋▊▉█"

_HEIGHTS = " ▁▂▃▄▅▆▇█"

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"

_BAR_CELLS = 24

_HISTORY_SEGMENTS = 24


def bar(score: float, cells: int = _BAR_CELLS) -> str:
    """A bar of `cells` characters, filled to a share of `score`, to an eighth of a character."""
    eighths = round(min(max(score, 0.0), 1.0) * cells * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(cells)


def sparkline(scores: Sequence[float]) -> str:
    """One character a score, whose height is the score."""
    return "".join(_HEIGHTS[round(min(max(score, 0.0), 1.0) * 8)] for score in scores)


def event_line(event: Event, name: str) -> str:
    """`  12.80 s  Rain begins`, or with its length where it ends."""
    if event.offset is None:
        return f"{event.onset:8.2f} s  {name} begins"
    return f"{event.offset:8.2f} s  {name} ends after {event.offset - event.onset:.2f} s, peak {event.peak:.2f}"


class Screen:
    """Shows events as they begin and end and, on a terminal, the classes with the highest scores
    below them.

    Args:
        stream: where to write.
        names: of the classes.
        title: of the table.
        top: rows of the table, at most.
        is_terminal: whether the table is shown, by cursor movements.
    """

    def __init__(
        self, stream: TextIO, names: Sequence[str], title: str, top: int, is_terminal: bool
    ):
        self._stream, self._names, self._title = stream, names, title
        self._top, self._is_terminal = min(top, len(names)), is_terminal
        self._history: deque[np.ndarray] = deque(maxlen=_HISTORY_SEGMENTS)
        self._drawn = 0  # lines of the table that stand there

    def events(self, events: Sequence[Event]) -> None:
        """Writes a line for each event, above the table."""
        if not events:
            return
        self._erase()
        for event in events:
            self._stream.write(event_line(event, self._names[event.class_index]) + "\n")
        self._stream.flush()

    def add(self, scores: np.ndarray) -> None:
        """Takes the scores [classes] of a segment into the table's history."""
        self._history.append(scores)

    def draw(self, seconds: float, sounding: Sequence[int]) -> None:
        """Draws the table anew.

        Args:
            seconds: of the stream so far.
            sounding: classes whose events last, which are shown bold.
        """
        if not self._is_terminal or not self._history:
            return
        self._erase()
        lines = self._table(seconds, set(sounding))
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()
        self._drawn = len(lines)

    def close(self) -> None:
        """Takes the table away; the events stay."""
        self._erase()
        self._stream.flush()

    def _table(self, seconds: float, sounding: set[int]) -> list[str]:
        scores = np.stack(self._history)  # [segments, classes]
        # By what was highest lately, so that rows do not jump with each segment.
        size = shutil.get_terminal_size()
        columns, rows = size.columns - 1, max(1, min(self._top, size.lines - 3))
        order = np.argsort(-scores[-8:].max(axis=0), kind="stable")[:rows]
        history = min(_HISTORY_SEGMENTS, max(0, columns - _BAR_CELLS - 30))
        width = max(
            8,
            min(
                max(len(self._names[index]) for index in order), columns - _BAR_CELLS - history - 12
            ),
        )
        lines = ["", f"{_DIM}{f'{seconds:8.1f} s  {self._title}'[:columns]}{_PLAIN}"]
        for index in order:
            name = self._names[index]
            name = name if len(name) <= width else name[: width - 1] + "…"
            style = _BOLD if index in sounding else ""
            lately = sparkline(scores[-history:, index]) if history else ""
            row = f"  {name:<{width}}  {bar(scores[-1, index])} {scores[-1, index]:4.2f}  {lately}"
            lines.append(f"{style}{row[:columns]}{_PLAIN if style else ''}")
        return lines

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(
                f"\x1b[{self._drawn}A\x1b[J"
            )  # to its first line; clears what is below
            self._drawn = 0
