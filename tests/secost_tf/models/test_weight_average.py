import keras
import numpy as np
import pytest
import tensorflow as tf

from secost_tf.models.config import WelsNetConfig
from secost_tf.models.distillation import TeacherDistillation
from secost_tf.models.losses import SeCoSTLoss
from secost_tf.models.network import wels_net
from secost_tf.models.weight_average import WeightAverage
from secost_tf.training.devices import set_seed

CONFIG = WelsNetConfig(
    num_classes=3,
    mel_bins=8,
    block_channels=(4,),
    block_pools=(8,),
    embedding_channels=8,
    hidden_channels=(),
)


@pytest.fixture
def network():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])


def test_the_average_by_hand(network):
    network.set_weights([np.array([[1.0], [0.0]])])
    average = WeightAverage(network, 0.5)
    expected = np.array([[1.0], [0.0]])
    for step in range(12):
        network.set_weights([np.array([[float(step)], [-2.0 * step]])])
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.array([[step], [-2.0 * step]])
    np.testing.assert_allclose(average.weights()[0], expected, rtol=1e-6)


def test_applied_for_a_block_alone(network):
    own = np.array([[3.0], [4.0]], np.float32)
    average = WeightAverage(network, 0.9)
    first = average.weights()[0]
    network.set_weights([own])
    with pytest.raises(RuntimeError), average.applied():
        np.testing.assert_array_equal(network.get_weights()[0], first)
        raise RuntimeError
    np.testing.assert_array_equal(network.get_weights()[0], own)
    np.testing.assert_array_equal(average.weights()[0], first)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_decays_that_cannot_be(network, decay):
    with pytest.raises(ValueError, match=r"ema: expected a decay in \(0, 1\)"):
        WeightAverage(network, decay)


def test_a_model_averages_the_weights_of_its_steps_and_its_statistics():
    set_seed(0)
    model = TeacherDistillation(wels_net(CONFIG), ema=0.9)
    model.compile(keras.optimizers.Adam(0.01), SeCoSTLoss(1.0))
    rng = np.random.default_rng(0)
    inputs = {
        "log_mel": rng.normal(0, 1, (4, 40, 8)).astype(np.float32),
        "num_frames": np.full(4, 40, np.int32),
    }
    batch = inputs, {"labels": (rng.random((4, 3)) < 0.5).astype(np.float32)}
    expected = model.student.get_weights()
    data = tf.data.Dataset.from_tensors(batch)
    for step in range(3):
        model.fit(data, verbose=0)
        decay = (1 + step) / (10 + step)
        own = model.student.get_weights()
        expected = [
            decay * mean + (1 - decay) * value for mean, value in zip(expected, own, strict=True)
        ]
    for mean, value in zip(model.scored_weights(), expected, strict=True):
        np.testing.assert_allclose(mean, value, rtol=1e-5, atol=1e-7)
    with model.as_scored():
        for mean, value in zip(model.student.get_weights(), expected, strict=True):
            np.testing.assert_allclose(mean, value, rtol=1e-5, atol=1e-7)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(own, expected, strict=True))
