"""Intervals of means over seeds, and of the difference of two mAPs on the same clips.

TensorFlow is not imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse, stats

LEVEL = 0.95  # the share of intervals that hold the true value

_RESAMPLES_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure, and the ends of its interval, which are NaN where one value gives none."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval:
    """Compute the mean of independent values, such as seeds, with its interval by Student's t.

    Args:
        values: float [seeds].
        level: the share of such intervals that hold the true mean.

    Raises:
        ValueError: if there are no values, or the level is not between 0 and 1.
    """
    values = np.asarray(values, np.float64)
    if not 0 < level < 1:
        raise ValueError(f"level: expected a share between 0 and 1, got {level:g}")
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values: expected at least one figure in a row, got shape {values.shape}")
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, float("nan"), float("nan"))
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(mean, float(mean - half), float(mean + half))


def paired_interval(
    after: Sequence[float] | np.ndarray, before: Sequence[float] | np.ndarray
) -> Interval:
    """Compute the mean of `after - before`, both [seeds], with its interval by `mean_interval`."""
    after, before = np.asarray(after, np.float64), np.asarray(before, np.float64)
    if after.shape != before.shape:
        raise ValueError(
            f"after, before: expected as many of each, got shapes {after.shape}, {before.shape}"
        )
    return mean_interval(after - before)


def bootstrap_mAP_difference(
    labels: np.ndarray,
    base_scores: np.ndarray,
    scores: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Compute the difference of two mAPs on the same clips, with its interval by bootstrap.

    The interval is the percentile interval of a bootstrap over clips, at `LEVEL`. Every resample
    draws as many clips as there are, with replacement, the same for both; its mAP is the mean over
    the classes that have a positive clip in it. The interval speaks of other clips of the same
    kind, not of networks trained anew.

    Args:
        labels: [clips, classes], 0 or 1.
        base_scores, scores: float [clips, classes]; the mAP of `base_scores` is subtracted.
        resamples: number of resamples.
        seed: of the draws.

    Raises:
        ValueError: if the shapes do not agree, no class has a positive clip, or there is no
            resample.
    """
    labels = np.asarray(labels) > 0
    sides = [np.asarray(base_scores), np.asarray(scores)]
    if resamples < 1:
        raise ValueError(f"resamples: expected 1 or more, got {resamples}")
    if labels.ndim != 2 or any(side.shape != labels.shape for side in sides):
        raise ValueError(
            f"scores: expected the labels' shape [clips, classes] = {labels.shape}, "
            f"got {[side.shape for side in sides]}"
        )
    classes = np.flatnonzero(labels.any(axis=0))
    if not len(classes):
        raise ValueError("labels: expected a class with a positive clip, got none")
    samplers = [[_ResampledPrecision(labels[:, c], side[:, c]) for c in classes] for side in sides]
    generator, num_clips = np.random.default_rng(seed), len(labels)

    def mAP(side: list[_ResampledPrecision], counts: np.ndarray) -> np.ndarray:
        values = np.array([sampler.average_precision(counts) for sampler in side])
        return np.ma.masked_invalid(values).mean(axis=0).filled(np.nan)  # of classes with a value

    def difference(counts: np.ndarray) -> np.ndarray:
        return mAP(samplers[1], counts) - mAP(samplers[0], counts)

    differences = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        draws = min(_RESAMPLES_AT_ONCE, resamples - start)
        chances = np.full(num_clips, 1 / num_clips)
        differences.append(difference(generator.multinomial(num_clips, chances, size=draws).T))
    low, high = np.nanquantile(np.concatenate(differences), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
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
        """Compute AP in each resample, [resamples], from counts [clips, resamples].

        It is NaN where no positive was drawn.
        """
        counts = counts.astype(np.float64)
        positives = self._positives @ counts  # [thresholds, resamples]
        above = np.cumsum(self._clips @ counts, axis=0)
        precision = np.cumsum(positives, axis=0) / np.maximum(above, 1)
        with np.errstate(invalid="ignore"):  # 0 / 0 where no positive was drawn
            return (precision * positives).sum(axis=0) / positives.sum(axis=0)
