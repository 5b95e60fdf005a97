import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from networks import SMALL_FLAGS

from secost_tf import train
from secost_tf.models.config import WelsNetConfig
from secost_tf.runs.settings import CascadeConfig, TrainConfig
from secost_tf.training import flags as training_flags
from secost_tf.training import stage as stages
from tfrecord_tools.config_flags import define_flags

REPOSITORY = Path(__file__).parents[2]
SMALL = (  # the settings of `kept_run`
    *SMALL_FLAGS,
    "--epochs=2",
    "--batch_size=4",
    "--learning_rate=3e-3",
    "--validation_share=0.3",
    "--seed=1",
)


@pytest.fixture
def parse(flags_defined_anew):
    """Parses arguments with the command's flags, which are undefined again afterwards."""

    def parsed(*arguments):
        define_flags(*train.SETTINGS)
        flags.FLAGS(["train", *arguments])

    return parsed


@pytest.fixture
def copied_run(kept_run, tmp_path) -> Path:
    return Path(shutil.copytree(kept_run, tmp_path / "run"))


def python(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True
    )


# --- flags ---


def test_flags_become_the_settings(parse):
    parse(
        "--stage=2",
        "--alpha=0.3,0.25",
        "--teacher_stages=0,1",
        "--noprerequisites",
        "--width=0.5",
        "--pooling=top_k",
        "--pooling_k=4",
        "--block_channels=8,16",
        "--block_pools=4,8",
        "--block_convolutions=3",
        "--hidden_channels=",
        "--epochs=3",
        "--batch_size=8",
        "--optimizer=SGD",
        "--learning_rate=0.01",
        "--warmup_share=0.2",
        "--validation_share=0.05",
        "--shuffle_clips=99",
        "--seed=7",
        "--teacher=online",
    )
    assert training_flags.read_cascade_flags() == CascadeConfig(
        stage=2,
        alphas=(0.3, 0.25),
        network={
            "width": 0.5,
            "pooling": "top_k",
            "pooling_k": 4,
            "block_convolutions": 3,
            "block_channels": (8, 16),
            "block_pools": (4, 8),
            "hidden_channels": (),
        },
        train=TrainConfig(3, 8, "SGD", 0.01, 0.2, 0.05, 99, 7, teacher="online"),
        teacher_stages=(0, 1),
        prerequisites=False,
    )


def test_without_flags_the_settings_are_the_defaults(parse):
    parse()
    defaults = WelsNetConfig(num_classes=1)
    lists = ("block_channels", "block_pools", "hidden_channels")
    names = ("width", "pooling", "pooling_k", "block_convolutions", *lists)
    network = {name: getattr(defaults, name) for name in names}
    assert training_flags.read_cascade_flags() == CascadeConfig(0, (0.3,), network, TrainConfig())


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--alpha=0.3,x",
            r"--alpha=0\.3,x: expected a comma separated list of numbers from 0 to 1",
        ),
        (
            "--teacher_stages=1.5",
            r"--teacher_stages=1\.5: expected a comma separated list of whole numbers, 0 or more",
        ),
        (
            "--alpha=0.3,0.4",
            r"alpha: expected one number, or one for each of stages 1 to 3 \(3 numbers\), got 2",
        ),
        (
            "--alpha=1.01",
            r"--alpha=1\.01: expected a comma separated list of numbers from 0 to 1",
        ),
        ("--warmup_share=1", "--warmup_share=1: expected a number, 0 or more, below 1"),
    ],
)
def test_flags_that_make_no_settings(parse, argument, message):
    with pytest.raises((ValueError, flags.Error), match=message):
        parse("--stage=3", argument)
        training_flags.read_cascade_flags()


# --- the command ---


def test_the_next_stage_is_trained_and_the_table_printed(
    command, copied_run, kept_data, files_of, caplog
):
    before = {number: files_of(copied_run / f"stage-{number}") for number in range(3)}
    arguments = (
        "--stage=3",
        "--alpha=0.5",
        f"--data_dir={kept_data}",
        f"--run_dir={copied_run}",
        *SMALL,
    )
    status, printed, stderr = command(train, *arguments, "--precision=float32")
    assert status == 0, stderr
    lines = printed.splitlines()
    assert lines[0].split()[:4] == ["stage", "alpha", "teacher", "mAP"]
    assert [line.split()[:3] for line in lines[2:6]] == [
        ["0", "1", "-"],
        ["1", "0.3", "0"],
        ["2", "0.3", "1"],
        ["3", "0.5", "2"],
    ]
    assert lines[-1] == f"figures of the eval split; curves: tensorboard --logdir {copied_run}"
    assert (
        "stage 0: kept, done in" in caplog.text and "stage 3: alpha 0.5, teacher 2" in caplog.text
    )
    assert (
        "stage 3 epoch 2/2: loss" in caplog.text and "precision float32 (as asked)" in caplog.text
    )
    assert before == {number: files_of(copied_run / f"stage-{number}") for number in range(3)}
    figures = json.loads((copied_run / "stage-3" / "metrics.json").read_text())
    assert f"{figures['mAP']:.4f}" == lines[5].split()[3]


