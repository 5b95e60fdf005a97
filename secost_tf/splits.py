"""A converted split, or a part of it: which clips it has, the clips one by one, and what may be wrong with its files."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfrecord_tools import schema, shards, storage
from tfrecord_tools.schema import ClipRecord
from tfrecord_tools.shards import DatasetInfo

SUBSETS = ("all", "training", "validation")
_HASH_BUCKETS = 10_000


@dataclasses.dataclass(frozen=True)
class Split:
    """A converted split, or a part of it.

    Attributes:
        data_dir: the folder that holds the split's folder.
        info: its `dataset.json`.
        subset: `all`, or the `training` or `validation` part of it, told apart by a hash of the clip id.
        validation_share: share of clips in the validation part.
    """

    data_dir: str
    info: DatasetInfo
    subset: str = "all"
    validation_share: float = 0.0

    def __post_init__(self):
        if self.subset not in SUBSETS:
            raise ValueError(f"subset: expected one of {', '.join(SUBSETS)}, got {self.subset!r}")

    @functools.cached_property
    def clip_ids(self) -> list[list[str]]:
        """Ids of all clips of the split by shard, in the order of the records, from `clips.csv`."""
        path = storage.join(self.data_dir, self.info.split, shards.CLIPS_CSV)
        ids: list[list[str]] = [[] for _ in self.info.shards]
        try:
            with storage.open_file(path) as stream:
                for row in csv.DictReader(io.StringIO(stream.read(), newline="")):
                    ids[int(row["shard"])].append(row["video_id"])
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{path}: {error}; convert the split again") from error
        if [len(of_shard) for of_shard in ids] != [shard.clips for shard in self.info.shards]:
            raise ValueError(
                f"{path}: does not list the clips of {shards.DATASET_JSON}; convert the split again"
            )
        return ids

    @functools.cached_property
    def shard_clips(self) -> list[int]:
        """Clips of the subset in each shard."""
        if self.subset == "all":
            return [shard.clips for shard in self.info.shards]
        return [int(np.sum(selected)) for selected in self.selected]

    @functools.cached_property
    def selected(self) -> list[list[bool]]:
        """Whether each clip is in the subset, by shard."""
        return [self.selects(tf.constant(ids, tf.string)).numpy().tolist() for ids in self.clip_ids]

    @property
    def num_clips(self) -> int:
        """Clips in the subset."""
        return sum(self.shard_clips)

    def selects(self, video_id: tf.Tensor) -> tf.Tensor:
        """Whether clips of these ids, string [...], are in the subset: bool [...]."""
        if self.subset == "all":
            return tf.ones_like(video_id, tf.bool)
        bucket = tf.strings.to_hash_bucket_strong(video_id, _HASH_BUCKETS, key=[0x5EC0, 0x57])
        in_validation = bucket < round(self.validation_share * _HASH_BUCKETS)
        return in_validation if self.subset == "validation" else ~in_validation


def read_clips(split: Split, ids: Sequence[str]) -> list[ClipRecord]:
    """Clips of a split by their ids, in the order of the shards, with log-mels float32 [frames, mel_bins]."""
    wanted = set(ids)
    found = (clip for clip in iterate_clips(split) if clip.video_id in wanted)
    return list(itertools.islice(found, len(ids)))


def iterate_clips(split: Split) -> Iterator[ClipRecord]:
    """Yields the clips of the subset in the order of the shards, with log-mels float32 [frames, mel_bins]."""
    info = split.info
    whole = split.subset == "all"
    for number, path in enumerate(info.shard_paths(split.data_dir)):
        for place, data in enumerate(shards.read_records(path, info.compression)):
            if whole or split.selected[number][place]:
                clip = schema.decode(data, info.feature_dtype, info.log_mel.mel_bins)
                log_mel = schema.dequantize(clip.log_mel, info.feature_range).astype(np.float32)
                yield dataclasses.replace(clip, log_mel=log_mel)


def check_teacher_scores(split: Split, scores_dir: str) -> None:
    """Checks that a folder of cached teacher scores fits a split, clip by clip.

    Raises:
        ValueError: names the ids of clips without scores, of scores without a clip, or in another order.
    """
    advice = (
        f"; score the clips again: delete {scores_dir} and the stage's metrics.json and run the same command"
    )
    for shard, ids in zip(split.info.shards, split.clip_ids, strict=True):
        path = storage.join(scores_dir, shard.file)
        if not storage.exists(path):
            raise ValueError(f"{path}: the teacher's scores of clips {_some(ids)} are missing{advice}")
        found = [schema.decode_teacher_scores(record)[0] for record in shards.read_records(path)]
        if found == ids:
            continue
        missing = [video_id for video_id in ids if video_id not in set(found)]
        extra = [video_id for video_id in found if video_id not in set(ids)]
        pairs = itertools.zip_longest(ids, found, fillvalue="end of the shard")
        swapped = [f"{mine} / {theirs}" for mine, theirs in pairs if mine != theirs]
        problems = [f"no scores for clips {_some(missing)}"] if missing else []
        problems += [f"scores for clips that are not in the split: {_some(extra)}"] if extra else []
        problems += [] if problems else [f"another order than the shard's (clip / scores): {_some(swapped)}"]
        raise ValueError(f"{path}: {'; '.join(problems)}{advice}")


def _some(ids: list[str], most: int = 5) -> str:
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


def find_damage(split: Split, error: tf.errors.OpError) -> ValueError:
    """The readable reason for an error that TensorFlow raised while reading a split: names clips, or file and record."""
    if mismatch := re.search(r"teacher scores of .+ beside clip [^\]]+", error.message):
        return ValueError(f"{mismatch[0]}; convert the split again, or score its clips again")
    for path in split.info.shard_paths(split.data_dir):
        try:
            for index, record in enumerate(shards.read_records(path, split.info.compression)):
                try:
                    schema.decode(record, split.info.feature_dtype, split.info.log_mel.mel_bins)
                except ValueError as reason:
                    return ValueError(f"{path}: record {index}: {reason}; convert the split again")
        except ValueError as reason:
            return reason
    return ValueError(f"{split.data_dir}: {json.dumps(error.message)[1:-1][:500]}")
