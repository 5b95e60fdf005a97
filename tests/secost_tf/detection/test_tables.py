"""Tables of scores and events, to the byte."""

import numpy as np

from secost_tf.detection import tables
from secost_tf.detection.events import Event
from tfrecord_tools.log_mel import LogMelConfig

NAMES = ("Bark", "Child speech, kid speaking")
EVENTS = [Event(1, 0.0, 0.6475, 0.75), Event(0, 1 / 3, 2.0, 0.9)]


def written(tmp_path, write, *arguments) -> list[str]:
    path = tmp_path / "table"
    write(str(path), *arguments)
    assert [one.name for one in tmp_path.iterdir()] == ["table"]
    return path.read_text().splitlines()


def test_scores(tmp_path):
    spans = np.array([[0, 1 / 3], [1 / 3, 1.0]])
    scores = np.array([[0.25, 1.0], [1e-9, 0.1234567]])
    assert written(tmp_path, tables.write_scores, spans, scores, NAMES) == [
        "onset\toffset\tBark\tChild speech, kid speaking",
        "0.000000\t0.333333\t0.25\t1",
        "0.333333\t1.000000\t1e-09\t0.1234567",
    ]


def test_events(tmp_path):
    files = [("a/one.wav", EVENTS), ("silence.wav", [])]
    assert written(tmp_path, tables.write_events, files, NAMES) == [
        "filename\tonset\toffset\tevent_label\tscore",
        "a/one.wav\t0.000000\t0.647500\tChild speech, kid speaking\t0.75",
        "a/one.wav\t0.333333\t2.000000\tBark\t0.9",
        "silence.wav\t\t\t\t",
    ]


def test_labels_for_audacity(tmp_path):
    assert written(tmp_path, tables.write_audacity_labels, EVENTS, NAMES) == [
        "0.000000\t0.647500\tChild speech, kid speaking",
        "0.333333\t2.000000\tBark",
    ]


def test_selections_for_raven(tmp_path):
    lines = written(tmp_path, tables.write_raven_table, "a/one.wav", EVENTS, NAMES, LogMelConfig())
    heading, first, second = (line.split("\t") for line in lines)
    assert heading[:7] == [
        *(
            "Selection",
            "View",
            "Channel",
            "Begin Time (s)",
            "End Time (s)",
            "Low Freq (Hz)",
            "High Freq (Hz)",
        )
    ]
    assert first == [
        *("1", "Spectrogram 1", "1", "0.000000", "0.647500", "50", "8000", "one.wav"),
        *("Child speech, kid speaking", "0.75"),
    ]
    assert second[0] == "2" and len(second) == len(heading)
