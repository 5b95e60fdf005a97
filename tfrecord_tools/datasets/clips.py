"""What every reader of a data set gives: clips and a class map."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterable

from tfrecord_tools import storage
from tfrecord_tools.datasets.tables import parse_int

CLASS_COLUMNS = ("index", "mid", "display_name")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One labelled recording, or a span of one.

    Attributes:
        id: unique in its split.
        path: the audio file, or None where it was looked for and not found.
        start_seconds, end_seconds: the span of the recording to cut out; end None means to the
            recording's end.
        labels: class indices that are present; may be empty (a clip with no positive).
        events: (class index, onset, offset) in seconds from the clip's start, where known.
        file_start_seconds: where in the recording the file begins: 0 if it holds the whole
            recording, `start_seconds` if it holds the span alone, None if only its length can tell.
        missing: why there is no path.
    """

    id: str
    path: str | None
    start_seconds: float = 0.0
    end_seconds: float | None = None
    labels: tuple[int, ...] = ()
    events: tuple[tuple[int, float, float], ...] = ()
    file_start_seconds: float | None = 0.0
    missing: str = ""


@dataclasses.dataclass(frozen=True)
class ClassMap:
    """The classes in the order of the network's outputs: (mid, display name) of class i at place i."""

    mids: tuple[str, ...]
    display_names: tuple[str, ...]

    def __post_init__(self):
        if len(self.mids) != len(self.display_names) or not self.mids:
            raise ValueError(
                f"ClassMap: expected as many mids as display names and at least one class, "
                f"got {len(self.mids)} and {len(self.display_names)}"
            )
        repeated = sorted({mid for mid in self.mids if self.mids.count(mid) > 1})
        if repeated:
            raise ValueError(f"ClassMap: classes given twice: {', '.join(repeated)}")

    def __len__(self) -> int:
        return len(self.mids)

    @functools.cached_property
    def _indices(self) -> dict[str, int]:
        names = {name: index for index, name in enumerate(self.display_names)}
        return names | {mid: index for index, mid in enumerate(self.mids)}

    def index(self, label: str) -> int:
        """The class whose mid, or else whose display name, is `label`; a `ValueError` names the
        nearest ones.
        """
        if label in self._indices:
            return self._indices[label]
        near = difflib.get_close_matches(label, self._indices, n=3)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else f"there are {len(self)} classes"
        )
        raise ValueError(f"unknown class {label!r}; {hint}")

    def to_csv(self) -> str:
        """The map in AudioSet's `class_labels_indices.csv` format."""
        rows = zip(range(len(self)), self.mids, self.display_names, strict=True)
        return storage.format_csv(rows, CLASS_COLUMNS)

    def write(self, path: str) -> None:
        """Writes `to_csv()` to a file, atomically."""
        with storage.atomic_write(path) as stream:
            stream.write(self.to_csv())

    def differences(self, other: ClassMap, mine: str = "here", theirs: str = "there") -> str:
        """A readable account of how two maps differ; empty if they are the same."""
        if self.mids == other.mids:
            return ""
        only_mine = [mid for mid in self.mids if mid not in set(other.mids)]
        only_theirs = [mid for mid in other.mids if mid not in set(self.mids)]
        parts = [f"{len(self)} classes {mine}, {len(other)} {theirs}"]
        parts += (
            [f"only {mine}: {', '.join(only_mine[:5])}{' ...' * (len(only_mine) > 5)}"]
            if only_mine
            else []
        )
        parts += (
            [f"only {theirs}: {', '.join(only_theirs[:5])}{' ...' * (len(only_theirs) > 5)}"]
            if only_theirs
            else []
        )
        parts += ["the same classes in another order"] if not only_mine and not only_theirs else []
        return "; ".join(parts)


def read_class_map(path: str) -> ClassMap:
    """Reads AudioSet's `class_labels_indices.csv` format: columns index, mid, display_name; the
    index counts from 0.

    Raises:
        ValueError: if a column is missing, the index does not count, or a mid is there twice.
    """
    rows = []
    for where, row in storage.read_csv(path, CLASS_COLUMNS):
        if parse_int(row["index"], "index", where) != len(rows):
            raise ValueError(
                f"{where}: index: expected {len(rows)}, the next class, got {row['index']}"
            )
        rows.append((row["mid"], row["display_name"]))
    try:
        return ClassMap(tuple(mid for mid, _ in rows), tuple(name for _, name in rows))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def numbered_classes(rows: Iterable[tuple[str, int, str]], column: str) -> dict[int, str]:
    """The classes of a table that gives both a number and a name in every row.

    Args:
        rows: (`FILE, line N`, number, name) of each row.
        column: what the table calls the number.

    Returns:
        The names by number, in the order of the numbers.

    Raises:
        ValueError: if a number has two names, or a name two numbers; names file and line.
    """
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for where, number, name in rows:
        if (known := names.setdefault(number, name)) != name:
            raise ValueError(f"{where}: {column} {number} is {known!r} above, here {name!r}")
        if (first := numbers.setdefault(name, number)) != number:
            raise ValueError(f"{where}: {name!r} has {column} {first} above, here {number}")
    return dict(sorted(names.items()))
