"""What the TFLite and ONNX exports share: the graph, which holds no operation that those runtimes
lack, and its check.
"""

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
    """A function of a batch of equally long clips: scores [batch, C], segment_scores [batch, K, C].

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


def fit_samples(waveform: np.ndarray, samples: int) -> np.ndarray:
    """A waveform cut to a length, or followed by silence."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


def fit_frames(clip: np.ndarray, frames: int, config: LogMelConfig) -> np.ndarray:
    """A log-mel [frames, mel_bins], float32, cut to a length, or followed by silence."""
    missing = ((0, max(0, frames - len(clip))), (0, 0))
    silence = np.log(np.float32(config.log_offset))
    return np.pad(clip[:frames].astype(np.float32), missing, constant_values=silence)


def probes(record: StageRecord, config: PortableConfig, samples: int | None) -> list[np.ndarray]:
    """Inputs without their batch: silence, noise, a sine and a soundscape, of `samples` or (None)
    of their own length.
    """
    sounds = probe_sounds(record.log_mel.sample_rate_hz)
    sounds = sounds if samples is None else [fit_samples(sound, samples) for sound in sounds]
    return (
        sounds
        if config.model_input == "waveform"
        else [log_mel(sound, record.log_mel) for sound in sounds]
    )


def check_portable(
    run: Run,
    student: keras.Model,
    record: StageRecord,
    config: PortableConfig,
    clips: Sequence[np.ndarray],
    tolerance: float,
) -> float:
    """Compares a runtime's scores with the live network's.

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
    """The model's input and outputs, as `export.json` has them."""
    log_mel_config, network = record.log_mel, record.config.network
    batch, length, frames, segments = "?", "?", "?", "?"
    if samples is not None:
        number = log_mel_config.num_frames(samples)
        batch, length, frames, segments = (
            "1",
            str(samples),
            str(number),
            str(network.num_segments(number)),
        )
    shape = (
        f"{batch}, {length}"
        if config.model_input == "waveform"
        else f"{batch}, {frames}, {log_mel_config.mel_bins}"
    )
    outputs = {
        "scores": f"float32 [{batch}, {network.num_classes}]",
        "segment_scores": f"float32 [{batch}, {segments}, {network.num_classes}]",
    }
    return {
        "serving_default": {
            "inputs": {config.model_input: f"float32 [{shape}]"},
            "outputs": outputs,
        }
    }
