"""Segment scores -> events: median filter, thresholds with hysteresis, least length. No TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from tfrecord_tools.config import Config, setting


class Event(NamedTuple):
    """A class that sounds from onset to offset, in seconds; its score is the highest of its
    segments.
    """

    class_index: int
    onset: float
    offset: float
    score: float


@dataclasses.dataclass(frozen=True)
class PostProcessing(Config):
    """How events are made of scores."""

    hop_scale: int = setting(
        1,
        "Scores this many times as often as the network's stride (0.32 s): 2, 4 and so on to 32. "
        "More than 1 takes the mean over all places of the max-pools' grid, so that a sound that "
        "comes later is heard alike, and costs two to six times as much.",
        minimum=1,
    )
    median_filter_seconds: float = setting(
        0.0,
        "Length in seconds of the median filter over the segment scores before thresholds. 0: none.",
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


def smooth(scores: np.ndarray, spans: np.ndarray, seconds: float) -> np.ndarray:
    """The median of the scores [K, C] over the odd number of segments that is nearest to `seconds`;
    edges are repeated.
    """
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

    A class sounds where its score lies above its threshold; with hysteresis, also next to such a
    segment as long as the score lies above (1 - hysteresis) x threshold.

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
            # Rounded, so that an event of as many hops as the least length is not lost in the last
            # digit.
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
