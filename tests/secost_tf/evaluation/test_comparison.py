import numpy as np
import pytest

from secost_tf.evaluation import comparison, label_errors


def test_gains_are_averaged_in_ranges_of_base_ap():
    base = np.array([0.05, 0.1, 0.15, 0.95, 1.0, np.nan])
    gains = np.array([0.2, 0.1, -0.3, 0.0, -0.1, np.nan])
    assert comparison.gain_by_range(base, gains) == (
        comparison.RangeGain(0.0, 0.1, 1, 1, 0.2),
        comparison.RangeGain(0.1, 0.2, 2, 1, pytest.approx(-0.1)),
        comparison.RangeGain(0.9, 1.0, 2, 0, pytest.approx(-0.05)),
    )


def test_calibration_by_hand():
    labels = np.array([[1, 0], [0, 0], [1, 1]])
    scores = np.array([[0.25, 0.21], [0.29, 0.0], [1.0, 0.9]])
    measured = comparison.calibration(labels, scores)
    assert measured.pairs == (1, 3, 2)
    assert measured.mean_scores == pytest.approx((0.0, 0.25, 0.95))
    assert measured.positive_shares == pytest.approx((0.0, 1 / 3, 1.0))
    assert measured.error == pytest.approx((3 * abs(0.25 - 1 / 3) + 2 * 0.05) / 6)


def test_scores_drawn_from_their_own_chances_are_calibrated():
    generator = np.random.default_rng(0)
    scores = generator.random((20_000, 5))
    assert comparison.calibration(generator.random(scores.shape) < scores, scores).error < 0.01


def _labels(seed: int = 0):
    """Clean labels, noisy ones, and scores that know the clean ones."""
    generator = np.random.default_rng(seed)
    clean = generator.random((300, 6)) < 0.3
    noisy = clean ^ (generator.random(clean.shape) < 0.1)
    scores = np.clip(0.7 * clean + 0.15 + generator.normal(0, 0.1, clean.shape), 0, 1)
    return [f"clip-{i}" for i in range(len(clean))], clean, noisy, scores


def test_batches_of_any_size_give_the_same_label_errors():
    ids, clean, noisy, scores = _labels()
    whole, parts = label_errors.LabelErrors(50, 6), label_errors.LabelErrors(50, 6)
    whole.add(ids, noisy, scores, clean)
    for start in range(0, 300, 7):
        part = slice(start, start + 7)
        parts.add(ids[part], noisy[part], scores[part], clean[part])
    for labelled in (True, False):
        assert parts.ranked(labelled) == whole.ranked(labelled)
        assert len(whole.ranked(labelled)) == 50
        strengths = [label.strength for label in whole.ranked(labelled)]
        assert strengths == sorted(strengths, reverse=True)
        assert parts.base_rate(labelled) == whole.base_rate(labelled)


def test_labels_that_are_there_are_ranked_by_the_clips_without_them():
    ids, clean, noisy, scores = _labels(1)
    errors = label_errors.LabelErrors(20, 6)
    errors.add(ids, noisy, scores, clean)
    doubted = errors.ranked(True)
    for label in doubted:
        without = scores[~noisy[:, label.class_index], label.class_index]
        assert label.strength == pytest.approx((without >= label.score).mean(), abs=0.02)
    assert errors.base_rate(True) == pytest.approx((~clean & noisy).sum() / noisy.sum())
    wrong = [not clean[ids.index(label.clip_id), label.class_index] for label in doubted[:10]]
    assert errors.precision_at(True, 10) == sum(wrong) / 10 > 3 * errors.base_rate(True)
    assert errors.precision_at(True, 21) is None


def test_labels_that_are_not_there_are_ranked_by_their_score():
    ids, clean, noisy, scores = _labels(1)
    errors = label_errors.LabelErrors(20, 6)
    errors.add(ids, noisy, scores, clean)
    pairs = sorted((-scores[i, c], i, c) for i, c in zip(*np.nonzero(~noisy), strict=True))[:20]
    doubted = [
        (-label.score, ids.index(label.clip_id), label.class_index)
        for label in errors.ranked(False)
    ]
    assert doubted == pairs
    assert errors.base_rate(False) == pytest.approx((clean & ~noisy).sum() / (~noisy).sum())


def test_a_class_that_is_hard_to_hear_is_doubted_less_by_hand():
    scores = np.array([[0.1, 0.4], [0.02, 0.5], [0.03, 0.6], [0.04, 0.2], [0.05, 0.9]])
    labels = np.array([[1, 1], [0, 0], [0, 0], [0, 0], [0, 1]])
    errors = label_errors.LabelErrors(5, 2)
    errors.add(list("abcde"), labels, scores)
    doubted = [(label.clip_id, label.class_index, label.strength) for label in errors.ranked(True)]
    # Two of three clips without class 1 score 0.4 or more; none of four without class 0 scores 0.1.
    assert doubted == [("a", 1, pytest.approx(2 / 3)), ("a", 0, 0.0), ("e", 1, 0.0)]


def test_the_spread_of_scores_knows_both_ends():
    spread = label_errors.ClassScores(2)
    spread.add(np.array([0, 0, 0, 0]), np.array([0.0, 0.25, 0.75, 1.0]))
    shares = spread.share_at_least(np.array([0, 0, 0, 0, 1]), np.array([0.0, 0.5, 0.8, 1.0, 0.5]))
    assert shares.tolist() == [1.0, 0.5, 0.25, 0.25, 0.0]


def test_without_clean_labels_nothing_is_judged():
    ids, _, noisy, scores = _labels()
    errors = label_errors.LabelErrors(5, 6)
    errors.add(ids, noisy, scores)
    assert errors.base_rate(True) is None and errors.precision_at(True, 5) is None
    assert all(label.wrong is None for label in errors.ranked(False))


def test_disagreement_is_that_of_all_clips():
    generator = np.random.default_rng(0)
    student, teacher = generator.random((2, 30, 4))
    ids = [str(i) for i in range(30)]
    difference = label_errors.Disagreement(4, 3)
    for start in (0, 10, 20):
        part = slice(start, start + 10)
        difference.add(ids[part], student[part], teacher[part])
    assert difference.mean == pytest.approx((student - teacher).mean(axis=0))
    assert difference.mean_absolute == pytest.approx(np.abs(student - teacher).mean(axis=0))
    widest = np.sort(np.abs(student - teacher), axis=None)[::-1][:3]
    assert [abs(s - t) for _, _, s, t in difference.pairs] == pytest.approx(widest)
    clip, class_index, score, taught = difference.pairs[0]
    assert (score, taught) == (student[int(clip), class_index], teacher[int(clip), class_index])
