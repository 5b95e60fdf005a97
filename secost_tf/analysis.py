"""What a later stage does better than an earlier one, and which labels it contradicts: plain arrays in, plain figures out.

TensorFlow is not imported.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

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
    """A label that the scores contradict: clip and class, whether the clip has the label, and the score in 0..1."""

    clip_id: str
    class_index: int
    labelled: bool
    score: float
    wrong: bool | None = None

    @property
    def strength(self) -> float:
        """1 - score of a label that is there, score of one that is not: 0..1."""
        return 1 - self.score if self.labelled else self.score


class LabelErrors:
    """Collects, from batches of clips, the labels that scores contradict most, in bounded memory.

    Labels that are there and labels that are not are ranked apart: one kind is rare and the other common, so that their
    scores do not compare. Give the clean labels where they are known, and the ranks can be judged.

    Args:
        most: how many of each kind to keep.
    """

    def __init__(self, most: int):
        self.most = most
        self.labels = {True: 0, False: 0}  # pairs seen, by whether the label is there
        self.wrong: dict[bool, int] | None = {True: 0, False: 0}  # of those; None: not known
        self._kept: dict[bool, list[Contradiction]] = {True: [], False: []}

    def add(
        self,
        clip_ids: Sequence[str],
        labels: np.ndarray,
        scores: np.ndarray,
        clean_labels: np.ndarray | None = None,
    ) -> None:
        """Takes some clips: labels, scores and clean labels [clips, classes]; of scores equal in rank the first stay."""
        labels = np.asarray(labels) > 0
        clean = None if clean_labels is None else np.asarray(clean_labels) > 0
        if clean is None:
            self.wrong = None
        for labelled in (True, False):
            kind = labels if labelled else ~labels
            clips, classes = np.nonzero(kind)
            self.labels[labelled] += len(clips)
            if clean is not None and self.wrong is not None:
                self.wrong[labelled] += int((clean != labels)[kind].sum())
            values = np.asarray(scores, np.float64)[kind]
            order = np.argsort(values if labelled else -values, kind="stable")[: self.most]
            new = [
                Contradiction(
                    str(clip_ids[clips[i]]),
                    int(classes[i]),
                    labelled,
                    float(values[i]),
                    None if clean is None else bool(clean[clips[i], classes[i]] != labelled),
                )
                for i in order
            ]
            kept = sorted(self._kept[labelled] + new, key=lambda one: -one.strength)  # stable
            self._kept[labelled] = kept[: self.most]

    def ranked(self, labelled: bool) -> list[Contradiction]:
        """Those of one kind, the most contradicted first."""
        return self._kept[labelled]

    def base_rate(self, labelled: bool) -> float | None:
        """The share of wrong labels among all of a kind; None where clean labels are not known or there is no label."""
        if self.wrong is None or not self.labels[labelled]:
            return None
        return self.wrong[labelled] / self.labels[labelled]

    def precision_at(self, labelled: bool, count: int) -> float | None:
        """The share of wrong labels among the first `count` of a kind; None where it is not known, or there are fewer."""
        first = self._kept[labelled][:count]
        if self.wrong is None or len(first) < count:
            return None
        return sum(one.wrong for one in first) / count


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
