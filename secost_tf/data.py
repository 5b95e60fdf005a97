"""Shards -> `tf.data`: batches of log-mels, labels and, for a student, the teacher's cached scores.

The order of the clips is a function of the seed and the epoch alone, so that a run that starts again anywhere sees what
an undisturbed run would have seen.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from secost_tf.augmentation import Augment
from tfrecord_tools import schema, shards, storage
from tfrecord_tools.schema import ClipRecord
from tfrecord_tools.shards import DatasetInfo

SUBSETS = ("all", "training", "validation")
_HASH_BUCKETS = 10_000
_READ_AHEAD_SHARDS = 8
_BATCHES_AHEAD = 4
_END = "end of the shard"
_in_graph = tf.autograph.experimental.do_not_convert  # TensorFlow's own operations alone: nothing to convert


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


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Full batches in the subset; a `ValueError` if it does not fill one."""
    if split.num_clips < batch_size:
        raise ValueError(
            f"batch_size: expected at most the {split.num_clips} clips to train on "
            f"({split.info.split} of {split.data_dir}), got {batch_size}"
        )
    return split.num_clips // batch_size


class Piece(NamedTuple):
    """Clips of the subset in one shard: `clips` of them from the `first` on."""

    shard: int
    first: int
    clips: int


def pieces(shard_clips: Sequence[int], seed: int, start: int, stop: int) -> list[Piece]:
    """Where clips `start` to `stop` lie in an endless row of passes over the shards, each in an order of its own.

    Args:
        shard_clips: clips in each shard.
        seed: decides the orders, with the number of the pass.
        start, stop: places in the row, counted in clips.
    """
    found, total = [], sum(shard_clips)
    for number in range(start // total, -(-stop // total)):
        place = number * total
        for shard in np.random.default_rng([seed, number]).permutation(len(shard_clips)).tolist():
            first, last = max(start - place, 0), min(stop - place, shard_clips[shard])
            if first < last:
                found.append(Piece(shard, first, last - first))
            place += shard_clips[shard]
    return found


class Worker(NamedTuple):
    """Which part of each batch a process makes: that of worker `index` of `count`, for `replicas` replicas in turn."""

    index: int = 0
    count: int = 1
    replicas: int = 1


def training_data(
    split: Split,
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    steps: int = 0,
    shuffle_clips: int = 2048,
    teacher_scores_dirs: Sequence[str] = (),
    first_step: int = 0,
    balanced: bool = False,
    augment: Augment | None = None,
    streams: int = 1,
    worker: Worker = Worker(),  # noqa: B008
    cache: RecordCache | None = None,
) -> tf.data.Dataset:
    """One epoch of shuffled batches, all full; or what is left of it from `first_step` on.

    An epoch is a pass over the clips, or `steps` batches, the next epoch going on where it ends. Which clips are left over
    differs from pass to pass.

    Args:
        split: what to train on.
        batch_size: clips in a batch, over all replicas and workers.
        seed, epoch: decide the order of the clips.
        steps: batches in an epoch; 0 means a pass.
        shuffle_clips: clips in the shuffle buffer; shards are shuffled besides.
        teacher_scores_dirs: folders of cached scores made by `scoring.write_teacher_scores`, joined by clip id and
            averaged.
        first_step: steps of the epoch that were done before.
        balanced: draw each class equally often, then one of its clips.
        augment: applied to each batch of a stream (see `augmentation.make_augmentation`), with a seed of its own.
        streams: equal parts of an epoch's shards, each shuffled by itself, of which each batch takes as many clips; with
            as many streams, one worker or several make the same batches.
        worker: which part of the batches to make.
        cache: where the records are held in memory; None reads the files.

    Returns:
        Batches ({log_mel float32 [batch, frames, mel_bins], num_frames int32 [batch]},
        {labels float32 [batch, classes], and with cached scores teacher_scores float32 [batch, classes]}),
        zero-padded to the longest clip of the batch; each step's batch in as many as the worker has replicas.

    Raises:
        ValueError: if the subset does not fill one batch, or a batch can't be shared out.
    """
    pass_steps = steps_per_epoch(split, batch_size)
    if batch_size % streams or streams % worker.count:
        raise ValueError(
            f"batch_size: expected a multiple of the {streams} input streams, they one of the {worker.count} "
            f"workers, got {batch_size}"
        )
    clips, steps = (steps * batch_size, steps) if steps else (split.num_clips, pass_steps)
    source = cache or _Files(split, teacher_scores_dirs)
    mine = range(worker.index * streams // worker.count, (worker.index + 1) * streams // worker.count)
    each, parts = batch_size // streams, []
    for stream in mine:
        start, stop = (epoch * clips + clips * one // streams for one in (stream, stream + 1))
        seeds = np.random.SeedSequence([seed, epoch, stream]).generate_state(2).tolist()
        records = source.records(pieces(split.shard_clips, seed, start, stop))
        if balanced:
            records = records.flat_map(functools.partial(_draws, split, seeds[0])).repeat()
        records = records.shuffle(shuffle_clips, seed=seeds[1], reshuffle_each_iteration=False)
        parts.append(records.take(steps * each).skip(first_step * each))
    if len(parts) > 1:
        turns = np.repeat(np.arange(len(parts), dtype=np.int64), each)
        dataset = tf.data.Dataset.choose_from_datasets(
            parts, tf.data.Dataset.from_tensor_slices(turns).repeat(steps - first_step)
        )
    else:
        dataset = parts[0]
    dataset = dataset.batch(each, drop_remainder=True)
    dataset = _map(dataset, functools.partial(_training_batch, split))
    if augment:
        augment_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]) % (1 << 31)

        def augment_batch(count, batch):
            turn, stream = count // len(parts) + first_step, count % len(parts) + mine[0]
            return augment(*batch, tf.stack([augment_seed, tf.cast(turn * streams + stream, tf.int32)]))

        dataset = _map(dataset.enumerate(), augment_batch)
    share = batch_size // worker.count // worker.replicas
    if share != each:
        dataset = dataset.unbatch().padded_batch(share, drop_remainder=True)
    dataset = _ahead(dataset)
    # Without a known length, Keras 3 takes one step more on a batch of zeros at the end of a distributed data set.
    return dataset.apply(tf.data.experimental.assert_cardinality((steps - first_step) * worker.replicas))


def scoring_data(split: Split, batch_size: int) -> tf.data.Dataset:
    """Batches (inputs, labels float32 [batch, classes], video_id string [batch]) in the order of the shards."""

    batches = _Files(split).in_order().batch(batch_size)
    return _ahead(_map(batches, functools.partial(_scoring_batch, split)))


def _ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The batches, made while those before are used, with as much parallelism as there are threads.

    Not tuned by itself: the tuner's thread sleeps ever longer and, woken a moment too soon, keeps the end of a pass
    waiting for up to ten seconds (seen with TensorFlow 2.15 and 2.21, in every other pass).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(_BATCHES_AHEAD).with_options(options)


def _map(dataset: tf.data.Dataset, function) -> tf.data.Dataset:
    return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


class _Files:
    """The records of a subset, (clip, teacher scores...), from files."""

    def __init__(self, split: Split, scores_dirs: Sequence[str] = ()):
        self.split = split
        names = [shard.file for shard in split.info.shards]
        self.columns = [split.info.shard_paths(split.data_dir)]
        self.columns += [[storage.join(folder, name) for name in names] for folder in scores_dirs]
        # Known beforehand and held beside the records: to call a function for each record costs as much as reading it.
        self.selected = None if split.subset == "all" else tf.ragged.constant(split.selected, tf.bool)

    def in_order(self) -> tf.data.Dataset:
        """All of them, in the order of the shards."""
        shard = np.arange(len(self.columns[0]))
        return tf.data.Dataset.from_tensor_slices((shard, *self.columns)).flat_map(self._read)

    def records(self, found: Sequence[Piece]) -> tf.data.Dataset:
        """Those of some pieces, several files at a time."""
        paths = tuple([column[piece.shard] for piece in found] for column in self.columns)
        places = np.array(found, np.int64)
        # A shard's last piece goes to the file's end (-1), so that files of unequal length are found out.
        to_end = places[:, 1] + places[:, 2] == np.array(self.split.shard_clips)[places[:, 0]]
        places[to_end, 2] = -1

        @_in_graph
        def read(shard, first, clips, *paths):
            return self._read(shard, *paths).skip(first).take(clips)

        files = tf.data.Dataset.from_tensor_slices((*places.T, *paths))
        return _interleave(files, read, len(found))

    @_in_graph
    def _read(self, shard, clips, *scores):
        compression = "" if self.split.info.compression == "NONE" else self.split.info.compression
        columns = [tf.data.TFRecordDataset(clips, compression), *map(tf.data.TFRecordDataset, scores)]
        if scores:
            end = tf.data.Dataset.from_tensors(b"")
            # The end of each file is a record too: files of unequal length then meet it at different places.
            records = tf.data.Dataset.zip(tuple(column.concatenate(end) for column in columns))
            return records.filter(functools.partial(_selects, self.split, clips))
        records = tf.data.Dataset.zip(tuple(columns))
        if self.selected is None:
            return records
        selected = tf.data.Dataset.from_tensor_slices(self.selected[shard])
        records = tf.data.Dataset.zip((selected, records)).filter(lambda selected, _: selected)
        return records.map(lambda _, records: records)


class RecordCache:
    """The records of a subset, (clip, teacher scores...), held in memory, decompressed; files are read once."""

    def __init__(self, split: Split, scores_dirs: Sequence[str] = ()):
        total = split.num_clips
        everything = _Files(split, scores_dirs).in_order().batch(total)
        self._columns = everything.get_single_element()
        self._starts = np.concatenate([[0], np.cumsum(split.shard_clips)]).tolist()

    def records(self, found: Sequence[Piece]) -> tf.data.Dataset:
        """Those of some pieces, in the order in which they would come from files."""
        starts = [self._starts[piece.shard] + piece.first for piece in found]
        stops = [start + piece.clips for start, piece in zip(starts, found, strict=True)]

        @_in_graph
        def read(start, stop):
            return tf.data.Dataset.range(start, stop).map(lambda i: tuple(one[i] for one in self._columns))

        spans = np.array([starts, stops], np.int64)
        return _interleave(tf.data.Dataset.from_tensor_slices(tuple(spans)), read, len(found))


def _interleave(dataset: tf.data.Dataset, read, count: int) -> tf.data.Dataset:
    return dataset.interleave(
        read,
        cycle_length=min(_READ_AHEAD_SHARDS, count),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


@_in_graph
def _selects(split: Split, path: tf.Tensor, *records: tf.Tensor) -> tf.Tensor:
    """Whether a record is in the subset; stops the pipeline where clip and teacher scores are not of one id."""
    feature = {schema.VIDEO_ID: tf.io.FixedLenFeature([], tf.string, default_value=_END)}
    ids = [tf.io.parse_single_example(record, feature)[schema.VIDEO_ID] for record in records]
    checks = [
        tf.debugging.Assert(
            ids[0] == other,
            [tf.strings.join(["teacher scores of ", other, " beside clip ", ids[0], " in ", path])],
        )
        for other in ids[1:]
    ]
    with tf.control_dependencies(checks):
        return (tf.strings.length(records[0]) > 0) & split.selects(ids[0])


def draws_per_label(info: DatasetInfo) -> np.ndarray:
    """How often balanced sampling draws a clip in a pass, on average, for each label that it has: float64 [classes].

    To draw a class, all being as likely, and then one of its clips, as often as there are clips, draws a clip of class c
    num_clips / (classes * clips of class c) times; of several labels, the sum. Classes without clips don't count.
    """
    positives = np.array(info.positives, np.float64)
    share = np.divide(1.0, positives, out=np.zeros_like(positives), where=positives > 0)
    return info.num_clips * share / np.count_nonzero(positives)


@_in_graph
def _draws(split: Split, seed: int, record: tf.Tensor, *scores: tf.Tensor) -> tf.data.Dataset:
    """The record as often as balanced sampling draws it in a pass; the fraction is decided by a hash of the clip's id."""
    weights = tf.constant(draws_per_label(split.info), tf.float32)
    features = {
        schema.VIDEO_ID: tf.io.FixedLenFeature([], tf.string),
        schema.LABELS: tf.io.RaggedFeature(tf.int64),
    }
    parsed = tf.io.parse_single_example(record, features)
    expected = tf.reduce_sum(tf.gather(weights, parsed[schema.LABELS]))
    bucket = tf.strings.to_hash_bucket_strong(parsed[schema.VIDEO_ID], _HASH_BUCKETS, key=[seed, 0xBA1A])
    rounded_up = tf.cast(bucket, tf.float32) / _HASH_BUCKETS < expected % 1.0
    count = tf.cast(expected, tf.int64) + tf.cast(rounded_up, tf.int64)
    return tf.data.Dataset.from_tensors((record, *scores)).repeat(count)


def _parse(split: Split, records: tf.Tensor) -> dict[str, tf.Tensor]:
    return schema.parse(
        records,
        split.info.feature_dtype,
        split.info.feature_range,
        split.info.log_mel.mel_bins,
        len(split.info.class_map),
    )


def _inputs(clip: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {name: clip[name] for name in (schema.LOG_MEL, schema.NUM_FRAMES)}


@_in_graph
def _training_batch(split: Split, records: tf.Tensor, *scores: tf.Tensor):
    clips = _parse(split, records)
    targets = {"labels": clips[schema.LABELS]}
    if scores:
        each = [schema.parse_teacher_scores(one, len(split.info.class_map))[1] for one in scores]
        targets["teacher_scores"] = tf.add_n(each) / len(each)
    return _inputs(clips), targets


@_in_graph
def _scoring_batch(split: Split, records: tf.Tensor):
    clips = _parse(split, records)
    return _inputs(clips), clips[schema.LABELS], clips[schema.VIDEO_ID]


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
        pairs = itertools.zip_longest(ids, found, fillvalue=_END)
        swapped = [f"{mine} / {theirs}" for mine, theirs in pairs if mine != theirs]
        problems = [f"no scores for clips {_some(missing)}"] if missing else []
        problems += [f"scores for clips that are not in the split: {_some(extra)}"] if extra else []
        problems += [] if problems else [f"another order than the shard's (clip / scores): {_some(swapped)}"]
        raise ValueError(f"{path}: {'; '.join(problems)}{advice}")


def _some(ids: list[str], most: int = 5) -> str:
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


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
