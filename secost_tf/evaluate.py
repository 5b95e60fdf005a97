"""`python -m secost_tf.evaluate --run_dir=R`: evaluate the stages of a run on any converted split."""

from __future__ import annotations

import os
from collections.abc import Sequence

from absl import flags

from secost_tf.cascade import add_changes, format_table
from tfrecord_tools import shards, storage
from tfrecord_tools.commands import run_command

FLAGS = flags.FLAGS


def define_evaluate_flags() -> None:
    """What to evaluate, on what."""
    flags.DEFINE_string("run_dir", "runs/secost", "Folder of the run (secost_tf.train --run_dir).")
    flags.DEFINE_integer(
        "stage", None, "The stage to evaluate. Default: every stage that is done.", lower_bound=0
    )
    flags.DEFINE_string(
        "data_dir", None, "Folder of converted splits. Default: the one the run was trained with."
    )
    flags.DEFINE_string("split", "eval", "The split to evaluate on, all of it.")
    flags.DEFINE_integer(
        "batch_size", 32, "Clips scored at once; affects speed and memory, not figures.", lower_bound=1
    )


def evaluate_run(
    run_dir: str,
    stage: int | None = None,
    data_dir: str | None = None,
    split: str = "eval",
    batch_size: int = 32,
) -> list[dict]:
    """Evaluates one stage, or all that are done; writes `metrics-SPLIT.json` and `per_class-SPLIT.csv` beside each.

    Returns:
        Rows for `cascade.format_table`, one a stage.

    Raises:
        ValueError: if the stage is not done, or the data have other classes or another log-mel.
    """
    from secost_tf import stage_folder  # imports TensorFlow
    from secost_tf.data import Split
    from secost_tf.scoring import Scorer

    numbers = stage_folder.done_stages(run_dir) if stage is None else [stage]
    rows: list[dict] = []
    for number in numbers:
        student = stage_folder.load_student(run_dir, number)
        record = stage_folder.StageRecord.read(run_dir, number)
        folder = data_dir or record.data_dir
        info = shards.read_dataset_info(folder, split)
        record.check_data(run_dir, info, folder)
        evaluation = Scorer(student, batch_size).evaluate(Split(folder, info))
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
        storage.write_json(storage.join(own_folder, f"metrics-{split}.json"), figures)
        rows.append(figures)
    return add_changes(rows)


def main(argv: Sequence[str]) -> None:
    """Reads the flags, evaluates and prints the table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows = evaluate_run(FLAGS.run_dir, FLAGS.stage, FLAGS.data_dir, FLAGS.split, FLAGS.batch_size)
    print(format_table(rows))


def run() -> None:
    """The console script."""
    run_command(main, define_evaluate_flags)


if __name__ == "__main__":
    run()
