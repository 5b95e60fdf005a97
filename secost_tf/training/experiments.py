"""An experiment: a cascade, or a sweep of alpha over one stage, trained with several seeds."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import logging

from secost_tf.runs import (
    CascadeConfig,
    ExperimentRecord,
    RunOptions,
    StageConfig,
    StageFolder,
    check_name,
    data_digest,
    done_stages,
    run_folder,
    share_stages,
    write_summary,
)
from secost_tf.training import cascade
from secost_tf.training.devices import make_strategy
from tfrecord_tools import shards, storage
from tfrecord_tools.config import Config, setting
from tfrecord_tools.shards import DatasetInfo
from tfrecord_tools.text import format_duration, format_figure

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of an experiment: an ordinary run folder.

    Attributes:
        seed: of its weights and order of clips.
        alpha: that of a sweep; None in a cascade.
        run_dir: its folder.
        cascade: settings of its stages.
    """

    seed: int
    alpha: float | None
    run_dir: str
    cascade: CascadeConfig

    def stage_configs(self, info: DatasetInfo) -> tuple[StageConfig, ...]:
        """Return the settings of its stages on this data."""
        stages = range(self.cascade.stage + 1)
        return tuple(self.cascade.stage_config(stage, info) for stage in stages)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig(Config):
    """Settings of an experiment: a cascade, or a sweep of alpha, with several seeds.

    Source: the cascade of `CascadeConfig`; its results are compared seed by seed, by the interval
    of `secost_tf.evaluation.mean_interval`.

    Raises:
        ValueError: if a value is not allowed, the name is no name of a folder, or a sweep has more
            than stage 1.

    Example:
        >>> from secost_tf import CascadeConfig, ExperimentConfig
        >>> cascade = CascadeConfig(stage=1, alphas=(0.3,))
        >>> ExperimentConfig(name="sweep", cascade=cascade, sweep_alphas=(0.0, 0.5, 1.0)).seeds
        5
    """

    name: str = setting(
        None, "Name of the experiment, and of its folder; flagfiles of experiments give it."
    )
    cascade: CascadeConfig = setting(
        CascadeConfig, "What each seed trains; the seed in it is not used.", flag=False
    )
    seeds: int = setting(
        5, "How often to run it: with seeds 0, 1, ... One seed gives no interval.", minimum=1
    )
    sweep_alphas: tuple[float, ...] = setting(
        (),
        "Weights of the labels, separated by commas, each of which trains a stage 1 of its own "
        "after one stage 0 (give --stage=1); --alpha is then not used. Default: no sweep, the "
        "cascade up to --stage.",
        minimum=0,
        maximum=1,
    )
    only_seeds: tuple[int, ...] = setting(
        (),
        "Of the --seeds, those to train now, separated by commas, and no results: to share an "
        "experiment out. Default: all.",
        minimum=0,
    )

    def __post_init__(self):
        super().__post_init__()
        check_name(self.name)
        for seed in self.only_seeds:
            if seed >= self.seeds:
                raise ValueError(
                    f"only_seeds: expected seeds from 0 to {self.seeds - 1} (--seeds), got {seed}"
                )
        if self.sweep_alphas and self.cascade.stage != 1:
            raise ValueError(
                "stage: expected 1 with --sweep_alphas, the one stage that is swept, "
                f"got {self.cascade.stage}"
            )
        if len(set(self.sweep_alphas)) < len(self.sweep_alphas):
            listed = ", ".join(f"{alpha:g}" for alpha in self.sweep_alphas)
            raise ValueError(f"sweep_alphas: expected each alpha once, got {listed}")

    def runs(self, experiments_dir: str) -> list[Run]:
        """Return its runs, seed by seed."""
        runs = []
        for seed in self.only_seeds or range(self.seeds):
            train = dataclasses.replace(self.cascade.train, seed=seed)
            for alpha in self.sweep_alphas or (None,):
                alphas = self.cascade.alphas if alpha is None else (alpha,)
                settings = dataclasses.replace(self.cascade, train=train, alphas=alphas)
                folder = run_folder(experiments_dir, self.name, seed, alpha)
                runs.append(Run(seed, alpha, folder, settings))
        return runs

    def record(self, data_dir: str) -> ExperimentRecord:
        """Return all that is kept of it, which is all but the number of seeds."""
        settings = dataclasses.asdict(self.cascade)
        del settings["train"]["seed"], settings["prerequisites"]
        if self.sweep_alphas:
            del settings["alphas"]
        return ExperimentRecord(
            name=self.name,
            stage=self.cascade.stage,
            sweep_alphas=self.sweep_alphas,
            settings=json.loads(json.dumps(settings)),
            data_dir=storage.absolute(data_dir),
            data_digest=data_digest(data_dir),
        )


