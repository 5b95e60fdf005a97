"""Stages that are trained with an alpha for each class."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from secost_tf.reporting import page_data
from secost_tf.reporting.tables import format_summary
from secost_tf.runs import StageFolder
from secost_tf.training import callbacks, tensorboard
from secost_tf.training import stage as stages
from secost_tf.training.cascade import run_cascade
from tfrecord_tools.datasets import read_class_values


@pytest.fixture
def begun(kept_run, tmp_path) -> str:
    """A run folder that holds stage 0 of `kept_run`."""
    shutil.copytree(Path(kept_run, "stage-0"), tmp_path / "run" / "stage-0")
    return str(tmp_path / "run")


@pytest.fixture
def no_training(monkeypatch):
    """Makes it a failure to train a stage."""
    monkeypatch.setattr(stages, "train_stage", lambda *args: pytest.fail("trained a stage"))


def test_given_alphas_reach_the_loss(kept_run, kept_data, cascade_config, begun, one_device):
    """0.3 in each class, whatever alpha is, trains as alpha 0.3 does."""
    config = dataclasses.replace(cascade_config(1, 0.9), class_alphas=(0.3,) * 4)
    rows = run_cascade(config, kept_data, begun, one_device)
    expected = json.loads(Path(kept_run, "summary.json").read_text())[1]
    for name in ("mAP", "mAUC", "lwlrap"):
        assert rows[1][name] == pytest.approx(expected[name], abs=1e-5)
    assert (rows[1]["alpha"], rows[1]["alpha_note"]) == (0.9, "per class")
    assert " 0.9 per class " in format_summary(rows)
    assert page_data.read_run(begun).stages[1].alpha_note == "per class"


def test_a_stage_that_was_stopped_continues_with_the_alphas_of_its_table(
    kept_data, cascade_config, begun, one_device, monkeypatch
):
    """The table beside the stage gives back the very numbers, also those of older versions, which
    estimated them.
    """
    alphas, plain = (0.1234, 0.3, 1.0, 0.0), callbacks.Progress.on_train_batch_end
    config = dataclasses.replace(cascade_config(1), class_alphas=alphas)

    def interrupted(self, batch, logs=None):
        plain(self, batch, logs)
        if self.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callbacks.Progress, "on_train_batch_end", interrupted)
        run_cascade(config, kept_data, begun, one_device)
    path = Path(begun, "stage-1", "config.json")
    written = json.loads(path.read_text())
    written["stage"] |= {"auto_alphas": [], "estimate_class_alphas": True}
    path.write_text(json.dumps(written))
    record = StageFolder(begun, 1).record
    path = str(Path(begun, "stage-1", "alpha_per_class.csv"))
    table = read_class_values(path, record.class_map, "alpha")
    assert table == record.config.class_alphas == alphas
    rows = run_cascade(
        dataclasses.replace(config, class_alphas=table), kept_data, begun, one_device
    )
    assert rows[1]["alpha_note"] == "per class"
    assert tensorboard.hparams_of(record)["alpha_note"] == "per class"


def test_a_kept_stage_with_other_alphas_is_an_error(
    kept_run, kept_data, cascade_config, no_training
):
    for stage in (1, 2):  # the last one, and one before
        config = dataclasses.replace(cascade_config(stage), class_alphas=(None, 0.5, None, None))
        message = r"stage-1 is done, .* class_alphas: \(\) != \(None, 0\.5, None, None\)"
        with pytest.raises(ValueError, match=message):
            run_cascade(config, kept_data, kept_run, lambda: pytest.fail("made a strategy"))


def test_a_stage_begun_with_other_alphas_is_an_error(
    kept_run, kept_data, cascade_config, begun, one_device
):
    shutil.copytree(Path(kept_run, "stage-1"), Path(begun, "stage-1"))
    Path(begun, "stage-1", "metrics.json").unlink()
    message = (
        r"stage-1 was begun with other settings \(there != asked\): class_alphas: \(\) != \(0\."
    )
    with pytest.raises(ValueError, match=message):
        config = dataclasses.replace(cascade_config(1), class_alphas=(0.5,) * 4)
        run_cascade(config, kept_data, begun, one_device)
