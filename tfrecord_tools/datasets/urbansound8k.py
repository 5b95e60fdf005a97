"""UrbanSound8K in its published tree: `metadata/UrbanSound8K.csv` and `audio/fold<k>/`."""

from __future__ import annotations

import os

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip, numbered_classes
from tfrecord_tools.datasets.manifest import find_file
from tfrecord_tools.datasets.tables import UniqueIds, parse_int

COLUMNS = ("slice_file_name", "fold", "classID", "class")


def read_urbansound8k(
    *, audio_dir: str, folds: tuple[int, ...] = ()
) -> tuple[list[Clip], ClassMap]:
    """Reads the slices of some folds.

    Args:
        audio_dir: the folder that holds `metadata/` and `audio/`. The table's `start` and `end` are
            seconds of the Freesound recording that a slice was cut from; its file holds the slice
            alone, so they are not read.
        folds: the folds to take, of 1 to 10; by default all.

    Returns:
        The clips, whole files with one label each, and the classes in the order of their `classID`.

    Raises:
        ValueError: if the table is missing or a cell is wrong (names file and line), or no row is
            selected.
    """
    table = storage.join(audio_dir, "metadata", "UrbanSound8K.csv")
    rows = [
        (where, row, parse_int(row["classID"], "classID", where))
        for where, row in storage.read_csv(table, COLUMNS)
    ]
    names = numbered_classes(
        ((where, number, row["class"]) for where, row, number in rows), "classID"
    )
    numbers = list(names)
    clips, ids, present = [], UniqueIds(), set()
    for where, row, number in rows:
        fold = parse_int(row["fold"], "fold", where)
        present.add(fold)
        if folds and fold not in folds:
            continue
        clip_id = os.path.splitext(row["slice_file_name"])[0]
        ids.add(clip_id, where)
        folder = storage.join(audio_dir, "audio", f"fold{fold}")
        path, missing = find_file(folder, row["slice_file_name"], where)
        clips.append(Clip(id=clip_id, path=path, labels=(numbers.index(number),), missing=missing))
    if not clips:
        raise ValueError(
            f"{table}: no row is selected; asked for folds {folds or 'all'}, it has {sorted(present)}"
        )
    display_names = tuple(names.values())
    return clips, ClassMap(display_names, display_names)
