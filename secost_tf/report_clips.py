"""The report's examples: clips scored, chosen, drawn with their segment scores, and with their sound where it is at hand."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from secost_tf import stage_folder
from secost_tf.clip_picture import clip_figure
from secost_tf.report_audio import clip_sounds
from secost_tf.report_examples import Choice, choose_examples, explain, leading_classes
from secost_tf.report_page import Example, ExampleScore
from secost_tf.report_pictures import photograph
from secost_tf.scoring import Scorer, sigmoid
from secost_tf.segment_times import segment_times
from secost_tf.splits import Split, read_clips
from secost_tf.stage_folder import StageRecord
from tfrecord_tools.schema import ClipRecord

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
    """Scores a split with two stages and makes examples of some of its clips; see `choose_examples`.

    Args:
        run_dir: the run.
        base, last: the two stages; may be one.
        split: the clips to choose from.
        count: how many examples at most.
        batch_size: clips scored at once.
        audio_dir: where to look for the recordings; None gives no players.

    Raises:
        ValueError: if the data do not go with the stages, a shard is damaged, or there is no `audio_dir`.
    """
    numbers = [base.config.stage, last.config.stage]
    scores: dict[int, np.ndarray] = {}
    for number in dict.fromkeys(numbers):
        student = stage_folder.load_student(run_dir, number)  # that of the last stage stays
        ids, labels, logits = Scorer(student, batch_size).split(split)
        scores[number] = sigmoid(logits)
    base_scores, last_scores = scores[numbers[0]], scores[numbers[1]]
    choices = choose_examples(labels, base_scores if len(scores) > 1 else None, last_scores, count)
    wanted = [ids[choice.clip] for choice in choices]
    found = {clip.video_id: clip for clip in read_clips(split, wanted)}
    clips = [found[video_id] for video_id in wanted]
    sounds = clip_sounds(audio_dir, clips) if audio_dir else {}
    if audio_dir and len(sounds) < len(clips):
        logging.warning("%s: holds the sound of %d of %d examples", audio_dir, len(sounds), len(clips))
    return tuple(
        _example(
            choice, clip, student, base, last, base_scores[choice.clip] if len(scores) > 1 else None,
            last_scores[choice.clip], sounds.get(clip.video_id),
        )
        for choice, clip in zip(choices, clips, strict=True)
    )  # fmt: skip


def segment_scores(student: keras.Model, log_mel: np.ndarray, num_segments: int) -> np.ndarray:
    """Scores of a clip's segments: log-mel [frames, mel_bins] -> float64 [num_segments, classes] in 0..1."""
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
        reason=explain(choice, [names[c] for c in clip.labels], rival, base.config.stage, last.config.stage),
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
