"""Map segment scores to clip scores, in logits: the heads P.

A head takes segment logits z [batch, segments, classes] and a bool mask [batch, segments], True for
real segments, and returns clip logits [batch, classes]. Most heads are convex mixes, p = Σ w_k
σ(z_k) with Σ w_k = 1. Then 1 − p = Σ w_k σ(−z_k), so that

    logit(p) = logsumexp_k(log w_k + log σ(z_k)) − logsumexp_k(log w_k + log σ(−z_k))

is exact, and a clip with p = 1e-12 still has a gradient, which a clipped probability has not.
Everything is float32. Padding counts in no head, whatever it holds. A clip without real segments
gets EMPTY_CLIP_LOGIT, and no gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

EMPTY_CLIP_LOGIT = -40.0  # p = 4e-18: nothing was heard

_NEVER = -1e9  # stands for log 0: finite, so that no gradient is NaN, and exp(_NEVER) is 0

_FAINT = 1e-7  # below this 1 − exp(−s) is s to float32's rounding


def _masked(head: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Add to a head what all share: float32, silenced padding, and the empty clip.

    The head takes `real`, the mask as bool [batch, segments, 1].
    """

    @functools.wraps(head)
    def masked_head(
        segment_logits: tf.Tensor, segment_mask: tf.Tensor, **options: Any
    ) -> tf.Tensor:
        real = tf.cast(segment_mask, tf.bool)[..., tf.newaxis]
        z = tf.where(real, tf.cast(segment_logits, tf.float32), 0.0)
        return tf.where(tf.reduce_any(real, axis=1), head(z, real, **options), EMPTY_CLIP_LOGIT)

    return masked_head


def _mix(z: tf.Tensor, real: tf.Tensor, log_weights: tf.Tensor) -> tf.Tensor:
    """Return logit(Σ w_k σ(z_k)) for w_k ∝ exp(log_weights_k); their common factor cancels."""
    log_w = tf.where(real, log_weights, _NEVER)
    log_w -= tf.stop_gradient(tf.reduce_max(log_w, axis=1, keepdims=True))  # keeps float32's digits
    log_p = tf.reduce_logsumexp(log_w + tf.math.log_sigmoid(z), axis=1)
    log_q = tf.reduce_logsumexp(log_w + tf.math.log_sigmoid(-z), axis=1)
    return log_p - log_q


