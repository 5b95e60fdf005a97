"""Any collection: a csv with the columns path, labels[, id, start, end, split, fold]."""

from __future__ import annotations

import os
from collections import Counter

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip, FileClips, read_class_map
from tfrecord_tools.datasets.tables import parse_seconds, parse_span
from tfrecord_tools.text import parse_int

ALIASES = {"filename": "path", "label": "labels"}

LABEL_SEPARATOR = ";"


def read_manifest(
    *,
    manifest: str,
    split: str,
    audio_dir: str | None = None,
    class_labels_csv: str | None = None,
    folds: tuple[int, ...] = (),
) -> tuple[list[Clip], ClassMap]:
    """Read the rows of one split.

    Args:
        manifest: the csv. `labels` holds display names or mids joined by `;`, and may be empty;
            `start` and `end` are seconds; `id` is by default the path without its extension.
            `filename` and `label` are read as `path` and `labels`.
        split: taken are the rows whose `split` cell is this; without such a column, all.
        audio_dir: the folder that paths are relative to; by default the manifest's own.
        class_labels_csv: the classes; by default the sorted distinct labels of the whole manifest,
            all splits.
        folds: taken are the rows whose `fold` cell is one of these; by default all.

    A path must be relative and must not climb out of the folder. A symbolic link in the folder is
    followed wherever it leads: who made the folder made the link.

    Raises:
        ValueError: if a column is missing, or a row's path, labels, times or id are wrong; names
            file and line.
    """
    columns = ("path", "labels"), ("id", "start", "end", "split", "fold")
    rows = list(storage.read_csv(manifest, *columns, aliases=ALIASES))
    if not rows:
        raise ValueError(f"{manifest}: no rows below the header")
    if folds and "fold" not in rows[0][1]:
        raise ValueError(f"{manifest}, line 1: --folds needs a column 'fold'")
    labels = {where: _split_labels(row["labels"]) for where, row in rows}
    if class_labels_csv:
        class_map = read_class_map(class_labels_csv)
    elif names := tuple(sorted(set().union(*labels.values()))):
        class_map = ClassMap(names, names)
    else:
        raise ValueError(f"{manifest}: no row has a label")
    folder = audio_dir or os.path.dirname(manifest)
    selected = FileClips()
    for where, row in rows:
        if row.get("split", split) != split or (
            folds and parse_int(row["fold"], "fold", where) not in folds
        ):
            continue
        start = row.get("start") or "0"
        seconds = (
            parse_span(start, row["end"], where)
            if row.get("end")
            else (parse_seconds(start, "start", where), None)
        )
        selected.add(
            row.get("id") or os.path.splitext(row["path"])[0],
            folder,
            row["path"],
            where,
            start_seconds=seconds[0],
            end_seconds=seconds[1],
            labels=class_map.indices(labels[where], f"{where}: labels"),
        )
    if not selected.clips:
        raise ValueError(f"{manifest}: no row is selected; {_describe_choice(rows, split, folds)}")
    return selected.clips, class_map


def _split_labels(cell: str) -> set[str]:
    """Return the names in a cell."""
    return {name.strip() for name in cell.split(LABEL_SEPARATOR)} - {""}


def _describe_choice(
    rows: list[tuple[str, dict[str, str]]], split: str, folds: tuple[int, ...]
) -> str:
    """Return in words what was asked for, and what the manifest has."""
    parts = []
    for name, asked in (("split", split), ("fold", ", ".join(map(str, folds)))):
        if name in rows[0][1] and asked:
            counts = sorted(Counter(row[name] for _, row in rows).items())[:20]
            values = ", ".join(f"{value!r} ({count} rows)" for value, count in counts)
            parts.append(f"asked for {name} {asked}, the manifest has {values}")
    return "; ".join(parts)
