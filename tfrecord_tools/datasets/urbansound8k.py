"""UrbanSound8K in its published tree: `metadata/UrbanSound8K.csv` and `audio/fold<k>/`."""

from __future__ import annotations

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip
from tfrecord_tools.datasets.numbered import NumberedRow, collect_clips
from tfrecord_tools.text import parse_int

COLUMNS = ("slice_file_name", "fold", "classID", "class")


def read_urbansound8k(
    *, audio_dir: str, folds: tuple[int, ...] = ()
) -> tuple[list[Clip], ClassMap]:
    """Read the slices of some folds.

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
    rows = []
    for where, row in storage.read_csv(table, COLUMNS):
        file, fold, number, name = row.values()
        numbers = parse_int(fold, "fold", where), parse_int(number, "classID", where)
        folder = storage.join(audio_dir, "audio", f"fold{numbers[0]}")
        rows.append(NumberedRow(where, folder, file, *numbers, name))
    return collect_clips(table, rows, "classID", folds)
