"""A stage: train a student, keep the best epoch, score the training set, evaluate."""

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
from secost_tf.training import callbacks, checkpoints, devices, tensorboard
from secost_tf.training.preemption import preemption
from secost_tf.training.workers import Workers, is_multi_worker
from tfrecord_tools import shards, storage
from tfrecord_tools.config import check_same_settings
from tfrecord_tools.datasets import write_class_values
from tfrecord_tools.text import join_some


def build_student(record: StageRecord) -> keras.Model:
    """Build a new network for a stage; its weights depend on the seed and the stage alone."""
    devices.set_seed(record.config.train.seed * 1000 + record.config.stage)
    return wels_net(record.config.network)


@dataclasses.dataclass(frozen=True)
class StageData:
    """The splits of a stage, and the folders of its teachers' scores."""

    training: Split
    validation: Split | None
    evaluation: Split
    teacher_scores_dirs: list[str]

    @classmethod
    def open(cls, config: StageConfig, data_dir: str, run_dir: str) -> StageData:
        """Find the splits and the teacher's scores, and check that all go together."""
        training, validation = training_splits(data_dir, config.train)
        evaluation = evaluation_split(data_dir, config.train)
        return cls(training, validation, evaluation, _check_teacher(config, run_dir, training))

    def record(self, config: StageConfig) -> StageRecord:
        """Return the record of a stage on these data."""
        data_dir, info = storage.absolute(self.training.data_dir), self.training.info
        return StageRecord(config, data_dir, info.class_map, info.log_mel)


def steps_per_epoch(train: TrainConfig, training: Split) -> int:
    """Return the number of batches in an epoch: as asked, or a pass over the clips."""
    return train.steps_per_epoch or data.steps_per_epoch(training, train.batch_size)


@dataclasses.dataclass(frozen=True)
class _Job:
    """A stage to be trained: its folder and record, its data, and by whom it is trained."""

    folder: StageFolder
    record: StageRecord
    data: StageData
    strategy: tf.distribute.Strategy
    workers: Workers
    options: RunOptions


def train_stage(
    config: StageConfig,
    data_dir: str,
    run_dir: str,
    strategy: tf.distribute.Strategy,
    options: RunOptions | None = None,
) -> dict:
    """Train a stage to its end, from where an earlier attempt was stopped.

    The stage's folder is written, `metrics.json` last. Of several workers, the first one writes.

    Args:
        config: settings of the stage.
        data_dir: folder of the converted splits: `train`, and `validation` and `eval` where given.
        run_dir: folder of the run; the teacher stages must be done there.
        strategy: the replicas to train on.
        options: settings that change no result.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: if the data, the teacher or an earlier attempt do not fit; the message says how.
    """
    folder, workers = StageFolder(run_dir, config.stage), Workers(strategy)
    training = None
    try:
        stage_data = StageData.open(config, data_dir, run_dir)
        training, record = stage_data.training, stage_data.record(config)
        job = _Job(folder, record, stage_data, strategy, workers, options or RunOptions())
        _begin(job)
        with devices.precision_policy(config.train.precision):
            state = _fit(job)
        if workers.is_chief:
            _finish(job, state)
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
    """Return the error to raise for one that TensorFlow raised; stop if another worker is lost."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        batch_size = config.train.batch_size
        return ValueError(f"out of memory: try a smaller --batch_size than {batch_size}")
    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    )
    if workers.count > 1 and isinstance(error, lost):
        preemption.stop(
            f"start all {workers.count} workers again, and the same command continues after the "
            f"last checkpoint ({error.message.splitlines()[0][:200]})",
            reason="since another worker is gone, or cannot be reached",
        )
    return find_damage(training, error) if training else error


def _begin(job: _Job) -> None:
    """Write the stage's settings, or check that an earlier attempt had the same ones."""
    folder, record, info = job.folder, job.record, job.data.training.info
    config = record.config
    if folder.has_record and folder.is_begun:
        folder.check_data(info, record.data_dir)
        check_same_settings(
            f"{folder.path} was begun",
            folder.record.config,
            config,
            f"Continue with the same settings, choose another --run_dir, or delete {folder.path}",
        )
    if not job.workers.is_chief:
        return
    names = info.class_map.display_names
    empty = [name for name, count in zip(names, info.positives, strict=True) if not count]
    if empty:
        counts = f"{len(empty)} of {len(names)} classes"
        logging.warning("%s have no clip to learn from: %s", counts, join_some(empty))
    folder.begin(record)
    if isinstance(config.loss_alpha, tuple):  # alphas of classes
        columns = {"alpha": config.loss_alpha}
        write_class_values(folder.file(ALPHA_PER_CLASS_CSV), record.class_map, columns)
    if job.options.flags:
        with storage.atomic_write(folder.file(FLAGS_TXT)) as file:
            file.write(job.options.flags)


