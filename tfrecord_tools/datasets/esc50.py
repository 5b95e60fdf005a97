"""ESC-50 and ESC-10 in their published tree: `meta/esc50.csv` and `audio/`."""

from __future__ import annotations

import os

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip, numbered_classes
from tfrecord_tools.datasets.manifest import find_file
from tfrecord_tools.datasets.tables import UniqueIds, parse_int


def read_esc50(
    *, audio_dir: str, folds: tuple[int, ...] = (), esc10_only: bool = False
) -> tuple[list[Clip], ClassMap]:
    """Reads the clips of some folds.

    Args:
        audio_dir: the folder that holds `meta/` and `audio/`.
        folds: the folds to take, of 1 to 5; by default all.
        esc10_only: only the ten classes of ESC-10.

    Returns:
        The clips, whole files with one label each, and the classes in the order of their `target`.

    Raises:
        ValueError: if the table is missing or a cell is wrong (names file and line), or no row is
            selected.
    """
    table = storage.join(audio_dir, "meta", "esc50.csv")
    rows = []
    for where, row in storage.read_csv(table, ("filename", "fold", "target", "category", "esc10")):
        if row["esc10"] not in ("True", "False"):
            raise ValueError(f"{where}: esc10: expected True or False, got {row['esc10']!r}")
        if not esc10_only or row["esc10"] == "True":
            rows.append((where, row, parse_int(row["target"], "target", where)))
    categories = numbered_classes(
        ((where, target, row["category"]) for where, row, target in rows), "target"
    )
    targets = list(categories)
    clips, ids = [], UniqueIds()
    for where, row, target in rows:
        if folds and parse_int(row["fold"], "fold", where) not in folds:
            continue
        clip_id = os.path.splitext(row["filename"])[0]
        ids.add(clip_id, where)
        path, missing = find_file(storage.join(audio_dir, "audio"), row["filename"], where)
        clips.append(Clip(id=clip_id, path=path, labels=(targets.index(target),), missing=missing))
    if not clips:
        present = sorted({row["fold"] for _, row, _ in rows})
        raise ValueError(
            f"{table}: no row is selected; asked for folds {folds or 'all'}, it has {present}"
        )
    names = tuple(categories.values())
    return clips, ClassMap(names, names)
