"""One stage: train a student, keep the best epoch, score the training set for the next stage,
evaluate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from secost_tf import data
from secost_tf.data import (
    Split,
    check_teacher_scores,
    evaluation_split,
    find_damage,
    make_augmentation,
    training_splits,
)
from secost_tf.evaluation import Scorer, write_per_class
from secost_tf.models import (
    SeCoSTLoss,
    TeacherDistillation,
    average_teacher,
    build_optimizer,
    make_optimizer,
    wels_net,
)
from secost_tf.runs import (
    ALPHA_PER_CLASS_CSV,
    CHECKPOINTS,
    FLAGS_TXT,
    HISTORY_CSV,
    PER_CLASS_CSV,
    TEACHER_SCORES,
    TENSORBOARD,
    RunOptions,
    StageConfig,
    StageFolder,
    StageRecord,
    TrainConfig,
)
from secost_tf.training import callbacks, checkpoints, devices, preemption, tensorboard
from secost_tf.training.workers import Workers, is_multi_worker
from tfrecord_tools import shards, storage
from tfrecord_tools.config import check_same_settings
from tfrecord_tools.datasets import write_class_values
from tfrecord_tools.shards import DatasetInfo
from tfrecord_tools.text import join_some


def build_student(record: StageRecord) -> keras.Model:
    """A fresh network for a stage; its weights depend on the seed and the stage alone."""
    devices.set_seed(record.config.train.seed * 1000 + record.config.stage)
    return wels_net(record.config.network)


@dataclasses.dataclass(frozen=True)
class StageData:
    """What a stage trains on and with."""

    training: Split
    validation: Split | None
    evaluation: Split
    teacher_scores_dirs: list[str]

    @classmethod
    def open(cls, config: StageConfig, data_dir: str, run_dir: str) -> StageData:
        """Finds the splits and the teacher's scores, and checks that all go together."""
        training, validation = training_splits(data_dir, config.train)
        evaluation = evaluation_split(data_dir, config.train)
        return cls(training, validation, evaluation, _check_teacher(config, run_dir, training))

    def record(self, config: StageConfig) -> StageRecord:
        """What is written of the stage."""
        info = self.training.info
        return StageRecord(
            config, storage.absolute(self.training.data_dir), info.class_map, info.log_mel
        )


def steps_per_epoch(train: TrainConfig, training: Split) -> int:
    """Batches in an epoch: as asked, or a pass over the clips."""
    return train.steps_per_epoch or data.steps_per_epoch(training, train.batch_size)


def train_stage(
    config: StageConfig,
    data_dir: str,
    run_dir: str,
    strategy: tf.distribute.Strategy,
    options: RunOptions | None = None,
) -> dict:
    """Trains one stage to its end, continuing where an earlier attempt was stopped.

    Writes the stage's folder; `metrics.json` last. Of several workers, the first one writes.

    Args:
        config: the stage.
        data_dir: folder of the converted splits: `train`, and `validation` and `eval` where given.
        run_dir: folder of the run; the teacher stages must be done there.
        strategy: over what replicas to train.
        options: what changes no result.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: if the data, the teacher or an earlier attempt do not fit; the message says how.
    """
    options = options or RunOptions()
    folder, train, workers = StageFolder(run_dir, config.stage), config.train, Workers(strategy)
    training = None
    try:
        stage_data = StageData.open(config, data_dir, run_dir)
        training = stage_data.training
        record = stage_data.record(config)
        _begin(folder, record, training.info, workers, options)
        with devices.precision_policy(train.precision):
            state = _fit(folder, record, stage_data, strategy, workers, options)
        if workers.is_chief:
            _finish(state, folder, record, stage_data.evaluation)
        workers.wait()
        return folder.metrics
    except tf.errors.OpError as error:
        raise _explain(error, config, training, workers) from error
    finally:
        keras.backend.clear_session()
        logging.debug("left %s", folder.path)


