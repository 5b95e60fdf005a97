"""Tables for the terminal: stages of a run, events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from secost_tf.evaluation import MEASURES
from secost_tf.runs import alpha_text, join_stages
from tfrecord_tools.text import format_figure, format_table


def format_summary(rows: Sequence[dict]) -> str:
    """The table for the terminal: stage, alpha, teacher, mAP, mAUC, d', lwlrap, change against
    stage 0, chance.
    """
    header = ("stage", "alpha", "teacher", "mAP", "mAUC", "d'", "lwlrap", "change", "chance mAP")
    cells = [
        (
            str(row["stage"]),
            alpha_text(row["alpha"], row["alpha_note"]),
            join_stages(row["teacher_stages"]),
            *(format_figure(row[name]) for name in ("mAP", "mAUC", "d_prime", "lwlrap")),
            "" if row["stage"] == 0 else _change(row),
            format_figure(row["chance"]),
        )
        for row in rows
    ]
    return format_table(cells, header)


def _change(row: dict) -> str:
    if row["change"] is None or row["relative_change"] is None:
        return "-"
    return f"{row['change']:+.4f} ({row['relative_change']:+.1%})"


def format_events(rows: Iterable[Mapping[str, Any]]) -> str:
    """A line a stage, and one a baseline, of rows with `stage` and `events`."""
    rows = list(rows)
    heading = ("", "segment F1", "micro", "event F1", "micro", "PSDS 1", "PSDS 2")
    lines = [(f"stage {row['stage']}", row["events"]) for row in rows]
    lines += [
        (name.replace("_", " "), values) for name, values in rows[-1]["events"]["baselines"].items()
    ]
    cells = [(name, *(format_figure(values[key]) for key in MEASURES)) for name, values in lines]
    return format_table(cells, heading, left=(0,))
