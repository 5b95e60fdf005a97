"""The layers of WELS-Net that Keras has not, or has slower: same mathematics, fewer passes over
memory.

What a step costs on a processor is memory as much as arithmetic: B1's outputs alone are 64 channels
for each of 1024 x 64 places of a clip. So the first convolution takes its batch normalisation into
its kernel, convolutions as high as their input are matrix products, and large kernels get their
gradient from matrix products where oneDNN's own is slow.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf


def _ceil_divide(number: tf.Tensor, divisor: int) -> tf.Tensor:
    """Rounded up, for numbers from 0 on. Without negative ones, which runtimes of other formats
    round otherwise.
    """
    return (number + (divisor - 1)) // divisor


class _Float32Layer(keras.layers.Layer):
    """A layer whose weights stay float32 and whose inputs keep their own type, whatever the
    precision policy.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def get_config(self):
        config = super().get_config()
        config.pop("dtype", None)
        return config


@keras.saving.register_keras_serializable(package="secost_tf")
class Standardize(_Float32Layer):
    """(log-mel − mean) / standard deviation per mel bin; then the padding is zeroed and the end
    padded.

    Mean and variance are weights, so that they travel with the network (`set_statistics`).

    log-mels float [batch, frames, mel_bins], num_frames int [batch] -> float32 [batch, padded
    frames, mel_bins, 1], with padded frames a multiple of `multiple` and at least `minimum`.
    """

    def __init__(self, multiple: int, minimum: int, **kwargs):
        super().__init__(**kwargs)
        self.multiple, self.minimum = multiple, minimum

    def build(self, input_shape, *_):
        shape = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.variance = self.add_weight(
            name="variance", shape=shape, initializer="ones", trainable=False
        )
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
        padded = tf.maximum(_ceil_divide(frames, self.multiple) * self.multiple, self.minimum)
        return tf.pad(x, [[0, 0], [0, padded - frames], [0, 0]])[..., None]

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple, "minimum": self.minimum}


@keras.saving.register_keras_serializable(package="secost_tf")
class ZeroPadding(_Float32Layer):
    """Zeroes what lies behind each clip's own end, at inference, so that its scores do not depend
    on its batch.

    A clip's end is its number of frames rounded up to `multiple`, as if it had come alone. In
    training this is left out: it costs several per cent of a step and changes only the edge of
    clips shorter than their batch.

    features [batch, time, mel, channels] at `stride` frames a step, num_frames int [batch] -> the
    same shape.
    """

    def __init__(self, stride: int, multiple: int, **kwargs):
        super().__init__(**kwargs)
        self.stride, self.multiple = stride, multiple

    def build(self, *_):
        self.built = True

    def call(self, features, num_frames, training=False):
        if training:
            return features
        steps = _ceil_divide(num_frames, self.multiple) * (self.multiple // self.stride)
        mask = tf.sequence_mask(steps, tf.shape(features)[1], features.dtype)
        return features * mask[:, :, None, None]

    def get_config(self):
        return {**super().get_config(), "stride": self.stride, "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="secost_tf")
class SegmentMask(_Float32Layer):
    """Which of the K segments are real: segment logits [batch, K, C], num_frames int [batch] ->
    bool [batch, K].
    """

    def __init__(self, stride: int, kernel: int, **kwargs):
        super().__init__(**kwargs)
        self.stride, self.kernel = stride, kernel

    def build(self, *_):
        self.built = True

    def call(self, segment_logits, num_frames):
        segments = tf.maximum(_ceil_divide(num_frames, self.stride) - self.kernel + 1, 1)
        return tf.sequence_mask(segments, tf.shape(segment_logits)[1])

    def get_config(self):
        return {**super().get_config(), "stride": self.stride, "kernel": self.kernel}
