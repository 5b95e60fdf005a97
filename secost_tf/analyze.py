"""`python -m secost_tf.analyze --run_dir=R`: what a later stage does better than an earlier one,
and likely label errors.

Writes, into RUN_DIR/analysis or `--out`:

    analysis.json       everything that is printed, and more
    per_class.csv       each class: positives, AP of both stages, gain; distance from the teacher
    label_errors.csv    the training labels that the later stage contradicts most, two ranked lists
    gain.png            mean gain in ranges of base AP
    calibration.png     how far scores are probabilities
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from secost_tf import evaluation, reporting
from secost_tf.runs import ScoringSettings, StageFolder, StageSettings, find_stage
from tfrecord_tools import storage
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyzeSettings(StageSettings, ScoringSettings):
    """Which two stages, on what, and how much of it."""

    base: int = setting(0, "The earlier stage, with which --stage is compared.", minimum=0)
    base_run_dir: str | None = setting(
        None,
        "Folder of the run that the earlier stage is of, such as a control. Default: --run_dir.",
    )
    split: str = setting("eval", "The split on which the stages are compared.")
    clean_labels_csv: str | None = setting(
        None,
        "True labels of the training clips, as AudioSet's segment lists have them, against which "
        "the "
        "label errors found are judged. Default: the classes of the clips' events, where the "
        "training split has events.",
    )
    label_errors: int = setting(
        1000,
        "Label errors of each of the two kinds to list: labels that are not heard, and sounds "
        "without their label. 0: none, and the training split is not read.",
        minimum=0,
    )
    resamples: int = setting(
        1000, "Resamples of the bootstrap over clips, for the interval.", minimum=1
    )
    out: str | None = setting(None, "Folder for the results. Default: analysis in --run_dir.")


SETTINGS = (AnalyzeSettings,)


def main(argv: Sequence[str]) -> None:
    """Read the flags, compare the stages, and print what came out and where it is."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings = read_flags(AnalyzeSettings)
    later = find_stage(settings.run_dir, settings.stage)
    base = StageFolder(settings.base_run_dir or settings.run_dir, settings.base)
    data_dir = settings.data_dir or later.record.data_dir
    comparison = evaluation.compare_stages(
        base,
        later,
        evaluation.SplitScorer.open(data_dir, settings.split, settings.batch_size),
        clean_labels_csv=settings.clean_labels_csv,
        label_errors=settings.label_errors,
        resamples=settings.resamples,
    )
    folder = settings.out or storage.join(settings.run_dir, reporting.ANALYSIS)
    reporting.write_analysis(folder, comparison)
    print(reporting.format_analysis(comparison.results))
    print(f"\n{folder} holds the tables and pictures")


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
