"""Windows of a stream, and events, worked by hand."""

import numpy as np
import pytest

from secost_tf.detection.stream import Event, EventTracker, Grid, StreamScorer

GRID = Grid(sample_rate_hz=10, stride_samples=4, segment_samples=12)


def test_where_segments_lie():
    assert [GRID.complete(samples) for samples in (0, 11, 12, 15, 16, 20)] == [0, 0, 1, 1, 2, 3]
    assert GRID.middle_seconds(0) == 0.4 and GRID.middle_seconds(3) == pytest.approx(1.6)


class FirstSamples:
    """A model whose segment scores are the first sample of the segment, and the number of samples
    that it saw.
    """

    def __init__(self):
        self.windows = []

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        self.windows.append((int(waveform[0]), len(waveform)))
        segments = GRID.complete(len(waveform))
        return np.stack([waveform[: 4 * segments : 4], np.full(segments, len(waveform))], axis=1)


@pytest.mark.parametrize("window_strides", [3, 5, 100])
@pytest.mark.parametrize("block", [1, 3, 4, 7, 50])
def test_each_segment_is_scored_once_in_order(window_strides, block):
    model = FirstSamples()
    scorer = StreamScorer(model, GRID, window_strides)
    stream = np.arange(50, dtype=np.float32)
    found = [
        pair for start in range(0, 50, block) for pair in scorer.add(stream[start : start + block])
    ]
    assert [segment for segment, _ in found] == list(range(10))
    assert [scores[0] for _, scores in found] == [4.0 * segment for segment in range(10)]
    assert scorer.num_samples == 50
    assert max(length for _, length in model.windows) <= 4 * window_strides
    assert len(scorer._kept) <= 4 * window_strides + 4


def test_a_segment_has_its_context_before_it():
    model = FirstSamples()
    scorer = StreamScorer(model, GRID, window_strides=5)
    for start in range(0, 28, 4):
        list(scorer.add(np.arange(start, start + 4)))
    # (first sample, samples) of each window: growing to five strides, then moving on by one.
    assert model.windows == [(0, 12), (0, 16), (0, 20), (4, 20), (8, 20)]


def test_a_window_holds_a_segment():
    with pytest.raises(ValueError, match="window: expected 3 segments or more, got 2"):
        StreamScorer(FirstSamples(), GRID, window_strides=2)


def test_events():
    tracker = EventTracker(threshold=0.5, hysteresis=0.4)
    scores = np.array(
        [
            [0.4, 0.0],
            [0.5, 0.9],  # both begin
            [0.3, 0.2],  # the first stays, at the lower level; the second ends
            [0.8, 0.1],
            [0.29, 0.6],  # the first ends, the second begins again
        ]
    )
    changes = [tracker.add(float(second), row) for second, row in enumerate(scores)]
    assert changes == [
        [],
        [Event(0, 1.0, None, 0.5), Event(1, 1.0, None, 0.9)],
        [Event(1, 1.0, 2.0, 0.9)],
        [],
        [Event(0, 1.0, 4.0, 0.8), Event(1, 4.0, None, 0.6)],
    ]
    assert list(tracker.current) == [1]
    assert tracker.end(5.5) == [Event(1, 4.0, 5.5, 0.6)]
    assert tracker.end(6.0) == [] and not tracker.current


@pytest.mark.parametrize(
    ("threshold", "hysteresis", "name"),
    [
        (0.5, 1.0, "hysteresis"),
        (0.5, -0.1, "hysteresis"),
        (1.2, 0, "threshold"),
        (0, 0, "threshold"),
    ],
)
def test_levels_that_cannot_be(threshold, hysteresis, name):
    with pytest.raises(ValueError, match=f"{name}: expected"):
        EventTracker(threshold, hysteresis)
