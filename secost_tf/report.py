"""`python -m secost_tf.report --run_dir=R`: a run as one HTML file that holds all it shows."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Sequence

import secost_tf
from secost_tf.command_settings import RunSettings, ScoringSettings
from secost_tf.report_page import Page, format_size, render
from tfrecord_tools import shards, storage
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags

REPORT_HTML = "report.html"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings(RunSettings, ScoringSettings):
    """What the report shows, and where it goes."""

    out: str | None = setting(None, f"The HTML file to write. Default: {REPORT_HTML} in --run_dir.")
    examples: int = setting(
        6,
        "Clips to show with spectrogram, segment scores and sound, about 0.1 MB each without sound; "
        "0: none. The evaluated split is scored once more to choose them.",
        minimum=0,
        maximum=12,
    )
    analysis: bool = setting(
        True,
        "Compare the first stage with the last as secost_tf.analyze does, whose results in --run_dir "
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


def write_report(
    run_dir: str,
    out: str | None = None,
    *,
    data_dir: str | None = None,
    num_examples: int = 6,
    analysis: bool = True,
    audio_dir: str | None = None,
    experiment_dirs: Sequence[str] = (),
    batch_size: int = 32,
    date: str | None = None,
) -> tuple[str, int]:
    """Makes the report of a run and writes it as one HTML file, atomically.

    What can't be shown for want of its data is left out, and the page says why.

    Args:
        run_dir: the run, with one stage done at least.
        out: the file; by default `report.html` in `run_dir`.
        data_dir: the converted splits, by default those that the run was trained with.
        num_examples: clips to show.
        analysis: whether to compare the first stage with the last, or to take the comparison that lies in the run.
        audio_dir: where their recordings are looked for; None gives no sound.
        experiment_dirs: experiments to show beside the run.
        batch_size: clips scored at once.
        date: stated in the page, by default today's.

    Returns:
        The file's name and size in bytes.

    Raises:
        ValueError: if no stage is done, or a file is damaged or does not go with the run.
    """
    from secost_tf import report_data, report_pictures  # import TensorFlow and Matplotlib

    run = report_data.read_run(run_dir)
    first, last = run.records[0], run.records[-1]
    notes: list[str] = []
    split = report_data.open_split(run_dir, run, data_dir)
    if split is None:
        notes.append(
            f"The data are no longer in {last.data_dir}, so that there are no examples; name their folder with --data_dir."
        )
    pictures = report_pictures.run_pictures(run)
    experiments = []
    for folder in experiment_dirs:
        experiment = report_data.read_experiment(folder)
        if experiment is None:
            notes.append(f"There are no results of an experiment in {folder} (yet).")
        else:
            experiments.append(experiment)
    pictures |= report_pictures.experiment_pictures(experiments)
    examples = ()
    if split and num_examples:
        from secost_tf.report_clips import make_examples

        examples = make_examples(run_dir, first, last, split, num_examples, batch_size, audio_dir)
    compared = None
    if analysis and split and first is not last:
        from secost_tf import report_analysis

        if split.subset == "all" and shards.has_split(split.data_dir, "train"):
            results = report_analysis.run_analysis(
                run_dir, (run.stages[0], run.stages[-1]), split.data_dir, split.info.split, batch_size
            )
            compared = report_analysis.page_analysis(run_dir, results)
            pictures |= report_analysis.analysis_pictures(results)
        else:
            notes.append(
                f"{split.data_dir} has no splits of its own to train and to evaluate on: no analysis."
            )
    page = Page(
        name=os.path.basename(os.path.normpath(run_dir)),
        run_dir=storage.absolute(run_dir),
        split=run.split,
        num_clips=run.num_clips,
        num_classes=len(run.classes),
        chance=run.chance,
        stages=run.stages,
        classes=run.classes,
        settings=report_data.settings(run),
        pictures=pictures,
        analysis=compared,
        events=run.events,
        examples=examples,
        notes=tuple(notes),
        made_by=f"Made by secost_tf {secost_tf.__version__} on {date or datetime.date.today().isoformat()}.",
    )
    out = out or storage.join(run_dir, REPORT_HTML)
    html = render(page)
    with storage.atomic_write(out) as stream:
        stream.write(html)
    return out, len(html.encode())


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
