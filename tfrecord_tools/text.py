"""Texts for people, made and read: numbers, durations, sizes, lists, tables, suggestions."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence


# === Numbers ===
def format_figure(value: float | None, spec: str = ".4f", missing: str = "-") -> str:
    """Return a number as text; `missing` if it is None or not finite."""
    return missing if value is None or not math.isfinite(value) else format(value, spec)


def format_duration(seconds: float) -> str:
    """Return a length of time as `2 h 05 min`, `3 min 20 s` or `45 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def format_size(num_bytes: float) -> str:
    """Return a size as `812 kB`, `1.42 MB` or `3.07 GB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.2f} {name}"
    return f"{num_bytes / 1e3:.0f} kB"


def format_count(count: int, noun: str) -> str:
    """Return `1 seed` or `3 seeds`; for nouns with a plural in -s."""
    return f"{count} {noun}{'s' * (count != 1)}"


def parse_int(text: str, name: str, where: str) -> int:
    """Return the whole number that a text holds.

    Args:
        text: such as the cell of a table.
        name: what it is.
        where: where it stands, such as `FILE, line N`.

    Raises:
        ValueError: if it is not a whole number.
    """
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{where}: {name}: expected a whole number, got {text!r}") from None


def parse_number(
    text: str,
    name: str,
    where: str,
    expected: str,
    low: float = -math.inf,
    high: float = math.inf,
) -> float:
    """Return the finite number that a text holds.

    Args:
        text, name, where: see `parse_int`.
        expected: the end of "expected ..." in the error.
        low, high: bounds, both allowed.

    Raises:
        ValueError: if it is no such number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{where}: {name}: expected {expected}, got {text!r}")
    return value


# === Lists ===
def join_some(items: Iterable[str], most: int = 5, separator: str = ", ") -> str:
    """Return `a, b and 3 more`: the first `most` items, and how many are left."""
    items = list(items)
    more = f" and {len(items) - most} more" * (len(items) > most)
    return separator.join(items[:most]) + more


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'a' or 'b'?` of the known names most like `name`; empty if none is."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


# === Tables ===
def format_table(
    rows: Iterable[Sequence[str]], header: Sequence[str] = (), left: Sequence[int] = ()
) -> str:
    """Return the lines of a table, two spaces between columns, in as much width as it takes.

    Args:
        rows: the cells.
        header: the columns' names, ruled off; bold if stdout is a terminal. Default: none.
        left: places of the columns that are aligned left; the others are aligned right.
    """
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table

    rows = list(rows)
    rule = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
    table = Table(
        box=rule if header else None,
        show_header=bool(header),
        header_style="bold",
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if header else 2, 0, 0),
    )
    for place, name in enumerate(header or [""] * max(map(len, rows), default=0)):
        table.add_column(name, justify="left" if place in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=1_000_000, markup=False, emoji=False, highlight=False)
    with console.capture() as text:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.get().splitlines())
