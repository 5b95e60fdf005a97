"""Batches of shards as `tf.data`: log-mels, labels and, for a student, cached teacher scores.

The order of the clips is a function of the seed and the epoch alone, so that a run that starts
again anywhere sees what an undisturbed run would have seen.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from secost_tf.data.augmentation import Augment
from secost_tf.data.splits import Split
from tfrecord_tools import storage
from tfrecord_tools.shards import (
    LABELS,
    LOG_MEL,
    NUM_FRAMES,
    VIDEO_ID,
    DatasetInfo,
    parse,
    parse_teacher_scores,
)

_HASH_BUCKETS = 10_000

_READ_AHEAD_SHARDS = 8

_BATCHES_AHEAD = 4

_END = "end of the shard"

# TensorFlow's own operations alone: nothing to convert.
_in_graph = tf.autograph.experimental.do_not_convert


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Return the number of full batches in a subset.

    Raises:
        ValueError: if the subset does not fill one batch.
    """
    if split.num_clips < batch_size:
        raise ValueError(
            f"batch_size: expected at most the {split.num_clips} clips to train on "
            f"({split.info.split} of {split.data_dir}), got {batch_size}"
        )
    return split.num_clips // batch_size


class Piece(NamedTuple):
    """A row of clips of the subset in one shard: `clips` of them from the `first` on."""

    shard: int
    first: int
    clips: int


