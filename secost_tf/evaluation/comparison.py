"""Comparison of a later stage with an earlier one, and with the labels that it learned from.

TensorFlow is not imported.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from secost_tf.evaluation import metrics
from secost_tf.evaluation.intervals import LEVEL, Interval, bootstrap_mAP_difference
from secost_tf.evaluation.label_errors import (
    EXTREMES,
    Disagreement,
    LabelErrors,
    describe_disagreement,
    judge_label_errors,
    read_training_clips,
)
from tfrecord_tools import shards, storage

if TYPE_CHECKING:
    from secost_tf.evaluation.scoring import SplitScorer
    from secost_tf.runs import StageFolder

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
    """Compute the mean gain of the classes in each range of base AP that has a class.

    Args:
        base: AP of each class at the base, [classes]; NaN where there is none.
        gains: AP of the later stage less that, [classes].
        edges: of the ranges, ascending.
    """
    place = np.clip(np.searchsorted(edges, base, side="right") - 1, 0, len(edges) - 2)
    ranges = []
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = gains[(place == index) & np.isfinite(gains)]
        if len(inside):
            improved = int((inside > 0).sum())
            ranges.append(RangeGain(low, high, len(inside), improved, float(inside.mean())))
    return tuple(ranges)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Scores as probabilities, over all pairs of a clip and a class, in bins of equal width.

    Attributes:
        mean_scores, positive_shares: of each bin that holds a pair.
        pairs: number of pairs in each of these bins.
        error: the expected calibration error, mean |mean score - positive share| over the pairs.
    """

    mean_scores: tuple[float, ...]
    positive_shares: tuple[float, ...]
    pairs: tuple[int, ...]
    error: float


