"""Evaluate the stages of a run on a split."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from secost_tf.evaluation import event_metrics
from secost_tf.evaluation.event_metrics import EventOptions
from secost_tf.evaluation.metrics import Evaluation
from secost_tf.runs import StageFolder, add_changes, data_digest, done_stages, find_stage
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
    """Evaluate one stage of a run, or all that are done, on a converted split.

    `metrics-SPLIT.json` and `per_class-SPLIT.csv` are written beside each stage.

    Source: the measures of `evaluate_scores`; of events, segment-based and event-based F1 (Mesaros,
    Heittola and Virtanen, Applied Sciences 2016) and PSDS (Bilen et al., ICASSP 2020).

    Args:
        run_dir: folder of the run.
        stage: number of the stage; None: all that are done.
        data_dir: folder of the converted splits; None: that which the stage was trained with.
        split: name of the split, all of which is scored.
        batch_size: clips scored at once; changes no figure.
        events: a `secost_tf.evaluation.EventOptions` to evaluate events as well. Their measures
            are among the figures, and in the stage's `metrics.json` as well if that is of the same
            data and split. None: clip scores alone.

    Returns:
        Rows for `secost_tf.reporting.format_summary`, a dict for each stage: its number, alpha,
        teachers, the split, its figures such as `mAP`, and `change` of mAP from the stage before.

    Raises:
        ValueError: if the stage is not done, or the data have other classes or another log-mel.

    Example:
        `runs/secost` is a run of three stages.

        >>> from secost_tf import evaluate_run
        >>> rows = evaluate_run("runs/secost", split="eval")
        >>> [row["stage"] for row in rows], rows[0]["num_clips"]
        ([0, 1, 2], 12)
    """
    from secost_tf.data import Split, iterate_clips
    from secost_tf.evaluation.scoring import Scorer

    last = find_stage(run_dir, stage)
    rows: list[dict] = []
    for folder in done_stages(run_dir) if stage is None else [last]:
        config, clips_dir = folder.record.config, data_dir or folder.record.data_dir
        info = shards.read_dataset_info(clips_dir, split)
        folder.check_data(info, clips_dir)
        evaluation = Scorer(folder.student, batch_size).evaluate(Split(clips_dir, info))
        write_per_class(folder.file(f"per_class-{split}.csv"), evaluation, folder.record.class_map)
        figures: dict[str, Any] = {
            "stage": folder.number,
            "alpha": config.alpha,
            "alpha_note": config.alpha_note,
            "teacher_stages": list(config.teacher_stages),
            "split": split,
            "data_dir": clips_dir,
            **evaluation.scalars(),
        }
        if events:
            clips = iterate_clips(Split(clips_dir, info))
            figures["events"] = event_metrics.evaluate_events(
                folder.run_dir, folder.number, clips, events
            )
            if data_digest(clips_dir) == data_digest(folder.record.data_dir):
                _keep_events(folder, figures)
        storage.write_json(folder.file(f"metrics-{split}.json"), figures)
        rows.append(figures)
    return add_changes(rows)


def _keep_events(stage: StageFolder, figures: Mapping) -> None:
    """Add the measures of events to the stage's own figures, if those are of the same split."""
    own = stage.metrics
    if (own["split"], own["num_clips"]) == (figures["split"], figures["num_clips"]):
        stage.write_metrics({**own, "events": figures["events"]})


def write_per_class(path: str, evaluation: Evaluation, class_map: ClassMap) -> None:
    """Write one csv row a class; a figure that does not exist (no positive clip) is left empty."""
    per_class = evaluation.per_class
    cells = functools.partial(format_figure, spec=".6f", missing="")
    columns = {
        "index": range(len(class_map)),
        "mid": class_map.mids,
        "display_name": class_map.display_names,
        "positives": map(int, per_class.positives),
        "AP": map(cells, per_class.average_precision),
        "AUC": map(cells, per_class.roc_auc),
        "d_prime": map(cells, per_class.d_prime),
    }
    storage.write_csv(path, zip(*columns.values(), strict=True), list(columns))
