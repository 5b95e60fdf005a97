"""Layers of WELS-Net that standardise the input and keep its padding out of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def _ceil_divide(number: tf.Tensor, divisor: int) -> tf.Tensor:
    """Return the quotient rounded up, for numbers from 0 on.

    Negative ones, which runtimes of other formats round otherwise, do not occur on the way.
    """
    return (number + (divisor - 1)) // divisor


class Float32Layer(keras.layers.Layer):
    """A layer that no precision policy changes.

    Its weights stay float32 and its inputs keep their own type.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same layer of."""
        config: dict[str, Any] = super().get_config()
        config.pop("dtype", None)
        return config


@keras.saving.register_keras_serializable(package="secost_tf")
class Standardize(Float32Layer):
    """Standardise log-mels: (log-mel − mean) / standard deviation per mel bin; then pad the end.

    What lies behind a clip's own frames is zeroed. Mean and variance are weights, 0 and 1 at first,
    and travel with the network: `adapt` takes them from data, `set_statistics` as given.

    Args:
        multiple: the number of frames is padded to a multiple of this, ...
        minimum: ... and to this many at least.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        log_mels: float [batch, frames, mel_bins].
        num_frames: int [batch], each clip's own number of frames.

    Returns:
        float32 [batch, padded frames, mel_bins, 1].

    Example:
        >>> import tensorflow as tf
        >>> layer = Standardize(multiple=4, minimum=4)
        >>> layer.adapt({"log_mel": [[[1.0], [3.0], [99.0]]], "num_frames": [2]})  # 99: padding
        >>> standardised = layer(tf.constant([[[1.0], [3.0]]]), tf.constant([2]))
        >>> print(standardised[0, :, 0, 0].numpy().round(3))
        [-1.  1.  0.  0.]
    """

    def __init__(self, multiple: int, minimum: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiple, self.minimum = multiple, minimum

    def build(self, input_shape: Any, *_: Any) -> None:
        """Make the weights, float32 [mel_bins]."""
        shape = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.variance = self.add_weight(
            name="variance", shape=shape, initializer="ones", trainable=False
        )
        self.built = True

    def adapt(self, data: Any) -> None:
        """Take the mean and variance of each mel bin from data, over all clips' own frames.

        Call it before training: `student.get_layer("standardize").adapt(inputs)`.

        Args:
            data: the inputs of `wels_net`, a dict of `log_mel` [clips, frames, mel_bins] and
                `num_frames` [clips]; or batches of them, alone or with targets behind them, as a
                `tf.data.Dataset` or another iterable gives them.

        Raises:
            ValueError: if the data are no such inputs, or without a frame.
        """
        count, total, total_square = 0, np.zeros([]), np.zeros([])
        for batch in [data] if isinstance(data, Mapping) else data:
            frames = _own_frames(batch)
            count += len(frames)
            total = total + frames.sum(axis=0)
            total_square = total_square + np.square(frames).sum(axis=0)
        if not count:
            raise ValueError(
                "data: expected clips with frames to take a mean and variance of, got no frame"
            )
        mean = total / count
        if not self.built:
            self.build((None, None, len(mean)))
        self.set_statistics(mean, np.maximum(total_square / count - np.square(mean), 0.0))

    def set_statistics(
        self, mean: Sequence[float] | np.ndarray, variance: Sequence[float] | np.ndarray
    ) -> None:
        """Set the mean and variance of each mel bin, [mel_bins]."""
        self.mean.assign(np.asarray(mean, np.float32))
        self.variance.assign(np.asarray(variance, np.float32))

    def has_statistics(self) -> bool:
        """Tell if the mean and variance are other than the 0 and 1 of a new layer."""
        weights = (self.mean, self.variance)
        mean, variance = (tf.convert_to_tensor(weight).numpy() for weight in weights)
        return bool(np.any(mean != 0) or np.any(variance != 1))

    def call(self, log_mels: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Return the standardised log-mels, [batch, padded frames, mel_bins, 1]."""
        scale = tf.math.rsqrt(tf.convert_to_tensor(self.variance) + 1e-6)
        x = (tf.cast(log_mels, tf.float32) - self.mean) * scale
        frames = tf.shape(x)[1]
        x = tf.where(tf.sequence_mask(num_frames, frames)[:, :, None], x, 0.0)
        padded = tf.maximum(_ceil_divide(frames, self.multiple) * self.multiple, self.minimum)
        return tf.pad(x, [[0, 0], [0, padded - frames], [0, 0]])[..., None]

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same layer of, but for the weights."""
        return {**super().get_config(), "multiple": self.multiple, "minimum": self.minimum}


def _own_frames(batch: Any) -> np.ndarray:
    """Return the frames of a batch's clips without their padding, float64 [frames, mel_bins]."""
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(inputs, Mapping) or not {"log_mel", "num_frames"} <= set(inputs):
        is_dict = isinstance(inputs, Mapping)
        came = f"a dict of {sorted(inputs)}" if is_dict else type(inputs).__name__
        raise ValueError(
            f"data: expected a dict of `log_mel` and `num_frames`, or batches of it, got {came}"
        )
    log_mel = np.asarray(inputs["log_mel"], np.float64)
    return log_mel[np.arange(log_mel.shape[1]) < np.asarray(inputs["num_frames"])[:, None]]


@keras.saving.register_keras_serializable(package="secost_tf")
class ZeroPadding(Float32Layer):
    """Zero what lies behind each clip's own end, at inference.

    So a clip's scores do not depend on its batch. A clip's end is its number of frames rounded up
    to `multiple`, as if it had come alone. In training this is left out: it costs several per cent
    of a step and changes only the edge of clips shorter than their batch.

    Args:
        stride: frames in a step of the features.
        multiple: of frames, that every clip is padded to.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        features: [batch, time, mel, channels].
        num_frames: int [batch], each clip's own number of frames.

    Returns:
        The same shape and type as the features.
    """

    def __init__(self, stride: int, multiple: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride, self.multiple = stride, multiple

    def build(self, *_: Any) -> None:
        """Make no weights."""
        self.built = True

    def call(
        self, features: tf.Tensor, num_frames: tf.Tensor, training: bool | None = False
    ) -> tf.Tensor:
        """Return the features with zeros behind each clip's end."""
        if training:
            return features
        steps = _ceil_divide(num_frames, self.multiple) * (self.multiple // self.stride)
        mask = tf.sequence_mask(steps, tf.shape(features)[1], features.dtype)
        return features * mask[:, :, None, None]

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same layer of."""
        return {**super().get_config(), "stride": self.stride, "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="secost_tf")
class SegmentMask(Float32Layer):
    """Tell which of the K segments are real, and not of the batch's padding.

    Args:
        stride: frames from one segment to the next.
        kernel: strides in a segment's window.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        segment_logits: [batch, K, classes].
        num_frames: int [batch], each clip's own number of frames.

    Returns:
        bool [batch, K].
    """

    def __init__(self, stride: int, kernel: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride, self.kernel = stride, kernel

    def build(self, *_: Any) -> None:
        """Make no weights."""
        self.built = True

    def call(self, segment_logits: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Return the mask."""
        segments = tf.maximum(_ceil_divide(num_frames, self.stride) - self.kernel + 1, 1)
        return tf.sequence_mask(segments, tf.shape(segment_logits)[1])

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same layer of."""
        return {**super().get_config(), "stride": self.stride, "kernel": self.kernel}
