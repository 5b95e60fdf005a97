import subprocess
import sys
import types

import pytest
from absl import flags

from tfrecord_tools import commands


@pytest.fixture
def run(command):
    """Runs `main` as a command."""

    def run_main(main, *arguments, **options):
        module = types.SimpleNamespace(
            __name__="some_command", run=lambda: commands.run_command(main, **options)
        )
        return command(module, *arguments)

    return run_main


def test_status_is_what_main_returns(run):
    assert run(lambda argv: None)[0] == 0
    assert run(lambda argv: 3)[0] == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("alpha: expected 0 to 1, got 2"), "error: alpha: expected 0 to 1, got 2\n"),
        (FileNotFoundError(2, "No such file", "x.csv"), "error: x.csv: No such file\n"),
        (
            OSError(28, "No space left on device"),
            "error: No space left on device; make room, and the same command continues\n",
        ),
        (OSError(), "error: OSError\n"),
    ],
)
def test_a_user_s_error_is_one_paragraph(run, error, message):
    def main(argv):
        raise error

    status, _, stderr = run(main)
    assert (status, stderr) == (1, message)


def test_verbosity_1_shows_the_traceback(run):
    def main(argv):
        raise ValueError("wrong")

    status, _, stderr = run(main, "--verbosity=1")
    assert status == 1 and "Traceback" in stderr and stderr.endswith("error: wrong\n")
    flags.FLAGS.verbosity = 0


def test_other_errors_are_the_program_s_own(monkeypatch):
    def main(argv):
        raise KeyError("bug")

    monkeypatch.setattr(sys, "argv", ["some_command"])
    with pytest.raises(KeyError, match="bug"):
        commands.run_command(main)
    flags.FLAGS.unparse_flags()


def test_interrupt(run):
    def main(argv):
        raise KeyboardInterrupt

    status, _, stderr = run(main)
    assert status == 130 and "continues" in stderr
    status, _, stderr = run(main, continues=False)
    assert status == 130 and stderr.endswith("\ninterrupted\n")


def test_arguments_are_refused_unless_the_command_takes_them(run):
    def main(argv):
        return len(argv)

    status, _, stderr = run(main, "folder")
    assert status == 1 and "unexpected argument 'folder'" in stderr
    assert run(main, "folder", takes_arguments=True)[0] == 2


def test_flags_are_defined_for_main():
    code = """
import dataclasses
from absl import flags
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import Config, setting
@dataclasses.dataclass(frozen=True)
class Settings(Config):
    number: int = setting(1, "A number.")
run_command(lambda argv: flags.FLAGS.number, Settings)
"""
    for argument, status, said in (
        ("--number=7", 7, ""),
        (
            "--number=x",
            1,
            "error: flag --number=x: expected a whole number (see --help)\n",
        ),
        (
            "--nummer=7",
            1,
            "error: Unknown command line flag 'nummer'. Did you mean: number ? (see --help)\n",
        ),
    ):
        command = [sys.executable, "-c", code, argument]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (status, said)


def test_exit_status_survives_the_destructors_of_tensorflow_io():
    """What aborts the process at its end, after a command that used object storage, is not run."""
    code = """
import atexit, sys, types
from tfrecord_tools.commands import run_command
sys.modules["tensorflow_io"] = types.ModuleType("tensorflow_io")
class AbortsWhenDestroyed:
    def __del__(self):
        import os
        os.abort()
sys.modules["tensorflow_io"].client = AbortsWhenDestroyed()
atexit.register(print, "tidied up")
def main(argv):
    print("done")
    return 3
run_command(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "done\ntidied up\n")
