"""The log-mel spectrogram as a Keras layer, equal to `tfrecord_tools.log_mel` to 1e-4."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfrecord_tools.log_mel import LogMelConfig, hann_window, mel_matrix

_HALF_SCALE = 2048.0  # 2 to the 11 bits of float16's significand


@keras.saving.register_keras_serializable(package="secost_tf")
class LogMel(keras.layers.Layer):
    """Waveforms [batch, samples], float, full scale -1..1 -> log-mels float32 [batch, frames,
    mel_bins].

    Computes in float32 under any precision policy; a waveform shorter than one window gives no
    frame.
    """

    def __init__(self, config: LogMelConfig | dict | None = None, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.config = (
            LogMelConfig.from_dict(config) if isinstance(config, dict) else config or LogMelConfig()
        )

    def call(self, waveforms):
        # A clip at a time: what its steps hand on stays in the processor's cache, and clips go to
        # several cores.
        frames = tf.TensorSpec([None, self.config.mel_bins], tf.float32)
        return tf.map_fn(self._of_clip, tf.cast(waveforms, tf.float32), fn_output_signature=frames)

    def _of_clip(self, waveform):
        """[samples] -> [frames, mel_bins]."""
        config = self.config
        frames = tf.signal.frame(waveform, config.window_samples, config.hop_samples)
        # In float64, as in NumPy: rounding at a loud tone's level would drown the quiet bands.
        # Padded here: `rfft` leaves frames too short where there are none.
        frames = tf.cast(frames, tf.float64) * hann_window(config).astype(np.float64)
        frames = tf.pad(frames, [[0, 0], [0, config.fft_length - config.window_samples]])
        spectrum = tf.signal.rfft(frames)
        parts = tf.bitcast(
            tf.cast(spectrum, tf.complex64), tf.float32
        )  # real and imaginary, side by side
        parts = tf.reshape(parts, [-1, 2 * (config.fft_length // 2 + 1)])
        power = tf.matmul(tf.square(parts), np.repeat(mel_matrix(config), 2, axis=0))
        return tf.math.log(power + config.log_offset)

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        return (
            batch,
            None if samples is None else self.config.num_frames(samples),
            self.config.mel_bins,
        )

    def get_config(self):
        return {**super().get_config(), "config": self.config.to_dict()}


def log_mel_by_products(
    waveforms: tf.Tensor, config: LogMelConfig, dtype: tf.DType, for_float16: bool = False
) -> tf.Tensor:
    """The same by matrix products alone, for runtimes that have no Fourier transform; about three
    times as slow.

    Args:
        waveforms: float32 [batch, samples].
        config: the settings.
        dtype: of the transform. In float32 it is off by up to 1e-3 nat beside loud tones, in
            float64 by 1e-6.
        for_float16: keep the matrices' digits where constants will be stored as float16; doubles
            the work.

    Returns:
        float32 [batch, frames, mel_bins].
    """
    product = _product_of_halves if for_float16 else tf.matmul
    phase = np.outer(np.arange(config.window_samples), np.arange(config.fft_length // 2 + 1))
    phase = phase * (2 * np.pi / config.fft_length)
    window = hann_window(config).astype(np.float64)[:, None]
    transform = np.concatenate([np.cos(phase), np.sin(phase)], axis=1) * window
    frames = tf.signal.frame(waveforms, config.window_samples, config.hop_samples)
    parts = product(
        tf.cast(frames, dtype), transform.astype(dtype.as_numpy_dtype)
    )  # real ones, then imaginary ones
    power = product(tf.cast(tf.square(parts), tf.float32), np.tile(mel_matrix(config), (2, 1)))
    return tf.math.log(power + config.log_offset)


def _product_of_halves(x: tf.Tensor, matrix: np.ndarray) -> tf.Tensor:
    """x @ matrix, with the matrix as a sum of two that float16 holds: 22 bits of each number
    instead of 11.
    """
    high = matrix.astype(np.float16).astype(matrix.dtype)
    low = ((matrix - high) * _HALF_SCALE).astype(np.float16).astype(matrix.dtype)
    return tf.matmul(x, high) + tf.matmul(x, low) * (1.0 / _HALF_SCALE)
