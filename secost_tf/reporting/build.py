"""The report of a run: gather what it shows, write one HTML file."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

import secost_tf
from secost_tf.reporting.page import Page, render
from tfrecord_tools import shards, storage

REPORT_HTML = "report.html"


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
        analysis: whether to compare the first stage with the last, or to take the comparison that
            lies in the run.
        audio_dir: where their recordings are looked for; None gives no sound.
        experiment_dirs: experiments to show beside the run.
        batch_size: clips scored at once.
        date: stated in the page, by default today's.

    Returns:
        The file's name and size in bytes.

    Raises:
        ValueError: if no stage is done, or a file is damaged or does not go with the run.
    """
    from secost_tf.reporting import page_data
    from secost_tf.reporting import pictures as report_pictures  # import TensorFlow and Matplotlib

    run = page_data.read_run(run_dir)
    first, last = run.records[0], run.records[-1]
    notes: list[str] = []
    split = page_data.open_split(run_dir, run, data_dir)
    if split is None:
        notes.append(
            f"The data are no longer in {last.data_dir}, so that there are no examples; name their folder with --data_dir."
        )
    pictures = report_pictures.run_pictures(run)
    experiments = []
    for folder in experiment_dirs:
        experiment = page_data.read_experiment(folder)
        if experiment is None:
            notes.append(f"There are no results of an experiment in {folder} (yet).")
        else:
            experiments.append(experiment)
    pictures |= report_pictures.experiment_pictures(experiments)
    examples = ()
    if split and num_examples:
        from secost_tf.reporting.examples import make_examples

        examples = make_examples(run_dir, first, last, split, num_examples, batch_size, audio_dir)
    compared = None
    if analysis and split and first is not last:
        from secost_tf.reporting import analysis as report_analysis

        if split.subset == "all" and shards.has_split(split.data_dir, "train"):
            results = report_analysis.run_analysis(
                run_dir,
                (run.stages[0], run.stages[-1]),
                split.data_dir,
                split.info.split,
                batch_size,
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
        settings=page_data.settings(run),
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
