"""The mapping P from segment scores to clip scores, in logits.

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

import keras
import tensorflow as tf

EMPTY_CLIP_LOGIT = -40.0  # p = 4e-18: nothing was heard

_NEVER = -1e9  # stands for log 0: finite, so that no gradient is NaN, and exp(_NEVER) is 0

_FAINT = 1e-7  # below this 1 − exp(−s) is s to float32's rounding


def _masked(head: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """What all heads share: float32, silenced padding (`real`: [batch, segments, 1]), and the empty
    clip.
    """

    @functools.wraps(head)
    def masked_head(segment_logits, segment_mask, **options):
        real = tf.cast(segment_mask, tf.bool)[..., tf.newaxis]
        z = tf.where(real, tf.cast(segment_logits, tf.float32), 0.0)
        return tf.where(tf.reduce_any(real, axis=1), head(z, real, **options), EMPTY_CLIP_LOGIT)

    return masked_head


def _mix(z: tf.Tensor, real: tf.Tensor, log_weights: tf.Tensor) -> tf.Tensor:
    """logit(Σ w_k σ(z_k)) for w_k ∝ exp(log_weights_k); a common factor of the weights cancels."""
    log_w = tf.where(real, log_weights, _NEVER)
    log_w -= tf.stop_gradient(tf.reduce_max(log_w, axis=1, keepdims=True))  # keeps float32's digits
    log_p = tf.reduce_logsumexp(log_w + tf.math.log_sigmoid(z), axis=1)
    log_q = tf.reduce_logsumexp(log_w + tf.math.log_sigmoid(-z), axis=1)
    return log_p - log_q


@_masked
def average(z, real):
    """w_k = 1/K: the mean score."""
    return _mix(z, real, tf.zeros_like(z))


@_masked
def maximum(z, real):
    """The largest score; tied segments share its gradient."""
    return tf.reduce_max(tf.where(real, z, _NEVER), axis=1)


@_masked
def linear_softmax(z, real):
    """w_k ∝ p_k: p = Σ p_k² / Σ p_k."""
    return _mix(z, real, tf.math.log_sigmoid(z))


@_masked
def exp_softmax(z, real):
    """w_k ∝ exp(p_k)."""
    return _mix(z, real, tf.sigmoid(z))


@_masked
def attention(z, real, *, attention_logits):
    """w_k ∝ exp(v_k), with v = `attention_logits` [batch, segments, classes] that the network
    computes.
    """
    return _mix(z, real, tf.cast(attention_logits, tf.float32))


@_masked
def auto(z, real, *, softness):
    """w_k ∝ exp(a_c p_k), a = `softness` [classes]: 0 averages, 1 is exp_softmax, large takes the
    maximum.

    Learnt, it is the adaptive pooling of McFee, Salamon and Bello (2018, arXiv:1804.10070).
    """
    return _mix(z, real, tf.cast(softness, tf.float32) * tf.sigmoid(z))


@_masked
def noisy_or(z, real):
    """1 − p = Π (1 − p_k): the clip has the event unless every segment lacks it.

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
def top_k(z, real, *, k):
    """The mean of the k largest scores, or of all in a clip with fewer real segments."""
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
    """A head of HEADS as a layer; computes in float32 under every precision policy.

    Args:
        head: a name in HEADS.
        k: how many of the largest segment scores `top_k` averages; other heads ignore it.
        dtype: of the layer's weight; leave it float32.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        segment_logits: [batch, segments, classes].
        segment_mask: bool [batch, segments], True for real segments; without it all are real. (An
            argument named `mask` would be Keras's own, filled from its input's mask.)
        attention_logits: [batch, segments, classes]; needed by the head `attention`, ignored by the
            others.

    Returns:
        Clip logits, float32 [batch, classes].

    Raises:
        ValueError: for an unknown head, a k below 1, or `attention` called without
            attention_logits.
    """

    def __init__(self, head: str = "average", k: int = 3, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        if head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}; got {head!r}.")
        if k < 1:
            raise ValueError(f"k must be at least 1 segment, got {k}.")
        self.head, self.k, self.softness = head, k, None

    def build(self, input_shape):
        if self.head == "auto":
            self.softness = self.add_weight(
                name="softness", shape=(input_shape[-1],), initializer="ones"
            )
        super().build(input_shape)

    def call(self, segment_logits, segment_mask=None, attention_logits=None):
        if self.head == "attention" and attention_logits is None:
            raise ValueError("attention_logits must be given to the head 'attention', got None.")
        if segment_mask is None:
            segment_mask = tf.ones(tf.shape(segment_logits)[:2], tf.bool)
        options = {
            "attention": {"attention_logits": attention_logits},
            "auto": {"softness": self.softness},
            "top_k": {"k": self.k},
        }
        return HEADS[self.head](segment_logits, segment_mask, **options.get(self.head, {}))

    def get_config(self):
        return super().get_config() | {"head": self.head, "k": self.k}
