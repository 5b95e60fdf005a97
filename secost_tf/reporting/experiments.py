"""An experiment's results as text for the terminal, and as json, csv and png beside its runs.
TensorFlow is not imported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from secost_tf.evaluation import LEVEL, Interval, Results, Row
from secost_tf.runs import alpha_text
from tfrecord_tools import storage
from tfrecord_tools.text import format_count, format_figure, format_table

RESULTS_JSON = "results.json"

RESULTS_CSV = "results.csv"

RESULTS_PNG = "results.png"

_DPI = 150


def format_results(results: Results) -> str:
    """The table for the terminal: each stage or alpha over the seeds, then the comparisons with the
    controls.
    """
    measured, seeds = results.measured, len(results.measured.mAP)
    percent = f"{LEVEL:.0%} interval"
    rows = [
        (
            str(row.stage),
            alpha_text(row.alpha, row.alpha_note),
            format_figure(row.mAP.mean),
            _interval(row.mAP),
            *_change(row),
            format_figure(row.mAUC),
            format_figure(row.d_prime),
        )
        for row in results.rows
    ]
    header = (
        "stage",
        "alpha",
        "mAP",
        percent,
        "change",
        percent,
        "relative",
        "classes up",
        "mAUC",
        "d'",
    )
    chance = "" if measured.chance is None else f", chance mAP {measured.chance:.4f}"
    lines = [
        f"{measured.record.name}: {format_count(seeds, 'seed')}, {measured.split} "
        f"({measured.num_clips} clips, "
        f"{len(measured.class_map)} classes{chance})",
        format_table(rows, header),
        "Means over the seeds; change: against stage 0, paired by seed; classes up: whose AP, "
        "averaged over the seeds, rose.",
    ]
    if seeds == 1:
        lines.append("One seed gives no interval; take more with --seeds.")
    if results.comparisons:
        compared = [
            (
                comparison.of,
                comparison.against,
                format_figure(comparison.mAP),
                f"{comparison.difference.mean:+.4f}",
                _interval(comparison.difference, "+"),
            )
            for comparison in results.comparisons
        ]
        heading = ("", "against", "its mAP", "difference", percent)
        lines += ["", format_table(compared, heading)]
    if results.controls:
        lines.append(
            "Its best: by its mean mAP on these same clips, which is in the control's favour."
        )
    lines += [f"Not compared with {name}: {why}" for name, why in results.missing.items()]
    return "\n".join(lines)


def write_results(results: Results, experiments_dir: str) -> list[str]:
    """Writes `results.json`, `results.csv` and `results.png` into the experiment's folder; returns
    their paths.
    """
    from tfrecord_tools import plots  # imports Matplotlib

    folder = storage.join(experiments_dir, results.measured.record.name)
    paths = [storage.join(folder, name) for name in (RESULTS_JSON, RESULTS_CSV, RESULTS_PNG)]
    storage.write_json(paths[0], results_dict(results))
    storage.write_csv(paths[1], _csv_rows(results.rows))
    with storage.atomic_write(paths[2], "wb") as stream:
        stream.write(plots.to_png(results_figure(results), _DPI))
    return paths


def results_figure(results: Results):
    """The slides' plot: mAP against stage, the controls' beside it, or against 1 - alpha with stage
    0 as a line.
    """
    from secost_tf.reporting import figures

    measured = results.measured
    if measured.record.sweep_alphas:
        return figures.alpha_figure(measured.alphas[1:], measured.mAP[:, 1:], measured.mAP[:, 0])
    curves = {measured.record.name: measured.mAP}
    curves |= {
        control.record.name: control.mAP for control in results.controls if len(control.stages) > 1
    }
    reference = {
        control.record.name: control.mAP[:, 0]
        for control in results.controls
        if len(control.stages) == 1
    }
    return figures.stages_figure(curves, reference or None)


def results_dict(results: Results) -> dict:
    """Return the content of `results.json`; null stands for figures that do not exist."""
    measured = results.measured
    return storage.to_plain(
        {
            "name": measured.record.name,
            "seeds": list(range(len(measured.mAP))),
            "stage": measured.record.stage,
            "sweep_alphas": measured.record.sweep_alphas,
            "data_dir": measured.record.data_dir,
            "split": measured.split,
            "num_clips": measured.num_clips,
            "num_classes": len(measured.class_map),
            "chance": measured.chance,
            "level": LEVEL,
            "rows": [dataclasses.asdict(row) for row in results.rows],
            "comparisons": [dataclasses.asdict(comparison) for comparison in results.comparisons],
            "not_compared": dict(results.missing),
        }
    )


def _csv_rows(rows: Sequence[Row]) -> list[dict]:
    """Return a csv row each; intervals as three columns, mAP of each seed as one each."""
    lines = []
    for row in rows:
        cells: dict[str, Any] = {}
        for field in dataclasses.fields(Row):
            value = getattr(row, field.name)
            if field.name in ("mAP", "change"):
                parts = (None, None, None) if value is None else (value.mean, value.low, value.high)
                names = (field.name, f"{field.name}_low", f"{field.name}_high")
                cells |= dict(zip(names, parts, strict=True))
            elif field.name == "mAP_per_seed":
                cells |= {f"mAP_seed_{seed}": mAP for seed, mAP in enumerate(value)}
            else:
                cells[field.name] = value
        lines.append(storage.to_plain(cells))
    return lines


def _change(row: Row) -> tuple[str, str, str, str]:
    if row.change is None:
        return "", "", "", ""
    return (
        f"{row.change.mean:+.4f}",
        _interval(row.change, "+"),
        "-" if row.relative_change is None else f"{row.relative_change:+.1%}",
        f"{row.improved_classes} of {row.classes}",
    )


def _interval(interval: Interval, sign: str = "") -> str:
    if not math.isfinite(interval.low):
        return "-"
    return f"{interval.low:{sign}.4f} to {interval.high:{sign}.4f}"
