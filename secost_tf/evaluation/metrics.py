"""Evaluation of clip scores against weak labels: AP, mAP, AUC, d' and lwlrap, in NumPy.

Every measure equals scikit-learn's to rounding, ties included; AudioSet's evaluation set (20,371
clips x 527 classes) takes about a second. `labels` is multi-hot [clips, classes] of any number or
bool type, `scores` is [clips, classes]; higher means likelier, so probabilities and logits rank
alike. TensorFlow is not imported.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import NamedTuple

import numpy as np

_CHUNK_ELEMENTS = 2**20  # scores compared at once by lwlrap: bounds its memory


def average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the average precision of each class, the measure of AudioSet tagging.

    AP is the mean, over a class's positive clips, of the precision among the clips scored at least
    as high; tied clips so share one threshold (`sklearn.metrics.average_precision_score`).

    Args:
        labels: multi-hot truth, [clips, classes].
        scores: clip scores, [clips, classes].

    Returns:
        float64 [classes]; NaN for a class without positives.

    Raises:
        ValueError: for labels or scores that cannot be compared; the message says why.
    """
    return _precision_and_auc(*_checked(labels, scores))[0]


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the area under the ROC curve of each class.

    It is the chance that a positive clip scores higher than a negative clip; a tie counts
    one half (`sklearn.metrics.roc_auc_score`). Arguments and errors as for `average_precision`.

    Returns:
        float64 [classes]; NaN for a class without positives or without negatives.
    """
    return _precision_and_auc(*_checked(labels, scores))[1]


def d_prime(auc: float | np.ndarray) -> float | np.ndarray:
    """Compute the separation d' = √2 Φ⁻¹(AUC) of two unit normals from this area.

    Args:
        auc: areas in [0, 1], any shape.

    Returns:
        float64 of the same shape: 0 at chance, inf for AUC = 1, −inf for AUC = 0, NaN for NaN.

    Raises:
        ValueError: if an area lies outside [0, 1].
    """
    auc = np.asarray(auc, np.float64)
    if np.any((auc < 0) | (auc > 1)):
        raise ValueError(
            f"auc must lie in [0, 1], got values from {np.nanmin(auc)} to {np.nanmax(auc)}."
        )
    inv_cdf = statistics.NormalDist().inv_cdf
    limits = {0.0: -math.inf, 1.0: math.inf}
    quantiles = [inv_cdf(a) if 0 < a < 1 else limits.get(a, math.nan) for a in auc.flat]
    return math.sqrt(2) * np.reshape(quantiles, auc.shape)[()]


def lwlrap(labels: np.ndarray, scores: np.ndarray) -> float:
    """Compute the label-weighted label-ranking average precision.

    It is the mean, over all (clip, label) pairs, of the precision among the clip's classes scored
    at least as high: `sklearn.metrics.label_ranking_average_precision_score` with each clip
    weighted by its number of labels, so clips without labels carry no weight. Arguments and errors
    as for `average_precision`.

    Returns:
        The mean, or NaN if there is no label at all.
    """
    return _mean(_label_precisions(*_checked(labels, scores))[1])


class PerClass(NamedTuple):
    """Measures of each class, arrays of shape [classes]; NaN where a measure is undefined."""

    average_precision: np.ndarray
    roc_auc: np.ndarray
    d_prime: np.ndarray
    positives: np.ndarray  # number of clips


def evaluate_classes(labels: np.ndarray, scores: np.ndarray) -> PerClass:
    """Compute AP, AUC and d' of each class. Arguments and errors as for `average_precision`."""
    labels, scores = _checked(labels, scores)
    precision, auc = _precision_and_auc(labels, scores)
    return PerClass(precision, auc, np.asarray(d_prime(auc)), labels.sum(axis=0))


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Measures of the scores of a set of clips.

    Attributes:
        mAP: mean of the classes' average precision, over the classes that have positives.
        mAUC: mean of the classes' AUC, over the classes that have positives and negatives.
        d_prime: d' of mAUC, as reported on AudioSet (not the mean of the classes' d').
        lwlrap: label-weighted label-ranking average precision.
        chance: the mAP that random scores approach: the mean share of positive clips, over the
            classes that have any.
        num_clips: number of clips.
        without_positives: indices of the classes left out of mAP and chance.
        per_class: the measures of each class.

    A mean over nothing is NaN.
    """

    mAP: float
    mAUC: float
    d_prime: float
    lwlrap: float
    chance: float
    num_clips: int
    without_positives: tuple[int, ...]
    per_class: PerClass

    def scalars(self) -> dict[str, float | int | None]:
        """Return the numbers that describe the whole set, for JSON: None for what is not finite."""
        measures = {
            name: getattr(self, name) for name in ("mAP", "mAUC", "d_prime", "lwlrap", "chance")
        }
        return {
            name: value if math.isfinite(value) else None for name, value in measures.items()
        } | {
            "num_clips": self.num_clips,
            "classes_without_positives": len(self.without_positives),
        }


def evaluate_scores(labels: np.ndarray, scores: np.ndarray) -> Evaluation:
    """Compute all measures of clip scores against labels.

    Source: AP, AUC and lwlrap equal scikit-learn's; mAP and d' as reported on AudioSet (Gemmeke et
    al., ICASSP 2017), lwlrap as in DCASE 2019, task 2 (Fonseca et al., arXiv:1906.02975).

    Args:
        labels: multi-hot truth, bool or number [clips, classes].
        scores: clip scores, float [clips, classes]; higher means likelier, so probabilities and
            logits give the same figures.

    Returns:
        An `Evaluation`: `mAP`, `mAUC`, `d_prime`, `lwlrap`, `chance`, and `per_class`.

    Raises:
        ValueError: if labels and scores cannot be compared; the message says why.

    Example:
        >>> import numpy as np
        >>> from secost_tf import evaluate_scores
        >>> labels = np.array([[1, 0], [0, 1], [1, 1]])
        >>> scores = np.array([[0.9, 0.2], [0.4, 0.7], [0.3, 0.6]])
        >>> evaluation = evaluate_scores(labels, scores)
        >>> evaluation.per_class.average_precision.round(4).tolist()
        [0.8333, 1.0]
        >>> round(evaluation.mAP, 4)
        0.9167
    """
    labels, scores = _checked(labels, scores)
    per_class = evaluate_classes(labels, scores)
    positives, mean_auc = per_class.positives, _mean(per_class.roc_auc)
    return Evaluation(
        mAP=_mean(per_class.average_precision),
        mAUC=mean_auc,
        d_prime=float(d_prime(mean_auc)),
        lwlrap=_mean(_label_precisions(labels, scores)[1]),
        chance=_mean(positives[positives > 0] / len(labels)),
        num_clips=len(labels),
        without_positives=tuple(np.flatnonzero(positives == 0).tolist()),
        per_class=per_class,
    )


def _precision_and_auc(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute AP and AUC of each class, [classes] both."""
    columns = np.ascontiguousarray(labels.T), np.ascontiguousarray(scores.T)
    precision, auc = np.array(list(map(_class_precision_and_auc, *columns))).T
    return precision, auc