def _check_teacher(config: StageConfig, run_dir: str, training: Split) -> list[str]:
    """Check the teacher stages; return the folders of their cached scores that are needed."""
    teachers = [StageFolder(run_dir, number) for number in config.teacher_stages]
    for teacher in teachers:
        if not teacher.is_done:
            raise ValueError(
                f"stage {config.stage} learns from stage {teacher.number}, which is not done in "
                f"{run_dir}: train it first (--stage={teacher.number}), or leave out "
                "--noprerequisites"
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
    """Log a warning if a teacher was no better than chance."""
    mAP, mAUC, chance = (teacher.metrics[name] for name in ("mAP", "mAUC", "chance"))
    if None not in (mAP, mAUC, chance) and (mAUC <= 0.5 or mAP <= chance):
        figures = f"mAP {mAP:.4f}, chance {chance:.4f}; mAUC {mAUC:.4f}"
        logging.warning(
            "stage %d, the teacher, is no better than chance (%s): its student learns noise. Train "
            "a better one first, or give the labels more weight with a higher --alpha",
            teacher.number,
            figures,
        )


def make_model(
    record: StageRecord, stage_data: StageData, run_dir: str, strategy: tf.distribute.Strategy
) -> tuple[TeacherDistillation, keras.optimizers.schedules.LearningRateSchedule]:
    """Return a model that is ready for its first step, and its learning rate by step."""
    config, train = record.config, record.config.train
    if train.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"batch_size: expected a multiple of the {strategy.num_replicas_in_sync} replicas, "
            f"got {train.batch_size}"
        )
    schedule = learning_rate_schedule(train, steps_per_epoch(train, stage_data.training))
    with strategy.scope():
        student = build_student(record)
        info = stage_data.training.info
        student.get_layer("standardize").set_statistics(info.mean, info.variance)
        teacher = None
        if config.needs_teacher and not stage_data.teacher_scores_dirs:
            folders = (StageFolder(run_dir, number) for number in config.teacher_stages)
            teacher = average_teacher([folder.student for folder in folders])
        model = TeacherDistillation(student, teacher, clip_norm=train.clip_norm, ema=train.ema)
        model.compile(make_optimizer(train.optimizer, schedule), SeCoSTLoss(config.loss_alpha))
        build_optimizer(model.optimizer, student.trainable_variables)
    return model, schedule


class Batches:
    """The batches of a stage, as `fit` takes them under its strategy."""

    def __init__(
        self,
        config: StageConfig,
        stage_data: StageData,
        strategy: tf.distribute.Strategy,
        options: RunOptions,
    ):
        train, training, scores = config.train, stage_data.training, stage_data.teacher_scores_dirs
        self._strategy = strategy
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
        """Return the batches of an epoch from a step on."""
        if not is_multi_worker(self._strategy):
            return self._data.epoch(epoch, first_step)
        workers = Workers(self._strategy)
        worker = data.Worker(workers.index, workers.count, workers.local_replicas)
        return self._strategy.distribute_datasets_from_function(
            lambda context: self._data.epoch(epoch, first_step, worker)
        )