def pieces(shard_clips: Sequence[int], seed: int, start: int, stop: int) -> list[Piece]:
    """Return clips `start` to `stop` of an endless row of passes over the shards.

    Each pass has an order of its own.

    Args:
        shard_clips: clips in each shard.
        seed: decides the orders, with the number of the pass.
        start, stop: places in the row, counted in clips.
    """
    parts, total = [], sum(shard_clips)
    for number in range(start // total, -(-stop // total)):
        place = number * total
        for shard in np.random.default_rng([seed, number]).permutation(len(shard_clips)).tolist():
            first, last = max(start - place, 0), min(stop - place, shard_clips[shard])
            if first < last:
                parts.append(Piece(shard, first, last - first))
            place += shard_clips[shard]
    return parts


@dataclasses.dataclass(frozen=True)
class Worker:
    """The part of each batch that a process makes.

    It is that of worker `index` of `count`, for `replicas` replicas in turn.
    """

    index: int = 0
    count: int = 1
    replicas: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Epochs of shuffled batches, all full.

    An epoch is a pass over the clips, or `steps` batches, the next epoch going on where it ends.
    Which clips are left over differs from pass to pass.

    Attributes:
        split: what to train on.
        batch_size: clips in a batch, over all replicas and workers.
        seed: decides the order of the clips, with the number of the epoch.
        steps: batches in an epoch; 0 means a pass.
        shuffle_clips: clips in the shuffle buffer; shards are shuffled besides.
        teacher_scores_dirs: folders of cached scores made by `scoring.write_teacher_scores`, joined
            by clip id and averaged.
        balanced: draw each class equally often, then one of its clips.
        augment: applied to each batch of a stream (see `augmentation.make_augmentation`), with a
            seed of its own.
        streams: equal parts of an epoch's shards, each shuffled by itself, of which each batch
            takes as many clips; with as many streams, one worker or several make the same batches.
        cache: the records in memory; None reads the files.

    Raises:
        ValueError: if the subset does not fill one batch.
    """

    split: Split
    batch_size: int
    seed: int = 0
    steps: int = 0
    shuffle_clips: int = 2048
    teacher_scores_dirs: Sequence[str] = ()
    balanced: bool = False
    augment: Augment | None = None
    streams: int = 1
    cache: RecordCache | None = None

    def __post_init__(self):
        steps_per_epoch(self.split, self.batch_size)

    def epoch(
        self, number: int = 0, first_step: int = 0, worker: Worker = Worker()
    ) -> tf.data.Dataset:
        """Return the batches of an epoch.

        Args:
            number: of the epoch.
            first_step: steps of the epoch that were done before.
            worker: the part of the batches to make.

        Returns:
            Batches ({log_mel float32 [batch, frames, mel_bins], num_frames int32 [batch]}, {labels
            float32 [batch, classes], and with cached scores teacher_scores float32 [batch,
            classes]}), zero-padded to the longest clip of the batch; each step's batch in as many
            as the worker has replicas.

        Raises:
            ValueError: if a batch can't be shared out.
        """
        if self.batch_size % self.streams or self.streams % worker.count:
            raise ValueError(
                f"batch_size: expected a multiple of the {self.streams} input streams, they one of "
                f"the {worker.count} workers, got {self.batch_size}"
            )
        clips = self.batch_size // self.streams  # of a stream, in a batch
        total = self.steps or steps_per_epoch(self.split, self.batch_size)
        steps = total - first_step
        each = self.streams // worker.count
        streams = range(worker.index * each, (worker.index + 1) * each)
        parts = [
            self._records(number, stream).take(total * clips).skip(first_step * clips)
            for stream in streams
        ]
        dataset = parts[0]
        if len(parts) > 1:
            turns = np.repeat(np.arange(len(parts), dtype=np.int64), clips)
            turns = tf.data.Dataset.from_tensor_slices(turns).repeat(steps)
            dataset = tf.data.Dataset.choose_from_datasets(parts, turns)
        dataset = dataset.batch(clips, drop_remainder=True)
        dataset = _map(dataset, functools.partial(_training_batch, self.split))
        dataset = self._augmented(dataset, number, first_step, streams)
        share = self.batch_size // worker.count // worker.replicas
        if share != clips:
            dataset = dataset.unbatch().padded_batch(share, drop_remainder=True)
        # Without a known length, Keras 3 takes one step more on a batch of zeros at the end of a
        # distributed data set.
        length = tf.data.experimental.assert_cardinality(steps * worker.replicas)
        return _ahead(dataset).apply(length)

    def _records(self, epoch: int, stream: int) -> tf.data.Dataset:
        """Return the shuffled records of a stream."""
        source = self.cache or _Files(self.split, self.teacher_scores_dirs)
        clips = self.steps * self.batch_size or self.split.num_clips
        start, stop = (
            epoch * clips + clips * place // self.streams for place in (stream, stream + 1)
        )
        records = source.records(pieces(self.split.shard_clips, self.seed, start, stop))
        seeds = np.random.SeedSequence([self.seed, epoch, stream]).generate_state(2).tolist()
        if self.balanced:
            records = records.flat_map(functools.partial(_draws, self.split, seeds[0])).repeat()
        return records.shuffle(self.shuffle_clips, seed=seeds[1], reshuffle_each_iteration=False)

    def _augmented(
        self, dataset: tf.data.Dataset, epoch: int, first_step: int, streams: range
    ) -> tf.data.Dataset:
        """Return the batches of streams in turn, augmented."""
        augment = self.augment
        if augment is None:
            return dataset
        seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]) % (1 << 31)

        def augment_batch(count, batch):
            step, stream = count // len(streams) + first_step, count % len(streams) + streams[0]
            place = tf.cast(step * self.streams + stream, tf.int32)
            return augment(*batch, tf.stack([seed, place]))

        return _map(dataset.enumerate(), augment_batch)


def scoring_data(split: Split, batch_size: int) -> tf.data.Dataset:
    """Return batches in the order of the shards.

    Each is (inputs, labels float32 [batch, classes], video_id string [batch]).
    """
    batches = _Files(split).in_order().batch(batch_size)
    return _ahead(_map(batches, functools.partial(_scoring_batch, split)))


def _ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Make batches while those before are used, with as much parallelism as there are threads.

    Not tuned by itself: the tuner's thread sleeps ever longer and, woken a moment too soon, keeps
    the end of a pass waiting for up to ten seconds (seen with TensorFlow 2.15 and 2.21, in every
    other pass).
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
        # Known beforehand and held beside the records: to call a function for each record costs as
        # much as reading it.
        is_whole = split.subset == "all"
        self.selected = None if is_whole else tf.ragged.constant(split.selected, tf.bool)

    def in_order(self) -> tf.data.Dataset:
        """Return all records, in the order of the shards."""
        shard = np.arange(len(self.columns[0]))
        return tf.data.Dataset.from_tensor_slices((shard, *self.columns)).flat_map(self._read)

    def records(self, parts: Sequence[Piece]) -> tf.data.Dataset:
        """Return the records of some pieces, read from several files at a time."""
        paths = tuple([column[part.shard] for part in parts] for column in self.columns)
        places = np.array(parts, np.int64)
        # A shard's last piece goes to the file's end (-1), so that files of unequal length are
        # found out.
        to_end = places[:, 1] + places[:, 2] == np.array(self.split.shard_clips)[places[:, 0]]
        places[to_end, 2] = -1

        @_in_graph
        def read(shard, first, clips, *paths):
            return self._read(shard, *paths).skip(first).take(clips)

        files = tf.data.Dataset.from_tensor_slices((*places.T, *paths))
        return _interleave(files, read, len(parts))

    @_in_graph
    def _read(self, shard, clips, *scores):
        compression = "" if self.split.info.compression == "NONE" else self.split.info.compression
        columns = [tf.data.TFRecordDataset(clips, compression)]
        columns += map(tf.data.TFRecordDataset, scores)
        if scores:
            end = tf.data.Dataset.from_tensors(b"")
            # The end of each file is a record too: files of unequal length then meet it at
            # different places.
            records = tf.data.Dataset.zip(tuple(column.concatenate(end) for column in columns))
            return records.filter(functools.partial(_selects, self.split, clips))
        records = tf.data.Dataset.zip(tuple(columns))
        if self.selected is None:
            return records
        selected = tf.data.Dataset.from_tensor_slices(self.selected[shard])
        records = tf.data.Dataset.zip((selected, records)).filter(lambda selected, _: selected)
        return records.map(lambda _, records: records)


class RecordCache:
    """The records of a subset, (clip, teacher scores...), decompressed in memory; read once."""

    def __init__(self, split: Split, scores_dirs: Sequence[str] = ()):
        records = _Files(split, scores_dirs).in_order().batch(split.num_clips)
        self._columns = records.get_single_element()
        self._starts = np.concatenate([[0], np.cumsum(split.shard_clips)]).tolist()

    def records(self, parts: Sequence[Piece]) -> tf.data.Dataset:
        """Return the records of some pieces, in the order in which they would come from files."""
        starts = np.array([self._starts[part.shard] + part.first for part in parts], np.int64)
        stops = starts + [part.clips for part in parts]

        @_in_graph
        def read(start, stop):
            places = tf.data.Dataset.range(start, stop)
            return places.map(lambda i: tuple(column[i] for column in self._columns))

        return _interleave(tf.data.Dataset.from_tensor_slices((starts, stops)), read, len(parts))


def _interleave(dataset: tf.data.Dataset, read, count: int) -> tf.data.Dataset:
    return dataset.interleave(
        read,
        cycle_length=min(_READ_AHEAD_SHARDS, count),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


@_in_graph
def _selects(split: Split, path: tf.Tensor, *records: tf.Tensor) -> tf.Tensor:
    """Return bool [], true if a record is in the subset.

    Stop the pipeline where clip and teacher scores are not of one id.
    """
    feature = {VIDEO_ID: tf.io.FixedLenFeature([], tf.string, default_value=_END)}
    ids = [tf.io.parse_single_example(record, feature)[VIDEO_ID] for record in records]
    checks = []
    for other in ids[1:]:
        words = ["teacher scores of ", other, " beside clip ", ids[0], " in ", path]
        checks.append(tf.debugging.Assert(ids[0] == other, [tf.strings.join(words)]))
    with tf.control_dependencies(checks):
        return (tf.strings.length(records[0]) > 0) & split.selects(ids[0])


def draws_per_label(info: DatasetInfo) -> np.ndarray:
    """Return the mean number of draws of a clip for each label that it has, float64 [classes].

    Balanced sampling draws as often in a pass as there are clips: a class, all being as likely,
    then one of its clips. So it draws a clip of class c num_clips / (classes * clips of class c)
    times; of several labels, the sum. Classes without clips don't count.
    """
    positives = np.array(info.positives, np.float64)
    share = np.divide(1.0, positives, out=np.zeros_like(positives), where=positives > 0)
    return info.num_clips * share / np.count_nonzero(positives)


@_in_graph
def _draws(split: Split, seed: int, record: tf.Tensor, *scores: tf.Tensor) -> tf.data.Dataset:
    """Return the record as often as balanced sampling draws it in a pass.

    A hash of the clip's id decides the fraction.
    """
    weights = tf.constant(draws_per_label(split.info), tf.float32)
    features = {
        VIDEO_ID: tf.io.FixedLenFeature([], tf.string),
        LABELS: tf.io.RaggedFeature(tf.int64),
    }
    parsed = tf.io.parse_single_example(record, features)
    expected = tf.reduce_sum(tf.gather(weights, parsed[LABELS]))
    bucket = tf.strings.to_hash_bucket_strong(parsed[VIDEO_ID], _HASH_BUCKETS, key=[seed, 0xBA1A])
    rounded_up = tf.cast(bucket, tf.float32) / _HASH_BUCKETS < expected % 1.0
    count = tf.cast(expected, tf.int64) + tf.cast(rounded_up, tf.int64)
    return tf.data.Dataset.from_tensors((record, *scores)).repeat(count)


def _parse(split: Split, records: tf.Tensor) -> dict[str, tf.Tensor]:
    info = split.info
    bins, classes = info.log_mel.mel_bins, len(info.class_map)
    return parse(records, info.feature_dtype, info.feature_range, bins, classes)


def _inputs(clip: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {name: clip[name] for name in (LOG_MEL, NUM_FRAMES)}


@_in_graph
def _training_batch(split: Split, records: tf.Tensor, *scores: tf.Tensor):
    clips = _parse(split, records)
    targets = {"labels": clips[LABELS]}
    if scores:
        parsed = [parse_teacher_scores(column, len(split.info.class_map))[1] for column in scores]
        targets["teacher_scores"] = tf.add_n(parsed) / len(parsed)
    return _inputs(clips), targets


@_in_graph
def _scoring_batch(split: Split, records: tf.Tensor):
    clips = _parse(split, records)
    return _inputs(clips), clips[LABELS], clips[VIDEO_ID]
