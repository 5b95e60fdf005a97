"""What the tests of both packages share."""

from __future__ import annotations

import sys

import pytest
from absl import flags

from tfrecord_tools import commands


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command in this process: (exit status, what it printed, what it said on stderr)."""

    def run(module, *arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(commands, "_exit_at_once", lambda status: None)  # would end the tests
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as stopped:
                module.run()
        finally:
            for flag in flags.FLAGS.get_flags_for_module(module.__name__):
                delattr(flags.FLAGS, flag.name)
            flags.FLAGS.unparse_flags()
        printed = capsys.readouterr()
        return stopped.value.code or 0, printed.out, printed.err

    return run
