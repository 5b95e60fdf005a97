"""Labels that a teacher contradicts: which training clips to listen to first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from absl import logging

from secost_tf.runs import TEACHER_SCORES, StageFolder
from tfrecord_tools import shards, storage
from tfrecord_tools.datasets import read_labels
from tfrecord_tools.progress import Progress
from tfrecord_tools.shards import ClipRecord, decode, decode_teacher_scores

if TYPE_CHECKING:
    from secost_tf.data import Split


@dataclasses.dataclass(frozen=True)
class Contradiction:
    """A label that the scores contradict.

    Attributes:
        clip_id, class_index: of the pair.
        labelled: True if the clip has the label.
        score: of the class, in 0..1.
        strength: rank among those of a kind, in 0..1. For a label that is there: the share of the
            clips without it that score at least as high in its class. For one that is not: the
            score.
        wrong: True if the label is wrong by the clean labels; None where those are not known.
    """

    clip_id: str
    class_index: int
    labelled: bool
    score: float
    strength: float
    wrong: bool | None = None


class ClassScores:
    """Histograms of the scores of each class, in narrow bins of the logit."""

    _EDGES = np.linspace(-15.0, 15.0, 1501)

    def __init__(self, num_classes: int):
        self._counts = np.zeros((num_classes, len(self._EDGES) + 1), np.int64)

    def add(self, class_indices: np.ndarray, scores: np.ndarray) -> None:
        """Count scores in 0..1, [pairs], of those classes, [pairs]."""
        np.add.at(self._counts, (class_indices, self._bins(scores)), 1)

    def share_at_least(self, class_indices: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the share of its class's scores that are as high, or in the same bin, [pairs].

        It is 0 where the class has no score.
        """
        from_above = np.cumsum(self._counts[:, ::-1], axis=1)[:, ::-1]
        counts = from_above[class_indices, self._bins(scores)]
        return counts / np.maximum(from_above[class_indices, 0], 1)

    def _bins(self, scores: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.searchsorted(self._EDGES, np.log(scores) - np.log1p(-scores), side="right")


class LabelErrors:
    """The labels that scores contradict most, collected from batches of clips.

    Labels that are there and labels that are not are ranked apart: one kind is rare and the other
    common, so that their scores do not compare. A label that is not there is doubted by its score.
    One that is there, by how many clips without it score as high: a low score alone says that a
    sound is hard to hear, and some classes are harder than others. Give the clean labels where they
    are known, and the ranks can be judged.

    Memory: some 100 bytes for each label that is there, and 12 kB for each class.

    Args:
        most: number of each kind to keep.
        num_classes: number of classes.
    """

    def __init__(self, most: int, num_classes: int):
        self.most = most
        self.labels = {True: 0, False: 0}  # pairs seen, by whether the label is there
        self.wrong: dict[bool, int] | None = {True: 0, False: 0}  # of those; None: not known
        self._without = ClassScores(num_classes)
        self._there: list[_Pairs] = []
        self._not_there = _Pairs.join([])
        self._ranked: dict[bool, list[Contradiction]] = {}

    def add(
        self,
        clip_ids: Sequence[str],
        labels: np.ndarray,
        scores: np.ndarray,
        clean_labels: np.ndarray | None = None,
    ) -> None:
        """Add some clips: labels, scores and clean labels [clips, classes].

        Of pairs equal in rank the first ones stay.
        """
        labels = np.asarray(labels) > 0
        scores = np.asarray(scores, np.float64)
        wrong = None if clean_labels is None else (np.asarray(clean_labels) > 0) != labels
        self._ranked.clear()
        if wrong is None:
            self.wrong = None
        for labelled in (True, False):
            kind = labels if labelled else ~labels
            clips, classes = np.nonzero(kind)
            pairs = _Pairs(
                np.array(clip_ids, object)[clips],
                classes,
                scores[kind],
                np.zeros(len(clips), bool) if wrong is None else wrong[kind],
            )
            self.labels[labelled] += len(clips)
            if self.wrong is not None:
                self.wrong[labelled] += int(pairs.wrong.sum())
            if labelled:
                self._there.append(pairs)
            else:
                self._without.add(classes, pairs.scores)
                both = _Pairs.join([self._not_there, pairs])
                self._not_there = both.take(np.argsort(-both.scores, kind="stable")[: self.most])

    def ranked(self, labelled: bool) -> list[Contradiction]:
        """Return the labels of one kind, the most contradicted first."""
        if labelled not in self._ranked:
            self._ranked[labelled] = self._rank(labelled)
        return self._ranked[labelled]

    def _rank(self, labelled: bool) -> list[Contradiction]:
        pairs = _Pairs.join(self._there) if labelled else self._not_there
        strengths = pairs.scores
        if labelled:
            strengths = self._without.share_at_least(pairs.classes, pairs.scores)
            order = np.lexsort((pairs.scores, -strengths))[: self.most]
            pairs, strengths = pairs.take(order), strengths[order]
        return [
            Contradiction(
                str(clip_id),
                int(class_index),
                labelled,
                float(score),
                float(strength),
                None if self.wrong is None else bool(wrong),
            )
            for (clip_id, class_index, score, wrong), strength in zip(
                zip(*pairs, strict=True), strengths, strict=True
            )
        ]

    def base_rate(self, labelled: bool) -> float | None:
        """Return the share of wrong labels among all of a kind; None where it is not known."""
        if self.wrong is None or not self.labels[labelled]:
            return None
        return self.wrong[labelled] / self.labels[labelled]

    def precision_at(self, labelled: bool, count: int) -> float | None:
        """Return the share of wrong labels among the first `count` of a kind.

        It is None where clean labels are not known, or there are fewer labels.
        """
        first = self.ranked(labelled)[:count]
        if self.wrong is None or len(first) < count:
            return None
        return sum(bool(label.wrong) for label in first) / count


class _Pairs(NamedTuple):
    """Pairs of a clip and a class, [pairs]; `wrong` is False where clean labels are not known."""

    clip_ids: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    wrong: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[_Pairs]) -> _Pairs:
        """Return the pairs of all parts."""
        none = (np.zeros(0, kind) for kind in (object, np.int64, np.float64, bool))
        return cls(*map(np.concatenate, zip(none, *parts, strict=True)))

    def take(self, places: np.ndarray) -> _Pairs:
        """Return the pairs at some places, in that order."""
        return _Pairs(*(column[places] for column in self))


