"""Compute SeCoST's targets and loss.

With labels y, teacher scores ŷ, the student's clip scores p, and α the weight of the labels:

    ȳ = α y + (1 − α) ŷ
    L(p, ȳ) = L(p, y) + (1 − α) · 1/C · Σ_i (ŷ_i − y_i) · log((1 − p_i) / p_i)

L is the binary cross-entropy averaged over the C classes. It is linear in its target, so the loss
splits exactly into a label part, L(p, y), and a teacher part: learn from how the teacher differs
from the labels. (The slides of ICASSP 2020 print the teacher part with y_i − ŷ_i. That sign is
wrong: for C = 1, y = 1, ŷ = 0.5, α = 0.5, p = 0.3 the loss is 0.99215, and so is the sum above; as
printed it would be 1.41580.)

Everything takes the student's logits z, p = σ(z), so that log((1 − p) / p) is −z exactly, and
computes in float32.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Alpha = float | Sequence[float]

_SLACK = 1e-3  # of a score's range: rounding in float16 or in a mixture is no mistake

_TEACHER_SCORES = "teacher_scores: expected scores in 0..1, got"

_ADVICE = "logits? Take `tf.sigmoid` of them; as a teacher, give `average_teacher([model])`"


def check_alpha(alpha: Alpha) -> float | tuple[float, ...]:
    """Return `alpha` as a float, or as a tuple with a float for each class.

    Raises:
        ValueError: if a number is not in [0, 1].
    """
    if isinstance(alpha, (Sequence, np.ndarray)) and np.ndim(alpha) == 1 and len(alpha):
        return tuple(map(_check_number, alpha))
    return _check_number(alpha)


def _check_number(alpha: Any) -> float:
    is_number = isinstance(alpha, numbers.Real) and not isinstance(alpha, bool)
    if not is_number or not 0 <= float(alpha) <= 1:
        raise ValueError(
            f"alpha: expected a number in [0, 1], the weight of the labels, got {alpha!r}"
        )
    return float(alpha)


def secost_target(labels: tf.Tensor, teacher_scores: tf.Tensor, alpha: Alpha) -> tf.Tensor:
    """Mix labels and teacher scores into the student's target, ȳ = α y + (1 − α) ŷ.

    Where α = 1 the teacher is never read, and where α = 0 the labels are never read, so either may
    hold anything there.

    Source: Kumar and Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789).

    Args:
        labels: y, float [batch, classes], 0 or 1.
        teacher_scores: ŷ, float [batch, classes], probabilities in 0..1, not logits.
        alpha: the weight of the labels, in [0, 1]: one number, or one for each class.

    Returns:
        float32 [batch, classes].

    Raises:
        ValueError: if alpha is no such number, or the teacher's scores leave 0..1. In a graph the
            scores are known only when it runs, and there it is an `InvalidArgumentError`.

    Example:
        >>> import tensorflow as tf
        >>> from secost_tf import secost_target
        >>> target = secost_target(tf.constant([[1.0, 0.0]]), tf.constant([[0.5, 0.5]]), alpha=0.3)
        >>> print(target.numpy().round(2))
        [[0.65 0.35]]
    """
    alpha = check_alpha(alpha)
    labels, teacher_scores = _as_float32(labels), _as_float32(teacher_scores)
    return _mix(labels, teacher_scores if alpha == 1 else _in_range(teacher_scores), alpha)


def _as_float32(values: Any) -> tf.Tensor:
    tensor = tf.convert_to_tensor(values)
    return tensor if tensor.dtype == tf.float32 else tf.cast(tensor, tf.float32)


def _in_range(teacher_scores: tf.Tensor) -> tf.Tensor:
    """Return the scores; raise an error if one is outside 0..1, in a graph when it runs.

    What is not a number passes: it may stand where alpha is 1, and makes the loss not a number
        where
    it counts.
    """
    outside = tf.reduce_any((teacher_scores < -_SLACK) | (teacher_scores > 1 + _SLACK))
    limits = tf.reduce_min(teacher_scores), tf.reduce_max(teacher_scores)
    if tf.executing_eagerly():
        if outside:
            low, high = map(float, limits)
            raise ValueError(f"{_TEACHER_SCORES} {low:.4g} to {high:.4g}: {_ADVICE}")
        return teacher_scores
    told = [_TEACHER_SCORES, limits[0], "to", limits[1], _ADVICE]
    with tf.control_dependencies([tf.debugging.Assert(~outside, told)]):
        return tf.identity(teacher_scores)


def _mix(
    labels: tf.Tensor, teacher_scores: tf.Tensor, alpha: float | tuple[float, ...]
) -> tf.Tensor:
    if alpha == 1:
        return labels
    if alpha == 0:
        return teacher_scores
    if isinstance(alpha, tuple) and labels.shape[-1] not in {None, len(alpha)}:
        raise ValueError(
            f"alpha: expected one number, or one for each of {labels.shape[-1]} classes, got "
            f"{len(alpha)} numbers"
        )
    weight: Any = tf.constant(alpha, tf.float32) if isinstance(alpha, tuple) else alpha
    target = weight * labels + (1 - weight) * teacher_scores
    return tf.where(weight == 1, labels, tf.where(weight == 0, teacher_scores, target))


def binary_cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Compute the binary cross-entropy per clip, averaged over classes.

    Args:
        targets: float [batch, classes] in 0..1.
        logits: float [batch, classes].

    Returns:
        float32 [batch].
    """
    targets, logits = _as_float32(targets), _as_float32(logits)
    per_class = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    return tf.reduce_mean(per_class, -1)


