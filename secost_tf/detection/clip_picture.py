"""The picture of a clip: its log-mel, and below it, aligned in time, the score of each class by
segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.plots import draw_log_mel

MOST_CLASSES = 8

# Okabe and Ito's colours, told apart by the colour-blind, without the yellow that white swallows;
# dashes besides.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00", "#7f7f7f")

_DASHES = ("-", "-", "-", "-", (0, (4, 1.5)), (0, (4, 1.5)), (0, (4, 1.5)), (0, (4, 1.5)))

_EVENTS_ONLY = "#9a9a9a"  # of a class whose score is not drawn

# Inches: a figure of 10 whose parts lie where they are told, since a layout that finds them takes
# longer than all else.
_WIDTH, _LEFT, _RIGHT = 10.0, 0.8, 2.2

_TITLE, _LOG_MEL, _GAP, _EVENT_ROW, _SCORES, _BOTTOM = 0.35, 2.1, 0.12, 0.2, 1.7, 0.5

_MOST_LETTERS, _MOST_TITLE_LETTERS = 26, 100

_MOST_MARKERS = 60  # segments that are marked one by one

_MOST_WIDE = 400  # segments of a wide line


def clip_figure(
    log_mel: np.ndarray,
    config: LogMelConfig,
    segment_times: np.ndarray,
    segment_scores: Mapping[str, np.ndarray],
    events: Sequence[tuple[str, float, float]] = (),
    title: str = "",
    events_label: str = "true",
) -> Figure:
    """Draws a clip, as in the last figure of the slides: spectrogram, events where known, and
    segment scores.

    A score is drawn at the middle of its segment; a clip of one segment has a level line from onset
    to offset.

    Args:
        log_mel: float [frames, mel_bins].
        config: what the log-mel was made with.
        segment_times: onset and offset of each segment in seconds, [K, 2]; see `segment_times`.
        segment_scores: scores in 0..1 of one to eight classes by name, [K] each.
        events: (class name, onset, offset) in seconds.
        title: a line above.
        events_label: what the events are, written before their rows.

    Raises:
        ValueError: if shapes do not go together, or there are no classes, or too many.
    """
    log_mel, times = np.asarray(log_mel), np.asarray(segment_times)
    scores = {name: np.asarray(values) for name, values in segment_scores.items()}
    _check(log_mel, config, times, scores)
    styles = dict(zip(scores, zip(_COLOURS, _DASHES, strict=True), strict=False))
    rows = [name for name in scores if any(name == sounding for sounding, _, _ in events)]
    rows += sorted({name for name, _, _ in events} - set(rows))
    strip = _EVENT_ROW * len(rows) + _GAP * bool(rows)
    height = _TITLE + _LOG_MEL + _GAP + strip + _SCORES + _BOTTOM
    figure = Figure(figsize=(_WIDTH, height))
    seconds = len(log_mel) * config.hop_seconds

    def place(
        bottom: float, tall: float, left: float = _LEFT, wide: float = _WIDTH - _LEFT - _RIGHT
    ) -> Axes:
        """Axes at inches from the figure's lower left corner."""
        return figure.add_axes((left / _WIDTH, bottom / height, wide / _WIDTH, tall / height))

    spectrogram = place(height - _TITLE - _LOG_MEL, _LOG_MEL)
    low, high = np.percentile(log_mel, (2, 99.8))
    image = draw_log_mel(spectrogram, log_mel, config, low, high if high > low else low + 1.0)
    spectrogram.set_ylabel("frequency (Hz)", fontsize=9)
    spectrogram.set_title(_short(title, _MOST_TITLE_LETTERS), fontsize=10, loc="left")
    colours = place(height - _TITLE - _LOG_MEL, _LOG_MEL, _WIDTH - _RIGHT + 0.12, 0.12)
    figure.colorbar(image, cax=colours).set_label("log mel power (nat)", fontsize=8)
    colours.tick_params(labelsize=7)
    axes = [spectrogram]
    if rows:
        axes.append(place(_BOTTOM + _SCORES + _GAP, _EVENT_ROW * len(rows)))
        _draw_events(axes[-1], events, rows, styles, events_label)
    axes.append(place(_BOTTOM, _SCORES))
    _draw_scores(axes[-1], times, scores, styles)
    for axis in axes:
        axis.set_xlim(0, seconds)
    for axis in axes[:-1]:
        axis.tick_params(labelbottom=False)
    axes[-1].set_xlabel("time (s)", fontsize=9)
    return figure


def _check(
    log_mel: np.ndarray, config: LogMelConfig, times: np.ndarray, scores: Mapping[str, np.ndarray]
) -> None:
    if log_mel.ndim != 2 or not len(log_mel) or log_mel.shape[1] != config.mel_bins:
        raise ValueError(
            f"log_mel: expected shape [frames, {config.mel_bins}], got {list(log_mel.shape)}"
        )
    if times.ndim != 2 or not len(times) or times.shape[1] != 2:
        raise ValueError(f"segment_times: expected shape [K, 2], got {list(times.shape)}")
    if not 1 <= len(scores) <= MOST_CLASSES:
        raise ValueError(
            f"segment_scores: expected 1 to {MOST_CLASSES} classes, got {len(scores)}; choose "
            "which to draw"
        )
    for name, values in scores.items():
        if values.shape != (len(times),):
            raise ValueError(
                f"segment_scores: expected shape [{len(times)}], a score for each segment, got "
                f"{list(values.shape)} for {name}"
            )


def _draw_events(
    axis: Axes,
    events: Sequence[tuple[str, float, float]],
    rows: Sequence[str],
    styles: Mapping[str, tuple],
    label: str,
) -> None:
    """A row of bars for each class, named at its right."""
    for row, name in enumerate(rows):
        colour = styles[name][0] if name in styles else _EVENTS_ONLY
        spans = [(onset, offset - onset) for sounding, onset, offset in events if sounding == name]
        axis.broken_barh(spans, (row - 0.32, 0.64), color=colour, linewidth=0)
        axis.annotate(
            _short(name),
            xy=(1, row),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
        )
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center", labelpad=6)
    axis.spines[:].set_visible(False)
    axis.tick_params(bottom=False)


def _draw_scores(
    axis: Axes, times: np.ndarray, scores: Mapping[str, np.ndarray], styles: Mapping[str, tuple]
) -> None:
    """A line for each class, named at the right of the axes."""
    middles = times.mean(axis=1)
    for name, values in scores.items():
        colour, dashes = styles[name]
        width = 1.6 if len(values) <= _MOST_WIDE else 0.8
        style = {"color": colour, "linestyle": dashes, "label": _short(name), "linewidth": width}
        if len(values) == 1:
            axis.plot(times[0], [values[0]] * 2, **style)
        else:
            marked = len(values) <= _MOST_MARKERS
            axis.plot(middles, values, marker="o" if marked else "", markersize=2.5, **style)
    axis.set_ylim(-0.03, 1.03)
    axis.set_yticks([0, 0.5, 1])
    axis.grid(axis="y", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    axis.set_ylabel("segment score", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(
        loc="upper left",
        bbox_to_anchor=(1.0, 1.04),
        frameon=False,
        fontsize=8,
        handlelength=2.2,
        labelspacing=0.35,
        borderaxespad=0.3,
    )


def _short(text: str, most: int = _MOST_LETTERS) -> str:
    """A text that fits: as it stands, a class's name beside the axes."""
    return text if len(text) <= most else text[: most - 1].rstrip(" ,") + "…"
