"""Segment scores of a recording of any length, from overlapping windows, as if the network had seen it whole. No TensorFlow.

A window begins a multiple of the stride after the recording, so that max-pools fall on the same grid; of its segments those
are kept whose context (`segment_times.context_frames`) lies in it, or that the recording's own beginning or end cuts short in
either case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from secost_tf.config import WelsNetConfig
from secost_tf.segment_times import context_frames, fine_segments, hop_frames

Network = Callable[[np.ndarray], np.ndarray]
"""Log-mel float32 [frames, mel_bins] -> scores in 0..1, float32 [K, C], K being `WelsNetConfig.num_segments(frames)`."""

WINDOW_FRAMES = 4096  # 41 s: little is computed twice, and B1's outputs take 67 MB at width 1


def segment_scores(
    blocks: Iterable[np.ndarray],
    network: Network,
    config: WelsNetConfig,
    hop_scale: int = 1,
    window_frames: int = WINDOW_FRAMES,
) -> np.ndarray:
    """Scores each segment of a recording; memory holds a window of the input and all scores.

    Args:
        blocks: the log-mel, float32 [frames, mel_bins] in pieces of any lengths.
        network: scores one piece.
        config: the network's.
        hop_scale: how much finer the hop is than the stride: 2 or 4 also score the input without its first frames, and
            interleave. Costs as many times as much.
        window_frames: frames at a time; affects speed and memory, not scores.

    Returns:
        float32 [K, C]: of the segments that `segment_times.fine_segments` lists.

    Raises:
        ValueError: if there is no frame, a window holds no whole segment, or the hop is no whole number of frames.
    """
    stride, hop = config.stride_frames, hop_frames(config, hop_scale)
    margin = -(-context_frames(config) // stride)  # segments whose context a join cuts off
    cells = window_frames // stride
    kept = cells - (config.embedding_frames - 1) - 2 * margin  # of a window in the middle
    if kept < 1:
        least = (cells - kept + 1) * stride
        raise ValueError(f"window_frames: expected at least {least}, got {window_frames}")
    shifts = [shift * hop for shift in range(hop_scale)]
    found: list[list[np.ndarray]] = [[] for _ in shifts]
    window, num_frames, source, skip = _Window(config.mel_bins), 0, iter(blocks), 0
    while True:
        is_last = not window.fill(cells * stride + shifts[-1], source)
        for shift, pieces in zip(shifts, found, strict=True):
            piece = window.frames[shift:] if is_last else window.frames[shift : shift + cells * stride]
            if len(piece):
                scores = network(piece)
                pieces.append(scores[skip:] if is_last else scores[skip : len(scores) - margin])
        if is_last:
            break
        window.drop(kept * stride)
        num_frames, skip = num_frames + kept * stride, margin
    num_frames += len(window.frames)
    if not num_frames:
        raise ValueError("blocks: expected at least one frame, got none")
    first_frames = fine_segments(config, num_frames, hop_scale)
    of_shift = [np.concatenate(pieces) for pieces in found if pieces]
    result = np.empty((len(first_frames), of_shift[0].shape[1]), np.float32)
    for shift, scores in enumerate(of_shift):
        places = result[shift::hop_scale]
        places[:] = scores[: len(places)]
    return result


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
