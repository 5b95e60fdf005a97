"""The report of a run: gather what it shows, write one HTML file."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from secost_tf.reporting.page import Example, Page, render
from secost_tf.version import __version__
from tfrecord_tools import shards, storage

if TYPE_CHECKING:
    from secost_tf.data import Split

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
) -> tuple[str, int]:
    """Write the report of a run as one HTML file, whole or not at all.

    What can't be shown for want of its data is left out, and the page says why.

    Source: the figures of `evaluate_run` and the comparison of `compare_stages`.

    Args:
        run_dir: folder of the run, with one stage done at least.
        out: the file; None: `report.html` in `run_dir`.
        data_dir: folder of the converted splits; None: that which the run was trained with.
        num_examples: number of clips to show.
        analysis: True to compare the first stage with the last, or to take the comparison that lies
            in the run.
        audio_dir: folder of the clips' recordings; None gives no sound.
        experiment_dirs: folders of experiments to show beside the run.
        batch_size: clips scored at once; changes no figure.

    Returns:
        The file's name and its size in bytes.

    Raises:
        ValueError: if no stage is done, or a file is damaged or does not go with the run.

    Example:
        `runs/secost` is a run of three stages.

        >>> from secost_tf import write_report
        >>> path, num_bytes = write_report("runs/secost", num_examples=2)
        >>> path
        'runs/secost/report.html'
    """
    from secost_tf.evaluation import SplitScorer
    from secost_tf.reporting import analysis as report_analysis
    from secost_tf.reporting import examples as report_examples
    from secost_tf.reporting import page_data
    from secost_tf.reporting import pictures as report_pictures

    notes: list[str] = []
    run = page_data.read_run(run_dir)
    split = page_data.open_split(run, data_dir, notes)
    experiments = page_data.read_experiments(experiment_dirs, notes)
    pictures = report_pictures.run_pictures(run) | report_pictures.experiment_pictures(experiments)
    examples: tuple[Example, ...] = ()
    compared = None
    if split:
        first, last = run.folders[0], run.folders[-1]
        scorer = SplitScorer(split, batch_size)
        if num_examples:
            examples = report_examples.make_examples(scorer, first, last, num_examples, audio_dir)
        if analysis and first is not last and _has_training_split(split, notes):
            results = report_analysis.run_analysis(scorer, first, last)
            compared = report_analysis.page_analysis(run_dir, results)
            pictures |= report_analysis.analysis_pictures(results)
    today = datetime.date.today().isoformat()
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
        made_by=f"Made by secost_tf {__version__} on {today}.",
    )
    out = out or storage.join(run_dir, REPORT_HTML)
    html = render(page)
    with storage.atomic_write(out) as stream:
        stream.write(html)
    return out, len(html.encode())


def _has_training_split(split: Split, notes: list[str]) -> bool:
    """Return True if the data have splits of their own to train and to evaluate on, or note it."""
    if split.subset == "all" and shards.has_split(split.data_dir, "train"):
        return True
    notes.append(
        f"{split.data_dir} has no splits of its own to train and to evaluate on: no analysis."
    )
    return False
