"""Label tables: csv and tsv rows, and cells turned into numbers; every error names file and line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence

from tfrecord_tools import storage


def read_cells(path: str, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """Yields `FILE, line N` and the stripped cells of each row that is neither blank nor a `#`
    comment.

    A byte-order mark, any line ends and spaces after the delimiter are accepted.

    Raises:
        ValueError: if the file is missing, not UTF-8, or badly quoted.
    """
    if storage.is_dir(path) or not storage.exists(path):
        raise ValueError(f"{path}: expected a csv file there, found {_what_is_at(path)}")
    try:
        with storage.open_file(path) as stream:
            text = stream.read().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text ({error})") from error
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=quoting,
        skipinitialspace=True,
        strict=True,
    )
    first_line = 1
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if any(cells) and not cells[0].startswith("#"):
                yield f"{path}, line {first_line}", cells
            first_line = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {first_line}: not a well-formed row ({error})") from error


def _what_is_at(path: str) -> str:
    return "a folder" if storage.is_dir(path) else "nothing"


def read_table(
    path: str,
    required: Sequence[str],
    optional: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    delimiter: str = ",",
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields `FILE, line N` and the named cells of each row of a table whose first row names its
    columns.

    Args:
        path: the file.
        required, optional: the columns to give; others are ignored, and an absent optional one is
            left out.
        aliases: other names of columns, as {alias: name}.
        delimiter: between cells.

    Raises:
        ValueError: if the file is bad, a required column is missing, one is named twice, or a row
            has more or fewer cells than the header.
    """
    rows = read_cells(path, delimiter)
    where, header = next(rows, (f"{path}, line 1", []))
    names = [(aliases or {}).get(name, name) for name in header]
    for name in required:
        if name not in names:
            found = f"found {', '.join(header)}" if header else "the file is empty"
            other = "".join(
                f" (or {alias!r})" for alias, meant in (aliases or {}).items() if meant == name
            )
            raise ValueError(f"{where}: expected a column {name!r}{other}; {found}")
    wanted = [name for name in (*required, *optional) if name in names]
    for name in wanted:
        if names.count(name) > 1:
            raise ValueError(f"{where}: column {name!r} is there {names.count(name)} times")
    places = {name: names.index(name) for name in wanted}
    for where, cells in rows:
        if len(cells) != len(header):
            raise ValueError(
                f"{where}: expected {len(header)} cells, as in the header ({', '.join(header)}), got {len(cells)}"
            )
        yield where, {name: cells[place] for name, place in places.items()}


def parse_seconds(text: str, name: str, where: str) -> float:
    """A time in seconds, finite and not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{where}: {name}: expected a time in seconds, 0 or more, got {text!r}")
    return value


def parse_int(text: str, name: str, where: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{where}: {name}: expected a whole number, got {text!r}") from None


def check_span(start_seconds: float, end_seconds: float | None, where: str) -> None:
    """Raises a `ValueError` if a span does not end after its start."""
    if end_seconds is not None and end_seconds <= start_seconds:
        raise ValueError(
            f"{where}: expected an end after the start, got {start_seconds:g} to {end_seconds:g} seconds"
        )


class UniqueIds:
    """Refuses an id that came before, naming both lines."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def add(self, clip_id: str, where: str) -> None:
        """Notes an id; a `ValueError` if it was there."""
        if (first := self._seen.setdefault(clip_id, where)) != where:
            raise ValueError(f"{where}: clip id {clip_id!r} was there before, at {first}")