def secost_loss(
    labels: tf.Tensor, teacher_scores: tf.Tensor, logits: tf.Tensor, alpha: Alpha
) -> tf.Tensor:
    """Compute SeCoST's loss per clip, L(p, ȳ): binary cross-entropy against `secost_target`.

    Source: Kumar and Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789).

    Args:
        labels: y, float [batch, classes], 0 or 1.
        teacher_scores: ŷ, float [batch, classes], probabilities in 0..1, not logits.
        logits: z of the student's clip scores σ(z), float [batch, classes].
        alpha: the weight of the labels, in [0, 1]: one number, or one for each class.

    Returns:
        float32 [batch].

    Raises:
        ValueError: as `secost_target` does.

    Example:
        A student that gives 0.3, logit −0.847, where the label is 1 and the teacher gives 0.5:

        >>> from secost_tf import secost_loss
        >>> loss = secost_loss([[1.0]], [[0.5]], [[-0.8472979]], alpha=0.5)
        >>> print(f"{float(loss[0]):.5f}")
        0.99215
    """
    return binary_cross_entropy(secost_target(labels, teacher_scores, alpha), logits)


def label_part(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Compute what the labels teach, L(p, y) per clip: float32 [batch]."""
    return binary_cross_entropy(labels, logits)


def teacher_part(
    labels: tf.Tensor, teacher_scores: tf.Tensor, logits: tf.Tensor, alpha: Alpha
) -> tf.Tensor:
    """Compute what the teacher adds per clip.

    This is (1 − α) · 1/C · Σ_i (ŷ_i − y_i) · log((1 − p_i) / p_i).
    Zero where the teacher agrees with the labels, and where α = 1; label part + teacher part =
    loss.

    Returns:
        float32 [batch].
    """
    labels, teacher_scores = _as_float32(labels), _as_float32(teacher_scores)
    difference = _mix(labels, teacher_scores, check_alpha(alpha)) - labels  # (1 − α) (ŷ − y)
    return tf.reduce_mean(difference * -_as_float32(logits), axis=-1)


@keras.saving.register_keras_serializable(package="secost_tf")
class SeCoSTLoss(keras.losses.Loss):
    """Compute `secost_loss` as a Keras loss.

    `TeacherDistillation` is compiled with it and takes targets as a dict. A plain Keras model that
    gives logits can be compiled with it too: its `y` is `stack_targets(labels, teacher_scores)`.

    Source: Kumar and Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789).

    Args:
        alpha: the weight of the labels, in [0, 1]; the teacher's is 1 − alpha. One number, or one
            for each class.
        reduction: as of every Keras loss: "sum_over_batch_size", "sum" or "none".
        name: of the loss.

    Call arguments:
        y_true: labels and teacher scores side by side, float [batch, classes, 2].
        y_pred: the student's logits, float [batch, classes].

    Returns:
        float32 [], or [batch] with reduction="none".

    Raises:
        ValueError: if alpha is not in [0, 1], `y_true` has another shape, or the teacher's scores
            leave 0..1.

    Example:
        >>> import tensorflow as tf
        >>> from secost_tf import SeCoSTLoss, stack_targets
        >>> labels, teacher_scores = [[1.0, 0.0]], [[0.5, 0.5]]
        >>> loss = SeCoSTLoss(alpha=0.3)
        >>> value = loss(stack_targets(labels, teacher_scores), tf.constant([[0.0, 0.0]]))
        >>> print(f"{float(value):.4f}")  # log 2, as every score is 1/2
        0.6931
    """

    def __init__(
        self, alpha: Alpha, reduction: str = "sum_over_batch_size", name: str = "secost"
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        self.alpha = check_alpha(alpha)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Compute the loss per clip, float32 [batch]."""
        y_true = _as_float32(y_true)
        if y_true.shape.rank != 3 or y_true.shape[-1] != 2:
            raise ValueError(
                "y_true: expected labels and teacher scores side by side, [batch, classes, 2], got "
                f"shape {tuple(y_true.shape)}; make it with `stack_targets(labels, teacher_scores)`"
                ", or train with `TeacherDistillation`"
            )
        labels, teacher_scores = tf.unstack(y_true, axis=-1)
        return secost_loss(labels, teacher_scores, y_pred, self.alpha)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same loss of."""
        return {"alpha": self.alpha, "reduction": self.reduction, "name": self.name}


def stack_targets(labels: tf.Tensor, teacher_scores: tf.Tensor) -> tf.Tensor:
    """Put labels and teacher scores side by side, as `SeCoSTLoss` takes them.

    Source: y and ŷ of Kumar and Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789).

    Args:
        labels: float [batch, classes], 0 or 1.
        teacher_scores: float [batch, classes] in 0..1.

    Returns:
        float32 [batch, classes, 2].

    Raises:
        ValueError or tf.errors.InvalidArgumentError: if the shapes differ, as of `tf.stack`.

    Example:
        >>> from secost_tf import stack_targets
        >>> stack_targets([[1.0, 0.0]], [[0.75, 0.5]]).numpy().tolist()
        [[[1.0, 0.75], [0.0, 0.5]]]
    """
    return tf.stack([_as_float32(labels), _as_float32(teacher_scores)], axis=-1)
