"""Intervals for means over seeds, differences paired by seed, and the difference of two mAPs on the
same clips.

TensorFlow is not imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse, stats

_RESAMPLES_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure, and the ends of its interval; those are NaN where one value alone gives none."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """The mean of independent values, such as a figure of several seeds, with Student's t interval.

    Args:
        values: float [seeds].
        level: the share of such intervals that hold the true mean.

    Raises:
        ValueError: if there are no values, or the level is not between 0 and 1.
    """
    values = np.asarray(values, np.float64)
    _check_level(level)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values: expected at least one figure in a row, got shape {values.shape}")
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, float("nan"), float("nan"))
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(mean, float(mean - half), float(mean + half))


def paired_interval(
    after: Sequence[float] | np.ndarray, before: Sequence[float] | np.ndarray, level: float = 0.95
) -> Interval:
    """The mean of `after - before`, two figures of the same seeds [seeds], with its interval as in
    `mean_interval`.
    """
    after, before = np.asarray(after, np.float64), np.asarray(before, np.float64)
    if after.shape != before.shape:
        raise ValueError(
            f"after, before: expected as many of each, got shapes {after.shape}, {before.shape}"
        )
    return mean_interval(after - before, level)


def bootstrap_mAP_difference(
    labels: np.ndarray,
    base_scores: np.ndarray,
    scores: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """mAP of `scores` less that of `base_scores` on the same clips, with the percentile interval of
    a bootstrap over clips.

    Every resample draws as many clips as there are, with replacement, the same for both; its mAP is
    the mean over the classes that have a positive clip in it. The interval speaks of other clips of
    the same kind, not of networks trained anew.

    Args:
        labels: [clips, classes], 0 or 1.
        base_scores, scores: float [clips, classes].
        resamples: how many.
        seed: of the draws.
        level: the share of resamples inside.

    Raises:
        ValueError: if the shapes do not agree, no class has a positive clip, or a number is out of
            range.
    """
    labels = np.asarray(labels) > 0
    sides = [np.asarray(base_scores), np.asarray(scores)]
    _check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples: expected 1 or more, got {resamples}")
    if labels.ndim != 2 or any(side.shape != labels.shape for side in sides):
        raise ValueError(
            f"scores: expected the labels' shape [clips, classes] = {labels.shape}, got {[side.shape for side in sides]}"
        )
    classes = np.flatnonzero(labels.any(axis=0))
    if not len(classes):
        raise ValueError("labels: expected a class with a positive clip, got none")
    samplers = [[_ResampledPrecision(labels[:, c], side[:, c]) for c in classes] for side in sides]
    generator, num_clips = np.random.default_rng(seed), len(labels)

    def difference(counts: np.ndarray) -> np.ndarray:
        base, last = (
            _mean_over_classes(np.array([sampler.average_precision(counts) for sampler in side]))
            for side in samplers
        )
        return last - base

    differences = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        draws = min(_RESAMPLES_AT_ONCE, resamples - start)
        chances = np.full(num_clips, 1 / num_clips)
        differences.append(difference(generator.multinomial(num_clips, chances, size=draws).T))
    low, high = np.nanquantile(np.concatenate(differences), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference(np.ones((num_clips, 1)))[0]), float(low), float(high))


class _ResampledPrecision:
    """The average precision of one class when each clip counts as often as it was drawn.

    AP is the mean over drawn positives of (positives scored as high or higher) / (clips scored as
    high or higher), which is scikit-learn's definition with ties. Clips are summed once between the
    scores of neighbouring positives, so that a resample costs the number of clips, and no sorting.
    """

    def __init__(self, positive: np.ndarray, scores: np.ndarray):
        thresholds, place = np.unique(-scores[positive], return_inverse=True)  # falling scores
        level = np.searchsorted(thresholds, -scores)  # the first threshold that a clip is not below
        reached, clips = np.flatnonzero(level < len(thresholds)), np.flatnonzero(positive)
        shape = (len(thresholds), len(scores))
        self._clips = sparse.csr_matrix((np.ones(len(reached)), (level[reached], reached)), shape)
        self._positives = sparse.csr_matrix((np.ones(len(clips)), (place, clips)), shape)

    def average_precision(self, counts: np.ndarray) -> np.ndarray:
        """float [resamples]; NaN where no positive was drawn. counts: [clips, resamples]."""
        counts = counts.astype(np.float64)
        positives = self._positives @ counts  # [thresholds, resamples]
        above = np.cumsum(self._clips @ counts, axis=0)
        precision = np.cumsum(positives, axis=0) / np.maximum(above, 1)
        total = positives.sum(axis=0)
        return np.where(
            total > 0, (precision * positives).sum(axis=0) / np.maximum(total, 1), np.nan
        )


def _mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Means of [classes, resamples] over the classes that have a value; NaN where none has."""
    found = np.isfinite(values)
    count = found.sum(axis=0)
    return np.where(
        count > 0, np.where(found, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan
    )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level: expected a share between 0 and 1, got {level:g}")
