"""Sound or log-mel that goes on, to segments and events as they come in. No screen.

`SegmentStream` is what scores segments everywhere: of whole recordings, where it sees much at a
time, and of streams, where it scores each segment as soon as its context is there. Their scores,
and so their events, are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from secost_tf.detection.detector import Detector
from secost_tf.detection.events import EventTracker, MedianFilter, PostProcessing, Segments
from secost_tf.detection.sources import Source, in_blocks, in_time
from secost_tf.models import span_edges
from tfrecord_tools.audio import LogMelStream

if TYPE_CHECKING:
    from secost_tf.detection.screen import Screen  # which imports rich


class SegmentStream:
    """Scores the segments of a log-mel that comes in blocks.

    Args:
        detector: scores segments.
        config: hop and median filter of the scores.
        eager: score each segment as soon as its context is there, as a stream needs it. Else in
            long windows, which is faster.

    Attributes:
        num_frames: of the log-mel so far.

    Raises:
        ValueError: if the hop is none of the detector's.
    """

    def __init__(self, detector: Detector, config: PostProcessing, eager: bool = False):
        self.num_frames = 0
        self._detector, self._hop_scale = detector, config.hop_scale
        self._scorer = detector.scorer(config.hop_scale, eager)
        hop_seconds = detector.hop_seconds(config.hop_scale)
        self._filter = MedianFilter(config.median_filter_seconds, hop_seconds)
        self._num_scored = 0

    def add(self, block: np.ndarray) -> Segments:
        """Take the next frames and return the segments whose scores are final now.

        Args:
            block: log-mel, float32 [frames, mel_bins], of any length.

        Returns:
            The segments behind those that were returned before, with smoothed scores.
        """
        self.num_frames += len(block)
        return self._filter.add(self._with_spans(self._scorer.add(block)))

    def finish(self, seconds: float | None = None) -> Segments:
        """Return the segments that are left at the end.

        Args:
            seconds: the sound's length, with which the last segment's span ends. Default: the end
                of the last frame.

        Raises:
            ValueError: if there was no frame.
        """
        segments = self._with_spans(self._scorer.finish())
        end = self._detector.log_mel.seconds(self.num_frames) if seconds is None else seconds
        segments.spans[-1, 1] = end
        return self._filter.finish(segments)

    def _with_spans(self, scores: np.ndarray) -> Segments:
        first, self._num_scored = self._num_scored, self._num_scored + len(scores)
        edges = span_edges(
            self._detector.config,
            self._detector.log_mel,
            first,
            self._num_scored,
            self._hop_scale,
        )
        return Segments(np.stack([edges[:-1], edges[1:]], axis=1), scores)


def score_segments(
    blocks: Iterable[np.ndarray],
    detector: Detector,
    config: PostProcessing,
    seconds: float | None = None,
) -> Segments:
    """Return all segments of a log-mel; see `SegmentStream`.

    Args:
        blocks: float32 [frames, mel_bins] each.
        detector: scores segments.
        config: hop and median filter of the scores.
        seconds: the sound's length. Default: the end of the last frame.
    """
    stream = SegmentStream(detector, config)
    return Segments.join([*map(stream.add, blocks), stream.finish(seconds)])


def listen(
    source: Source,
    detector: Detector,
    thresholds: np.ndarray | float,
    config: PostProcessing,
    screen: Screen,
    real_time: bool = False,
) -> None:
    """Show what is heard in a sound, until it ends or Ctrl-C is pressed.

    Args:
        source: the sound.
        detector: scores segments.
        thresholds: of the classes, [C], or one of all.
        config: how events are made of scores.
        screen: where to show it.
        real_time: take the sound no faster than it plays.
    """
    rate, num_samples = detector.log_mel.sample_rate_hz, 0
    stride_samples = detector.config.stride_frames * detector.log_mel.hop_samples
    frames, segments = LogMelStream(detector.log_mel), SegmentStream(detector, config, eager=True)
    tracker = EventTracker(thresholds, config)
    blocks: Iterator[np.ndarray] = in_blocks(iter(source), stride_samples)
    if real_time:
        blocks = in_time(blocks, rate)
    with screen:
        try:
            for block in blocks:
                num_samples += len(block)
                scored = segments.add(frames.add(block))
                screen.add(scored.scores, tracker.add(scored))
                screen.draw(num_samples / rate, tracker.current)
            seconds = source.seconds
        except KeyboardInterrupt:
            seconds = num_samples / rate
        if segments.num_frames:
            scored = segments.finish(seconds)
            screen.add(scored.scores, [*tracker.add(scored), *tracker.finish()])
    if not segments.num_frames:
        window = detector.log_mel.window_seconds
        logging.warning("the sound ended after %.3f s: nothing is heard in %g s", seconds, window)
