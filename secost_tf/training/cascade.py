"""The cascade: stages in order, each the teacher of the next; what is done is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import logging

from secost_tf.runs import (
    CascadeConfig,
    RunOptions,
    StageConfig,
    StageFolder,
    alpha_text,
    done_stages,
    join_stages,
    summarize,
    write_summary,
)
from secost_tf.training.devices import custom_gradients_forgotten, make_strategy
from tfrecord_tools import shards
from tfrecord_tools.config import check_same_settings

if TYPE_CHECKING:
    import tensorflow as tf


def run_cascade(
    config: CascadeConfig,
    data_dir: str,
    run_dir: str,
    make_strategy: Callable[[], tf.distribute.Strategy] = make_strategy,
    options: RunOptions | None = None,
    stage_done: Callable[[StageConfig], None] = lambda stage: None,
) -> list[dict]:
    """Train stages 0 to `config.stage`, keep those that are done, and write the summary.

    Source: Kumar and Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789).

    Args:
        config: what to run.
        data_dir: folder of the converted splits, `train` and `eval` at least.
        run_dir: folder of the run, made if need be; each stage has a folder in it.
        make_strategy: gives the `tf.distribute.Strategy`; called only if there is something to
            train. By default it mirrors over the GPUs, if there are several.
        options: `secost_tf.runs.RunOptions`, which change no result: checkpoints, pictures.
        stage_done: called after each stage that was trained, not for those that were kept.

    Returns:
        The rows of the summary, a dict for each stage: its number, alpha, teachers, best epoch, and
        its figures on the evaluated split, such as `mAP`.

    Raises:
        ValueError: if the data, the run folder or the settings do not go together; before anything
            is trained.

    Example:
        `data` holds what `tfrecord_tools.convert` has written. The network here is very small.

        >>> from secost_tf import CascadeConfig, TrainConfig, run_cascade
        >>> network = {"width": 0.02, "block_channels": (400,), "block_pools": (32,)}
        >>> train = TrainConfig(epochs=1, batch_size=8)
        >>> config = CascadeConfig(stage=1, alphas=(0.3,), network=network, train=train)
        >>> rows = run_cascade(config, "data", "runs/small")
        >>> [(row["stage"], row["alpha"], row["teacher_stages"]) for row in rows]
        [(0, 1.0, []), (1, 0.3, [0])]
    """
    options = options or RunOptions()
    configs, to_train = plan(config, data_dir, run_dir)
    from secost_tf.training.stage import train_stage
    from secost_tf.training.workers import Workers

    strategy = make_strategy() if to_train else None
    is_chief = strategy is None or Workers(strategy).is_chief
    if to_train:
        logging.info("stages to train: %s", join_stages(config.stage for config in to_train))
    for stage in configs:
        if stage in to_train:
            alpha = alpha_text(stage.alpha, stage.alpha_note)
            told = f"alpha {alpha}, teacher {join_stages(stage.teacher_stages)}"
            logging.info("stage %d: %s", stage.stage, told if stage.stage else "the base model")
            with custom_gradients_forgotten():
                train_stage(stage, data_dir, run_dir, strategy, options)
        else:
            folder = StageFolder(run_dir, stage.stage)
            logging.info("stage %d: kept, done in %s", stage.stage, folder.path)
        if is_chief:
            write_summary(run_dir)
        if stage in to_train:
            stage_done(stage)
    return summarize(done_stages(run_dir))


def plan(
    config: CascadeConfig, data_dir: str, run_dir: str
) -> tuple[list[StageConfig], list[StageConfig]]:
    """Return the settings of stages 0 to `config.stage`, and of those that are not done.

    Raises:
        ValueError: as `run_cascade`.
    """
    info = shards.read_dataset_info(data_dir, "train")
    configs = [config.stage_config(stage, info) for stage in range(config.stage + 1)]
    to_train = []
    for stage in configs:
        folder = StageFolder(run_dir, stage.stage)
        if folder.has_record:
            folder.check_data(info, data_dir)
        if not folder.is_done:
            to_train.append(stage)
        elif folder.has_record:
            _check_kept(folder, stage, config)
    missing = [str(stage.stage) for stage in to_train if stage.stage != config.stage]
    if missing and not config.prerequisites:
        raise ValueError(
            f"stage {config.stage} needs stage {', '.join(missing)}, not done in {run_dir}: train "
            f"{'it' if len(missing) == 1 else 'them'} first, or leave out --noprerequisites"
        )
    return configs, to_train


def _check_kept(folder: StageFolder, asked: StageConfig, config: CascadeConfig) -> None:
    """Raise `ValueError` if a stage that is done is not what was asked for.

    Asked for are the last stage, and the alphas that were given stage by stage or class by class.
    """
    names = [field.name for field in dataclasses.fields(asked)]
    if asked.stage != config.stage:
        names = ["alpha"] * (len(config.alphas) > 1) + ["class_alphas"] * bool(config.class_alphas)
    done, asked_for = (
        {name: getattr(settings, name) for name in names}
        for settings in (folder.record.config, asked)
    )
    check_same_settings(
        f"{folder.path} is done,",
        done,
        asked_for,
        f"Choose another --run_dir, or delete {folder.path} and the stages after it to train them "
        "anew",
    )
