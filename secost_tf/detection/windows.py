"""Segment scores of a recording of any length, from overlapping windows, as if the network had seen
it whole. No TensorFlow.

A window begins a multiple of the stride after the recording, so that max-pools fall on the same
grid; of its segments those are kept whose context (`segment_times.context_frames`) lies in it, or
that the recording's own beginning or end cuts short in either case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from secost_tf.models import WelsNetConfig, context_frames, fine_segments, hop_frames

Network = Callable[[np.ndarray], np.ndarray]
"""Log-mel float32 [frames, mel_bins] -> scores in 0..1, float32 [segments, C]."""

WINDOW_FRAMES = 4096  # 41 s: little is computed twice, and B1's outputs take 67 MB at width 1


def segment_scores(
    blocks: Iterable[np.ndarray],
    network: Network,
    config: WelsNetConfig,
    window_frames: int = WINDOW_FRAMES,
) -> np.ndarray:
    """Scores each segment of a recording; memory holds a window of the input and all scores.

    Args:
        blocks: the log-mel, float32 [frames, mel_bins] in pieces of any lengths.
        network: scores the K segments of one piece, `WelsNetConfig.num_segments(frames)`.
        config: the network's.
        window_frames: frames at a time; affects speed and memory, not scores.

    Returns:
        float32 [K, C].

    Raises:
        ValueError: if there is no frame, or a window holds no whole segment.
    """
    return _join_windows(blocks, network, config, 1, context_frames(config), window_frames)


def fine_segment_scores(
    blocks: Iterable[np.ndarray],
    every_frame: Network,
    config: WelsNetConfig,
    hop_scale: int,
    window_frames: int = WINDOW_FRAMES,
) -> np.ndarray:
    """Scores segments a part of the stride apart, each as the mean over those that begin within
    half a stride of it.

    A segment's score depends on where its frames fall on the grid of the max-pools. The mean is
    over all of these grids, so that a sound that comes some frames later is scored alike, as many
    frames later.

    Args:
        blocks, config, window_frames: see `segment_scores`.
        every_frame: scores the K * stride segments of one piece that begin with frame 0, 1, ...
            (`secost_tf.models.frame_segments`).
        hop_scale: how much finer the hop is than the stride.

    Returns:
        float32 [K, C]: of the segments that `segment_times.fine_segments` lists.

    Raises:
        ValueError: as `segment_scores`; if the hop is no whole number of frames.
    """
    hop, stride = hop_frames(config, hop_scale), config.stride_frames

    def network(piece: np.ndarray) -> np.ndarray:
        counted = len(fine_segments(config, len(piece), stride))
        return mean_around(every_frame(piece)[:counted], stride, hop)

    # Segments begin up to a stride behind a window's last own one, and each is a mean over half a
    # stride more.
    reach = context_frames(config) + stride + stride // 2
    return _join_windows(blocks, network, config, hop_scale, reach, window_frames)


def mean_around(scores: np.ndarray, length: int, hop: int) -> np.ndarray:
    """The mean of the scores [n, C] that lie around every `hop`-th of them: float32 [n / hop
    rounded up, C].

    It is over `length` scores; where that is even, half of each of the outermost two counts. At
    both ends, over what there is.
    """
    sums = np.concatenate(
        [np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0, dtype=np.float64)]
    )
    middles = np.arange(0, len(scores), hop)
    total, count = np.zeros((len(middles), scores.shape[1])), np.zeros((len(middles), 1))
    for before in (length // 2, (length - 1) // 2):
        first = np.maximum(middles - before, 0)
        behind = np.minimum(middles - before + length, len(scores))
        total += sums[behind] - sums[first]
        count += (behind - first)[:, None]
    return (total / count).astype(np.float32)


def _join_windows(
    blocks: Iterable[np.ndarray],
    network: Network,
    config: WelsNetConfig,
    per_stride: int,
    context: int,
    window_frames: int,
) -> np.ndarray:
    """The scores of a network that gives `per_stride` scores for each stride and sees `context`
    frames around it.
    """
    stride = config.stride_frames
    margin = -(-context // stride)  # strides whose context a join cuts off
    cells = window_frames // stride
    kept = cells - (config.embedding_frames - 1) - 2 * margin  # of a window in the middle
    if kept < 1:
        least = (cells - kept + 1) * stride
        raise ValueError(f"window_frames: expected at least {least}, got {window_frames}")
    found: list[np.ndarray] = []
    window, source, skip = _Window(config.mel_bins), iter(blocks), 0
    while window.fill(cells * stride, source):
        scores = network(window.frames[: cells * stride])
        found.append(scores[skip * per_stride : len(scores) - margin * per_stride])
        window.drop(kept * stride)
        skip = margin
    if not len(window.frames):
        raise ValueError("blocks: expected at least one frame, got none")
    found.append(network(window.frames)[skip * per_stride :])
    return np.concatenate(found)


class _Window:
    """The frames from one place of a stream on."""

    def __init__(self, mel_bins: int):
        self.frames = np.empty((0, mel_bins), np.float32)

    def fill(self, count: int, source: Iterable[np.ndarray]) -> bool:
        """Reads until there are more than `count` frames, or the stream ends: then False."""
        parts, total = [self.frames], len(self.frames)
        for block in source:
            parts.append(block)
            total += len(block)
            if total > count:
                break
        self.frames = np.concatenate(parts)
        return total > count

    def drop(self, count: int) -> None:
        self.frames = self.frames[count:]
