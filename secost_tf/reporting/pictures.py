"""Turn figures into pictures of the report's page, each with a text that describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from secost_tf.reporting import figures
from secost_tf.reporting.page import ClassFigures, Picture, StageFigures
from secost_tf.reporting.page_data import Run
from tfrecord_tools import plots
from tfrecord_tools.text import format_count

_MOST_SVG = 250_000  # characters; a larger drawing is kept as pixels

_DRAWING_DPI, _PHOTOGRAPH_DPI = 150, 110

_CSS_PIXELS_PER_INCH = 96


def drawing(figure: Figure, alt: str, caption: str, wide: bool = False) -> Picture:
    """Return the picture of a figure of lines and text."""
    svg = plots.to_svg(figure)
    data = svg if len(svg) <= _MOST_SVG else plots.to_png(figure, _DRAWING_DPI)
    return Picture(data, alt, caption, _size(figure), wide)


def photograph(figure: Figure, alt: str, caption: str = "") -> Picture:
    """Return the picture of a figure of data such as a spectrogram."""
    return Picture(plots.to_png(figure, _PHOTOGRAPH_DPI), alt, caption, _size(figure), scrolls=True)


def _size(figure: Figure) -> tuple[int, int]:
    width, height = (round(_CSS_PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
    return width, height


def stages_picture(stages: Sequence[StageFigures]) -> Picture:
    """Draw mAP against stage, of one run."""
    curve = np.array([[np.nan if row.mAP is None else row.mAP for row in stages]])
    told = ", ".join(
        f"{mAP:.4f} at stage {row.stage}" for row, mAP in zip(stages, curve[0], strict=True)
    )
    return drawing(
        figures.stages_figure({"this run": curve}),
        f"Line of mAP against stage: {told}.",
        "mAP of each stage.",
    )


def gain_picture(classes: Sequence[ClassFigures], base: int, last: int) -> Picture | None:
    """Draw the histogram of the classes' gains; return None if there are none."""
    gains = np.array([row.gain for row in classes if row.gain is not None])
    if not len(gains):
        return None
    alt = (
        f"Histogram of the gain in AP of {len(gains)} classes: from {gains.min():+.3f} to "
        f"{gains.max():+.3f}, median "
        f"{np.median(gains):+.3f}; {np.sum(gains > 0)} gained."
    )
    caption = f"How much each class gained: AP of stage {last} less that of stage {base}."
    return drawing(figures.gain_figure(gains), alt, caption)


def curves_picture(histories: Mapping[str, list[dict[str, float]]]) -> Picture | None:
    """Draw learning curves; return None if no stage kept its history."""
    if not histories:
        return None
    ends = ", ".join(
        f"{name} ends at loss {rows[-1]['loss']:.4f}, of which labels {rows[-1]['label_loss']:.4f} "
        f"and teacher "
        f"{rows[-1]['teacher_loss']:+.4f}"
        for name, rows in histories.items()
    )
    caption = (
        "Loss and mAP by epoch. The label part and the teacher part add up to the training loss; "
        "the validation loss is "
        "plain cross-entropy against the labels, so that stages compare."
    )
    return drawing(
        figures.learning_curves_figure(histories), f"Learning curves: {ends}.", caption, wide=True
    )


def run_pictures(run: Run) -> dict[str, Picture]:
    """Draw the figures of a run that it has values for, by their place in the page."""
    first, last = run.stages[0].stage, run.stages[-1].stage
    pictures = {
        "stages": stages_picture(run.stages) if len(run.stages) > 1 else None,
        "gain": gain_picture(run.classes, first, last),
        "curves": curves_picture(run.histories),
    }
    return {place: picture for place, picture in pictures.items() if picture}


def experiment_pictures(experiments: Sequence[Mapping]) -> dict[str, Picture]:
    """Draw mAP over the seeds: cascades against stage, a sweep against 1 - alpha.

    Args:
        experiments: results as `page_data.read_experiments` reads them.

    Returns:
        The pictures by their place in the page.

    Raises:
        ValueError: if several are sweeps.
    """
    sweeps = [results for results in experiments if results["sweep_alphas"]]
    cascades = [results for results in experiments if not results["sweep_alphas"]]
    if len(sweeps) > 1:
        names = " and ".join(results["name"] for results in sweeps)
        raise ValueError(
            f"experiment_dirs: expected one sweep of alpha at most, got {names}; name one of them"
        )
    pictures = {}
    if cascades:
        pictures["experiment"] = _cascades_picture(cascades)
    if sweeps:
        pictures["alpha"] = _sweep_picture(sweeps[0])
    return pictures


def _cascades_picture(experiments: Sequence[Mapping]) -> Picture:
    """Draw cascades as curves, and those of stage 0 alone as level lines."""
    mAP = {results["name"]: _per_seed(results) for results in experiments}
    told = "; ".join(
        f"{results['name']}, "
        + ", ".join(f"{row['mAP']['mean']:.4f} at stage {row['stage']}" for row in results["rows"])
        for results in experiments
    )
    curves = {name: values for name, values in mAP.items() if values.shape[1] > 1} or mAP
    level = {name: values[:, 0] for name, values in mAP.items() if name not in curves}
    return drawing(
        figures.stages_figure(curves, level),
        f"Mean mAP against stage: {told}.",
        f"mAP of each stage, {', '.join(map(_seeds_of, experiments))}.",
    )


def _sweep_picture(experiment: Mapping) -> Picture:
    rows, mAP = experiment["rows"][1:], _per_seed(experiment)
    told = ", ".join(f"{row['mAP']['mean']:.4f} at {1 - row['alpha']:.2g}" for row in rows)
    return drawing(
        figures.alpha_figure([row["alpha"] for row in rows], mAP[:, 1:], mAP[:, 0]),
        f"Mean mAP of one stage against 1 − α: {told}; stage 0, {mAP[:, 0].mean():.4f}.",
        f"mAP of one stage against the weight of the teacher, {_seeds_of(experiment)}.",
    )


def _per_seed(experiment: Mapping) -> np.ndarray:
    """Return the mAP of each seed, float [seeds, rows]."""
    return np.array([row["mAP_per_seed"] for row in experiment["rows"]], np.float64).T


def _seeds_of(experiment: Mapping) -> str:
    seeds = len(experiment["rows"][0]["mAP_per_seed"])
    return f"{format_count(seeds, 'seed')} of experiment {experiment['name']}"
