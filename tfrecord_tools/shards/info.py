"""A split as its `dataset.json` describes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

from tfrecord_tools import storage
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.text import parse_int

FORMAT_VERSION = 2

DATASET_JSON = "dataset.json"

CLASSES_CSV = "classes.csv"

CLIPS_CSV = "clips.csv"

FAILURES_CSV = "failures.csv"

WARNINGS_CSV = "warnings.csv"

PROGRESS_DIR = "progress"  # in a split's folder while its conversion is not finished

CLIPS_COLUMNS = ("video_id", "shard", "record", "num_frames")


def shard_name(split: str, index: int, count: int) -> str:
    """Return a shard's file name, such as `train-00000-of-00008.tfrecord`."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard file of a split: its name, number of clips, and size in bytes."""

    file: str
    clips: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The description of a split in `dataset.json`, which readers of its shards go by.

    Attributes:
        split: `train`, `eval` or `validation`.
        dataset: the reader it was converted with.
        log_mel: the log-mel settings of every record.
        feature_dtype: the stored type of the log-mel.
        feature_range: the log-mels that uint8 stores as 0 and 255; None for the other types.
        compression: of the shards, NONE or GZIP.
        class_map: the classes, in the order of the labels.
        num_clips: number of records in all shards.
        seconds: total length of the clips.
        max_frames: frames of the longest clip.
        positives: number of positive clips per class, [classes].
        mean, variance: of the log-mel over all frames, per mel bin, [mel_bins].
        shards: the shard files, in order.
        failures: number of clips that could not be converted, by kind.
        settings: the conversion's own settings, for the record.
    """

    split: str
    dataset: str
    log_mel: LogMelConfig
    feature_dtype: str
    feature_range: tuple[float, float] | None
    compression: str
    class_map: ClassMap
    num_clips: int
    seconds: float
    max_frames: int
    positives: tuple[int, ...]
    mean: tuple[float, ...]
    variance: tuple[float, ...]
    shards: tuple[Shard, ...]
    failures: dict[str, int]
    settings: dict

    def to_dict(self) -> dict:
        """Return plain values, for JSON."""
        return {
            "format": FORMAT_VERSION,
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "log_mel": self.log_mel.to_dict(),
            "class_map": {
                "mids": self.class_map.mids,
                "display_names": self.class_map.display_names,
            },
            "shards": [dataclasses.asdict(shard) for shard in self.shards],
        }

    @classmethod
    def from_dict(cls, values: dict) -> DatasetInfo:
        """Return what `to_dict` gave, as an object again."""
        values = dict(values)
        if values.pop("format", None) != FORMAT_VERSION:
            raise ValueError(
                f"made by another version of this software (expected format {FORMAT_VERSION})"
            )
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            raise ValueError(f"missing or unknown keys: {', '.join(sorted(set(values) ^ names))}")
        class_map = {name: tuple(items) for name, items in values["class_map"].items()}
        tuples = {name: tuple(values[name]) for name in ("positives", "mean", "variance")}
        if values["feature_range"] is not None:
            tuples["feature_range"] = tuple(values["feature_range"])
        return cls(
            **{
                **values,
                **tuples,
                "log_mel": LogMelConfig.from_dict(values["log_mel"]),
                "class_map": ClassMap(**class_map),
                "shards": tuple(Shard(**shard) for shard in values["shards"]),
            }
        )

    def write(self, data_dir: str) -> None:
        """Write `dataset.json` into the split's folder, atomically."""
        storage.write_json(storage.join(data_dir, self.split, DATASET_JSON), self.to_dict())

    def shard_paths(self, data_dir: str) -> list[str]:
        """Return the full paths of the shards, in order."""
        return [storage.join(data_dir, self.split, shard.file) for shard in self.shards]


def has_split(data_dir: str, split: str) -> bool:
    """Return True if `data_dir` holds a complete split of this name."""
    return storage.exists(storage.join(data_dir, split, DATASET_JSON))


