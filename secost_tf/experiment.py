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
    TRAIN_SETTINGS,
    DeviceSettings,
    ExperimentConfig,
    TrainSettings,
    estimate_experiment,
    read_cascade_flags,
    read_run_options,
    run_experiment,
    run_side_by_side,
    set_up,
)
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.parallel import available_cores

FLAGS = flags.FLAGS

# Flags of `secost_tf.train` that an experiment sets for each run.
_SET_PER_RUN = ("run_dir", "stage", "alpha", "epochs", "seed")

# Flags that make one experiment another; the rest says how and on what.
_THE_EXPERIMENT = (
    *("name", "stage", "alpha", "alpha_per_class_csv", "teacher_stages", "sweep_alphas"),
    *("epochs_factor", "controls"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentSettings(Config):
    """The settings of an experiment that are not in `ExperimentConfig`."""

    experiments_dir: str = setting(
        "runs/experiments",
        "Folder of the experiments, a folder each. What is done there is kept, and a stage that "
        "two "
        "experiments have in common is trained once.",
    )
    epochs_factor: int = setting(
        1,
        "Multiplies --epochs: 6 gives a base model the training time of a cascade of six.",
        minimum=1,
    )
    controls: tuple[str, ...] = setting(
        (),
        "Names of other experiments in --experiments_dir, separated by commas, against which the "
        "last stage is compared, seed by seed.",
    )
    processes: int = setting(
        1,
        "Seeds that are trained side by side, each in a process of its own with an equal part of "
        "the "
        "processor's cores. Small networks gain little from a second core, and much from this.",
        minimum=1,
    )
    table_only: bool = setting(
        False, "Train nothing: print and write the results of the first --seeds seeds."
    )


SETTINGS = (ExperimentSettings, ExperimentConfig, *TRAIN_SETTINGS)


def experiment_config(settings: ExperimentSettings) -> ExperimentConfig:
    """Return what the flags ask for; what depends on the machine is left to `main`."""
    for name, instead in (("run_dir", "--experiments_dir and --name"), ("seed", "--seeds")):
        if FLAGS[name].present:
            raise ValueError(
                f"{name}: an experiment has a run for each seed; give {instead} instead"
            )
    cascade = read_cascade_flags(epochs=FLAGS.epochs * settings.epochs_factor)
    return read_flags(ExperimentConfig, cascade=cascade)


def main(argv: Sequence[str]) -> None:
    """Read the flags, run the experiment, print and write its results."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings = read_flags(ExperimentSettings)
    for name in (FLAGS.name, *settings.controls):
        check_name(name)
    if not settings.table_only:
        _run(settings)
        if FLAGS.dry_run or FLAGS.only_seeds:
            return
    results = experiment_results(
        settings.experiments_dir,
        FLAGS.name,
        FLAGS.seeds,
        settings.controls,
        lambda name: command_for(name, sys.argv),
    )
    print(format_results(results))
    for path in write_results(results, settings.experiments_dir):
        logging.info("written: %s", path)


def _run(settings: ExperimentSettings) -> None:
    """Train what is not done, or with --dry_run say what that costs."""
    config, device_settings = experiment_config(settings), read_flags(DeviceSettings)
    if device_settings.strategy == "multi_worker":
        raise ValueError(
            "strategy: an experiment runs on one machine; start secost_tf.train for each seed to "
            "train on several"
        )
    data = read_flags(TrainSettings)
    cascade, data_dir, make_strategy = set_up(config.cascade, data, device_settings)
    config = dataclasses.replace(config, cascade=cascade)
    options = read_run_options(leave_out=_SET_PER_RUN)
    experiments_dir = settings.experiments_dir
    if data.dry_run:
        print(estimate_experiment(config, data_dir, experiments_dir, make_strategy, options))
        return
    seeds = config.only_seeds or tuple(range(config.seeds))
    processes = min(settings.processes, len(seeds))
    if processes > 1:
        config.record(data_dir).begin(experiments_dir)  # says now what each of them would say
        run_side_by_side(commands_of_seeds(seeds, processes, sys.argv[1:]))
        return
    run_experiment(config, data_dir, experiments_dir, make_strategy, options)


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
    arguments = [
        argument for argument in argv[1:] if not re.match(r"--?(no)?table_only\b", argument)
    ]
    if name != FLAGS.name:
        own = re.compile(rf"{re.escape(FLAGS.name)}(?=\.flags$)")
        if not any(map(own.search, arguments)):
            return f"{default_command(name)} (and the flags of the data)"
        of_this_one = re.compile(rf"--?({'|'.join(_THE_EXPERIMENT)})=")
        arguments = [
            own.sub(name, argument) for argument in arguments if not of_this_one.match(argument)
        ]
    return shlex.join(["python", "-m", "secost_tf.experiment", *arguments])


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
