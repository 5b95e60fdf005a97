"""`--alpha=auto`: a stage is trained with each of several alphas, and the one that serves the
validation clips best is kept.

RUN_DIR/alpha-search/stage-2/alpha-0.3/stage-1 stage-2   a run folder for each alpha while the search lasts
RUN_DIR/stage-2/alpha_search.json                        then the best one's stage, with {alpha: validation mAP}
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence

import tensorflow as tf
from absl import logging

from secost_tf.data import training_splits
from secost_tf.runs import (
    HISTORY_CSV,
    METRICS_JSON,
    TENSORBOARD,
    RunOptions,
    StageConfig,
    copy_stage,
    is_done,
    stage_dir,
    weights_of,
)
from secost_tf.training import stage
from secost_tf.training.devices import custom_gradients_forgotten
from secost_tf.training.workers import Workers
from tfrecord_tools import storage

ALPHA_SEARCH = "alpha-search"

ALPHA_SEARCH_JSON = "alpha_search.json"


def describe_trainings(to_train: Sequence[StageConfig]) -> str:
    """`0, 1, 2`, and what --alpha=auto makes of it."""
    numbers = ", ".join(str(one.stage) for one in to_train)
    alphas = to_train[-1].auto_alphas
    if not alphas:
        return numbers
    listed = ", ".join(f"{alpha:g}" for alpha in alphas)
    total = sum(one.trainings for one in to_train)
    return f"{numbers}; with --alpha=auto {len(alphas)} trainings for each after stage 0 (alpha {listed}): {total} in all"


def check_choices(config: StageConfig, data_dir: str, strategy: tf.distribute.Strategy) -> None:
    """A `ValueError` if a stage is to find out its alphas where it cannot; says what to do."""
    if not (config.auto_alphas or config.estimate_class_alphas):
        return
    if config.auto_alphas and Workers(strategy).count > 1:
        raise ValueError(
            "alpha: auto runs on one machine; give numbers with --strategy=multi_worker, such as those that were found on "
            "less data"
        )
    stage.check_validation(config, training_splits(data_dir, config.train)[1])


def search_alpha(
    config: StageConfig,
    data_dir: str,
    run_dir: str,
    strategy: tf.distribute.Strategy,
    options: RunOptions = RunOptions(),  # noqa: B008
) -> None:
    """Trains a stage with each of its `auto_alphas`, continuing where an earlier attempt was
    stopped, and takes the best.

    The best has, at its best epoch, the highest validation mAP, then the lowest validation loss.

    Arguments and errors as for `stage.train_stage`. `remove_search` removes the others.
    """
    search = storage.join(run_dir, ALPHA_SEARCH, f"stage-{config.stage}")
    folders = {alpha: storage.join(search, f"alpha-{alpha:g}") for alpha in config.auto_alphas}
    for folder in folders.values():
        _take_teachers(config, run_dir, folder)
    for folder in (run_dir, *folders.values()):
        if begun := stage.begun_stage(folder, config.stage):
            stage.check_continues(
                begun.config.aligned_to(config), config, stage_dir(folder, config.stage)
            )
    for number, (alpha, folder) in enumerate(folders.items(), 1):
        done = is_done(folder, config.stage)
        what = f"stage {config.stage}, alpha {alpha:g} ({number} of {len(folders)})"
        logging.info("%s%s", what, ": kept" if done else "")
        if not done:
            with custom_gradients_forgotten():
                candidate = dataclasses.replace(config, alpha=alpha)
                stage.train_stage(candidate, data_dir, folder, strategy, options)
    figures = {
        alpha: _validation_figures(stage_dir(folder, config.stage))
        for alpha, folder in folders.items()
    }
    best = max(figures, key=lambda alpha: (_or(figures[alpha][0], -1.0), -figures[alpha][1]))
    found = {f"{alpha:g}": _or(mAP, None) for alpha, (mAP, _) in figures.items()}
    told = ", ".join(f"{alpha:g}: {mAP:.4f}" for alpha, (mAP, _) in figures.items())
    logging.info("stage %d: alpha %g is the best by validation mAP (%s)", config.stage, best, told)
    storage.write_json(
        storage.join(stage_dir(folders[best], config.stage), ALPHA_SEARCH_JSON), found
    )
    copy_stage(folders[best], run_dir, config.stage)


def remove_search(run_dir: str, number: int) -> None:
    """Removes what a search for the alpha of a stage that is done leaves, or left when it was
    killed just then.
    """
    searches = storage.join(run_dir, ALPHA_SEARCH)
    storage.remove_tree(storage.join(searches, f"stage-{number}"))
    if not storage.list_dir(searches):
        storage.remove_tree(searches)


def _take_teachers(config: StageConfig, run_dir: str, folder: str) -> None:
    """Puts the teachers beside a student; a student of other teachers, trained anew since, is
    removed.
    """
    have = all(
        is_done(folder, teacher)
        and weights_of(stage_dir(folder, teacher)) == weights_of(stage_dir(run_dir, teacher))
        for teacher in config.teacher_stages
    )
    if not have:
        storage.remove_tree(folder)
        for teacher in config.teacher_stages:
            copy_stage(run_dir, folder, teacher, leave_out=(TENSORBOARD,))


def _validation_figures(folder: str) -> tuple[float, float]:
    """mAP and loss on the validation clips at the epoch that a stage kept."""
    epoch = storage.read_json(storage.join(folder, METRICS_JSON))["best_epoch"]
    with storage.open_file(storage.join(folder, HISTORY_CSV)) as stream:
        row = list(csv.DictReader(io.StringIO(stream.read(), newline="")))[epoch - 1]
    return float(row["val_mAP"]), float(row["val_loss"])


def _or(value: float, other: float | None) -> float | None:
    return value if math.isfinite(value) else other
