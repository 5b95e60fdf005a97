"""SeCoST's targets and loss.

With labels y, teacher scores ŷ, the student's clip scores p, and α the weight of the labels:

    ȳ = α y + (1 − α) ŷ
    L(p, ȳ) = L(p, y) + (1 − α) · 1/C · Σ_i (ŷ_i − y_i) · log((1 − p_i) / p_i)

L is the binary cross-entropy averaged over the C classes. It is linear in its target, so the loss
splits exactly into a label part, L(p, y), and a teacher part: learn from how the teacher differs
from the labels. (The slides of ICASSP 2020 print the teacher part with y_i − ŷ_i. That sign is
wrong: for C = 1, y = 1, ŷ = 0.5, α = 0.5, p = 0.3 the loss is 0.99215, and so is the sum above; as
printed it would be 1.41580.)

Everything takes the student's logits z, p = σ(z), so that log((1 − p) / p) is −z exactly.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

Alpha = float | Sequence[float]


def check_alpha(alpha: Alpha) -> float | tuple[float, ...]:
    """Returns `alpha` as a float, or as a float for each class; a `ValueError` if one is not a
    number in [0, 1].
    """
    if np.ndim(alpha) == 1 and len(alpha):
        return tuple(map(_check_number, alpha))
    return _check_number(alpha)


def _check_number(alpha: float) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not 0 <= alpha <= 1:
        raise ValueError(
            f"alpha: expected a number in [0, 1], the weight of the labels, got {alpha!r}"
        )
    return float(alpha)


def secost_target(labels: tf.Tensor, teacher_scores: tf.Tensor, alpha: Alpha) -> tf.Tensor:
    """ȳ = α y + (1 − α) ŷ, [batch, classes]; where α = 1 the teacher is never read, where α = 0 the
    labels never.
    """
    alpha = check_alpha(alpha)
    if alpha == 1:
        return labels
    if alpha == 0:
        return teacher_scores
    if isinstance(alpha, tuple):
        if labels.shape[-1] not in {None, len(alpha)}:
            raise ValueError(
                f"alpha: expected one number, or one for each of {labels.shape[-1]} classes, got {len(alpha)}"
            )
        alpha = tf.constant(alpha, labels.dtype)
    target = alpha * labels + (1 - alpha) * teacher_scores
    return tf.where(alpha == 1, labels, tf.where(alpha == 0, teacher_scores, target))


def binary_cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Per clip, averaged over classes: [batch, classes], [batch, classes] -> [batch]."""
    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits), axis=-1
    )


def secost_loss(
    labels: tf.Tensor, teacher_scores: tf.Tensor, logits: tf.Tensor, alpha: Alpha
) -> tf.Tensor:
    """L(p, ȳ) per clip.

    Args:
        labels: y, float [batch, classes], 0 or 1.
        teacher_scores: ŷ, float [batch, classes] in 0..1.
        logits: z of the student's clip scores, float [batch, classes].
        alpha: weight of the labels, in [0, 1]: one number, or one for each class.

    Returns:
        float [batch].
    """
    return binary_cross_entropy(secost_target(labels, teacher_scores, alpha), logits)


def label_part(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """L(p, y) per clip, [batch]: what the labels teach."""
    return binary_cross_entropy(labels, logits)


def teacher_part(
    labels: tf.Tensor, teacher_scores: tf.Tensor, logits: tf.Tensor, alpha: Alpha
) -> tf.Tensor:
    """(1 − α) · 1/C · Σ_i (ŷ_i − y_i) · log((1 − p_i) / p_i) per clip, [batch]: what the teacher
    adds.

    Zero where the teacher agrees with the labels, and where α = 1; label part + teacher part =
    loss.
    """
    difference = secost_target(labels, teacher_scores, alpha) - labels  # (1 − α) (ŷ − y)
    return tf.reduce_mean(difference * -logits, axis=-1)


@keras.saving.register_keras_serializable(package="secost_tf")
class SeCoSTLoss(keras.losses.Loss):
    """`secost_loss` as a Keras loss.

    `y_true` holds labels and teacher scores side by side, [batch, classes, 2] (`stack_targets`);
    `y_pred` holds the student's logits, [batch, classes].
    """

    def __init__(self, alpha: Alpha, reduction: str = "sum_over_batch_size", name: str = "secost"):
        super().__init__(reduction=reduction, name=name)
        self.alpha = check_alpha(alpha)

    def call(self, y_true, y_pred):
        labels, teacher_scores = tf.unstack(y_true, axis=-1)
        return secost_loss(labels, teacher_scores, tf.cast(y_pred, labels.dtype), self.alpha)

    def get_config(self):
        return {"alpha": self.alpha, "reduction": self.reduction, "name": self.name}


def stack_targets(labels: tf.Tensor, teacher_scores: tf.Tensor) -> tf.Tensor:
    """[batch, classes] twice -> [batch, classes, 2], what `SeCoSTLoss` takes as `y_true`."""
    return tf.stack([labels, teacher_scores], axis=-1)
