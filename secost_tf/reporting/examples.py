"""Clips worth a look: those that the cascade put right, typical ones, and those that it gets wrong."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import soundfile
import tensorflow as tf
from absl import logging

from secost_tf.data import Split, read_clips
from secost_tf.detection import clip_figure
from secost_tf.evaluation import Scorer
from secost_tf.models import segment_times
from secost_tf.reporting.page import Example, ExampleScore
from secost_tf.reporting.pictures import photograph
from secost_tf.runs import StageRecord, load_student
from tfrecord_tools import storage
from tfrecord_tools.audio import AudioError, load_audio
from tfrecord_tools.datasets import choose_file, index_files
from tfrecord_tools.shards import ClipRecord
from tfrecord_tools.text import sigmoid

KINDS = ("put right", "typical", "still wrong", "made worse")


@dataclasses.dataclass(frozen=True)
class Choice:
    """A clip, by its place in the split, and why it was chosen: one of `KINDS`."""

    kind: str
    clip: int


def margins(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How far the lowest score of a clip's labels lies above the highest of its other classes.

    Args:
        labels: multi-hot truth, bool [clips, classes].
        scores: clip scores in 0..1, [clips, classes].

    Returns:
        float64 [clips] in -1..1: above 0 where every label comes before every other class; NaN for
        clips of which no class, or every class, is a label.
    """
    scores = np.asarray(scores, np.float64)
    lowest = np.where(labels, scores, np.inf).min(axis=1)
    highest = np.where(labels, -np.inf, scores).max(axis=1)
    difference = np.full(len(scores), np.nan)
    np.subtract(lowest, highest, out=difference, where=np.isfinite(lowest) & np.isfinite(highest))
    return difference


def choose_examples(
    labels: np.ndarray, base_scores: np.ndarray | None, scores: np.ndarray, count: int
) -> list[Choice]:
    """Picks clips by rule: the same scores give the same clips.

    In turn, until there are `count`: the clip that gained most among those that the base gets wrong
    and the last stage right (`put right`); the one whose margin is nearest to the median of those
    that are right (`typical`); the one that both get wrong, the last stage by most (`still wrong`);
    the one that lost most among those that only the base gets right (`made worse`). Clips whose
    labels were not shown yet go first; of equals, the first in the split.

    Args:
        labels: multi-hot truth, [clips, classes].
        base_scores, scores: clip scores of the base and the last stage, [clips, classes]; None if
            they are one.
        count: how many clips at most.

    Returns:
        The choices in the order of `KINDS`.
    """
    labels = np.asarray(labels) > 0.5
    last = margins(labels, scores)
    base = last if base_scores is None else margins(labels, base_scores)
    right, was_right = last > 0, base > 0
    middle = np.median(last[right]) if right.any() else 0.0
    queues = {
        "put right": _queue(right & (base <= 0), base - last),
        "typical": _queue(right & was_right, np.abs(last - middle)),
        "still wrong": _queue((last <= 0) & (base <= 0), last),
        "made worse": _queue((last <= 0) & was_right, last - base),
    }
    chosen: list[Choice] = []
    shown: set[bytes] = set()
    while len(chosen) < count and any(queues.values()):
        for kind, queue in queues.items():
            if queue and len(chosen) < count:
                clip = next((one for one in queue if labels[one].tobytes() not in shown), queue[0])
                queue.remove(clip)
                shown.add(labels[clip].tobytes())
                chosen.append(Choice(kind, clip))
    return sorted(chosen, key=lambda choice: KINDS.index(choice.kind))


def _queue(candidates: np.ndarray, key: np.ndarray) -> list[int]:
    """The places of the candidates, by rising key."""
    places = np.flatnonzero(candidates)
    return places[np.argsort(key[places], kind="stable")].tolist()


