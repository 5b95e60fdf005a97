import sys
import types

import pytest

from tfrecord_tools import progress


def test_a_line_every_ten_seconds(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: now))
    lines = []
    with progress.Progress(100, lines.append) as shown:
        for index in range(50):
            now += 0.5
            shown.update(None if index < 3 else 36.0)
    assert lines == [
        "20 of 100 clips, 2.0 clips/s, 0.17 h of sound, 3 failed, 00:40 left",
        "40 of 100 clips, 2.0 clips/s, 0.37 h of sound, 3 failed, 00:30 left",
    ]
    assert (shown.done, shown.failed, shown.seconds, shown.clips_per_second) == (50, 3, 25.0, 2.0)


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.Progress(2, pytest.fail) as shown:
        shown.update(1.0)
        shown.update(None)
    stderr = capsys.readouterr().err
    assert "2/2" in stderr and "1 failed" in stderr
