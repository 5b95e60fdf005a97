"""The state of a stage in training: one file with all that is needed to continue.

One `.npz` rather than `tf.train.Checkpoint`: a single rename makes weights, optimizer, history and
best epoch appear together, and the format is the same under Keras 2 and 3.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from typing import Any

import numpy as np
import tensorflow as tf

from secost_tf.models import TeacherDistillation, optimizer_variables
from tfrecord_tools import storage

STATE_FILE = "training-state.npz"

_PLAIN = ("epoch", "step", "sums", "seconds", "history", "best_epoch", "best_key")


@dataclasses.dataclass
class TrainingState:
    """Progress of the training of a stage.

    Attributes:
        epoch: number of epochs done.
        step: number of steps done in the epoch after those; 0 between epochs.
        sums: sums of the metrics over those steps, by name.
        seconds: time that those steps took.
        history: one row of figures per epoch done.
        best_epoch: the epoch (from 1) whose weights are kept; 0 before the first.
        best_key: its validation mAP, and minus its validation loss.
        best_weights: the student's weights after that epoch.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int = 0
    best_key: tuple[float, float] | None = None
    best_weights: list[np.ndarray] = dataclasses.field(default_factory=list)


def save_state(folder: str, state: TrainingState, model: TeacherDistillation) -> None:
    """Write the state, the model's weights, their average and the optimizer's variables."""
    plain = {name: getattr(state, name) for name in _PLAIN}
    # Not `np.asarray`, which under Keras 2 cannot read a variable of several replicas in their
    # scope.
    groups = {
        group: [tf.convert_to_tensor(variable).numpy() for variable in variables]
        for group, variables in _variables(model).items()
    }
    groups["best"] = state.best_weights
    arrays = {
        f"{group}_{index:05d}": array
        for group, items in groups.items()
        for index, array in enumerate(items)
    }
    storage.make_dirs(folder)
    with storage.atomic_write(storage.join(folder, STATE_FILE), "wb") as stream:
        np.savez(stream, state=np.array(json.dumps(plain)), **arrays)


def _variables(model: TeacherDistillation) -> dict[str, list[Any]]:
    """Return all variables of a model in training, by group."""
    return {
        "student": model.student.weights,
        "average": model.average.variables if model.average else [],
        "optimizer": optimizer_variables(model.optimizer),
    }


def restore_state(folder: str, model: TeacherDistillation) -> TrainingState:
    """Restore a model in place and return the state; a new state if the folder holds none.

    Raises:
        ValueError: if the file does not fit this model, or is damaged; names the file.
    """
    path = storage.join(folder, STATE_FILE)
    if not storage.exists(path):
        return TrainingState()
    variables = _variables(model)
    try:
        with storage.open_file(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            groups: dict[str, list[np.ndarray]] = {group: [] for group in (*variables, "best")}
            for name in sorted(set(arrays.files) - {"state"}):
                groups[name.rsplit("_", 1)[0]].append(arrays[name])
            state = TrainingState(**json.loads(str(arrays["state"])), best_weights=groups["best"])
        if state.best_key:
            mAP, minus_loss = state.best_key
            state.best_key = mAP, minus_loss
        for group, own in variables.items():
            for variable, value in zip(own, groups[group], strict=True):
                variable.assign(value)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: cannot be continued from ({error}); delete it to start the stage anew"
        ) from error
    return state
