"""The graph of TFLite and ONNX exports, which holds no operation that those runtimes lack."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from secost_tf.models import log_mel_by_products
from secost_tf.runs import StageRecord
from secost_tf.serving.checks import LiveModel, compare, probe_sounds
from secost_tf.serving.layout import PortableConfig
from tfrecord_tools.log_mel import LogMelConfig, log_mel

# An input [batch, samples] or [batch, frames, mel_bins] -> outputs by name.
Run = Callable[[np.ndarray], dict[str, np.ndarray]]


def make_graph(
    student: keras.Model, record: StageRecord, config: PortableConfig, dtype: tf.DType
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Make a function of equally long clips: scores [batch, C], segment_scores [batch, K, C].

    Args:
        student: a `wels_net`.
        record: of its stage.
        config: says what the input is.
        dtype: of the log-mel's transform.
    """

    def of_log_mel(log_mels: tf.Tensor) -> dict[str, tf.Tensor]:
        num_frames = tf.fill([tf.shape(log_mels)[0]], tf.shape(log_mels)[1])
        outputs = student({"log_mel": log_mels, "num_frames": num_frames}, training=False)
        return {
            "scores": tf.sigmoid(outputs["logits"]),
            "segment_scores": tf.sigmoid(outputs["segment_logits"]),
        }

    if config.model_input == "log_mel":
        return of_log_mel
    for_float16 = config.precision == "float16"
    return lambda waveform: of_log_mel(
        log_mel_by_products(waveform, record.log_mel, dtype, for_float16)
    )


def input_spec(record: StageRecord, config: PortableConfig, samples: int | None) -> tf.TensorSpec:
    """Return the input: of one clip of `samples`, or (None) of any batch and length."""
    batch = None if samples is None else 1
    if config.model_input == "waveform":
        return tf.TensorSpec([batch, samples], tf.float32, "waveform")
    frames = None if samples is None else record.log_mel.num_frames(samples)
    return tf.TensorSpec([batch, frames, record.log_mel.mel_bins], tf.float32, "log_mel")


def fit_samples(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Return a waveform cut to a length, or followed by silence."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


def fit_frames(clip: np.ndarray, frames: int, config: LogMelConfig) -> np.ndarray:
    """Return a log-mel [frames, mel_bins], float32, cut to a length, or followed by silence."""
    missing = ((0, max(0, frames - len(clip))), (0, 0))
    silence = np.log(np.float32(config.log_offset))
    return np.pad(clip[:frames].astype(np.float32), missing, constant_values=silence)


def probes(record: StageRecord, config: PortableConfig, samples: int | None) -> list[np.ndarray]:
    """Return silence, noise, a sine and a soundscape, as inputs without their batch.

    They are of `samples`, or (None) of their own length.
    """
    sounds = probe_sounds(record.log_mel.sample_rate_hz)
    if samples is not None:
        sounds = [fit_samples(sound, samples) for sound in sounds]
    if config.model_input == "log_mel":
        sounds = [log_mel(sound, record.log_mel) for sound in sounds]
    return sounds


def check_portable(
    run: Run,
    student: keras.Model,
    record: StageRecord,
    config: PortableConfig,
    clips: Sequence[np.ndarray],
    tolerance: float,
) -> float:
    """Compare a runtime's scores with the live network's.

    Args:
        run: the model in its runtime.
        student, record, config: what it was made of.
        clips: inputs without their batch.
        tolerance: largest difference between scores that is accepted.

    Returns:
        The largest difference.

    Raises:
        ValueError: if it is larger than accepted, or is no number.
    """
    live, worst = LiveModel(student, record), 0.0
    for clip in clips:
        expected = live({config.model_input: clip[None]})
        expected = {name: expected[name] for name in ("scores", "segment_scores")}
        worst = max(worst, compare("the exported model", run(clip[None]), expected, tolerance))
    return worst


def describe_signature(
    record: StageRecord, config: PortableConfig, samples: int | None
) -> dict[str, dict[str, dict[str, str]]]:
    """Return the model's input and outputs, as `export.json` has them."""
    network, spec = record.config.network, input_spec(record, config, samples)
    batch = spec.shape[0]
    segments = None if samples is None else network.num_segments(record.log_mel.num_frames(samples))

    def describe(*sizes: int | None) -> str:
        return f"float32 [{', '.join('?' if size is None else str(size) for size in sizes)}]"

    outputs = {
        "scores": describe(batch, network.num_classes),
        "segment_scores": describe(batch, segments, network.num_classes),
    }
    inputs = {config.model_input: describe(*spec.shape)}
    return {"serving_default": {"inputs": inputs, "outputs": outputs}}
