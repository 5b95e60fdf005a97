"""Several processes on one machine that train together, one of them killed."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from networks import SMALL_FLAGS

from secost_tf.models.backend import KERAS_3
from secost_tf.training import devices, workers

REPOSITORY = Path(__file__).resolve().parents[3]


def test_one_worker_waits_for_nobody():
    alone = workers.Workers(tf.distribute.get_strategy())
    assert (alone.index, alone.count, alone.is_chief, alone.local_replicas) == (0, 1, True, 1)
    assert alone.any(True) and not alone.any(False)
    alone.wait()
    alone.check_same("anything")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "it is not set"),
        ("{", "got '{'"),
        ('{"cluster": {"worker": ["a:1"]}}', "'task'"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "list index out of range",
        ),
        (
            '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
            "only chief and worker are known",
        ),
    ],
)
def test_a_cluster_that_is_not_described_is_an_error(monkeypatch, text, found):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(
        ValueError, match="multi_worker reads TF_CONFIG, on each worker its own index"
    ) as caught:
        devices.cluster_config()
    assert found in str(caught.value)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 trains with several workers")
def test_keras_3_cannot_and_says_so(monkeypatch):
    with pytest.raises(
        ValueError, match=r"Python 3\.10 or 3\.11 .*keras-team/keras#20585.*--strategy=mirrored"
    ):
        devices.make_strategy("multi_worker")


def test_workers_need_data_that_they_share(command):
    from secost_tf import train

    status, _, said = command(train, "--strategy=multi_worker")
    assert status == 1 and "data_dir: must be given with --strategy=multi_worker" in said


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start(command, workers: int = 0) -> list[subprocess.Popen]:
    """Start Python with these arguments, alone or as several workers."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(workers)]}
    environments = [
        {
            **os.environ,
            "TF_CONFIG": json.dumps(
                {"cluster": cluster, "task": {"type": "worker", "index": index}}
            ),
        }
        for index in range(workers)
    ]
    return [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=REPOSITORY,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for env in environments or [None]
    ]


def start_training(flags, workers: int = 0) -> list[subprocess.Popen]:
    flags = [*flags, *["--strategy=multi_worker"] * bool(workers)]
    return start(["-m", "secost_tf.train", *flags], workers)


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Wait for processes; return the exit status and the messages of each."""
    said = [process.communicate()[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


_AGREEMENT = """
from secost_tf.training import devices, workers

pair = workers.Workers(devices.make_strategy("multi_worker"))
assert (pair.count, pair.is_chief, pair.local_replicas) == (2, pair.index == 0, 1)
assert pair.any(pair.index == 1) and not pair.any(False)
pair.wait()
pair.check_same("the same")
try:
    pair.check_same(f"run {pair.index}")
except ValueError as error:
    assert f"do not see the same run (worker {pair.index}: run {pair.index})" in str(error)
else:
    raise AssertionError("two runs were taken for the same")
"""


@pytest.mark.skipif(KERAS_3, reason="Keras 3 cannot train with several workers")
def test_two_workers_agree():
    assert finish(start(["-c", _AGREEMENT], workers=2)) == [(0, ""), (0, "")]


def figures(run_dir: Path) -> np.ndarray:
    """Loss and validation figures of every epoch of two stages, then what the stages scored."""
    rows = []
    for stage in ("stage-0", "stage-1"):
        with open(run_dir / stage / "history.csv", newline="") as stream:
            rows += [
                [float(row[name]) for name in ("loss", "val_loss", "val_mAP")]
                for row in csv.DictReader(stream)
            ]
    summary = json.loads((run_dir / "summary.json").read_text())
    return np.array(rows + [[row["mAP"], row["mAUC"], row["lwlrap"]] for row in summary])


@pytest.mark.slow
@pytest.mark.skipif(KERAS_3, reason="Keras 3 cannot train with several workers")
@pytest.mark.timeout(900)  # two minutes on a machine that does nothing else
def test_two_workers_train_as_one_and_a_lost_one_is_made_up_for(tmp_path, write_split):
    def same_length(clips):  # a worker pads to the longest of its own clips
        return [
            dataclasses.replace(clip, log_mel=np.resize(clip.log_mel, (64, clip.log_mel.shape[1])))
            for clip in clips
        ]

    for split, sizes in (("train", (11, 9, 10)), ("eval", (7, 5))):
        write_split(tmp_path / "data", split, sizes, change=same_length)
    flags = [
        f"--data_dir={tmp_path / 'data'}",
        "--stage=1",
        "--epochs=3",
        "--batch_size=8",
        *SMALL_FLAGS,
    ]
    flags += [
        "--validation_share=0.2",
        "--seed=1",
        "--mixup_alpha=0.5",
        "--ema=0.9",
        "--clip_norm=1",
    ]
    flags += ["--precision=float32"]  # in bfloat16 workers differ by what they round

    two = [*flags, f"--run_dir={tmp_path / 'two'}"]
    pair = start_training(two, workers=2)
    history = tmp_path / "two" / "stage-0" / "history.csv"
    while not history.exists() and pair[0].poll() is None:
        time.sleep(0.01)
    pair[1].send_signal(signal.SIGKILL)
    (status, said), (killed, _) = finish(pair)
    assert killed == -signal.SIGKILL
    assert status == 143, said
    assert (
        "stopped since another worker is gone, or cannot be reached: start all 2 workers again"
        in said
    )
    assert not (tmp_path / "two" / "stage-0" / "metrics.json").exists()

    (status, said), (other, other_said) = finish(start_training(two, workers=2))
    assert (status, other) == (0, 0), said + other_said
    assert "stage 0 continues after epoch" in said

    alone = start_training([*flags, "--input_streams=2", f"--run_dir={tmp_path / 'one'}"])
    ((status, said),) = finish(alone)
    assert status == 0, said
    np.testing.assert_allclose(
        figures(tmp_path / "two"), figures(tmp_path / "one"), rtol=1e-4, atol=1e-4
    )
