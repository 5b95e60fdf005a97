"""A stage in TensorBoard, under the same tags for every stage, so that stages lie over one another.

    training/     loss and its two parts, learning rate, gradient norm, clips/s,       every epoch
                  seconds
    validation/   loss, mAP, mAUC, d', and a histogram of the classes' average         every epoch
                  precision
    precision_recall/, clips/   curves of some classes, some clips with their     every few epochs
                  segment scores
    evaluation/   the figures of `metrics.json`, at the last epoch                            once

The settings are written once: as text, and as hyper-parameters, a row a stage in the table of
HPARAMS. A step is an epoch, from 1. Everything goes through `tf.summary`, so that the folder may
be remote.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import time
from collections import defaultdict

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from scipy.special import expit
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams_summary
from tensorboard.plugins.pr_curve import summary as pr_summary

from secost_tf.data import read_clips
from secost_tf.detection import clip_figure
from secost_tf.models import score_clips, segment_times
from secost_tf.runs import RunOptions, StageRecord
from secost_tf.training import checkpoints
from secost_tf.training.callbacks import Validated, Validation
from tfrecord_tools import storage
from tfrecord_tools.shards import ClipRecord

_THRESHOLDS = 201  # of precision-recall curves: 0, 0.005, ... 1

_CURVES = 8  # classes whose precision-recall curve is drawn

_CURVES_OF_A_CLIP = 4  # classes whose segment scores are drawn

_PICTURE_DPI = 80

_NOT_OF_THE_TRAINING = ("epoch", "val_loss", "val_mAP")  # of the history's columns

_EVALUATION = ("mAP", "mAUC", "d_prime", "lwlrap", "chance", "best_epoch", "training_seconds")

_HPARAMS = (
    *("stage", "alpha", "alpha_note", "teacher_stages", "width", "pooling", "seed", "epochs"),
    *("batch_size", "optimizer", "learning_rate", "warmup_share", "balanced_sampling"),
    *("mixup_alpha", "clip_norm", "ema", "precision", "teacher"),
)

_DATA_TYPES = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}  # others: numbers

# TensorBoard shows five columns at first, until more are ticked.
_SHOWN = ("alpha", "pooling", "seed", "stage", "width")

_METRICS = {
    "validation/mAP": "val_mAP",
    "evaluation/mAP": "mAP",
    "evaluation/mAUC": "mAUC",
    "validation/loss": "val_loss",
    "training/loss": "loss",
}  # columns of the table of HPARAMS, by tag


@dataclasses.dataclass(eq=False)
class TensorBoard(keras.callbacks.Callback):
    """Write a stage for TensorBoard; after `CheckpointCallback`, whose rows it writes.

    Close it when all is done.

    A stage that is continued writes on: the epochs that the state holds and the folder does not are
    written first. What an attempt left that is not continued is removed, so that no epoch is there
    twice.

    Args:
        folder: of this stage.
        record: the stage.
        state: progress of the training.
        steps: number of steps in an epoch.
        options: settings of pictures and profile, and the flags.
        validation: scores the validation clips; None where there are none.

    Raises:
        ValueError: if the steps to profile reach past the stage's last.
    """

    folder: str
    record: StageRecord
    state: checkpoints.TrainingState
    steps: int
    options: RunOptions = dataclasses.field(default_factory=RunOptions)
    validation: Validation | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._clips: list[ClipRecord] | None = None
        self._segment_scores: list[np.ndarray] = []
        self._is_profiling = False
        epochs, profiled = self.record.config.train.epochs, self.options.profile_steps
        if profiled and profiled[1] > epochs * self.steps:
            raise ValueError(
                f"profile_steps: expected at most {epochs * self.steps}, the steps of a stage "
                f"({epochs} epochs of {self.steps}), got {','.join(map(str, profiled))}"
            )
        written = written_steps(self.folder)
        written_epochs = written.get("training/loss", set())
        is_new = not (self.state.epoch or self.state.step)
        if is_new or max(written_epochs, default=0) > self.state.epoch:
            storage.remove_tree(self.folder)
            written, written_epochs = {}, set()
        if "settings/config" not in written:
            self._write_settings()
        for row in self.state.history:
            if int(row["epoch"]) not in written_epochs:
                self._write_row(row)

    @functools.cached_property
    def _writer(self):
        return tf.summary.create_file_writer(self.folder)

    def close(self) -> None:
        """End a profile that is still going on, and close the file."""
        self._stop_profile()
        if "_writer" in vars(self):
            self._writer.close()

    # --- steps ---

    def on_epoch_begin(self, epoch, logs=None):
        self.first_step, self.started = self.state.step, time.monotonic()
        self.done, self.stopped = 0, self.started

    def on_train_batch_begin(self, batch, logs=None):
        if self.options.profile_steps and self._step(batch) == self.options.profile_steps[0]:
            try:
                tf.profiler.experimental.start(self.folder)
                self._is_profiling = True
            except tf.errors.OpError as error:  # another profile is going on in this process
                logging.warning("profile_steps: no profile is made (%s)", error.message)

    def on_train_batch_end(self, batch, logs=None):
        self.done, self.stopped = batch + 1, time.monotonic()
        if self._is_profiling and self._step(batch) >= self.options.profile_steps[1]:
            self._stop_profile()

    def _step(self, batch: int) -> int:
        """Return the step of the stage, from 1, that a batch of this epoch is."""
        return self.state.epoch * self.steps + self.first_step + batch + 1

    def _stop_profile(self) -> None:
        if self._is_profiling:
            self._is_profiling = False
            tf.profiler.experimental.stop()

    # --- epochs ---

    def on_epoch_end(self, epoch, logs=None):
        # The state is that after the epoch; where several workers train, `validation` has scored on
        # all of them.
        clips = self.done * self.record.config.train.batch_size
        seconds = self.stopped - self.started
        speed = {"clips_per_second": clips / seconds} if seconds else {}
        self._write_row({**self.state.history[-1], **speed})
        if self.validation and self.validation.last:
            if self.options.picture_clips and self._is_detailed(epoch):
                with self.model.as_scored():
                    self._score_clips(self.validation, self.validation.last)
            self._write_validation(epoch + 1, self.validation.last)
        self._writer.flush()

    def _write_row(self, row: dict[str, float]) -> None:
        """Write the figures of an epoch."""
        with self._writer.as_default(step=int(row["epoch"])):
            for name, value in row.items():
                if name not in _NOT_OF_THE_TRAINING and math.isfinite(value):
                    tf.summary.scalar(f"training/{name}", value)
            for name in ("loss", "mAP"):
                if math.isfinite(row.get(f"val_{name}", math.nan)):
                    tf.summary.scalar(f"validation/{name}", row[f"val_{name}"])

    def _write_validation(self, step: int, validated: Validated) -> None:
        """Write the measures of the validation clips; in some epochs, curves and pictures too."""
        evaluation = validated.evaluation
        with self._writer.as_default(step=step):
            for name in ("mAUC", "d_prime"):
                if math.isfinite(value := getattr(evaluation, name)):
                    tf.summary.scalar(f"validation/{name}", value)
            precision = evaluation.per_class.average_precision
            tf.summary.histogram("validation/AP_of_classes", precision[np.isfinite(precision)])
            if not self._is_detailed(step - 1):
                return
            for name, curve in self._curves(validated).items():
                tag, num_thresholds = f"precision_recall/{name}", curve.shape[1]
                proto = pr_summary.raw_data_pb(tag, *curve, num_thresholds, display_name=name)
                _write_proto(proto, step)
            for clip, scores in zip(self._clips or [], self._segment_scores, strict=True):
                picture = self._draw_clip(clip, scores, step)
                tf.summary.image(f"clips/{clip.video_id}", picture[None])

    def _is_detailed(self, epoch: int) -> bool:
        """Return True if an epoch, from 0, has curves and pictures."""
        last = self.record.config.train.epochs
        return (epoch + 1) % self.options.picture_epochs == 0 or epoch + 1 == last

    def _curves(self, validated: Validated) -> dict[str, np.ndarray]:
        """Count for the classes with the most positive clips, and for all classes together."""
        scores, labels = expit(validated.logits, dtype=np.float64), validated.labels
        positives = labels.sum(axis=0)
        classes = [c for c in np.argsort(-positives, kind="stable")[:_CURVES] if positives[c]]
        names = self.record.class_map.display_names
        curves = {names[c]: curve_counts(labels[:, c], scores[:, c]) for c in classes}
        return {"all classes (micro-average)": curve_counts(labels, scores), **curves}

    # --- clips ---

    def _score_clips(self, validation: Validation, last: Validated) -> None:
        """Score the segments of the clips that are shown."""
        if self._clips is None:
            chosen = choose_clips(last.labels, self.options.picture_clips)
            self._clips = read_clips(validation.split, [last.ids[index] for index in chosen])
        if not self._clips:
            return
        log_mels = [clip.log_mel for clip in self._clips]
        scored = score_clips(validation.scorer.student, log_mels)
        self._segment_scores = [of_clip.segments for of_clip in scored]

    def _draw_clip(self, clip: ClipRecord, scores: np.ndarray, step: int) -> np.ndarray:
        """Draw a clip with the scores of its labels, and of the classes with the highest scores.

        Returns:
            uint8 [height, width, 3].
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        names = self.record.class_map.display_names
        order = [*sorted(clip.labels), *np.argsort(-scores.max(axis=0), kind="stable").tolist()]
        classes = list(dict.fromkeys(order))[:_CURVES_OF_A_CLIP]
        labels = ", ".join(names[c] for c in clip.labels) or "no label"
        figure = clip_figure(
            clip.log_mel,
            self.record.log_mel,
            segment_times(self.record.config.network, self.record.log_mel, len(clip.log_mel)),
            {names[c]: scores[:, c] for c in classes},
            [(names[c], onset, offset) for c, onset, offset in clip.events],
            title=f"stage {self.record.config.stage}, epoch {step}: {clip.video_id} ({labels})",
        )
        figure.set_dpi(_PICTURE_DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3]

    # --- settings ---

    def _write_settings(self) -> None:
        """Write the settings as text, and as hyper-parameters."""
        config = self.record.config
        settings = {
            "stage": config.to_dict(),
            "data_dir": self.record.data_dir,
            "log_mel": self.record.log_mel.to_dict(),
        }
        hparams = hparams_of(self.record)
        infos = [
            api_pb2.HParamInfo(
                name=name,
                type=_DATA_TYPES.get(type(value), api_pb2.DATA_TYPE_FLOAT64),
                differs=name in _SHOWN,
            )
            for name, value in hparams.items()
        ]
        metrics = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name)
            for tag, name in _METRICS.items()
        ]
        with self._writer.as_default(step=0):
            _write_proto(hparams_summary.experiment_pb(infos, metrics), 0)
            # A row of its own, not one that is averaged over all that have the same settings.
            row = f"stage {config.stage} of {storage.absolute(self.folder)}"
            _write_proto(hparams_summary.session_start_pb(hparams, group_name=row), 0)
            if self.options.flags:
                tf.summary.text("settings/flags", f"```\n{self.options.flags}```")
            tf.summary.text("settings/config", f"```json\n{json.dumps(settings, indent=1)}\n```")
        self._writer.flush()