def list_splits(data_dir: str) -> list[str]:
    """Return the complete splits in `data_dir`, sorted."""
    return [name for name in storage.list_dir(data_dir) if has_split(data_dir, name)]


def read_dataset_info(data_dir: str, split: str, check_shards: bool = True) -> DatasetInfo:
    """Read a split's `dataset.json` and check that its shards stand there at their full size.

    Raises:
        ValueError: if the folder or split is missing, unreadable, or (unless `check_shards` is
            False) a shard is missing or of another size; says what was looked for and what to do.
    """
    path = storage.join(data_dir, split, DATASET_JSON)
    if not storage.exists(path):
        there = f"it holds {', '.join(list_splits(data_dir)) or 'no converted split'}"
        if not storage.is_dir(data_dir):
            there = "there is no such folder"
        if storage.is_dir(storage.join(data_dir, split, PROGRESS_DIR)):
            there += ", and an unfinished conversion of this one, which the same command continues"
        raise ValueError(
            f"{data_dir}: no converted split {split!r} ({DATASET_JSON} is looked for at {path}); "
            f"{there}. Make it with: python -m tfrecord_tools.convert --split={split} "
            f"--out={data_dir} ..."
        )
    try:
        info = DatasetInfo.from_dict(storage.read_json(path))
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}; convert the split again") from error
    if check_shards:
        for problem in shard_problems(data_dir, info):
            raise ValueError(problem)
    return info


def shard_problems(data_dir: str, info: DatasetInfo) -> Iterator[str]:
    """Yield a sentence for each shard that is missing or not of the size in `dataset.json`."""
    for shard, path in zip(info.shards, info.shard_paths(data_dir), strict=True):
        if not storage.exists(path):
            yield f"{path}: shard is missing; convert the split again, or restore the file"
        elif (size := storage.size(path)) != shard.bytes:
            yield (
                f"{path}: shard has {size} bytes, {DATASET_JSON} says {shard.bytes}; it is cut "
                "short or was changed: convert the split again, or restore the file"
            )


class Input(Protocol):
    """Classes and log-mel: what two sets of data, or data and a model, must have in common."""

    @property
    def class_map(self) -> ClassMap: ...

    @property
    def log_mel(self) -> LogMelConfig: ...


def check_same_input(
    mine: Input, my_name: str, theirs: Input, their_name: str, advice: str = ""
) -> None:
    """Raise `ValueError` if two sides have other classes or another log-mel.

    Args:
        mine, theirs: the two sides.
        my_name, their_name: what they are called in the message, such as their folders.
        advice: ends the message.
    """
    names = f"in {my_name}", f"in {their_name}"
    ways = (
        ("other classes", mine.class_map.differences(theirs.class_map, *names)),
        ("another log-mel", mine.log_mel.differences(theirs.log_mel)),
    )
    for kind, difference in ways:
        if difference:
            raise ValueError(
                f"{my_name} was made with {kind} than {their_name}: {difference}{advice}"
            )


def read_clips_csv(data_dir: str, split: str) -> list[tuple[str, int, int, int]]:
    """Read `clips.csv`: (video_id, shard, record, num_frames) of each clip, in the shards' order.

    Raises:
        ValueError: if the file is missing or is not such a table.
    """
    path = storage.join(data_dir, split, CLIPS_CSV)
    clips = []
    try:
        for where, row in storage.read_csv(path, CLIPS_COLUMNS, exact=True):
            numbers = (parse_int(row[name], name, where) for name in CLIPS_COLUMNS[1:])
            shard, record, num_frames = numbers
            clips.append((row["video_id"], shard, record, num_frames))
    except ValueError as error:
        raise ValueError(
            f"{error}; {CLIPS_CSV} has the columns {', '.join(CLIPS_COLUMNS)}"
        ) from error
    return clips
