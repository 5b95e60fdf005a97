"""WELS-Net: a fully convolutional network from log-mels to segment logits, and a head P to clip logits.

A reconstruction: the slides of SeCoST leave the layer table to the paper; this one follows the authors' published
family of networks. Every number is in `WelsNetConfig`.

    block    layers                                                    output for 1024 frames x 64 mel bins
    B1       conv 3x3, 64, twice; max-pool 4x4                         256 x 16 x 64
    B2       conv 3x3, 128, twice; max-pool 2x2                        128 x 8 x 128
    B3       conv 3x3, 256, twice; max-pool 2x2                        64 x 4 x 256
    B4       conv 3x3, 512, twice; max-pool 2x2                        32 x 2 x 512
    B5       conv 3x2 valid, 2048                                      30 x 1 x 2048
    B6, B7   conv 1x1, 1024                                            30 x 1 x 1024
    B8       conv 1x1, C: the segment logits                           K = 30 x C
    P        pooling head: the clip logits                             C

Every convolution but B8 is followed by batch normalisation and ReLU. A clip is padded at its end to a whole number of
strides (32 frames), so that ten seconds (998 frames) give K = 30 segments as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from secost_tf.config import WelsNetConfig
from secost_tf.keras_compat import KERAS_3
from secost_tf.pooling import Pooling
from tfrecord_tools.log_mel import LogMelConfig

_SAME_IN_ALL_REPLICAS = (
    {"aggregation": "only_first_replica"}
    if KERAS_3
    else {"aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA, "experimental_autocast": False}
)


class _Float32Layer(keras.layers.Layer):
    """A layer whose weights stay float32 and whose inputs keep their own type, whatever the precision policy."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def get_config(self):
        config = super().get_config()
        config.pop("dtype", None)
        return config


