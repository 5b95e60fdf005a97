"""The record of one clip: its keys, which no other module names, and how it is written and read.

A record is a serialised `tensorflow.Example`. Its message is declared here with protobuf alone, in
a descriptor pool of its own, so that writing and checking records needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from tfrecord_tools.log_mel import LogMelConfig, hann_window
from tfrecord_tools.messages import make_message_classes

if TYPE_CHECKING:
    import tensorflow as tf


LOG_MEL = "log_mel"

LABELS = "labels"

NUM_FRAMES = "num_frames"

VIDEO_ID = "video_id"

START_TIME = "start_time_seconds"

END_TIME = "end_time_seconds"

EVENT_LABELS = "event_labels"

EVENT_ONSETS = "event_onsets"

EVENT_OFFSETS = "event_offsets"

TEACHER_SCORES = "teacher_scores"

FEATURE_DTYPES = ("float16", "float32", "uint8")


@dataclasses.dataclass(frozen=True)
class ClipRecord:
    """One clip as stored.

    Attributes:
        video_id: the clip's id, unique in its split.
        log_mel: [frames, mel_bins] of one of `FEATURE_DTYPES`, as `quantize` gives it.
        labels: indices of the positive classes, ascending.
        start_time_seconds, end_time_seconds: the span of the recording that was cut out.
        events: (class index, onset, offset) of each known event, in seconds from the clip's start.
    """

    video_id: str
    log_mel: np.ndarray
    labels: tuple[int, ...]
    start_time_seconds: float = 0.0
    end_time_seconds: float = 0.0
    events: tuple[tuple[int, float, float], ...] = ()


def feature_range(config: LogMelConfig, feature_dtype: str) -> tuple[float, float] | None:
    """Return the log-mels that uint8 stores as 0 and 255.

    They are that of silence, and more than that of a full-scale tone. What is louder, such as the
    loudest clipped sound, is stored as 255. A step is 0.096 nat at the default settings. None for
    the other types, which store the values themselves.
    """
    if feature_dtype != "uint8":
        return None
    return math.log(config.log_offset), 2.0 * math.log(float(hann_window(config).sum()))


def quantize(
    log_mel: np.ndarray, feature_dtype: str, value_range: tuple[float, float] | None = None
) -> np.ndarray:
    """Return a log-mel, floats of any shape, as it is stored."""
    if value_range is None:
        return log_mel.astype(feature_dtype)
    low, high = value_range
    log_mel = np.asarray(log_mel, np.float32)
    return np.clip(np.rint((log_mel - low) * (255.0 / (high - low))), 0, 255).astype(feature_dtype)


def dequantize(stored: np.ndarray, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """Return the inverse of `quantize`, but for rounding: float32."""
    values = stored.astype(np.float32)
    if value_range is None:
        return values
    low, high = value_range
    return values * np.float32((high - low) / 255.0) + np.float32(low)


# `tensorflow.Example`, as TensorFlow declares it.
_Example = make_message_classes(
    "tensorflow",
    {
        "BytesList": "bytes[] value 1",
        "FloatList": "float[] value 1",
        "Int64List": "int64[] value 1",
        "Feature": "BytesList bytes_list 1, FloatList float_list 2, Int64List int64_list 3",
        "Features": "Feature{} feature 1",
        "Example": "Features features 1",
    },
)["Example"]


def encode(record: ClipRecord) -> bytes:
    """Serialise one clip; the same clip always gives the same bytes.

    Raises:
        ValueError: if the log-mel is not [frames >= 1, mel_bins] of a known dtype, or not finite.
    """
    log_mel = record.log_mel
    if log_mel.ndim != 2 or not log_mel.size or log_mel.dtype.name not in FEATURE_DTYPES:
        raise ValueError(
            f"clip {record.video_id}: log_mel: expected {' or '.join(FEATURE_DTYPES)} of shape "
            "[frames, mel_bins] with at least one frame, "
            f"got {log_mel.dtype} of shape {list(log_mel.shape)}"
        )
    if not np.isfinite(log_mel).all():
        raise ValueError(f"clip {record.video_id}: log_mel has values that are not finite")
    example = _Example()
    feature = example.features.feature
    feature[VIDEO_ID].bytes_list.value.append(record.video_id.encode())
    feature[LOG_MEL].bytes_list.value.append(
        np.ascontiguousarray(log_mel, log_mel.dtype.newbyteorder("<")).tobytes()
    )
    feature[NUM_FRAMES].int64_list.value.append(len(log_mel))
    feature[LABELS].int64_list.value.extend(sorted(record.labels))
    feature[START_TIME].float_list.value.append(record.start_time_seconds)
    feature[END_TIME].float_list.value.append(record.end_time_seconds)
    if record.events:
        labels, onsets, offsets = zip(*record.events, strict=True)
        feature[EVENT_LABELS].int64_list.value.extend(labels)
        feature[EVENT_ONSETS].float_list.value.extend(onsets)
        feature[EVENT_OFFSETS].float_list.value.extend(offsets)
    return example.SerializeToString(deterministic=True)


def decode(data: bytes, feature_dtype: str, mel_bins: int) -> ClipRecord:
    """Return the clip that `encode` serialised, in NumPy.

    Raises:
        ValueError: if the bytes are no such record, or their log-mel does not fit `feature_dtype`
            and `mel_bins`.
    """
    try:
        feature = _Example.FromString(data).features.feature
        video_id = feature[VIDEO_ID].bytes_list.value[0].decode()
        values = np.frombuffer(
            feature[LOG_MEL].bytes_list.value[0], np.dtype(feature_dtype).newbyteorder("<")
        )
        log_mel = values.reshape(feature[NUM_FRAMES].int64_list.value[0], mel_bins)
        events = zip(
            feature[EVENT_LABELS].int64_list.value,
            feature[EVENT_ONSETS].float_list.value,
            feature[EVENT_OFFSETS].float_list.value,
            strict=True,
        )
        return ClipRecord(
            video_id=video_id,
            log_mel=log_mel,
            labels=tuple(feature[LABELS].int64_list.value),
            start_time_seconds=feature[START_TIME].float_list.value[0],
            end_time_seconds=feature[END_TIME].float_list.value[0],
            events=tuple(events),
        )
    except Exception as error:  # protobuf's DecodeError differs between its implementations
        raise ValueError(f"not a clip record ({type(error).__name__}: {error})") from error


def encode_teacher_scores(video_id: str, scores: np.ndarray) -> bytes:
    """Serialise one clip's scores, float [classes] in 0..1, as float32 beside its id."""
    example = _Example()
    example.features.feature[VIDEO_ID].bytes_list.value.append(video_id.encode())
    example.features.feature[TEACHER_SCORES].bytes_list.value.append(
        np.asarray(scores, "<f4").tobytes()
    )
    return example.SerializeToString(deterministic=True)