def _explain(
    error: tf.errors.OpError, config: StageConfig, training: Split | None, workers: Workers
) -> Exception:
    """What is to be said of an error that TensorFlow raised."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return ValueError(
            f"out of memory: try a smaller --batch_size than {config.train.batch_size}"
        )
    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    )
    if workers.count > 1 and isinstance(error, lost):
        preemption.preemption.stop(
            f"start all {workers.count} workers again, and the same command continues after the last checkpoint "
            f"({error.message.splitlines()[0][:200]})",
            reason="since another worker is gone, or cannot be reached",
        )
    return find_damage(training, error) if training else error


def _begin(
    folder: StageFolder,
    record: StageRecord,
    info: DatasetInfo,
    workers: Workers,
    options: RunOptions,
) -> None:
    """Writes the stage's settings; where an earlier attempt is to be continued, checks that it had
    the same.
    """
    if folder.has_record and folder.is_begun:
        folder.check_data(info, record.data_dir)
        check_same_settings(
            f"{folder.path} was begun",
            folder.record.config,
            record.config,
            f"Continue with the same settings, choose another --run_dir, or delete {folder.path}",
        )
    empty = [
        name
        for name, count in zip(info.class_map.display_names, info.positives, strict=True)
        if not count
    ]
    if not workers.is_chief:
        return
    if empty:
        logging.warning(
            "%d of %d classes have no clip to learn from: %s",
            len(empty),
            len(info.class_map),
            join_some(empty),
        )
    folder.begin(record)
    if record.config.class_alphas:
        columns = {"alpha": record.config.loss_alpha}
        write_class_values(folder.file(ALPHA_PER_CLASS_CSV), record.class_map, columns)
    if options.flags:
        with storage.atomic_write(folder.file(FLAGS_TXT)) as file:
            file.write(options.flags)


def _check_teacher(config: StageConfig, run_dir: str, training: Split) -> list[str]:
    """Checks the teacher stages; returns the folders of their cached scores, none if the teacher is
    online.
    """
    teachers = [StageFolder(run_dir, number) for number in config.teacher_stages]
    for teacher in teachers:
        if not teacher.is_done:
            raise ValueError(
                f"stage {config.stage} learns from stage {teacher.number}, which is not done in {run_dir}: train it first "
                f"(--stage={teacher.number}), or leave out --noprerequisites"
            )
        teacher.check_data(training.info, training.data_dir)
        _warn_of_chance(teacher)
    if config.train.teacher == "online" or not config.needs_teacher:
        return []
    folders = [teacher.file(TEACHER_SCORES) for teacher in teachers]
    for folder in folders:
        check_teacher_scores(training, folder)
    return folders


def _warn_of_chance(teacher: StageFolder) -> None:
    """A warning if a teacher was no better than chance."""
    mAP, mAUC, chance = (teacher.metrics[name] for name in ("mAP", "mAUC", "chance"))
    if None not in (mAP, mAUC, chance) and (mAUC <= 0.5 or mAP <= chance):
        logging.warning(
            "stage %d, the teacher, is no better than chance (mAP %.4f, chance %.4f; mAUC %.4f): its student learns "
            "noise. Train a better one first, or give the labels more weight with a higher --alpha",
            teacher.number,
            mAP,
            chance,
            mAUC,
        )


def make_model(
    record: StageRecord, stage_data: StageData, run_dir: str, strategy: tf.distribute.Strategy
) -> tuple[TeacherDistillation, keras.optimizers.schedules.LearningRateSchedule]:
    """A student as it is before its first step, ready to be fitted, and the learning rate by step."""
    config, train = record.config, record.config.train
    if train.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"batch_size: expected a multiple of the {strategy.num_replicas_in_sync} replicas, got {train.batch_size}"
        )
    schedule = learning_rate_schedule(train, steps_per_epoch(train, stage_data.training))
    with strategy.scope():
        student = build_student(record)
        info = stage_data.training.info
        student.get_layer("standardize").set_statistics(info.mean, info.variance)
        teacher = None
        if config.needs_teacher and not stage_data.teacher_scores_dirs:
            teacher = average_teacher(
                [StageFolder(run_dir, number).student for number in config.teacher_stages]
            )
        model = TeacherDistillation(student, teacher, clip_norm=train.clip_norm, ema=train.ema)
        model.compile(make_optimizer(train.optimizer, schedule), SeCoSTLoss(config.loss_alpha))
        build_optimizer(model.optimizer, student.trainable_variables)
    return model, schedule


class Batches:
    """The batches of a stage, epoch by epoch, as `fit` takes them under its strategy."""

    def __init__(
        self,
        config: StageConfig,
        stage_data: StageData,
        strategy: tf.distribute.Strategy,
        options: RunOptions,
    ):
        train, training, scores = config.train, stage_data.training, stage_data.teacher_scores_dirs
        self.strategy, self.workers = strategy, Workers(strategy)
        self._data = data.TrainingData(
            split=training,
            batch_size=train.batch_size,
            seed=train.seed * 1000 + config.stage,
            steps=train.steps_per_epoch,
            shuffle_clips=train.shuffle_clips,
            teacher_scores_dirs=scores,
            balanced=train.balanced_sampling,
            augment=make_augmentation(train, training.info),
            streams=train.input_streams,
            cache=_make_cache(training, scores) if options.cache_in_memory else None,
        )

    def epoch(self, epoch: int, first_step: int = 0):
        """An epoch's batches from a step on."""
        if not is_multi_worker(self.strategy):
            return self._data.epoch(epoch, first_step)
        worker = data.Worker(self.workers.index, self.workers.count, self.workers.local_replicas)
        return self.strategy.distribute_datasets_from_function(
            lambda context: self._data.epoch(epoch, first_step, worker)
        )


