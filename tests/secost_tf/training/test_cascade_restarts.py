"""Cascades that are stopped, at any moment and by any means, and continued."""

import csv
import itertools
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cascade_runs import assert_same_figures, stopped_at, summary_of

from secost_tf.runs import StageFolder, load_student
from secost_tf.training.cascade import run_cascade

REPOSITORY = Path(__file__).parents[3]


def test_the_best_epoch_s_weights_are_the_student(kept_data, cascade_config, begun, one_device):
    """Stopped after its last epoch, a stage goes on with the weights that it kept, here marked by
    hand.
    """
    run_dir = begun(0)
    path = Path(run_dir, "stage-0", "checkpoints", "training-state.npz")
    with np.load(path) as file:
        state = dict(file)
    marked = {
        name: np.full_like(value, 0.25) for name, value in state.items() if name.startswith("best_")
    }
    np.savez(path, **{**state, **marked})
    Path(run_dir, "stage-0", "metrics.json").unlink()
    run_cascade(cascade_config(0), kept_data, run_dir, one_device)
    assert len(marked) == len(load_student(run_dir, 0).get_weights())
    assert all((weight == 0.25).all() for weight in load_student(run_dir, 0).get_weights())


def test_a_stage_stopped_half_way_is_continued(
    kept_run, kept_data, cascade_config, begun, files_of, one_device
):
    run_dir = begun(0)
    before = files_of(Path(run_dir, "stage-0"))
    with stopped_at(stage=1, epoch=2, step=1), pytest.raises(KeyboardInterrupt):
        run_cascade(cascade_config(1), kept_data, run_dir, one_device)
    assert not StageFolder(run_dir, 1).is_done

    message = (
        r"stage-1 was begun with other settings \(there != asked\): .*learning_rate: 0\.003 != "
        r"0\.5.*Continue with "
        r"the same settings, choose another --run_dir, or delete .*stage-1"
    )
    with pytest.raises(ValueError, match=message):
        run_cascade(cascade_config(1, learning_rate=0.5), kept_data, run_dir, one_device)

    rows = run_cascade(cascade_config(1), kept_data, run_dir, one_device)
    assert_same_figures(rows, summary_of(kept_run)[:2])
    assert files_of(Path(run_dir, "stage-0")) == before  # the teacher is as it was
    with open(Path(run_dir, "stage-1", "history.csv"), newline="") as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["1", "2"]


_CHILD = """
import json, sys, time
import tensorflow as tf
from secost_tf.runs import CascadeConfig, RunOptions, TrainConfig
from secost_tf.training import callbacks, run_cascade
from secost_tf.training.preemption import preemption

plain = callbacks.Progress.on_train_batch_end

def wait_for_the_signal(self, step, logs=None):
    plain(self, step, logs)
    if (self.label, self.epoch, step) == ("stage 1", 1, 1):
        print("in the middle", flush=True)
        # Not `signal.pause`, which misses a signal that came before it.
        while not preemption.requested:
            time.sleep(0.01)

callbacks.Progress.on_train_batch_end = wait_for_the_signal
preemption.install()
minutes, data_dir, run_dir, alphas, network, train = sys.argv[1:]
train = TrainConfig(**json.loads(train))
config = CascadeConfig(1, tuple(json.loads(alphas)), json.loads(network), train)
run_cascade(config, data_dir, run_dir, tf.distribute.get_strategy,
            RunOptions(float(minutes)))
"""


@pytest.mark.parametrize(
    ("signal_sent", "minutes", "steps_kept"),
    [
        pytest.param(signal.SIGKILL, 10, 0, marks=pytest.mark.slow),  # that of the epoch before
        pytest.param(signal.SIGKILL, 0, 2, marks=pytest.mark.slow),  # one a step
        (signal.SIGTERM, 10, 3),  # a checkpoint at the end of the step after
    ],
)
def test_a_stopped_run_is_continued(
    kept_run, kept_data, cascade_config, begun, one_device, signal_sent, minutes, steps_kept, caplog
):
    run_dir, config = begun(0), cascade_config(1)
    settings = [
        json.dumps(value) for value in (config.alphas, config.network, config.train.to_dict())
    ]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(minutes), kept_data, run_dir, *settings],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "in the middle\n"
    child.send_signal(signal_sent)
    _, said = child.communicate()
    if signal_sent == signal.SIGTERM:
        assert child.returncode == 143
        assert f"stopped by SIGTERM: the state is saved at step {steps_kept} of epoch 2 in" in said
    else:
        assert child.returncode == -signal.SIGKILL
    folder = Path(run_dir, "stage-1")
    assert (folder / "checkpoints" / "training-state.npz").exists() and not (
        folder / "metrics.json"
    ).exists()
    with caplog.at_level("INFO"):
        run_cascade(config, kept_data, run_dir, one_device)
    assert f"stage 1 continues after epoch 1 of 2, step {steps_kept} of" in caplog.text
    assert_same_figures(summary_of(run_dir), summary_of(kept_run)[:2])
    figures = []
    for run in (run_dir, kept_run):
        with open(Path(run, "stage-1", "history.csv"), newline="") as stream:
            figures.append(
                [
                    [float(cell) for cell in row[:-1]]
                    for row in itertools.islice(csv.reader(stream), 1, None)
                ]
            )
    np.testing.assert_allclose(
        *figures, rtol=1e-4, atol=3e-5
    )  # the mean over the epoch too, of which one part came before


def test_scores_that_are_gone_are_made_again_as_the_message_says(
    kept_run, kept_data, cascade_config, begun, one_device, files_of
):
    run_dir = begun(0)
    scores = Path(run_dir, "stage-0", "teacher_scores")
    before = files_of(scores)
    shutil.rmtree(scores)
    message = (
        rf"scores of clips train-clip-000, .* are missing; .*delete {scores} and the stage's "
        r"metrics\.json"
    )
    with pytest.raises(ValueError, match=message):
        run_cascade(cascade_config(1), kept_data, run_dir, one_device)
    Path(run_dir, "stage-0", "metrics.json").unlink()
    rows = run_cascade(cascade_config(0), kept_data, run_dir, one_device)
    assert_same_figures(rows, summary_of(kept_run)[:1])
    assert files_of(scores) == before
