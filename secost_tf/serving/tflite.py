"""A stage as a TFLite model of one clip of a fixed length: float32, or with smaller weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from secost_tf.models import KERAS_3
from secost_tf.runs import StageRecord
from secost_tf.serving.layout import PortableConfig
from secost_tf.serving.portable import (
    Run,
    check_portable,
    fit_frames,
    fit_samples,
    input_spec,
    make_graph,
    probes,
)
from secost_tf.serving.quiet import quietly
from tfrecord_tools import shards
from tfrecord_tools.audio import EXTENSIONS, AudioError, load_audio
from tfrecord_tools.shards import decode, dequantize

T = TypeVar("T")

# Largest differences of scores from the live network's: of int8 on clips that it was calibrated on,
# else on probes.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "int8": 0.5}

_CHECKED_CLIPS = 20  # of those that int8 was calibrated on

_NETWORK_OPS = ("CONV_2D", "FULLY_CONNECTED")  # what has weights


def write_tflite(
    student: keras.Model,
    record: StageRecord,
    config: PortableConfig,
    path: str,
    calibration: Sequence[np.ndarray] = (),
) -> float:
    """Write the model, after it was run in the TFLite interpreter.

    Args:
        student: a `wels_net`.
        record: of its stage.
        config: what can be chosen.
        path: the file, local.
        calibration: for int8, inputs without their batch, of the length of the clips.

    Returns:
        The largest difference between its scores and the live network's.

    Raises:
        ValueError: if the scores differ by more than `TOLERANCES`, or clips to calibrate are
            missing.
    """
    content = convert_student(student, record, config, calibration)
    if config.precision == "int8":
        clips = calibration[:_CHECKED_CLIPS]
    else:
        clips = probes(record, config, clip_samples(record, config))
    run = interpreter(content, config)
    difference = check_portable(run, student, record, config, clips, TOLERANCES[config.precision])
    Path(path).write_bytes(content)
    return difference


def clip_samples(record: StageRecord, config: PortableConfig) -> int:
    """Return the length of the clips that the model takes."""
    rate_hz, window = record.log_mel.sample_rate_hz, record.log_mel.window_samples
    samples = round(config.seconds * rate_hz)
    if samples < window:
        shortest = window / rate_hz
        raise ValueError(
            f"seconds: expected {shortest:g} or more, one window, got {config.seconds:g}"
        )
    return samples


def convert_student(
    student: keras.Model,
    record: StageRecord,
    config: PortableConfig,
    calibration: Sequence[np.ndarray],
) -> bytes:
    """Return the content of the model's file."""
    if config.precision == "int8" and not len(calibration):
        raise ValueError("int8: expected clips to calibrate on, got none")
    spec = input_spec(record, config, clip_samples(record, config))
    graph = make_graph(student, record, config, tf.float32)
    function = tf.function(graph, [spec]).get_concrete_function()
    module = tf.Module()
    module.weights = [variable.value if KERAS_3 else variable for variable in student.variables]

    def converter() -> Any:  # each can be used once
        return tf.lite.TFLiteConverter.from_concrete_functions([function], module)

    with quietly():
        if config.precision == "int8":
            floating = _outside_of_network(converter().convert())
            return _convert_to_int8(converter(), floating, calibration)
        plain = converter()
        if config.precision == "float16":
            plain.optimizations = [tf.lite.Optimize.DEFAULT]
            plain.target_spec.supported_types = [tf.float16]
        return plain.convert()


def _convert_to_int8(
    converter: Any, floating: list[str], calibration: Sequence[np.ndarray]
) -> bytes:
    """Quantise what has weights in the network.

    The log-mel, whose power spans fourteen decades, and P stay float32.
    """

    def inputs() -> Iterator[list[np.ndarray]]:
        return ([clip[None].astype(np.float32)] for clip in calibration)

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = inputs
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=floating)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=lambda: iter(()), debug_options=options
    )
    return debugger.get_nondebug_quantized_model()


def _outside_of_network(content: bytes) -> list[str]:
    """Return the tensors before the first convolution and behind the last product of a model."""
    interpreter = tf.lite.Interpreter(model_content=content)
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()
    kinds = [operation["op_name"] for operation in operations]
    first = kinds.index("CONV_2D")
    last = max(index for index, kind in enumerate(kinds) if kind in _NETWORK_OPS)
    outside = [*operations[:first], *operations[last + 1 :]]
    return [names[output] for operation in outside for output in operation["outputs"]]


def interpreter(content: bytes, config: PortableConfig) -> Run:
    """Return a function that runs a model in TFLite: input with its batch of one -> outputs."""
    with quietly():
        loaded = tf.lite.Interpreter(model_content=content)
        loaded.allocate_tensors()
    runner = loaded.get_signature_runner()
    return lambda value: runner(**{config.model_input: value.astype(np.float32)})


def calibration_clips(
    record: StageRecord, config: PortableConfig, folder: str | None
) -> list[np.ndarray]:
    """Return inputs to calibrate int8 on, without their batch; none for another precision.

    Args:
        record: of the stage.
        config: says what the input is, and how many.
        folder: of recordings, for a model of waveforms; else of converted splits, by default those
            of the training.
    """
    if config.precision != "int8":
        return []
    if config.model_input == "log_mel":
        return calibration_log_mels(record, folder or record.data_dir, config)
    if not folder:
        raise ValueError(
            "int8: a model of waveforms is calibrated on recordings, and the training data hold "
            "log-mels: name a folder of recordings with --calibration_dir, or take "
            "--model_input=log_mel"
        )
    return calibration_waveforms(record, folder, config)


def calibration_log_mels(
    record: StageRecord, data_dir: str, config: PortableConfig
) -> list[np.ndarray]:
    """Return log-mels [frames, mel_bins] of training clips, as long as the model's clips.

    They are spread over the split.
    """
    info = shards.read_dataset_info(data_dir, "train")
    if difference := record.log_mel.differences(info.log_mel):
        raise ValueError(f"{data_dir} has another log-mel than the model: {difference}")
    frames = record.log_mel.num_frames(clip_samples(record, config))
    files = list(zip(info.shard_paths(data_dir), info.shards, strict=True))
    files = _spread(files, config.calibration_clips)
    share = math.ceil(config.calibration_clips / len(files))  # of each, which is read no further
    clips = []
    for path, shard in files:
        step = max(1, shard.clips // share)
        records = shards.read_records(path, info.compression)
        for data in itertools.islice(records, 0, step * (share - 1) + 1, step):
            clip = decode(data, info.feature_dtype, info.log_mel.mel_bins).log_mel
            clips.append(fit_frames(dequantize(clip, info.feature_range), frames, record.log_mel))
    return clips[: config.calibration_clips]


def _spread(items: list[T], count: int) -> list[T]:
    """Return about `count` of the items, or a few more, from all over the list."""
    return items[:: max(1, len(items) // count)]


def calibration_waveforms(
    record: StageRecord, folder: str, config: PortableConfig
) -> list[np.ndarray]:
    """Return waveforms [samples] of recordings below a folder, as long as the model's clips.

    They are spread over the recordings by name.
    """
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not paths:
        raise ValueError(f"{folder}: no recordings to calibrate on ({', '.join(EXTENSIONS)})")
    samples = clip_samples(record, config)
    clips = []
    for path in _spread(paths, config.calibration_clips)[: config.calibration_clips]:
        try:
            sound = load_audio(str(path), record.log_mel.sample_rate_hz).waveform
        except AudioError as error:
            raise ValueError(f"{path}: {error}") from error
        clips.append(fit_samples(sound, samples))
    return clips
