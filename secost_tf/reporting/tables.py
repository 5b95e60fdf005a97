"""Tables for the terminal: stages of a run, events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from secost_tf.evaluation import MEASURES
from secost_tf.runs import alpha_text
from tfrecord_tools.text import join_stages


def format_table(rows: Sequence[dict]) -> str:
    """The table for the terminal: stage, alpha, teacher, mAP, mAUC, d', lwlrap, change against
    stage 0, chance.
    """
    header = ("stage", "alpha", "teacher", "mAP", "mAUC", "d'", "lwlrap", "change", "chance mAP")
    cells = [
        (
            str(row["stage"]),
            alpha_text(row["alpha"], row["alpha_note"]),
            join_stages(row["teacher_stages"]),
            *(_figure(row[name]) for name in ("mAP", "mAUC", "d_prime", "lwlrap")),
            "" if row["stage"] == 0 else _change(row),
            _figure(row["chance"]),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in (header, *cells)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


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
        (name.replace("_", " "), one) for name, one in rows[-1]["events"]["baselines"].items()
    ]
    cells = [
        heading,
        *(
            (name, *("-" if one[key] is None else f"{one[key]:.4f}" for key in MEASURES))
            for name, one in lines
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
