"""DCASE task 4 and DESED: tab-separated lists of clips (weak) and of events (strong), and a folder
of audio.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip, read_class_map
from tfrecord_tools.datasets.manifest import find_file
from tfrecord_tools.datasets.tables import UniqueIds, check_span, parse_seconds

DESED_CLASSES = (
    "Alarm_bell_ringing",
    "Blender",
    "Cat",
    "Dishes",
    "Dog",
    "Electric_shaver_toothbrush",
    "Frying",
    "Running_water",
    "Speech",
    "Vacuum_cleaner",
)

WEAK_COLUMNS = ("filename", "event_labels")

STRONG_COLUMNS = ("filename", "onset", "offset", "event_label")


class _File(NamedTuple):
    """What the lists say of one file, which was first named at `where`."""

    where: str
    labels: set[int]
    events: list[tuple[int, float, float]]


def read_dcase(
    *,
    audio_dir: str,
    weak_tsv: str | None = None,
    strong_tsv: str | None = None,
    class_labels_csv: str | None = None,
) -> tuple[list[Clip], ClassMap]:
    """Reads the clips of a weak list, of a strong list, or of a weak list with the events of a
    strong one.

    Args:
        audio_dir: the folder that file names are relative to.
        weak_tsv: columns filename, event_labels (joined by commas; may be empty: a clip with no
            positive).
        strong_tsv: columns filename, onset, offset (seconds from the clip's start), event_label; a
            row an event. A row with a file name alone is a clip without an event. With `weak_tsv`,
            that lists the clips and their labels; without, a clip's labels are those of its events.
            In both lists `event_label` and `event_labels` mean the same.
        class_labels_csv: the classes (index, mid, display_name); by default DESED's ten.

    Returns:
        The clips, whole files, in the list's order, and the classes. A clip's id is its file name
        without extension.

    Raises:
        ValueError: if no list is given, one is missing or empty, or a row has a wrong number of
            cells, a bad file name or time, an unknown label, a clip that was there before, or a
            file or label of a strong list that the weak one does not have; names file and line.
    """
    if not (weak_tsv or strong_tsv):
        raise ValueError("--weak_tsv, --strong_tsv: expected one of them or both, got neither")
    names = f"those of {class_labels_csv}" if class_labels_csv else "DESED's ten"
    hint = f"the classes are {names}; --class_labels_csv gives others"
    class_map = (
        read_class_map(class_labels_csv)
        if class_labels_csv
        else ClassMap(DESED_CLASSES, DESED_CLASSES)
    )
    files: dict[str, _File] = {}
    ids = UniqueIds()
    if weak_tsv:
        _add_weak(files, ids, weak_tsv, class_map, hint)
    if strong_tsv:
        _add_strong(files, ids, strong_tsv, weak_tsv, class_map, hint)
    if not files:
        raise ValueError(f"{weak_tsv or strong_tsv}: no clip in it")
    clips = []
    for name, file in files.items():
        path, missing = find_file(audio_dir, name, file.where)
        clips.append(
            Clip(
                id=os.path.splitext(name)[0],
                path=path,
                labels=tuple(sorted(file.labels)),
                events=tuple(sorted(file.events, key=lambda event: (*event[1:], event[0]))),
                missing=missing,
            )
        )
    return clips, class_map


def _add_weak(
    files: dict[str, _File], ids: UniqueIds, path: str, class_map: ClassMap, hint: str
) -> None:
    name_column, labels_column = WEAK_COLUMNS
    aliases = {STRONG_COLUMNS[-1]: labels_column}
    for where, row in storage.read_csv(path, WEAK_COLUMNS, aliases=aliases, delimiter="\t"):
        ids.add(os.path.splitext(row[name_column])[0], where)
        labels = {label.strip() for label in row[labels_column].split(",")} - {""}
        indices = {
            _index(label, class_map, f"{where}: {labels_column}", hint) for label in sorted(labels)
        }
        files[row[name_column]] = _File(where, indices, [])


def _add_strong(
    files: dict[str, _File],
    ids: UniqueIds,
    path: str,
    weak_tsv: str | None,
    class_map: ClassMap,
    hint: str,
) -> None:
    aliases = {WEAK_COLUMNS[-1]: STRONG_COLUMNS[-1]}
    for where, row in storage.read_csv(path, STRONG_COLUMNS, aliases=aliases, delimiter="\t"):
        name, start, end, label = (row[column] for column in STRONG_COLUMNS)
        if name not in files:
            if weak_tsv:
                raise ValueError(f"{where}: expected a file that {weak_tsv} lists, got {name!r}")
            ids.add(os.path.splitext(name)[0], where)
            files[name] = _File(where, set(), [])
        if not (start or end or label):
            continue
        onset = parse_seconds(start, "onset", where)
        offset = parse_seconds(end, "offset", where)
        check_span(onset, offset, where)
        index = _index(label, class_map, f"{where}: {STRONG_COLUMNS[-1]}", hint)
        file = files[name]
        if weak_tsv and index not in file.labels:
            known = (
                ", ".join(class_map.display_names[known] for known in sorted(file.labels)) or "none"
            )
            raise ValueError(
                f"{where}: {STRONG_COLUMNS[-1]}: expected a label that the clip has at {file.where} ({known}), "
                f"got {label!r}"
            )
        file.labels.add(index)
        file.events.append((index, onset, offset))


def _index(label: str, class_map: ClassMap, where: str, hint: str) -> int:
    try:
        return class_map.index(label)
    except ValueError as error:
        raise ValueError(f"{where}: {error} ({hint})") from error
