"""The recordings that events are cut from, split into train and eval without overlap."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from absl import logging

from tfrecord_tools import storage
from tfrecord_tools.audio import EXTENSIONS
from tfrecord_tools.corpora.mixing import SPLITS
from tfrecord_tools.datasets import (
    ALIASES,
    ClassMap,
    Clip,
    read_class_map,
    read_manifest,
)
from tfrecord_tools.text import join_some, parse_int

DEFAULT_EVAL_SHARE = 0.25

BySplit = dict[str, list[Clip]]  # under "" those that are yet to be split


@dataclasses.dataclass(frozen=True)
class RecordedSources:
    """The recordings that events are cut from.

    Attributes:
        class_map: the classes.
        clips: the recordings of each split, missing ones among them; each has one label.
        settings: what decided the splits, as JSON has it, and a digest of the recordings' names,
            sizes, spans, classes and splits, by which a corpus made from others is known.
    """

    class_map: ClassMap
    clips: dict[str, tuple[Clip, ...]]
    settings: dict[str, object]


def read_sources(
    source: str,
    eval_folds: Sequence[int] = (),
    eval_share: float | None = None,
    class_labels_csv: str | None = None,
) -> RecordedSources:
    """List the recordings of a collection that hold one class each, and split them.

    Args:
        source: a folder with a sub-folder for each class, of recordings in any depth; or a
            manifest, as `datasets.manifest` reads it. Rows with no label or several are passed
            over.
        eval_folds: the folds of a manifest that are for eval; the others are for train.
        eval_share: where neither folds nor a column `split` (train, eval) decide, about this share
            of each class's recordings, at least one, is for eval: those whose names have the lowest
            hashes. Spans of one recording stay together. None: 0.25, unless the manifest has folds.
        class_labels_csv: classes (index, mid, display_name), for labels that are mids, or folders
            named so. Those without a recording are dropped. By default the classes are the labels,
            sorted; mids are made of their names.

    Raises:
        ValueError: if there is nothing to read, the manifest is wrong, it does not say how it is to
            be split, a recording is in both splits, or a class has no recording in one of them.
    """
    if eval_share is not None and not 0 < eval_share < 1:
        raise ValueError(f"eval_share: expected a number between 0 and 1, got {eval_share:g}")
    if eval_folds and eval_share is not None:
        raise ValueError("eval_share: does not go with eval_folds, which decide; give one of them")
    if storage.is_dir(source):
        if eval_folds:
            raise ValueError(
                f"eval_folds: {source} is a folder, which has no folds; give eval_share instead"
            )
        folder = source
        clips, class_map = _clips_in_folder(source, class_labels_csv)
        by_split = {"": clips}
    else:
        folder = os.path.dirname(source)
        by_split, class_map = _clips_of_manifest(source, eval_folds, eval_share, class_labels_csv)

    by_split = _single_labels(source, by_split)
    if "" in by_split:
        eval_share = DEFAULT_EVAL_SHARE if eval_share is None else eval_share
        by_split = _split_by_hash(by_split[""], folder, eval_share)
    by_split, class_map = _used_classes(by_split, class_map)
    _check_splits(source, by_split, class_map)
    settings: dict[str, object] = {
        "eval_folds": sorted(eval_folds),
        "eval_share": eval_share,
        "source_digest": _digest(by_split, class_map, folder),
    }
    return RecordedSources(class_map, {split: tuple(by_split[split]) for split in SPLITS}, settings)


def _digest(by_split: BySplit, class_map: ClassMap, folder: str) -> str:
    """Return digits that stand for the recordings, their spans, classes and splits."""
    listed = []
    for split, clips in by_split.items():
        for clip in clips:
            mid, size = class_map.mids[clip.labels[0]], storage.size(clip.path) if clip.path else 0
            span = clip.start_seconds, clip.end_seconds
            listed.append([split, mid, _name(clip, folder), *span, size])
    return hashlib.sha256(json.dumps(sorted(listed)).encode()).hexdigest()[:16]


# === Reading ===
def _clips_in_folder(folder: str, class_labels_csv: str | None) -> tuple[list[Clip], ClassMap]:
    """Return the recordings below each sub-folder, which is their class."""
    paths = {
        name: list(_recordings_below(storage.join(folder, name)))
        for name in storage.list_dir(folder)
        if not name.startswith(".") and storage.is_dir(storage.join(folder, name))
    }
    names = [name for name in paths if paths[name]]
    if not names:
        raise ValueError(
            f"{folder}: expected a sub-folder of recordings for each class, or a manifest csv; "
            f"found no recording ({', '.join(EXTENSIONS)}) in {len(paths)} sub-folders"
        )
    class_map = read_class_map(class_labels_csv) if class_labels_csv else _named_classes(names)
    clips = []
    for name in names:
        labels = class_map.indices([name], storage.join(folder, name))
        clips += [Clip(_relative(path, folder), path, labels=labels) for path in paths[name]]
    return clips, class_map


def _recordings_below(folder: str) -> Iterator[str]:
    """Yield the paths of the recordings in a folder and its sub-folders."""
    for name in storage.list_dir(folder):
        path = storage.join(folder, name)
        if name.startswith("."):
            continue
        if storage.is_dir(path):
            yield from _recordings_below(path)
        elif os.path.splitext(name)[1].lower() in EXTENSIONS:
            yield path


def _clips_of_manifest(
    path: str, eval_folds: Sequence[int], eval_share: float | None, class_labels_csv: str | None
) -> tuple[BySplit, ClassMap]:
    """Return the clips of both splits; or of neither, under "", if a hash is to split them."""
    rows = list(storage.read_csv(path, ("path", "labels"), ("split", "fold"), aliases=ALIASES))
    columns = rows[0][1] if rows else {}
    option = "eval_folds" if eval_folds else "eval_share" if eval_share is not None else ""
    folds: dict[str, Sequence[int]] = {"": ()}
    if eval_folds and "fold" not in columns:
        raise ValueError(f"{path}, line 1: eval_folds needs a column 'fold'")
    if "split" in columns:
        if option:
            raise ValueError(
                f"{path}: has a column 'split', which decides what is for train and eval; "
                f"leave {option} out"
            )
        folds = dict.fromkeys(SPLITS, ())
    elif eval_folds:
        present = sorted({parse_int(row["fold"], "fold", where) for where, row in rows})
        others = sorted(set(present) - set(eval_folds))
        if not others or not set(eval_folds) <= set(present):
            raise ValueError(
                f"eval_folds: expected some of the folds of {path}, "
                f"{', '.join(map(str, present))}, and others left for train, "
                f"got {', '.join(map(str, eval_folds))}"
            )
        folds = {"train": others, "eval": eval_folds}
    elif "fold" in columns and not option:
        raise ValueError(
            f"{path}: has a column 'fold': say which folds are for eval (--eval_folds), or split "
            "it by its recordings, whatever their folds (--eval_share)"
        )
    by_split: BySplit = {}
    for split, of_split in folds.items():
        by_split[split], class_map = read_manifest(
            manifest=path, split=split, class_labels_csv=class_labels_csv, folds=tuple(of_split)
        )
    return by_split, class_map if class_labels_csv else _named_classes(class_map.display_names)


def _named_classes(names: Sequence[str]) -> ClassMap:
    """Return classes whose mids are made of their names, without what ends a label in a csv."""
    mids = tuple("_".join(re.sub('[,"#]', " ", name).split()) for name in names)
    return ClassMap(mids, tuple(names))


# === Splitting ===
def _single_labels(source: str, by_split: BySplit) -> BySplit:
    """Drop the clips that have no label or several."""
    kept = {
        split: [clip for clip in clips if len(clip.labels) == 1]
        for split, clips in by_split.items()
    }
    if num_dropped := sum(len(by_split[split]) - len(kept[split]) for split in kept):
        rows = f"{num_dropped} rows without exactly one label"
        logging.info("%s: %s are not used as events", source, rows)
    return kept


def _split_by_hash(clips: list[Clip], folder: str, eval_share: float) -> BySplit:
    """Take recordings for eval, by their hashes, while one of their classes lacks its share."""
    classes_of: dict[str, set[int]] = defaultdict(set)
    for clip in clips:
        classes_of[_name(clip, folder)].add(clip.labels[0])
    counts = Counter(label for labels in classes_of.values() for label in labels)
    wanted = {label: min(max(1, round(eval_share * n)), n - 1) for label, n in counts.items()}
    digests = {name: hashlib.sha256(name.encode(errors="replace")).digest() for name in classes_of}
    evaluation = set()
    for name in sorted(digests, key=lambda name: digests[name]):
        if any(wanted[label] > 0 for label in classes_of[name]):
            evaluation.add(name)
            wanted.update({label: wanted[label] - 1 for label in classes_of[name]})
    by_split: BySplit = {split: [] for split in SPLITS}
    for clip in clips:
        by_split["eval" if _name(clip, folder) in evaluation else "train"].append(clip)
    return by_split


def _used_classes(by_split: BySplit, class_map: ClassMap) -> tuple[BySplit, ClassMap]:
    """Drop the classes that no recording has to itself."""
    used = sorted({clip.labels[0] for clips in by_split.values() for clip in clips})
    if not used:
        raise ValueError("source: no recording has exactly one label, as events must")
    if dropped := [name for label, name in enumerate(class_map.display_names) if label not in used]:
        logging.info(
            "%d classes are dropped, no recording is of them alone: %s",
            len(dropped),
            join_some(dropped),
        )
    kept = ClassMap(
        tuple(class_map.mids[label] for label in used),
        tuple(class_map.display_names[label] for label in used),
    )
    return {
        split: [dataclasses.replace(clip, labels=(used.index(clip.labels[0]),)) for clip in clips]
        for split, clips in by_split.items()
    }, kept


def _check_splits(source: str, by_split: BySplit, class_map: ClassMap) -> None:
    """Raise a `ValueError` if a split lacks a class, or both hold the same recording."""
    for split, clips in by_split.items():
        lacking = sorted(set(range(len(class_map))) - {clip.labels[0] for clip in clips})
        if lacking:
            names = join_some(repr(class_map.display_names[label]) for label in lacking)
            raise ValueError(
                f"{source}: {len(lacking)} of {len(class_map)} classes have no recording for "
                f"{split}: {names}; every class needs one in each split"
            )
    train, evaluation = (
        {_identify(clip.path) for clip in by_split[split] if clip.path} for split in SPLITS
    )
    if both := sorted(train & evaluation):
        raise ValueError(
            f"{source}: {len(both)} recordings are in train and in eval, which must not share "
            f"any, such as {both[0]}"
        )


def _identify(path: str) -> str:
    """Return the path of the file itself, which links may lead to."""
    return path if storage.is_remote(path) else os.path.realpath(path)


def _name(clip: Clip, folder: str) -> str:
    """Return a recording's path in its collection; the clip's id if there is no such file."""
    return _relative(clip.path, folder) if clip.path else clip.id


def _relative(path: str, folder: str) -> str:
    """Return a path as seen from a folder above it."""
    if storage.is_remote(path):
        return path.removeprefix(folder).lstrip("/")
    return os.path.relpath(path, folder or ".")
