"""The log-mel spectrogram as a Keras layer, equal to `tfrecord_tools.log_mel` to 1e-4."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfrecord_tools.log_mel import LogMelConfig, hann_window, mel_matrix


@keras.saving.register_keras_serializable(package="secost_tf")
class LogMel(keras.layers.Layer):
    """Waveforms [batch, samples], float, full scale -1..1 -> log-mels float32 [batch, frames, mel_bins].

    Computes in float32 under any precision policy; a waveform shorter than one window gives no frame.
    """

    def __init__(self, config: LogMelConfig | dict | None = None, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.config = LogMelConfig.from_dict(config) if isinstance(config, dict) else config or LogMelConfig()

    def call(self, waveforms):
        config = self.config
        frames = tf.signal.frame(tf.cast(waveforms, tf.float32), config.window_samples, config.hop_samples)
        # Padded here: `rfft` leaves frames too short where there are none. In float64: rounding at a loud tone's level
        # would drown the quiet bands.
        padding = [[0, 0], [0, 0], [0, config.fft_length - config.window_samples]]
        spectrum = tf.signal.rfft(tf.cast(tf.pad(frames * hann_window(config), padding), tf.float64))
        power = tf.cast(tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)), tf.float32)
        return tf.math.log(tf.matmul(power, mel_matrix(config)) + config.log_offset)

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        return (batch, None if samples is None else self.config.num_frames(samples), self.config.mel_bins)

    def get_config(self):
        return {**super().get_config(), "config": self.config.to_dict()}
