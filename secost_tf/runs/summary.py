"""The summary of a run: one row a stage, in csv and json."""

from __future__ import annotations

from tfrecord_tools import storage

SUMMARY_CSV = "summary.csv"

SUMMARY_JSON = "summary.json"

_FIGURES = ("mAP", "mAUC", "d_prime", "lwlrap", "chance")


def summarize(run_dir: str) -> list[dict]:
    """The figures of the stages that are done, a row each."""
    from secost_tf.runs import stage_folder

    rows: list[dict] = []
    while stage_folder.is_done(run_dir, len(rows)):
        metrics = {"alpha_note": ""} | storage.read_json(  # which older ones do not have
            storage.join(stage_folder.stage_dir(run_dir, len(rows)), stage_folder.METRICS_JSON)
        )
        names = ("stage", "alpha", "alpha_note", "teacher_stages", "split", "best_epoch", *_FIGURES)
        rows.append({name: metrics[name] for name in names})
    return add_changes(rows)


def write_summary(run_dir: str) -> None:
    """Writes the rows of `summarize` to `summary.csv` and `summary.json`, if that is not what they
    hold.
    """
    rows, path = summarize(run_dir), storage.join(run_dir, SUMMARY_JSON)
    if storage.exists(path) and storage.read_json(path) == rows:
        return
    cells = ({**row, "teacher_stages": " ".join(map(str, row["teacher_stages"]))} for row in rows)
    storage.write_csv(storage.join(run_dir, SUMMARY_CSV), cells)
    storage.write_json(path, rows)


def add_changes(rows: list[dict]) -> list[dict]:
    """Adds `change` and `relative_change` of mAP against stage 0 to each row; None where one of the
    two is unknown.
    """
    base = next((row["mAP"] for row in rows if row["stage"] == 0), None)
    for row in rows:
        row["change"] = None if None in (base, row["mAP"]) else row["mAP"] - base
        row["relative_change"] = (
            row["change"] / base if row["change"] is not None and base else None
        )
    return rows


def alpha_text(alpha: float, note: str) -> str:
    """Alpha as tables show it: `0.3`, or with a note (`StageConfig.alpha_note`) `0.3 per class`."""
    return f"{alpha:g} {note}".strip()