def leading_classes(labels: np.ndarray, scores: np.ndarray, count: int) -> Iterator[int]:
    """The classes of a clip to be shown: its labels by falling score, then the other classes;
    `count` at most.

    At least one class that is no label is shown, where there is one: labels [classes], scores
    [classes].
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist()
    own = [c for c in order if labels[c]]
    others = [c for c in order if not labels[c]]
    own = own[: count - bool(others)]
    yield from own
    yield from others[: count - len(own)]


def explain(choice: Choice, labels: Sequence[str], rival: str, base: int, last: int) -> str:
    """A sentence that says why a clip is shown.

    Args:
        choice: the clip.
        labels: the display names of its labels.
        rival: the class without label that comes first, at the base stage for what was put right,
            else at the last.
        base, last: the stages.
    """
    own, one = (
        ("its label", "its label") if len(labels) == 1 else ("all its labels", "one of its labels")
    )
    return {
        "put right": f"Stage {last} puts {own} before all other classes; stage {base} put {rival} in front.",
        "typical": f"Right, and as clearly as half of the clips that stage {last} gets right.",
        "still wrong": f"Stage {last} puts {rival} before {one}; it gets few clips more wrong.",
        "made worse": f"Stage {base} was right; stage {last} puts {rival} in front.",
    }[choice.kind]


SAMPLE_RATE_HZ = 16000

MOST_SECONDS = 12.0  # of a clip

MOST_BYTES = 2_000_000  # of all clips together


def clip_sounds(audio_dir: str, clips: Sequence[ClipRecord]) -> dict[str, bytes]:
    """The sounds of those clips whose recording is found: FLAC, mono, 16 kHz, 16 bits, 12 s at
    most, by clip id.

    Files are found as `tfrecord_tools.datasets.audioset.read` finds them: by name, in nested
    folders, with or without times in the name. An id that is a path (the manifest's) finds the file
    at the end of whose path it stands. A file that can't be decoded is left out with a warning, and
    so is what comes after 2 MB in all.

    Args:
        audio_dir: a local folder.
        clips: the clips, whose times in the recording are known.

    Raises:
        ValueError: if there is no such folder.
    """
    if storage.is_remote(audio_dir) or not os.path.isdir(audio_dir):
        raise ValueError(f"audio_dir: expected a local folder of recordings, got {audio_dir!r}")
    sounds: dict[str, bytes] = {}
    total = 0
    for clip, path, file_start_seconds in _find(audio_dir, clips):
        start, end = clip.start_time_seconds, clip.end_time_seconds
        try:
            audio = load_audio(
                path, SAMPLE_RATE_HZ, start, min(end, start + MOST_SECONDS), file_start_seconds
            )
        except AudioError as error:
            logging.warning("%s: no player in the report (%s)", path, error)
            continue
        sound = encode_flac(audio.waveform)
        if total + len(sound) > MOST_BYTES:
            logging.warning(
                "clip %s: no player in the report, whose sounds would take more than 2 MB",
                clip.video_id,
            )
            continue
        sounds[clip.video_id], total = sound, total + len(sound)
    return sounds


def encode_flac(waveform: np.ndarray) -> bytes:
    """A mono waveform in -1..1 at 16 kHz, float [samples], as a FLAC file: lossless, and played by
    every browser.
    """
    stream = io.BytesIO()
    soundfile.write(
        stream, np.clip(waveform, -1.0, 1.0), SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16"
    )
    return stream.getvalue()


def _find(
    audio_dir: str, clips: Sequence[ClipRecord]
) -> Iterator[tuple[ClipRecord, str, float | None]]:
    """(clip, path, where in the recording the file begins or None if its length must tell) of each
    that is found.
    """
    files = index_files(audio_dir, {name for clip in clips for name in _names(clip)})
    for clip in clips:
        start_ms, end_ms = (
            round(1000 * s) for s in (clip.start_time_seconds, clip.end_time_seconds)
        )
        folders = os.path.join(os.sep, os.path.dirname(clip.video_id), "")
        for name in _names(clip):
            candidates = [
                file
                for file in files.get(name, [])
                if folders in os.path.join(os.path.dirname(file.path), "")
            ]
            chosen, _ = choose_file(candidates, start_ms, end_ms, audio_dir)
            if chosen:
                yield clip, chosen.path, clip.start_time_seconds if chosen.start else None
                break


def _names(clip: ClipRecord) -> list[str]:
    """What a clip's file may be called: its id, and, of one of several segments of a recording, the
    recording's.
    """
    name = os.path.basename(clip.video_id)
    return [name, name.removesuffix(f"_{round(1000 * clip.start_time_seconds)}")]


_CURVES = 4  # classes drawn below a spectrogram

_SCORES = 5  # classes in a table of clip scores


def make_examples(
    run_dir: str,
    base: StageRecord,
    last: StageRecord,
    split: Split,
    count: int,
    batch_size: int = 32,
    audio_dir: str | None = None,
) -> tuple[Example, ...]:
    """Scores a split with two stages and makes examples of some of its clips; see
    `choose_examples`.

    Args:
        run_dir: the run.
        base, last: the two stages; may be one.
        split: the clips to choose from.
        count: how many examples at most.
        batch_size: clips scored at once.
        audio_dir: where to look for the recordings; None gives no players.

    Raises:
        ValueError: if the data do not go with the stages, a shard is damaged, or there is no
            `audio_dir`.
    """
    numbers = [base.config.stage, last.config.stage]
    scores: dict[int, np.ndarray] = {}
    for number in dict.fromkeys(numbers):
        student = load_student(run_dir, number)  # that of the last stage stays
        ids, labels, logits = Scorer(student, batch_size).split(split)
        scores[number] = sigmoid(logits)
    base_scores, last_scores = scores[numbers[0]], scores[numbers[1]]
    choices = choose_examples(labels, base_scores if len(scores) > 1 else None, last_scores, count)
    wanted = [ids[choice.clip] for choice in choices]
    found = {clip.video_id: clip for clip in read_clips(split, wanted)}
    clips = [found[video_id] for video_id in wanted]
    sounds = clip_sounds(audio_dir, clips) if audio_dir else {}
    if audio_dir and len(sounds) < len(clips):
        logging.warning(
            "%s: holds the sound of %d of %d examples", audio_dir, len(sounds), len(clips)
        )
    return tuple(
        _example(
            choice, clip, student, base, last, base_scores[choice.clip] if len(scores) > 1 else None,
            last_scores[choice.clip], sounds.get(clip.video_id),
        )
        for choice, clip in zip(choices, clips, strict=True)
    )  # fmt: skip


def segment_scores(student: keras.Model, log_mel: np.ndarray, num_segments: int) -> np.ndarray:
    """Scores of a clip's segments: log-mel [frames, mel_bins] -> float64 [num_segments, classes] in
    0..1.
    """
    inputs = {
        "log_mel": tf.constant(log_mel[None], tf.float32),
        "num_frames": tf.constant([len(log_mel)], tf.int32),
    }
    return sigmoid(student(inputs, training=False)["segment_logits"][0, :num_segments].numpy())


def _example(
    choice: Choice,
    clip: ClipRecord,
    student: keras.Model,
    base: StageRecord,
    last: StageRecord,
    base_scores: np.ndarray | None,
    last_scores: np.ndarray,
    sound: bytes | None,
) -> Example:
    names = last.class_map.display_names
    labelled = np.zeros(len(names), bool)
    labelled[list(clip.labels)] = True
    blamed = base_scores if choice.kind == "put right" else last_scores
    rival = names[int(np.argmax(np.where(labelled, -np.inf, blamed)))]
    times = segment_times(last.config.network, last.log_mel, len(clip.log_mel))
    by_segment = segment_scores(student, clip.log_mel, len(times))
    curves = {names[c]: by_segment[:, c] for c in leading_classes(labelled, last_scores, _CURVES)}
    events = tuple((_no_mathematics(names[c]), onset, offset) for c, onset, offset in clip.events)
    seconds = len(clip.log_mel) * last.log_mel.hop_seconds
    peaks = (
        f"{name} up to {curve.max():.2f}, at {times[curve.argmax()].mean():.1f} s"
        for name, curve in curves.items()
    )
    return Example(
        title=choice.kind.capitalize(),
        reason=explain(
            choice, [names[c] for c in clip.labels], rival, base.config.stage, last.config.stage
        ),
        clip_id=clip.video_id,
        labels=tuple(names[c] for c in clip.labels),
        picture=photograph(
            clip_figure(
                clip.log_mel,
                last.log_mel,
                times,
                {_no_mathematics(name): curve for name, curve in curves.items()},
                events,
            ),
            f"Log-mel spectrogram of clip {clip.video_id}, {seconds:.1f} s, with segment scores: {'; '.join(peaks)}.",
        ),
        scores=tuple(
            ExampleScore(
                names[c],
                bool(labelled[c]),
                None if base_scores is None else float(base_scores[c]),
                float(last_scores[c]),
            )
            for c in leading_classes(labelled, last_scores, _SCORES)
        ),
        sound=sound,
    )


def _no_mathematics(name: str) -> str:
    """A name that Matplotlib writes as it is, whatever dollar signs it holds."""
    return name.replace("$", r"\$")
