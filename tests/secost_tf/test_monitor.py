"""The command on a recording and on a pipe, with a model of random weights."""

import csv
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from secost_tf import localize, monitor
from secost_tf.serving.waveforms import encode_wav

RATE = 16000
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Twelve seconds whose loudness changes every half second."""
    generator = np.random.default_rng(0)
    levels = np.repeat(10 ** generator.uniform(-4, -1, 24), RATE // 2)
    return np.clip(levels * generator.standard_normal(len(levels)), -1, 1)


@pytest.fixture
def recording(tmp_path, sound) -> str:
    path = tmp_path / "sound.wav"
    path.write_bytes(encode_wav(sound, RATE))
    return str(path)


@pytest.fixture(scope="module")
def flags(kept_export, kept_servable, sound) -> list[str]:
    """The model, and how events are made, at a threshold that the scores cross."""
    waveform = np.float32(sound[None])
    scores = kept_servable.run("serving_default", {"waveform": waveform})["segment_scores"]
    threshold = float(np.quantile(scores, 0.6)) + 1e-6
    return [
        f"--saved_model={Path(kept_export).parent}",
        f"--threshold={threshold!r}",
        *("--hysteresis=0.1", "--min_event_seconds=0.5"),
    ]


def test_a_recording_s_events_are_those_of_localize(flags, recording, tmp_path, command):
    status, printed, stderr = command(monitor, *flags, f"--input={recording}")
    assert status == 0, stderr
    out = tmp_path / "out"
    status, _, stderr = command(localize, *flags, f"--out={out}", "--nopictures", recording)
    assert status == 0, stderr
    with open(out / "events.tsv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len(rows) > 4
    begun = [re.fullmatch(r" *(\S+) s  (\w+) begins", line) for line in printed.splitlines()]
    assert sorted((f"{float(row['onset']):.2f}", row["event_label"]) for row in rows) == sorted(
        match.groups() for match in begun if match
    )
    ended = [
        re.fullmatch(r" *(\S+) s  (\w+) ends after (\S+) s, peak (\S+)", line)
        for line in printed.splitlines()
    ]
    assert sum(map(bool, begun)) + sum(map(bool, ended)) == len(printed.splitlines())
    for row in rows:
        onset, offset = float(row["onset"]), float(row["offset"])
        line = (f"{offset:.2f}", row["event_label"], f"{offset - onset:.2f}")
        (match,) = (match for match in ended if match and match.groups()[:3] == line)
        assert abs(float(match[4]) - float(row["score"])) <= 0.005 + 1e-5


def test_a_pipe_is_heard_as_the_recording_is(flags, recording, sound, command):
    script = [sys.executable, "-m", "secost_tf.monitor", *flags, "--input=-"]
    raw = encode_wav(sound, RATE)[44:]
    piped = subprocess.run(script, cwd=REPOSITORY, input=raw, capture_output=True)
    assert piped.returncode == 0, piped.stderr
    _, read, _ = command(monitor, *flags, f"--input={recording}")
    assert piped.stdout.decode() == read != ""


def test_a_reader_that_has_enough_ends_it_quietly(flags, recording):
    script = [sys.executable, "-m", "secost_tf.monitor", *flags, f"--input={recording}"]
    with subprocess.Popen(
        script, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()  # before the first line, as head does after the last that it wants
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_on_a_terminal_there_is_a_table_until_the_end(flags, recording):
    ours, theirs = pty.openpty()
    script = [sys.executable, "-m", "secost_tf.monitor", *flags, f"--input={recording}"]
    with subprocess.Popen(
        [*script, "--noreal_time"],
        cwd=REPOSITORY,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        assert process.stderr.read() == b""
    os.close(ours)
    assert process.returncode == 0
    text = shown.decode()
    assert "secost, version 1: " in text and "█" in text
    assert text.index("begins") < text.index("ends after")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


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
        (["--input=-", "--threshold=tuned"], "threshold: tuned needs --run_dir"),
        (["--input=-", "--hop_scale=3"], "hop_scale: expected a divisor of the 32 frames"),
    ],
)
def test_what_is_wrong_is_said(kept_export, options, message, command):
    status, printed, stderr = command(monitor, f"--saved_model={kept_export}", *options)
    assert (status, printed) == (1, "") and message in stderr and "Traceback" not in stderr


def test_a_file_that_is_no_sound(kept_export, tmp_path, command):
    path = tmp_path / "text.wav"
    path.write_text("no sound")
    status, _, stderr = command(monitor, f"--saved_model={kept_export}", f"--input={path}")
    assert status == 1 and f"error: {path}: unreadable: " in stderr


def test_a_folder_without_a_model(tmp_path, command):
    status, _, stderr = command(monitor, f"--saved_model={tmp_path}", "--input=-")
    assert status == 1 and "Make one with python -m secost_tf.export" in stderr
