"""The command on a recording and on a pipe, with a model of random weights."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from secost_tf import monitor
from secost_tf.detection import stream
from secost_tf.detection.screen import Screen
from secost_tf.detection.stream import EventTracker
from secost_tf.serving.waveforms import encode_wav

RATE = 16000
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Six seconds whose loudness changes every second."""
    generator = np.random.default_rng(0)
    levels = np.repeat([0.001, 0.5, 0.01, 0.3, 0.0001, 0.1], RATE)
    return np.clip(levels * generator.standard_normal(len(levels)), -1, 1)


@pytest.fixture
def recording(tmp_path, sound) -> str:
    path = tmp_path / "sound.wav"
    path.write_bytes(encode_wav(sound, RATE))
    return str(path)


@pytest.fixture(scope="module")
def expected(kept_servable, sound):
    """The events of the whole recording at once, at a threshold that the scores cross."""
    waveform = np.frombuffer(encode_wav(sound, RATE)[44:], "<i2").astype(np.float32) / 32768
    scores = kept_servable.run("serving_default", {"waveform": waveform[None]})["segment_scores"][0]
    complete = (len(waveform) - 15360) // 5120 + 1
    threshold = float(np.quantile(scores[:complete], 0.6))
    tracker, events = EventTracker(threshold, 0.1), []
    for segment in range(complete):
        events += tracker.add(0.32 * segment + 0.32, scores[segment])
    events += tracker.end(len(waveform) / RATE)
    assert len(events) > 4
    return threshold, events


def arguments(kept_export, expected) -> list[str]:
    threshold, _ = expected
    # A window as long as the recording, so that each segment has all that is before it for its
    # context.
    return [
        f"--saved_model={Path(kept_export).parent}",
        f"--threshold={threshold!r}",
        "--hysteresis=0.1",
        "--window_seconds=10",
    ]


def test_a_recording(kept_export, recording, expected, command):
    status, printed, stderr = command(
        monitor, *arguments(kept_export, expected), f"--input={recording}"
    )
    assert status == 0, stderr
    lines = printed.splitlines()
    assert lines and all(" begins" in line or " ends after " in line for line in lines)
    assert sum(" begins" in line for line in lines) == sum(" ends" in line for line in lines)
    times = [float(line.split()[0]) for line in lines]
    assert times == sorted(times) and times[-1] <= 6.0


def test_a_pipe_is_heard_as_the_recording_is(kept_export, recording, sound, expected, command):
    given = arguments(kept_export, expected)
    script = [sys.executable, "-m", "secost_tf.monitor", *given, "--input=-"]
    raw = encode_wav(sound, RATE)[44:]
    piped = subprocess.run(script, cwd=REPOSITORY, input=raw, capture_output=True)
    assert piped.returncode == 0, piped.stderr
    _, read, _ = command(monitor, *given, f"--input={recording}")
    assert piped.stdout.decode() == read != ""


def test_events_are_those_of_the_segment_scores(kept_export, sound):
    """Each segment's score in the stream is that of the model on the window that ends with it."""
    model = stream.Model(kept_export)
    assert model.names == ("Bark", "Bell", "Rain", "Siren") and model.title == "secost, version 1"
    assert (model.grid.stride_samples, model.grid.segment_samples) == (5120, 15360)
    scorer = stream.StreamScorer(model.score_segments, model.grid, window_strides=5)
    waveform = sound.astype(np.float32)
    found = [
        pair
        for start in range(0, len(waveform), 5120)
        for pair in scorer.add(waveform[start : start + 5120])
    ]
    assert [segment for segment, _ in found] == list(range(16))
    for segment, scores in found[2:]:
        window = waveform[(segment - 2) * 5120 : segment * 5120 + 15360]
        np.testing.assert_array_equal(scores, model.score_segments(window)[2])


def test_ctrl_c_ends_it_in_order(kept_export, capsys):
    model = stream.Model(kept_export)

    def blocks():
        yield np.zeros(RATE, np.float32)
        raise KeyboardInterrupt

    tracker = EventTracker(1e-6, 0.0)  # everything is an event
    scorer = stream.StreamScorer(model.score_segments, model.grid, 3)
    screen = Screen(sys.stdout, model.names, model.title, 3, is_terminal=False)
    monitor.monitor(blocks(), scorer, tracker, model.grid, screen)
    said = [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()]
    assert said[:4] == [f"{name} begins" for name in model.names]
    assert [line.split(" after ")[0] for line in said[4:]] == [
        f"{name} ends" for name in model.names
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--input=none.wav"],
            "input: expected a file, - or microphone; there is no file 'none.wav'",
        ),
        (
            ["--input=-", "--threshold=0.2", "--hysteresis=1"],
            "flag --hysteresis=1: expected a number, 0 or more, below 1",
        ),
        (["--input=-", "--window_seconds=0.5"], "window: expected 3 segments or more, got 2"),
    ],
)
def test_what_is_wrong_is_said(kept_export, options, message, command):
    status, printed, stderr = command(monitor, f"--saved_model={kept_export}", *options)
    assert (status, printed) == (1, "") and message in stderr and "Traceback" not in stderr


def test_a_folder_without_a_model(tmp_path, command):
    status, _, stderr = command(monitor, f"--saved_model={tmp_path}", "--input=-")
    assert status == 1 and "Make one with python -m secost_tf.export" in stderr
