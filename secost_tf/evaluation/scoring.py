"""Clip scores of a split, by a student or by the stages of runs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from scipy.special import expit

from secost_tf.data import Split, find_damage, scoring_data
from secost_tf.evaluation.metrics import Evaluation, evaluate_scores
from secost_tf.runs import StageFolder
from tfrecord_tools import shards, storage
from tfrecord_tools.shards import encode_teacher_scores


class Scorer:
    """A student that scores clips; its graph is traced once, whatever the lengths.

    Args:
        student: a `wels_net`.
        batch_size: clips at a time; affects speed and memory, not scores.
    """

    def __init__(self, student: keras.Model, batch_size: int):
        self.student, self.batch_size = student, batch_size
        signature = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype)
            for name, tensor in student.input.items()
        }
        # A `partial`, since TensorFlow takes the lambdas of several scorers for one that it has to
        # trace ever again.
        self._logits = tf.function(functools.partial(_logits, student), [signature])

    def batches(self, split: Split) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield video ids [batch], labels and logits [batch, classes], in order.

        Raises:
            ValueError: if a shard is damaged; names file and record.
        """
        try:
            for inputs, labels, video_ids in scoring_data(split, self.batch_size):
                yield video_ids.numpy().astype(str), labels.numpy(), self._logits(inputs).numpy()
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            raise find_damage(split, error) from error

    def split(self, split: Split) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return video ids [clips], labels and logits float32 [clips, classes] of a whole split."""
        ids, labels, logits = zip(*self.batches(split), strict=True)
        return list(np.concatenate(ids)), np.concatenate(labels), np.concatenate(logits)

    def evaluate(self, split: Split) -> Evaluation:
        """Evaluate logits, which rank as scores do without their rounding, against the labels."""
        _, labels, logits = self.split(split)
        if len(logits) > 1 and np.ptp(logits, axis=0).max() < 1e-5:
            logging.warning(
                "the student gives every clip the same scores: it has learnt nothing that tells "
                "clips apart. Try another --learning_rate, and look at the data: "
                "python -m tfrecord_tools.inspect DATA_DIR --plot=FILE.png"
            )
        return evaluate_scores(labels, logits)

    def write_teacher_scores(self, split: Split, scores_dir: str) -> None:
        """Score every clip and write the scores, in files of the shards' names and order."""
        storage.make_dirs(scores_dir)
        records = (
            encode_teacher_scores(video_id, scores)
            for ids, _, logits in self.batches(split)
            for video_id, scores in zip(ids, expit(logits, dtype=np.float64), strict=True)
        )
        for shard in split.info.shards:
            path = storage.join(scores_dir, shard.file)
            shards.write_records(path, itertools.islice(records, shard.clips))


@dataclasses.dataclass(frozen=True)
class StageScores:
    """A stage's student, and the scores it gave to the clips of a split.

    Attributes:
        student: the network.
        video_ids: ids of the clips, in the order of the shards.
        labels: float32 [clips, classes].
        logits: float32 [clips, classes].
    """

    student: keras.Model
    video_ids: list[str]
    labels: np.ndarray
    logits: np.ndarray


class SplitScorer:
    """A split that stages of runs score; each stage is loaded and scores the clips once.

    Args:
        split: the clips.
        batch_size: clips at a time; affects speed and memory, not scores.
    """

    def __init__(self, split: Split, batch_size: int):
        self.split, self.batch_size = split, batch_size
        self._scores: dict[StageFolder, StageScores] = {}

    @classmethod
    def open(cls, data_dir: str, split: str = "eval", batch_size: int = 32) -> SplitScorer:
        """Open a converted split.

        Args:
            data_dir: folder of converted splits.
            split: name of the split.
            batch_size: clips at a time.

        Raises:
            ValueError: if there is no such split.
        """
        return cls(Split(data_dir, shards.read_dataset_info(data_dir, split)), batch_size)

    def score(self, stage: StageFolder) -> StageScores:
        """Return the scores of a stage.

        Raises:
            ValueError: if the stage is not done, or a shard is damaged.
        """
        if stage not in self._scores:
            clips = Scorer(stage.student, self.batch_size).split(self.split)
            self._scores[stage] = StageScores(stage.student, *clips)
        return self._scores[stage]


def _logits(student: keras.Model, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    return student(inputs, training=False)["logits"]
