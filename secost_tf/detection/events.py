"""Segment scores to events, as they come in: median filter, thresholds, hysteresis, least length.

    tracker = EventTracker(thresholds, config)
    for segments in ...:
        for event in tracker.add(segments):
            ...  # begins (its offset is None), or has ended
    for event in tracker.finish():
        ...  # lasted until the end

No TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tfrecord_tools.config import Config, setting


class Event(NamedTuple):
    """A class that sounds from onset to offset.

    Attributes:
        class_index: the class.
        onset: seconds from the beginning of the sound.
        offset: the same of its end; None while the event lasts.
        score: the highest score of its segments so far, in 0..1.
    """

    class_index: int
    onset: float
    offset: float | None
    score: float


class Segments(NamedTuple):
    """Some segments of a sound, one after the other.

    Attributes:
        spans: the time that each stands for, onset and offset in seconds, float64 [n, 2].
        scores: of the classes, in 0..1, float32 [n, C].
    """

    spans: np.ndarray
    scores: np.ndarray

    @staticmethod
    def join(parts: Iterable[Segments]) -> Segments:
        """Return segments that came in parts as a whole."""
        spans, scores = zip(*parts, strict=True)
        return Segments(np.concatenate(spans), np.concatenate(scores))


@dataclasses.dataclass(frozen=True)
class PostProcessing(Config):
    """The way from scores to events."""

    hop_scale: int = setting(
        1,
        "Scores this many times as often as the network's stride (0.32 s): 2, 4 and so on to 32. "
        "More than 1 takes the mean over all places of the max-pools' grid, so that a sound that "
        "comes later is heard alike, and costs two to six times as much.",
        minimum=1,
    )
    median_filter_seconds: float = setting(
        0.0,
        "Length in seconds of the median filter over the segment scores before thresholds. "
        "0: none.",
        minimum=0,
    )
    hysteresis: float = setting(
        0.0,
        "The share of its threshold by which a score may fall below it while the event goes on. "
        "0: not at all.",
        minimum=0,
        below=1,
    )
    min_event_seconds: float = setting(
        0.0, "Events shorter than this many seconds are left out. 0: none is.", minimum=0
    )


class MedianFilter:
    """The running median of the scores of segments that come in.

    It is over an odd number of segments about each; at both ends the outermost score is repeated.

    Args:
        seconds: its length; the odd number of segments that is nearest to it counts.
        hop_seconds: from one segment to the next.
    """

    def __init__(self, seconds: float, hop_seconds: float):
        self._half = max(0, round((seconds / hop_seconds - 1) / 2))
        # The spans of the segments whose median is to come, and the scores from half a length
        # before the first of them on.
        self._kept: Segments | None = None

    def add(self, segments: Segments) -> Segments:
        """Take the next segments and return those whose median is known now."""
        spans, scores = segments
        if not self._half or not len(spans):
            return segments
        if self._kept is None:
            self._kept = Segments(spans[:0], np.repeat(scores[:1], self._half, axis=0))
        return self._filter(Segments.join([self._kept, segments]))

    def finish(self, segments: Segments) -> Segments:
        """Take the last segments and return all that are left."""
        done = self.add(segments)
        if self._kept is None:
            return done
        spans, scores = self._kept
        edge = np.repeat(scores[-1:], self._half, axis=0)
        last = self._filter(Segments(spans, np.concatenate([scores, edge])))
        return Segments.join([done, last])

    def _filter(self, kept: Segments) -> Segments:
        """Return the segments whose medians are known, and keep what the next ones need."""
        from scipy import ndimage  # slow to import

        spans, scores = kept
        count = max(0, len(scores) - 2 * self._half)
        self._kept = Segments(spans[count:], scores[count:])
        medians = ndimage.median_filter(scores, (2 * self._half + 1, 1))
        return Segments(spans[:count], medians[self._half : self._half + count])


@dataclasses.dataclass
class _Run:
    """Segments of a class that go on, which are an event if one of them reaches the threshold.

    Attributes:
        onset: seconds.
        score: the highest.
        reached: whether one of them reached the threshold.
        begun: whether they are an event: one did, and they are long enough.
    """

    onset: float
    score: float = 0.0
    reached: bool = False
    begun: bool = False


class EventTracker:
    """Tells when classes begin and end in segments that come in.

    A class begins where its score reaches its threshold (score >= threshold). With hysteresis, the
    segments before and behind belong to the event as well, as long as the score is at least
    (1 - hysteresis) x threshold.

    Args:
        thresholds: of the classes, [C], or one of all.
        config: hysteresis and least length.
    """

    def __init__(self, thresholds: np.ndarray | float, config: PostProcessing):
        self._thresholds, self._config = np.asarray(thresholds), config
        self._runs: dict[int, _Run] = {}  # those that go on, by class
        self._end = 0.0

    @property
    def current(self) -> list[Event]:
        """The events that last, by class."""
        return [
            Event(index, run.onset, None, run.score)
            for index, run in sorted(self._runs.items())
            if run.begun
        ]

    def add(self, segments: Segments) -> list[Event]:
        """Take the next segments and return the events that begin or end there.

        An event begins once it is known to be one: the threshold is reached, and the event is as
        long as the shortest that counts. It may be returned twice, first without its offset.

        Returns:
            The events in the order in which they are known, whatever the parts that segments come
            in.
        """
        spans, scores = segments
        if not len(spans):
            return []
        above = scores >= self._thresholds
        lasting = scores >= (1 - self._config.hysteresis) * self._thresholds
        changes: list[tuple[int, Event]] = []
        for index in sorted({*self._runs, *np.flatnonzero(lasting.any(axis=0)).tolist()}):
            runs = _runs(lasting[:, index])
            if index in self._runs and (not len(runs) or runs[0, 0] > 0):
                changes += self._close(index, 0, spans[0, 0])
            for first, last in runs:
                part = Segments(spans[first:last], scores[first:last, index])
                changes += self._extend(index, first, part, above[first:last, index])
                if last < len(spans):
                    changes += self._close(index, last, spans[last - 1, 1])
        self._end = spans[-1, 1]
        return [event for _, event in sorted(changes, key=lambda change: (change[0], change[1][0]))]

    def finish(self) -> list[Event]:
        """Return the events that lasted until the end of the sound."""
        indices = sorted(self._runs)
        return [event for index in indices for _, event in self._close(index, 0, self._end)]

    def _extend(
        self, index: int, first: int, part: Segments, above: np.ndarray
    ) -> list[tuple[int, Event]]:
        """Take more segments of a class, from place `first` on; return its event if it begins."""
        run = self._runs.setdefault(index, _Run(part.spans[0, 0]))
        peaks = np.maximum(np.maximum.accumulate(part.scores), run.score)
        reached = np.logical_or.accumulate(above) | run.reached
        run.score, run.reached = float(peaks[-1]), bool(reached[-1])
        if run.begun or not run.reached:
            return []
        # Rounded, so that an event as long as the shortest is not lost in the last digit.
        seconds = np.round(part.spans[:, 1] - run.onset, 6)
        begins = np.flatnonzero(reached & (seconds >= self._config.min_event_seconds))
        if not len(begins):
            return []
        run.begun, place = True, int(begins[0])
        return [(first + place, Event(index, float(run.onset), None, float(peaks[place])))]

    def _close(self, index: int, place: int, offset: float) -> list[tuple[int, Event]]:
        """End the segments of a class before a place; return its event if they are one."""
        run = self._runs.pop(index)
        event = Event(index, float(run.onset), float(offset), run.score)
        return [(place, event)] if run.begun else []


def list_events(
    segments: Segments, thresholds: np.ndarray | float, config: PostProcessing
) -> list[Event]:
    """Return the events of a whole recording by onset; see `EventTracker`."""
    tracker = EventTracker(thresholds, config)
    return sort_events([*tracker.add(segments), *tracker.finish()])


def sort_events(changes: Iterable[Event]) -> list[Event]:
    """Return by onset those events of a tracker that have ended."""
    ended = [event for event in changes if event.offset is not None]
    return sorted(ended, key=lambda event: (event.onset, event.offset, event.class_index))


def active_segments(events: Sequence[Event], segments: Segments) -> np.ndarray:
    """Return which class sounds in which segment, bool [K, C], by the events of these segments."""
    active = np.zeros(segments.scores.shape, bool)
    onsets = segments.spans[:, 0]
    for index, onset, offset, _ in events:
        last = len(onsets) if offset is None else np.searchsorted(onsets, offset)
        active[np.searchsorted(onsets, onset) : last, index] = True
    return active


def _runs(mask: np.ndarray) -> np.ndarray:
    """Return the first and the behind-last place of each run of True: int [runs, 2]."""
    padded = np.concatenate([[False], mask, [False]])
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
