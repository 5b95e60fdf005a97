"""Any collection: a csv with the columns path, labels[, id, start, end, split, fold]."""

from __future__ import annotations

import os
from collections import Counter

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip, read_class_map
from tfrecord_tools.datasets.tables import (
    UniqueIds,
    check_span,
    parse_int,
    parse_seconds,
)

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
    """Reads the rows of one split.

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
    rows = list(
        storage.read_csv(
            manifest,
            ("path", "labels"),
            ("id", "start", "end", "split", "fold"),
            aliases=ALIASES,
        )
    )
    if not rows:
        raise ValueError(f"{manifest}: no rows below the header")
    if folds and "fold" not in rows[0][1]:
        raise ValueError(f"{manifest}, line 1: --folds needs a column 'fold'")
    names = {where: _label_names(row["labels"]) for where, row in rows}
    class_map = (
        read_class_map(class_labels_csv)
        if class_labels_csv
        else _distinct(manifest, names.values())
    )
    folder = audio_dir or os.path.dirname(manifest)
    clips, ids = [], UniqueIds()
    for where, row in rows:
        if row.get("split", split) != split or (
            folds and parse_int(row["fold"], "fold", where) not in folds
        ):
            continue
        clip_id = row.get("id") or os.path.splitext(row["path"])[0]
        ids.add(clip_id, where)
        path, missing = find_file(folder, row["path"], where)
        start = parse_seconds(row.get("start") or "0", "start", where)
        end = parse_seconds(row["end"], "end", where) if row.get("end") else None
        check_span(start, end, where)
        clips.append(
            Clip(
                id=clip_id,
                path=path,
                start_seconds=start,
                end_seconds=end,
                labels=_indices(names[where], class_map, where),
                missing=missing,
            )
        )
    if not clips:
        raise ValueError(f"{manifest}: no row is selected; {_choice(rows, split, folds)}")
    return clips, class_map


def resolve_path(folder: str, path: str, where: str) -> str:
    """`folder/path`; a `ValueError` if `path` is empty, absolute, or climbs out of the folder."""
    normal = os.path.normpath(path)
    if not path or os.path.isabs(path) or normal.split(os.sep)[0] in ("", ".", ".."):
        raise ValueError(
            f"{where}: path: expected a file's path relative to, and inside, {folder or '.'}, got {path!r}"
        )
    return storage.join(folder, normal)


def find_file(folder: str, path: str, where: str) -> tuple[str | None, str]:
    """`resolve_path` and "", or None and what is missing if no file stands there."""
    resolved = resolve_path(folder, path, where)
    return (resolved, "") if storage.is_file(resolved) else (None, f"no file {resolved}")


def _label_names(cell: str) -> list[str]:
    return sorted({name.strip() for name in cell.split(LABEL_SEPARATOR)} - {""})


def _distinct(manifest: str, lists: object) -> ClassMap:
    names = tuple(sorted({name for names in lists for name in names}))
    if not names:
        raise ValueError(f"{manifest}: no row has a label")
    return ClassMap(names, names)


def _indices(names: list[str], class_map: ClassMap, where: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({class_map.index(name) for name in names}))
    except ValueError as error:
        raise ValueError(f"{where}: labels: {error}") from error


def _choice(rows: list[tuple[str, dict[str, str]]], split: str, folds: tuple[int, ...]) -> str:
    """What was asked for, and what the manifest has."""
    parts = []
    for name, asked in (("split", split), ("fold", ", ".join(map(str, folds)))):
        if name in rows[0][1] and asked:
            found = Counter(row[name] for _, row in rows)
            counts = ", ".join(
                f"{value!r} ({count} rows)" for value, count in sorted(found.items())[:20]
            )
            parts.append(f"asked for {name} {asked}, the manifest has {counts}")
    return "; ".join(parts)
