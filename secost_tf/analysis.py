"""What a later stage does better than an earlier one, and which labels it contradicts: plain arrays in, plain figures out.

TensorFlow is not imported.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RANGES = tuple(np.round(np.arange(0, 1.05, 0.1), 1).tolist())


@dataclasses.dataclass(frozen=True)
class RangeGain:
    """The classes whose base AP is from `low` up to `high` (below it, but for 1)."""

    low: float
    high: float
    classes: int
    improved: int
    mean_gain: float


def gain_by_range(
    base: np.ndarray, gains: np.ndarray, edges: Sequence[float] = RANGES
) -> tuple[RangeGain, ...]:
    """The mean gain of the classes in each range of base AP; ranges without a class are left out.

    Args:
        base: AP of each class at the base, [classes]; NaN where there is none.
        gains: AP of the later stage less that, [classes].
        edges: of the ranges, ascending.
    """
    place = np.clip(np.searchsorted(edges, base, side="right") - 1, 0, len(edges) - 2)
    found = []
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = gains[(place == index) & np.isfinite(gains)]
        if len(inside):
            found.append(RangeGain(low, high, len(inside), int((inside > 0).sum()), float(inside.mean())))
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far scores are probabilities, over all pairs of a clip and a class, in bins of equal width.

    Attributes:
        mean_scores, positive_shares: of each bin that holds a pair.
        pairs: how many it holds.
        error: the expected calibration error, mean |mean score - positive share| over the pairs.
    """

    mean_scores: tuple[float, ...]
    positive_shares: tuple[float, ...]
    pairs: tuple[int, ...]
    error: float


def calibration(labels: np.ndarray, scores: np.ndarray, bins: int = 10) -> Calibration:
    """Compares scores in 0..1 with how often they are right; labels and scores [clips, classes]."""
    labels, scores = np.asarray(labels).ravel() > 0, np.asarray(scores, np.float64).ravel()
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    pairs = np.bincount(place, minlength=bins)
    held = pairs > 0
    mean_scores = np.bincount(place, scores, bins)[held] / pairs[held]
    shares = np.bincount(place, labels, bins)[held] / pairs[held]
    error = float(np.sum(pairs[held] * np.abs(mean_scores - shares)) / len(scores))
    return Calibration(
        tuple(mean_scores.tolist()), tuple(shares.tolist()), tuple(pairs[held].tolist()), error
    )


@dataclasses.dataclass(frozen=True)
class Contradiction:
    """A label that the scores contradict: clip and class, whether the clip has the label, and the score in 0..1.

    `strength`, 0..1, ranks those of a kind. Of a label that is there: the share of the clips without it that score at least
    as high, in its class. Of one that is not: the score.
    """

    clip_id: str
    class_index: int
    labelled: bool
    score: float
    strength: float
    wrong: bool | None = None