@_masked
def average(z: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Return the mean score: w_k = 1/K."""
    return _mix(z, real, tf.zeros_like(z))


@_masked
def maximum(z: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Return the largest score; tied segments share its gradient."""
    return tf.reduce_max(tf.where(real, z, _NEVER), axis=1)


@_masked
def linear_softmax(z: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Weigh each score by itself, w_k ∝ p_k: p = Σ p_k² / Σ p_k."""
    return _mix(z, real, tf.math.log_sigmoid(z))


@_masked
def exp_softmax(z: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Weigh each score by its exponential, w_k ∝ exp(p_k)."""
    return _mix(z, real, tf.sigmoid(z))


@_masked
def attention(z: tf.Tensor, real: tf.Tensor, *, attention_logits: tf.Tensor) -> tf.Tensor:
    """Weigh each score as the network says, w_k ∝ exp(v_k).

    v is `attention_logits`, [batch, segments, classes].
    """
    return _mix(z, real, tf.cast(attention_logits, tf.float32))


@_masked
def auto(z: tf.Tensor, real: tf.Tensor, *, softness: tf.Tensor) -> tf.Tensor:
    """Weigh each score by a softness of its class, w_k ∝ exp(a_c p_k).

    a is `softness`, [classes]: 0 averages, 1 is exp_softmax, large takes the maximum. Learnt, it is
    the adaptive pooling of McFee, Salamon and Bello (2018, arXiv:1804.10070).
    """
    return _mix(z, real, tf.cast(softness, tf.float32) * tf.sigmoid(z))


@_masked
def noisy_or(z: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Let a clip have the event unless every segment lacks it: 1 − p = Π (1 − p_k).

    With s = −log(1 − p) = −Σ log σ(−z_k) = Σ softplus(z_k), logit(p) = s + log(1 − exp(−s)). Where
    s is faint, p_k = exp(z_k), s is their sum and log s the logit.
    """
    s = tf.reduce_sum(tf.where(real, tf.math.softplus(z), 0.0), axis=1)
    faint = s < _FAINT
    s = tf.where(faint, 1.0, s)  # the branch not taken must have a finite gradient too
    return tf.where(
        faint,
        tf.reduce_logsumexp(tf.where(real, z, _NEVER), axis=1),
        s + tf.math.log(-tf.math.expm1(-s)),
    )


@_masked
def top_k(z: tf.Tensor, real: tf.Tensor, *, k: int) -> tf.Tensor:
    """Return the mean of the k largest scores, or of all in a clip with fewer real segments."""
    by_class = tf.transpose(tf.where(real, z, _NEVER), [0, 2, 1])  # [batch, classes, segments]
    largest, _ = tf.math.top_k(by_class, tf.minimum(k, tf.shape(z)[1]))
    largest = tf.transpose(largest, [0, 2, 1])  # [batch, k, classes]
    real = largest > _NEVER
    return _mix(tf.where(real, largest, 0.0), real, tf.zeros_like(largest))


HEADS: dict[str, Callable[..., tf.Tensor]] = {
    "average": average,
    "max": maximum,
    "linear_softmax": linear_softmax,
    "exp_softmax": exp_softmax,
    "attention": attention,
    "auto": auto,
    "noisy_or": noisy_or,
    "top_k": top_k,
}


@keras.saving.register_keras_serializable(package="secost_tf")
class Pooling(keras.layers.Layer):
    """Map segment scores to clip scores by a head P, in logits.

    It computes in float32 under every precision policy, and exactly where a score is so small that
    a clipped probability would have no gradient.

    Source: average is the method's own; for the others see the functions of
    `secost_tf.models.pooling`, and Wang, Li and Metze (ICASSP 2019, arXiv:1810.09050) for a
    comparison of five.

    Args:
        head: "average", "max", "linear_softmax", "exp_softmax", "attention", "auto", "noisy_or" or
            "top_k".
        k: the number of the largest segment scores that "top_k" averages; other heads ignore it.
        dtype: of the layer's weight; leave it float32.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        segment_logits: [batch, segments, classes].
        segment_mask: bool [batch, segments], True for real segments; without it all are real. (An
            argument named `mask` would be Keras's own, filled from its input's mask.)
        attention_logits: [batch, segments, classes]; needed by the head "attention", ignored by the
            others.

    Returns:
        Clip logits, float32 [batch, classes].

    Raises:
        ValueError: if there is no such head, k is below 1, or "attention" is called without
            `attention_logits`.

    Example:
        >>> import tensorflow as tf
        >>> from secost_tf import Pooling
        >>> scores = tf.constant([[[0.9], [0.1], [0.5]]])  # three segments, one class
        >>> logits = Pooling("average")(tf.math.log(scores / (1 - scores)))
        >>> print(tf.sigmoid(logits).numpy().round(3))
        [[0.5]]
        >>> mask = tf.constant([[True, True, False]])  # the third segment is padding
        >>> logits = Pooling("max")(tf.math.log(scores / (1 - scores)), segment_mask=mask)
        >>> print(tf.sigmoid(logits).numpy().round(3))
        [[0.9]]
    """

    def __init__(
        self, head: str = "average", k: int = 3, dtype: Any = "float32", **kwargs: Any
    ) -> None:
        super().__init__(dtype=dtype, **kwargs)
        if head not in HEADS:
            raise ValueError(f"head: expected one of {', '.join(HEADS)}, got {head!r}")
        if k < 1:
            raise ValueError(f"k: expected at least 1 segment, got {k}")
        self.head, self.k, self.softness = head, k, None

    def build(self, input_shape: Any) -> None:
        """Make the softness of each class, for the head "auto"."""
        if self.head == "auto":
            self.softness = self.add_weight(
                name="softness", shape=(input_shape[-1],), initializer="ones"
            )
        super().build(input_shape)

    def call(
        self,
        segment_logits: tf.Tensor,
        segment_mask: tf.Tensor | None = None,
        attention_logits: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return the clip logits, float32 [batch, classes]."""
        if self.head == "attention" and attention_logits is None:
            raise ValueError(
                "attention_logits: expected [batch, segments, classes] for the head 'attention', "
                "got None"
            )
        if segment_mask is None:
            segment_mask = tf.ones(tf.shape(segment_logits)[:2], tf.bool)
        options: dict[str, dict[str, Any]] = {
            "attention": {"attention_logits": attention_logits},
            "auto": {"softness": self.softness},
            "top_k": {"k": self.k},
        }
        return HEADS[self.head](segment_logits, segment_mask, **options.get(self.head, {}))

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same layer of."""
        return {**super().get_config(), "head": self.head, "k": self.k}
