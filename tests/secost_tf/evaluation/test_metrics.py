"""scikit-learn is the oracle; hand-worked numbers pin the conventions it leaves open."""

import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from secost_tf.evaluation import metrics

PAIR_MEASURES = [
    (metrics.average_precision, sklearn_metrics.average_precision_score),
    (metrics.roc_auc, sklearn_metrics.roc_auc_score),
]


def random_set(seed=0, clips=200, classes=12, levels=None, dtype=np.float64):
    """Return labels from rare to frequent, and scores of them, in `levels` steps if tied."""
    rng = np.random.default_rng(seed)
    labels = rng.random((clips, classes)) < np.linspace(0.02, 0.8, classes)
    labels[0], labels[1] = True, False  # a full and an empty clip: positives and negatives
    scores = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1)))
    if levels:
        scores = np.round(scores * levels) / levels
    return labels, scores.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("levels", [None, 1, 3, 50])
@pytest.mark.parametrize(("measure", "oracle"), PAIR_MEASURES)
def test_class_measures_equal_scikit_learn(measure, oracle, levels, dtype):
    for seed in range(3):
        labels, scores = random_set(seed, levels=levels, dtype=dtype)
        expected = [oracle(labels[:, c], scores[:, c]) for c in range(labels.shape[1])]
        np.testing.assert_allclose(measure(labels, scores), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [None, 1, 3, 50])
def test_lwlrap_equals_scikit_learn(levels, dtype, monkeypatch):
    monkeypatch.setattr(metrics, "_CHUNK_ELEMENTS", 100)  # many chunks and a last short one
    labels, scores = random_set(levels=levels, dtype=dtype)
    expected = sklearn_metrics.label_ranking_average_precision_score(
        labels, scores.astype(np.float64), sample_weight=labels.sum(axis=1)
    )
    assert metrics.lwlrap(labels, scores) == pytest.approx(expected, abs=1e-12)


def test_numbers_worked_by_hand():
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    scores = np.array([[0.9, 0.5], [0.8, 0.5], [0.7, 0.1], [0.1, 0.3]])
    # Class 0: positives at ranks 1 and 3. Class 1: one positive tied with a negative, one last of
    # four.
    np.testing.assert_allclose(
        metrics.average_precision(labels, scores), [(1 + 2 / 3) / 2, (1 / 2 + 2 / 4) / 2]
    )
    np.testing.assert_allclose(metrics.roc_auc(labels, scores), [3 / 4, 1.5 / 4])
    # Clip 0: its label leads. Clip 1: its label comes second. Clip 2: both labels are right.
    assert metrics.lwlrap(labels, scores) == pytest.approx((1 + 1 / 2 + 1 + 1) / 4)


