import csv
import dataclasses
import json
import logging
import shutil
import types
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import SMALL
from scipy.special import expit

from secost_tf.data import splits
from secost_tf.data.splits import Split
from secost_tf.evaluation import run, scoring
from secost_tf.evaluation.metrics import evaluate_scores
from secost_tf.models.config import WelsNetConfig
from secost_tf.runs import StageFolder, load_student
from secost_tf.runs.settings import RunOptions, TrainConfig
from secost_tf.training import stage as stages
from secost_tf.training.callbacks import NonFiniteLoss
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import files
from tfrecord_tools.shards import info as shards
from tfrecord_tools.shards.records import decode_teacher_scores


@pytest.fixture
def base_config(cascade_config, kept_data):
    """Makes the settings of stage 0; keywords go to its TrainConfig."""

    def make(**train):
        info = shards.read_dataset_info(kept_data, "train")
        return cascade_config(0, **train).stage_config(0, info)

    return make


@pytest.fixture
def no_training(monkeypatch):
    """Makes it a failure to reach the training itself."""
    monkeypatch.setattr(stages, "_fit", lambda *args: pytest.fail("began to train"))


def warnings_of(caplog) -> str:
    return " ".join(
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    )


# --- learning rate ---


@pytest.mark.parametrize(
    ("train", "steps", "expected"),
    [
        # 2 of 20 steps up to the peak, then 18 steps of a half cosine
        (
            {"epochs": 2, "warmup_share": 0.1},
            10,
            {0: 0.0, 1: 0.5, 2: 1.0, 11: 0.5, 14: 0.25, 20: 0.0},
        ),
        ({"epochs": 1, "warmup_share": 0.0}, 6, {0: 1.0, 2: 0.75, 3: 0.5, 4: 0.25, 6: 0.0}),
        # the rise leaves one step for the fall
        ({"epochs": 1, "warmup_share": 0.99}, 10, {0: 0.0, 9: 1.0, 10: 0.0}),
        ({"epochs": 1, "warmup_share": 0.9}, 1, {0: 1.0, 1: 0.0}),
    ],
)
def test_the_learning_rate_rises_and_falls(train, steps, expected):
    schedule = stages.learning_rate_schedule(TrainConfig(learning_rate=1.0, **train), steps)
    for step, value in expected.items():
        assert float(schedule(step)) == pytest.approx(value, abs=1e-6), step


# --- the student ---


def test_a_fresh_student_depends_on_seed_and_stage_alone(kept_run):
    record = StageFolder(kept_run, 1).record

    def weights(seed, stage):
        train = dataclasses.replace(record.config.train, seed=seed, learning_rate=0.5)
        config = dataclasses.replace(record.config, stage=stage, train=train)
        student = stages.build_student(dataclasses.replace(record, config=config))
        return np.concatenate([weight.ravel() for weight in student.get_weights()])

    first = weights(1, 1)
    np.testing.assert_array_equal(weights(1, 1), first)
    assert not np.array_equal(weights(2, 1), first)
    assert not np.array_equal(weights(1, 2), first)


def numbers_in(group: h5py.Group) -> int:
    return sum(
        item.size if isinstance(item, h5py.Dataset) else numbers_in(item) for item in group.values()
    )