def _make_cache(training: Split, scores_dirs: list[str]) -> data.RecordCache | None:
    """Return the cache of the training records in memory, if there is room."""
    decompressed = 1 if training.info.compression == "NONE" else 2  # at most, of log-mels
    needed = decompressed * sum(shard.bytes for shard in training.info.shards) / 1e9
    room = devices.available_memory() / 2e9
    if needed > room:
        logging.warning(
            "the training records (%.1f GB) take more than half of the free memory (%.1f GB): they "
            "are read from their files",
            needed,
            2 * room,
        )
        return None
    logging.info("the training records (%.1f GB) are held in memory", needed)
    return data.RecordCache(training, scores_dirs)


def _fit(job: _Job) -> checkpoints.TrainingState:
    """Train to the last epoch; return the state, with the best epoch's weights."""
    config, strategy = job.record.config, job.strategy
    epochs, steps = config.train.epochs, steps_per_epoch(config.train, job.data.training)
    model, schedule = make_model(job.record, job.data, job.folder.run_dir, strategy)
    with strategy.scope():
        state = checkpoints.restore_state(job.folder.file(CHECKPOINTS), model)
    place = f"step {state.step} of {steps}"
    job.workers.check_same(f"{job.folder.path} at epoch {state.epoch}, {place}")
    if (state.epoch or state.step) and job.workers.is_chief:
        after = f"epoch {state.epoch} of {epochs}, {place}"
        logging.info("stage %d continues after %s", config.stage, after)
    watchers = _make_callbacks(job, model, schedule, state)
    with contextlib.ExitStack() as at_the_end:
        for watcher in watchers:
            if isinstance(watcher, tensorboard.TensorBoard):
                at_the_end.callback(watcher.close)
        batches = Batches(config, job.data, strategy, job.options)
        for epoch in range(state.epoch, epochs):
            first_step = state.step
            with preemption.deferred():
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


def _make_callbacks(
    job: _Job,
    model: TeacherDistillation,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    state: checkpoints.TrainingState,
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of a stage, in the order in which they depend on each other."""
    folder, train, options = job.folder, job.record.config.train, job.options
    steps = steps_per_epoch(train, job.data.training)
    checkpoint = folder.file(CHECKPOINTS)
    state_file = storage.join(checkpoint, checkpoints.STATE_FILE)
    watchers = [callbacks.TerminateOnNonFinite(state_file, state, schedule, steps)]
    validation = None
    if job.data.validation:
        scorer = Scorer(model.student, train.batch_size)
        validation = callbacks.Validation(scorer, job.data.validation)
        watchers.append(validation)
    history, seconds = folder.file(HISTORY_CSV), 60 * options.checkpoint_minutes
    watchers.append(
        callbacks.CheckpointCallback(
            state, checkpoint, history, schedule, steps, seconds, job.workers
        )
    )
    if job.workers.is_chief:
        board = folder.file(TENSORBOARD)
        watchers += [
            tensorboard.TensorBoard(board, job.record, state, steps, options, validation),
            callbacks.Progress(
                f"stage {folder.number}", train.epochs, steps, train.batch_size, state
            ),
        ]
    return watchers


def learning_rate_schedule(
    train: TrainConfig, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a linear warm-up from 0 to the peak, then a half cosine to 0 at the last step."""
    total = train.epochs * steps_per_epoch
    warmup = min(round(train.warmup_share * total), total - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else train.learning_rate,
        decay_steps=total - warmup,
        warmup_target=train.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def _finish(job: _Job, state: checkpoints.TrainingState) -> None:
    """Save the student, score the training set, evaluate, and write `metrics.json` last."""
    folder, record, split = job.folder, job.record, job.data.evaluation
    config = record.config
    student = wels_net(config.network)  # float32, whatever it was trained in
    student.set_weights(state.best_weights)
    folder.save_student(student)
    started = time.monotonic()
    train_split = Split(record.data_dir, shards.read_dataset_info(record.data_dir, "train"))
    count = train_split.num_clips
    logging.info("stage %d scores the %d training clips for the next stage", config.stage, count)
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
