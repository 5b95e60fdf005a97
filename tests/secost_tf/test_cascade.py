import contextlib
import csv
import dataclasses
import itertools
import json
import logging
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from secost_tf import callbacks, cascade, stage_folder
from secost_tf import stage as stages
from secost_tf.cascade import CascadeConfig, format_table, run_cascade
from secost_tf.config import TrainConfig
from tfrecord_tools import shards
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.log_mel import LogMelConfig

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def begun(kept_run, tmp_path):
    """Makes a run folder that holds the first stages of `kept_run`."""

    def make(*numbers: int) -> str:
        for number in numbers:
            shutil.copytree(Path(kept_run, f"stage-{number}"), tmp_path / "run" / f"stage-{number}")
        return str(tmp_path / "run")

    return make


@pytest.fixture
def no_training(monkeypatch):
    """Makes it a failure to train a stage."""
    monkeypatch.setattr(stages, "train_stage", lambda *args: pytest.fail("trained a stage"))


@contextlib.contextmanager
def stopped_at(stage: int, epoch: int, step: int):
    """Within the block, training stops as by Ctrl-C after a step (from 0) of an epoch (from 1) of a stage."""
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


# --- an undisturbed run ---


def test_the_run_folder_holds_what_it_should(kept_run):
    assert sorted(path.name for path in Path(kept_run).iterdir()) == [
        "stage-0",
        "stage-1",
        "stage-2",
        "summary.csv",
        "summary.json",
    ]
    shard_files = [f"train-0000{index}-of-00003.tfrecord" for index in range(3)]
    for number in range(3):
        folder = Path(kept_run, f"stage-{number}")
        assert sorted(path.name for path in folder.iterdir()) == [
            "checkpoints",
            "config.json",
            "history.csv",
            "metrics.json",
            "per_class.csv",
            "student.keras",
            "student.weights.h5",
            "teacher_scores",
            "tensorboard",
        ]
        assert sorted(path.name for path in (folder / "teacher_scores").iterdir()) == shard_files
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["training-state.npz"]
        assert all(path.name.startswith("events.") for path in (folder / "tensorboard").iterdir())


