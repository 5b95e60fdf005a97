import io

import numpy as np
import pytest

from secost_tf.detection.clip_picture import clip_figure
from tfrecord_tools.log_mel import LogMelConfig

CONFIG = LogMelConfig(mel_bins=32)
NAMES = (
    "Breaking",
    "Glass",
    "Speech",
    "Rain",
    "Siren",
    "Bark",
    "Bell",
    "Domestic animals, pets and others",
)


def parts(seconds: float, classes: int):
    """A log-mel, segment times and scores of a clip, the network's strides being 0.32 s."""
    generator = np.random.default_rng(0)
    frames = round(seconds * 100)
    onsets = 0.32 * np.arange(max(1, -(-frames // 32) - 2))
    scores = {name: generator.random(len(onsets)) for name in NAMES[:classes]}
    return (
        generator.standard_normal((frames, 32)),
        CONFIG,
        np.stack([onsets, onsets + 0.96], axis=1),
        scores,
    )


@pytest.mark.parametrize(("seconds", "classes"), [(1, 1), (10, 3), (60, 8)])
def test_scores_lie_below_the_log_mel_at_the_same_time(seconds, classes):
    log_mel, config, times, scores = parts(seconds, classes)
    figure = clip_figure(log_mel, config, times, scores, title="a clip")
    spectrogram, _, axis = figure.axes
    assert spectrogram.get_title(loc="left") == "a clip"
    assert spectrogram.get_xlim() == axis.get_xlim() == (0, pytest.approx(seconds))
    upper, lower = spectrogram.get_position(), axis.get_position()
    assert (upper.x0, upper.x1) == (lower.x0, lower.x1) and lower.y1 < upper.y0
    assert len(axis.lines) == classes
    for line, values in zip(axis.lines, scores.values(), strict=True):
        if len(times) > 1:
            np.testing.assert_allclose(line.get_xdata(), times.mean(axis=1))
            np.testing.assert_array_equal(line.get_ydata(), values)
        else:  # level, over the one segment
            np.testing.assert_array_equal(line.get_xdata(), times[0])
            np.testing.assert_array_equal(line.get_ydata(), [values[0]] * 2)
    assert len({(line.get_color(), str(line.get_linestyle())) for line in axis.lines}) == classes
    assert axis.get_ylim()[0] <= 0 and axis.get_ylim()[1] >= 1
    assert (axis.get_xlabel(), axis.get_ylabel(), spectrogram.get_ylabel()) == (
        "time (s)",
        "segment score",
        "frequency (Hz)",
    )


def test_true_events_are_bars_in_the_colour_of_their_class():
    events = [("Glass", 1.0, 2.5), ("Music", 0.0, 4.0), ("Glass", 3.0, 3.25)]
    figure = clip_figure(*parts(10, 2), events)
    _, _, strip, axis = figure.axes
    glass, music = strip.collections
    spans = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in glass.get_paths()]
    assert spans == [(1.0, 2.5), (3.0, 3.25)]
    assert [
        (path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in music.get_paths()
    ] == [(0.0, 4.0)]
    assert [text.get_text() for text in strip.texts] == ["Glass", "Music"]
    by_name = {line.get_label(): line.get_color() for line in axis.lines}
    from matplotlib.colors import to_hex

    assert to_hex(glass.get_facecolor()[0]) == by_name["Glass"]
    assert to_hex(music.get_facecolor()[0]) not in by_name.values()


@pytest.mark.parametrize(("seconds", "classes"), [(1, 1), (60, 8)])
def test_nothing_is_cut_off(seconds, classes):
    figure = clip_figure(
        *parts(seconds, classes), [(name, 0.1, 0.9) for name in NAMES], ", ".join(NAMES * 3)
    )
    figure.savefig(io.BytesIO(), dpi=80)
    box, page = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page[0] and box.y1 <= page[1]


def test_silence_can_be_drawn():
    _, config, times, scores = parts(1, 1)
    clip_figure(np.full((100, 32), -13.8), config, times, scores).savefig(io.BytesIO(), dpi=50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"log_mel": np.zeros((100, 64))},
            r"log_mel: expected shape \[frames, 32\], got \[100, 64\]",
        ),
        ({"log_mel": np.zeros((0, 32))}, r"log_mel: expected shape \[frames, 32\], got \[0, 32\]"),
        ({"segment_times": np.zeros(3)}, r"segment_times: expected shape \[K, 2\], got \[3\]"),
        ({"segment_scores": {}}, r"segment_scores: expected 1 to 8 classes, got 0"),
        (
            {"segment_scores": {str(n): np.zeros(2) for n in range(9)}},
            r"segment_scores: expected 1 to 8 classes, got 9",
        ),
        (
            {"segment_scores": {"Bark": np.zeros(3)}},
            r"segment_scores: expected shape \[2\], a score for each segment, got \[3\] for Bark",
        ),
    ],
)
def test_parts_that_do_not_go_together(change, message):
    names = ("log_mel", "config", "segment_times", "segment_scores")
    with pytest.raises(ValueError, match=message):
        clip_figure(**{**dict(zip(names, parts(1, 1), strict=True)), **change})
