"""Scores to events on hand-worked rows of a tenth of a second a segment."""

from itertools import chain

import numpy as np
import pytest
from scipy import signal

from secost_tf.detection.events import (
    Event,
    EventTracker,
    MedianFilter,
    PostProcessing,
    Segments,
    active_segments,
    list_events,
    sort_events,
)

ROW = [0.1, 0.6, 0.4, 0.7, 0.1, 0.55, 0.1, 0.4, 0.4]


def spans_of(count):
    edges = np.arange(count + 1) / 10
    return np.stack([edges[:-1], edges[1:]], axis=1)


def found(row, threshold=0.5, **options):
    segments = Segments(spans_of(len(row)), np.array(row)[:, None])
    events = list_events(segments, threshold, PostProcessing(**options))
    return [(event.onset, event.offset, event.score) for event in events]


@pytest.mark.parametrize(
    ("options", "events"),
    [
        ({}, [(0.1, 0.2, 0.6), (0.3, 0.4, 0.7), (0.5, 0.6, 0.55)]),
        ({"threshold": 0.6}, [(0.1, 0.2, 0.6), (0.3, 0.4, 0.7)]),  # at the threshold, too
        ({"threshold": 0.0}, [(0.0, 0.9, 0.7)]),
        ({"threshold": 1.0}, []),
        # The last two never reach the threshold.
        ({"hysteresis": 0.3}, [(0.1, 0.4, 0.7), (0.5, 0.6, 0.55)]),
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
    segments = Segments(spans_of(3), scores)
    events = list_events(segments, np.array([0.3, 0.5]), PostProcessing())
    assert [(e.class_index, e.onset, round(e.offset, 6), e.score) for e in events] == [
        (1, 0.0, 0.2, 0.9),
        (0, 0.1, 0.3, 0.4),
    ]
    expected = [[False, True], [True, True], [True, False]]
    np.testing.assert_array_equal(active_segments(events, segments), expected)


def changes(scores, config, size=1, threshold=0.5):
    """What a tracker returns for each part of as many segments, and at the end."""
    tracker, spans = EventTracker(threshold, config), spans_of(len(scores))
    parts = [
        tracker.add(Segments(spans[start : start + size], scores[start : start + size]))
        for start in range(0, len(scores), size)
    ]
    return [*parts, tracker.finish()]


def test_events_begin_as_soon_as_they_are_known_and_may_have_begun_before():
    scores = np.array([[0.4, 0.0], [0.5, 0.9], [0.3, 0.2], [0.8, 0.1], [0.2, 0.6]])
    config = PostProcessing(hysteresis=0.4)  # down to 0.3
    first, third = spans_of(5)[1, 0], spans_of(5)[2, 0]
    assert changes(scores, config) == [
        [],
        [Event(0, 0.0, None, 0.5), Event(1, first, None, 0.9)],
        [Event(1, first, third, 0.9)],
        [],
        [Event(0, 0.0, 0.4, 0.8), Event(1, 0.4, None, 0.6)],
        [Event(1, 0.4, 0.5, 0.6)],
    ]


def test_an_event_begins_once_it_is_as_long_as_the_shortest():
    scores = np.array([[0.6], [0.1], [0.6], [0.7], [0.9], [0.1]])
    second = spans_of(6)[2, 0]
    assert changes(scores, PostProcessing(min_event_seconds=0.2)) == [
        *([], [], []),
        [Event(0, second, None, 0.7)],
        [],
        [Event(0, second, 0.5, 0.9)],
        [],
    ]


@pytest.mark.parametrize("size", [2, 7, 100])
def test_changes_are_the_same_whatever_the_parts(size):
    scores = np.random.default_rng(0).uniform(size=(100, 4)).astype(np.float32)
    config = PostProcessing(hysteresis=0.4, min_event_seconds=0.2)
    one_by_one = [*chain(*changes(scores, config))]
    assert [*chain(*changes(scores, config, size))] == one_by_one
    begun = [event for event in one_by_one if event.offset is None]
    ended = sort_events(one_by_one)
    assert len(begun) == len(ended) > 20
    assert {event[:2] for event in begun} == {event[:2] for event in ended}
    assert ended == list_events(Segments(spans_of(100), scores), 0.5, config)


def test_what_lasts():
    tracker = EventTracker(0.5, PostProcessing(hysteresis=0.5, min_event_seconds=0.2))
    spans = spans_of(3)
    tracker.add(Segments(spans[:1], np.array([[0.9, 0.3]])))
    assert tracker.current == []
    tracker.add(Segments(spans[1:], np.array([[0.3, 0.9], [0.3, 0.3]])))
    assert tracker.current == [Event(0, 0.0, None, 0.9), Event(1, 0.0, None, 0.9)]


def smooth(scores, seconds, size):
    """The running median at a tenth of a second a segment, of segments in parts."""
    median, spans = MedianFilter(seconds, 0.1), spans_of(len(scores))
    parts = [
        Segments(spans[start : start + size], scores[start : start + size])
        for start in range(0, len(scores), size)
    ]
    return Segments.join([*map(median.add, parts[:-1]), median.finish(parts[-1])])


@pytest.mark.parametrize("part", [1, 3, 20])
@pytest.mark.parametrize(
    ("seconds", "size"), [(0, 1), (0.1, 1), (0.19, 1), (0.21, 3), (0.3, 3), (0.5, 5), (6.1, 61)]
)
def test_the_median_filter_is_scipy_s_of_the_nearest_odd_length(seconds, size, part):
    scores = np.random.default_rng(0).uniform(size=(20, 2))
    smoothed = smooth(scores, seconds, part)
    padded = np.pad(scores, ((size // 2, size // 2), (0, 0)), mode="edge")
    expected = signal.medfilt(padded, (size, 1))[size // 2 : size // 2 + 20]
    np.testing.assert_array_equal(smoothed.scores, expected)
    np.testing.assert_array_equal(smoothed.spans, spans_of(20))


def test_a_median_is_known_half_its_length_later():
    median, spans = MedianFilter(0.5, 0.1), spans_of(6)
    scores = np.arange(6.0)[:, None]
    counts = [
        len(median.add(Segments(spans[k : k + 1], scores[k : k + 1])).spans) for k in range(5)
    ]
    assert counts == [0, 0, 1, 1, 1]
    assert len(median.finish(Segments(spans[5:], scores[5:])).spans) == 3


@pytest.mark.parametrize("name", ["median_filter_seconds", "hysteresis", "min_event_seconds"])
def test_post_processing_that_can_not_be(name):
    with pytest.raises(ValueError, match=f"{name}: expected a number, 0 or more,.* got -1"):
        PostProcessing(**{name: -1.0})
    with pytest.raises(
        ValueError, match="hysteresis: expected a number, 0 or more, below 1, got 1"
    ):
        PostProcessing(hysteresis=1.0)
