"""FSD50K in its published tree: `FSD50K.ground_truth/`, `FSD50K.dev_audio/` and
`FSD50K.eval_audio/`.
"""

from __future__ import annotations

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip
from tfrecord_tools.datasets.manifest import find_file
from tfrecord_tools.datasets.tables import UniqueIds, parse_int

# split: the table's and audio folder's name, and the rows' `split` cell
SPLITS = {"train": ("dev", "train"), "validation": ("dev", "val"), "eval": ("eval", None)}

DEV_SPLITS = ("train", "val")


def read_fsd50k(*, audio_dir: str, split: str) -> tuple[list[Clip], ClassMap]:
    """Reads the clips of one split.

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
    class_map = _read_vocabulary(storage.join(tables, "vocabulary.csv"))
    table = storage.join(tables, f"{part}.csv")
    clips, ids = [], UniqueIds()
    for where, row in storage.read_csv(
        table, ("fname", "labels", "mids", *(["split"] if wanted else []))
    ):
        if wanted and row["split"] not in DEV_SPLITS:
            raise ValueError(
                f"{where}: split: expected {' or '.join(DEV_SPLITS)}, got {row['split']!r}"
            )
        if wanted and row["split"] != wanted:
            continue
        parse_int(row["fname"], "fname", where)  # a Freesound number
        ids.add(row["fname"], where)
        path, missing = find_file(folder, f"{row['fname']}.wav", where)
        clips.append(
            Clip(
                id=row["fname"], path=path, labels=_indices(row, class_map, where), missing=missing
            )
        )
    if not clips:
        raise ValueError(f"{table}: no row of the split {split}")
    return clips, class_map


def _read_vocabulary(path: str) -> ClassMap:
    classes = []
    for where, cells in storage.read_cells(path):
        if len(cells) != 3:
            raise ValueError(f"{where}: expected 3 cells (index, label, mid), got {len(cells)}")
        index, label, mid = cells
        if parse_int(index, "index", where) != len(classes):
            raise ValueError(
                f"{where}: index: expected {len(classes)}, the next class, got {index}"
            )
        classes.append((mid, label))
    try:
        return ClassMap(tuple(mid for mid, _ in classes), tuple(label for _, label in classes))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _indices(row: dict[str, str], class_map: ClassMap, where: str) -> tuple[int, ...]:
    labels, mids = (
        [name.strip() for name in row[column].split(",") if name.strip()]
        for column in ("labels", "mids")
    )
    if len(labels) != len(mids):
        raise ValueError(
            f"{where}: expected as many labels as mids, got {len(labels)} and {len(mids)}"
        )
    try:
        return tuple(sorted({class_map.index(mid) for mid in mids}))
    except ValueError as error:
        raise ValueError(f"{where}: mids: {error}") from error
