"""`python -m secost_tf.train --stage=2 --alpha=0.3`: train the cascade up to a stage; what is done
is kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from secost_tf.reporting import format_summary
from secost_tf.training import (
    TRAIN_SETTINGS,
    DeviceSettings,
    TrainSettings,
    read_cascade_flags,
    read_run_options,
    run_cascade,
    set_up,
)
from tfrecord_tools.commands import run_command
from tfrecord_tools.config_flags import read_flags

SETTINGS = TRAIN_SETTINGS


def main(argv: Sequence[str]) -> None:
    """Read the flags, run the cascade and print its table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings, options = read_flags(TrainSettings), read_run_options()
    config, data_dir, make_strategy = set_up(
        read_cascade_flags(), settings, read_flags(DeviceSettings)
    )
    run_dir = settings.run_dir
    if settings.dry_run:
        from secost_tf.training import estimate_cost  # imports TensorFlow

        print(estimate_cost(config, data_dir, run_dir, make_strategy, options))
        return
    rows = run_cascade(config, data_dir, run_dir, make_strategy, options)
    print(format_summary(rows))
    print(f"figures of the {rows[-1]['split']} split; curves: tensorboard --logdir {run_dir}")


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
