"""Readers of data sets. Each gives `(list[Clip], ClassMap)`; `READERS` says what each one needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tfrecord_tools.datasets import audioset, dcase, esc50, fsd50k, manifest, urbansound8k
from tfrecord_tools.datasets.clips import ClassMap, Clip


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader and the options (flags of the same names) that it must and may get."""

    read: Callable[..., tuple[list[Clip], ClassMap]]
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


READERS = {
    "audioset": Reader(
        audioset.read_audioset, ("segments_csv", "class_labels_csv", "audio_dir"), ("strong_tsv",)
    ),
    "dcase": Reader(
        dcase.read_dcase, ("audio_dir",), ("weak_tsv", "strong_tsv", "class_labels_csv")
    ),
    "esc50": Reader(esc50.read_esc50, ("audio_dir",), ("folds", "esc10_only")),
    "fsd50k": Reader(fsd50k.read_fsd50k, ("audio_dir", "split")),
    "manifest": Reader(
        manifest.read_manifest, ("manifest", "split"), ("audio_dir", "class_labels_csv", "folds")
    ),
    "urbansound8k": Reader(urbansound8k.read_urbansound8k, ("audio_dir",), ("folds",)),
}


def read_dataset(name: str, split: str, options: Mapping[str, Any]) -> tuple[list[Clip], ClassMap]:
    """Reads the clips of a split with the reader `name`.

    Args:
        name: a key of `READERS`.
        split: the split to read, for readers whose labels name splits.
        options: the reader's other options; an empty one counts as not given.

    Raises:
        ValueError: if the reader is unknown, or an option is missing or is not one of its own; and
            what it raises.
    """
    if name not in READERS:
        raise ValueError(f"--dataset: expected one of {', '.join(READERS)}, got {name!r}")
    reader = READERS[name]
    given = {option: value for option, value in options.items() if value}
    missing = [option for option in reader.required if option not in given and option != "split"]
    foreign = sorted(set(given) - {*reader.required, *reader.optional})
    if missing:
        raise ValueError(f"--dataset={name} needs {', '.join(f'--{option}' for option in missing)}")
    if foreign:
        takes = ", ".join(f"--{o}" for o in (*reader.required, *reader.optional) if o != "split")
        raise ValueError(
            f"--dataset={name} has no use for {', '.join(f'--{o}' for o in foreign)}; it takes {takes}"
        )
    if "split" in reader.required:
        given["split"] = split
    return reader.read(**given)
