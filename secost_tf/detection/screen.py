"""The output of a monitor: on a terminal a table that stays in its place, elsewhere lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TextIO

import numpy as np
from rich.bar import Bar
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from secost_tf.detection.events import Event

_HEIGHTS = " ▁▂▃▄▅▆▇█"
_LATELY_SEGMENTS = 8  # by whose highest scores the rows are ordered, so that they do not jump
_HISTORY_SEGMENTS = 24
_MOST_BAR_CELLS, _LEAST_BAR_CELLS = 24, 8
_LEAST_NAME_CELLS = 8
_GAPS_CELLS = 12  # the score, what lies between the columns, and room for the ^C that is echoed
_HEADING_LINES = 2  # an empty one and the title
_TABLE_SHARE = 2 / 3  # of the terminal's height; the rest shows the latest events
_LEAST_SECONDS = 0.1  # from one drawing to the next


def sparkline(scores: Sequence[float]) -> str:
    """Return one character a score, whose height is the score."""
    return "".join(_HEIGHTS[round(min(max(score, 0.0), 1.0) * 8)] for score in scores)


def event_line(event: Event, name: str) -> str:
    """Return `  12.80 s  Rain begins`, or a line with its length where it ends."""
    if event.offset is None:
        return f"{event.onset:8.2f} s  {name} begins"
    seconds = event.offset - event.onset
    return f"{event.offset:8.2f} s  {name} ends after {seconds:.2f} s, peak {event.score:.2f}"


class Screen:
    """Shows events as they begin and end and, on a terminal, the highest scores below them.

    Used in a `with` statement, at whose end the table goes and the events stay.

    Args:
        stream: where to write.
        names: of the classes.
        title: of the table.
        top: rows of the table, at most.
        is_terminal: show the table. Default: if `stream` is a terminal.
        clock: seconds; the table is drawn ten times a second, at most.
    """

    def __init__(
        self,
        stream: TextIO,
        names: Sequence[str],
        title: str,
        top: int,
        is_terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        if is_terminal is None:
            is_terminal = stream.isatty()
        self._stream, self._names, self._title, self._top = stream, names, title, top
        self._history: deque[np.ndarray] = deque(maxlen=_HISTORY_SEGMENTS)
        self._clock, self._drawn = clock, -_LEAST_SECONDS
        console = Console(file=stream, force_terminal=is_terminal, highlight=False)
        self._live = None
        if is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                console=console, auto_refresh=False, transient=True, vertical_overflow="crop"
            )

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()
        self._stream.flush()

    def add(self, scores: np.ndarray, events: Sequence[Event]) -> None:
        """Take the scores of the next segments, [n, classes], and write a line for each event."""
        self._history.extend(scores)
        for event in events:
            line = event_line(event, self._names[event.class_index])
            if self._live:
                self._live.console.print(Text(line))
            else:
                self._stream.write(line + "\n")
        if events:
            self._stream.flush()

    def draw(self, seconds: float, current: Sequence[Event]) -> None:
        """Draw the table anew, unless it was drawn just before.

        Args:
            seconds: of the sound so far.
            current: the events that last, whose classes are shown bold.
        """
        if not self._live or not self._history:
            return
        now = self._clock()
        if now >= self._drawn + _LEAST_SECONDS:
            self._drawn = now
            sounding = {event.class_index for event in current}
            table = self._table(self._live.console, seconds, sounding)
            self._live.update(table, refresh=True)

    def _table(self, console: Console, seconds: float, sounding: set[int]) -> Group:
        size = console.size
        scores = np.stack(self._history)  # [segments, classes]
        rows = max(1, min(self._top, int(_TABLE_SHARE * size.height) - _HEADING_LINES))
        lately = scores[-_LATELY_SEGMENTS:].max(axis=0)
        order = np.argsort(-lately, kind="stable")[:rows]
        # What there is room for: names first, then longer bars, then how the scores came about.
        room = size.width - _GAPS_CELLS
        longest = max(len(self._names[index]) for index in order)
        name_cells = min(longest, max(_LEAST_NAME_CELLS, room - _LEAST_BAR_CELLS))
        bar_cells = min(_MOST_BAR_CELLS, max(1, room - name_cells))
        history = min(_HISTORY_SEGMENTS, max(0, room - name_cells - bar_cells))
        table = Table.grid(padding=(0, 1))
        for width in (1, name_cells, bar_cells, 4, history):
            table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        for index in order:
            score = float(scores[-1, index])
            table.add_row(
                "",
                Text(self._names[index]),
                Bar(1.0, 0.0, min(max(score, 0.0), 1.0), width=bar_cells),
                f"{score:4.2f}",
                sparkline(scores[max(len(scores) - history, 0) :, index].tolist()),
                style="bold" if index in sounding else "",
            )
        title = Text(f"{seconds:8.1f} s  {self._title}", "dim", no_wrap=True, overflow="ellipsis")
        return Group("", title, table)
