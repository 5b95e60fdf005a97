"""The picture of a long recording: its columns are means of frames, whatever the blocks; drawn and
opened again.
"""

import io

import numpy as np
import pytest
from matplotlib import image

from secost_tf.detection import clip_picture, localization
from secost_tf.detection.events import Event, Segments
from secost_tf.detection.overview import Overview, highest, leading_classes, write_picture
from tfrecord_tools.log_mel import LogMelConfig


@pytest.mark.parametrize("block", [1, 999, 1500, 50_000])
@pytest.mark.parametrize("frames", [1, 1999, 2000, 2001, 4001, 9000])
def test_columns_are_means_of_as_many_frames(frames, block):
    log_mel = np.random.default_rng(0).normal(size=(frames, 2)).astype(np.float32)
    overview = Overview(2)
    blocks = [log_mel[start : start + block] for start in range(0, frames, block)]
    assert list(map(len, overview.watch(iter(blocks)))) == list(map(len, blocks))
    size, columns = overview.frames_per_column, overview.columns()
    assert size == (1 if frames <= 2000 else 2 if frames < 4002 else 4 if frames < 8004 else 8)
    whole = frames // size
    expected = log_mel[: whole * size].reshape(whole, size, 2).mean(axis=1)
    np.testing.assert_allclose(columns, expected, atol=1e-5)


def test_the_classes_that_are_shown():
    scores = np.array([[0.1, 0.9, 0.3], [0.4, 0.2, 0.3]])
    assert leading_classes(scores, [0, 1, 2], 2) == [1, 0]
    assert leading_classes(scores, [2, 0], 5) == [0, 2]
    assert localization.MOST_SHOWN == clip_picture.MOST_CLASSES


def test_a_picture_is_drawn(tmp_path):
    overview, config = Overview(64), LogMelConfig()
    list(overview.watch([np.random.default_rng(0).normal(size=(5000, 64)).astype(np.float32)]))
    edges = np.linspace(0, 50.015, 151)
    spans, scores = np.stack([edges[:-1], edges[1:]], axis=1), np.full((150, 3), 0.25)
    events = [Event(0, 1.0, 2.0, 0.9), Event(2, 3.0, 4.0, 0.9)]
    path = tmp_path / "a.png"
    names = ("Cash $ and $", "Bell", "Rain")
    segments, title = Segments(spans, scores), "a $1$, 2 events"
    write_picture(str(path), overview, config, segments, events, [0, 1], names, title)
    pixels = image.imread(io.BytesIO(path.read_bytes()))
    assert pixels.shape[1] == 1100 and np.ptp(pixels[..., :3]) > 0.9
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


def test_of_many_scores_the_highest_are_drawn():
    spans = np.stack([np.arange(5.0), np.arange(5.0) + 1], axis=1)
    scores = np.array([[0.1, 0.5], [0.2, 0.4], [0.9, 0.0], [0.3, 0.1], [0.7, 0.2]])
    joined, peaks = highest(spans, scores, 3)
    assert joined.tolist() == [[0, 2], [2, 4], [4, 5]]
    assert peaks.tolist() == [[0.2, 0.5], [0.9, 0.1], [0.7, 0.2]]
    for one, same in zip(highest(spans, scores, 5), (spans, scores), strict=True):
        np.testing.assert_array_equal(one, same)