def run_experiment(
    config: ExperimentConfig,
    data_dir: str,
    experiments_dir: str,
    make_strategy: Callable[[], tf.distribute.Strategy] = make_strategy,
    options: RunOptions | None = None,
) -> list[str]:
    """Train what is not done of an experiment, seed by seed.

    A stage that another run below `experiments_dir` has trained with the same settings, data,
    versions and teachers is taken from there: stage 0, above all, is trained once a seed for all
    experiments on the same data.

    Source: the cascade of `run_cascade`, repeated.

    Args:
        config: what to run.
        data_dir: folder of the converted splits, `train` and `eval` at least.
        experiments_dir: folder of the experiments, a folder each.
        make_strategy: gives the `tf.distribute.Strategy`; called once, if there is something to
            train. By default it mirrors over the GPUs, if there are several.
        options: what changes no result. Its flags are those that the runs have in common.

    Returns:
        The folders of the runs, seed by seed.

    Raises:
        ValueError: if what stands there was begun with other settings or data, or as
            `run_cascade`.

    Example:
        `data` holds what `tfrecord_tools.convert` has written. The network here is very small, and
        only the base model is trained.

        >>> from secost_tf import CascadeConfig, ExperimentConfig, TrainConfig, run_experiment
        >>> network = {"width": 0.02, "block_channels": (400,), "block_pools": (32,)}
        >>> cascade = CascadeConfig(network=network, train=TrainConfig(epochs=1, batch_size=8))
        >>> config = ExperimentConfig(name="base", cascade=cascade, seeds=1)
        >>> run_experiment(config, "data", "runs/experiments")
        ['runs/experiments/base/seed-0']
    """
    options = options or RunOptions()
    info = shards.read_dataset_info(data_dir, "train")
    record = config.record(data_dir)
    record.begin(experiments_dir)
    runs = config.runs(experiments_dir)
    progress = _Progress(config.name, runs, info)
    make_strategy = functools.cache(make_strategy)
    for run in runs:
        _, to_train = cascade.plan(run.cascade, data_dir, run.run_dir)
        if not to_train:
            write_summary(run.run_dir)
            continue
        configs = run.stage_configs(info)
        for stage, donor in share_stages(run.run_dir, configs, record, experiments_dir, run.seed):
            logging.info("%s, stage %d: taken from %s", progress.label(run), stage, donor)
        flags = options.flags and options.flags + run_flags(run)
        run_options = dataclasses.replace(options, flags=flags)
        cascade.run_cascade(
            run.cascade, data_dir, run.run_dir, make_strategy, run_options, progress.reporter(run)
        )
    return [run.run_dir for run in runs]


def estimate_experiment(
    config: ExperimentConfig,
    data_dir: str,
    experiments_dir: str,
    make_strategy: Callable[[], tf.distribute.Strategy],
    options: RunOptions,
) -> str:
    """Return the cost of the first run that is not done, and the number of stages to train in all.

    Nothing is written. Arguments and errors as for `run_experiment`.
    """
    from secost_tf.training.cost import estimate_cost  # imports TensorFlow

    runs = config.runs(experiments_dir)
    progress = _Progress(config.name, runs, shards.read_dataset_info(data_dir, "train"))
    unfinished = (run for run in runs if len(done_stages(run.run_dir)) <= run.cascade.stage)
    run = next(unfinished, runs[-1])
    cost = estimate_cost(run.cascade, data_dir, run.run_dir, make_strategy, options)
    return (
        f"{cost}\nThis is {progress.label(run)}. {config.name} has {progress.left} stages to train "
        "in all; of these, what other experiments have trained already is taken from them"
    )


def run_flags(run: Run) -> str:
    """Return the flags of `secost_tf.train` that an experiment sets for a run, a line each."""
    values = {
        "run_dir": run.run_dir,
        "stage": run.cascade.stage,
        "alpha": ",".join(map(str, run.cascade.alphas)),
        "epochs": run.cascade.train.epochs,
        "seed": run.seed,
    }
    return "".join(f"--{name}={value}\n" for name, value in values.items())


class _Progress:
    """The stages of an experiment, done and to be done; those that runs share count once."""

    def __init__(self, name: str, runs: Sequence[Run], info: DatasetInfo):
        self._name, self._info = name, info
        self._all: set[str] = set()
        self._done: set[str] = set()
        for run in runs:
            stages = self._stages(run)
            self._all.update(stages)
            self._done.update(stages[: len(done_stages(run.run_dir))])
        self._seconds: list[float] = []

    @property
    def left(self) -> int:
        """The number of stages that are not done."""
        return len(self._all - self._done)

    def label(self, run: Run) -> str:
        """Return the name of a run, such as `increasing_teacher, seed 2`."""
        of_sweep = "" if run.alpha is None else f", alpha {run.alpha:g}"
        return f"{self._name}, seed {run.seed}{of_sweep}"

    def reporter(self, run: Run) -> Callable[[StageConfig], None]:
        """Return a function that logs a line after each stage of a run that was trained."""
        stages = self._stages(run)
        self._done.update(stages[: len(done_stages(run.run_dir))])  # shared ones among them
        started = time.monotonic()

        def report(stage: StageConfig) -> None:
            nonlocal started
            now = time.monotonic()
            self._seconds.append(now - started)
            started = now
            self._done.add(stages[stage.stage])
            left = self.left * sum(self._seconds) / len(self._seconds)
            mAP = format_figure(StageFolder(run.run_dir, stage.stage).metrics["mAP"])
            took = format_duration(self._seconds[-1])
            logging.info(
                "%s, stage %d: mAP %s, %s; %d of %d stages done, about %s left",
                self.label(run),
                stage.stage,
                mAP,
                took,
                len(self._done),
                len(self._all),
                format_duration(left),
            )

        return report

    def _stages(self, run: Run) -> list[str]:
        """Return a key for each stage: its settings and those of the stages before."""
        configs = run.stage_configs(self._info)
        return [repr(configs[: config.stage + 1]) for config in configs]