def test_stage_figures(kept_run, kept_data):
    for number, alpha, teachers in ((0, 1.0, []), (1, 0.3, [0]), (2, 0.3, [1])):
        figures = metrics_of(kept_run, number)
        assert (figures["stage"], figures["alpha"], figures["teacher_stages"]) == (number, alpha, teachers)
        assert (figures["split"], figures["num_clips"], figures["epochs"]) == ("eval", 12, 2)
        assert figures["without_positives"] == [] and figures["classes_without_positives"] == 0
        assert 0 < figures["mAP"] <= 1 and figures["best_epoch"] in (1, 2)
        positives = np.array(shards.read_dataset_info(kept_data, "eval").positives)
        assert figures["chance"] == pytest.approx(np.mean(positives / 12))
        with open(Path(kept_run, f"stage-{number}", "per_class.csv"), newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [int(row["positives"]) for row in rows] == positives.tolist()
        assert np.mean([float(row["AP"]) for row in rows]) == pytest.approx(figures["mAP"], abs=1e-6)


def test_loss_parts_add_up_and_the_base_has_no_teacher_part(kept_run):
    for number in range(3):
        with open(Path(kept_run, f"stage-{number}", "history.csv"), newline="") as stream:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
        assert [row["epoch"] for row in rows] == [1, 2]
        for row in rows:
            assert row["loss"] == pytest.approx(row["label_loss"] + row["teacher_loss"], abs=1e-6)
            assert (row["teacher_loss"] == 0) == (number == 0)
        assert rows[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)
        best = max(rows, key=lambda row: (row["val_mAP"], -row["val_loss"], row["epoch"]))
        assert metrics_of(kept_run, number)["best_epoch"] == best["epoch"]


def test_the_summary_gathers_the_stages(kept_run):
    rows = summary_of(kept_run)
    base = metrics_of(kept_run, 0)["mAP"]
    for number, row in enumerate(rows):
        figures = metrics_of(kept_run, number)
        assert row["stage"] == number and all(
            row[name] == figures[name] for name in ("mAP", "mAUC", "lwlrap")
        )
        assert row["change"] == pytest.approx(figures["mAP"] - base)
        assert row["relative_change"] == pytest.approx(figures["mAP"] / base - 1)
    with open(Path(kept_run, "summary.csv"), newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [list(row) for row in table] == [list(row) for row in rows]
    assert [float(row["mAP"]) for row in table] == [row["mAP"] for row in rows]
    assert [row["teacher_stages"] for row in table] == ["", "0", "1"]


def test_running_again_trains_nothing(kept_run, kept_data, cascade_config, begun, files_of, no_training):
    run_dir = begun(0, 1, 2)
    before = files_of(run_dir)
    rows = run_cascade(cascade_config(2), kept_data, run_dir, fail_to_make_a_strategy)
    assert rows == summary_of(kept_run)
    after = files_of(run_dir)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"summary.csv", "summary.json"}


def test_an_earlier_stage_asked_for_is_kept_with_those_after_it(
    kept_run, kept_data, cascade_config, begun, no_training
):
    run_dir = begun(0, 1, 2)
    assert run_cascade(cascade_config(1), kept_data, run_dir, fail_to_make_a_strategy) == summary_of(kept_run)


# --- the same seed, another seed ---


def test_the_same_seed_gives_the_same_run_to_the_bit(
    kept_run, kept_data, cascade_config, tmp_path, one_device, recwarn
):
    run_cascade(cascade_config(0), kept_data, str(tmp_path), one_device)
    assert not [warning for warning in recwarn if "shuffle" in str(warning.message)]
    assert metrics_of(tmp_path, 0) == metrics_of(kept_run, 0)
    mine, theirs = (
        stage_folder.load_student(run_dir, 0).get_weights() for run_dir in (str(tmp_path), kept_run)
    )
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_run(kept_run, kept_data, cascade_config, tmp_path, one_device):
    run_cascade(cascade_config(0, seed=2), kept_data, str(tmp_path), one_device)
    mine, theirs = (
        stage_folder.load_student(run_dir, 0).get_weights() for run_dir in (str(tmp_path), kept_run)
    )
    assert any(not np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True))
    assert metrics_of(tmp_path, 0)["mAUC"] != metrics_of(kept_run, 0)["mAUC"]


def test_each_seed_and_stage_has_its_own_order_of_clips(
    kept_data, cascade_config, begun, one_device, monkeypatch
):
    run_dir, seeds = begun(0), []

    def stop(*args, seed, epoch, **options):
        seeds.append(seed)
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.data, "training_data", stop)
    info = shards.read_dataset_info(kept_data, "train")
    for folder, stage, seed in ((f"{run_dir}/other", 0, 1), (f"{run_dir}/other", 0, 2), (run_dir, 1, 1)):
        with pytest.raises(KeyboardInterrupt):
            config = cascade_config(1, seed=seed).stage_config(stage, info)
            stages.train_stage(config, kept_data, folder, one_device())
    assert len(set(seeds)) == 3


# --- stopped and continued ---


def test_the_best_epoch_s_weights_are_the_student(kept_data, cascade_config, begun, one_device):
    """Stopped after its last epoch, a stage goes on with the weights that it kept, here marked by hand."""
    run_dir = begun(0)
    path = Path(run_dir, "stage-0", "checkpoints", "training-state.npz")
    with np.load(path) as file:
        state = dict(file)
    marked = {name: np.full_like(value, 0.25) for name, value in state.items() if name.startswith("best_")}
    np.savez(path, **{**state, **marked})
    Path(run_dir, "stage-0", "metrics.json").unlink()
    run_cascade(cascade_config(0), kept_data, run_dir, one_device)
    assert len(marked) == len(stage_folder.load_student(run_dir, 0).get_weights())
    assert all((weight == 0.25).all() for weight in stage_folder.load_student(run_dir, 0).get_weights())


