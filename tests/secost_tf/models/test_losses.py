"""The loss against hand-worked numbers and its definition in float64; α = 1 and α = 0 against what
they must not read.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from secost_tf.models import losses
from secost_tf.models.losses import SeCoSTLoss

PER_CLASS = (0.0, 0.3, 0.8, 1.0)
ALPHAS = (0.0, 0.05, 0.3, 0.5, 0.95, 1.0, PER_CLASS)
NAN = np.full((6, 4), np.nan, np.float32)


def logit(p):
    return np.log(p / (1 - p))


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


@pytest.fixture
def batch():
    """Labels, teacher scores and logits of six clips and four classes."""
    rng = np.random.default_rng(0)
    labels = (rng.random((6, 4)) < 0.4).astype(np.float32)
    return (
        labels,
        rng.random((6, 4)).astype(np.float32),
        rng.normal(0, 3, (6, 4)).astype(np.float32),
    )


def reference(labels, teacher_scores, logits, alpha):
    """BCE(p, ȳ) in float64, averaged over classes."""
    alpha = np.array(alpha)
    target, p = alpha * labels.astype(np.float64) + (1 - alpha) * teacher_scores, sigmoid(logits)
    return -np.mean(target * np.log(p) + (1 - target) * np.log(1 - p), axis=-1)


def test_the_numbers_of_the_paper_with_its_sign_put_right():
    labels, teacher_scores, alpha = tf.constant([[1.0]]), tf.constant([[0.5]]), 0.5
    logits = tf.constant([[logit(0.3)]], tf.float32)
    loss = losses.secost_loss(labels, teacher_scores, logits, alpha).numpy()
    np.testing.assert_allclose(loss, [0.99215], atol=5e-6)
    # Identity (1): L(p, αy) + (1 − α) ŷ log((1 − p) / p)
    split_1 = losses.binary_cross_entropy(alpha * labels, logits) + (1 - alpha) * 0.5 * np.log(
        0.7 / 0.3
    )
    np.testing.assert_allclose(split_1, [0.99215], atol=5e-6)
    # Identity (2): L(p, y) + (1 − α) (ŷ − y) log((1 − p) / p)
    label_part = losses.label_part(labels, logits).numpy()
    teacher_part = losses.teacher_part(labels, teacher_scores, logits, alpha).numpy()
    np.testing.assert_allclose(label_part, [-np.log(0.3)], rtol=1e-6)
    np.testing.assert_allclose(label_part + teacher_part, [0.99215], atol=5e-6)
    # As printed, with y − ŷ
    np.testing.assert_allclose(label_part - teacher_part, [1.41580], atol=5e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_equals_the_definition_in_float64(batch, alpha):
    actual = losses.secost_loss(*batch, alpha)
    assert actual.shape == (6,)
    np.testing.assert_allclose(actual, reference(*batch, alpha), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_label_part_and_teacher_part_add_up_to_the_loss(batch, alpha):
    labels, teacher_scores, logits = batch
    parts = losses.label_part(labels, logits) + losses.teacher_part(
        labels, teacher_scores, logits, alpha
    )
    np.testing.assert_allclose(parts, losses.secost_loss(*batch, alpha), rtol=1e-6, atol=1e-6)


def test_teacher_that_agrees_with_the_labels_adds_nothing(batch):
    labels, _, logits = batch
    assert not np.any(losses.teacher_part(labels, labels, logits, 0.5))


def test_extreme_logits_stay_finite():
    logits = tf.constant([[-1000.0, 1000.0]])
    loss = losses.secost_loss(tf.constant([[1.0, 0.0]]), tf.constant([[0.5, 0.5]]), logits, 0.5)
    np.testing.assert_allclose(loss, [750.0])  # target 0.75 at logit -1000 and 0.25 at 1000


def gradient(labels, teacher_scores, logits, alpha):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.secost_loss(labels, teacher_scores, logits, alpha)
    return loss.numpy(), tape.gradient(loss, logits).numpy()


def test_alpha_1_is_plain_bce_and_never_reads_the_teacher(batch):
    labels, _, logits = batch
    plain = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")(labels, logits)
    loss, slope = gradient(labels, NAN, logits, 1.0)
    np.testing.assert_allclose(loss, plain, rtol=1e-6)
    np.testing.assert_allclose(slope, (sigmoid(logits) - labels) / 4, atol=1e-6)
    np.testing.assert_array_equal(losses.teacher_part(labels, NAN, logits, 1.0), np.zeros(6))


def test_alpha_0_never_reads_the_labels(batch):
    _, teacher_scores, logits = batch
    loss, slope = gradient(NAN, teacher_scores, logits, 0.0)
    np.testing.assert_allclose(
        loss, reference(np.zeros((6, 4)), teacher_scores, logits, 0.0), rtol=1e-6
    )
    np.testing.assert_allclose(slope, (sigmoid(logits) - teacher_scores) / 4, atol=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradient_is_p_less_the_target_over_the_classes(batch, alpha):
    labels, teacher_scores, logits = batch
    alpha_of_class = np.array(alpha)
    target = alpha_of_class * labels + (1 - alpha_of_class) * teacher_scores
    np.testing.assert_allclose(
        gradient(*batch, alpha)[1], (sigmoid(logits) - target) / 4, atol=1e-6
    )


def test_each_class_reads_what_its_alpha_weighs_alone(batch):
    labels, teacher_scores, logits = (array.copy() for array in batch)
    labels[:, 0], teacher_scores[:, 3] = np.nan, np.nan  # where alpha is 0, and where it is 1
    expected, slope = gradient(*batch, PER_CLASS)
    for value, wanted in zip(
        gradient(labels, teacher_scores, logits, PER_CLASS), (expected, slope), strict=True
    ):
        np.testing.assert_array_equal(value, wanted)
    teacher = losses.teacher_part(batch[0], teacher_scores, logits, PER_CLASS)
    np.testing.assert_allclose(losses.label_part(batch[0], logits) + teacher, expected, rtol=1e-5)


def test_one_alpha_for_all_classes_is_that_of_each(batch):
    for alpha in (0.0, 0.3, 1.0):
        each = [alpha] * 4
        np.testing.assert_allclose(
            losses.secost_loss(*batch, each), losses.secost_loss(*batch, alpha), rtol=1e-6
        )


def test_target_by_class():
    labels, teacher_scores = tf.constant([[1.0, 0.0, 1.0]]), tf.constant([[0.5, 0.5, 0.25]])
    target = losses.secost_target(labels, teacher_scores, np.array([0.3, 0.9, 0.0]))
    np.testing.assert_allclose(target, [[0.65, 0.05, 0.25]], rtol=1e-6)


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (
            (0.3, 1.5, 0.0, 1.0),
            r"alpha: expected a number in \[0, 1\], the weight of the labels, got 1\.5",
        ),
        ((0.3, True, 0.0, 1.0), r"alpha: expected a number .* got True"),
        ((0.3, 0.5), "alpha: expected one number, or one for each of 4 classes, got 2 numbers"),
        ((), r"alpha: expected a number .* got \(\)"),
    ],
)
def test_bad_alphas_of_classes(batch, alpha, message):
    with pytest.raises(ValueError, match=message):
        losses.secost_loss(*batch, alpha)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, "x", True, float("nan"), None])
def test_bad_alpha(batch, alpha):
    labels, teacher_scores, logits = batch
    for call in (
        lambda: SeCoSTLoss(alpha),
        lambda: losses.secost_target(labels, teacher_scores, alpha),
        lambda: losses.secost_loss(*batch, alpha),
        lambda: losses.teacher_part(labels, teacher_scores, logits, alpha),
    ):
        with pytest.raises(
            ValueError, match=r"alpha: expected a number in \[0, 1\], .* got " + repr(alpha)
        ):
            call()


def test_target():
    labels, teacher_scores = tf.constant([[1.0, 0.0, 1.0]]), tf.constant([[0.5, 0.5, 0.0]])
    np.testing.assert_allclose(
        losses.secost_target(labels, teacher_scores, 0.3), [[0.65, 0.35, 0.3]], rtol=1e-6
    )
    assert losses.secost_target(labels, teacher_scores, 1) is labels
    assert losses.secost_target(labels, teacher_scores, 0) is teacher_scores


@pytest.mark.parametrize(
    ("reduction", "reduce"), [("none", np.array), ("sum", np.sum), ("sum_over_batch_size", np.mean)]
)
def test_keras_loss_reduces_as_keras_does(batch, reduction, reduce):
    labels, teacher_scores, logits = batch
    per_clip = reference(*batch, 0.3)
    loss = SeCoSTLoss(0.3, reduction=reduction)
    y_true = losses.stack_targets(labels, teacher_scores)
    assert y_true.shape == (6, 4, 2)
    np.testing.assert_allclose(loss(y_true, logits), reduce(per_clip), rtol=1e-5)
    weights = np.arange(6, dtype=np.float32)
    weighted = loss(y_true, logits, sample_weight=weights)
    np.testing.assert_allclose(weighted, reduce(weights * per_clip), rtol=1e-5)


def test_keras_loss_takes_half_precision_logits(batch):
    labels, teacher_scores, logits = batch
    half = tf.cast(logits, tf.bfloat16)
    loss = SeCoSTLoss(0.3).call(losses.stack_targets(labels, teacher_scores), half)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(
        loss, reference(labels, teacher_scores, tf.cast(half, tf.float64), 0.3), rtol=1e-5
    )


@pytest.mark.parametrize("alpha", [0.3, (0.3, 1.0)])
def test_keras_loss_config_round_trip(alpha):
    loss = SeCoSTLoss(alpha, reduction="sum", name="mine")
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert isinstance(restored, SeCoSTLoss)
    assert (
        restored.get_config()
        == loss.get_config()
        == {"alpha": alpha, "reduction": "sum", "name": "mine"}
    )