def _class_precision_and_auc(positive: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Compute AP and AUC of a class from the clips that reach each of its positives' scores.

    A class has few positives, so finding where its negatives fall among them is far cheaper than
    sorting, let alone argsorting, all its scores. Both arguments are [clips].
    """
    key = _order_key(score)
    levels, counts = np.unique(key[positive], return_counts=True)  # the positives' scores
    if not levels.size:
        return math.nan, math.nan
    P = counts.sum()
    N = len(key) - P
    negatives = np.compress((key >= levels[0]) & ~positive, key)  # others are below every positive
    reached = levels.searchsorted(negatives, "right") - 1  # the highest level each reaches
    ended = np.bincount(reached, minlength=levels.size)
    true, false = (part[::-1].cumsum()[::-1] for part in (counts, ended))  # at or above each level
    ties = counts[reached[levels[reached] == negatives]].sum()
    precision = counts @ (true / (true + false)) / P
    return precision, 1 - (counts @ false - ties / 2) / (P * N) if N else math.nan


def _order_key(score: np.ndarray) -> np.ndarray:
    """Return integers in the order of the floats, which NumPy searches up to three times as fast.

    An IEEE 754 float's bits, read as an integer, are in order for positive floats and reversed for
    negative.
    """
    bits = (score + 0.0).view(f"i{score.itemsize}")  # −0.0 becomes 0.0: the two are equal
    return np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)


def _label_precisions(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute each (clip, label) pair's class, and its precision in the clip; both [pairs]."""
    clips, classes = np.nonzero(labels)
    precisions = np.empty(len(clips))
    step = max(1, _CHUNK_ELEMENTS // labels.shape[1])
    for start in range(0, len(clips), step):
        chunk = slice(start, start + step)
        clip, own = clips[chunk], classes[chunk]
        ahead = scores[clip] >= scores[clip, own, np.newaxis]  # [pairs, classes]
        precisions[chunk] = (ahead & labels[clip]).sum(axis=1) / ahead.sum(axis=1)
    return classes, precisions


def _mean(values: np.ndarray) -> float:
    """Compute the mean of the values that are defined; NaN if none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as bool and scores as floats, or raise `ValueError` if they cannot be used."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    for name, array in (("labels", labels), ("scores", scores)):
        if array.ndim != 2:
            raise ValueError(f"{name} must have shape [clips, classes], got shape {array.shape}.")
    if labels.shape != scores.shape:
        raise ValueError(
            "labels and scores must have the same shape [clips, classes], "
            f"got labels {labels.shape} and scores {scores.shape}."
        )
    if not labels.size:
        raise ValueError(
            f"labels and scores must hold at least one clip and one class, got {labels.shape}."
        )
    if labels.dtype != bool:
        _require((labels == 0) | (labels == 1), "labels must be 0 or 1", labels)
        labels = labels.astype(bool)
    dtype = np.float32 if np.can_cast(scores.dtype, np.float32) else np.float64
    scores = scores.astype(dtype, copy=False)
    _require(np.isfinite(scores), "scores must be finite", scores)
    return labels, scores


def _require(fit: np.ndarray, expectation: str, values: np.ndarray) -> None:
    """Raise `ValueError` if a value is not fit."""
    if not fit.all():
        clip, c = np.argwhere(~fit)[0]
        raise ValueError(
            f"{expectation}, got {values[clip, c]} for clip {clip}, class {c} "
            f"(first of {np.sum(~fit)})."
        )
