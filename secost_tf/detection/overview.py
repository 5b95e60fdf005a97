"""The picture of a recording of any length: its log-mel, its events and scores of some classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from secost_tf.detection.events import Event, Segments
from tfrecord_tools import storage
from tfrecord_tools.log_mel import LogMelConfig

_MOST_COLUMNS = 2000  # of the picture's log-mel: more than its pixels

_MOST_POINTS = 700  # of a line of scores

_DPI = 110


class Overview:
    """A log-mel with few enough columns to draw, each the mean of as many frames that went by.

    Attributes:
        frames_per_column: a power of two.
    """

    def __init__(self, mel_bins: int):
        self.frames_per_column = 1
        self._columns = np.empty((0, mel_bins), np.float32)
        self._rest = self._columns  # frames that do not fill a column

    def watch(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the same blocks, float32 [frames, mel_bins], and keep what is drawn of them."""
        for block in blocks:
            self._add(block)
            yield block

    def _add(self, block: np.ndarray) -> None:
        frames = np.concatenate([self._rest, block])
        full = len(frames) // self.frames_per_column
        self._rest = frames[full * self.frames_per_column :]
        self._columns = np.concatenate([self._columns, _means(frames, full)])
        while len(self._columns) > _MOST_COLUMNS:
            pairs, odd = divmod(len(self._columns), 2)
            if odd:  # as the frames that it stands for
                last = np.repeat(self._columns[-1:], self.frames_per_column, axis=0)
                self._rest = np.concatenate([last, self._rest])
            self._columns = _means(self._columns, pairs)
            self.frames_per_column *= 2

    def columns(self) -> np.ndarray:
        """Return the columns, float32 [columns, mel_bins].

        Frames at the end that fill no column are left out, unless there is no other.
        """
        return self._columns if len(self._columns) else self._rest


def _means(frames: np.ndarray, count: int) -> np.ndarray:
    """Return the means of `count` equal runs: [frames, mel_bins] -> [count, mel_bins]."""
    size = len(frames) // max(count, 1)
    return (
        frames[: count * size].reshape(count, size, frames.shape[1]).mean(axis=1)
        if count
        else frames[:0]
    )


def leading_classes(scores: np.ndarray, classes: Sequence[int], count: int) -> list[int]:
    """Return those `count` of the classes whose highest score, of scores [K, C], is highest."""
    peaks = scores.max(axis=0)
    return sorted(classes, key=lambda index: -peaks[index])[:count]


def highest(spans: np.ndarray, scores: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Join segments, equally many each, so that at most `most` are left.

    Args:
        spans: seconds [K, 2].
        scores: [K, C].
        most: segments to be left.

    Returns:
        The spans of the joined segments, and the highest of their scores.
    """
    firsts = np.arange(0, len(spans), -(-len(spans) // most))
    ends = np.append(firsts[1:], len(spans)) - 1
    return np.stack([spans[firsts, 0], spans[ends, 1]], axis=1), np.maximum.reduceat(scores, firsts)


def write_picture(
    path: str,
    overview: Overview,
    log_mel: LogMelConfig,
    segments: Segments,
    events: Sequence[Event],
    shown: Sequence[int],
    names: Sequence[str],
    title: str,
) -> None:
    """Draw a recording as PNG.

    Of a long one, lines show the highest of the scores that lie in one place.

    Args:
        path: the file.
        overview: its log-mel.
        log_mel: what that was made with.
        segments: their spans and scores.
        events: those of the shown classes are drawn.
        shown: the classes to draw, `clip_picture.MOST_CLASSES` at most.
        names: of all classes.
        title: a line above.
    """
    from secost_tf.detection.clip_picture import clip_figure  # imports Matplotlib
    from tfrecord_tools.plots import to_png

    hop = log_mel.hop_seconds * overview.frames_per_column
    labels = {index: names[index].replace("$", r"\$") for index in shown}
    spans, peaks = highest(segments.spans, segments.scores[:, list(labels)], _MOST_POINTS)
    figure = clip_figure(
        overview.columns(),
        dataclasses.replace(log_mel, hop_seconds=hop),
        spans,
        dict(zip(labels.values(), peaks.T, strict=True)),
        [
            (labels[event.class_index], event.onset, event.offset)
            for event in events
            if event.class_index in labels and event.offset is not None
        ],
        title=title.replace("$", r"\$"),
        events_label="found",
    )
    with storage.atomic_write(path, "wb") as stream:
        stream.write(to_png(figure, _DPI))
