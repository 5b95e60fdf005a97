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
            shown.update(failed=index < 3)
    assert lines == ["20 of 100 clips, 2.0 clips/s, 3 failed", "40 of 100 clips, 2.0 clips/s, 3 failed"]
    assert (shown.done, shown.failed, shown.seconds, shown.clips_per_second) == (50, 3, 25.0, 2.0)


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.Progress(2, pytest.fail) as shown:
        shown.update(failed=False)
        shown.update(failed=True)
    stderr = capsys.readouterr().err
    assert "2/2" in stderr and "failed=1" in stderr
