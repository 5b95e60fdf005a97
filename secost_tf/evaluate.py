"""`python -m secost_tf.evaluate --run_dir=R`: evaluate the stages of a run on any converted split."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence

from secost_tf import event_metrics
from secost_tf.cascade import add_changes, format_table
from secost_tf.class_thresholds import tuned_thresholds
from secost_tf.command_settings import ScoringSettings, StageSettings
from secost_tf.detection_flags import ThresholdSettings
from secost_tf.event_metrics import EventOptions
from secost_tf.events import PostProcessing
from secost_tf.experiment_folder import data_digest
from tfrecord_tools import shards, storage
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings(StageSettings, ScoringSettings):
    """What to evaluate, on what."""

    split: str = setting("eval", "The split to evaluate on, all of it.")
    events: bool = setting(
        False,
        "Also evaluate when classes sound, against the onsets and offsets of the clips' events: "
        "segment-based and event-based F1, PSDS. Needs the extra 'detection'; --threshold and the "
        "like say how events are made.",
    )


SETTINGS = (EvaluateSettings, ThresholdSettings, PostProcessing)


def evaluate_run(
    run_dir: str,
    stage: int | None = None,
    data_dir: str | None = None,
    split: str = "eval",
    batch_size: int = 32,
    events: EventOptions | None = None,
) -> list[dict]:
    """Evaluates one stage, or all that are done; writes `metrics-SPLIT.json` and `per_class-SPLIT.csv` beside each.

    With `events`, the measures of `event_metrics.evaluate_events` are among the figures, and in the stage's `metrics.json` as well
    if that is of the same data and split.

    Returns:
        Rows for `cascade.format_table`, one a stage.

    Raises:
        ValueError: if the stage is not done, or the data have other classes or another log-mel.
    """
    from secost_tf import splits, stage_folder  # import TensorFlow
    from secost_tf.scoring import Scorer

    numbers = stage_folder.done_stages(run_dir) if stage is None else [stage]
    rows: list[dict] = []
    for number in numbers:
        student = stage_folder.load_student(run_dir, number)
        record = stage_folder.StageRecord.read(run_dir, number)
        folder = data_dir or record.data_dir
        info = shards.read_dataset_info(folder, split)
        record.check_data(run_dir, info, folder)
        evaluation = Scorer(student, batch_size).evaluate(splits.Split(folder, info))
        own_folder = stage_folder.stage_dir(run_dir, number)
        stage_folder.write_per_class(
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
            clips = splits.iterate_clips(splits.Split(folder, info))
            figures["events"] = event_metrics.evaluate_events(run_dir, number, clips, events)
            if data_digest(folder) == data_digest(record.data_dir):
                _keep_events(own_folder, figures)
        storage.write_json(storage.join(own_folder, f"metrics-{split}.json"), figures)
        rows.append(figures)
    return add_changes(rows)


def _keep_events(folder: str, figures: Mapping) -> None:
    """Adds the measures of events to the stage's own figures, of the same data, if they are of the same split."""
    path = storage.join(folder, "metrics.json")
    own = storage.read_json(path)
    if (own["split"], own["num_clips"]) == (figures["split"], figures["num_clips"]):
        storage.write_json(path, {**own, "events": figures["events"]})


def main(argv: Sequence[str]) -> None:
    """Read the flags, evaluate and print the table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings = read_flags(EvaluateSettings)
    events = _event_options() if settings.events else None
    rows = evaluate_run(
        settings.run_dir,
        settings.stage,
        settings.data_dir,
        settings.split,
        settings.batch_size,
        events,
    )
    print(format_table(rows))
    if events:
        print(f"\n{event_metrics.format_events(rows)}")


def _event_options() -> EventOptions:
    """Return what the flags say of events."""
    config, thresholds = read_flags(PostProcessing), read_flags(ThresholdSettings)

    def of_classes(run_dir, stage, detector):
        tune = functools.partial(tuned_thresholds, run_dir, stage, detector, config)
        return thresholds.of_classes(detector.class_map, tune)

    event_metrics.load_measures()  # says what is missing before any work
    return EventOptions(config, of_classes)


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
