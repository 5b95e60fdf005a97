"""Evaluate the stages of a run on a split."""

from __future__ import annotations

from collections.abc import Mapping

from secost_tf.evaluation import event_metrics
from secost_tf.evaluation.event_metrics import EventOptions
from secost_tf.evaluation.metrics import Evaluation
from secost_tf.runs import add_changes, data_digest
from tfrecord_tools import shards, storage
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.text import format_figure


def evaluate_run(
    run_dir: str,
    stage: int | None = None,
    data_dir: str | None = None,
    split: str = "eval",
    batch_size: int = 32,
    events: EventOptions | None = None,
) -> list[dict]:
    """Evaluates one stage, or all that are done; writes `metrics-SPLIT.json` and
    `per_class-SPLIT.csv` beside each.

    With `events`, the measures of `event_metrics.evaluate_events` are among the figures, and in the
    stage's `metrics.json` as well if that is of the same data and split.

    Returns:
        Rows for `cascade.format_table`, one a stage.

    Raises:
        ValueError: if the stage is not done, or the data have other classes or another log-mel.
    """
    from secost_tf.data import Split, iterate_clips
    from secost_tf.evaluation.scoring import Scorer
    from secost_tf.runs import (
        StageRecord,
        done_stages,
        load_student,
        stage_dir,  # import TensorFlow
    )

    numbers = done_stages(run_dir) if stage is None else [stage]
    rows: list[dict] = []
    for number in numbers:
        student = load_student(run_dir, number)
        record = StageRecord.read(run_dir, number)
        folder = data_dir or record.data_dir
        info = shards.read_dataset_info(folder, split)
        record.check_data(run_dir, info, folder)
        evaluation = Scorer(student, batch_size).evaluate(Split(folder, info))
        own_folder = stage_dir(run_dir, number)
        write_per_class(
            storage.join(own_folder, f"per_class-{split}.csv"), evaluation, record.class_map
        )
        figures = {
            "stage": number,
            "alpha": record.config.alpha,
            "alpha_note": record.config.alpha_note,
            "teacher_stages": list(record.config.teacher_stages),
            "split": split,
            "data_dir": folder,
            **evaluation.scalars(),
        }
        if events:
            clips = iterate_clips(Split(folder, info))
            figures["events"] = event_metrics.evaluate_events(run_dir, number, clips, events)
            if data_digest(folder) == data_digest(record.data_dir):
                _keep_events(own_folder, figures)
        storage.write_json(storage.join(own_folder, f"metrics-{split}.json"), figures)
        rows.append(figures)
    return add_changes(rows)


def _keep_events(folder: str, figures: Mapping) -> None:
    """Adds the measures of events to the stage's own figures, of the same data, if they are of the
    same split.
    """
    path = storage.join(folder, "metrics.json")
    own = storage.read_json(path)
    if (own["split"], own["num_clips"]) == (figures["split"], figures["num_clips"]):
        storage.write_json(path, {**own, "events": figures["events"]})


def write_per_class(path: str, evaluation: Evaluation, class_map: ClassMap) -> None:
    """Writes one csv row a class; a figure that does not exist (no positive clip) is left empty."""
    per_class = evaluation.per_class
    columns = {
        "index": range(len(class_map)),
        "mid": class_map.mids,
        "display_name": class_map.display_names,
        "positives": map(int, per_class.positives),
        "AP": map(_cell, per_class.average_precision),
        "AUC": map(_cell, per_class.roc_auc),
        "d_prime": map(_cell, per_class.d_prime),
    }
    storage.write_csv(path, zip(*columns.values(), strict=True), list(columns))


def _cell(figure: float) -> str:
    return format_figure(figure, ".6f", missing="")
