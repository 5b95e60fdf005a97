import sys
import types

import pytest

from tfrecord_tools import progress


def test_a_line_every_ten_seconds(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: now))
    lines = []
    with progress.ClipProgress(100, lines.append) as shown:
        for index in range(50):
            now += 0.5
            shown.add(None if index < 3 else 36.0)
    assert lines == [
        "20 of 100 clips, 2.0 clips/s, 0.17 h of sound, 3 failed, 00:40 left",
        "40 of 100 clips, 2.0 clips/s, 0.37 h of sound, 3 failed, 00:30 left",
    ]
    assert (shown.done, shown.failed, shown.seconds, shown.speed) == (50, 3, 25.0, 2.0)


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.ClipProgress(2, pytest.fail) as shown:
        shown.add(1.0)
        shown.add(None)
    stderr = capsys.readouterr().err
    assert "2/2" in stderr and "1 failed" in stderr


def test_a_label_a_note_and_what_was_done_before(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: now))
    lines = []
    with progress.Progress(
        10, lines.append, unit="step", label="work", first=4, every_seconds=60
    ) as shown:
        for _ in range(3):
            now += 40
            shown.update(2, lambda: "loss 0.5")
    assert lines == ["work: 8 of 10 steps, 0.1 steps/s, loss 0.5, 00:40 left"]
    assert shown.done == 10
