"""What the tests of both packages share."""

from __future__ import annotations

import sys

import pytest
from absl import flags

from tfrecord_tools import commands

# The files that take longest; begun first, so that parallel workers end together.
_LONG = (
    "test_workers",
    "test_distillation",
    "test_stage",
    "test_distillation_in_keras",
    "test_cascade",
    "test_cascade_restarts",
    "test_report",
    "test_pipeline",
    "test_train",
    "test_experiments",
)


def pytest_collection_modifyitems(items):
    """Long files first, the rest as it is; with `--no-loadscope-reorder` that is the order of the
    work.
    """
    items.sort(
        key=lambda item: _LONG.index(item.path.stem) if item.path.stem in _LONG else len(_LONG)
    )


@pytest.fixture
def flags_defined_anew():
    """Undefines, at the end, the flags that the test defined."""
    before = set(flags.FLAGS)
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command in this process: (exit status, what it printed, what it said on stderr)."""

    def run(module, *arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(commands, "_exit_at_once", lambda status: None)  # would end the tests
        before = set(flags.FLAGS)
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as stopped:
                module.run()
        finally:
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)
            flags.FLAGS.unparse_flags()
        printed = capsys.readouterr()
        return stopped.value.code or 0, printed.out, printed.err

    return run