def test_the_student_s_files_hold_the_student_alone(kept_run, tmp_path):
    """Stage 1 has a teacher; its files have as many numbers as one network has."""
    student = load_student(kept_run, 1)
    folder = Path(kept_run, "stage-1")
    with zipfile.ZipFile(folder / "student.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
    for path in (folder / "student.weights.h5", tmp_path / "model.weights.h5"):
        with h5py.File(path) as file:
            assert numbers_in(file) == student.count_params()


def test_both_files_give_the_student_that_was_scored(kept_run, kept_data):
    info = shards.read_dataset_info(kept_data, "train")
    split = Split(kept_data, info)
    loaded = load_student(kept_run, 1)
    saved = keras.saving.load_model(Path(kept_run, "stage-1", "student.keras"))
    _, _, logits = scoring.Scorer(loaded, 8).split(split)
    _, _, same = scoring.Scorer(saved, 8).split(split)
    np.testing.assert_allclose(same, logits, atol=1e-6)
    written = np.concatenate(
        [
            [decode_teacher_scores(record)[1] for record in files.read_records(str(path))]
            for path in sorted(Path(kept_run, "stage-1", "teacher_scores").iterdir())
        ]
    )
    np.testing.assert_allclose(written, expit(logits), atol=1e-6)


def test_the_student_carries_the_statistics_of_train(kept_run, kept_data):
    info = shards.read_dataset_info(kept_data, "train")
    standardize = load_student(kept_run, 0).get_layer("standardize")
    np.testing.assert_allclose(np.asarray(standardize.mean), info.mean, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(standardize.variance), info.variance, rtol=1e-6)


def test_a_stage_that_is_not_done_cannot_be_loaded(tmp_path):
    with pytest.raises(
        ValueError, match=r"stage-3: this stage is not done; train it with --stage=3"
    ):
        load_student(str(tmp_path), 3)


# --- config.json ---


def test_the_record_goes_to_disk_and_back(kept_run, tmp_path):
    record = StageFolder(kept_run, 1).record
    assert (record.config.stage, record.config.alpha, record.config.teacher_stages) == (
        1,
        0.3,
        (0,),
    )
    StageFolder(str(tmp_path), 1).begin(record)
    assert StageFolder(str(tmp_path), 1).record == record
    versions = json.loads((tmp_path / "stage-1" / "config.json").read_text())["versions"]
    assert versions["tensorflow"] == tf.__version__ and versions["keras"] == keras.__version__


@pytest.mark.parametrize("text", ['{"stage": {"stage": 0}}', '{"stage": 5}', "{}"])
def test_a_record_that_is_none_is_named(tmp_path, text):
    (tmp_path / "stage-0").mkdir()
    (tmp_path / "stage-0" / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json: not the settings of a stage"):
        _ = StageFolder(str(tmp_path), 0).record


# --- splits ---


def test_a_validation_split_is_used_if_there(tiny_data, write_split):
    write_split(tiny_data, "validation", (6,))
    training, validation = splits.training_splits(tiny_data, TrainConfig(validation_share=0.3))
    assert (training.info.split, training.num_clips) == ("train", 30)
    assert (validation.info.split, validation.num_clips) == ("validation", 6)


def test_else_a_share_of_train(kept_data):
    training, validation = splits.training_splits(kept_data, TrainConfig(validation_share=0.3))
    assert (training.info.split, validation.info.split) == ("train", "train")
    assert training.num_clips + validation.num_clips == 30 and validation.num_clips > 0


def test_else_nothing(kept_data, caplog):
    assert splits.training_splits(kept_data, TrainConfig(validation_share=0.0))[1] is None
    assert not warnings_of(caplog)
    training, validation = splits.training_splits(kept_data, TrainConfig(validation_share=0.0001))
    assert validation is None and training.num_clips == 30
    assert "no clip of" in warnings_of(caplog)


def test_the_eval_split_is_what_is_evaluated(kept_data, caplog):
    split = splits.evaluation_split(kept_data, TrainConfig(validation_share=0.3))
    assert (split.info.split, split.subset, split.num_clips) == ("eval", "all", 12)
    assert not warnings_of(caplog)


@pytest.mark.parametrize("with_validation", [False, True])
def test_without_an_eval_split_a_warning_says_what_the_figures_are(
    tmp_path, write_split, caplog, with_validation
):
    write_split(tmp_path, "train", (20,))
    if with_validation:
        write_split(tmp_path, "validation", (6,))
    train = TrainConfig(validation_share=0.3)
    split = splits.evaluation_split(str(tmp_path), train)
    assert split == splits.training_splits(str(tmp_path), train)[1]
    assert (
        "has no eval split: figures are those of the clips that picked the best epoch"
        in warnings_of(caplog)
    )


def test_with_nothing_to_evaluate_on_nothing_is_trained(
    tmp_path, write_split, base_config, one_device, no_training
):
    write_split(tmp_path / "data", "train", (12,))
    with pytest.raises(
        ValueError, match=r"no split to evaluate on; convert one with --split=eval, or set"
    ):
        stages.train_stage(
            base_config(validation_share=0.0),
            str(tmp_path / "data"),
            str(tmp_path / "run"),
            one_device(),
        )


@pytest.mark.parametrize("split", ["eval", "validation"])
@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (
            {
                "class_map": ClassMap(
                    ("/m/a", "/m/b", "/m/c", "/m/e"), ("Bark", "Bell", "Rain", "Sea")
                )
            },
            "4 classes in .*train, 4 in .*SPLIT; only in .*train: /m/d; only in .*SPLIT: /m/e",
        ),
        ({"log_mel": LogMelConfig(mel_bins=32, hop_seconds=0.02)}, r"hop_seconds: 0\.01 != 0\.02"),
    ],
    ids=["classes", "log-mel"],
)
def test_splits_that_do_not_go_together_are_an_error(
    tmp_path, write_split, base_config, one_device, no_training, split, other, difference
):
    write_split(tmp_path / "data", "train", (12,))
    write_split(tmp_path / "data", split, (6,), **other)
    message = (
        rf"data/train was made with .* than .*data/{split}: {difference.replace('SPLIT', split)}"
    )
    with pytest.raises(ValueError, match=message):
        stages.train_stage(
            base_config(), str(tmp_path / "data"), str(tmp_path / "run"), one_device()
        )


