"""`python -m secost_tf.experiment --flagfile=flags/experiments/X.flags --seeds=5`: an experiment
over several seeds.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Sequence

from absl import flags, logging

from secost_tf.evaluation import default_command, experiment_results
from secost_tf.reporting import format_results, write_results
from secost_tf.runs import check_name
from secost_tf.training import (
    ExperimentConfig,
    cascade_config,
    define_train_flags,
    estimate_experiment,
    parse_numbers,
    run_experiment,
    run_options,
    run_side_by_side,
    set_up,
)
from tfrecord_tools.commands import run_command
from tfrecord_tools.parallel import available_cores

FLAGS = flags.FLAGS

# Flags of `secost_tf.train` that an experiment sets for each run.
_SET_PER_RUN = ("run_dir", "stage", "alpha", "epochs", "seed")

# Flags that make one experiment another; the rest says how and on what.
_THE_EXPERIMENT = (
    *("name", "stage", "alpha", "auto_alphas", "alpha_per_class_csv", "estimate_alpha_per_class"),
    *("teacher_stages", "sweep_alphas", "epochs_factor", "controls"),
)


def define_experiment_flags() -> None:
    """What the experiment adds to a cascade."""
    flags.DEFINE_string(
        "name", None, "Name of the experiment, and of its folder; flagfiles of experiments give it."
    )
    flags.DEFINE_integer(
        "seeds",
        5,
        "How often to run it: with seeds 0, 1, ... One seed gives no interval.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "experiments_dir",
        "runs/experiments",
        "Folder of the experiments, a folder each. What is done there is kept, and a stage that two experiments have in "
        "common is trained once.",
    )
    flags.DEFINE_list(
        "sweep_alphas",
        [],
        "Weights of the labels, separated by commas, each of which trains a stage 1 of its own after one stage 0 (give "
        "--stage=1); --alpha is then not used. Default: no sweep, the cascade up to --stage.",
    )
    flags.DEFINE_integer(
        "epochs_factor",
        1,
        "Multiplies --epochs: 6 gives a base model the training time of a cascade of six.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "controls",
        [],
        "Names of other experiments in --experiments_dir, separated by commas, against which the last stage is compared, "
        "seed by seed.",
    )
    flags.DEFINE_list(
        "only_seeds",
        [],
        "Of the --seeds, those to train now, separated by commas, and no results: to share an experiment out. Default: all.",
    )
    flags.DEFINE_integer(
        "processes",
        1,
        "Seeds that are trained side by side, each in a process of its own with an equal part of the processor's cores. "
        "Small networks gain little from a second core, and much from this.",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "table_only",
        False,
        "Train nothing: print and write the results of the first --seeds seeds.",
    )


def experiment_config() -> ExperimentConfig:
    """What the flags ask for; what depends on the machine is left to `main`."""
    for name, instead in (("run_dir", "--experiments_dir and --name"), ("seed", "--seeds")):
        if FLAGS[name].present:
            raise ValueError(
                f"{name}: an experiment has a run for each seed; give {instead} instead"
            )
    cascade = cascade_config()
    epochs = cascade.train.epochs * FLAGS.epochs_factor
    return ExperimentConfig(
        name=FLAGS.name,
        cascade=dataclasses.replace(
            cascade, train=dataclasses.replace(cascade.train, epochs=epochs)
        ),
        seeds=FLAGS.seeds,
        sweep_alphas=parse_numbers("sweep_alphas", FLAGS.sweep_alphas, float),
        only_seeds=parse_numbers("only_seeds", FLAGS.only_seeds, int),
    )


def main(argv: Sequence[str]) -> None:
    """Reads the flags, runs the experiment, prints and writes its results."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in (FLAGS.name, *FLAGS.controls):
        check_name(name)
    if not FLAGS.table_only:
        _run()
        if FLAGS.dry_run or FLAGS.only_seeds:
            return
    results = experiment_results(
        FLAGS.experiments_dir,
        FLAGS.name,
        FLAGS.seeds,
        FLAGS.controls,
        lambda name: command_for(name, sys.argv),
    )
    print(format_results(results))
    for path in write_results(results, FLAGS.experiments_dir):
        logging.info("written: %s", path)


def _run() -> None:
    """Trains what is not done, or with --dry_run says what that costs."""
    config = experiment_config()
    if FLAGS.strategy == "multi_worker":
        raise ValueError(
            "strategy: an experiment runs on one machine; start secost_tf.train for each seed to train on several"
        )
    cascade, data_dir, make_strategy = set_up(config.cascade)
    config = dataclasses.replace(config, cascade=cascade)
    options = run_options(leave_out=("dry_run", *_SET_PER_RUN))
    if FLAGS.dry_run:
        print(estimate_experiment(config, data_dir, FLAGS.experiments_dir, make_strategy, options))
        return
    seeds = config.only_seeds or tuple(range(config.seeds))
    processes = min(FLAGS.processes, len(seeds))
    if processes > 1:
        config.record(data_dir).begin(FLAGS.experiments_dir)  # says now what each of them would say
        run_side_by_side(commands_of_seeds(seeds, processes, sys.argv[1:]))
        return
    run_experiment(config, data_dir, FLAGS.experiments_dir, make_strategy, options)


def commands_of_seeds(
    seeds: Sequence[int], processes: int, arguments: Sequence[str]
) -> dict[str, list[str]]:
    """Commands that share out the seeds of this one, whose arguments are given, and the cores; by a
    name for each.
    """
    threads = (
        [] if FLAGS["threads"].present else [f"--threads={max(1, available_cores() // processes)}"]
    )
    commands = {}
    for first in range(processes):
        mine = ",".join(map(str, seeds[first::processes]))
        own = ["--processes=1", f"--only_seeds={mine}", *threads]
        commands[f"seed {mine}"] = [sys.executable, "-m", "secost_tf.experiment", *arguments, *own]
    return commands


def command_for(name: str, argv: Sequence[str]) -> str:
    """The command that trains experiment `name` as `argv` does this one: with a flagfile of that
    name in place of its own.
    """
    arguments = [one for one in argv[1:] if not re.match(r"--?(no)?table_only\b", one)]
    if name != FLAGS.name:
        own = re.compile(rf"{re.escape(FLAGS.name)}(?=\.flags$)")
        if not any(map(own.search, arguments)):
            return f"{default_command(name)} (and the flags of the data)"
        of_this_one = re.compile(
            rf"--?((no)?estimate_alpha_per_class$|({'|'.join(_THE_EXPERIMENT)})=)"
        )
        arguments = [own.sub(name, one) for one in arguments if not of_this_one.match(one)]
    return shlex.join(["python", "-m", "secost_tf.experiment", *arguments])


def run() -> None:
    """The console script."""
    run_command(main, define_experiment_flags, define_train_flags)


if __name__ == "__main__":
    run()
