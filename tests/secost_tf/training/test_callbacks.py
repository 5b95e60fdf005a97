import contextlib
import csv
import logging
import math
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from secost_tf.models.optimizers import build_optimizer
from secost_tf.training import callbacks, checkpoints
from secost_tf.training.workers import Workers
from tfrecord_tools import progress

NAN, INF = math.nan, math.inf


@pytest.fixture
def model():
    """What the callbacks see of a model: a student of one weight, and an optimizer that has taken
    no step.
    """
    student = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    optimizer = keras.optimizers.Adam(0.1)
    build_optimizer(optimizer, student.trainable_variables)
    return types.SimpleNamespace(
        student=student, optimizer=optimizer, average=None, scored_weights=student.get_weights
    )


@pytest.fixture
def keeper(model, tmp_path):
    """A `CheckpointCallback` whose learning rate is 0.5 ** steps."""
    made = callbacks.CheckpointCallback(
        checkpoints.TrainingState(),
        str(tmp_path / "checkpoints"),
        str(tmp_path / "history.csv"),
        lambda step: 0.5**step,
        3,
        math.inf,
        Workers(tf.distribute.get_strategy()),
    )
    made.set_model(model)
    return made


def end_epoch(keeper, epoch: int, **logs) -> None:
    """Ends an epoch (from 0) after which the student's weight is epoch + 1 and that many steps are
    done.
    """
    keeper.on_epoch_begin(epoch)
    keeper.model.student.set_weights([np.array([[epoch + 1.0]])])
    keeper.model.optimizer.iterations.assign(epoch + 1)
    keeper.on_epoch_end(epoch, {"loss": 0.5, "label_loss": 0.3, "teacher_loss": 0.2, **logs})


# --- losses that are not finite ---


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"loss": NAN, "label_loss": NAN}, "the loss is not finite"),
        ({"loss": INF, "label_loss": INF}, "the loss is not finite"),
        ({"loss": -INF, "label_loss": NAN}, "the loss is not finite"),
        ({"loss": NAN, "label_loss": 0.7}, "the gradient of the loss is not finite"),
    ],
)
def test_a_loss_that_is_no_number_stops_training(figures, said):
    guard = callbacks.TerminateOnNonFinite(
        "run/stage-1/checkpoints/training-state.npz",
        checkpoints.TrainingState(epoch=2),
        lambda step: step / 1000,
        10,
    )
    guard.on_epoch_begin(2)
    guard.on_train_batch_end(0, {"loss": 1e30})
    with pytest.raises(callbacks.NonFiniteLoss) as stopped:
        guard.on_train_batch_end(4, figures)
    message = str(stopped.value)
    assert message.startswith(f"{said} at step 5 of epoch 3 (learning rate 0.024). ")
    assert "after epoch 2 (run/stage-1/checkpoints/training-state.npz)" in message
    hints = ("--learning_rate", "--warmup_share", "--clip_norm", "--precision=float32")
    assert all(hint in message for hint in hints)


def test_before_the_first_checkpoint_the_good_state_is_the_start():
    state = checkpoints.TrainingState()
    guard = callbacks.TerminateOnNonFinite("state.npz", state, lambda step: 0.1, 10)
    guard.on_epoch_begin(0)
    with pytest.raises(callbacks.NonFiniteLoss, match=r"after epoch 0 \(the start\)"):
        guard.on_train_batch_end(0, {"loss": NAN})


# --- validation ---


def test_validation_adds_plain_cross_entropy_and_map():
    labels = np.array([[1, 0], [0, 0], [1, 0]], np.float32)  # class 1 has no positive clip
    logits = np.array([[0.0, 0.0], [math.log(3.0), 0.0], [2 * math.log(3.0), 0.0]], np.float32)
    scorer = types.SimpleNamespace(split=lambda split: ([f"{split} clip"] * 3, labels, logits))
    logs = {"loss": 0.1}
    validation = callbacks.Validation(scorer, "validation")
    validation.set_model(types.SimpleNamespace(as_scored=contextlib.nullcontext))
    validation.on_epoch_end(0, logs)
    # -log of 1/2, 1/4 (p = 3/4, y = 0) and 9/10; class 1: 1/2 each time
    assert logs["val_loss"] == pytest.approx(
        (4 * math.log(2) + math.log(4) + math.log(10 / 9)) / 6, rel=1e-6
    )
    # class 0: the positives rank first and third of three: (1/1 + 2/3) / 2
    assert logs["val_mAP"] == pytest.approx(5 / 6)
    assert validation.last.ids == ["validation clip"] * 3
    assert validation.last.evaluation.mAP == logs["val_mAP"] and validation.last.logits is logits
    assert logs["loss"] == 0.1