def test_a_stage_stopped_half_way_is_continued(
    kept_run, kept_data, cascade_config, begun, files_of, one_device
):
    run_dir = begun(0)
    before = files_of(Path(run_dir, "stage-0"))
    with stopped_at(stage=1, epoch=2, step=1), pytest.raises(KeyboardInterrupt):
        run_cascade(cascade_config(1), kept_data, run_dir, one_device)
    assert not stage_folder.is_done(run_dir, 1)

    message = (
        r"stage-1 was begun with other settings \(there != now\): .*learning_rate: 0\.003 != 0\.5.*Continue with "
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
from secost_tf import callbacks, runtime
from secost_tf.cascade import CascadeConfig, run_cascade
from secost_tf.config import RunOptions, TrainConfig

plain = callbacks.Progress.on_train_batch_end

def wait_for_the_signal(self, step, logs=None):
    plain(self, step, logs)
    if (self.label, self.epoch, step) == ("stage 1", 1, 1):
        print("in the middle", flush=True)
        while not runtime.preemption.requested:  # not `signal.pause`, which misses a signal that came before it
            time.sleep(0.01)

callbacks.Progress.on_train_batch_end = wait_for_the_signal
runtime.preemption.install()
minutes, data_dir, run_dir, alphas, network, train = sys.argv[1:]
config = CascadeConfig(1, tuple(json.loads(alphas)), json.loads(network), TrainConfig(**json.loads(train)))
run_cascade(config, data_dir, run_dir, tf.distribute.get_strategy,
            RunOptions(float(minutes)))
"""


@pytest.mark.parametrize(
    ("signal_sent", "minutes", "steps_kept"),
    [
        (signal.SIGKILL, 10, 0),  # the last checkpoint is that of the epoch before
        (signal.SIGKILL, 0, 2),  # one a step
        (signal.SIGTERM, 10, 3),  # a checkpoint at the end of the step after
    ],
)
def test_a_stopped_run_is_continued(
    kept_run, kept_data, cascade_config, begun, one_device, signal_sent, minutes, steps_kept, caplog
):
    run_dir, config = begun(0), cascade_config(1)
    settings = [json.dumps(value) for value in (config.alphas, config.network, config.train.to_dict())]
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
    assert (folder / "checkpoints" / "training-state.npz").exists() and not (folder / "metrics.json").exists()
    with caplog.at_level("INFO"):
        run_cascade(config, kept_data, run_dir, one_device)
    assert f"stage 1 continues after epoch 1 of 2, step {steps_kept} of" in caplog.text
    assert_same_figures(summary_of(run_dir), summary_of(kept_run)[:2])
    figures = []
    for run in (run_dir, kept_run):
        with open(Path(run, "stage-1", "history.csv"), newline="") as stream:
            figures.append(
                [[float(cell) for cell in row[:-1]] for row in itertools.islice(csv.reader(stream), 1, None)]
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
        rf"scores of clips train-clip-000, .* are missing; .*delete {scores} and the stage's metrics\.json"
    )
    with pytest.raises(ValueError, match=message):
        run_cascade(cascade_config(1), kept_data, run_dir, one_device)
    Path(run_dir, "stage-0", "metrics.json").unlink()
    rows = run_cascade(cascade_config(0), kept_data, run_dir, one_device)
    assert_same_figures(rows, summary_of(kept_run)[:1])
    assert files_of(scores) == before


# --- teachers ---


def test_an_online_teacher_teaches_as_its_cached_scores_do(
    kept_run, kept_data, cascade_config, begun, one_device
):
    """Without augmentation the two see the same clips, so that the student learns the same."""
    run_dir = begun(0)
    shutil.rmtree(Path(run_dir, "stage-0", "teacher_scores"))
    run_cascade(cascade_config(1, teacher="online"), kept_data, run_dir, one_device)
    histories = []
    for folder in (run_dir, kept_run):
        with open(Path(folder, "stage-1", "history.csv"), newline="") as stream:
            histories.append(
                [
                    [float(row[name]) for name in ("loss", "teacher_loss", "val_loss")]
                    for row in csv.DictReader(stream)
                ]
            )
    np.testing.assert_allclose(*histories, atol=1e-3)
    mine, theirs = (stage_folder.load_student(folder, 1).count_params() for folder in (run_dir, kept_run))
    assert mine == theirs


def test_several_teachers_are_averaged(kept_data, cascade_config, begun, one_device, monkeypatch):
    run_dir, joined = begun(0, 1), []
    plain = stages.data.training_data

    def watched(*args, **options):
        folders = [Path(folder).parent.name for folder in options["teacher_scores_dirs"]]
        joined.append((options["epoch"], folders))
        return plain(*args, **options)

    monkeypatch.setattr(stages.data, "training_data", watched)
    config = cascade_config(2, 0.5, teacher_stages=(0, 1))
    rows = run_cascade(config, kept_data, run_dir, one_device)
    assert joined == [(0, ["stage-0", "stage-1"]), (1, ["stage-0", "stage-1"])]
    assert rows[2]["teacher_stages"] == [0, 1] and rows[2]["alpha"] == 0.5
    assert "0+1" in format_table(rows)


# --- other splits ---


def test_a_validation_split_and_no_eval_split_and_a_class_without_positives(
    tmp_path, write_split, cascade_config, one_device, caplog
):
    def without_sirens(clips):
        return [
            dataclasses.replace(clip, labels=tuple(label for label in clip.labels if label != 3))
            for clip in clips
        ]

    data_dir, run_dir = str(tmp_path / "data"), str(tmp_path / "run")
    write_split(data_dir, "train", (10, 10))
    write_split(data_dir, "validation", (12,), change=without_sirens)
    rows = run_cascade(cascade_config(0), data_dir, run_dir, one_device)
    figures = metrics_of(run_dir, 0)
    assert figures["split"] == rows[0]["split"] == "validation" and figures["num_clips"] == 12
    assert figures["without_positives"] == ["Siren"] and figures["classes_without_positives"] == 1
    with open(Path(run_dir, "stage-0", "per_class.csv"), newline="") as stream:
        per_class = list(csv.DictReader(stream))
    assert (per_class[3]["positives"], per_class[3]["AP"]) == ("0", "")
    assert figures["mAP"] == pytest.approx(np.mean([float(row["AP"]) for row in per_class[:3]]), abs=1e-6)
    with open(Path(run_dir, "stage-0", "history.csv"), newline="") as stream:
        best = list(csv.DictReader(stream))[figures["best_epoch"] - 1]
    assert float(best["val_mAP"]) == pytest.approx(figures["mAP"], abs=1e-6)  # chosen on the same clips
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("has no eval split" in warning for warning in warnings)


# --- what does not go together ---


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (
            {"class_map": ClassMap(("/m/a", "/m/b", "/m/c"), ("Bark", "Bell", "Rain"))},
            "other classes than .*: 4 classes in .*stage-0, 3 in .*; only in .*stage-0: /m/d",
        ),
        (
            {"log_mel": LogMelConfig(mel_bins=64)},
            "another log-mel than .*: mel_bins: 32 != 64",
        ),
    ],
    ids=["classes", "log-mel"],
)
@pytest.mark.parametrize("last", [0, 1], ids=["done", "next"])
def test_a_run_of_other_data_is_an_error(
    begun, tmp_path, write_split, cascade_config, no_training, other, difference, last
):
    run_dir = begun(0)
    write_split(tmp_path / "other", "train", (8,), **other)
    write_split(tmp_path / "other", "eval", (8,), **other)
    with pytest.raises(ValueError, match=rf"stage-0 was made with {difference}"):
        run_cascade(cascade_config(last), str(tmp_path / "other"), run_dir, fail_to_make_a_strategy)


def test_a_stage_done_with_another_alpha_is_an_error(begun, kept_data, cascade_config, no_training):
    run_dir = begun(0, 1)
    message = (
        r"stage-1 is done, with other settings \(there != asked\): alpha: 0\.3 != 0\.5\. Choose another --run_dir, "
        r"or delete .*stage-1 and the stages after it"
    )
    for config in (cascade_config(1, 0.5), cascade_config(2, 0.5, 0.3)):
        with pytest.raises(ValueError, match=message):
            run_cascade(config, kept_data, run_dir, fail_to_make_a_strategy)


def test_one_alpha_is_for_the_stages_trained_now(begun, kept_data, cascade_config, monkeypatch):
    """Stage 1 was trained with 0.3 and is kept; 0.9 is for stage 2 alone."""
    run_dir, trained = begun(0, 1), []
    monkeypatch.setattr(
        stages, "train_stage", lambda config, *args: trained.append((config.stage, config.alpha))
    )
    run_cascade(cascade_config(2, 0.9), kept_data, run_dir, lambda: None)
    assert trained == [(2, 0.9)]


def test_a_done_stage_with_other_settings_is_an_error(begun, kept_data, cascade_config, no_training):
    with pytest.raises(ValueError, match=r"stage-0 is done, with other settings .*epochs: 2 != 7"):
        run_cascade(cascade_config(0, epochs=7), kept_data, begun(0), fail_to_make_a_strategy)


def test_without_prerequisites_a_missing_teacher_is_an_error(
    begun, tmp_path, kept_data, cascade_config, no_training
):
    config = cascade_config(2, prerequisites=False)
    message = (
        r"stage 2 needs stage 0, 1, not done in .*empty: train them first, or leave out --noprerequisites"
    )
    with pytest.raises(ValueError, match=message):
        run_cascade(config, kept_data, str(tmp_path / "empty"), fail_to_make_a_strategy)
    with pytest.raises(ValueError, match=r"stage 2 needs stage 1, not done in .*run: train it first"):
        run_cascade(config, kept_data, begun(0), fail_to_make_a_strategy)


def test_a_teacher_that_is_not_done_is_an_error(begun, kept_data, cascade_config, one_device):
    config = cascade_config(2).stage_config(2, shards.read_dataset_info(kept_data, "train"))
    with pytest.raises(ValueError, match=r"stage 2 learns from stage 1, which is not done in .*--stage=1"):
        stages.train_stage(config, kept_data, begun(0), one_device())


def test_teachers_must_come_before_their_student(kept_data, cascade_config, tmp_path):
    with pytest.raises(ValueError, match=r"teacher_stages: expected stages before stage 1, got \(1,\)"):
        run_cascade(cascade_config(1, teacher_stages=(1,)), kept_data, str(tmp_path), fail_to_make_a_strategy)


@pytest.mark.parametrize(
    ("stage", "alphas", "message"),
    [
        (
            3,
            (0.3, 0.2),
            r"alpha: expected one number, or one for each of stages 1 to 3 \(3 numbers\), got 2: 0\.3, 0\.2",
        ),
        (2, (), r"alpha: expected one number, .* got 0"),
        (1, (1.5,), r"alpha: expected numbers in \[0, 1\], the weight of the labels, got 1\.5"),
        (2, (0.3, -0.1), r"alpha: expected numbers in \[0, 1\], .* got -0\.1"),
        (1, (math.nan,), r"alpha: expected numbers in \[0, 1\], .* got nan"),
        (-1, (0.3,), "stage: expected 0 or more, got -1"),
    ],
)
def test_settings_that_cannot_be(stage, alphas, message):
    with pytest.raises(ValueError, match=message):
        CascadeConfig(stage, alphas, {}, TrainConfig())


def test_alphas_by_stage(kept_data):
    info = shards.read_dataset_info(kept_data, "train")
    config = CascadeConfig(3, (0.3, 0.2, 0.1), {}, TrainConfig(), teacher_stages=(0, 2))
    made = [config.stage_config(stage, info) for stage in range(4)]
    assert [one.alpha for one in made] == [1.0, 0.3, 0.2, 0.1]
    assert [one.teacher_stages for one in made] == [(), (0,), (1,), (0, 2)]
    assert {(one.network.num_classes, one.network.mel_bins) for one in made} == {(4, 32)}


def test_an_empty_data_folder_is_an_error(tmp_path, cascade_config):
    message = (
        rf"{tmp_path}: no converted split 'train' .*it holds no converted split.* tfrecord_tools\.convert"
    )
    with pytest.raises(ValueError, match=message):
        run_cascade(cascade_config(0), str(tmp_path), str(tmp_path / "run"), fail_to_make_a_strategy)
    with pytest.raises(ValueError, match="there is no such folder"):
        run_cascade(cascade_config(0), str(tmp_path / "no"), str(tmp_path / "run"), fail_to_make_a_strategy)


def test_a_file_where_the_run_folder_should_be_is_an_error(tmp_path, kept_data, cascade_config, one_device):
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match=r"run/stage-0"):
        run_cascade(cascade_config(0), kept_data, str(tmp_path / "run"), one_device)


def test_a_truncated_shard_is_an_error_before_anything_is_trained(tiny_data, tmp_path, cascade_config):
    path = Path(tiny_data, "train", "train-00001-of-00003.tfrecord")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{path}: shard has \d+ bytes, .* says \d+"):
        run_cascade(cascade_config(0), tiny_data, str(tmp_path / "run"), fail_to_make_a_strategy)


# --- the table ---


def write_metrics(run_dir: Path, stage: int, **figures) -> None:
    folder = run_dir / f"stage-{stage}"
    folder.mkdir()
    alpha, teachers = (0.3, [stage - 1]) if stage else (1.0, [])
    plain = {"stage": stage, "alpha": alpha, "teacher_stages": teachers, "split": "eval", "best_epoch": 3}
    measures = {"mAP": 0.5, "mAUC": 0.75, "d_prime": 0.9539, "lwlrap": 0.625, "chance": 0.125}
    (folder / "metrics.json").write_text(json.dumps(plain | measures | figures))


def test_the_table_by_hand(tmp_path):
    write_metrics(tmp_path, 0)
    write_metrics(tmp_path, 1, mAP=0.55)
    write_metrics(tmp_path, 2, mAP=0.45, mAUC=1.0, d_prime=None)
    cascade.write_summary(str(tmp_path))
    rows = cascade.summarize(str(tmp_path))
    assert format_table(rows).splitlines() == [
        "stage  alpha  teacher     mAP    mAUC      d'  lwlrap            change  chance mAP",
        "-" * 83,
        "    0      1        -  0.5000  0.7500  0.9539  0.6250                        0.1250",
        "    1    0.3        0  0.5500  0.7500  0.9539  0.6250  +0.0500 (+10.0%)      0.1250",
        "    2    0.3        1  0.4500  1.0000       -  0.6250  -0.0500 (-10.0%)      0.1250",
    ]


def test_figures_that_do_not_exist_are_left_out(tmp_path):
    write_metrics(tmp_path, 0, mAP=None, mAUC=None, d_prime=None, lwlrap=None, chance=None)
    write_metrics(tmp_path, 1)
    cascade.write_summary(str(tmp_path))
    rows = cascade.summarize(str(tmp_path))
    assert [row["change"] for row in rows] == [None, None] == [row["relative_change"] for row in rows]
    assert format_table(rows).splitlines()[2].split() == ["0", "1", *"------"]


def test_a_base_of_zero_has_no_relative_change(tmp_path):
    write_metrics(tmp_path, 0, mAP=0.0)
    write_metrics(tmp_path, 1)
    row = cascade.summarize(str(tmp_path))[1]
    assert (row["change"], row["relative_change"]) == (0.5, None)