class ClassScores:
    """How the scores of each class are spread over some clips: counts in narrow bins of the logit, in bounded memory."""

    _EDGES = np.linspace(-15.0, 15.0, 1501)

    def __init__(self, num_classes: int):
        self._counts = np.zeros((num_classes, len(self._EDGES) + 1), np.int64)

    def add(self, class_indices: np.ndarray, scores: np.ndarray) -> None:
        """Takes scores in 0..1, [pairs], of those classes, [pairs]."""
        np.add.at(self._counts, (class_indices, self._bins(scores)), 1)

    def share_at_least(self, class_indices: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The share of its class's scores that are as high, or fall into the same bin: 0..1, [pairs]; of no score, 0."""
        from_above = np.cumsum(self._counts[:, ::-1], axis=1)[:, ::-1]
        counts = from_above[class_indices, self._bins(scores)]
        return counts / np.maximum(from_above[class_indices, 0], 1)

    def _bins(self, scores: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.searchsorted(self._EDGES, np.log(scores) - np.log1p(-scores), side="right")


class LabelErrors:
    """Collects, from batches of clips, the labels that scores contradict most.

    Labels that are there and labels that are not are ranked apart: one kind is rare and the other common, so that their
    scores do not compare. A label that is not there is doubted by its score. One that is there, by how many clips without
    it score as high: a low score alone says that a sound is hard to hear, and some classes are harder than others. Give
    the clean labels where they are known, and the ranks can be judged.

    Memory: some 100 bytes for each label that is there, and 12 kB for each class.

    Args:
        most: how many of each kind to keep.
        num_classes: classes.
    """

    def __init__(self, most: int, num_classes: int):
        self.most = most
        self.labels = {True: 0, False: 0}  # pairs seen, by whether the label is there
        self.wrong: dict[bool, int] | None = {True: 0, False: 0}  # of those; None: not known
        self._without = ClassScores(num_classes)
        self._there: list[_Pairs] = []
        self._not_there = _Pairs.none()
        self._ranked: dict[bool, list[Contradiction]] = {}

    def add(
        self,
        clip_ids: Sequence[str],
        labels: np.ndarray,
        scores: np.ndarray,
        clean_labels: np.ndarray | None = None,
    ) -> None:
        """Takes some clips: labels, scores and clean labels [clips, classes]; of pairs equal in rank the first stay."""
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
                both = _Pairs.joined([self._not_there, pairs])
                self._not_there = both.take(np.argsort(-both.scores, kind="stable")[: self.most])

    def ranked(self, labelled: bool) -> list[Contradiction]:
        """Those of one kind, the most contradicted first."""
        if labelled not in self._ranked:
            self._ranked[labelled] = self._rank(labelled)
        return self._ranked[labelled]

    def _rank(self, labelled: bool) -> list[Contradiction]:
        pairs = _Pairs.joined(self._there) if labelled else self._not_there
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
        """The share of wrong labels among all of a kind; None where clean labels are not known or there is no label."""
        if self.wrong is None or not self.labels[labelled]:
            return None
        return self.wrong[labelled] / self.labels[labelled]

    def precision_at(self, labelled: bool, count: int) -> float | None:
        """The share of wrong labels among the first `count` of a kind; None where it is not known, or there are fewer."""
        first = self.ranked(labelled)[:count]
        if self.wrong is None or len(first) < count:
            return None
        return sum(one.wrong for one in first) / count


class _Pairs(NamedTuple):
    """Pairs of a clip and a class, arrays of one length; `wrong` means nothing where the clean labels are not known."""

    clip_ids: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    wrong: np.ndarray

    @classmethod
    def none(cls) -> _Pairs:
        return cls(np.zeros(0, object), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))

    @classmethod
    def joined(cls, parts: Sequence[_Pairs]) -> _Pairs:
        return cls(*(np.concatenate(column) for column in zip(cls.none(), *parts, strict=True)))

    def take(self, places: np.ndarray) -> _Pairs:
        return _Pairs(*(column[places] for column in self))


class Disagreement:
    """How far a student's scores are from its teacher's on the same clips, class by class, from batches.

    Args:
        num_classes: of the scores.
        most: how many (clip, class) pairs of the largest difference to keep.
    """

    def __init__(self, num_classes: int, most: int):
        self.most, self.clips = most, 0
        self._sum, self._absolute = np.zeros(num_classes), np.zeros(num_classes)
        self.pairs: list[
            tuple[str, int, float, float]
        ] = []  # clip id, class, student, teacher; the widest first

    def add(self, clip_ids: Sequence[str], student: np.ndarray, teacher: np.ndarray) -> None:
        """Takes the scores of some clips, [clips, classes] each."""
        difference = np.asarray(student, np.float64) - teacher
        self.clips += len(difference)
        self._sum += difference.sum(axis=0)
        self._absolute += np.abs(difference).sum(axis=0)
        flat = np.argsort(-np.abs(difference), axis=None, kind="stable")[: self.most]
        new = [
            (str(clip_ids[clip]), int(index), float(student[clip, index]), float(teacher[clip, index]))
            for clip, index in zip(*np.unravel_index(flat, difference.shape), strict=True)
        ]
        self.pairs = sorted(self.pairs + new, key=lambda one: -abs(one[2] - one[3]))[: self.most]

    @property
    def mean(self) -> np.ndarray:
        """Mean of student less teacher, [classes]."""
        return self._sum / max(self.clips, 1)

    @property
    def mean_absolute(self) -> np.ndarray:
        """Mean of |student - teacher|, [classes]."""
        return self._absolute / max(self.clips, 1)