# --- what stops a stage, and that the right settings go on afterwards ---


def test_wrong_settings_are_said_and_right_ones_then_train(
    kept_data, tmp_path, base_config, one_device
):
    run_dir = str(tmp_path)

    def train(strategy=None, **settings):
        return stages.train_stage(
            base_config(epochs=1, **settings), kept_data, run_dir, strategy or one_device()
        )

    with pytest.raises(
        ValueError, match=r"batch_size: expected at most the .* clips to train on .*, got 64"
    ):
        train(batch_size=64)
    with pytest.raises(
        ValueError, match="batch_size: expected a multiple of the 3 replicas, got 4"
    ):
        train(types.SimpleNamespace(num_replicas_in_sync=3))
    with pytest.raises(ValueError, match=r"optimizer: expected one of .*Adam.*, got 'Adamm'"):
        train(optimizer="Adamm")
    with pytest.raises(
        NonFiniteLoss, match=r"at step \d of epoch 1 \(.*after epoch 0 \(the start\)"
    ):
        train(learning_rate=1e38, warmup_share=0.0)
    assert not StageFolder(run_dir, 0).is_done
    figures = train()
    assert StageFolder(run_dir, 0).is_done and figures["epochs"] == 1
    assert StageFolder(run_dir, 0).record.config == base_config(epochs=1)


def test_a_damaged_training_shard_is_named_in_training(
    tiny_data, tmp_path, base_config, one_device, flip_byte
):
    path = Path(tiny_data, "train", "train-00002-of-00003.tfrecord")
    flip_byte(path, -100)
    with pytest.raises(ValueError, match=rf"{path}: record 9 .*wrong checksum"):
        stages.train_stage(base_config(epochs=1), tiny_data, str(tmp_path / "run"), one_device())
    assert not StageFolder(str(tmp_path / "run"), 0).is_done


def test_no_memory_left_is_said(kept_data, tmp_path, base_config, one_device, monkeypatch):
    def exhaust(*args):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(stages, "_fit", exhaust)
    with pytest.raises(ValueError, match="out of memory: try a smaller --batch_size than 4"):
        stages.train_stage(base_config(), kept_data, str(tmp_path), one_device())


# --- per_class.csv ---


def test_per_class_figures_by_hand(tmp_path):
    labels = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    scores = np.array([[0.9, 0.1, 0.2], [0.5, 0.2, 0.3], [0.1, 0.3, 0.4]])
    class_map = ClassMap(("/m/1", "/m/2", "/m/3"), ("Bark", "Clip-clop, hoof", "Rain"))
    run.write_per_class(str(tmp_path / "per_class.csv"), evaluate_scores(labels, scores), class_map)
    with open(tmp_path / "per_class.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["index", "mid", "display_name", "positives", "AP", "AUC", "d_prime"],
        [
            "0",
            "/m/1",
            "Bark",
            "2",
            "0.833333",
            "0.500000",
            "0.000000",
        ],  # ranks 1 and 3: (1 + 2/3) / 2
        ["1", "/m/2", "Clip-clop, hoof", "0", "", "", ""],  # no positive
        ["2", "/m/3", "Rain", "3", "1.000000", "", ""],  # no negative
    ]


def test_the_network_s_settings_come_from_the_data(kept_run):
    record = StageFolder(kept_run, 2).record
    assert record.config.network == WelsNetConfig(num_classes=4, mel_bins=32, **SMALL)


# --- what is warned of ---


