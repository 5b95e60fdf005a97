"""Segment scores -> events: median filter, thresholds with hysteresis, least length. No TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from tfrecord_tools.config import Config


class Event(NamedTuple):
    """A class that sounds from onset to offset, in seconds; its score is the highest of its segments."""

    class_index: int
    onset: float
    offset: float
    score: float


@dataclasses.dataclass(frozen=True)
class PostProcessing(Config):
    """How events are made of scores.

    Attributes:
        hop_scale: how much finer than the network's stride the scores' hop is; see `segment_scores.fine_segment_scores`.
        median_filter_seconds: length of the median filter over the scores; 0: none.
        hysteresis: the share of its threshold by which a class's score may fall below it while an event that has reached it
            goes on, in [0, 1).
        min_event_seconds: events that are shorter are left out.
    """

    hop_scale: int = 1
    median_filter_seconds: float = 0.0
    hysteresis: float = 0.0
    min_event_seconds: float = 0.0

    def __post_init__(self):
        for name in ("median_filter_seconds", "hysteresis", "min_event_seconds"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected a number of 0 or more, got {getattr(self, name)}")
        if self.hysteresis >= 1:
            raise ValueError(
                f"hysteresis: expected a share of the threshold, 0 or more and less than 1, got {self.hysteresis}"
            )


def smooth(scores: np.ndarray, spans: np.ndarray, seconds: float) -> np.ndarray:
    """The median of the scores [K, C] over the odd number of segments that is nearest to `seconds`; edges are repeated."""
    if len(spans) < 3:
        return scores
    hop = (spans[-1, 0] - spans[0, 1]) / (len(spans) - 2)  # the first and the last span differ
    size = 2 * max(0, round((seconds / hop - 1) / 2)) + 1
    if size == 1:
        return scores
    from scipy import ndimage  # slow to import

    return ndimage.median_filter(scores, (size, 1), mode="nearest")


def active_segments(
    scores: np.ndarray, spans: np.ndarray, thresholds: np.ndarray, config: PostProcessing
) -> np.ndarray:
    """Which class sounds in which segment: bool [K, C].

    A class sounds where its score lies above its threshold; with hysteresis, also next to such a segment as long as the score
    lies above (1 - hysteresis) x threshold.

    Args:
        scores: in 0..1, already smoothed, [K, C].
        spans: seconds [K, 2]; see `segment_times.segment_spans`.
        thresholds: [C].
        config: hysteresis and least length.
    """
    above = scores > thresholds
    candidates = scores > (1 - config.hysteresis) * thresholds if config.hysteresis else above
    active = np.zeros_like(above)
    for index in np.flatnonzero(above.any(axis=0)):
        for first, last in _runs(candidates[:, index]):
            # Rounded, so that an event of as many hops as the least length is not lost in the last digit.
            long_enough = round(spans[last - 1, 1] - spans[first, 0], 6) >= config.min_event_seconds
            active[first:last, index] = long_enough and above[first:last, index].any()
    return active


def list_events(active: np.ndarray, scores: np.ndarray, spans: np.ndarray) -> list[Event]:
    """The events of a recording by onset: bool [K, C], scores [K, C], spans in seconds [K, 2]."""
    events = [
        Event(
            int(index),
            float(spans[first, 0]),
            float(spans[last - 1, 1]),
            float(scores[first:last, index].max()),
        )
        for index in np.flatnonzero(active.any(axis=0))
        for first, last in _runs(active[:, index])
    ]
    return sorted(events, key=lambda event: (event.onset, event.offset, event.class_index))


def _runs(mask: np.ndarray) -> np.ndarray:
    """First and behind-last place of each run of True: int [runs, 2]."""
    padded = np.concatenate([[False], mask, [False]])
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
