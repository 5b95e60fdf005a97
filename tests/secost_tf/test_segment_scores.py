"""Windows join without a seam: the scores of a long input in pieces are those of the network that sees it whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import TINY

from secost_tf.config import WelsNetConfig
from secost_tf.runtime import set_seed
from secost_tf.segment_scores import segment_scores
from secost_tf.segment_times import fine_segments
from secost_tf.wels_net import wels_net

TABLE = WelsNetConfig(num_classes=4, width=1 / 32)


def network_of(config):
    """Random weights with wide scores, as a function of a log-mel."""
    set_seed(3)
    net = wels_net(config)
    kernel = net.get_layer(f"b{len(config.block_channels) + len(config.hidden_channels) + 2}").kernel
    kernel.assign(20 * kernel)
    keras.utils.set_random_seed(0)

    def network(log_mel):
        inputs = {"log_mel": tf.constant(log_mel[None]), "num_frames": tf.constant([len(log_mel)])}
        return tf.sigmoid(net(inputs, training=False)["segment_logits"])[0].numpy()

    return network


@pytest.fixture(scope="module")
def tiny():
    return network_of(TINY)


def noise(frames, mel_bins=8):
    return np.random.default_rng(frames).normal(0, 2, (frames, mel_bins)).astype(np.float32)


def pieces(log_mel, size):
    return (log_mel[start : start + size] for start in range(0, len(log_mel), size))


@pytest.mark.parametrize("window_frames", [56, 61, 200])
@pytest.mark.parametrize("frames", [1, 24, 56, 57, 73, 333])
def test_joined_windows_equal_the_network_on_the_whole(tiny, frames, window_frames):
    log_mel = noise(frames)
    joined = segment_scores(pieces(log_mel, 17), tiny, TINY, window_frames=window_frames)
    whole = tiny(log_mel)
    assert joined.shape == whole.shape == (TINY.num_segments(frames), 3)
    np.testing.assert_allclose(joined, whole, atol=1e-5)
    assert frames < 300 or np.ptp(whole) > 0.1


def test_the_documented_network_at_its_window():
    network, log_mel = network_of(TABLE), noise(3000, 64)
    joined = segment_scores(pieces(log_mel, 1000), network, TABLE, window_frames=1024)
    np.testing.assert_allclose(joined, network(log_mel), atol=1e-5)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("frames", [5, 30, 100, 301])
def test_fine_hops_interleave_the_shifted_inputs(tiny, frames, scale):
    log_mel = noise(frames)
    fine = segment_scores([log_mel], tiny, TINY, scale, window_frames=80)
    assert len(fine) == len(fine_segments(TINY, frames, scale))
    for shift in range(min(scale, len(fine))):
        of_shift = fine[shift::scale]
        np.testing.assert_allclose(of_shift, tiny(log_mel[shift * 8 // scale :])[: len(of_shift)], atol=1e-5)


def test_a_shift_by_a_fine_hop_shifts_the_scores(tiny):
    log_mel = noise(400)
    fine = segment_scores([log_mel], tiny, TINY, 4)
    shifted = segment_scores([log_mel[6:]], tiny, TINY, 4)  # three fine hops of 2 frames
    inside = slice(10, 100)  # clear of the beginning, whose context differs
    np.testing.assert_allclose(shifted[inside], fine[3:][inside], atol=1e-5)


def test_memory_holds_a_window_of_the_input():
    longest = 0

    def network(log_mel):
        nonlocal longest
        longest = max(longest, len(log_mel))
        return np.zeros((TINY.num_segments(len(log_mel)), 3), np.float32)

    blocks = (np.zeros((50, 8), np.float32) for _ in range(200))
    assert segment_scores(blocks, network, TINY, 2, window_frames=400).shape == (2496, 3)
    assert longest <= 400 + 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_frames": 48}, "window_frames: expected at least 56, got 48"),
        ({"hop_scale": 3}, "hop_scale: expected a divisor of the 8 frames"),
        ({"blocks": []}, "blocks: expected at least one frame, got none"),
    ],
)
def test_what_can_not_be_scored(tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        segment_scores(**{"blocks": [noise(9)], "network": tiny, "config": TINY} | arguments)
