"""Segment scores of an input of any length, as if the network had seen it whole. No TensorFlow.

The network scores overlapping windows. A window begins a multiple of the stride after the input's
beginning, so that max-pools fall on the same grid; of its segments those are kept whose context
(`context_frames`) lies in it, or that the input's own beginning or end cuts short in either case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from secost_tf.models import WelsNetConfig, context_frames, fine_segments, hop_frames

Network = Callable[[np.ndarray], np.ndarray]
"""Log-mel float32 [frames, mel_bins] -> scores in 0..1, float32 [segments, C]."""

WINDOW_FRAMES = 4096  # 41 s: little is computed twice, and B1's outputs take 67 MB at width 1


class SegmentScorer:
    """Scores the segments of an input that comes in blocks; holds a window of it.

    Every segment is scored once, with all of its context, whatever the blocks and the windows.

    Args:
        network: scores the segments of one piece: `WelsNetConfig.num_segments(frames)` of them, or,
            at a finer hop, those that `fine_segments` lists (see `fine_network`).
        config: the network's.
        hop_scale: how much finer the hop is than the stride.
        window_frames: most frames that the network sees at a time; affects speed and memory, not
            scores.
        eager: score a segment as soon as its context is there. Else once a window is full, which
            computes much less twice.

    Raises:
        ValueError: if a window holds no whole segment, or the hop is no whole number of frames.
    """

    def __init__(
        self,
        network: Network,
        config: WelsNetConfig,
        hop_scale: int = 1,
        *,
        window_frames: int = WINDOW_FRAMES,
        eager: bool = False,
    ):
        hop_frames(config, hop_scale)
        stride, context = config.stride_frames, context_frames(config)
        if hop_scale > 1:
            # Segments begin up to a stride behind a window's last own one, and each is a mean over
            # half a stride more.
            context += stride + stride // 2
        self._network, self._stride, self._hop_scale = network, stride, hop_scale
        self._margin = -(-context // stride)  # strides whose context a join cuts off
        # Strides of a window behind the last one that is kept.
        self._behind = config.embedding_frames - 1 + self._margin
        self._most_strides = window_frames // stride
        least = self._margin + 1 + self._behind
        if self._most_strides < least:
            raise ValueError(
                f"window_frames: expected at least {least * stride}, got {window_frames}"
            )
        self._eager = eager
        self._window = _Window(config.mel_bins)
        self._none = np.empty((0, config.num_classes), np.float32)
        self._next = 0  # stride of the next segment to be scored

    def add(self, block: np.ndarray) -> np.ndarray:
        """Take the next frames and return the scores of the segments that have their context now.

        Args:
            block: log-mel, float32 [frames, mel_bins], of any length.

        Returns:
            float32 [n, C], where n may be 0.
        """
        self._window.add(block)
        scores = [self._none]
        while (strides := self._strides_to_score()) is not None:
            last = self._first + strides - self._behind
            piece = self._window.frames()[: strides * self._stride]
            scores.append(self._own(self._network(piece), last))
            self._window.drop((max(0, last - self._margin) - self._first) * self._stride)
            self._next = last
        return np.concatenate(scores)

    def finish(self) -> np.ndarray:
        """Return the scores of the segments at the end of the input: float32 [n, C], n > 0.

        Raises:
            ValueError: if there was no frame.
        """
        if not self._window.num_frames:
            raise ValueError("blocks: expected at least one frame, got none")
        return self._own(self._network(self._window.frames()), None)

    @property
    def _first(self) -> int:
        """Stride that the window begins with."""
        return max(0, self._next - self._margin)

    def _strides_to_score(self) -> int | None:
        """Return the length of the next piece in strides; None if more frames are needed."""
        strides = min((self._window.num_frames - 1) // self._stride, self._most_strides)
        if strides < self._most_strides and not self._eager:
            return None
        return strides if strides - self._behind > self._next - self._first else None

    def _own(self, scores: np.ndarray, last: int | None) -> np.ndarray:
        """Return those of the window's scores that are wanted, up to before stride `last`."""
        end = len(scores) if last is None else (last - self._first) * self._hop_scale
        return scores[(self._next - self._first) * self._hop_scale : end]


def segment_scores(
    blocks: Iterable[np.ndarray],
    network: Network,
    config: WelsNetConfig,
    hop_scale: int = 1,
    window_frames: int = WINDOW_FRAMES,
) -> np.ndarray:
    """Return the scores of all segments of an input; see `SegmentScorer`.

    Args:
        blocks: the log-mel, float32 [frames, mel_bins] in pieces of any lengths.
        network, config, hop_scale, window_frames: the scorer's.

    Returns:
        float32 [K, C].

    Raises:
        ValueError: as `SegmentScorer`; if there is no frame.
    """
    scorer = SegmentScorer(network, config, hop_scale, window_frames=window_frames)
    scores = [scorer.add(block) for block in blocks]
    return np.concatenate([*scores, scorer.finish()])


def fine_network(every_frame: Network, config: WelsNetConfig, hop_scale: int) -> Network:
    """Return a network whose segments lie a part of the stride apart.

    A segment's score depends on where its frames fall on the grid of the max-pools. Here it is the
    mean over the segments that begin within half a stride of it, and so over all of these grids: a
    sound that comes some frames later is scored alike, as many frames later.

    Args:
        every_frame: scores the K * stride segments of one piece that begin with frame 0, 1, ...
            (`secost_tf.models.every_frame`).
        config: the network's.
        hop_scale: how much finer the hop is than the stride.

    Returns:
        A network that scores the segments that `fine_segments` lists.

    Raises:
        ValueError: if the hop is no whole number of frames.
    """
    hop, stride = hop_frames(config, hop_scale), config.stride_frames

    def network(piece: np.ndarray) -> np.ndarray:
        counted = len(fine_segments(config, len(piece), stride))
        return mean_around(every_frame(piece)[:counted], stride, hop)

    return network


def mean_around(scores: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Return the mean of the scores [n, C] around every `hop`-th of them.

    It is over `length` scores; where that is even, half of each of the outermost two counts. At
    both ends, over what there is.

    Returns:
        float32 [n / hop rounded up, C].
    """
    zero = np.zeros((1, scores.shape[1]))
    sums = np.concatenate([zero, np.cumsum(scores, axis=0, dtype=np.float64)])
    middles = np.arange(0, len(scores), hop)
    total, count = np.zeros((len(middles), scores.shape[1])), np.zeros((len(middles), 1))
    for before in (length // 2, (length - 1) // 2):
        first = np.maximum(middles - before, 0)
        behind = np.minimum(middles - before + length, len(scores))
        total += sums[behind] - sums[first]
        count += (behind - first)[:, None]
    return (total / count).astype(np.float32)


class _Window:
    """The frames of an input from one place on."""

    def __init__(self, mel_bins: int):
        self._parts = [np.empty((0, mel_bins), np.float32)]
        self.num_frames = 0

    def add(self, block: np.ndarray) -> None:
        self._parts.append(block)
        self.num_frames += len(block)

    def frames(self) -> np.ndarray:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def drop(self, count: int) -> None:
        self._parts = [self.frames()[count:]]
        self.num_frames -= count