class Disagreement:
    """Differences of a student's scores from its teacher's, collected from batches of clips.

    Args:
        num_classes: number of classes.
        most: number of (clip, class) pairs with the largest difference to keep.

    Attributes:
        pairs: (clip id, class index, student's score, teacher's score), the widest first.
    """

    def __init__(self, num_classes: int, most: int):
        self.most, self.clips = most, 0
        self._sum, self._absolute = np.zeros(num_classes), np.zeros(num_classes)
        self.pairs: list[tuple[str, int, float, float]] = []

    def add(self, clip_ids: Sequence[str], student: np.ndarray, teacher: np.ndarray) -> None:
        """Add the scores of some clips, [clips, classes] each."""
        difference = np.asarray(student, np.float64) - teacher
        self.clips += len(difference)
        self._sum += difference.sum(axis=0)
        self._absolute += np.abs(difference).sum(axis=0)
        flat = np.argsort(-np.abs(difference), axis=None, kind="stable")[: self.most]
        places = np.unravel_index(flat, difference.shape)
        clips, classes = (place.tolist() for place in places)
        scores = np.asarray(student)[places].tolist(), np.asarray(teacher)[places].tolist()
        new = zip((str(clip_ids[clip]) for clip in clips), classes, *scores, strict=True)
        pairs = [*self.pairs, *new]
        self.pairs = sorted(pairs, key=lambda pair: -abs(pair[2] - pair[3]))[: self.most]

    @property
    def mean(self) -> np.ndarray:
        """Mean of student less teacher, [classes]."""
        return self._sum / max(self.clips, 1)

    @property
    def mean_absolute(self) -> np.ndarray:
        """Mean of |student - teacher|, [classes]."""
        return self._absolute / max(self.clips, 1)


_COUNTS = (10, 100, 1000)

EXTREMES = 10  # best and worst classes
_WIDEST = 100  # pairs of a clip and a class where student and teacher are furthest apart


