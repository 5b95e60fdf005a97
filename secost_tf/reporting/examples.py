"""The report's examples: clips chosen by rule, drawn with their segment scores, and their sound."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import soundfile
from absl import logging
from scipy.special import expit

from secost_tf.data import read_clips
from secost_tf.detection import clip_figure
from secost_tf.evaluation import SplitScorer
from secost_tf.models import score_clips, segment_times
from secost_tf.reporting.page import Example, ExampleScore, Picture
from secost_tf.reporting.pictures import photograph
from secost_tf.runs import StageFolder, StageRecord
from tfrecord_tools import storage
from tfrecord_tools.audio import AudioError, load_audio
from tfrecord_tools.datasets import choose_file, index_files
from tfrecord_tools.shards import ClipRecord

KINDS = ("put right", "typical", "still wrong", "made worse")

SAMPLE_RATE_HZ = 16000

MOST_SECONDS = 12.0  # of a clip's sound

MOST_BYTES = 2_000_000  # of all sounds together

_CURVES = 4  # classes drawn below a spectrogram

_SCORES = 5  # classes in a table of clip scores


def make_examples(
    scorer: SplitScorer,
    base: StageFolder,
    last: StageFolder,
    count: int,
    audio_dir: str | None = None,
) -> tuple[Example, ...]:
    """Make examples of some clips of a split, chosen by the scores of two stages.

    Args:
        scorer: scores the clips to choose from; see `choose_examples`.
        base, last: the two stages; may be the same.
        count: how many examples at most.
        audio_dir: folder of the recordings; None gives no players.

    Raises:
        ValueError: if the data do not go with the stages, a shard is damaged, or there is no
            `audio_dir`.
    """
    scored = scorer.score(last)
    scores, base_scores = expit(scored.logits, dtype=np.float64), None
    if base != last:
        base_scores = expit(scorer.score(base).logits, dtype=np.float64)
    choices = choose_examples(scored.labels, base_scores, scores, count)
    wanted = [scored.video_ids[choice.clip] for choice in choices]
    by_id = {clip.video_id: clip for clip in read_clips(scorer.split, wanted)}
    clips = [by_id[video_id] for video_id in wanted]
    sounds = clip_sounds(audio_dir, clips) if audio_dir else {}
    if audio_dir and len(sounds) < len(clips):
        logging.warning(
            "%s: holds the sound of %d of %d examples", audio_dir, len(sounds), len(clips)
        )
    return tuple(
        _make_example(
            choice,
            clip,
            (base.record, last.record),
            (None if base_scores is None else base_scores[choice.clip], scores[choice.clip]),
            scored.student,
            sounds.get(clip.video_id),
        )
        for choice, clip in zip(choices, clips, strict=True)
    )


def _make_example(
    choice: Choice,
    clip: ClipRecord,
    stages: tuple[StageRecord, StageRecord],
    scores: tuple[np.ndarray | None, np.ndarray],
    student: keras.Model,
    sound: bytes | None,
) -> Example:
    """Make an example of a clip.

    Args:
        choice: the rule that chose the clip.
        clip: the clip.
        stages: records of the base and the last stage.
        scores: the clip's scores at both, [classes]; None for a base that is the last stage.
        student: that of the last stage.
        sound: a FLAC file, or None.
    """
    base, last = stages
    before, after = scores
    names = last.class_map.display_names
    labels = tuple(names[c] for c in clip.labels)
    labelled = np.zeros(len(names), bool)
    labelled[list(clip.labels)] = True
    blamed = before if before is not None and choice.kind == "put right" else after
    rival = names[int(np.argmax(np.where(labelled, -np.inf, blamed)))]
    return Example(
        title=choice.kind.capitalize(),
        reason=explain(choice, labels, rival, base.config.stage, last.config.stage),
        clip_id=clip.video_id,
        labels=labels,
        picture=_draw(clip, last, student, leading_classes(labelled, after, _CURVES)),
        scores=tuple(
            ExampleScore(
                names[c],
                bool(labelled[c]),
                None if before is None else float(before[c]),
                float(after[c]),
            )
            for c in leading_classes(labelled, after, _SCORES)
        ),
        sound=sound,
    )


@dataclasses.dataclass(frozen=True)
class Choice:
    """A clip, by its place in the split, and the rule that chose it: one of `KINDS`."""

    kind: str
    clip: int


def margins(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute how far a clip's labels stand above its other classes.

    The margin is the lowest score of a label less the highest score of another class.

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
    """Pick clips by rule: the same scores give the same clips.

    In turn, until there are `count`: the clip that gained most among those that the base gets wrong
    and the last stage right (`put right`); the one whose margin is nearest to the median of those
    that are right (`typical`); the one that both get wrong, the last stage by most (`still wrong`);
    the one that lost most among those that only the base gets right (`made worse`). Clips whose
    labels were not shown yet go first; of equals, the first in the split.

    Args:
        labels: multi-hot truth, [clips, classes].
        base_scores, scores: clip scores of the base and the last stage, [clips, classes]; None if
            the base is the last stage.
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
                unseen = (place for place in queue if labels[place].tobytes() not in shown)
                clip = next(unseen, queue[0])
                queue.remove(clip)
                shown.add(labels[clip].tobytes())
                chosen.append(Choice(kind, clip))
    return sorted(chosen, key=lambda choice: KINDS.index(choice.kind))


