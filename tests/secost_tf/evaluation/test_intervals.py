import math

import numpy as np
import pytest

from secost_tf.evaluation import metrics
from secost_tf.evaluation.intervals import (
    Interval,
    bootstrap_mAP_difference,
    mean_interval,
    paired_interval,
)


def test_students_t_by_hand():
    # three values with standard deviation 1: 4.302653 / sqrt(3) to either side
    interval = mean_interval([1, 2, 3])
    assert (interval.mean, interval.low, interval.high) == pytest.approx(
        (2, -0.484138, 4.484138), abs=1e-6
    )
    # differences 2 and 3: 12.706205 * 0.707107 / sqrt(2) to either side
    interval = paired_interval([3, 5], [1, 2])
    assert (interval.mean, interval.low, interval.high) == pytest.approx(
        (2.5, -3.853102, 8.853102), abs=1e-6
    )


def test_one_value_has_a_mean_and_no_interval():
    interval = mean_interval([0.25])
    assert interval.mean == 0.25 and math.isnan(interval.low) and math.isnan(interval.high)
    interval = paired_interval([0.5], [0.25])
    assert interval.mean == 0.25 and math.isnan(interval.low)


def test_an_interval_holds_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    intervals = [mean_interval(values, 0.9) for values in generator.normal(3, 2, (2000, 5))]
    assert np.mean([interval.low <= 3 <= interval.high for interval in intervals]) == pytest.approx(
        0.9, abs=0.02
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mean_interval([]),
            r"values: expected at least one figure in a row, got shape \(0,\)",
        ),
        (lambda: mean_interval([1, 2], 1.5), "level: expected a share between 0 and 1, got 1.5"),
        (
            lambda: paired_interval([1, 2], [1]),
            r"after, before: expected as many of each, got shapes \(2,\)",
        ),
        (
            lambda: bootstrap_mAP_difference(np.zeros((4, 2)), np.zeros((4, 2)), np.zeros((4, 2))),
            "labels: expected a class with a positive clip, got none",
        ),
        (
            lambda: bootstrap_mAP_difference(np.ones((4, 2)), np.zeros((4, 2)), np.zeros((4, 3))),
            r"scores: expected the labels' shape \[clips, classes\] = \(4, 2\), "
            r"got \[\(4, 2\), \(4, 3\)\]",
        ),
        (
            lambda: bootstrap_mAP_difference(
                np.ones((4, 2)), np.zeros((4, 2)), np.zeros((4, 2)), resamples=0
            ),
            "resamples: expected 1 or more, got 0",
        ),
    ],
)
def test_what_gives_no_interval_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def _scores(labels: np.ndarray, lift: float, generator: np.random.Generator) -> np.ndarray:
    """Rounded, so that there are ties."""
    return np.round(lift * labels + generator.normal(size=labels.shape), 1)


def test_each_resample_is_the_mAP_of_the_clips_drawn():
    generator = np.random.default_rng(1)
    labels = (generator.random((60, 4)) < [0.3, 0.1, 0.02, 0.0]).astype(int)
    labels[0, 2] = 1
    base, last = (_scores(labels, lift, generator) for lift in (0.5, 1.0))
    interval = bootstrap_mAP_difference(labels, base, last, resamples=100, seed=3)

    def mAP(scores, drawn):
        return np.nanmean(metrics.average_precision(labels[drawn], scores[drawn]))

    drawing, differences = np.random.default_rng(3), []
    for draws in (64, 36):
        for counts in drawing.multinomial(60, np.full(60, 1 / 60), size=draws):
            drawn = np.repeat(np.arange(60), counts)
            differences.append(mAP(last, drawn) - mAP(base, drawn))
    expected = np.quantile(differences, [0.025, 0.975])
    everything = np.arange(60)
    assert interval.mean == pytest.approx(mAP(last, everything) - mAP(base, everything), abs=1e-12)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=1e-12)


def test_a_better_side_is_told_from_an_equal_one():
    generator = np.random.default_rng(2)
    labels = (generator.random((400, 5)) < 0.2).astype(int)
    base, equal, better = (_scores(labels, lift, generator) for lift in (1.0, 1.0, 2.0))
    assert bootstrap_mAP_difference(labels, base, better, resamples=200).low > 0
    same = bootstrap_mAP_difference(labels, base, equal, resamples=200)
    assert same.low < 0 < same.high
    assert bootstrap_mAP_difference(labels, base, base, resamples=20) == Interval(0.0, 0.0, 0.0)
