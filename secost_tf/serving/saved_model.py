"""The model that is served: a student behind its log-mel, as the signatures of a SavedModel.

The graph holds TensorFlow's own operations alone. Bad input is an error that says what was
expected: checks are in the graph, since nothing else looks at a request.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from secost_tf.models import KERAS_3, LogMel, SegmentMask, every_frame
from secost_tf.runs import StageRecord
from secost_tf.serving import layout, messages
from secost_tf.serving.layout import EVERY_FRAME, LOG_MEL, ServingConfig
from secost_tf.serving.quiet import quietly
from secost_tf.serving.waveforms import bytes_array, encode_wav
from tfrecord_tools.log_mel import LogMelConfig

# The signatures besides `layout.LOG_MEL` and `layout.EVERY_FRAME`.
WAVEFORM, PADDED, WAV_BYTES, TOP_K = "serving_default", "padded", "wav_bytes", "top_k"


def save_model(
    student: keras.Model, record: StageRecord, config: ServingConfig, name: str, folder: str
) -> None:
    """Write a SavedModel with its class list and warm-up requests into a local folder.

    Args:
        student: a `wels_net`.
        record: of its stage.
        config: what can be chosen.
        name: of the model, as the server knows it.
        folder: local and empty.
    """
    with tempfile.TemporaryDirectory() as work:
        classes_csv = os.path.join(work, layout.CLASSES_CSV)
        record.class_map.write(classes_csv)
        model = ServedModel(student, record, config, classes_csv)
        with quietly():
            tf.saved_model.save(model, folder, signatures=model.signatures())
    layout.write_warmup(folder, warmup_requests(name, record.log_mel))


def warmup_requests(name: str, log_mel: LogMelConfig) -> list[bytes]:
    """Return a request for each signature, of a clip of ten silent seconds, to warm a server up."""
    samples = 10 * log_mel.sample_rate_hz
    waveform = messages.repeated_tensor(0.0, (1, samples))
    shape = (1, log_mel.num_frames(samples), log_mel.mel_bins)
    log_mels = messages.repeated_tensor(math.log(log_mel.log_offset), shape)
    second = encode_wav(np.zeros(log_mel.sample_rate_hz, np.float32), log_mel.sample_rate_hz)
    inputs = {
        WAVEFORM: {"waveform": waveform},
        PADDED: {"waveform": waveform, "lengths": messages.tensor(np.array([samples], np.int32))},
        WAV_BYTES: {"wav_bytes": messages.tensor(bytes_array([second]))},
        LOG_MEL: {"log_mel": log_mels},
        EVERY_FRAME: {"log_mel": log_mels},
        TOP_K: {"waveform": waveform},
    }
    return [messages.prediction_log(name, *request) for request in inputs.items()]


class ServedModel(tf.Module):
    """Signatures over one student; attributes of their names are functions, as after loading.

    All inputs and outputs have the batch first, as TensorFlow Serving's row format and its batching
    need it:

        serving_default   waveform float32 [batch, samples], full scale -1..1
        padded            waveform, and lengths int32 [batch] in samples: clips of different
                          lengths, padded at their ends
        wav_bytes         wav_bytes string [batch]: 16-bit wav files, mono or stereo, of any lengths
        log_mel           log_mel float32 [batch, frames, mel_bins]
            -> scores [batch, C], segment_scores [batch, K, C], segment_onsets [batch, K] in seconds
        top_k             waveform -> labels string [batch, k], scores [batch, k], the highest first
        every_frame       log_mel -> segment_scores [batch, K * stride, C], segment_onsets
                          [batch, K * stride] in seconds: of the segments that begin with every
                          frame, not every stride (`secost_tf.models.frame_segments`)

    K is that of the longest clip; behind a clip's own segments, segment scores are 0.

    Args:
        student: a `wels_net`; not changed, and not saved as a Keras model.
        record: of its stage.
        config: limits.
        classes_csv: file of the classes, which becomes an asset.
    """

    def __init__(
        self, student: keras.Model, record: StageRecord, config: ServingConfig, classes_csv: str
    ):
        super().__init__(name="secost")
        self.classes = tf.saved_model.Asset(classes_csv)
        # Held by name: with Keras 3, variables that only functions know of are lost to TensorFlow's
        # C++ loader. The student itself is not an attribute, or Keras 2 would save it once more, in
        # its own way.
        self.weights = [variable.value if KERAS_3 else variable for variable in student.variables]
        graph = _Graph(student, record, config)
        waveform = tf.TensorSpec([None, None], tf.float32, "waveform")
        lengths = tf.TensorSpec([None], tf.int32, "lengths")
        log_mels = tf.TensorSpec([None, None, record.log_mel.mel_bins], tf.float32, "log_mel")
        wavs = tf.TensorSpec([None], tf.string, "wav_bytes")
        self.serving_default = tf.function(graph.of_waveforms, [waveform])
        self.padded = tf.function(graph.of_padded, [waveform, lengths])
        self.wav_bytes = tf.function(graph.of_wavs, [wavs])
        self.log_mel = tf.function(graph.of_log_mels, [log_mels])
        self.top_k = tf.function(graph.of_top_k, [waveform])
        self.every_frame = tf.function(graph.of_every_frame, [log_mels])

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Return the functions that are saved, by name."""
        names = (WAVEFORM, PADDED, WAV_BYTES, LOG_MEL, TOP_K, EVERY_FRAME)
        return {name: getattr(self, name).get_concrete_function() for name in names}

    def __call__(self, signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Answer one request, as the saved model will."""
        return getattr(self, signature)(**inputs)


class _Graph:
    """The computation of the signatures."""

    def __init__(self, student: keras.Model, record: StageRecord, config: ServingConfig):
        self.student, self.config = student, config
        self.class_names = record.class_map.display_names
        self.every_frame = every_frame(student)
        self.network, self.log_mel = network, log_mel = record.config.network, record.log_mel
        waveform = tf.TensorSpec([None, None], tf.float32)
        log_mels = tf.TensorSpec([None, None, log_mel.mel_bins], tf.float32)
        # Functions of their own, so that they are in the graph once and not once a signature.
        self.log_mels = tf.function(LogMel(log_mel, name="log_mel"), [waveform])
        self.scores = tf.function(self._scores, [log_mels, tf.TensorSpec([None], tf.int32)])
        self.segment_mask = SegmentMask(network.stride_frames, network.embedding_frames)
        self.most_samples = round(config.max_seconds * log_mel.sample_rate_hz)

    def of_waveforms(self, waveform):
        waveform = self._checked(waveform)
        return self._scores_of_equal(self.log_mels(waveform))

    def of_padded(self, waveform, lengths):
        waveform = self._checked(waveform)
        size, samples = tf.unstack(tf.shape(waveform))
        lengths = tf.ensure_shape(lengths, [None])
        count, shortest = tf.shape(lengths)[0], self.log_mel.window_samples
        expected = "lengths: expected one for each of"
        lengths = _check(lengths, (count == size, expected, size, "clips, got", count))
        in_range = tf.reduce_all((lengths >= shortest) & (lengths <= samples))
        expected = f"lengths: expected {shortest} samples or more each, and at most the"
        lengths = _check(lengths, (in_range, expected, samples, "of the waveforms, got", lengths))
        return self.scores(self.log_mels(waveform), self._num_frames(lengths))

    def of_wavs(self, wav_bytes):
        wavs = tf.ensure_shape(wav_bytes, [None])
        wavs = _check(wavs, (tf.size(wavs) > 0, "wav_bytes: expected one file or more, got none"))
        pairs = tf.range(tf.size(wavs)), wavs
        spec = tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0)
        clips = tf.map_fn(lambda pair: self._decode(*pair), pairs, fn_output_signature=spec)
        waveform = self._checked(clips.to_tensor(), "wav_bytes")
        lengths = tf.cast(clips.row_lengths(), tf.int32)
        return self.scores(self.log_mels(waveform), self._num_frames(lengths))

    def of_log_mels(self, log_mel):
        return self._scores_of_equal(self._checked_log_mel(log_mel))

    def of_every_frame(self, log_mel):
        log_mel = self._checked_log_mel(log_mel)
        inputs = {"log_mel": log_mel, "num_frames": _equal_lengths(log_mel)}
        scores = tf.sigmoid(self.every_frame(inputs, training=False))
        onsets = self._onsets(tf.shape(scores)[:2], hop_frames=1)
        return {"segment_scores": scores, "segment_onsets": onsets}

    def of_top_k(self, waveform):
        scores = self.of_waveforms(waveform)["scores"]
        best = tf.math.top_k(scores, min(self.config.top_k, len(self.class_names)))
        labels = tf.gather(tf.constant(self.class_names), best.indices)
        return {"labels": labels, "scores": best.values}

    def _scores_of_equal(self, log_mels):
        """Return the scores of clips that are equally long."""
        return self.scores(log_mels, _equal_lengths(log_mels))

    def _scores(self, log_mels, num_frames):
        """Return clip and segment scores."""
        outputs = self.student({"log_mel": log_mels, "num_frames": num_frames}, training=False)
        segment_scores = tf.sigmoid(outputs["segment_logits"])
        mask = self.segment_mask(segment_scores, num_frames)
        return {
            "scores": tf.sigmoid(outputs["logits"]),
            "segment_scores": tf.where(mask[..., None], segment_scores, 0.0),
            "segment_onsets": self._onsets(tf.shape(mask), self.network.stride_frames),
        }

    def _onsets(self, shape, hop_frames):
        """Return the onsets of segments, float32 seconds [batch, segments], which is `shape`."""
        samples = tf.cast(tf.range(shape[1]) * (hop_frames * self.log_mel.hop_samples), tf.float64)
        onsets = tf.cast(samples / self.log_mel.sample_rate_hz, tf.float32)
        return tf.broadcast_to(onsets, shape)

    def _num_frames(self, lengths):
        return 1 + (lengths - self.log_mel.window_samples) // self.log_mel.hop_samples

    def _decode(self, index, wav):
        """Return the mean of a wav file's channels, float32 [samples]."""
        audio, rate = tf.audio.decode_wav(wav, name="wav_bytes")
        expected = self.log_mel.sample_rate_hz
        told = f"wav_bytes: expected a sample rate of {expected} Hz (resample it first), got"
        audio = _check(audio, (rate == expected, told, rate, "in clip", index))
        samples = tf.reduce_mean(audio, 1)
        return _check(samples, self._long_enough(tf.size(samples), "wav_bytes"))

    def _checked(self, waveform, name="waveform"):
        waveform = tf.ensure_shape(waveform, [None, None])
        size, samples = tf.unstack(tf.shape(waveform, tf.int64))
        most, rate_hz = self.config.max_seconds, self.log_mel.sample_rate_hz
        told = f"{name}: expected at most {most:g} seconds of sound in a request, got"
        return _check(
            waveform,
            (size > 0, f"{name}: expected one clip or more, got none"),
            self._long_enough(samples, name),
            (size * samples <= self.most_samples, told, size * samples // rate_hz),
            _finite(waveform, name),
        )

    def _checked_log_mel(self, log_mel):
        log_mel = tf.ensure_shape(log_mel, [None, None, self.log_mel.mel_bins])
        size, frames, _ = tf.unstack(tf.shape(log_mel, tf.int64))
        most = self.log_mel.num_frames(self.most_samples)
        told = f"log_mel: expected at most {most} frames in a request, got"
        return _check(
            log_mel,
            (size > 0, "log_mel: expected one clip or more, got none"),
            (frames > 0, "log_mel: expected one frame or more, got none"),
            (size * frames <= most, told, size * frames),
            _finite(log_mel, "log_mel"),
        )

    def _long_enough(self, samples, name):
        shortest = self.log_mel.window_samples
        told = f"{name}: expected {shortest} samples or more in a clip, got"
        return samples >= shortest, told, samples


def _equal_lengths(log_mels):
    return tf.fill([tf.shape(log_mels)[0]], tf.shape(log_mels)[1])


def _finite(value, name):
    is_finite = tf.reduce_all(tf.math.is_finite(value))
    return is_finite, f"{name}: expected finite numbers, got NaN or infinity"


def _check(value, *requirements):
    """Return `value`; in the graph, raise the first error of requirements that are not met.

    Args:
        value: a tensor.
        *requirements: a condition, and the parts of the error where it is false.
    """
    for condition, *message in requirements:
        with tf.control_dependencies([tf.debugging.Assert(condition, message, summarize=10)]):
            value = tf.identity(value)
    return value
