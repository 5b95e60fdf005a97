"""Scores to events on hand-worked rows of a tenth of a second a segment."""

import numpy as np
import pytest
from scipy import signal

from secost_tf.detection.events import PostProcessing, active_segments, list_events, smooth

ROW = [0.1, 0.6, 0.4, 0.7, 0.1, 0.55, 0.1, 0.4, 0.4]


def spans_of(count):
    edges = np.arange(count + 1) / 10
    return np.stack([edges[:-1], edges[1:]], axis=1)


def found(row, threshold=0.5, **options):
    scores = np.array(row)[:, None]
    spans = spans_of(len(row))
    active = active_segments(scores, spans, np.array([threshold]), PostProcessing(**options))
    return [
        (event.onset, event.offset, event.score) for event in list_events(active, scores, spans)
    ]


@pytest.mark.parametrize(
    ("options", "events"),
    [
        ({}, [(0.1, 0.2, 0.6), (0.3, 0.4, 0.7), (0.5, 0.6, 0.55)]),
        ({"threshold": 0.6}, [(0.3, 0.4, 0.7)]),  # above, not at
        ({"threshold": 0.0}, [(0.0, 0.9, 0.7)]),
        ({"threshold": 1.0}, []),
        (
            {"hysteresis": 0.3},
            [(0.1, 0.4, 0.7), (0.5, 0.6, 0.55)],
        ),  # the last two never reach the threshold
        ({"threshold": 2e-7, "hysteresis": 0.3}, [(0.0, 0.9, 0.7)]),
        ({"threshold": 0.65, "hysteresis": 0.3}, [(0.3, 0.4, 0.7)]),
        ({"min_event_seconds": 0.2}, []),
        ({"hysteresis": 0.3, "min_event_seconds": 0.3}, [(0.1, 0.4, 0.7)]),
    ],
)
def test_events_of_a_row(options, events):
    np.testing.assert_allclose(np.array(found(ROW, **options)).ravel(), np.array(events).ravel())


def test_each_class_has_its_threshold_and_events_come_by_onset():
    scores = np.array([[0.2, 0.9], [0.4, 0.9], [0.4, 0.1]])
    active = active_segments(scores, spans_of(3), np.array([0.3, 0.5]), PostProcessing())
    events = list_events(active, scores, spans_of(3))
    assert [(e.class_index, e.onset, round(e.offset, 6), e.score) for e in events] == [
        (1, 0.0, 0.2, 0.9),
        (0, 0.1, 0.3, 0.4),
    ]


@pytest.mark.parametrize(
    ("seconds", "size"), [(0, 1), (0.1, 1), (0.19, 1), (0.21, 3), (0.3, 3), (0.5, 5)]
)
def test_the_median_filter_is_scipy_s_of_the_nearest_odd_length(seconds, size):
    scores = np.random.default_rng(0).uniform(size=(20, 2))
    smoothed = smooth(scores, spans_of(20), seconds)
    inside = slice(size, 20 - size)
    np.testing.assert_allclose(smoothed[inside], signal.medfilt(scores, (size, 1))[inside])


def test_a_filter_longer_than_the_recording():
    np.testing.assert_allclose(smooth(np.array([[0.1], [0.9], [0.2]]), spans_of(3), 2.1).max(), 0.2)
    assert smooth(np.array([[0.7]]), spans_of(1), 5).tolist() == [[0.7]]


@pytest.mark.parametrize("name", ["median_filter_seconds", "hysteresis", "min_event_seconds"])
def test_post_processing_that_can_not_be(name):
    with pytest.raises(ValueError, match=f"{name}: expected a number, 0 or more,.* got -1"):
        PostProcessing(**{name: -1.0})
    with pytest.raises(
        ValueError, match="hysteresis: expected a number, 0 or more, below 1, got 1"
    ):
        PostProcessing(hysteresis=1.0)
