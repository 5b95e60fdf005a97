"""A log-mel drawn into matplotlib axes: seconds across, Hz up."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tfrecord_tools.log_mel import LogMelConfig, hertz_to_mel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


_ROUND_HERTZ = (125, 500, 1000, 2000, 4000, 8000, 16000)


def draw_log_mel(
    axis: Axes, log_mel: np.ndarray, config: LogMelConfig, low: float, high: float
) -> AxesImage:
    """Draws a log-mel [frames, mel_bins] from 0 s on, in colours that run from `low` to `high`
    (nat).
    """
    seconds = len(log_mel) * config.hop_seconds
    image = axis.imshow(
        log_mel.T,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, -0.5, config.mel_bins - 0.5),
        vmin=low,
        vmax=high,
        cmap="magma",
        interpolation="nearest",
    )
    ticks_hz = [hz for hz in _ROUND_HERTZ if config.mel_min_hz < hz < config.mel_max_hz]
    axis.set_yticks([band_of(hz, config) for hz in ticks_hz], [f"{hz:g}" for hz in ticks_hz])
    axis.tick_params(labelsize=8)
    return image


def band_of(hertz: float, config: LogMelConfig) -> float:
    """The mel band whose centre is at `hertz`, with a fraction; bands are numbered from 0."""
    low, high = hertz_to_mel(config.mel_min_hz), hertz_to_mel(config.mel_max_hz)
    return float((hertz_to_mel(hertz) - low) / (high - low) * (config.mel_bins + 1) - 1)


def to_svg(figure: Figure) -> str:
    """The figure as SVG, the same each time, its background left out."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "secost_tf"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()


def to_png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG on white, at `dpi` pixels an inch."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()