def hparams_of(record: StageRecord) -> dict[str, float | str | bool]:
    """Return the settings of a stage that are worth a column."""
    config = record.config
    values = {
        **dataclasses.asdict(config.train),
        **{name: getattr(config.network, name) for name in ("width", "pooling")},
        "stage": config.stage,
        "alpha": config.alpha,
        "alpha_note": config.alpha_note or "none",
        "teacher_stages": " ".join(map(str, config.teacher_stages)) or "none",
    }
    return {name: values[name] for name in _HPARAMS}


def curve_counts(
    labels: np.ndarray, scores: np.ndarray, num_thresholds: int = _THRESHOLDS
) -> np.ndarray:
    """Count for TensorBoard's precision-recall curves, at thresholds evenly spread over [0, 1].

    Args:
        labels: 0 or 1, any shape.
        scores: in 0..1, of the same shape; a score counts as positive at a threshold if it is no
            lower.
        num_thresholds: two or more.

    Returns:
        float64 [6, num_thresholds]: true positives, false positives, true negatives, false
        negatives, precision (0 where nothing counts as positive) and recall.
    """
    is_positive = np.asarray(labels).ravel() > 0
    highest = np.floor(np.asarray(scores, np.float64).ravel() * (num_thresholds - 1)).astype(int)
    true, false = (
        np.bincount(highest[chosen], minlength=num_thresholds)[::-1].cumsum()[::-1].astype(float)
        for chosen in (is_positive, ~is_positive)
    )
    precision = true / np.maximum(true + false, 1)
    recall = true / max(true[0], 1)
    return np.stack([true, false, false[0] - false, true[0] - true, precision, recall])