def _queue(candidates: np.ndarray, key: np.ndarray) -> list[int]:
    """Return the places of the candidates, by rising key."""
    places = np.flatnonzero(candidates)
    return places[np.argsort(key[places], kind="stable")].tolist()


def leading_classes(labels: np.ndarray, scores: np.ndarray, count: int) -> list[int]:
    """Return the classes of a clip to be shown, `count` at most.

    Its labels come first, by falling score, then the other classes, of which one at least is shown.

    Args:
        labels: multi-hot truth, [classes].
        scores: [classes].
        count: how many classes at most.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist()
    own = [c for c in order if labels[c]]
    others = [c for c in order if not labels[c]]
    own = own[: count - bool(others)]
    return own + others[: count - len(own)]


def explain(choice: Choice, labels: Sequence[str], rival: str, base: int, last: int) -> str:
    """Return a sentence that says why a clip is shown.

    Args:
        choice: the clip.
        labels: the display names of its labels.
        rival: the class without label that comes first, at the base stage for what was put right,
            else at the last.
        base, last: the stages.
    """
    every, some = "all its labels", "one of its labels"
    if len(labels) == 1:
        every = some = "its label"
    return {
        "put right": f"Stage {last} puts {every} before all other classes; "
        f"stage {base} put {rival} in front.",
        "typical": f"Right, and as clearly as half of the clips that stage {last} gets right.",
        "still wrong": f"Stage {last} puts {rival} before {some}; it gets few clips more wrong.",
        "made worse": f"Stage {base} was right; stage {last} puts {rival} in front.",
    }[choice.kind]


def _draw(
    clip: ClipRecord, record: StageRecord, student: keras.Model, shown: Sequence[int]
) -> Picture:
    """Draw a clip's spectrogram, with the segment scores of some classes below it."""
    names = record.class_map.display_names
    times = segment_times(record.config.network, record.log_mel, len(clip.log_mel))
    (scored,) = score_clips(student, [clip.log_mel])
    scores = scored.segments
    peaks = (
        f"{names[c]} up to {scores[:, c].max():.2f}, at {times[scores[:, c].argmax()].mean():.1f} s"
        for c in shown
    )
    seconds = len(clip.log_mel) * record.log_mel.hop_seconds
    # Matplotlib takes what stands between dollar signs for mathematics.
    labels = [name.replace("$", r"\$") for name in names]
    return photograph(
        clip_figure(
            clip.log_mel,
            record.log_mel,
            times,
            {labels[c]: scores[:, c] for c in shown},
            tuple((labels[c], onset, offset) for c, onset, offset in clip.events),
        ),
        f"Log-mel spectrogram of clip {clip.video_id}, {seconds:.1f} s, with segment scores: "
        f"{'; '.join(peaks)}.",
    )


# === Sound ===
def clip_sounds(audio_dir: str, clips: Sequence[ClipRecord]) -> dict[str, bytes]:
    """Read the sounds of those clips whose recording lies in a folder.

    Files are found as `tfrecord_tools.datasets.audioset.read` finds them: by name, in nested
    folders, with or without times in the name. An id that is a path (the manifest's) finds the file
    at the end of whose path it stands. A file that can't be decoded is left out with a warning, and
    so is what comes after 2 MB in all.

    Args:
        audio_dir: a local folder.
        clips: the clips, whose times in the recording are known.

    Returns:
        By clip id, a FLAC file: mono, 16 kHz, 16 bits, 12 s at most.

    Raises:
        ValueError: if there is no such folder.
    """
    if storage.is_remote(audio_dir) or not os.path.isdir(audio_dir):
        raise ValueError(
            f"audio_dir: expected a local folder of recordings, got {audio_dir!r}; name another one"
        )
    sounds: dict[str, bytes] = {}
    total = 0
    for clip, path, file_start_seconds in _find_files(audio_dir, clips):
        start, end = clip.start_time_seconds, clip.end_time_seconds
        try:
            last = min(end, start + MOST_SECONDS)
            audio = load_audio(path, SAMPLE_RATE_HZ, start, last, file_start_seconds)
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
    """Encode a mono waveform in -1..1 at 16 kHz, float [samples], as FLAC, which browsers play."""
    stream = io.BytesIO()
    samples = np.clip(waveform, -1.0, 1.0)
    soundfile.write(stream, samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def _find_files(
    audio_dir: str, clips: Sequence[ClipRecord]
) -> Iterator[tuple[ClipRecord, str, float | None]]:
    """Yield the clips whose file is found: (clip, path, second of the recording it begins with).

    The second is None if the file's length must tell.
    """
    names = {name for clip in clips for name in _file_names(clip)}
    files = index_files(audio_dir, names)
    for clip in clips:
        times = (clip.start_time_seconds, clip.end_time_seconds)
        start_ms, end_ms = (round(1000 * seconds) for seconds in times)
        folders = os.path.join(os.sep, os.path.dirname(clip.video_id), "")
        for name in _file_names(clip):
            candidates = [
                file
                for file in files.get(name, [])
                if folders in os.path.join(os.path.dirname(file.path), "")
            ]
            chosen, _ = choose_file(candidates, start_ms, end_ms, audio_dir)
            if chosen:
                yield clip, chosen.path, clip.start_time_seconds if chosen.start else None
                break


def _file_names(clip: ClipRecord) -> list[str]:
    """Return the names that a clip's file may have: its id, or the recording's without the time."""
    name = os.path.basename(clip.video_id)
    return [name, name.removesuffix(f"_{round(1000 * clip.start_time_seconds)}")]
