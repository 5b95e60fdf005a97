"""A stream gives the scores and events that are found in the whole recording, only sooner."""

import numpy as np
import pytest
import soundfile

from secost_tf.detection.detector import Detector
from secost_tf.detection.events import PostProcessing, Segments, sort_events
from secost_tf.detection.localization import find_events
from secost_tf.detection.sources import FileSource
from secost_tf.detection.stream import SegmentStream, listen, score_segments
from secost_tf.models.config import WelsNetConfig
from secost_tf.models.network import wels_net
from secost_tf.models.segments import segment_spans
from secost_tf.training.devices import set_seed
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.log_mel import LogMelConfig

NAMES = ("Bark", "Bell", "Rain", "Siren")


@pytest.fixture(scope="module")
def detector() -> Detector:
    """The documented network, narrow, of random weights with wide scores."""
    set_seed(3)
    config = WelsNetConfig(num_classes=4, width=1 / 32)
    student = wels_net(config)
    kernel = student.get_layer("b8").kernel
    kernel.assign(20 * kernel)
    return Detector.from_student(student, config, LogMelConfig(), ClassMap(NAMES, NAMES), "random")


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> str:
    """Twenty seconds of stereo noise, and some samples, whose loudness changes twice a second."""
    generator = np.random.default_rng(0)
    levels = np.repeat(10 ** generator.uniform(-4, -1, 41), 22050)[: 20 * 44100 + 1234, None]
    path = tmp_path_factory.mktemp("sound") / "a.flac"
    soundfile.write(path, np.clip(levels * generator.normal(size=(len(levels), 2)), -1, 1), 44100)
    return str(path)


class Record:
    """Stands for a screen, and keeps what it is told."""

    def __init__(self, num_classes: int = 4):
        self.scores, self.events, self.drawn = np.empty((0, num_classes)), [], []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def add(self, scores, events):
        self.scores = np.concatenate([self.scores, scores])
        self.events += events

    def draw(self, seconds, current):
        self.drawn.append((round(seconds, 6), len(self.scores), [event[:2] for event in current]))


def thresholds_of(scores: np.ndarray) -> np.ndarray:
    """The middle of the widest gap between the scores of each class, near their median."""
    ordered = np.sort(scores, axis=0)[len(scores) // 3 : 2 * len(scores) // 3]
    widest = np.argmax(np.diff(ordered, axis=0), axis=0)
    return (ordered[widest, np.arange(4)] + ordered[widest + 1, np.arange(4)]) / 2


@pytest.mark.parametrize(
    "config",
    [
        PostProcessing(),
        PostProcessing(median_filter_seconds=1.0),
        PostProcessing(hysteresis=0.3, min_event_seconds=0.7),
        PostProcessing(4, median_filter_seconds=0.5, hysteresis=0.3, min_event_seconds=0.3),
    ],
)
def test_a_file_s_events_are_those_that_localize_finds(detector, recording, config):
    thresholds = thresholds_of(find_events(recording, detector, np.ones(4), config).scores)
    found = find_events(recording, detector, thresholds, config)
    record = Record()
    listen(FileSource(recording, detector.log_mel), detector, thresholds, config, record)
    np.testing.assert_allclose(record.scores, found.scores, rtol=0, atol=1e-5)
    events = sort_events(record.events)
    assert [event[:3] for event in events] == [event[:3] for event in found.events]
    assert len(events) > 10 and {event.class_index for event in events} == {0, 1, 2, 3}
    np.testing.assert_allclose(
        [event.score for event in events], [event.score for event in found.events], atol=1e-5
    )
    begun = [event[:2] for event in record.events if event.offset is None]
    assert sorted(begun) == sorted(event[:2] for event in events)


def test_a_segment_comes_when_its_context_does(detector, recording):
    record = Record()
    source = FileSource(recording, detector.log_mel)
    listen(source, detector, 0.5, PostProcessing(median_filter_seconds=0.9), record)
    # A segment sees 96 frames and 58 behind them, in whole strides 64. With the frame that follows
    # they end at 160 x 0.01 + 0.025 s, and sound comes in pieces of 0.32 s. The median takes one
    # segment more.
    assert [count for _, count, _ in record.drawn[:9]] == [0, 0, 0, 0, 0, 0, 1, 2, 3]
    assert record.drawn[6][0] == 7 * 0.32


@pytest.mark.parametrize("seconds", [0.025, 0.3, 1.5])
def test_a_brief_sound_is_scored_when_it_ends(detector, tmp_path, seconds):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)), 16000)
    record, config = Record(), PostProcessing(min_event_seconds=0.1)
    listen(FileSource(path, detector.log_mel), detector, 0.0, config, record)
    assert all(count == 0 for _, count, _ in record.drawn)
    expected = find_events(path, detector, np.zeros(4), config).events
    assert [event[:3] for event in sort_events(record.events)] == [event[:3] for event in expected]
    assert [event[:3] for event in expected] == [
        (index, 0.0, seconds) for index in range(4) if seconds > 0.1
    ]


def test_of_a_sound_without_a_frame_nothing_is_said_but_that(detector, tmp_path, caplog):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.zeros(160), 16000)
    record = Record()
    listen(FileSource(path, detector.log_mel), detector, 0.0, PostProcessing(), record)
    assert record.events == [] and "the sound ended after 0.010 s" in caplog.text


def test_ctrl_c_ends_the_sound_there(detector):
    class Interrupted:
        seconds = 100.0

        def __iter__(self):
            yield np.zeros(30_000, np.float32)  # five blocks, and a rest that is not taken
            raise KeyboardInterrupt

    record = Record()
    listen(Interrupted(), detector, 0.0, PostProcessing(), record)
    assert sort_events(record.events) == [
        (index, 0.0, 5 * 0.32, event.score)
        for index, event in enumerate(sort_events(record.events))
    ]
    assert len(record.events) == 8


def test_spans_are_those_of_the_whole(detector):
    log_mel = np.random.default_rng(0).normal(-6, 2, (1000, 64)).astype(np.float32)
    for config in (PostProcessing(), PostProcessing(4, median_filter_seconds=1.0)):
        stream = SegmentStream(detector, config, eager=True)
        parts = [stream.add(log_mel[start : start + 77]) for start in range(0, 1000, 77)]
        segments = Segments.join([*parts, stream.finish(10.03)])
        expected = segment_spans(
            detector.config, detector.log_mel, 1000, config.hop_scale, seconds=10.03
        )
        np.testing.assert_array_equal(segments.spans, expected)
        whole = score_segments([log_mel], detector, config)
        np.testing.assert_allclose(segments.scores, whole.scores, atol=1e-5)
        assert whole.spans[-1, 1] == pytest.approx(10.015)  # the end of the last frame