# === The training clips: labels, scores, and what is wrong ===
def read_training_clips(
    split: Split, stage: StageFolder, most: int, clean_labels_csv: str | None
) -> tuple[Disagreement | None, LabelErrors]:
    """Read the training clips, with the scores that a stage and its teacher gave them.

    Args:
        split: the training clips.
        stage: the stage.
        most: label errors of each kind to keep.
        clean_labels_csv: true labels; None: the classes of the clips' events, if there are any.

    Returns:
        The differences of student and teacher, None for a stage without a teacher; the label
        errors.
    """
    from secost_tf.data import check_teacher_scores

    info = split.info
    teachers = [StageFolder(stage.run_dir, number) for number in stage.record.config.teacher_stages]
    folders = [scored.file(TEACHER_SCORES) for scored in (stage, *teachers)]
    for folder in folders:
        check_teacher_scores(split, folder)
    listed = read_labels(clean_labels_csv, info.class_map) if clean_labels_csv else None
    errors = LabelErrors(most, len(info.class_map))
    disagreement = Disagreement(len(info.class_map), _WIDEST) if teachers else None
    paths = info.shard_paths(split.data_dir)
    has_events = any(clip.events for clip in _clips(paths[0], info))
    with Progress(split.num_clips, logging.info, label="training clips") as progress:
        for shard, path in zip(info.shards, paths, strict=True):
            files = (storage.join(folder, shard.file) for folder in folders)
            student, *taught = map(_read_scores, files)
            ids, labels, clean = _read_labels(path, info, listed)
            errors.add(ids, labels, student, None if listed is None and not has_events else clean)
            if disagreement:
                disagreement.add(ids, student, np.mean(taught, axis=0))
            progress.update(len(ids))
    return disagreement, errors


def _clips(path: str, info: shards.DatasetInfo) -> Iterator[ClipRecord]:
    """Yield the clips of a shard."""
    for record in shards.read_records(path, info.compression):
        yield decode(record, info.feature_dtype, info.log_mel.mel_bins)


def _read_scores(path: str) -> np.ndarray:
    """Read the scores of a shard's clips, [clips, classes]."""
    return np.array([decode_teacher_scores(record)[1] for record in shards.read_records(path)])


def _read_labels(
    path: str, info: shards.DatasetInfo, listed: dict[str, tuple[int, ...]] | None
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read the ids, labels and true labels of a shard's clips; labels are bool [clips, classes]."""
    ids, labels, clean = [], [], []
    indices = np.arange(len(info.class_map))
    for clip in _clips(path, info):
        if listed is not None and clip.video_id not in listed:
            raise ValueError(
                "clean_labels_csv: expected the labels of every training clip, "
                f"got none of {clip.video_id}"
            )
        true = [event[0] for event in clip.events] if listed is None else listed[clip.video_id]
        ids.append(clip.video_id)
        labels.append(np.isin(indices, clip.labels))
        clean.append(np.isin(indices, true))
    return ids, np.array(labels), np.array(clean)


def judge_label_errors(errors: LabelErrors) -> dict:
    """Return, by kind, the number of labels listed and the share that is wrong, if known."""
    return {
        name: {
            "labels": errors.labels[labelled],
            "listed": len(errors.ranked(labelled)),
            "base_rate": errors.base_rate(labelled),
            "precision": {str(count): errors.precision_at(labelled, count) for count in _COUNTS},
        }
        for name, labelled in (("not_heard", True), ("not_labelled", False))
    }


def describe_disagreement(
    disagreement: Disagreement, teachers: Sequence[int], classes: Sequence[str]
) -> dict:
    """Return the differences of a student from its teacher as plain values, for JSON."""
    mean, absolute = disagreement.mean, disagreement.mean_absolute
    return {
        "stages": list(teachers),
        "clips": disagreement.clips,
        "mean_absolute_difference": float(absolute.mean()),
        "classes": [
            {
                "class": classes[c],
                "mean_absolute_difference": float(absolute[c]),
                "mean_difference": float(mean[c]),
            }
            for c in np.argsort(-absolute)[:EXTREMES]
        ],
        "widest": [
            {"clip": clip, "class": classes[c], "student": student, "teacher": teacher}
            for clip, c, student, teacher in disagreement.pairs
        ],
    }
