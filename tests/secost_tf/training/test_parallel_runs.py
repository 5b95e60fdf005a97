import signal
import subprocess
import sys

import pytest

from secost_tf.training.parallel_runs import run_side_by_side

WAITS = "import sys, time; print('ready', file=sys.stderr, flush=True); time.sleep(600)"


def python(script):
    return [sys.executable, "-c", script]


def test_lines_come_behind_the_name_of_each(capsys):
    run_side_by_side(
        {
            name: python(f"import sys; print('{name} one\\ntwo', file=sys.stderr)")
            for name in ("a", "b")
        }
    )
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "a | a one",
        "a | two",
        "b | b one",
        "b | two",
    ]


def test_they_run_at_the_same_time(tmp_path):
    """Each waits for the other's file."""
    script = (
        "import pathlib, time\npathlib.Path({0!r}).touch()\n"
        "while not pathlib.Path({1!r}).exists(): time.sleep(0.01)"
    )
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    run_side_by_side(
        {"a": python(script.format(first, second)), "b": python(script.format(second, first))}
    )


def test_one_that_fails_is_named_and_ends_the_others():
    with pytest.raises(
        ValueError, match=r"bad ended with status 3, see its lines above; .* continues"
    ):
        run_side_by_side({"good": python(WAITS), "bad": python("raise SystemExit(3)")})


def test_a_signal_reaches_them_and_they_are_waited_for(tmp_path):
    """The child writes a file when it is told to end, before it does."""
    child = (
        "import pathlib, signal, sys, time\n"
        f"def end(*_): time.sleep(0.2); pathlib.Path({str(tmp_path / 'ended')!r}).touch(); "
        f"sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', file=sys.stderr, flush=True); time.sleep(600)"
    )
    parent = (
        "import signal, sys\nfrom secost_tf.training.parallel_runs import run_side_by_side\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"run_side_by_side({{'child': [sys.executable, '-c', {child!r}]}})"
    )
    with subprocess.Popen(python(parent), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "child | ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 143
    assert (tmp_path / "ended").exists()
