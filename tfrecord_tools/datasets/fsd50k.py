"""FSD50K in its published tree: `FSD50K.ground_truth/`, `FSD50K.dev_audio/` and
`FSD50K.eval_audio/`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip, FileClips, collect_classes
from tfrecord_tools.text import parse_int

# By split: the name of the table and of the audio's folder, and the rows' `split` cell.
SPLITS = {"train": ("dev", "train"), "validation": ("dev", "val"), "eval": ("eval", None)}

DEV_SPLITS = ("train", "val")


def read_fsd50k(*, audio_dir: str, split: str) -> tuple[list[Clip], ClassMap]:
    """Read the clips of one split.

    Args:
        audio_dir: the folder that holds `FSD50K.ground_truth/` (`dev.csv` with the columns fname,
            labels, mids, split; `eval.csv` with the first three; `vocabulary.csv`, rows
            `index,label,mid` without a header) and the audio, `FSD50K.dev_audio/<fname>.wav` and
            `FSD50K.eval_audio/<fname>.wav`.
        split: `train` and `validation` are the rows of `dev.csv` whose `split` is train and val;
            `eval` is `eval.csv`.

    Returns:
        The clips, whole files with the labels of their `mids`, parent classes included as
        published; and the classes in the order of the vocabulary.

    Raises:
        ValueError: if the split is another one, a table is missing or a cell is wrong (names file
            and line), or no row is selected.
    """
    if split not in SPLITS:
        raise ValueError(f"--split: for fsd50k, expected one of {', '.join(SPLITS)}, got {split!r}")
    part, wanted = SPLITS[split]
    tables = storage.join(audio_dir, "FSD50K.ground_truth")
    folder = storage.join(audio_dir, f"FSD50K.{part}_audio")
    vocabulary = storage.join(tables, "vocabulary.csv")
    class_map = collect_classes(vocabulary, _read_vocabulary(vocabulary))
    table = storage.join(tables, f"{part}.csv")
    selected = FileClips()
    columns = ("fname", "labels", "mids", "split")
    for where, row in storage.read_csv(table, columns if wanted else columns[:3]):
        if wanted and row["split"] not in DEV_SPLITS:
            raise ValueError(
                f"{where}: split: expected {' or '.join(DEV_SPLITS)}, got {row['split']!r}"
            )
        if row.get("split") == wanted:
            parse_int(row["fname"], "fname", where)  # a Freesound number
            labels = _parse_labels(row, class_map, where)
            selected.add(row["fname"], folder, f"{row['fname']}.wav", where, labels=labels)
    if not selected.clips:
        raise ValueError(f"{table}: no row of the split {split}")
    return selected.clips, class_map


def _read_vocabulary(path: str) -> Iterator[tuple[str, ...]]:
    """Yield `FILE, line N`, index, mid and label of each class."""
    for where, cells in storage.read_cells(path):
        if len(cells) != 3:
            raise ValueError(f"{where}: expected 3 cells (index, label, mid), got {len(cells)}")
        index, label, mid = cells
        yield where, index, mid, label


def _parse_labels(row: dict[str, str], class_map: ClassMap, where: str) -> tuple[int, ...]:
    """Return the classes of a row, whose cells must hold as many labels as mids."""
    labels, mids = (
        [name.strip() for name in row[column].split(",") if name.strip()]
        for column in ("labels", "mids")
    )
    if len(labels) != len(mids):
        raise ValueError(
            f"{where}: expected as many labels as mids, got {len(labels)} and {len(mids)}"
        )
    return class_map.indices(mids, f"{where}: mids")