def _write_proto(proto, step: int) -> None:
    """Write a `Summary` with the default writer."""
    tf.summary.experimental.write_raw_pb(proto.SerializeToString(), step=step)


def choose_clips(labels: np.ndarray, count: int) -> list[int]:
    """Choose a few clips with many classes: the first of each class, then the first with a label.

    Args:
        labels: multi-hot, [clips, classes].
        count: number of clips, at most.

    Returns:
        Indices of clips, ascending; a function of the labels alone.
    """
    labels = np.asarray(labels, bool)
    shown = np.zeros(labels.shape[1], bool)
    chosen: list[int] = []
    rest: list[int] = []
    for index in np.flatnonzero(labels.any(axis=1)).tolist():
        is_new = (labels[index] & ~shown).any()
        (chosen if is_new else rest).append(index)
        shown |= labels[index]
    return sorted([*chosen, *rest][:count])


def written_steps(folder: str) -> dict[str, set[int]]:
    """Return the steps that a folder's event files hold, by tag, also of files cut short."""
    steps: dict[str, set[int]] = defaultdict(set)
    for name in storage.list_dir(folder):
        if "tfevents" not in name:
            continue
        with contextlib.suppress(tf.errors.DataLossError):
            for record in tf.data.TFRecordDataset(storage.join(folder, name)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                for value in event.summary.value:
                    steps[value.tag].add(event.step)
    return dict(steps)


def write_final(folder: str, record: StageRecord, figures: dict) -> None:
    """Write the figures of a stage's `metrics.json` at its last epoch, and that it is done; once.

    Args:
        folder: the stage's, of TensorBoard.
        record: the stage.
        figures: the content of `metrics.json`.
    """
    step = record.config.train.epochs
    if any(tag.startswith("evaluation/") for tag in written_steps(folder)):
        return
    with tf.summary.create_file_writer(folder).as_default(step=step) as writer:
        for name in _EVALUATION:
            if figures.get(name) is not None:
                tf.summary.scalar(f"evaluation/{name}", figures[name])
        _write_proto(hparams_summary.session_end_pb(api_pb2.STATUS_SUCCESS), step)
        writer.close()
