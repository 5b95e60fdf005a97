"""`python -m secost_tf.export --run_dir=R --export_dir=MODELS/secost`: a stage as a SavedModel for TensorFlow Serving."""

from __future__ import annotations

import os
from collections.abc import Sequence

from absl import flags

from secost_tf.config import ServingConfig
from tfrecord_tools import storage
from tfrecord_tools.commands import run_command

FLAGS = flags.FLAGS


def define_export_flags() -> None:
    """What to export, and where to."""
    defaults = ServingConfig()
    flags.DEFINE_string("run_dir", "runs/secost", "Folder of the run (secost_tf.train --run_dir).")
    flags.DEFINE_integer(
        "stage", None, "The stage to export. Default: the last one that is done.", lower_bound=0
    )
    flags.DEFINE_string(
        "export_dir",
        "models/secost",
        "Folder of the served model, whose name is the model's: each export makes the next numbered version in it.",
    )
    flags.DEFINE_integer(
        "top_k",
        defaults.top_k,
        "Classes that the signature top_k gives for a clip, the highest scores first; at most all.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "max_seconds",
        defaults.max_seconds,
        "Most sound in one request, over all its clips, in seconds; more is an error. Bounds the memory that a request "
        "takes: 4 MB a second at width 1.",
        lower_bound=0.0,
    )


def export_run(
    run_dir: str, export_dir: str, stage: int | None = None, config: ServingConfig | None = None
) -> tuple[str, float]:
    """Exports a stage as the next version in a folder, checked before it gets its final name.

    Args:
        run_dir: the run.
        export_dir: folder of the model; its name is the model's.
        stage: the stage, by default the last one that is done.
        config: what can be chosen of the model.

    Returns:
        The folder of the new version, and the largest difference between its scores, run by TensorFlow's C++ loader,
        and those of the live network.

    Raises:
        ValueError: if the stage is not done, or the exported model does not answer as the live one.
    """
    from secost_tf import export_card, export_folder, stage_folder  # import TensorFlow
    from secost_tf.export_check import check_export
    from secost_tf.export_model import save_model

    config = config or ServingConfig()
    stage = stage_folder.done_stages(run_dir)[-1] if stage is None else stage
    student = stage_folder.load_student(run_dir, stage)
    record = stage_folder.StageRecord.read(run_dir, stage)
    name = os.path.basename(export_dir.rstrip("/"))
    with export_folder.new_version(export_dir) as (version, folder):
        save_model(student, record, config, name, folder)
        difference = check_export(folder, student, record, config)
        facts = export_card.facts(run_dir, record, config, name, version, folder, difference)
        export_card.write(facts, record, folder)
    return storage.join(export_dir, str(version)), difference


def main(argv: Sequence[str]) -> None:
    """Reads the flags, exports and says how to serve."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    config = ServingConfig(top_k=FLAGS.top_k, max_seconds=FLAGS.max_seconds)
    path, difference = export_run(FLAGS.run_dir, FLAGS.export_dir, FLAGS.stage, config)
    print(
        f"{path}: a SavedModel; in TensorFlow's C++ loader its scores differ by {difference:.0e} from the live model's"
    )


def run() -> None:
    """The console script."""
    run_command(main, define_export_flags)


if __name__ == "__main__":
    run()
