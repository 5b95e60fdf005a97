"""DCASE task 4 and DESED: tab-separated lists of clips (weak) and events (strong), and audio."""

from __future__ import annotations

import os
from typing import NamedTuple

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, Clip, FileClips, read_class_map, sort_events
from tfrecord_tools.datasets.tables import UniqueIds, parse_span

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
    """The labels and events of a file that was first named at `where`."""

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
    """Read the clips of a weak list, of a strong list, or of a weak one with a strong one's events.

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
    names, class_map = "DESED's ten", ClassMap(DESED_CLASSES, DESED_CLASSES)
    if class_labels_csv:
        names, class_map = f"those of {class_labels_csv}", read_class_map(class_labels_csv)
    hint = f" (the classes are {names}; --class_labels_csv gives others)"
    files = _read_weak(weak_tsv, class_map, hint) if weak_tsv else {}
    if strong_tsv:
        _add_strong(files, strong_tsv, weak_tsv, class_map, hint)
    if not files:
        raise ValueError(f"{weak_tsv or strong_tsv}: no clip in it")
    selected = FileClips()
    for name, file in files.items():
        labels, events = tuple(sorted(file.labels)), sort_events(file.events)
        clip_id = os.path.splitext(name)[0]
        selected.add(clip_id, audio_dir, name, file.where, labels=labels, events=events)
    return selected.clips, class_map


def _read_weak(path: str, class_map: ClassMap, hint: str) -> dict[str, _File]:
    """Read a weak list: each file by its name."""
    files: dict[str, _File] = {}
    ids = UniqueIds()
    aliases = {STRONG_COLUMNS[-1]: WEAK_COLUMNS[-1]}
    for where, row in storage.read_csv(path, WEAK_COLUMNS, aliases=aliases, delimiter="\t"):
        name, cell = row.values()
        ids.add(os.path.splitext(name)[0], where)
        labels = {label.strip() for label in cell.split(",")} - {""}
        indices = class_map.indices(labels, f"{where}: {WEAK_COLUMNS[-1]}", hint)
        files[name] = _File(where, set(indices), [])
    return files


def _add_strong(
    files: dict[str, _File], path: str, weak_tsv: str | None, class_map: ClassMap, hint: str
) -> None:
    """Add the events of a strong list; without a weak one, its files and labels too."""
    aliases = {WEAK_COLUMNS[-1]: STRONG_COLUMNS[-1]}
    for where, row in storage.read_csv(path, STRONG_COLUMNS, aliases=aliases, delimiter="\t"):
        name, start, end, label = row.values()
        if weak_tsv and name not in files:
            raise ValueError(f"{where}: expected a file that {weak_tsv} lists, got {name!r}")
        file = files.setdefault(name, _File(where, set(), []))
        if not (start or end or label):
            continue
        span = parse_span(start, end, where, STRONG_COLUMNS[1:3])
        (index,) = class_map.indices([label], f"{where}: {STRONG_COLUMNS[-1]}", hint)
        if weak_tsv and index not in file.labels:
            known = ", ".join(class_map.display_names[known] for known in sorted(file.labels))
            raise ValueError(
                f"{where}: {STRONG_COLUMNS[-1]}: expected a label that the clip has at "
                f"{file.where} ({known or 'none'}), got {label!r}"
            )
        file.labels.add(index)
        file.events.append((index, *span))
