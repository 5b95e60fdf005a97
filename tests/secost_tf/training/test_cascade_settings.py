"""Settings, data and stages that do not go together: one clear error before anything is trained."""

import math
from pathlib import Path

import pytest
from cascade_runs import fail_to_make_a_strategy

from secost_tf.runs.settings import CascadeConfig, TrainConfig
from secost_tf.training import stage as stages
from secost_tf.training.cascade import run_cascade
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import info as shards


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
        r"stage-1 is done, with other settings \(there != asked\): alpha: 0\.3 != 0\.5\. Choose "
        r"another --run_dir, "
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


def test_a_done_stage_with_other_settings_is_an_error(
    begun, kept_data, cascade_config, no_training
):
    with pytest.raises(ValueError, match=r"stage-0 is done, with other settings .*epochs: 2 != 7"):
        run_cascade(cascade_config(0, epochs=7), kept_data, begun(0), fail_to_make_a_strategy)


def test_without_prerequisites_a_missing_teacher_is_an_error(
    begun, tmp_path, kept_data, cascade_config, no_training
):
    config = cascade_config(2, prerequisites=False)
    message = (
        r"stage 2 needs stage 0, 1, not done in .*empty: train them first, or leave out "
        r"--noprerequisites"
    )
    with pytest.raises(ValueError, match=message):
        run_cascade(config, kept_data, str(tmp_path / "empty"), fail_to_make_a_strategy)
    with pytest.raises(
        ValueError, match=r"stage 2 needs stage 1, not done in .*run: train it first"
    ):
        run_cascade(config, kept_data, begun(0), fail_to_make_a_strategy)


def test_a_teacher_that_is_not_done_is_an_error(begun, kept_data, cascade_config, one_device):
    config = cascade_config(2).stage_config(2, shards.read_dataset_info(kept_data, "train"))
    with pytest.raises(
        ValueError, match=r"stage 2 learns from stage 1, which is not done in .*--stage=1"
    ):
        stages.train_stage(config, kept_data, begun(0), one_device())


def test_teachers_must_come_before_their_student(kept_data, cascade_config, tmp_path):
    with pytest.raises(
        ValueError, match=r"teacher_stages: expected stages before stage 1, got \(1,\)"
    ):
        run_cascade(
            cascade_config(1, teacher_stages=(1,)),
            kept_data,
            str(tmp_path),
            fail_to_make_a_strategy,
        )


@pytest.mark.parametrize(
    ("stage", "alphas", "message"),
    [
        (
            3,
            (0.3, 0.2),
            r"alpha: expected one number, or one for each of stages 1 to 3 \(3 numbers\), got 2: "
            r"0\.3, 0\.2",
        ),
        (2, (), r"alpha: expected one number, .* got 0"),
        (1, (1.5,), r"alphas: expected numbers from 0 to 1, got \(1\.5,\)"),
        (2, (0.3, -0.1), r"alphas: expected numbers from 0 to 1, got \(0\.3, -0\.1\)"),
        (1, (math.nan,), r"alphas: expected numbers from 0 to 1, got \(nan,\)"),
        (-1, (0.3,), "stage: expected a whole number, 0 or more, got -1"),
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
        rf"{tmp_path}: no converted split 'train' .*it holds no converted split.* "
        r"tfrecord_tools\.convert"
    )
    with pytest.raises(ValueError, match=message):
        run_cascade(
            cascade_config(0), str(tmp_path), str(tmp_path / "run"), fail_to_make_a_strategy
        )
    with pytest.raises(ValueError, match="there is no such folder"):
        run_cascade(
            cascade_config(0), str(tmp_path / "no"), str(tmp_path / "run"), fail_to_make_a_strategy
        )


def test_a_file_where_the_run_folder_should_be_is_an_error(
    tmp_path, kept_data, cascade_config, one_device
):
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match=r"run/stage-0"):
        run_cascade(cascade_config(0), kept_data, str(tmp_path / "run"), one_device)


def test_a_truncated_shard_is_an_error_before_anything_is_trained(
    tiny_data, tmp_path, cascade_config
):
    path = Path(tiny_data, "train", "train-00001-of-00003.tfrecord")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{path}: shard has \d+ bytes, .* says \d+"):
        run_cascade(cascade_config(0), tiny_data, str(tmp_path / "run"), fail_to_make_a_strategy)
