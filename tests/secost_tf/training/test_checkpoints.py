import errno
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from secost_tf.models.config import WelsNetConfig
from secost_tf.models.distillation import TeacherDistillation
from secost_tf.models.losses import SeCoSTLoss
from secost_tf.models.network import wels_net
from secost_tf.models.optimizers import build_optimizer
from secost_tf.training import checkpoints
from secost_tf.training.checkpoints import STATE_FILE, TrainingState, restore_state, save_state
from secost_tf.training.devices import set_seed
from tfrecord_tools.commands import describe_error

CONFIG = WelsNetConfig(
    num_classes=3,
    mel_bins=8,
    block_channels=(4,),
    block_pools=(8,),
    embedding_channels=8,
    hidden_channels=(6,),
)


def make_model(seed=0, config=CONFIG, **options):
    set_seed(seed)
    model = TeacherDistillation(wels_net(config), **options)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.01, 6
    )  # depends on the step: the optimizer's count matters
    model.compile(keras.optimizers.Adam(schedule), SeCoSTLoss(0.5))
    build_optimizer(model.optimizer, model.student.trainable_variables)
    return model


def train(model, epochs):
    """Two steps an epoch, whose batches depend on the epoch."""
    rows = []
    for epoch in epochs:
        rng = np.random.default_rng(epoch)
        batch = (
            {
                "log_mel": rng.normal(0, 1, (8, 40, 8)).astype(np.float32),
                "num_frames": np.full(8, 40, np.int32),
            },
            {
                "labels": (rng.random((8, 3)) < 0.5).astype(np.float32),
                "teacher_scores": rng.random((8, 3)).astype(np.float32),
            },
        )
        history = model.fit(tf.data.Dataset.from_tensor_slices(batch).batch(4), verbose=0).history
        rows.append({name: values[0] for name, values in history.items()})
    return rows


@pytest.mark.parametrize("options", [{}, {"ema": 0.9, "clip_norm": 0.1}])
def test_continues_exactly_as_an_undisturbed_run(tmp_path, options):
    folder = str(tmp_path / "checkpoints")
    undisturbed = make_model(**options)
    first = train(undisturbed, [0])
    best = undisturbed.student.get_weights()
    state = TrainingState(
        epoch=1, history=first, best_epoch=1, best_key=(0.5, -0.7), best_weights=best
    )
    save_state(folder, state, undisturbed)
    rest = train(undisturbed, [1, 2])
    assert os.listdir(folder) == [STATE_FILE]

    continued = make_model(seed=1, **options)
    restored = restore_state(folder, continued)
    assert (restored.epoch, restored.history, restored.best_epoch) == (1, first, 1)
    assert restored.best_key == (0.5, -0.7)
    for actual, expected in zip(restored.best_weights, best, strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert train(continued, [1, 2]) == rest
    for actual, expected in zip(
        continued.scored_weights(), undisturbed.scored_weights(), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)
    assert int(continued.optimizer.iterations) == 6


def test_more_than_ten_weights_keep_their_order(tmp_path):
    model, other = make_model(), make_model(seed=1)
    assert len(model.student.weights) > 20
    best = [np.full(3, float(index)) for index in range(12)]
    save_state(str(tmp_path), TrainingState(best_weights=best), model)
    restored = restore_state(str(tmp_path), other)
    assert [weight[0] for weight in restored.best_weights] == list(range(12))
    for actual, expected in zip(
        other.student.get_weights(), model.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_nothing_saved_is_a_new_state(tmp_path):
    model = make_model()
    weights = model.student.get_weights()
    state = restore_state(str(tmp_path / "none"), model)
    assert state == TrainingState(epoch=0, history=[], best_epoch=0, best_key=None, best_weights=[])
    for actual, expected in zip(model.student.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_before_the_first_epoch_there_is_no_best_key(tmp_path):
    model = make_model()
    save_state(str(tmp_path), TrainingState(), model)
    assert restore_state(str(tmp_path), model) == TrainingState()


@pytest.fixture
def saved(tmp_path):
    """A model, and the file that holds its state."""
    model = make_model()
    save_state(str(tmp_path), TrainingState(epoch=1), model)
    return model, tmp_path / STATE_FILE


def cut_in_half(data):
    return data[: len(data) // 2]


def one_byte_changed(data):
    middle = data.index(b"\x93NUMPY") + 200  # in the first array
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        cut_in_half,
        one_byte_changed,
        lambda data: b"",
        lambda data: b"not a state",
        lambda data: data[:-30],
    ],
    ids=["cut in half", "one byte changed", "empty", "text", "end missing"],
)
def test_damaged_file(saved, damage):
    model, path = saved
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=r"cannot be continued from .*; delete it to start the stage anew"
    ) as caught:
        restore_state(str(path.parent), model)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("changes", [{"num_classes": 4}, {"hidden_channels": ()}])
def test_file_of_another_network(saved, changes):
    path = saved[1]
    other = make_model(config=WelsNetConfig(**{**CONFIG.to_dict(), **changes}))
    with pytest.raises(ValueError, match="cannot be continued from") as caught:
        restore_state(str(path.parent), other)
    assert str(path) in str(caught.value)


def test_file_of_another_optimizer(saved):
    model, path = saved
    model.compile(keras.optimizers.SGD(0.1), SeCoSTLoss(0.5))
    build_optimizer(model.optimizer, model.student.trainable_variables)
    with pytest.raises(ValueError, match="cannot be continued from") as caught:
        restore_state(str(path.parent), model)
    assert str(path) in str(caught.value)


def test_file_without_the_average_that_is_asked_for(saved):
    path = saved[1]
    with pytest.raises(ValueError, match="cannot be continued from"):
        restore_state(str(path.parent), make_model(ema=0.9))


def test_file_of_something_else(saved):
    model, path = saved
    np.savez(path, values=np.zeros(3))
    with pytest.raises(ValueError, match="cannot be continued from") as caught:
        restore_state(str(path.parent), model)
    assert str(path) in str(caught.value)


def test_failing_to_save_leaves_what_was_there(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()

    def fail(stream, **arrays):
        stream.write(b"half a sta")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.np, "savez", fail)
    with pytest.raises(OSError) as caught:
        save_state(str(path.parent), TrainingState(epoch=2), model)
    said = f"{path}: No space left on device; make room, and the same command continues"
    assert describe_error(caught.value) == said
    assert os.listdir(path.parent) == [STATE_FILE]
    assert path.read_bytes() == before
