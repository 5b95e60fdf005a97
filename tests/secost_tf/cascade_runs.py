"""What tests of cascades read of a run, and how they stop one."""

import contextlib
import json
from pathlib import Path

import pytest

from secost_tf.training import callbacks


@contextlib.contextmanager
def stopped_at(stage: int, epoch: int, step: int):
    """Within the block, training stops as by Ctrl-C after a step (from 0) of an epoch (from 1) of a
    stage.
    """
    plain = callbacks.Progress.on_train_batch_end

    def interrupted(self, batch, logs=None):
        plain(self, batch, logs)
        if (self.label, self.epoch + 1, batch) == (f"stage {stage}", epoch, step):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.Progress, "on_train_batch_end", interrupted)
        yield


def fail_to_make_a_strategy():
    pytest.fail("made a strategy")


def summary_of(run_dir) -> list[dict]:
    return json.loads(Path(run_dir, "summary.json").read_text())


def assert_same_figures(rows, expected) -> None:
    """Every number to 1e-6, everything else alike."""
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert set(row) == set(other)
        for name, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[name], abs=1e-6), name
            else:
                assert value == other[name], name


def metrics_of(run_dir, stage: int) -> dict:
    """What `metrics.json` holds but for the times."""
    figures = json.loads(Path(run_dir, f"stage-{stage}", "metrics.json").read_text())
    return {name: value for name, value in figures.items() if not name.endswith("_seconds")}