def test_perfect_reversed_and_constant_scores():
    labels = np.array([[1, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    scores = np.array([[4, 0, 7], [3, 1, 7], [2, 2, 7], [1, 3, 7]])
    np.testing.assert_array_equal(metrics.average_precision(labels, scores), [1, 1 / 4, 1 / 4])
    np.testing.assert_array_equal(metrics.roc_auc(labels, scores), [1, 0, 1 / 2])
    np.testing.assert_array_equal(
        metrics.evaluate_scores(labels, scores).per_class.d_prime, [np.inf, -np.inf, 0]
    )


def test_measures_depend_on_the_order_of_scores_alone():
    labels, scores = random_set(levels=30)
    for measure in (metrics.average_precision, metrics.roc_auc, metrics.lwlrap):
        np.testing.assert_array_equal(measure(labels, scores), measure(labels, 8 * scores - 3))
        np.testing.assert_array_equal(
            measure(labels, scores), measure(labels.astype(np.float32), scores)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_any_sign_and_size_keep_their_order(dtype):
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    ladder = np.array([-huge, -1.5, -1, -tiny, -0.0, 0.0, tiny, 1, 1.5, huge], dtype)[:, np.newaxis]
    for seed in range(20):
        labels = np.random.default_rng(seed).random(ladder.shape) < 0.5
        ranks = stats.rankdata(ladder)[:, np.newaxis]  # −0.0 ties with 0.0
        np.testing.assert_array_equal(
            metrics.roc_auc(labels, ladder), metrics.roc_auc(labels, ranks)
        )
        expected = sklearn_metrics.average_precision_score(labels[:, 0], ranks[:, 0])
        np.testing.assert_allclose(
            metrics.average_precision(labels, ladder), [expected], rtol=1e-12
        )


def test_classes_without_positives_or_negatives_are_nan():
    labels, scores = random_set(classes=4)
    labels[:, 1], labels[:, 2] = False, True
    assert np.isnan(metrics.average_precision(labels, scores)).tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert metrics.average_precision(labels, scores)[2] == 1
    assert np.isnan(metrics.roc_auc(labels, scores)).tolist() == [False, True, True, False]


def test_d_prime_is_the_normal_quantile():
    auc = np.array([[0.5, 0.9], [0.973, 1e-6]])
    np.testing.assert_allclose(
        metrics.d_prime(auc), np.sqrt(2) * stats.norm.ppf(auc), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_array_equal(
        metrics.d_prime(np.array([0.0, 1.0, np.nan])), [-np.inf, np.inf, np.nan]
    )
    assert float(metrics.d_prime(0.959)) == pytest.approx(
        2.46, abs=5e-3
    )  # AUC 0.959, d' 2.46: a pair often published
    with pytest.raises(ValueError, match=r"auc must lie in \[0, 1\], got values from 0.5 to 1.5"):
        metrics.d_prime([0.5, 1.5])


def test_evaluation_gathers_the_measures():
    labels, scores = random_set(levels=40)
    labels[:, 3] = labels[:, 7] = False
    labels[:, 9] = True
    result = metrics.evaluate_scores(labels, scores)
    precision, auc = metrics.average_precision(labels, scores), metrics.roc_auc(labels, scores)
    np.testing.assert_array_equal(result.per_class.average_precision, precision)
    np.testing.assert_array_equal(result.per_class.roc_auc, auc)
    np.testing.assert_array_equal(result.per_class.d_prime, metrics.d_prime(auc))
    np.testing.assert_array_equal(result.per_class.positives, labels.sum(axis=0))
    for alone, together in zip(
        metrics.evaluate_classes(labels, scores), result.per_class, strict=True
    ):
        np.testing.assert_array_equal(alone, together)
    assert result.without_positives == (3, 7)
    assert result.mAP == pytest.approx(np.nanmean(precision))
    assert result.mAUC == pytest.approx(np.nanmean(auc))
    assert result.d_prime == pytest.approx(np.sqrt(2) * stats.norm.ppf(np.nanmean(auc)))
    assert result.lwlrap == metrics.lwlrap(labels, scores)
    assert result.chance == pytest.approx(np.delete(labels, [3, 7], axis=1).mean())
    assert json.loads(json.dumps(result.scalars())) == {
        "mAP": result.mAP,
        "mAUC": result.mAUC,
        "d_prime": result.d_prime,
        "lwlrap": result.lwlrap,
        "chance": result.chance,
        "num_clips": 200,
        "classes_without_positives": 2,
    }


def test_chance_is_the_map_of_random_scores():
    labels = random_set(clips=5000)[0]
    result = metrics.evaluate_scores(labels, np.random.default_rng(1).random(labels.shape))
    assert result.mAP == pytest.approx(result.chance, abs=0.01)


def test_what_is_not_finite_becomes_null():
    perfect = metrics.evaluate_scores([[1], [0]], [[0.9], [0.1]])
    assert (perfect.d_prime, perfect.scalars()["d_prime"]) == (math.inf, None)
    no_label = metrics.evaluate_scores(np.zeros((2, 3)), np.ones((2, 3)))
    assert no_label.without_positives == (0, 1, 2)
    assert no_label.scalars() == {
        **dict.fromkeys(["mAP", "mAUC", "d_prime", "lwlrap", "chance"]),
        "num_clips": 2,
        "classes_without_positives": 3,
    }


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        (
            np.zeros((3, 2)),
            np.zeros((3, 4)),
            r"same shape .* got labels \(3, 2\) and scores \(3, 4\)",
        ),
        (np.zeros(3), np.zeros(3), r"labels must have shape \[clips, classes\], got shape \(3,\)"),
        (
            np.zeros((3, 1)),
            np.zeros(3),
            r"scores must have shape \[clips, classes\], got shape \(3,\)",
        ),
        (np.zeros((0, 2)), np.zeros((0, 2)), r"at least one clip and one class, got \(0, 2\)"),
        (
            [[0, 0.3], [1, 2]],
            np.zeros((2, 2)),
            r"labels must be 0 or 1, got 0.3 for clip 0, class 1 \(first of 2\)",
        ),
        ([[0, np.nan]], np.zeros((1, 2)), "labels must be 0 or 1, got nan"),
        ([[0, 1]], [[0.5, np.nan]], "scores must be finite, got nan for clip 0, class 1"),
        ([[0, 1]], [[-np.inf, 0.5]], "scores must be finite, got -inf for clip 0, class 0"),
    ],
)
@pytest.mark.parametrize(
    "measure",
    [
        metrics.average_precision,
        metrics.roc_auc,
        metrics.lwlrap,
        metrics.evaluate_classes,
        metrics.evaluate_scores,
    ],
)
def test_unfit_input_is_named(measure, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        measure(labels, scores)
