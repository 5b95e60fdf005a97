"""Windows join without a seam: the scores of a long input in pieces are those of the network that
sees it whole.
"""

import numpy as np
import pytest
import tensorflow as tf
from networks import TINY

from secost_tf.detection.windows import (
    SegmentScorer,
    fine_network,
    mean_around,
    segment_scores,
)
from secost_tf.models.config import WelsNetConfig
from secost_tf.models.frame_segments import every_frame
from secost_tf.models.network import wels_net
from secost_tf.models.segments import fine_segments
from secost_tf.training.devices import set_seed

TABLE = WelsNetConfig(num_classes=4, width=1 / 32)


def student_of(config):
    """Random weights with wide scores."""
    set_seed(3)
    net = wels_net(config)
    kernel = net.get_layer(
        f"b{len(config.block_channels) + len(config.hidden_channels) + 2}"
    ).kernel
    kernel.assign(20 * kernel)
    return net


def network_of(model):
    """Segment scores as a function of a log-mel."""

    def network(log_mel):
        inputs = {"log_mel": tf.constant(log_mel[None]), "num_frames": tf.constant([len(log_mel)])}
        outputs = model(inputs, training=False)
        logits = outputs["segment_logits"] if isinstance(outputs, dict) else outputs
        return tf.sigmoid(logits)[0].numpy()

    return network


@pytest.fixture(scope="module")
def student():
    return student_of(TINY)


@pytest.fixture(scope="module")
def tiny(student):
    return network_of(student)


@pytest.fixture(scope="module")
def every_frame_of_tiny(student):
    return network_of(every_frame(student))


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


def eager_scores(log_mel, size, network, hop_scale=1):
    scorer = SegmentScorer(network, TINY, hop_scale, eager=True)
    parts = [scorer.add(piece) for piece in pieces(log_mel, size)]
    return np.concatenate([*parts, scorer.finish()])


@pytest.mark.parametrize("size", [1, 7, 8, 100])
@pytest.mark.parametrize("frames", [1, 40, 41, 73, 160])
def test_a_stream_s_scores_equal_the_network_on_the_whole(tiny, frames, size):
    log_mel = noise(frames)
    np.testing.assert_allclose(eager_scores(log_mel, size, tiny), tiny(log_mel), atol=1e-5)


def test_a_stream_s_segment_is_scored_once_its_context_is_there():
    # A window of 24 frames every 8, and context of 10 frames, in whole strides 16.
    lengths = []

    def network(log_mel):
        lengths.append(len(log_mel))
        return np.zeros((TINY.num_segments(len(log_mel)), 3), np.float32)

    scorer = SegmentScorer(network, TINY, eager=True)
    counts = [len(scorer.add(frame[None])) for frame in noise(80)]
    assert [place + 1 for place, count in enumerate(counts) if count] == [41, 49, 57, 65, 73]
    assert set(counts) == {0, 1}
    assert lengths == [40, 48, 56, 56, 56]  # the least that gives the next one
    assert len(scorer.finish()) == 3  # ten strides hold eight segments


def test_the_documented_network_at_its_window():
    network, log_mel = network_of(student_of(TABLE)), noise(3000, 64)
    joined = segment_scores(pieces(log_mel, 1000), network, TABLE, window_frames=1024)
    np.testing.assert_allclose(joined, network(log_mel), atol=1e-5)


def test_means_around_worked_by_hand():
    scores = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    # Of four: half of the second before and of the second behind, and what lies between.
    every = [(1 + 2 + 4 / 2) / 2.5, (1 + 2 + 4 + 8 / 2) / 3.5, (1 / 2 + 2 + 4 + 8 + 16 / 2) / 4]
    np.testing.assert_allclose(mean_around(scores, 4, 1)[:3, 0], every)
    np.testing.assert_allclose(
        mean_around(scores, 4, 2)[:, 0], [every[0], every[2], (4 / 2 + 8 + 16) / 2.5]
    )
    np.testing.assert_allclose(mean_around(scores, 3, 1)[:, 0], [1.5, 7 / 3, 14 / 3, 28 / 3, 12])
    np.testing.assert_array_equal(mean_around(scores, 1, 1), scores)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("frames", [1, 5, 30, 72, 73, 100, 301])
def test_fine_scores_are_means_over_a_stride_whatever_the_window(
    every_frame_of_tiny, frames, scale
):
    log_mel = noise(frames)
    network = fine_network(every_frame_of_tiny, TINY, scale)
    fine = segment_scores(pieces(log_mel, 17), network, TINY, scale, window_frames=88)
    np.testing.assert_allclose(eager_scores(log_mel, 17, network, scale), fine, atol=1e-5)
    counted = every_frame_of_tiny(log_mel)[
        : max(1, frames - 24 + 8)
    ]  # none reaches 8 frames behind the end
    np.testing.assert_allclose(fine, mean_around(counted, 8, 8 // scale), atol=1e-5)
    assert len(fine) == len(fine_segments(TINY, frames, scale))


@pytest.mark.parametrize("frames", [1, 2, 3, 6, 13])
def test_a_shift_by_any_number_of_frames_shifts_the_scores(every_frame_of_tiny, frames):
    log_mel = noise(400)
    network = fine_network(every_frame_of_tiny, TINY, 8)
    fine = segment_scores([log_mel], network, TINY, 8)
    shifted = segment_scores([log_mel[frames:]], network, TINY, 8)
    inside = slice(40, 300)  # clear of the beginning, whose context differs
    np.testing.assert_allclose(shifted[inside], fine[frames:][inside], atol=1e-5)


def test_memory_holds_a_window_of_the_input():
    longest = 0

    def network(log_mel):
        nonlocal longest
        longest = max(longest, len(log_mel))
        return np.zeros((TINY.num_segments(len(log_mel)), 3), np.float32)

    blocks = (np.zeros((50, 8), np.float32) for _ in range(200))
    assert segment_scores(blocks, network, TINY, window_frames=400).shape == (1248, 3)
    assert longest <= 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_frames": 48}, "window_frames: expected at least 56, got 48"),
        ({"blocks": []}, "blocks: expected at least one frame, got none"),
    ],
)
def test_what_can_not_be_scored(tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        segment_scores(**{"blocks": [noise(9)], "network": tiny, "config": TINY} | arguments)
    with pytest.raises(ValueError, match="hop_scale: expected a divisor of the 8 frames"):
        SegmentScorer(tiny, TINY, 3)
