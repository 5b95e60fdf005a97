"""`python -m secost_tf.report --run_dir=R`: a run as one HTML file that holds all it shows."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from secost_tf.reporting import REPORT_HTML, write_report
from secost_tf.runs import RunSettings, ScoringSettings
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.text import format_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings(RunSettings, ScoringSettings):
    """The content of the report, and its file."""

    out: str | None = setting(None, f"The HTML file to write. Default: {REPORT_HTML} in --run_dir.")
    examples: int = setting(
        6,
        "Clips to show with spectrogram, segment scores and sound, about 0.1 MB each without "
        "sound; "
        "0: none. The first and the last stage score the evaluated split to choose them.",
        minimum=0,
        maximum=12,
    )
    analysis: bool = setting(
        True,
        "Compare the first stage with the last as secost_tf.analyze does, whose results in "
        "--run_dir "
        "are taken if there are any: interval of the gain, calibration, likely label errors. Reads "
        "the evaluated and the training split.",
    )
    audio_dir: str | None = setting(
        None,
        "Folder of the recordings, in which the examples' sound is looked for by clip id as the "
        "converter does; embedded are 12 seconds of each at most, and 2.7 MB in all. Default: no "
        "sound.",
    )
    experiment_dirs: tuple[str, ...] = setting(
        (),
        "Folders of experiments (secost_tf.experiment) whose mAP over stages or alpha, of several "
        "seeds, is shown beside the run's own, cascades and their controls in one figure. Default: "
        "the run alone.",
    )


SETTINGS = (ReportSettings,)


def main(argv: Sequence[str]) -> None:
    """Read the flags, write the report and say where it is."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings = read_flags(ReportSettings)
    path, size = write_report(
        settings.run_dir,
        settings.out,
        data_dir=settings.data_dir,
        num_examples=settings.examples,
        analysis=settings.analysis,
        audio_dir=settings.audio_dir,
        experiment_dirs=settings.experiment_dirs,
        batch_size=settings.batch_size,
    )
    print(f"{path}: {format_size(size)}, opens in any browser")


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
