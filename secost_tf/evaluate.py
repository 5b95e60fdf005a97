"""`python -m secost_tf.evaluate --run_dir=R`: evaluate the stages of a run on a converted split."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence

from secost_tf.detection import PostProcessing, ThresholdSettings, tuned_thresholds
from secost_tf.evaluation import EventOptions, evaluate_run, load_measures
from secost_tf.reporting import format_events, format_summary
from secost_tf.runs import ScoringSettings, StageSettings
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings(StageSettings, ScoringSettings):
    """The stages to evaluate, and the split."""

    split: str = setting("eval", "The split to evaluate on, all of it.")
    events: bool = setting(
        False,
        "Also evaluate when classes sound, against the onsets and offsets of the clips' events: "
        "segment-based and event-based F1, PSDS. Needs the extra 'detection'; --threshold and the "
        "like say how events are made.",
    )


SETTINGS = (EvaluateSettings, ThresholdSettings, PostProcessing)


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
    print(format_summary(rows))
    if events:
        print(f"\n{format_events(rows)}")


def _event_options() -> EventOptions:
    """Return what the flags say of events."""
    config, thresholds = read_flags(PostProcessing), read_flags(ThresholdSettings)

    def of_classes(run_dir, stage, detector):
        tune = functools.partial(tuned_thresholds, run_dir, stage, detector, config)
        return thresholds.of_classes(detector.class_map, tune)

    load_measures()  # says what is missing before any work
    return EventOptions(config, of_classes)


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