def test_the_flags_are_kept_as_a_flagfile(command, kept_data, kept_run, tmp_path, monkeypatch):
    kept, rows = [], json.loads(Path(kept_run, "summary.json").read_text())
    monkeypatch.setattr(train, "run_cascade", lambda *args: kept.append(args) or rows)
    arguments = (
        "--stage=1",
        "--alpha=0.5",
        f"--data_dir={kept_data}",
        "--noprerequisites",
        "--ema=0.99",
        *SMALL,
    )
    status, _, _ = command(train, *arguments)
    assert status == 0
    flagfile = tmp_path / "flags.txt"
    flagfile.write_text(kept[0][-1].flags)
    assert flagfile.read_text().startswith("# python -m secost_tf.train --flagfile=flags.txt\n")
    command(train, f"--flagfile={flagfile}")
    assert (
        kept[1][0] == kept[0][0] and kept[1][0].train.ema == 0.99 and not kept[1][0].prerequisites
    )
    assert kept[1][-1].flags == kept[0][-1].flags


def test_alphas_of_classes_come_from_a_csv(command, kept_data, kept_run, tmp_path, monkeypatch):
    kept, rows = [], json.loads(Path(kept_run, "summary.json").read_text())
    monkeypatch.setattr(train, "run_cascade", lambda *args: kept.append(args) or rows)
    (tmp_path / "alphas.csv").write_text("display_name,alpha\nBell,0.9\n/m/d,0\n")
    arguments = (
        "--stage=1",
        f"--data_dir={kept_data}",
        f"--alpha_per_class_csv={tmp_path / 'alphas.csv'}",
        *SMALL,
    )
    assert command(train, *arguments)[0] == 0
    assert kept[0][0].class_alphas == (None, 0.9, None, 0.0)
    (tmp_path / "alphas.csv").write_text("mid,alpha\n/m/x,0.9\n")
    status, _, stderr = command(train, *arguments)
    assert (
        status == 1 and f"error: {tmp_path / 'alphas.csv'}, line 2: unknown class '/m/x'" in stderr
    )


def test_what_the_process_is_set_to(command, kept_data, kept_run, monkeypatch):
    called = []
    rows = json.loads(Path(kept_run, "summary.json").read_text())
    monkeypatch.setattr(train, "run_cascade", lambda *args: called.append(args[-1]) or rows)
    monkeypatch.setattr(
        training_flags.devices, "make_deterministic", lambda: called.append("deterministic")
    )
    monkeypatch.setattr(
        training_flags.devices,
        "set_threads",
        lambda threads: called.append(threads) or (threads, ""),
    )
    command(
        train,
        f"--data_dir={kept_data}",
        "--deterministic",
        "--threads=3",
        "--cache_in_memory",
        *SMALL,
    )
    assert called[:2] == [3, "deterministic"]
    assert called[2].cache_in_memory and called[2].checkpoint_minutes == 10
    command(train, f"--data_dir={kept_data}", *SMALL)
    assert called[3] == 0 and not called[4].cache_in_memory


def test_a_dry_run_trains_nothing(command, kept_data, tmp_path):
    arguments = (
        "--stage=1",
        f"--data_dir={kept_data}",
        f"--run_dir={tmp_path / 'run'}",
        "--dry_run",
        *SMALL,
    )
    status, printed, stderr = command(train, *arguments)
    assert status == 0, stderr
    assert printed.startswith("stages to train  0, 1\n") and "time in all" in printed
    assert not (tmp_path / "run").exists()


def test_without_data_the_built_in_corpus_is_used(
    command, copied_run, kept_data, monkeypatch, caplog
):
    monkeypatch.setattr(training_flags, "make_builtin_data", lambda: kept_data)
    monkeypatch.setattr(stages, "train_stage", lambda *args: pytest.fail("trained a stage"))
    monkeypatch.setattr(
        training_flags.devices, "choose_precision", lambda name, channels: ("float32", "as always")
    )
    status, printed, stderr = command(train, "--stage=2", f"--run_dir={copied_run}", *SMALL)
    assert status == 0, stderr
    assert "stage 2: kept" in caplog.text
    assert "figures of the eval split" in printed


def test_a_user_s_errors_are_one_paragraph(command, tmp_path, tiny_data, kept_data, flip_byte):
    shard = Path(tiny_data, "train", "train-00000-of-00003.tfrecord")
    flip_byte(shard, -100)
    (tmp_path / "file").write_text("")
    for data_dir, run_dir, message in (
        (tiny_data, tmp_path / "run", f"error: {shard}: record 10 "),
        (kept_data, tmp_path / "file", f"error: {tmp_path / 'file' / 'stage-0'}: "),
    ):
        arguments = (
            f"--data_dir={data_dir}",
            f"--run_dir={run_dir}",
            "--precision=float32",
            *SMALL,
        )
        status, printed, stderr = command(train, *arguments)
        assert (status, printed) == (1, "")
        assert stderr.splitlines()[-1].startswith(message) and "Traceback" not in stderr


def test_as_a_process_an_error_is_a_line_and_status_1(tmp_path):
    arguments = (f"--data_dir={tmp_path}", f"--run_dir={tmp_path / 'run'}", "--precision=float32")
    ended = python("-c", "from secost_tf.train import run; run()", *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"error: {tmp_path}: no converted split 'train'" in ended.stderr
    assert "Traceback" not in ended.stderr and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_cascade_runs_on_two_replicas(kept_data, tmp_path):
    """Through the command, since logical devices must be set before TensorFlow starts."""
    flags_ = (
        "--stage=1",
        "--logical_cpus=2",
        "--strategy=mirrored",
        *SMALL_FLAGS,
        "--epochs=1",
        "--batch_size=6",
    )
    done = python(
        "-m", "secost_tf.train", *flags_, f"--data_dir={kept_data}", f"--run_dir={tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stderr
    assert [
        row["stage"] for row in json.loads((tmp_path / "run" / "summary.json").read_text())
    ] == [0, 1]
