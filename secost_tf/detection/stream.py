"""A stream of sound -> scores of segments as they come in -> events as they begin and end. No
clock, no screen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from secost_tf.serving import Servable, read_exported

# Waveform float32 [samples] -> segment scores float32 [K, classes].
ScoreSegments = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where segments lie in a stream: segment i covers `segment_samples` from sample `i *
    stride_samples` on.

    Attributes:
        sample_rate_hz: of the stream.
        stride_samples: from one segment to the next.
        segment_samples: that a segment sees; a multiple of the stride.
    """

    sample_rate_hz: int
    stride_samples: int
    segment_samples: int

    def middle_seconds(self, segment: int) -> float:
        """Where the middle stride of a segment begins: when what the segment heard is said to have
        been.
        """
        margin = (self.segment_samples - self.stride_samples) / 2
        return (segment * self.stride_samples + margin) / self.sample_rate_hz

    def complete(self, samples: int) -> int:
        """How many segments lie in the first `samples` of a stream."""
        return max(0, (samples - self.segment_samples) // self.stride_samples + 1)


class StreamScorer:
    """Scores each segment of a stream once, when it is complete, from the last `window_strides` of
    sound.

    Args:
        score_segments: the model; called on windows that begin where a segment does.
        grid: of the segments.
        window_strides: the longest window, in strides; what lies before a segment in it is the
            network's context.
    """

    def __init__(self, score_segments: ScoreSegments, grid: Grid, window_strides: int):
        shortest = grid.segment_samples // grid.stride_samples
        if window_strides < shortest:
            raise ValueError(f"window: expected {shortest} segments or more, got {window_strides}")
        self._score_segments, self._grid = score_segments, grid
        self._window_samples = window_strides * grid.stride_samples
        self._kept = np.zeros(0, np.float32)
        self._kept_from = (
            0  # place in the stream of the first sample that is kept; a multiple of the stride
        )
        self._next_segment = 0

    @property
    def num_samples(self) -> int:
        """Samples of the stream so far."""
        return self._kept_from + len(self._kept)

    def add(self, samples: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Takes what the stream goes on with; yields (segment, scores [classes]) of segments that
        are complete now.
        """
        self._kept = np.concatenate([self._kept, np.asarray(samples, np.float32)])
        complete = self._grid.complete(self.num_samples)
        stride = self._grid.stride_samples
        while self._next_segment < complete:
            # As many new segments at once as the window holds behind the context of the first one.
            first = max(0, self._next_segment - self._context_strides)
            last = min(complete, first + self._segments_in_window)
            start = first * stride - self._kept_from
            end = (last - 1) * stride + self._grid.segment_samples - self._kept_from
            scores = self._score_segments(self._kept[start:end])
            for segment in range(self._next_segment, last):
                yield segment, scores[segment - first]
            self._next_segment = last
        keep_from = max(0, self._next_segment - self._context_strides) * stride
        self._kept, self._kept_from = self._kept[keep_from - self._kept_from :], keep_from

    @property
    def _segments_in_window(self) -> int:
        return self._grid.complete(self._window_samples)

    @property
    def _context_strides(self) -> int:
        """Strides before a new segment that the network sees with it: all of the window but one
        segment.
        """
        return self._segments_in_window - 1


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that was heard.

    Attributes:
        class_index: what.
        onset, offset: seconds from the beginning of the stream; the offset is None while it lasts.
        peak: the highest score so far.
    """

    class_index: int
    onset: float
    offset: float | None
    peak: float


class EventTracker:
    """Tells when classes begin and end.

    Args:
        threshold: a score at which an event begins, in (0, 1].
        hysteresis: the share of it by which the score may fall below it while the event lasts, in
            [0, 1), so that a score that wavers is one event.
    """

    def __init__(self, threshold: float, hysteresis: float):
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold: expected more than 0, 1 at most, got {threshold:g}")
        if not 0 <= hysteresis < 1:
            raise ValueError(f"hysteresis: expected 0 or more, less than 1, got {hysteresis:g}")
        self._threshold, self._release = threshold, (1 - hysteresis) * threshold
        self._current: dict[int, Event] = {}

    @property
    def current(self) -> dict[int, Event]:
        """The events that last, by class."""
        return dict(self._current)

    def add(self, seconds: float, scores: np.ndarray) -> list[Event]:
        """Takes the scores [classes] of the next segment; returns the events that begin or end
        there.
        """
        changes = []
        for index in sorted({*self._current, *np.flatnonzero(scores >= self._threshold).tolist()}):
            score, event = float(scores[index]), self._current.get(index)
            if event is None:
                self._current[index] = Event(index, seconds, None, score)
                changes.append(self._current[index])
            elif score < self._release:
                changes.append(self._end(index, seconds))
            else:
                self._current[index] = dataclasses.replace(event, peak=max(event.peak, score))
        return changes

    def end(self, seconds: float) -> list[Event]:
        """The stream ends: so do all events that last."""
        return [self._end(index, seconds) for index in sorted(self._current)]

    def _end(self, index: int, seconds: float) -> Event:
        return dataclasses.replace(self._current.pop(index), offset=seconds)


class Model:
    """An exported model as a monitor needs it.

    Args:
        folder: of its versions, or of one.

    Attributes:
        title: name and version.
        names: of the classes.
        grid: of its segments.
    """

    def __init__(self, folder: str):
        exported = read_exported(folder)
        hop = exported.log_mel.hop_samples
        self.title, self.names = exported.title, exported.class_map.display_names
        self.grid = Grid(
            exported.log_mel.sample_rate_hz,
            exported.config.stride_frames * hop,
            exported.config.window_frames * hop,
        )
        self._servable = Servable(exported.folder)

    def score_segments(self, waveform: np.ndarray) -> np.ndarray:
        """Waveform float32 [samples] -> segment scores [K, classes]."""
        return self._servable.run("serving_default", {"waveform": waveform[None]})[
            "segment_scores"
        ][0]
