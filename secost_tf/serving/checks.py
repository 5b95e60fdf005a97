"""The test of an export: TensorFlow's C++ loader answers as the live network does.

The loader runs in a process of its own, without Keras and without TensorFlow's Python. The live
side is the network as it was evaluated: the converter's log-mel in NumPy, then the Keras model.
"""

from __future__ import annotations

import functools
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import soundfile
from scipy.special import expit

from secost_tf.models import every_frame, score_clips
from secost_tf.runs import StageRecord
from secost_tf.serving import messages
from secost_tf.serving.layout import EVERY_FRAME, LOG_MEL, ServingConfig
from secost_tf.serving.saved_model import PADDED, TOP_K, WAV_BYTES, WAVEFORM
from secost_tf.serving.waveforms import bytes_array, encode_wav, pad_together
from tfrecord_tools import shards
from tfrecord_tools.corpora import SoundscapeConfig, make_clip
from tfrecord_tools.log_mel import LogMelConfig, log_mel

TOLERANCE = 1e-5  # of scores

Arrays = dict[str, np.ndarray]


def check_export(
    folder: str, student: keras.Model, record: StageRecord, config: ServingConfig
) -> float:
    """Compare a SavedModel with the live network, for every signature.

    The sounds are silence, noise, a sine and a soundscape.

    Args:
        folder: of the SavedModel.
        student, record, config: what it was made of.

    Returns:
        The largest difference between scores.

    Raises:
        ValueError: if the C++ loader refuses the model or a request, or the answers differ by more
            than `TOLERANCE`.
    """
    live = LiveModel(student, record)
    requests = probe_requests(record.log_mel)
    worst = 0.0
    for (signature, inputs), actual in zip(requests, answer_in_cpp(folder, requests), strict=True):
        where, expected = f"{folder}: {signature}", live(inputs, signature == EVERY_FRAME)
        if signature == TOP_K:
            difference = compare_top_k(where, actual, expected["scores"], record, config)
        else:
            difference = compare(where, actual, expected)
        worst = max(worst, difference)
    return worst


def compare(where: str, actual: Arrays, expected: Arrays, tolerance: float = TOLERANCE) -> float:
    """Return the largest difference between the numbers of two answers.

    Raises:
        ValueError: if one has other outputs or shapes, or differs by more than `tolerance`; begins
            with `where`.
    """
    if set(actual) != set(expected):
        raise ValueError(
            f"{where}: expected the outputs {', '.join(expected)}, got {', '.join(actual)}"
        )
    return max(
        _difference(f"{where}: {name}", actual[name], value, tolerance)
        for name, value in expected.items()
    )


def compare_top_k(
    where: str, actual: Arrays, scores: np.ndarray, record: StageRecord, config: ServingConfig
) -> float:
    """Return the same for `top_k`.

    Its labels may be in another order where live scores [batch, C] are as good as equal.
    """
    best = -np.sort(-scores, axis=1)[:, : config.top_k]
    worst = _difference(f"{where}: scores", actual["scores"], best, TOLERANCE)
    names = np.array([name.encode() for name in record.class_map.display_names], object)
    for labels, given, live in zip(actual["labels"], actual["scores"], scores, strict=True):
        for label, score in zip(labels, given, strict=True):
            own = live[names == label]
            if not len(own) or np.abs(own - score).min() > TOLERANCE:
                raise ValueError(
                    f"{where}: {label.decode()!r} has {score:.6f}, and {own.tolist()} in the live "
                    "model"
                )
    return worst


def _difference(where: str, actual: np.ndarray, expected: np.ndarray, tolerance: float) -> float:
    if actual.shape != expected.shape:
        raise ValueError(f"{where}: expected shape {expected.shape}, got {actual.shape}")
    difference = float(np.abs(actual - expected).max())
    if not difference <= tolerance:
        raise ValueError(
            f"{where} differ by {difference:.1e} from the live model, by {tolerance:.0e} at most "
            "is expected"
        )
    return difference


def answer_in_cpp(folder: str, requests: Sequence[tuple[str, Arrays]]) -> list[Arrays]:
    """Return the answers of the C++ loader, in its own process, to requests (signature, inputs).

    Raises:
        ValueError: if it refuses the model or a request; with what it says.
    """
    with tempfile.TemporaryDirectory() as work:
        asked, responses = (os.path.join(work, name) for name in ("requests", "responses"))
        logs = []
        for signature, inputs in requests:
            tensors = {name: messages.tensor(value) for name, value in inputs.items()}
            logs.append(messages.prediction_log("", signature, tensors))
        shards.write_records(asked, logs)
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        ended = subprocess.run(
            [sys.executable, "-m", "secost_tf.serving.cpp_loader", folder, asked, responses],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
        )
        if ended.returncode:
            lines = ended.stderr.strip().splitlines()
            lines = lines or [f"it ended with status {ended.returncode}"]
            said = next((line for line in lines if line.startswith("error: ")), lines[-1])
            raise ValueError(f"the exported model can't be served: {said.removeprefix('error: ')}")
        return [messages.outputs_of(data) for data in shards.read_records(responses)]