def calibration(labels: np.ndarray, scores: np.ndarray, bins: int = 10) -> Calibration:
    """Compare scores in 0..1 with the shares of positives; both arguments [clips, classes]."""
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
class Stages:
    """The two stages, the splits they are compared on, and the figures of both."""

    classes: tuple[str, ...]
    labels: np.ndarray  # [clips, classes]
    scores: tuple[np.ndarray, np.ndarray]  # float64 [clips, classes], base and later
    per_class: tuple[metrics.PerClass, metrics.PerClass]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two stages compared.

    Attributes:
        results: the content of `analysis.json`.
        stages: labels, scores and figures on the split.
        disagreement: of the later stage with its teacher, if any, on the training clips.
        errors: training labels that the later stage contradicts; None if not asked for.
    """

    results: dict
    stages: Stages
    disagreement: Disagreement | None
    errors: LabelErrors | None


def compare_stages(
    base: StageFolder,
    later: StageFolder,
    scorer: SplitScorer | None = None,
    *,
    clean_labels_csv: str | None = None,
    label_errors: int = 1000,
    resamples: int = 1000,
) -> Comparison:
    """Compare two stages on a split, and the later one with the labels that it learned from.

    Source: the interval of the change of mAP is the percentile bootstrap over clips (Efron, 1979),
    the calibration error that of Naeini, Cooper and Hauskrecht (AAAI 2015).

    Args:
        base: the earlier stage, or one of another run, such as a control.
        later: the later stage.
        scorer: a `secost_tf.evaluation.SplitScorer` of the split on which they are compared; None:
            of the eval split of the data that `later` was trained with.
        clean_labels_csv: true labels of the training clips, as AudioSet's segment lists have them;
            None: their events' classes, if there are any.
        label_errors: how many likely label errors of each kind to list; 0 leaves them out.
        resamples: of the bootstrap over clips.

    Returns:
        A `Comparison`, whose `results` are plain values for JSON; `secost_tf.write_report` and
        `python -m secost_tf.analyze` write it.

    Raises:
        ValueError: if a stage is not done, the two are the same, or classes, log-mels or clips
            differ; names both sides.

    Example:
        `runs/secost` is a run of three stages.

        >>> from secost_tf import StageFolder, compare_stages
        >>> base, later = StageFolder("runs/secost", 0), StageFolder("runs/secost", 2)
        >>> comparison = compare_stages(base, later, resamples=100)
        >>> mAP = comparison.results["mAP"]
        >>> sorted(mAP), sorted(mAP["difference"])
        (['base', 'difference', 'stage'], ['high', 'low', 'mean'])
    """
    from secost_tf.data import Split  # imports TensorFlow
    from secost_tf.evaluation.scoring import SplitScorer

    if base == later:
        raise ValueError(
            f"base, stage: expected two stages, got stage {later.number} of {later.run_dir} twice; "
            + ("train a later one first" if not later.number else "choose another --base")
        )
    for stage in (base, later):
        stage.check_done()
    scorer = scorer or SplitScorer.open(later.record.data_dir)
    split = scorer.split
    for stage in (base, later):
        stage.check_data(split.info, split.data_dir)
    stages, interval = _score_stages(scorer, (base, later), resamples)
    of_run = "" if base.run_dir == later.run_dir else f"{base.run_dir}, "
    results = {
        "run_dir": storage.absolute(later.run_dir),
        "base_run_dir": storage.absolute(base.run_dir),
        "base": base.number,
        "stage": later.number,
        "base_name": f"{of_run}stage {base.number}",
        "data_dir": split.data_dir,
        "split": split.info.split,
        "num_clips": len(stages.labels),
        "num_classes": len(stages.classes),
        "level": LEVEL,
        "resamples": resamples,
        **_compare(stages, interval),
    }
    disagreement, errors = None, None
    if label_errors:
        train = Split(split.data_dir, shards.read_dataset_info(split.data_dir, "train"))
        later.check_data(train.info, train.data_dir)
        disagreement, errors = read_training_clips(train, later, label_errors, clean_labels_csv)
        results["label_errors"] = judge_label_errors(errors)
        results["teacher"] = disagreement and describe_disagreement(
            disagreement, later.record.config.teacher_stages, stages.classes
        )
    return Comparison(results, stages, disagreement, errors)


def _score_stages(
    scorer: SplitScorer, folders: Sequence[StageFolder], resamples: int
) -> tuple[Stages, Interval]:
    """Return the figures of two stages on a split, and the interval of the change of mAP."""
    scored = [scorer.score(folder) for folder in folders]
    labels = scored[0].labels
    base, later = (stage.logits for stage in scored)
    stages = Stages(
        classes=folders[-1].record.class_map.display_names,
        labels=labels,
        scores=(expit(base, dtype=np.float64), expit(later, dtype=np.float64)),
        per_class=(metrics.evaluate_classes(labels, base), metrics.evaluate_classes(labels, later)),
    )
    return stages, bootstrap_mAP_difference(labels, base, later, resamples=resamples)


def _compare(stages: Stages, interval: Interval) -> dict:
    """Return the results that follow from the two stages' scores on the split."""
    before, after = (measures.average_precision for measures in stages.per_class)
    gains = after - before
    order = [c for c in np.argsort(-gains) if np.isfinite(gains[c])]
    finite = gains[np.isfinite(gains)].round(9)  # what is equal stays so
    described = [
        {"class": stages.classes[c], "base_AP": float(before[c]), "AP": float(after[c])}
        for c in order
    ]
    return {
        "mAP": {
            "base": float(np.nanmean(before)),
            "stage": float(np.nanmean(after)),
            "difference": dataclasses.asdict(interval),
        },
        "classes": {
            "compared": len(finite),
            "improved": int((finite > 0).sum()),
            "worse": int((finite < 0).sum()),
        },
        "best": described[:EXTREMES],
        "worst": described[::-1][:EXTREMES],
        "ranges": list(map(dataclasses.asdict, gain_by_range(before, gains))),
        "calibration": {
            side: dataclasses.asdict(calibration(stages.labels, scores))
            for side, scores in zip(("base", "stage"), stages.scores, strict=True)
        },
    }
