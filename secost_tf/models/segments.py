"""Compute when each segment looks, and the time it stands for, from WELS-Net's strides and kernels.

TensorFlow is not needed.

Zero-padded convolutions and max-pools keep cells in place: cell j at a stride of s frames lies over
frames [j s, (j + 1) s), and what a 3x3 convolution adds is one cell on each side. So a segment sees
as far before its window as behind it, and the middle of its window is the middle of all that it
sees.
"""

from __future__ import annotations

import numpy as np

from secost_tf.models.config import WelsNetConfig
from tfrecord_tools.log_mel import LogMelConfig


def context_frames(config: WelsNetConfig) -> int:
    """Return the frames that a segment sees on each side of its window: 58 at the defaults.

    It sees them through the 3x3 convolutions.
    """
    strides = np.cumprod([1, *config.block_pools[:-1]])
    return config.block_convolutions * int(strides.sum())


def segment_times(config: WelsNetConfig, log_mel: LogMelConfig, num_frames: int) -> np.ndarray:
    """Compute when each segment of a clip looks: the frames that B5 sees.

    Segment k covers `window_frames` frames from frame `k * stride_frames` on (0.96 s every 0.32 s
    at the defaults); the 3x3 convolutions add fainter context, `context_frames` on either side. The
    last segment may reach past the clip's end.

    Args:
        config: of the network.
        log_mel: of the input.
        num_frames: of the clip.

    Returns:
        Onset and offset of each segment in seconds, float64 [K, 2].

    Example:
        >>> from secost_tf import WelsNetConfig
        >>> from tfrecord_tools.log_mel import LogMelConfig
        >>> segment_times(WelsNetConfig(num_classes=1), LogMelConfig(), num_frames=998)[:2].round(3)
        array([[0.   , 0.975],
               [0.32 , 1.295]])
    """
    first_frames = np.arange(config.num_segments(num_frames)) * config.stride_frames
    return _windows(config, log_mel, first_frames)


def fine_segments(config: WelsNetConfig, num_frames: int, hop_scale: int = 1) -> np.ndarray:
    """Return the first frame of each segment's window when the hop is a part of the stride.

    As the clip's own segments do, they reach behind its end by less than a stride; with more zeros
    in them they would be unlike all that the network has seen.

    Args:
        config: of the network.
        num_frames: of the clip.
        hop_scale: the number of hops (`hop_frames`) in a stride.

    Returns:
        int [K].

    Raises:
        ValueError: if the stride is no multiple of `hop_scale`.
    """
    hop = hop_frames(config, hop_scale)
    return np.arange(0, max(1, num_frames - config.window_frames + config.stride_frames), hop)


def hop_frames(config: WelsNetConfig, hop_scale: int) -> int:
    """Return the frames from one segment to the next: the stride divided by `hop_scale`.

    Raises:
        ValueError: if that is no whole number.
    """
    if hop_scale < 1 or config.stride_frames % hop_scale:
        raise ValueError(
            f"hop_scale: expected a divisor of the {config.stride_frames} frames from one segment "
            f"to the next, got {hop_scale}"
        )
    return config.stride_frames // hop_scale


def segment_spans(
    config: WelsNetConfig,
    log_mel: LogMelConfig,
    num_frames: int,
    hop_scale: int = 1,
    seconds: float | None = None,
) -> np.ndarray:
    """Compute the time that each segment stands for, one span after the other.

    The spans fill the clip. A span reaches halfway to the middles of the segments before and
    behind; the first begins and the last ends with the clip.

    Args:
        config: of the network.
        log_mel: of the input.
        num_frames: of the clip.
        hop_scale: see `fine_segments`.
        seconds: the clip's length; None: the end of its last frame.

    Returns:
        Onset and offset of each span in seconds, float64 [K, 2].

    Raises:
        ValueError: if the stride is no multiple of `hop_scale`.
    """
    count = len(fine_segments(config, num_frames, hop_scale))
    edges = span_edges(config, log_mel, 0, count, hop_scale)
    edges[-1] = log_mel.seconds(num_frames) if seconds is None else seconds
    return np.stack([edges[:-1], edges[1:]], axis=1)


def span_edges(
    config: WelsNetConfig, log_mel: LogMelConfig, first: int, last: int, hop_scale: int = 1
) -> np.ndarray:
    """Return where the spans of some segments meet in an input that goes on: seconds [n + 1].

    Args:
        config: the network's.
        log_mel: the input's.
        first, last: the segments from `first` to before `last`, n of them.
        hop_scale: see `fine_segments`.

    Returns:
        The onset of each segment's span, and the offset of the last one, see `segment_spans`.
    """
    segments = np.arange(first - 1, last + 1)
    middles = _windows(config, log_mel, segments * hop_frames(config, hop_scale)).mean(axis=1)
    edges = (middles[1:] + middles[:-1]) / 2
    edges[segments[1:] == 0] = 0.0
    return edges


def _windows(config: WelsNetConfig, log_mel: LogMelConfig, first_frames: np.ndarray) -> np.ndarray:
    """Return onset and offset of windows that begin with these frames, seconds [K, 2]."""
    onsets = first_frames * log_mel.hop_samples / log_mel.sample_rate_hz
    return np.stack([onsets, onsets + log_mel.seconds(config.window_frames)], axis=1)
