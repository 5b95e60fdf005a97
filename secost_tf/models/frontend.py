"""The log-mel spectrogram as a Keras layer, equal to `tfrecord_tools.log_mel` to 1e-4."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecord_tools.log_mel import LogMelConfig, hann_window, mel_matrix

_HALF_SCALE = 2048.0  # 2 to the 11 bits of float16's significand


@keras.saving.register_keras_serializable(package="secost_tf")
class LogMel(keras.layers.Layer):
    """Compute log-mel spectrograms of waveforms, as the converter computes those of the shards.

    It computes in float32 under any precision policy, and is equal to
    `tfrecord_tools.log_mel.log_mel` to 1e-4.

    Source: the Hann window, the power spectrum and HTK's mel scale, as in VGGish (Hershey et al.,
    ICASSP 2017, arXiv:1609.09430); every number is in `LogMelConfig`.

    Args:
        config: the settings, a `LogMelConfig` or a dict of one; None: the defaults (16 kHz, windows
            of 25 ms every 10 ms, 64 mel bins).
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        waveforms: float [batch, samples], full scale −1..1, at the settings' sample rate.

    Returns:
        Log-mels, float32 [batch, frames, mel_bins], in nat. A waveform shorter than one window
        gives no frame.

    Raises:
        ValueError: if `config` is none of these.

    Example:
        >>> import numpy as np
        >>> from secost_tf import LogMel
        >>> seconds = np.arange(16000) / 16000
        >>> tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
        >>> log_mels = LogMel()(tone[None])
        >>> log_mels.shape.as_list()
        [1, 98, 64]
    """

    def __init__(self, config: LogMelConfig | dict | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if isinstance(config, dict):
            config = LogMelConfig.from_dict(config)
        if not isinstance(config, LogMelConfig | None):
            raise ValueError(
                f"config: expected a LogMelConfig, a dict of one or None, got {config!r}"
            )
        self.config = config or LogMelConfig()

    def call(self, waveforms: tf.Tensor) -> tf.Tensor:
        """Return the log-mels of the waveforms."""
        # A clip at a time: what its steps hand on stays in the processor's cache, and clips go to
        # several cores.
        frames = tf.TensorSpec([None, self.config.mel_bins], tf.float32)
        return tf.map_fn(self._of_clip, tf.cast(waveforms, tf.float32), fn_output_signature=frames)

    def _of_clip(self, waveform: tf.Tensor) -> tf.Tensor:
        """Return the log-mel [frames, mel_bins] of one waveform [samples]."""
        config = self.config
        frames = tf.signal.frame(waveform, config.window_samples, config.hop_samples)
        # In float64, as in NumPy: rounding at a loud tone's level would drown the quiet bands.
        # Padded here: `rfft` leaves frames too short where there are none.
        frames = tf.cast(frames, tf.float64) * hann_window(config).astype(np.float64)
        frames = tf.pad(frames, [[0, 0], [0, config.fft_length - config.window_samples]])
        spectrum = tf.signal.rfft(frames)
        # Real and imaginary parts, side by side.
        parts = tf.bitcast(tf.cast(spectrum, tf.complex64), tf.float32)
        parts = tf.reshape(parts, [-1, 2 * (config.fft_length // 2 + 1)])
        power = tf.matmul(tf.square(parts), np.repeat(mel_matrix(config), 2, axis=0))
        return tf.math.log(power + config.log_offset)

    def compute_output_shape(
        self, input_shape: tuple[int | None, int | None]
    ) -> tuple[int | None, int | None, int]:
        """Return the shape of the log-mels for that of the waveforms; None: not known."""
        batch, samples = input_shape
        frames = None if samples is None else self.config.num_frames(samples)
        return batch, frames, self.config.mel_bins

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same layer of."""
        return {**super().get_config(), "config": self.config.to_dict()}


def log_mel_by_products(
    waveforms: tf.Tensor, config: LogMelConfig, dtype: tf.DType, for_float16: bool = False
) -> tf.Tensor:
    """Compute what `LogMel` does by matrix products alone.

    It is for runtimes that have no Fourier transform, and about three times as slow.

    Args:
        waveforms: float32 [batch, samples], full scale −1..1.
        config: the settings.
        dtype: of the transform. In float32 it is off by up to 1e-3 nat beside loud tones, in
            float64 by 1e-6.
        for_float16: keep the matrices' digits where constants will be stored as float16; doubles
            the work.

    Returns:
        float32 [batch, frames, mel_bins].
    """
    product = _product_of_halves if for_float16 else tf.matmul
    turns = np.outer(np.arange(config.window_samples), np.arange(config.fft_length // 2 + 1))
    phase = turns * (2 * np.pi / config.fft_length)
    window = hann_window(config).astype(np.float64)[:, None]
    transform = np.concatenate([np.cos(phase), np.sin(phase)], axis=1) * window
    frames = tf.signal.frame(waveforms, config.window_samples, config.hop_samples)
    # Real parts, then imaginary ones.
    parts = product(tf.cast(frames, dtype), transform.astype(dtype.as_numpy_dtype))
    power = product(tf.cast(tf.square(parts), tf.float32), np.tile(mel_matrix(config), (2, 1)))
    return tf.math.log(power + config.log_offset)


def _product_of_halves(x: tf.Tensor, matrix: np.ndarray) -> tf.Tensor:
    """Return x @ matrix, with the matrix as a sum of two that float16 holds.

    So 22 bits of each number are kept instead of 11.
    """
    high = matrix.astype(np.float16).astype(matrix.dtype)
    low = ((matrix - high) * _HALF_SCALE).astype(np.float16).astype(matrix.dtype)
    return tf.matmul(x, high) + tf.matmul(x, low) * (1.0 / _HALF_SCALE)
