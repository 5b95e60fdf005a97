"""A score for every frame: those of the network for each shift of its input."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import TINY

from secost_tf.models.config import WelsNetConfig
from secost_tf.models.frame_segments import every_frame
from secost_tf.models.network import wels_net
from secost_tf.training.devices import set_seed

NARROW = WelsNetConfig(num_classes=4, width=1 / 32, pooling="attention")


@pytest.fixture(scope="module", params=[TINY, NARROW], ids=["tiny", "narrow"])
def student(request):
    """A network with random weights and moments."""
    set_seed(3)
    network, rng = wels_net(request.param), np.random.default_rng(0)
    network.set_weights(
        [
            rng.normal(1, 0.2, weight.shape) * (weight + (weight == 0))
            for weight in network.get_weights()
        ]
    )
    return request.param, network


def logits(network, log_mels, num_frames) -> np.ndarray:
    inputs = {"log_mel": tf.constant(log_mels), "num_frames": tf.constant(num_frames)}
    outputs = network(inputs, training=False)
    return (outputs["segment_logits"] if isinstance(outputs, dict) else outputs).numpy()


def clips(config, frames) -> np.ndarray:
    return (
        np.random.default_rng(frames).normal(0, 2, (2, frames, config.mel_bins)).astype(np.float32)
    )


@pytest.mark.parametrize("frames", [1, 8, 95, 96, 97, 300, 320])
def test_every_stride_is_the_network_s_own(student, frames):
    config, network = student
    log_mels, num_frames = clips(config, frames), [frames, max(1, frames - 40)]
    fine, coarse = (
        logits(model, log_mels, num_frames) for model in (every_frame(network), network)
    )
    assert fine.shape == (2, config.num_segments(frames) * config.stride_frames, config.num_classes)
    np.testing.assert_allclose(fine[:, :: config.stride_frames], coarse, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [1, 2, 3, 4, 5, 7])
def test_the_others_are_its_own_for_shifted_clips_clear_of_their_ends(student, shift):
    config, network = student
    log_mels = clips(config, 640)
    fine = logits(every_frame(network), log_mels, [640, 640])[:, shift :: config.stride_frames]
    shifted = logits(network, log_mels[:, shift:], [640 - shift] * 2)
    margin = slice(4, shifted.shape[1] - 4)  # of segments, whose context lies in the clip
    np.testing.assert_allclose(fine[:, margin], shifted[:, margin], rtol=1e-5, atol=1e-5)
    assert np.abs(fine[:, margin] - logits(network, log_mels, [640, 640])[:, margin]).max() > 1e-3


def test_the_weights_are_the_student_s(student):
    config, network = student
    fine, log_mels = every_frame(network), clips(config, 200)
    assert {id(weight) for weight in fine.weights} <= {id(weight) for weight in network.weights}
    before = logits(fine, log_mels, [200, 200])
    kernel = network.get_layer("b1_1").kernel
    old = keras.ops.convert_to_numpy(kernel) if hasattr(keras, "ops") else kernel.numpy()
    kernel.assign(2 * old[::-1])
    assert np.abs(logits(fine, log_mels, [200, 200]) - before).max() > 1e-3
    kernel.assign(old)
