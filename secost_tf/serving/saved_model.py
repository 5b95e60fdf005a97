"""The model that is served: a student with its log-mel before it, as the signatures of a
SavedModel.

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

WAVEFORM = "serving_default"

WAV_BYTES = "wav_bytes"

PADDED = "padded"

TOP_K = "top_k"


def save_model(
    student: keras.Model, record: StageRecord, config: ServingConfig, name: str, folder: str
) -> None:
    """Writes a SavedModel with its class list and warm-up requests into a local folder.

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
    """A request for each signature, of silence, for TensorFlow Serving's warm-up: ten seconds, one
    clip.
    """
    samples = 10 * log_mel.sample_rate_hz
    waveform = messages.repeated_tensor(0.0, (1, samples))
    log_mels = messages.repeated_tensor(
        math.log(log_mel.log_offset), (1, log_mel.num_frames(samples), log_mel.mel_bins)
    )
    second = encode_wav(np.zeros(log_mel.sample_rate_hz, np.float32), log_mel.sample_rate_hz)
    inputs = {
        WAVEFORM: {"waveform": waveform},
        PADDED: {"waveform": waveform, "lengths": messages.tensor(np.array([samples], np.int32))},
        WAV_BYTES: {"wav_bytes": messages.tensor(bytes_array([second]))},
        LOG_MEL: {"log_mel": log_mels},
        EVERY_FRAME: {"log_mel": log_mels},
        TOP_K: {"waveform": waveform},
    }
    return [messages.prediction_log(name, signature, one) for signature, one in inputs.items()]


class ServedModel(tf.Module):
    """Signatures over one student; the attributes of their names are functions, as they are after
    loading.

    All inputs and outputs have the batch first, as TensorFlow Serving's row format and its batching
    need it:

        serving_default   waveform float32 [batch, samples], full scale -1..1
        padded            waveform, and lengths int32 [batch] in samples: clips of different lengths, padded at their ends
        wav_bytes         wav_bytes string [batch]: 16-bit wav files, mono or stereo, of any lengths
        log_mel           log_mel float32 [batch, frames, mel_bins]
            -> scores [batch, C], segment_scores [batch, K, C], segment_onsets [batch, K] in seconds
        top_k             waveform -> labels string [batch, k], scores [batch, k], the highest first
        every_frame       log_mel -> segment_scores [batch, K * stride, C], segment_onsets [batch, K * stride] in seconds: of the
                          segments that begin with every frame, and not with every stride (`secost_tf.models.frame_segments`)

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
        """What is saved, by name."""
        names = (WAVEFORM, PADDED, WAV_BYTES, LOG_MEL, TOP_K, EVERY_FRAME)
        return {name: getattr(self, name).get_concrete_function() for name in names}

    def __call__(self, signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Answers one request, as the saved model will."""
        return getattr(self, signature)(**inputs)


