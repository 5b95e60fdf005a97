"""`python -m secost_tf.localize --run_dir=R --out=DIR FILE|FOLDER...`: events in recordings.

Writes into the folder `--out`, for each recording NAME:

    NAME.png            its log-mel, and below it the events and the scores of some classes
    NAME.scores.tsv     onset, offset and the score of each class, a line a segment: the table of
                        sed_scores_eval
    NAME.audacity.txt   its events as a label track for Audacity
    NAME.raven.txt      its events as a selection table for Raven

and `events.tsv`, the events of all recordings.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Sequence

from secost_tf.detection import (
    EVENTS_TSV,
    MOST_SHOWN,
    Detector,
    PostProcessing,
    ThresholdSettings,
    find_recordings,
    localize_recordings,
    tuned_thresholds,
)
from secost_tf.runs import EXPORTED_MODEL_HELP, StageSettings, find_stage
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.text import format_count


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalizeSettings(StageSettings):
    """With what network, which classes, and where to."""

    saved_model: str | None = setting(
        None, f"{EXPORTED_MODEL_HELP} Default: a stage of the run in --run_dir."
    )
    classes: tuple[str, ...] = setting(
        (),
        "Names or mids of the classes to look for, separated by commas, a name with a comma in "
        "double quotes. Default: all.",
    )
    top: int = setting(
        5,
        "Classes that a picture shows, those with the highest segment scores; "
        f"{MOST_SHOWN} at most.",
        minimum=1,
        maximum=MOST_SHOWN,
    )
    pictures: bool = setting(
        True, "Draw a picture of each recording, which takes about half a second."
    )
    out: str | None = setting(
        None, "Folder for the results; what has the same name there is replaced."
    )


SETTINGS = (LocalizeSettings, ThresholdSettings, PostProcessing)


def main(argv: Sequence[str]) -> int:
    """Read the flags, localize, and say what was found and what failed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings, config = read_flags(LocalizeSettings), read_flags(PostProcessing)
    if not settings.out:
        raise ValueError("out: expected a folder for the results, such as --out=events")
    if not argv[1:]:
        raise ValueError("expected recordings, or folders of them, after the flags; got none")
    find_recordings(argv[1:], settings.out)  # says what is wrong with them before any work
    if settings.saved_model:
        detector, tune = Detector.from_saved_model(settings.saved_model), None
    else:
        stage = find_stage(settings.run_dir, settings.stage).number
        detector = Detector.from_run(settings.run_dir, stage)
        tune = functools.partial(tuned_thresholds, settings.run_dir, stage, detector, config)
    detector.scorer(config.hop_scale)  # says what is wrong with it before any work
    results = localize_recordings(
        argv[1:],
        detector,
        settings.out,
        thresholds=read_flags(ThresholdSettings).of_classes(detector.class_map, tune),
        classes=settings.classes,
        post_processing=config,
        top=settings.top,
        pictures=settings.pictures,
    )
    done, failures = len(results.events), results.failures
    print(
        f"{format_count(done, 'recording')} localized into {settings.out}: "
        f"{EVENTS_TSV} lists the events"
    )
    if failures:
        print(
            f"error: {len(failures)} of {done + len(failures)} recordings could not be used:",
            file=sys.stderr,
        )
        for path, what in failures.items():
            print(f"    {path}: {what}", file=sys.stderr)
    return int(bool(failures))


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS, takes_arguments=True, continues=False)


if __name__ == "__main__":
    run()
