"""A converted split, or a part of it: its clips, and the damage of its files."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from secost_tf.runs import TrainConfig
from tfrecord_tools import shards, storage
from tfrecord_tools.shards import ClipRecord, DatasetInfo, decode, dequantize

SUBSETS = ("all", "training", "validation")

_HASH_BUCKETS = 10_000


@dataclasses.dataclass(frozen=True)
class Split:
    """A converted split, or a part of it.

    Attributes:
        data_dir: the folder that holds the split's folder.
        info: its `dataset.json`.
        subset: `all`, or the `training` or `validation` part of it, told apart by a hash of the
            clip id.
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
        try:
            clips = shards.read_clips_csv(self.data_dir, self.info.split)
        except ValueError as error:
            raise ValueError(f"{error}; convert the split again") from error
        counts = Counter(shard for _, shard, *_ in clips)
        if counts != Counter({place: shard.clips for place, shard in enumerate(self.info.shards)}):
            raise ValueError(
                f"{storage.join(self.data_dir, self.info.split, shards.CLIPS_CSV)}: does not list "
                f"the clips of {shards.DATASET_JSON}; convert the split again"
            )
        ids: list[list[str]] = [[] for _ in self.info.shards]
        for clip_id, shard, *_ in clips:
            ids[shard].append(clip_id)
        return ids

    @functools.cached_property
    def shard_clips(self) -> list[int]:
        """Clips of the subset in each shard."""
        if self.subset == "all":
            return [shard.clips for shard in self.info.shards]
        return [int(np.sum(selected)) for selected in self.selected]

    @functools.cached_property
    def selected(self) -> list[list[bool]]:
        """True for each clip that is in the subset, by shard."""
        return [self.selects(tf.constant(ids, tf.string)).numpy().tolist() for ids in self.clip_ids]

    @property
    def num_clips(self) -> int:
        """Clips in the subset."""
        return sum(self.shard_clips)

    def selects(self, video_id: tf.Tensor) -> tf.Tensor:
        """Return true for ids, string [...], of clips in the subset: bool [...]."""
        if self.subset == "all":
            return tf.ones_like(video_id, tf.bool)
        bucket = tf.strings.to_hash_bucket_strong(video_id, _HASH_BUCKETS, key=[0x5EC0, 0x57])
        in_validation = bucket < round(self.validation_share * _HASH_BUCKETS)
        return in_validation if self.subset == "validation" else ~in_validation


def read_clips(split: Split, ids: Sequence[str]) -> list[ClipRecord]:
    """Read clips by their ids, in the order of the shards; log-mels float32 [frames, mel_bins]."""
    wanted = set(ids)
    clips = (clip for clip in iterate_clips(split) if clip.video_id in wanted)
    return list(itertools.islice(clips, len(ids)))


def iterate_clips(split: Split) -> Iterator[ClipRecord]:
    """Yield the subset's clips in the order of the shards; log-mels float32 [frames, mel_bins]."""
    info = split.info
    whole = split.subset == "all"
    for number, path in enumerate(info.shard_paths(split.data_dir)):
        for place, data in enumerate(shards.read_records(path, info.compression)):
            if whole or split.selected[number][place]:
                clip = decode(data, info.feature_dtype, info.log_mel.mel_bins)
                log_mel = dequantize(clip.log_mel, info.feature_range).astype(np.float32)
                yield dataclasses.replace(clip, log_mel=log_mel)


def find_damage(split: Split, error: tf.errors.OpError) -> ValueError:
    """Return the readable reason for an error of TensorFlow while it read a split.

    It names clips, or file and record.
    """
    if mismatch := re.search(r"teacher scores of .+ beside clip [^\]]+", error.message):
        return ValueError(f"{mismatch[0]}; convert the split again, or score its clips again")
    for path in split.info.shard_paths(split.data_dir):
        try:
            for index, record in enumerate(shards.read_records(path, split.info.compression)):
                try:
                    decode(record, split.info.feature_dtype, split.info.log_mel.mel_bins)
                except ValueError as reason:
                    return ValueError(f"{path}: record {index}: {reason}; convert the split again")
        except ValueError as reason:
            return reason
    return ValueError(f"{split.data_dir}: {json.dumps(error.message)[1:-1][:500]}")


def training_splits(data_dir: str, train: TrainConfig) -> tuple[Split, Split | None]:
    """Return what to train on, and what picks the best epoch.

    The latter is the validation split, or else a share of train, or else None.
    """
    info = shards.read_dataset_info(data_dir, "train")
    if shards.has_split(data_dir, "validation"):
        validation = shards.read_dataset_info(data_dir, "validation")
        _check_same_input(info, validation, data_dir)
        return Split(data_dir, info), Split(data_dir, validation)
    if not train.validation_share:
        return Split(data_dir, info), None
    part = functools.partial(Split, data_dir, info, validation_share=train.validation_share)
    if part("validation").num_clips:
        return part("training"), part("validation")
    logging.warning(
        "no clip of %s falls into the validation share; the last epoch is taken", data_dir
    )
    return Split(data_dir, info), None


def _check_same_input(info: DatasetInfo, other: DatasetInfo, data_dir: str) -> None:
    """Raise `ValueError` if two splits of a folder differ in classes or log-mel."""
    folder, other_folder = (storage.join(data_dir, split) for split in (info.split, other.split))
    shards.check_same_input(info, folder, other, other_folder)


def evaluation_split(data_dir: str, train: TrainConfig) -> Split:
    """Return the eval split; without one, the clips that picked the best epoch, with a warning."""
    if shards.has_split(data_dir, "eval"):
        info = shards.read_dataset_info(data_dir, "eval")
        _check_same_input(shards.read_dataset_info(data_dir, "train"), info, data_dir)
        return Split(data_dir, info)
    validation = training_splits(data_dir, train)[1]
    if validation is None:
        raise ValueError(
            f"{data_dir}: no split to evaluate on; convert one with --split=eval, or set "
            "--validation_share"
        )
    logging.warning(
        "%s has no eval split: figures are those of the clips that picked the best epoch", data_dir
    )
    return validation
