"""Callbacks of training: validation, checkpoints, progress, losses that are not finite."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from secost_tf.data import Split
from secost_tf.evaluation import Evaluation, Scorer, evaluate_scores
from secost_tf.training import checkpoints
from secost_tf.training.preemption import preemption
from secost_tf.training.workers import Workers
from tfrecord_tools import progress, storage
from tfrecord_tools.text import format_duration


class NonFiniteLoss(ValueError):
    """The loss, or its gradient, is no longer a number; the message says where, and what to try."""


@dataclasses.dataclass(eq=False)
class TerminateOnNonFinite(keras.callbacks.Callback):
    """Stop training at the first step whose loss or gradient is not finite.

    It comes before `CheckpointCallback`, which would save that state.

    Args:
        checkpoint: the file of the last good state.
        state: progress of the training.
        learning_rate: step -> learning rate.
        steps: number of steps in an epoch.
    """

    checkpoint: str
    state: checkpoints.TrainingState
    learning_rate: Callable[[int], float]
    steps: int

    def __post_init__(self) -> None:
        super().__init__()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.first_step = epoch, self.state.step

    def on_train_batch_end(self, batch, logs=None):
        logs = logs or {}
        loss = float(logs.get("loss", 0.0))
        if not math.isfinite(loss):
            # The model makes the loss that it reports no number where a gradient is none; the parts
            # of it are as they are.
            of_gradient = math.isfinite(float(logs.get("label_loss", loss)))
            step = self.first_step + batch
            rate = float(self.learning_rate(self.epoch * self.steps + step))
            last_good = f"epoch {self.epoch} ({self.checkpoint if self.epoch else 'the start'})"
            if self.state.step:
                last_good = f"step {self.state.step} of epoch {self.epoch + 1} ({self.checkpoint})"
            raise NonFiniteLoss(
                f"{'the gradient of the loss' if of_gradient else 'the loss'} is not finite at "
                f"step {step + 1} of epoch {self.epoch + 1} (learning rate {rate:.3g}). The last "
                f"good state is that after {last_good}. Try a lower --learning_rate, a longer "
                "--warmup_share, --clip_norm=1 or --precision=float32, and check the data with: "
                "python -m tfrecord_tools.inspect DATA_DIR --verify"
            )


class Validated(NamedTuple):
    """The validation clips after an epoch: ids, labels and logits [clips, classes], measures."""

    ids: list[str]
    labels: np.ndarray
    logits: np.ndarray
    evaluation: Evaluation


@dataclasses.dataclass(eq=False)
class Validation(keras.callbacks.Callback):
    """Add `val_loss` and `val_mAP` to each epoch's figures.

    The loss is plain binary cross-entropy against the labels.

    Attributes:
        scorer: scores the clips with the student in training.
        split: the validation clips.
        last: scores and measures of the last epoch; None before the first.
    """

    scorer: Scorer
    split: Split
    last: Validated | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def on_epoch_end(self, epoch, logs=None):
        with self.model.as_scored():
            ids, labels, logits = self.scorer.split(self.split)
            self.last = Validated(ids, labels, logits, evaluate_scores(labels, logits))
        logs["val_loss"] = float(np.mean(np.logaddexp(0.0, logits) - labels * logits))
        logs["val_mAP"] = float(self.last.evaluation.mAP)


@dataclasses.dataclass(eq=False)
class CheckpointCallback(keras.callbacks.Callback):
    """Keep the best weights, and write the state of training and `history.csv`; after `Validation`.

    The state is written after each epoch, and in between every so many seconds.

    The best epoch is the one with the highest `val_mAP`, then the lowest `val_loss`; without them
    the last. SIGTERM in any worker makes all write the state and end.

    Args:
        state: progress of the training; it continues from there.
        folder: of the checkpoint.
        history_csv: a table with a row for each epoch.
        learning_rate: step -> learning rate.
        steps: number of steps in an epoch.
        every_seconds: most time between two checkpoints; an epoch always ends with one.
        workers: those that train together; the first one writes.
    """

    state: checkpoints.TrainingState
    folder: str
    history_csv: str
    learning_rate: Callable[[int], float]
    steps: int
    every_seconds: float
    workers: Workers

    def __post_init__(self) -> None:
        super().__init__()

    def on_epoch_begin(self, epoch, logs=None):
        self.first_step = self.state.step
        self.started = time.monotonic() - self.state.seconds
        self.saved = time.monotonic()
        if self.state.step:
            for tracker in self.model.metrics:
                sums = self.state.sums[tracker.name]
                for variable, value in zip(tracker.variables, sums, strict=True):
                    variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        done = self.first_step + batch + 1
        is_due = time.monotonic() - self.saved >= self.every_seconds or preemption.requested
        if done == self.steps or not self.workers.any(is_due):
            return
        self.state.step = done
        self.state.sums = {
            tracker.name: [float(tf.convert_to_tensor(variable)) for variable in tracker.variables]
            for tracker in self.model.metrics
        }
        self.state.seconds = time.monotonic() - self.started
        self._save()
        self._stop_if_asked(f"step {done} of epoch {self.state.epoch + 1}")

    def _save(self) -> None:
        if self.workers.is_chief:
            checkpoints.save_state(self.folder, self.state, self.model)
        self.saved = time.monotonic()

    def _stop_if_asked(self, where: str) -> None:
        if self.workers.any(preemption.requested):
            preemption.stop(
                f"the state is saved at {where} in {self.folder}; the same command continues"
            )

    def on_epoch_end(self, epoch, logs=None):
        state = self.state
        key = (-math.inf, -math.inf)
        if "val_mAP" in logs:
            key = (logs["val_mAP"] if math.isfinite(logs["val_mAP"]) else -1.0, -logs["val_loss"])
        if state.best_key is None or key >= state.best_key:
            state.best_epoch, state.best_key = epoch + 1, key
            state.best_weights = self.model.scored_weights()
        state.epoch, state.step, state.sums, state.seconds = epoch + 1, 0, {}, 0.0
        step = int(tf.convert_to_tensor(self.model.optimizer.iterations).numpy())
        row = {
            "epoch": epoch + 1,
            **{name: float(value) for name, value in logs.items()},
            "learning_rate": float(self.learning_rate(step)),
            "seconds": round(time.monotonic() - self.started, 3),
        }
        state.history.append(row)
        if self.workers.is_chief:  # before the state: the table is never a row behind
            storage.write_csv(self.history_csv, state.history, list(row))
        self._save()
        self._stop_if_asked(f"the end of epoch {epoch + 1}")


@dataclasses.dataclass(eq=False)
class Progress(keras.callbacks.Callback):
    """Show a bar over the steps on a terminal, elsewhere a line a minute, and a line per epoch.

    Args:
        label: name of the stage.
        epochs: number of epochs.
        steps: number of steps in an epoch.
        batch_size: clips in a batch.
        state: progress of the training.
    """

    label: str
    epochs: int
    steps: int
    batch_size: int
    state: checkpoints.TrainingState

    def __post_init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.progress = progress.Progress(
            self.steps * self.batch_size,
            logging.info,
            label=f"{self.label} epoch {epoch + 1}/{self.epochs}",
            first=self.state.step * self.batch_size,
            every_seconds=60,
            keep=False,
        )

    def on_train_batch_end(self, batch, logs=None):
        self.progress.update(self.batch_size, lambda: f"loss {float(logs['loss']):.4f}")

    def on_epoch_end(self, epoch, logs=None):
        figures = self.state.history[-1]
        self.seconds.append(self.progress.seconds)
        speed = self.progress.speed
        self.progress.close()
        left = float(np.median(self.seconds)) * (self.epochs - epoch - 1)
        parts = [
            f"loss {figures['loss']:.4f} (labels {figures['label_loss']:.4f}, "
            f"teacher {figures['teacher_loss']:+.4f})"
        ]
        if "val_mAP" in figures:
            parts.append(f"validation loss {figures['val_loss']:.4f}, mAP {figures['val_mAP']:.4f}")
            parts.append(f"best epoch {self.state.best_epoch}")
        parts.append(f"{speed:.0f} clips/s, {format_duration(left)} left")
        logging.info("%s epoch %d/%d: %s", self.label, epoch + 1, self.epochs, "; ".join(parts))
