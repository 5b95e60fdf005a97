"""ESC-50 and ESC-10 in their published tree: `meta/esc50.csv` and `audio/`."""

from __future__ import annotations

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip
from tfrecord_tools.datasets.numbered import NumberedRow, collect_clips
from tfrecord_tools.text import parse_int

COLUMNS = ("filename", "fold", "target", "category", "esc10")


def read_esc50(
    *, audio_dir: str, folds: tuple[int, ...] = (), esc10_only: bool = False
) -> tuple[list[Clip], ClassMap]:
    """Read the clips of some folds.

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
    folder = storage.join(audio_dir, "audio")
    rows = []
    for where, row in storage.read_csv(table, COLUMNS):
        file, fold, target, category, is_esc10 = row.values()
        if is_esc10 not in ("True", "False"):
            raise ValueError(f"{where}: esc10: expected True or False, got {is_esc10!r}")
        if not esc10_only or is_esc10 == "True":
            numbers = parse_int(fold, "fold", where), parse_int(target, "target", where)
            rows.append(NumberedRow(where, folder, file, *numbers, category))
    return collect_clips(table, rows, "target", folds)