def decode_teacher_scores(data: bytes) -> tuple[str, np.ndarray]:
    """Return what `encode_teacher_scores` got: the clip's id and scores, float32 [classes]."""
    try:
        feature = _Example.FromString(data).features.feature
        video_id = feature[VIDEO_ID].bytes_list.value[0].decode()
        return video_id, np.frombuffer(feature[TEACHER_SCORES].bytes_list.value[0], "<f4")
    except Exception as error:  # protobuf's DecodeError differs between its implementations
        raise ValueError(f"not a teacher score record ({type(error).__name__}: {error})") from error


def parse(
    records: tf.Tensor,
    feature_dtype: str,
    value_range: tuple[float, float] | None,
    mel_bins: int,
    num_classes: int,
) -> dict[str, tf.Tensor]:
    """Parse a batch of clip records, string [batch], inside a TensorFlow graph.

    A batch at a time, since a call of a graph function costs about as much as parsing a record.
    `value_range` is that of `quantize`.

    Returns:
        video_id string [batch], log_mel float32 [batch, frames, mel_bins] (zeros behind a clip's
        end), num_frames int32 [batch], labels float32 [batch, classes] (multi-hot).
    """
    import tensorflow as tf

    parsed = tf.io.parse_example(
        records,
        {
            VIDEO_ID: tf.io.FixedLenFeature([], tf.string),
            LOG_MEL: tf.io.FixedLenFeature([], tf.string),
            LABELS: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
        },
    )
    dtype = tf.dtypes.as_dtype(feature_dtype)
    num_bytes, frame_bytes = tf.strings.length(parsed[LOG_MEL]), mel_bins * dtype.size
    with tf.control_dependencies([tf.debugging.assert_equal(num_bytes % frame_bytes, 0)]):
        num_frames = num_bytes // frame_bytes
    # TensorFlow 2.15 pads no float16: read as integers of the same size.
    raw = tf.int16 if dtype == tf.float16 else dtype
    stored = tf.io.decode_raw(
        parsed[LOG_MEL], raw, fixed_length=tf.reduce_max(num_frames) * frame_bytes
    )
    values = tf.cast(tf.bitcast(stored, dtype), tf.float32)
    values = tf.reshape(values, [tf.shape(records)[0], -1, mel_bins])
    if value_range is not None:
        low, high = value_range
        heard = tf.sequence_mask(num_frames, tf.shape(values)[1])[:, :, None]
        values = tf.where(heard, values * ((high - low) / 255.0) + low, 0.0)
    labels = tf.math.bincount(
        tf.cast(parsed[LABELS], tf.int32),
        minlength=num_classes,
        maxlength=num_classes,
        axis=-1,
        binary_output=True,
        dtype=tf.float32,
    )
    return {
        VIDEO_ID: parsed[VIDEO_ID],
        LOG_MEL: values,
        NUM_FRAMES: num_frames,
        LABELS: tf.ensure_shape(labels, [None, num_classes]),
    }


def parse_teacher_scores(records: tf.Tensor, num_classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Parse a batch of teacher score records, string [batch], inside a TensorFlow graph.

    Returns:
        video_id string [batch], scores float32 [batch, classes].
    """
    import tensorflow as tf

    parsed = tf.io.parse_example(
        records,
        {
            VIDEO_ID: tf.io.FixedLenFeature([], tf.string),
            TEACHER_SCORES: tf.io.FixedLenFeature([], tf.string),
        },
    )
    scores = tf.io.decode_raw(parsed[TEACHER_SCORES], tf.float32)
    return parsed[VIDEO_ID], tf.ensure_shape(scores, [None, num_classes])