def _make_cache(training: Split, scores_dirs: list[str]) -> data.RecordCache | None:
    """The training records in memory, if there is room."""
    decompressed = 1 if training.info.compression == "NONE" else 2  # at most, of log-mels
    needed = decompressed * sum(shard.bytes for shard in training.info.shards) / 1e9
    room = devices.available_memory() / 2e9
    if needed > room:
        logging.warning(
            "the training records (%.1f GB) take more than half of the free memory (%.1f GB): they are read from their "
            "files",
            needed,
            2 * room,
        )
        return None
    logging.info("the training records (%.1f GB) are held in memory", needed)
    return data.RecordCache(training, scores_dirs)


def _fit(
    folder: StageFolder,
    record: StageRecord,
    stage_data: StageData,
    strategy: tf.distribute.Strategy,
    workers: Workers,
    options: RunOptions,
) -> checkpoints.TrainingState:
    """Trains to the last epoch; returns the state, with the best epoch's weights."""
    config, train = record.config, record.config.train
    checkpoint = folder.file(CHECKPOINTS)
    steps = steps_per_epoch(train, stage_data.training)
    model, schedule = make_model(record, stage_data, folder.run_dir, strategy)
    with strategy.scope():
        state = checkpoints.restore_state(checkpoint, model)
    workers.check_same(f"{folder.path} at epoch {state.epoch}, step {state.step} of {steps}")
    if (state.epoch or state.step) and workers.is_chief:
        logging.info(
            "stage %d continues after epoch %d of %d, step %d of %d",
            config.stage,
            state.epoch,
            train.epochs,
            state.step,
            steps,
        )
    watchers: list[keras.callbacks.Callback] = [
        callbacks.TerminateOnNonFinite(
            storage.join(checkpoint, checkpoints.STATE_FILE), state, schedule, steps
        )
    ]
    validation = None
    if stage_data.validation:
        scorer = Scorer(model.student, train.batch_size)
        validation = callbacks.Validation(scorer, stage_data.validation)
        watchers.append(validation)
    history = folder.file(HISTORY_CSV)
    watchers.append(
        callbacks.CheckpointCallback(
            state, checkpoint, history, schedule, steps, 60 * options.checkpoint_minutes, workers
        )
    )
    with contextlib.ExitStack() as at_the_end:
        if workers.is_chief:
            board = tensorboard.TensorBoard(
                folder.file(TENSORBOARD), record, state, steps, options, validation
            )
            at_the_end.callback(board.close)
            watchers.append(board)
            watchers.append(
                callbacks.Progress(
                    f"stage {config.stage}", train.epochs, steps, train.batch_size, state
                )
            )
        batches = Batches(config, stage_data, strategy, options)
        for epoch in range(state.epoch, train.epochs):
            first_step = state.step
            with preemption.preemption.deferred():
                model.fit(
                    batches.epoch(epoch, first_step),
                    steps_per_epoch=steps - first_step,
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    callbacks=watchers,
                    shuffle=False,
                    verbose=0,
                )
    return state


def learning_rate_schedule(
    train: TrainConfig, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up from 0 to the peak, then a half cosine to 0 at the last step."""
    total = train.epochs * steps_per_epoch
    warmup = min(round(train.warmup_share * total), total - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else train.learning_rate,
        decay_steps=total - warmup,
        warmup_target=train.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def _finish(
    state: checkpoints.TrainingState, folder: StageFolder, record: StageRecord, split: Split
) -> None:
    """Saves the student, scores the training set for the next stage and evaluates; `metrics.json`
    comes last.
    """
    config = record.config
    student = wels_net(
        config.network
    )  # float32, as `load_student` gives it, whatever it was trained in
    student.set_weights(state.best_weights)
    folder.save_student(student)
    started = time.monotonic()
    train_split = Split(record.data_dir, shards.read_dataset_info(record.data_dir, "train"))
    logging.info(
        "stage %d scores the %d training clips for the next stage",
        config.stage,
        train_split.num_clips,
    )
    scorer = Scorer(student, config.train.batch_size)
    scorer.write_teacher_scores(train_split, folder.file(TEACHER_SCORES))
    evaluation = scorer.evaluate(split)
    write_per_class(folder.file(PER_CLASS_CSV), evaluation, record.class_map)
    figures = {
        "stage": config.stage,
        "alpha": config.alpha,
        "alpha_note": config.alpha_note,
        "teacher_stages": list(config.teacher_stages),
        "split": split.info.split if split.subset == "all" else "validation share of train",
        **evaluation.scalars(),
        "without_positives": [
            record.class_map.display_names[index] for index in evaluation.without_positives
        ],
        "best_epoch": state.best_epoch,
        "epochs": config.train.epochs,
        "parameters": int(sum(np.prod(weight.shape) for weight in student.trainable_variables)),
        "training_seconds": round(sum(row["seconds"] for row in state.history), 1),
        "scoring_seconds": round(time.monotonic() - started, 1),
    }
    tensorboard.write_final(folder.file(TENSORBOARD), record, figures)
    folder.write_metrics(figures)
