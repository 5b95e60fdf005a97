"""Drawings of figures: mAP against stage and against 1 - alpha, gains, calibration, learning
curves; how they become files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secost_tf.evaluation import mean_interval

# Okabe and Ito's colours, told apart by the colour-blind; markers and dashes besides.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")

_MARKERS = "osD^vP*"


def stages_figure(
    curves: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """mAP against stage: the mean over seeds with its 95 % interval, and each seed as a dot.

    Args:
        curves: float [seeds, stages] by name; as many stages as each has.
        reference: float [seeds] by name, drawn as level lines: what was trained in one stage.
    """
    figure, axis = _axes("stage", "mAP")
    for place, (name, curve) in enumerate(curves.items()):
        _draw_seeds(axis, np.arange(curve.shape[1]), curve, name, place)
    for place, (name, values) in enumerate((reference or {}).items(), len(curves)):
        _draw_level(axis, values, name, place)
    axis.set_xticks(range(max(curve.shape[1] for curve in curves.values())))
    if len(curves) > 1 or reference:
        _legend_below(figure, axis)
    return figure


def alpha_figure(alphas: Sequence[float], mAP: np.ndarray, base: np.ndarray) -> Figure:
    """mAP of one stage against 1 - alpha, mAP [seeds, alphas], with stage 0, base [seeds], as a
    level line.
    """
    figure, axis = _axes("1 − α, weight of the teacher", "mAP")
    order = np.argsort(alphas)[::-1]
    _draw_seeds(axis, 1 - np.asarray(alphas)[order], np.asarray(mAP)[:, order], "stage 1", 0)
    _draw_level(axis, np.asarray(base), "stage 0", 1)
    _legend_below(figure, axis)
    return figure


def calibration_figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]]) -> Figure:
    """Share of positives against mean score, in bins, of each side; mean scores, shares and
    calibration error by name.
    """
    figure, axis = _axes("mean score in the bin", "share of positives in the bin")
    axis.plot(
        [0, 1], [0, 1], color="#000000", linewidth=1, linestyle=(0, (1, 2)), label="calibrated"
    )
    for place, (name, (mean_scores, shares, error)) in enumerate(curves.items()):
        colour, marker = _style(place)
        label = f"{name}: error {error:.4f}"
        axis.plot(
            mean_scores,
            shares,
            color=colour,
            marker=marker,
            markersize=5,
            label=label,
            clip_on=False,
        )
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.legend(frameon=False)
    return figure


def ranges_figure(names: Sequence[str], gains: Sequence[float], counts: Sequence[int]) -> Figure:
    """The slides' bars: the mean gain of the classes in each range of base AP, with their number
    above or below.
    """
    figure, axis = _axes("AP of the base", "mean gain in AP")
    colours = [_COLOURS[0] if gain >= 0 else _COLOURS[1] for gain in gains]
    bars = axis.bar(range(len(names)), gains, color=colours, width=0.7)
    axis.bar_label(bars, [f"{count}" for count in counts], padding=2, fontsize=9)
    axis.set_xticks(range(len(names)), names)
    axis.axhline(0, color="#000000", linewidth=1)
    axis.margins(y=0.15)
    axis.set_title("number of classes at each bar", fontsize=9, loc="right", color="#555555")
    return figure


def _style(place: int) -> tuple[str, str]:
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def _draw_seeds(axis: Axes, x: np.ndarray, values: np.ndarray, name: str, place: int) -> None:
    """The mean of values [seeds, points] as a line with its interval, and each seed as a dot if
    there are several.
    """
    colour, marker = _style(place)
    intervals = [mean_interval(point) for point in values.T]
    axis.plot(x, [interval.mean for interval in intervals], color=colour, marker=marker, label=name)
    if len(values) > 1:
        axis.plot(x, values.T, ".", color=colour, alpha=0.5, markersize=5)
        axis.fill_between(
            x,
            [interval.low for interval in intervals],
            [interval.high for interval in intervals],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )


def _draw_level(axis: Axes, values: np.ndarray, name: str, place: int) -> None:
    """The mean of values [seeds] as a level line with its interval, dashed."""
    colour, _ = _style(place)
    interval = mean_interval(values)
    axis.axhline(interval.mean, color=colour, linestyle=(0, (4, 2)), label=name)
    if len(values) > 1:
        axis.axhspan(interval.low, interval.high, color=colour, alpha=0.1, linewidth=0)


def _legend_below(figure: Figure, axis: Axes) -> None:
    """A legend that hides no line."""
    figure.legend(
        *axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )


def gain_figure(gains: np.ndarray) -> Figure:
    """Histogram of the gain in AP of classes, [classes], with a bin's edge at 0."""
    figure, axis = _axes("gain in AP", "classes")
    most = max(float(np.abs(gains).max()), 0.01)
    width = most / max(3, min(12, round(np.sqrt(len(gains)))))
    steps = int(np.ceil(most / width - 1e-9))
    edges = width * np.arange(-steps, steps + 1)
    for part, colour, hatch, name in (
        (gains[gains < 0], _COLOURS[1], "//", "fell"),
        (gains[gains >= 0], _COLOURS[0], "", "rose, or stayed"),
    ):
        label = f"{name}: {len(part)}"
        axis.hist(
            part, edges, color=colour, hatch=hatch, edgecolor="white", linewidth=0.8, label=label
        )
    axis.axvline(0, color="#000000", linewidth=1)
    axis.locator_params("y", integer=True)
    axis.locator_params("x", nbins=6)
    axis.legend(frameon=False)
    return figure


def learning_curves_figure(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Loss, its label part, its teacher part, and what validation gives, against epoch; rows of
    `history.csv` by stage.
    """
    panels = {
        "loss": "training loss",
        "label_loss": "label part",
        "teacher_loss": "teacher part",
        "val_loss": "validation loss",
        "val_mAP": "validation mAP",
    }
    panels = {
        key: title
        for key, title in panels.items()
        if any(key in rows[0] for rows in histories.values())
    }
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(10.5, 2.9 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for axis, (key, title) in zip(axes, panels.items(), strict=False):
        for place, (name, rows) in enumerate(histories.items()):
            shown = [row for row in rows if key in row]
            style = dict(zip(("color", "marker"), _style(place), strict=True))
            epochs, values = [row["epoch"] for row in shown], [row[key] for row in shown]
            axis.plot(epochs, values, markersize=4, label=name, **style)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("epoch")
        axis.set_ylabel("mAP" if key == "val_mAP" else "loss (nat)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        _plain(axis)
    for axis in list(figure.axes)[len(panels) :]:
        axis.set_axis_off()
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=7,
        frameon=False,
    )
    return figure


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    _plain(axis)
    return figure, axis


def _plain(axis: Axes) -> None:
    axis.grid(color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
