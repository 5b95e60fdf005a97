"""Events cut from recordings: decoded once, trimmed of silence, and cut anew for each clip."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from tfrecord_tools import storage
from tfrecord_tools.audio import AudioError, load_audio
from tfrecord_tools.conversion import Problem
from tfrecord_tools.corpora.mixing import SAMPLES_PER_MS, SPLITS, loudest_window, whole_milliseconds
from tfrecord_tools.corpora.recordings import RecordedSources
from tfrecord_tools.corpora.synthesis import SAMPLE_RATE_HZ
from tfrecord_tools.datasets import Clip
from tfrecord_tools.parallel import ordered_map
from tfrecord_tools.text import join_some

MIN_EVENT_SECONDS = 0.3  # half of it holds the 125 ms that an event's level is measured over

_HEARD = 0.01  # of the loudest millisecond's level: 40 dB below it

_SILENT_PEAK = 1e-4  # -80 dB of full scale, as in `audio`

_FADE_MS = 5

_SHORTEST_MS = 20

_TIMEOUT_SECONDS = 120.0  # to decode a recording

_MOST_NAMED = 10

# For each split and class, the files of the sounds: float32 [samples], `.npy`, read where they are
# needed.
SoundFiles = Mapping[str, Sequence[Sequence[str]]]


@dataclasses.dataclass(frozen=True)
class RecordedEvents:
    """The recordings of a corpus and how events are cut from them.

    Attributes:
        sources: the recordings.
        max_event_seconds: longest event; longer recordings are cut, at random.
    """

    sources: RecordedSources
    max_event_seconds: float = 3.5

    def __post_init__(self) -> None:
        if not MIN_EVENT_SECONDS <= self.max_event_seconds <= 3_600:
            raise ValueError(
                f"max_event_seconds: expected {MIN_EVENT_SECONDS:g} to 3600 seconds, "
                f"got {self.max_event_seconds:g}"
            )

    def settings(self) -> dict[str, object]:
        """Return the settings that decide the events, for JSON."""
        return {"max_event_seconds": self.max_event_seconds, **self.sources.settings}


def prepare_sounds(
    events: RecordedEvents, folder: Path, workers: int
) -> tuple[SoundFiles, list[Problem]]:
    """Decode every recording once and keep what events may be cut from.

    Args:
        events: the recordings.
        folder: where the sounds are written: 64 kB a second, for a recording at most twice
            `max_event_seconds` and a bit.
        workers: processes. With several, a recording that hangs the decoder or kills it is skipped
            as well.

    Returns:
        The sounds, and what was wrong with the recordings that were skipped, of which a warning was
        logged.

    Raises:
        ValueError: if no recording of a class can be used in a split.
    """
    clips, class_map = events.sources.clips, events.sources.class_map
    places = [(split, index) for split in SPLITS for index in range(len(clips[split]))]
    items = [
        (clips[split][index], str(folder / f"{split}-{index:06d}.npy")) for split, index in places
    ]
    prepare = functools.partial(_prepare_sound, events.max_event_seconds)
    timeout_seconds = _TIMEOUT_SECONDS if workers > 1 else None
    sounds: dict[str, list[list[str]]] = {split: [[] for _ in class_map.mids] for split in SPLITS}
    problems: dict[tuple[str, int], list[Problem]] = defaultdict(list)
    results = ordered_map(prepare, items, min(workers, len(items)), _lost, timeout_seconds)
    for (split, _), (clip, path), problem in zip(places, items, results, strict=True):
        if problem:
            problems[split, clip.labels[0]].append(problem)
        else:
            sounds[split][clip.labels[0]].append(path)
    skipped = list(itertools.chain(*problems.values()))
    if skipped:
        named = join_some(map(_name_problem, skipped), _MOST_NAMED, separator="; ")
        logging.warning("%d of %d recordings are skipped: %s", len(skipped), len(items), named)
    for (split, label), of_class in problems.items():
        if not sounds[split][label]:
            raise ValueError(
                f"source: none of the {len(of_class)} recordings of "
                f"{class_map.display_names[label]!r} for {split} can be used, such as "
                f"{_name_problem(of_class[0])}; every class needs one in each split"
            )
    return sounds, skipped


def _name_problem(problem: Problem) -> str:
    """Return a problem in words."""
    return f"{problem.id} ({problem.kind}: {problem.detail})"


def _prepare_sound(max_event_seconds: float, item: tuple[Clip, str]) -> Problem | None:
    """Decode a recording to a file; return what is wrong with it, if anything."""
    clip, path = item
    try:
        sound = load_sound(clip, max_event_seconds)
    except AudioError as error:
        return Problem.of(clip, error.kind, error.detail)
    except Exception as error:  # one recording, whatever is wrong with it, does not stop the others
        return Problem.of(clip, "unexpected", f"{type(error).__name__}: {error}")
    np.save(path, sound)
    return None


def _lost(item: tuple[Clip, str], kind: str, detail: str) -> Problem:
    """Return the problem of a recording that a worker died over."""
    return Problem.of(item[0], kind, detail)


def load_sound(clip: Clip, max_event_seconds: float) -> np.ndarray:
    """Decode a recording to what events may be cut from.

    It is trimmed to what is heard (`heard_span`) and, if that is long, to what lies within
    `max_event_seconds` of its loudest 125 ms, which every event holds.

    Returns:
        Mono float32 [samples] at 16 kHz, scaled so that the peak of what is heard is 1.

    Raises:
        AudioError: if the recording can't be used; silent ones and those shorter than 20 ms are of
            no use either.
    """
    if clip.path is None:
        raise AudioError("missing", clip.missing)
    with storage.local_copy(clip.path) as path:
        audio = load_audio(path, SAMPLE_RATE_HZ, clip.start_seconds, clip.end_seconds)
    sound = audio.waveform.astype(np.float64)
    peak = np.abs(sound).max()
    if peak < _SILENT_PEAK:
        raise AudioError("silent", f"peak {peak:.1e} of full scale")
    sound = sound[heard_span(sound)] / peak
    if len(sound) < _SHORTEST_MS * SAMPLES_PER_MS:
        raise AudioError(
            "too_short",
            f"{len(sound) / SAMPLE_RATE_HZ:.4f} s of sound, less than {_SHORTEST_MS} ms",
        )
    loudest, _ = loudest_window(sound)
    reach = round(max_event_seconds * SAMPLE_RATE_HZ)
    return sound[max(0, loudest.start - reach) : loudest.stop + reach].astype(np.float32)


def heard_span(sound: np.ndarray) -> slice:
    """Return where a sound, float64 [samples], is heard, and up to 5 ms around for its fades.

    Heard is what lies between the first and the last millisecond whose level is within 40 dB of the
    loudest one's.
    """
    milliseconds = whole_milliseconds(sound).reshape(-1, SAMPLES_PER_MS)
    levels = np.sqrt(np.mean(np.square(milliseconds), axis=1))
    heard = np.flatnonzero(levels >= _HEARD * levels.max())
    start, stop = max(0, int(heard[0]) - _FADE_MS), int(heard[-1]) + 1 + _FADE_MS
    return slice(start * SAMPLES_PER_MS, stop * SAMPLES_PER_MS)


def recorded_event(
    sounds: SoundFiles,
    max_event_seconds: float,
    rng: np.random.Generator,
    split: str,
    class_index: int,
    clip_ms: int,
) -> np.ndarray:
    """Return an event of a recording drawn from those of its class and split.

    With the first two arguments bound, it is a `mixing.MakeEvent`.
    """
    paths = sounds[split][class_index]
    sound = np.load(paths[int(rng.integers(len(paths)))], mmap_mode="r")
    longest = min(round(1_000 * max_event_seconds), clip_ms) * SAMPLES_PER_MS
    return cut_event(rng, np.asarray(sound, np.float64), longest)


def cut_event(rng: np.random.Generator, sound: np.ndarray, longest: int) -> np.ndarray:
    """Return an event of at most `longest` samples: the whole sound, or a part of it.

    A part has a random length from half of `longest` on, and holds the loudest 125 ms at a random
    place, so that no part is the noise between two barks. It is trimmed to what is heard of it.
    Both ends fade over 5 ms.

    Returns:
        float64 [samples], whole milliseconds.
    """
    if len(sound) > longest:
        length = int(longest * rng.uniform(0.5, 1))
        loudest, _ = loudest_window(sound)
        first, last = max(0, loudest.stop - length), min(loudest.start, len(sound) - length)
        start = int(rng.integers(first, last + 1))
        sound = sound[start : start + length]
        sound = sound[heard_span(sound)]
    fade = np.ones(len(sound))
    ramp = np.linspace(0, 1, _FADE_MS * SAMPLES_PER_MS)
    fade[: ramp.size] = ramp
    fade[-ramp.size :] = np.minimum(fade[-ramp.size :], ramp[::-1])
    return whole_milliseconds(sound * fade)
