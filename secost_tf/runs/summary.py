"""The summary of a run: one row a stage, in csv and json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from secost_tf.runs.stage_folder import StageFolder, done_stages
from tfrecord_tools import storage

SUMMARY_CSV, SUMMARY_JSON = "summary.csv", "summary.json"

_FIGURES = ("mAP", "mAUC", "d_prime", "lwlrap", "chance")


def summarize(stages: Sequence[StageFolder]) -> list[dict]:
    """Return the figures of stages that are done, a row each."""
    names = ("stage", "alpha", "alpha_note", "teacher_stages", "split", "best_epoch", *_FIGURES)
    rows = []
    for stage in stages:
        metrics = {"alpha_note": "", **stage.metrics}  # which older ones do not have
        rows.append({name: metrics[name] for name in names})
    return add_changes(rows)


def write_summary(run_dir: str) -> None:
    """Write the rows of `summarize` to `summary.csv` and `summary.json`, if they have changed."""
    rows, path = summarize(done_stages(run_dir)), storage.join(run_dir, SUMMARY_JSON)
    if storage.exists(path) and storage.read_json(path) == rows:
        return
    cells = ({**row, "teacher_stages": " ".join(map(str, row["teacher_stages"]))} for row in rows)
    storage.write_csv(storage.join(run_dir, SUMMARY_CSV), cells)
    storage.write_json(path, rows)


def add_changes(rows: list[dict]) -> list[dict]:
    """Add the changes of mAP against stage 0 to each row; None where one of the two is unknown."""
    base = next((row["mAP"] for row in rows if row["stage"] == 0), None)
    for row in rows:
        change = None if None in (base, row["mAP"]) else row["mAP"] - base
        row["change"] = change
        row["relative_change"] = change / base if base and change is not None else None
    return rows


def join_stages(stages: Iterable[int]) -> str:
    """Return the numbers of stages as tables show them: `0+1`, or `-` for none."""
    return "+".join(map(str, stages)) or "-"


def alpha_text(alpha: float, note: str) -> str:
    """Return alpha as tables show it: `0.3`, or `0.3 per class` with `StageConfig.alpha_note`."""
    return f"{alpha:g} {note}".strip()