@keras.saving.register_keras_serializable(package="secost_tf")
class Standardize(_Float32Layer):
    """(log-mel − mean) / standard deviation per mel bin; then the padding is zeroed and the end padded.

    Mean and variance are weights, so that they travel with the network (`set_statistics`).

    log-mels float [batch, frames, mel_bins], num_frames int [batch] -> float32 [batch, padded frames, mel_bins, 1],
    with padded frames a multiple of `multiple` and at least `minimum`.
    """

    def __init__(self, multiple: int, minimum: int, **kwargs):
        super().__init__(**kwargs)
        self.multiple, self.minimum = multiple, minimum

    def build(self, input_shape, *_):
        shape = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.variance = self.add_weight(name="variance", shape=shape, initializer="ones", trainable=False)
        self.built = True

    def set_statistics(self, mean: Sequence[float], variance: Sequence[float]) -> None:
        """Sets the mean and variance of each mel bin, [mel_bins]."""
        self.mean.assign(np.asarray(mean, np.float32))
        self.variance.assign(np.asarray(variance, np.float32))

    def call(self, log_mels, num_frames):
        x = (tf.cast(log_mels, tf.float32) - self.mean) * tf.math.rsqrt(
            tf.convert_to_tensor(self.variance) + 1e-6
        )
        frames = tf.shape(x)[1]
        x = tf.where(tf.sequence_mask(num_frames, frames)[:, :, None], x, 0.0)
        padded = tf.maximum(-(-frames // self.multiple) * self.multiple, self.minimum)
        return tf.pad(x, [[0, 0], [0, padded - frames], [0, 0]])[..., None]

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple, "minimum": self.minimum}


@keras.saving.register_keras_serializable(package="secost_tf")
class ZeroPadding(_Float32Layer):
    """Zeroes what lies behind each clip's own end, at inference, so that its scores do not depend on its batch.

    A clip's end is its number of frames rounded up to `multiple`, as if it had come alone. In training this is left
    out: it costs several per cent of a step and changes only the edge of clips shorter than their batch.

    features [batch, time, mel, channels] at `stride` frames a step, num_frames int [batch] -> the same shape.
    """

    def __init__(self, stride: int, multiple: int, **kwargs):
        super().__init__(**kwargs)
        self.stride, self.multiple = stride, multiple

    def build(self, *_):
        self.built = True

    def call(self, features, num_frames, training=False):
        if training:
            return features
        steps = -(-num_frames // self.multiple) * (self.multiple // self.stride)
        mask = tf.sequence_mask(steps, tf.shape(features)[1], features.dtype)
        return features * mask[:, :, None, None]

    def get_config(self):
        return {**super().get_config(), "stride": self.stride, "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="secost_tf")
class BatchNorm(_Float32Layer):
    """Batch normalisation over all axes but the last; statistics are those of the whole global batch.

    Keras's own layer is either fused (2.15, one replica) or synchronised, and in Keras 3 never fused, which costs a
    third of the training speed on a CPU. This one uses TensorFlow's fused kernel on one replica and sums over
    replicas otherwise; both keep the biased variance, so that one replica and many agree.

    [batch, ..., channels] -> the same shape and type.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-3, **kwargs):
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, input_shape):
        shape = (input_shape[-1],)
        moving = {"trainable": False, **_SAME_IN_ALL_REPLICAS}
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        self.moving_mean = self.add_weight(name="moving_mean", shape=shape, initializer="zeros", **moving)
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer="ones", **moving
        )
        self.built = True

    def call(self, x, training=False):
        gamma, beta, moving_mean, moving_variance = (
            tf.convert_to_tensor(weight)
            for weight in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if not training:
            return self._fused(x, gamma, beta, moving_mean, moving_variance, is_training=False)[0]
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            empty = tf.zeros([0])
            y, mean, variance = self._fused(x, gamma, beta, empty, empty, is_training=True)[:3]
            count = tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)
            variance *= (
                count - 1
            ) / count  # the kernel normalises by the biased variance but returns the other
        else:
            mean, variance = self._moments_over_replicas(tf.cast(x, tf.float32), context)
            scale = gamma * tf.math.rsqrt(variance + self.epsilon)
            y = x * tf.cast(scale, x.dtype) + tf.cast(beta - mean * scale, x.dtype)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * tf.convert_to_tensor(moving) + (1 - self.momentum) * value)
        return y

    def _fused(self, x, scale, offset, mean, variance, is_training):
        shape = tf.shape(x)
        image = x if len(x.shape) == 4 else tf.reshape(x, [-1, 1, 1, x.shape[-1]])
        y, *moments = tf.raw_ops.FusedBatchNormV3(
            x=image,
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=is_training,
        )
        return tf.reshape(y, shape) if image is not x else y, *moments

    @staticmethod
    def _moments_over_replicas(x, context):
        """Mean and biased variance, float32 [channels], with one all-reduce."""
        axes = list(range(len(x.shape) - 1))
        count = tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)
        local = tf.concat([tf.reduce_sum(x, axes), tf.reduce_sum(tf.square(x), axes), count[None]], 0)
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, local)
        mean, mean_square = tf.split(total[:-1] / total[-1], 2)
        return mean, tf.maximum(mean_square - tf.square(mean), 0.0)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="secost_tf")
class SegmentMask(_Float32Layer):
    """Which of the K segments are real: segment logits [batch, K, C], num_frames int [batch] -> bool [batch, K]."""

    def __init__(self, stride: int, kernel: int, **kwargs):
        super().__init__(**kwargs)
        self.stride, self.kernel = stride, kernel

    def build(self, *_):
        self.built = True

    def call(self, segment_logits, num_frames):
        segments = tf.maximum(-(-num_frames // self.stride) - self.kernel + 1, 1)
        return tf.sequence_mask(segments, tf.shape(segment_logits)[1])

    def get_config(self):
        return {**super().get_config(), "stride": self.stride, "kernel": self.kernel}


def wels_net(config: WelsNetConfig, name: str = "wels_net") -> keras.Model:
    """Builds the network.

    Inputs:
        log_mel: float [batch, frames, mel_bins], any number of frames; clips of a batch padded to one length.
        num_frames: int32 [batch], each clip's own number of frames.

    Outputs:
        logits: float32 [batch, C], of the clip scores.
        segment_logits: float32 [batch, K, C], of the segment scores; those behind a clip's own K are meaningless.
    """
    # === Functional Model ===
    log_mel = keras.Input((None, config.mel_bins), name="log_mel")
    num_frames = keras.Input((), dtype="int32", name="num_frames")
    multiple, stride = config.stride_frames, 1

    def convolve(x, channels, kernel, padding, name):
        if padding == "same":
            x = ZeroPadding(stride, multiple, name=f"{name}_zero_padding")(x, num_frames)
        x = keras.layers.Conv2D(
            config.channels(channels),
            kernel,
            padding=padding,
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)
        x = BatchNorm(config.batch_norm_momentum, config.batch_norm_epsilon, name=f"{name}_norm")(x)
        return keras.layers.ReLU(name=f"{name}_relu")(x)

    x = Standardize(multiple, config.window_frames, name="standardize")(log_mel, num_frames)
    for block, (channels, pool) in enumerate(zip(config.block_channels, config.block_pools, strict=True), 1):
        for number in range(1, config.block_convolutions + 1):
            x = convolve(x, channels, 3, "same", f"b{block}_{number}")
        x = keras.layers.MaxPooling2D(pool, name=f"b{block}_pool")(x)
        stride *= pool
    block = len(config.block_channels) + 1
    x = ZeroPadding(stride, multiple, name=f"b{block}_zero_padding")(x, num_frames)
    kernel = (config.embedding_frames, config.mel_bins // config.stride_frames)
    x = convolve(x, config.embedding_channels, kernel, "valid", f"b{block}")
    for block, channels in enumerate(config.hidden_channels, block + 1):  # noqa: B020
        x = convolve(x, channels, 1, "valid", f"b{block}")

    def segment_outputs(name):
        outputs = keras.layers.Conv2D(config.num_classes, 1, dtype="float32", name=name)(x)
        return keras.layers.Reshape((-1, config.num_classes), dtype="float32", name=f"{name}_per_segment")(
            outputs
        )

    segment_logits = segment_outputs(f"b{block + 1}")
    segment_mask = SegmentMask(stride, config.embedding_frames, name="segment_mask")(
        segment_logits, num_frames
    )
    attention = {"attention_logits": segment_outputs("attention")} if config.pooling == "attention" else {}
    pooling = Pooling(config.pooling, k=config.pooling_k, name="pooling")
    logits = pooling(segment_logits, segment_mask=segment_mask, **attention)
    return keras.Model(
        inputs={"log_mel": log_mel, "num_frames": num_frames},
        outputs={"logits": logits, "segment_logits": segment_logits},
        name=name,
    )


def segment_times(config: WelsNetConfig, log_mel: LogMelConfig, num_frames: int) -> np.ndarray:
    """When each segment of a clip looks: seconds [K, 2], onset and offset of the frames that B5 sees.

    Segment k covers `window_frames` frames from frame `k * stride_frames` on (0.96 s every 0.32 s at the defaults);
    the 3x3 convolutions add fainter context on both sides. The last segment may reach past the clip's end.
    """
    first_frame = np.arange(config.num_segments(num_frames)) * config.stride_frames
    hop = log_mel.hop_samples / log_mel.sample_rate_hz
    onsets = first_frame * hop
    length = (config.window_frames - 1) * hop + log_mel.window_samples / log_mel.sample_rate_hz
    return np.stack([onsets, onsets + length], axis=1)