def probe_sounds(rate_hz: int) -> list[np.ndarray]:
    """Return silence, noise, a sine and a synthesised soundscape, float32 [samples] each.

    Their lengths differ.
    """
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * rate_hz)
    sine = 0.5 * np.sin(2 * np.pi * 440.0 * np.arange(round(1.3 * rate_hz)) / rate_hz)
    soundscape, _ = make_clip(SoundscapeConfig(min_seconds=3.0, max_seconds=3.0), "eval", 0)
    sounds = (np.zeros(rate_hz), np.clip(noise, -1, 1), sine, soundscape)
    return [np.asarray(sound, np.float32) for sound in sounds]


def probe_requests(config: LogMelConfig) -> list[tuple[str, Arrays]]:
    """Return (signature, inputs) for every signature: each sound alone, and all together."""
    rate = config.sample_rate_hz
    sounds = probe_sounds(rate)
    requests: list[tuple[str, Arrays]] = []
    for sound in sounds:
        waveform, log_mels = {"waveform": sound[None]}, {"log_mel": log_mel(sound, config)[None]}
        requests += [(WAVEFORM, waveform), (TOP_K, waveform)]
        requests += [(LOG_MEL, log_mels), (EVERY_FRAME, log_mels)]
    lengths = np.array([len(sound) for sound in sounds], np.int32)
    requests.append((PADDED, {"waveform": pad_together(sounds), "lengths": lengths}))
    stereo = np.stack([sounds[1], 0.5 * sounds[1][::-1]], axis=1)
    wavs = [encode_wav(sound, rate) for sound in (*sounds, stereo)]
    requests.append((WAV_BYTES, {"wav_bytes": bytes_array(wavs)}))
    return requests


class LiveModel:
    """The answers of the network as it was evaluated: NumPy log-mel, Keras model.

    Args:
        student: a `wels_net`.
        record: of its stage.
    """

    def __init__(self, student: keras.Model, record: StageRecord):
        self._student, self._network, self._log_mel = student, record.config.network, record.log_mel

    @functools.cached_property
    def _every_frame(self) -> keras.Model:
        return every_frame(self._student)

    def _score_every_frame(self, clip: np.ndarray) -> np.ndarray:
        inputs = {"log_mel": clip[None], "num_frames": np.array([len(clip)], np.int32)}
        logits = self._every_frame(inputs, training=False).numpy()[0]
        return expit(logits, dtype=np.float64).astype(np.float32)

    def __call__(self, inputs: Mapping[str, np.ndarray], every_frame: bool = False) -> Arrays:
        """Return clip and segment scores for the inputs of any signature.

        Each clip is scored by itself, whatever its batch. Of the segments that begin with every
        frame, the answer is segment scores alone; their clips are equally long.
        """
        clips = self._log_mels(inputs)
        if every_frame:
            segment_scores = np.stack([self._score_every_frame(clip) for clip in clips])
            return {
                "segment_scores": segment_scores,
                "segment_onsets": self._onsets(segment_scores, 1),
            }
        answers = score_clips(self._student, clips)
        scores = np.stack([answer.clip for answer in answers]).astype(np.float32)
        most = max(len(answer.segments) for answer in answers)
        segment_scores = np.zeros((len(clips), most, scores.shape[1]), np.float32)
        for row, answer in zip(segment_scores, answers, strict=True):
            row[: len(answer.segments)] = answer.segments
        onsets = self._onsets(segment_scores, self._network.stride_frames)
        return {"scores": scores, "segment_scores": segment_scores, "segment_onsets": onsets}

    def _onsets(self, segment_scores: np.ndarray, hop_frames: int) -> np.ndarray:
        clips, segments = segment_scores.shape[:2]
        hop = hop_frames * self._log_mel.hop_samples / self._log_mel.sample_rate_hz
        return np.tile((np.arange(segments) * hop).astype(np.float32), (clips, 1))

    def _log_mels(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return the log-mel of each clip, [frames, mel_bins]."""
        if "log_mel" in inputs:
            return list(inputs["log_mel"])
        if "wav_bytes" in inputs:
            read = functools.partial(soundfile.read, dtype="float32", always_2d=True)
            sounds = [read(io.BytesIO(wav))[0].mean(axis=1) for wav in inputs["wav_bytes"]]
        else:
            waveform = inputs["waveform"]
            lengths = inputs.get("lengths", [waveform.shape[1]] * len(waveform))
            sounds = [row[:length] for row, length in zip(waveform, lengths, strict=True)]
        return [log_mel(sound, self._log_mel) for sound in sounds]