class _Graph:
    """What the signatures compute."""

    def __init__(self, student, record, config):
        self.student, self.config, self.class_names = (
            student,
            config,
            record.class_map.display_names,
        )
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
        size, samples = tf.shape(waveform)[0], tf.shape(waveform)[1]
        lengths = tf.ensure_shape(lengths, [None])
        one_each = tf.equal(tf.shape(lengths)[0], size)
        lengths = _check(
            one_each,
            lengths,
            "lengths: expected one for each of",
            size,
            "clips, got",
            tf.shape(lengths)[0],
        )
        shortest = self.log_mel.window_samples
        in_range = tf.reduce_all((lengths >= shortest) & (lengths <= samples))
        expected = f"lengths: expected {shortest} samples or more each, and at most the"
        lengths = _check(in_range, lengths, expected, samples, "of the waveforms, got", lengths)
        return self.scores(self.log_mels(waveform), self._num_frames(lengths))

    def of_wavs(self, wav_bytes):
        wavs = tf.ensure_shape(wav_bytes, [None])
        wavs = _check(tf.size(wavs) > 0, wavs, "wav_bytes: expected one file or more, got none")
        indices = tf.range(tf.size(wavs))
        spec = tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0)
        clips = tf.map_fn(
            lambda pair: self._decode(*pair), (indices, wavs), fn_output_signature=spec
        )
        waveform = self._checked(clips.to_tensor(), "wav_bytes")
        lengths = tf.cast(clips.row_lengths(), tf.int32)
        return self.scores(self.log_mels(waveform), self._num_frames(lengths))

    def of_log_mels(self, log_mel):
        return self._scores_of_equal(self._checked_log_mel(log_mel))

    def of_every_frame(self, log_mel):
        log_mel = self._checked_log_mel(log_mel)
        size, frames = tf.shape(log_mel)[0], tf.shape(log_mel)[1]
        logits = self.every_frame(
            {"log_mel": log_mel, "num_frames": tf.fill([size], frames)}, training=False
        )
        scores = tf.sigmoid(logits)
        onsets = self._onsets(tf.shape(scores)[1], hop_frames=1)
        return {
            "segment_scores": scores,
            "segment_onsets": tf.broadcast_to(onsets, tf.shape(scores)[:2]),
        }

    def of_top_k(self, waveform):
        scores = self.of_waveforms(waveform)["scores"]
        best = tf.math.top_k(scores, min(self.config.top_k, len(self.class_names)))
        return {
            "labels": tf.gather(tf.constant(self.class_names), best.indices),
            "scores": best.values,
        }

    def _scores_of_equal(self, log_mels):
        """Those of clips that are as long as each other."""
        return self.scores(log_mels, tf.fill([tf.shape(log_mels)[0]], tf.shape(log_mels)[1]))

    def _scores(self, log_mels, num_frames):
        """Clip and segment scores."""
        outputs = self.student({"log_mel": log_mels, "num_frames": num_frames}, training=False)
        segment_scores = tf.sigmoid(outputs["segment_logits"])
        mask = self.segment_mask(segment_scores, num_frames)
        onsets = self._onsets(tf.shape(mask)[1], self.network.stride_frames)
        return {
            "scores": tf.sigmoid(outputs["logits"]),
            "segment_scores": tf.where(mask[..., None], segment_scores, 0.0),
            "segment_onsets": tf.broadcast_to(onsets, tf.shape(mask)),
        }

    def _onsets(self, segments, hop_frames):
        """Of so many segments, float32 seconds [segments]."""
        samples = tf.cast(tf.range(segments) * (hop_frames * self.log_mel.hop_samples), tf.float64)
        return tf.cast(samples / self.log_mel.sample_rate_hz, tf.float32)

    def _num_frames(self, lengths):
        return 1 + (lengths - self.log_mel.window_samples) // self.log_mel.hop_samples

    def _decode(self, index, wav):
        """One wav file: the mean of its channels, float32 [samples]."""
        audio, rate = tf.audio.decode_wav(wav, name="wav_bytes")
        expected = self.log_mel.sample_rate_hz
        audio = _check(
            tf.equal(rate, expected),
            audio,
            f"wav_bytes: expected a sample rate of {expected} Hz (resample it first), got",
            rate,
            "in clip",
            index,
        )
        samples = tf.reduce_mean(audio, 1)
        return self._long_enough(samples, tf.size(samples), "wav_bytes")

    def _checked(self, waveform, name="waveform"):
        waveform = tf.ensure_shape(waveform, [None, None])
        size, samples = tf.shape(waveform)[0], tf.shape(waveform)[1]
        waveform = _check(size > 0, waveform, f"{name}: expected one clip or more, got none")
        waveform = self._long_enough(waveform, samples, name)
        seconds = _product(size, samples) // self.log_mel.sample_rate_hz
        waveform = _check(
            _product(size, samples) <= self.most_samples,
            waveform,
            f"{name}: expected at most {self.config.max_seconds:g} seconds of sound in a request, got",
            seconds,
        )
        return _finite(waveform, name)

    def _checked_log_mel(self, log_mel):
        bins = self.log_mel.mel_bins
        log_mel = tf.ensure_shape(log_mel, [None, None, bins])
        size, frames = tf.shape(log_mel)[0], tf.shape(log_mel)[1]
        log_mel = _check(size > 0, log_mel, "log_mel: expected one clip or more, got none")
        log_mel = _check(frames > 0, log_mel, "log_mel: expected one frame or more, got none")
        most = self.log_mel.num_frames(self.most_samples)
        log_mel = _check(
            _product(size, frames) <= most,
            log_mel,
            f"log_mel: expected at most {most} frames in a request, got",
            _product(size, frames),
        )
        return _finite(log_mel, "log_mel")

    def _long_enough(self, value, samples, name):
        shortest = self.log_mel.window_samples
        return _check(
            samples >= shortest,
            value,
            f"{name}: expected {shortest} samples or more in a clip, got",
            samples,
        )


def _check(condition, value, *message):
    """`value`, which can't be had where the condition is false: the error is made of the parts of
    the message.
    """
    with tf.control_dependencies([tf.debugging.Assert(condition, message, summarize=10)]):
        return tf.identity(value)


def _finite(value, name):
    is_finite = tf.reduce_all(tf.math.is_finite(value))
    return _check(is_finite, value, f"{name}: expected finite numbers, got NaN or infinity")


def _product(one, other):
    """Of two sizes, which may be more than int32 holds."""
    return tf.cast(one, tf.int64) * tf.cast(other, tf.int64)
