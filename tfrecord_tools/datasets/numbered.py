"""Tables that give each clip a fold and one class, by number and by name."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import NamedTuple

from tfrecord_tools.datasets.clips import ClassMap, Clip, FileClips


class NumberedRow(NamedTuple):
    """The cells of a row that was read at `where`: its file, its fold and its class."""

    where: str
    folder: str
    file: str
    fold: int
    number: int
    name: str


def collect_clips(
    table: str, rows: Sequence[NumberedRow], column: str, folds: Collection[int]
) -> tuple[list[Clip], ClassMap]:
    """Return the clips of some folds, and the classes of all rows.

    Args:
        table: the file, for messages.
        rows: its rows.
        column: the name of the table's column of numbers.
        folds: the folds to take; all if empty.

    Returns:
        The clips, whole files with one label each, and the classes in the order of their numbers.

    Raises:
        ValueError: if a number has two names, a name two numbers, a clip occurs twice, or no row is
            selected.
    """
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for where, _, _, _, number, name in rows:
        if (known := names.setdefault(number, name)) != name:
            raise ValueError(f"{where}: {column} {number} is {known!r} above, here {name!r}")
        if (first := numbers.setdefault(name, number)) != number:
            raise ValueError(f"{where}: {name!r} has {column} {first} above, here {number}")
    ordered = sorted(names)
    selected = FileClips()
    for row in rows:
        if not folds or row.fold in folds:
            clip_id = os.path.splitext(row.file)[0]
            labels = (ordered.index(row.number),)
            selected.add(clip_id, row.folder, row.file, row.where, labels=labels)
    if not selected.clips:
        present = sorted({row.fold for row in rows})
        raise ValueError(
            f"{table}: no row is selected; asked for folds {folds or 'all'}, it has {present}"
        )
    display_names = tuple(names[number] for number in ordered)
    return selected.clips, ClassMap(display_names, display_names)
