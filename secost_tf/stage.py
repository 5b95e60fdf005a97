"""One stage: train a student, keep the best epoch, score the training set for the next stage, evaluate."""

from __future__ import annotations

import csv
import dataclasses
import io
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging

import secost_tf
from secost_tf import callbacks, checkpoints, data, runtime, scoring
from secost_tf.augmentation import make_augmentation
from secost_tf.config import StageConfig, TrainConfig
from secost_tf.data import Split
from secost_tf.distillation import TeacherDistillation, average_teacher
from secost_tf.keras_compat import build_optimizer, make_optimizer
from secost_tf.losses import SeCoSTLoss
from secost_tf.metrics import Evaluation, evaluate_scores
from secost_tf.wels_net import wels_net
from tfrecord_tools import shards, storage
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import DatasetInfo

CONFIG_JSON = "config.json"
METRICS_JSON = "metrics.json"
WEIGHTS_H5 = "student.weights.h5"
STUDENT_KERAS = "student.keras"
PER_CLASS_CSV = "per_class.csv"
HISTORY_CSV = "history.csv"
TEACHER_SCORES = "teacher_scores"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"


def stage_dir(run_dir: str, stage: int) -> str:
    """`RUN_DIR/stage-1`."""
    return storage.join(run_dir, f"stage-{stage}")


