"""`python -m secost_tf.train --stage=2 --alpha=0.3`: train the cascade up to a stage; what is done
is kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from secost_tf.reporting import format_table
from secost_tf.training import (
    FLAGS,
    cascade_config,
    define_train_flags,
    run_cascade,
    run_options,
    set_up,
)
from tfrecord_tools.commands import run_command


def main(argv: Sequence[str]) -> None:
    """Reads the flags, runs the cascade and prints its table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = run_options()
    config, data_dir, make_strategy = set_up(cascade_config())
    if FLAGS.dry_run:
        from secost_tf.training import estimate_cost  # imports TensorFlow

        print(estimate_cost(config, data_dir, FLAGS.run_dir, make_strategy, options))
        return
    rows = run_cascade(config, data_dir, FLAGS.run_dir, make_strategy, options)
    print(format_table(rows))
    print(f"figures of the {rows[-1]['split']} split; curves: tensorboard --logdir {FLAGS.run_dir}")


def run() -> None:
    """The console script."""
    run_command(main, define_train_flags)


if __name__ == "__main__":
    run()