# --- best epoch, state and history ---


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        ([(0.2, 1.0), (0.5, 2.0), (0.4, 0.1)], 2),  # mAP first
        ([(0.5, 1.0), (0.5, 0.8), (0.5, 0.9)], 2),  # then the lower loss
        ([(0.5, 1.0), (0.5, 1.0), (0.4, 1.0)], 2),  # then the later
        ([(NAN, 0.1), (0.0, 0.9), (NAN, 0.2)], 2),  # any mAP before none
        ([(NAN, 0.3), (NAN, 0.1), (NAN, 0.2)], 2),  # no mAP at all: the loss
    ],
)
def test_the_best_epoch(keeper, epochs, best):
    for epoch, (mean_precision, loss) in enumerate(epochs):
        end_epoch(keeper, epoch, val_mAP=mean_precision, val_loss=loss)
    assert keeper.state.best_epoch == best
    assert [weight.tolist() for weight in keeper.state.best_weights] == [[[best]]]


def test_without_validation_the_last_epoch_is_the_best(keeper):
    for epoch in range(3):
        end_epoch(keeper, epoch)
    assert keeper.state.best_epoch == 3 and keeper.state.best_weights[0] == 3.0


@pytest.mark.parametrize("figures", [{"val_mAP": 0.25, "val_loss": 0.75}, {}])
def test_the_written_state_continues_the_choice(keeper, model, figures):
    end_epoch(keeper, 0, **figures)
    end_epoch(keeper, 1, **figures)
    model.student.set_weights([np.array([[-1.0]])])
    model.optimizer.iterations.assign(0)
    state = checkpoints.restore_state(keeper.folder, model)
    assert (state.epoch, state.best_epoch, state.best_key) == (2, 2, keeper.state.best_key)
    assert state.history == keeper.state.history
    assert (
        model.student.get_weights()[0] == 2.0 and int(np.asarray(model.optimizer.iterations)) == 2
    )


def test_history_has_a_row_per_epoch(keeper):
    end_epoch(keeper, 0, val_mAP=0.25, val_loss=1.5)
    end_epoch(keeper, 1, val_mAP=0.5, val_loss=1.0)
    with open(keeper.history_csv, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(float(row.pop("seconds")) >= 0 for row in rows)
    shared = {"loss": "0.5", "label_loss": "0.3", "teacher_loss": "0.2"}
    assert rows == [
        {"epoch": "1", **shared, "val_mAP": "0.25", "val_loss": "1.5", "learning_rate": "0.5"},
        {"epoch": "2", **shared, "val_mAP": "0.5", "val_loss": "1.0", "learning_rate": "0.25"},
    ]


def test_history_is_never_behind_the_state(keeper, monkeypatch):
    """Stopped between the two files, the epoch is done again, and its row is written again."""
    end_epoch(keeper, 0)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.checkpoints, "save_state", killed)
    with pytest.raises(KeyboardInterrupt):
        end_epoch(keeper, 1)
    with open(keeper.history_csv) as stream:
        assert len(stream.readlines()) == 1 + 2


# --- progress ---


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=0.0)
    for module in (callbacks, progress):
        clock = types.SimpleNamespace(monotonic=lambda: now.seconds)
        monkeypatch.setattr(module, "time", clock)
    return now


def lines_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_line_an_epoch_and_a_line_a_minute(clock, caplog, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    state = checkpoints.TrainingState(best_epoch=1)
    shown = callbacks.Progress("stage 1", 3, 4, 120, state)
    row = {"loss": 0.5, "label_loss": 0.75, "teacher_loss": -0.25}
    with caplog.at_level(logging.INFO, logger="absl"):
        shown.on_epoch_begin(0)
        for batch in range(4):
            clock.seconds += 40
            shown.on_train_batch_end(batch, {"loss": 1.0 - batch / 10})
        state.history.append({**row, "val_loss": 0.5, "val_mAP": 0.25})
        shown.on_epoch_end(0)
        shown.on_epoch_begin(1)
        for batch in range(4):
            shown.on_train_batch_end(batch, {"loss": 1.0})
        clock.seconds += 80
        state.history.append(row)
        shown.on_epoch_end(1)
    assert lines_of(caplog) == [
        "stage 1 epoch 1/3: 240 of 480 clips, 3.0 clips/s, loss 0.9000, 01:20 left",
        "stage 1 epoch 1/3: 480 of 480 clips, 3.0 clips/s, loss 0.7000, 00:00 left",
        "stage 1 epoch 1/3: loss 0.5000 (labels 0.7500, teacher -0.2500); validation loss 0.5000, "
        "mAP 0.2500; "
        "best epoch 1; 3 clips/s, 5 min 20 s left",
        # the median of 160 s and 80 s, for the one epoch left; 480 clips in 80 s
        "stage 1 epoch 2/3: loss 0.5000 (labels 0.7500, teacher -0.2500); 6 clips/s, 2 min 00 s "
        "left",
    ]


def test_a_bar_on_a_terminal(caplog, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = callbacks.Progress("stage 2", 5, 3, 8, checkpoints.TrainingState())
    shown.on_epoch_begin(1)
    for batch in range(3):
        shown.on_train_batch_end(batch, {"loss": 1.0})
    shown.progress._bar.refresh()
    assert "stage 2 epoch 2/5: 100%" in capsys.readouterr().err and shown.progress.done == 24
    shown.progress.close()
