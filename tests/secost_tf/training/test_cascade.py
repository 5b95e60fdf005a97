"""Cascades that run undisturbed: what they leave, seeds, teachers, splits, and their table."""

import csv
import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from cascade_runs import fail_to_make_a_strategy, metrics_of, summary_of

from secost_tf.reporting.tables import format_summary
from secost_tf.runs import done_stages, load_student, summary
from secost_tf.training import stage as stages
from secost_tf.training.cascade import run_cascade
from tfrecord_tools.shards import info as shards

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
        assert (figures["stage"], figures["alpha"], figures["teacher_stages"]) == (
            number,
            alpha,
            teachers,
        )
        assert (figures["split"], figures["num_clips"], figures["epochs"]) == ("eval", 12, 2)
        assert figures["without_positives"] == [] and figures["classes_without_positives"] == 0
        assert 0 < figures["mAP"] <= 1 and figures["best_epoch"] in (1, 2)
        positives = np.array(shards.read_dataset_info(kept_data, "eval").positives)
        assert figures["chance"] == pytest.approx(np.mean(positives / 12))
        with open(Path(kept_run, f"stage-{number}", "per_class.csv"), newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [int(row["positives"]) for row in rows] == positives.tolist()
        assert np.mean([float(row["AP"]) for row in rows]) == pytest.approx(
            figures["mAP"], abs=1e-6
        )


def test_loss_parts_add_up_and_the_base_has_no_teacher_part(kept_run):
    for number in range(3):
        with open(Path(kept_run, f"stage-{number}", "history.csv"), newline="") as stream:
            rows = [
                {name: float(value) for name, value in row.items()}
                for row in csv.DictReader(stream)
            ]
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


def test_running_again_trains_nothing(
    kept_run, kept_data, cascade_config, begun, files_of, no_training
):
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
    assert run_cascade(
        cascade_config(1), kept_data, run_dir, fail_to_make_a_strategy
    ) == summary_of(kept_run)


# --- the same seed, another seed ---


def test_the_same_seed_gives_the_same_run_to_the_bit(
    kept_run, kept_data, cascade_config, tmp_path, one_device, recwarn
):
    run_cascade(cascade_config(0), kept_data, str(tmp_path), one_device)
    assert not [warning for warning in recwarn if "shuffle" in str(warning.message)]
    assert metrics_of(tmp_path, 0) == metrics_of(kept_run, 0)
    mine, theirs = (load_student(run_dir, 0).get_weights() for run_dir in (str(tmp_path), kept_run))
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_run(kept_run, kept_data, cascade_config, tmp_path, one_device):
    run_cascade(cascade_config(0, seed=2), kept_data, str(tmp_path), one_device)
    mine, theirs = (load_student(run_dir, 0).get_weights() for run_dir in (str(tmp_path), kept_run))
    assert any(not np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True))
    assert metrics_of(tmp_path, 0)["mAUC"] != metrics_of(kept_run, 0)["mAUC"]


def test_each_seed_and_stage_has_its_own_order_of_clips(
    kept_data, cascade_config, begun, one_device, monkeypatch
):
    run_dir, seeds = begun(0), []

    def stop(training_data, *args):
        seeds.append(training_data.seed)
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.data.TrainingData, "epoch", stop)
    info = shards.read_dataset_info(kept_data, "train")
    for folder, stage, seed in (
        (f"{run_dir}/other", 0, 1),
        (f"{run_dir}/other", 0, 2),
        (run_dir, 1, 1),
    ):
        with pytest.raises(KeyboardInterrupt):
            config = cascade_config(1, seed=seed).stage_config(stage, info)
            stages.train_stage(config, kept_data, folder, one_device())
    assert len(set(seeds)) == 3


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
    mine, theirs = (load_student(folder, 1).count_params() for folder in (run_dir, kept_run))
    assert mine == theirs


def test_several_teachers_are_averaged(kept_data, cascade_config, begun, one_device, monkeypatch):
    run_dir, joined = begun(0, 1), []
    plain = stages.data.TrainingData.epoch

    def watched(training_data, epoch, *args):
        folders = [Path(folder).parent.name for folder in training_data.teacher_scores_dirs]
        joined.append((epoch, folders))
        return plain(training_data, epoch, *args)

    monkeypatch.setattr(stages.data.TrainingData, "epoch", watched)
    config = cascade_config(2, 0.5, teacher_stages=(0, 1))
    rows = run_cascade(config, kept_data, run_dir, one_device)
    assert joined == [(0, ["stage-0", "stage-1"]), (1, ["stage-0", "stage-1"])]
    assert rows[2]["teacher_stages"] == [0, 1] and rows[2]["alpha"] == 0.5
    assert "0+1" in format_summary(rows)


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
    assert figures["mAP"] == pytest.approx(
        np.mean([float(row["AP"]) for row in per_class[:3]]), abs=1e-6
    )
    with open(Path(run_dir, "stage-0", "history.csv"), newline="") as stream:
        best = list(csv.DictReader(stream))[figures["best_epoch"] - 1]
    assert float(best["val_mAP"]) == pytest.approx(
        figures["mAP"], abs=1e-6
    )  # chosen on the same clips
    warnings = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    assert any("has no eval split" in warning for warning in warnings)


# --- the table ---


def write_metrics(run_dir: Path, stage: int, **figures) -> None:
    folder = run_dir / f"stage-{stage}"
    folder.mkdir()
    alpha, teachers = (0.3, [stage - 1]) if stage else (1.0, [])
    plain = {
        "stage": stage,
        "alpha": alpha,
        "teacher_stages": teachers,
        "split": "eval",
        "best_epoch": 3,
    }
    measures = {"mAP": 0.5, "mAUC": 0.75, "d_prime": 0.9539, "lwlrap": 0.625, "chance": 0.125}
    (folder / "metrics.json").write_text(json.dumps(plain | measures | figures))


def test_the_table_by_hand(tmp_path):
    write_metrics(tmp_path, 0)
    write_metrics(tmp_path, 1, mAP=0.55)
    write_metrics(tmp_path, 2, mAP=0.45, mAUC=1.0, d_prime=None)
    summary.write_summary(str(tmp_path))
    rows = summary.summarize(done_stages(str(tmp_path)))
    assert format_summary(rows).splitlines() == [
        "stage  alpha  teacher     mAP    mAUC      d'  lwlrap            change  chance mAP",
        "-" * 83,
        "    0      1        -  0.5000  0.7500  0.9539  0.6250                        0.1250",
        "    1    0.3        0  0.5500  0.7500  0.9539  0.6250  +0.0500 (+10.0%)      0.1250",
        "    2    0.3        1  0.4500  1.0000       -  0.6250  -0.0500 (-10.0%)      0.1250",
    ]


def test_figures_that_do_not_exist_are_left_out(tmp_path):
    write_metrics(tmp_path, 0, mAP=None, mAUC=None, d_prime=None, lwlrap=None, chance=None)
    write_metrics(tmp_path, 1)
    summary.write_summary(str(tmp_path))
    rows = summary.summarize(done_stages(str(tmp_path)))
    assert (
        [row["change"] for row in rows] == [None, None] == [row["relative_change"] for row in rows]
    )
    assert format_summary(rows).splitlines()[2].split() == ["0", "1", *"------"]


def test_a_base_of_zero_has_no_relative_change(tmp_path):
    write_metrics(tmp_path, 0, mAP=0.0)
    write_metrics(tmp_path, 1)
    row = summary.summarize(done_stages(str(tmp_path)))[1]
    assert (row["change"], row["relative_change"]) == (0.5, None)
