"""The result of every reader of a data set: clips and a class map."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable
from typing import Any

from tfrecord_tools import storage
from tfrecord_tools.datasets.tables import UniqueIds
from tfrecord_tools.text import join_some, parse_int, suggest

CLASS_COLUMNS = ("index", "mid", "display_name")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One labelled recording, or a span of one.

    Attributes:
        id: unique in its split.
        path: the audio file, or None where there is none (see `missing`).
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
    """The classes in the order of the network's outputs: mids and names, that of class i at i."""

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
    def by_label(self) -> dict[str, int]:
        """The class indices by display name and by mid, which goes first."""
        names = {name: index for index, name in enumerate(self.display_names)}
        return names | {mid: index for index, mid in enumerate(self.mids)}

    def index(self, label: str) -> int:
        """Return the class whose mid, or else whose display name, is `label`.

        Raises:
            ValueError: if there is none; names those that are spelt alike.
        """
        if label in self.by_label:
            return self.by_label[label]
        hint = suggest(label, self.by_label) or f"there are {len(self)} classes"
        raise ValueError(f"unknown class {label!r}; {hint}")

    def indices(self, labels: Iterable[str], where: str, hint: str = "") -> tuple[int, ...]:
        """Return the classes of some labels, ascending.

        Raises:
            ValueError: if a label is unknown; begins with `where`, ends with `hint`.
        """
        try:
            return tuple(sorted({self.index(label) for label in sorted(labels)}))
        except ValueError as error:
            raise ValueError(f"{where}: {error}{hint}") from error

    def to_csv(self) -> str:
        """Return the map in AudioSet's `class_labels_indices.csv` format."""
        rows = zip(range(len(self)), self.mids, self.display_names, strict=True)
        return storage.format_csv(rows, CLASS_COLUMNS)

    def write(self, path: str) -> None:
        """Write `to_csv()` to a file, atomically."""
        with storage.atomic_write(path) as stream:
            stream.write(self.to_csv())

    def differences(self, other: ClassMap, mine: str = "here", theirs: str = "there") -> str:
        """Return in words how two maps differ; empty if they are the same."""
        if self.mids == other.mids:
            return ""
        parts = [f"{len(self)} classes {mine}, {len(other)} {theirs}"]
        for where, here, there in ((mine, self, other), (theirs, other, self)):
            if only_here := [mid for mid in here.mids if mid not in set(there.mids)]:
                parts.append(f"only {where}: {join_some(only_here)}")
        if len(parts) == 1:
            parts.append("the same classes in another order")
        return "; ".join(parts)


def read_class_map(path: str) -> ClassMap:
    """Read AudioSet's `class_labels_indices.csv` format: columns index, mid, display_name.

    Raises:
        ValueError: if a column is missing, the index does not count from 0, or a mid is there
            twice.
    """
    rows = storage.read_csv(path, CLASS_COLUMNS)
    return collect_classes(path, ((where, *row.values()) for where, row in rows))


def collect_classes(path: str, rows: Iterable[tuple[str, ...]]) -> ClassMap:
    """Return the classes of a table whose rows count from 0.

    Args:
        path: the table, for messages.
        rows: (`FILE, line N`, index, mid, display name) of each row.

    Raises:
        ValueError: if the index does not count, or a mid is there twice.
    """
    names: list[tuple[str, str]] = []
    for where, index, mid, name in rows:
        if parse_int(index, "index", where) != len(names):
            raise ValueError(f"{where}: index: expected {len(names)}, the next class, got {index}")
        names.append((mid, name))
    try:
        return ClassMap(tuple(mid for mid, _ in names), tuple(name for _, name in names))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class FileClips:
    """Clips of audio files, gathered row by row; an id may come once.

    Attributes:
        clips: the clips so far.
    """

    def __init__(self) -> None:
        self.clips: list[Clip] = []
        self._ids = UniqueIds()

    def add(self, clip_id: str, folder: str, file: str, where: str, **values: Any) -> None:
        """Add the clip of `folder/file`; other values as for `Clip`.

        Raises:
            ValueError: if the id was there, or the path is bad (see `find_file`).
        """
        self._ids.add(clip_id, where)
        path, missing = find_file(folder, file, where)
        self.clips.append(Clip(clip_id, path, missing=missing, **values))


def find_file(folder: str, path: str, where: str) -> tuple[str | None, str]:
    """Return `folder/path` and "", or None and what is missing if no file stands there.

    Raises:
        ValueError: if `path` is empty, absolute, or climbs out of the folder.
    """
    normal = os.path.normpath(path)
    if not path or os.path.isabs(path) or normal.split(os.sep)[0] in ("", ".", ".."):
        raise ValueError(
            f"{where}: path: expected a file's path relative to, and inside, {folder or '.'}, "
            f"got {path!r}"
        )
    resolved = storage.join(folder, normal)
    return (resolved, "") if storage.is_file(resolved) else (None, f"no file {resolved}")


def sort_events(events: Iterable[tuple[int, float, float]]) -> tuple[tuple[int, float, float], ...]:
    """Return (class index, onset, offset) of events by onset, then offset, then class."""
    return tuple(sorted(events, key=lambda event: (*event[1:], event[0])))