def is_done(run_dir: str, stage: int) -> bool:
    """Whether a stage has run to its end."""
    return storage.exists(storage.join(stage_dir(run_dir, stage), METRICS_JSON))


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What `config.json` keeps of a stage: its settings, and the data it was made with."""

    config: StageConfig
    data_dir: str
    class_map: ClassMap
    log_mel: LogMelConfig

    def write(self, run_dir: str) -> None:
        """Writes `config.json` into the stage's folder, atomically."""
        values = {
            "stage": self.config.to_dict(),
            "data_dir": self.data_dir,
            "class_map": {"mids": self.class_map.mids, "display_names": self.class_map.display_names},
            "log_mel": self.log_mel.to_dict(),
            "versions": {
                "secost_tf": secost_tf.__version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
            },
        }
        storage.write_json(storage.join(stage_dir(run_dir, self.config.stage), CONFIG_JSON), values)

    @classmethod
    def read(cls, run_dir: str, stage: int) -> StageRecord | None:
        """The record of a stage, or None if it was never begun."""
        path = storage.join(stage_dir(run_dir, stage), CONFIG_JSON)
        if not storage.exists(path):
            return None
        values = storage.read_json(path)
        try:
            return cls(
                config=StageConfig.from_dict(values["stage"]),
                data_dir=values["data_dir"],
                class_map=ClassMap(**{name: tuple(items) for name, items in values["class_map"].items()}),
                log_mel=LogMelConfig.from_dict(values["log_mel"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not the settings of a stage ({error})") from error

    def check_data(self, run_dir: str, info: DatasetInfo, data_dir: str) -> None:
        """A `ValueError` that names both sides if a split has other classes or another log-mel than the stage."""
        where = stage_dir(run_dir, self.config.stage)
        if difference := self.class_map.differences(info.class_map, f"in {where}", f"in {data_dir}"):
            raise ValueError(f"{where} was made with other classes than {data_dir}: {difference}")
        if difference := self.log_mel.differences(info.log_mel):
            raise ValueError(f"{where} was made with another log-mel than {data_dir}: {difference}")


def build_student(record: StageRecord) -> keras.Model:
    """A fresh network for a stage; its weights depend on the seed and the stage alone."""
    runtime.set_seed(record.config.train.seed * 1000 + record.config.stage)
    return wels_net(record.config.network)


def load_student(run_dir: str, stage: int) -> keras.Model:
    """The trained student of a stage that is done; works whichever stack it was trained on."""
    record = StageRecord.read(run_dir, stage)
    if record is None or not is_done(run_dir, stage):
        raise ValueError(
            f"{stage_dir(run_dir, stage)}: this stage is not done; train it with --stage={stage}"
        )
    student = wels_net(record.config.network)
    with storage.local_copy(storage.join(stage_dir(run_dir, stage), WEIGHTS_H5)) as path:
        student.load_weights(path)
    return student


def training_splits(data_dir: str, train: TrainConfig) -> tuple[Split, Split | None]:
    """What to train on, and what picks the best epoch: the validation split, else a share of train, else nothing."""
    info = shards.read_dataset_info(data_dir, "train")
    if shards.has_split(data_dir, "validation"):
        validation = shards.read_dataset_info(data_dir, "validation")
        check_same_input(info, validation, data_dir)
        return Split(data_dir, info), Split(data_dir, validation)
    if not train.validation_share:
        return Split(data_dir, info), None
    parts = [Split(data_dir, info, subset, train.validation_share) for subset in ("training", "validation")]
    if not parts[1].num_clips:
        logging.warning("no clip of %s falls into the validation share; the last epoch is taken", data_dir)
        return Split(data_dir, info), None
    return parts[0], parts[1]


def check_same_input(info: DatasetInfo, other: DatasetInfo, data_dir: str) -> None:
    """A `ValueError` if two splits of one folder differ in classes or log-mel."""
    difference = info.class_map.differences(other.class_map, f"in {info.split}", f"in {other.split}")
    difference = difference or info.log_mel.differences(other.log_mel)
    if difference:
        raise ValueError(f"{data_dir}: {info.split} and {other.split} do not go together: {difference}")


def evaluate_student(scorer: scoring.Scorer, split: Split) -> Evaluation:
    """Evaluates clip scores against the labels; logits rank as scores do, without their rounding."""
    _, labels, logits = scorer.split(split)
    return evaluate_scores(labels, logits)


def train_stage(
    config: StageConfig,
    data_dir: str,
    run_dir: str,
    strategy: tf.distribute.Strategy,
    checkpoint_minutes: float = 10.0,
) -> dict:
    """Trains one stage to its end, continuing where an earlier attempt was stopped.

    Writes the stage's folder; `metrics.json` last.

    Args:
        config: the stage.
        data_dir: folder of the converted splits: `train`, and `validation` and `eval` where given.
        run_dir: folder of the run; the teacher stages must be done there.
        strategy: over what replicas to train.
        checkpoint_minutes: most time between two checkpoints.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: if the data, the teacher or an earlier attempt do not fit; the message says how.
    """
    folder, train = stage_dir(run_dir, config.stage), config.train
    try:
        training, validation = training_splits(data_dir, train)
        evaluation = evaluation_split(data_dir, train)
        record = StageRecord(
            config, storage.absolute(data_dir), training.info.class_map, training.info.log_mel
        )
        _begin(record, run_dir, training.info)
        scores_dirs = _check_teacher(config, run_dir, training)
        with runtime.precision_policy(train.precision):
            state = _fit(record, training, validation, run_dir, scores_dirs, strategy, checkpoint_minutes)
        return _finish(state, record, evaluation, run_dir)
    except tf.errors.OpError as error:
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise ValueError(f"out of memory: try a smaller --batch_size than {train.batch_size}") from error
        raise data.find_damage(training, error) from error
    finally:
        keras.backend.clear_session()
        logging.debug("left %s", folder)


def _begin(record: StageRecord, run_dir: str, info: DatasetInfo) -> None:
    """Writes the stage's settings; where an earlier attempt is to be continued, checks that it had the same."""
    folder = stage_dir(run_dir, record.config.stage)
    storage.make_dirs(folder)
    earlier = StageRecord.read(run_dir, record.config.stage)
    if earlier is not None and storage.exists(storage.join(folder, CHECKPOINTS, checkpoints.STATE_FILE)):
        earlier.check_data(run_dir, info, record.data_dir)
        if difference := earlier.config.differences(record.config):
            raise ValueError(
                f"{folder} was begun with other settings (there != now): {difference}. Continue with the same "
                f"settings, choose another --run_dir, or delete {folder}"
            )
    record.write(run_dir)


def _check_teacher(config: StageConfig, run_dir: str, training: Split) -> list[str]:
    """Checks the teacher stages; returns the folders of their cached scores, none if the teacher is online."""
    for teacher in config.teacher_stages:
        teacher_record = StageRecord.read(run_dir, teacher)
        if teacher_record is None or not is_done(run_dir, teacher):
            raise ValueError(
                f"stage {config.stage} learns from stage {teacher}, which is not done in {run_dir}: train it first "
                f"(--stage={teacher}), or leave out --noprerequisites"
            )
        teacher_record.check_data(run_dir, training.info, training.data_dir)
    if config.train.teacher == "online" or config.alpha == 1:
        return []
    folders = [storage.join(stage_dir(run_dir, teacher), TEACHER_SCORES) for teacher in config.teacher_stages]
    for folder in folders:
        data.check_teacher_scores(training, folder)
    return folders


def _fit(record, training, validation, run_dir, scores_dirs, strategy, checkpoint_minutes):
    """Trains to the last epoch; returns the state, with the best epoch's weights."""
    config, train, folder = record.config, record.config.train, stage_dir(run_dir, record.config.stage)
    if train.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"batch_size: expected a multiple of the {strategy.num_replicas_in_sync} replicas, got {train.batch_size}"
        )
    steps = data.steps_per_epoch(training, train.batch_size)
    with strategy.scope():
        student = build_student(record)
        student.get_layer("standardize").set_statistics(training.info.mean, training.info.variance)
        teacher = None
        if config.teacher_stages and not scores_dirs and config.alpha < 1:
            teacher = average_teacher([load_student(run_dir, stage) for stage in config.teacher_stages])
        model = TeacherDistillation(student, teacher)
        schedule = learning_rate_schedule(train, steps)
        model.compile(make_optimizer(train.optimizer, schedule), SeCoSTLoss(config.alpha))
        build_optimizer(model.optimizer, student.trainable_variables)
        state = checkpoints.restore_state(storage.join(folder, CHECKPOINTS), student, model.optimizer)
    if state.epoch or state.step:
        logging.info(
            "stage %d continues after epoch %d of %d, step %d of %d",
            config.stage,
            state.epoch,
            train.epochs,
            state.step,
            steps,
        )
    checkpoint = storage.join(folder, CHECKPOINTS)
    watchers = [
        callbacks.NonFiniteGuard(storage.join(checkpoint, checkpoints.STATE_FILE), state),
        *(
            [callbacks.Validation(scoring.Scorer(student, train.batch_size), validation)]
            if validation
            else []
        ),
        callbacks.StateKeeper(
            state, checkpoint, storage.join(folder, HISTORY_CSV), schedule, steps, 60 * checkpoint_minutes
        ),
        callbacks.TensorBoardScalars(storage.join(folder, TENSORBOARD), state),
        callbacks.Progress(f"stage {config.stage}", train.epochs, steps, train.batch_size, state),
    ]
    augment = make_augmentation(train, training.info)
    for epoch in range(state.epoch, train.epochs):
        batches = data.training_data(
            training,
            train.batch_size,
            seed=train.seed * 1000 + config.stage,
            epoch=epoch,
            shuffle_clips=train.shuffle_clips,
            teacher_scores_dirs=scores_dirs,
            first_step=state.step,
            balanced=train.balanced_sampling,
            augment=augment,
        )
        with runtime.preemption.deferred():
            model.fit(
                batches, initial_epoch=epoch, epochs=epoch + 1, callbacks=watchers, shuffle=False, verbose=0
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


def _finish(state: checkpoints.TrainingState, record: StageRecord, split: Split, run_dir: str) -> dict:
    """Saves the student, scores the training set for the next stage and evaluates; `metrics.json` comes last."""
    config, folder = record.config, stage_dir(run_dir, record.config.stage)
    student = wels_net(config.network)  # float32, as `load_student` gives it, whatever it was trained in
    student.set_weights(state.best_weights)
    save_student(student, folder)
    started = time.monotonic()
    train_split = Split(record.data_dir, shards.read_dataset_info(record.data_dir, "train"))
    logging.info(
        "stage %d scores the %d training clips for the next stage", config.stage, train_split.num_clips
    )
    scorer = scoring.Scorer(student, config.train.batch_size)
    scorer.write_teacher_scores(train_split, storage.join(folder, TEACHER_SCORES))
    evaluation = evaluate_student(scorer, split)
    write_per_class(storage.join(folder, PER_CLASS_CSV), evaluation, record.class_map)
    figures = {
        "stage": config.stage,
        "alpha": config.alpha,
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
    storage.write_json(storage.join(folder, METRICS_JSON), figures)
    return figures


def save_student(student: keras.Model, folder: str) -> None:
    """Writes `student.weights.h5`, which loads on both stacks, and `student.keras`, which does not."""
    with storage.atomic_path(storage.join(folder, WEIGHTS_H5)) as path:
        student.save_weights(path)
    with storage.atomic_path(storage.join(folder, STUDENT_KERAS)) as path:
        student.save(path)


def evaluation_split(data_dir: str, train: TrainConfig) -> Split:
    """The eval split; where there is none, what picked the best epoch, with a warning that says so."""
    if shards.has_split(data_dir, "eval"):
        info = shards.read_dataset_info(data_dir, "eval")
        check_same_input(shards.read_dataset_info(data_dir, "train"), info, data_dir)
        return Split(data_dir, info)
    validation = training_splits(data_dir, train)[1]
    if validation is None:
        raise ValueError(
            f"{data_dir}: no split to evaluate on; convert one with --split=eval, or set --validation_share"
        )
    logging.warning(
        "%s has no eval split: figures are those of the clips that picked the best epoch", data_dir
    )
    return validation


def write_per_class(path: str, evaluation: Evaluation, class_map: ClassMap) -> None:
    """Writes one csv row a class; a figure that does not exist (no positive clip) is left empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["index", "mid", "display_name", "positives", "AP", "AUC", "d_prime"])
    per_class = evaluation.per_class
    columns = (per_class.positives, per_class.average_precision, per_class.roc_auc, per_class.d_prime)
    for index, (positives, *figures) in enumerate(zip(*columns, strict=True)):
        cells = [f"{figure:.6f}" if np.isfinite(figure) else "" for figure in figures]
        writer.writerow(
            [index, class_map.mids[index], class_map.display_names[index], int(positives), *cells]
        )
    with storage.atomic_write(path) as file:
        file.write(stream.getvalue())
