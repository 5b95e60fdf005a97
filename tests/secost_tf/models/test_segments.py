"""When a segment looks: hand-worked times, and clicks moved through the input of a network of
random weights.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from networks import TINY

from secost_tf.models.config import WelsNetConfig
from secost_tf.models.network import wels_net
from secost_tf.models.segments import context_frames, fine_segments, segment_spans, segment_times
from secost_tf.training.devices import set_seed
from tfrecord_tools.log_mel import LogMelConfig

TABLE = WelsNetConfig(num_classes=1)
NARROW = WelsNetConfig(num_classes=16, width=1 / 32)  # the table, with 2 ... 64 channels
COARSE = LogMelConfig(
    sample_rate_hz=8000, window_seconds=0.05, hop_seconds=0.02, mel_max_hz=4000, mel_bins=8
)


def responses(config: WelsNetConfig, frames: int, clicks: list[slice]) -> np.ndarray:
    """How much each click changes each segment of random weights' logits, [clicks, K]."""
    set_seed(0)
    net = wels_net(config)
    log_mels = np.zeros(
        (1 + len(clicks), frames, config.mel_bins), np.float32
    )  # the first without a click
    for row, click in zip(log_mels[1:], clicks, strict=True):
        row[click] = 5.0
    inputs = {"log_mel": tf.constant(log_mels), "num_frames": tf.fill([len(log_mels)], frames)}
    logits = net(inputs, training=False)["segment_logits"].numpy()
    return np.abs(logits[1:] - logits[0]).sum(axis=-1)


def test_segment_times_at_the_defaults():
    times = segment_times(TABLE, LogMelConfig(), 998)
    assert times.shape == (30, 2)
    np.testing.assert_allclose(times[:, 0], 0.32 * np.arange(30))
    np.testing.assert_allclose(times[:, 1] - times[:, 0], 0.975)  # 95 hops and a window
    np.testing.assert_allclose(times[-1], [9.28, 10.255])  # past the end of ten seconds


def test_segment_times_of_other_settings():
    np.testing.assert_allclose(segment_times(TINY, COARSE, 25), [[0, 0.51], [0.16, 0.67]])
    np.testing.assert_allclose(segment_times(TINY, COARSE, 1), [[0, 0.51]])


@pytest.mark.parametrize(("config", "context"), [(NARROW, 58), (TINY, 10)])
def test_a_segment_sees_its_window_and_the_context_and_no_frame_more(config, context):
    assert context_frames(config) == context
    stride, segment = config.stride_frames, 3
    first, last = segment * stride - context, segment * stride + config.window_frames + context - 1
    clicks = [slice(frame, frame + 1) for frame in (first - 1, first, last, last + 1)]
    seen = (
        responses(dataclasses.replace(config, num_classes=64), last + 2 * stride, clicks)[
            :, segment
        ]
        > 0
    )
    assert seen.tolist() == [False, True, True, False]


def test_the_segment_that_a_click_changes_most_is_one_whose_window_holds_it():
    frames = 256  # K = 6
    times = segment_times(NARROW, LogMelConfig(), frames)
    clicks = np.arange(0, frames - 4, 12)
    change = responses(NARROW, frames, [slice(first, first + 4) for first in clicks])
    largest = times[change.argmax(axis=1)]
    assert np.all(largest[:, 0] <= clicks * 0.01 + 1e-9)
    assert np.all((clicks + 3) * 0.01 + 0.025 <= largest[:, 1] + 1e-9)


def test_the_segments_that_hear_a_click_lie_about_it():
    frames = 40 * TINY.stride_frames
    times = segment_times(TINY, COARSE, frames).mean(axis=1)
    clicks = [slice(frame, frame + 1) for frame in range(100, 220)]
    change = responses(dataclasses.replace(TINY, num_classes=64), frames, clicks)
    middles = np.array([times[heard > 0].mean() for heard in change])
    when = np.arange(100, 220) * 0.02 + 0.025  # the middle of a frame
    # Which segments hear a click depends on where it lies in a stride; over all places their mean
    # is the click.
    by_stride = (middles - when).reshape(-1, TINY.stride_frames).mean(axis=1)
    np.testing.assert_allclose(by_stride, 0.0, atol=1e-9)


def test_spans_lie_about_the_middles_one_after_the_other():
    spans = segment_spans(TABLE, LogMelConfig(), 998)
    assert spans[0, 0] == 0 and spans[-1, 1] == pytest.approx(9.995)
    np.testing.assert_array_equal(spans[1:, 0], spans[:-1, 1])
    middles = segment_times(TABLE, LogMelConfig(), 998).mean(axis=1)
    np.testing.assert_allclose(spans[1:-1].mean(axis=1), middles[1:-1])
    np.testing.assert_allclose(spans[0], [0, 0.4875 + 0.16])
    assert segment_spans(TABLE, LogMelConfig(), 998, seconds=10.0)[-1, 1] == 10.0


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("frames", [*range(1, 200, 7), 998])
def test_fine_segments_divide_the_stride_and_their_spans_the_clip(frames, scale):
    first_frames = fine_segments(TABLE, frames, scale)
    np.testing.assert_array_equal(first_frames, np.arange(len(first_frames)) * 32 // scale)
    np.testing.assert_array_equal(first_frames[::scale], 32 * np.arange(TABLE.num_segments(frames)))
    assert (
        len(first_frames) == 1
        or first_frames[-1] + 96 - frames < 32 <= first_frames[-1] + 32 // scale + 96 - frames
    )
    spans = segment_spans(TABLE, LogMelConfig(), frames, scale)
    assert np.all(spans[:, 0] < spans[:, 1])
    np.testing.assert_allclose(spans[1:-1, 1] - spans[1:-1, 0], 0.32 / scale)
    assert (spans[0, 0], spans[-1, 1]) == (0, pytest.approx((frames - 1) * 0.01 + 0.025))


@pytest.mark.parametrize("scale", [0, 3])
def test_a_hop_scale_that_does_not_divide_the_stride(scale):
    with pytest.raises(
        ValueError, match=f"hop_scale: expected a divisor of the 32 frames .*, got {scale}"
    ):
        segment_spans(TABLE, LogMelConfig(), 998, scale)