def test_a_class_without_clips_is_warned_of(tmp_path, write_split, base_config, one_device, caplog):
    def without_two(clips):
        return [
            dataclasses.replace(clip, labels=tuple(set(clip.labels) - {1, 3})) for clip in clips
        ]

    write_split(tmp_path / "data", "train", (11, 9), change=without_two)
    write_split(tmp_path / "data", "eval", (7,))
    stages.train_stage(
        base_config(epochs=1), str(tmp_path / "data"), str(tmp_path / "run"), one_device()
    )
    assert "2 of 4 classes have no clip to learn from: Bell, Siren" in warnings_of(caplog)


@pytest.mark.parametrize(
    ("figures", "warned"),
    [
        ({"mAP": 0.9, "mAUC": 0.49, "chance": 0.3}, True),
        ({"mAP": 0.3, "mAUC": 0.7, "chance": 0.3}, True),
        ({"mAP": 0.31, "mAUC": 0.51, "chance": 0.3}, False),
        ({"mAP": None, "mAUC": None, "chance": None}, False),
    ],
)
def test_a_teacher_no_better_than_chance_is_warned_of(
    kept_run, kept_data, tmp_path, cascade_config, caplog, figures, warned
):
    shutil.copytree(Path(kept_run, "stage-0"), tmp_path / "stage-0")
    path = tmp_path / "stage-0" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **figures}))
    config = cascade_config(1).stage_config(1, shards.read_dataset_info(kept_data, "train"))
    stages.StageData.open(config, kept_data, str(tmp_path))
    assert ("stage 0, the teacher, is no better than chance" in warnings_of(caplog)) == warned


def test_a_student_that_tells_no_clips_apart_is_warned_of(kept_run, kept_data, caplog):
    split = Split(kept_data, shards.read_dataset_info(kept_data, "eval"))
    student = load_student(kept_run, 0)
    scoring.Scorer(student, 4).evaluate(split)
    assert warnings_of(caplog) == ""
    student.set_weights([0 * weight for weight in student.get_weights()])
    scoring.Scorer(student, 4).evaluate(split)
    assert "the student gives every clip the same scores" in warnings_of(caplog)


# --- memory ---


def test_records_are_held_in_memory_where_there_is_room(
    kept_data, tmp_path, base_config, one_device, monkeypatch, caplog
):
    runs = []
    for number, free in enumerate((10**12, 100)):
        monkeypatch.setattr(stages.devices, "available_memory", lambda free=free: free)
        run_dir = str(tmp_path / str(number))
        with caplog.at_level(logging.INFO):
            runs.append(
                stages.train_stage(
                    base_config(),
                    kept_data,
                    run_dir,
                    one_device(),
                    RunOptions(cache_in_memory=True),
                )
            )
    assert "GB) are held in memory" in caplog.text
    assert "take more than half of the free memory" in warnings_of(caplog)
    assert runs[0]["mAP"] == pytest.approx(runs[1]["mAP"], abs=1e-6)


def test_averaged_weights_are_what_is_validated_and_kept(
    kept_data, tmp_path, base_config, one_device
):
    run_dir = str(tmp_path)
    config = base_config(ema=0.5, clip_norm=0.5, steps_per_epoch=3)
    stages.train_stage(config, kept_data, run_dir, one_device())
    student = load_student(run_dir, 0)
    with np.load(Path(run_dir, "stage-0", "checkpoints", "training-state.npz")) as state:
        groups = {
            group: [state[name] for name in sorted(state.files) if name.startswith(group)]
            for group in ("student", "average", "best")
        }
    assert len(groups["average"]) == len(groups["student"]) + 1  # and the step
    for kept, best in zip(student.get_weights(), groups["best"], strict=True):
        np.testing.assert_array_equal(kept, best)
    validation = splits.training_splits(kept_data, config.train)[1]
    _, labels, logits = scoring.Scorer(student, 4).split(validation)
    with open(Path(run_dir, "stage-0", "history.csv"), newline="") as stream:
        rows = list(csv.DictReader(stream))
    best = max(float(row["val_mAP"]) for row in rows)
    assert float(evaluate_scores(labels, logits).mAP) == pytest.approx(best, abs=1e-6)
    if rows[-1]["val_mAP"] == str(best):
        for average, kept in zip(groups["average"][1:], groups["best"], strict=True):
            np.testing.assert_array_equal(average, kept)
