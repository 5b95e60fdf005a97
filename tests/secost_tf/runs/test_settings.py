import dataclasses
import json

import pytest

from secost_tf.models.config import WelsNetConfig
from secost_tf.runs.settings import StageConfig, TrainConfig

NETWORK = WelsNetConfig(
    num_classes=5, mel_bins=8, block_channels=(4, 6), block_pools=(4, 2), hidden_channels=(7,)
)
TRAIN = TrainConfig(epochs=3, learning_rate=0.01, precision="mixed_bfloat16", teacher="online")
STAGE = StageConfig(stage=2, alpha=0.3, teacher_stages=(0, 1), network=NETWORK, train=TRAIN)


def test_json_round_trip():
    restored = StageConfig.from_dict(json.loads(json.dumps(STAGE.to_dict())))
    assert restored == STAGE
    assert isinstance(restored.network, WelsNetConfig)
    assert isinstance(restored.train, TrainConfig)
    assert restored.network.block_channels == (4, 6)
    assert restored.teacher_stages == (0, 1)


def test_what_is_left_out_takes_its_default():
    assert WelsNetConfig.from_dict({"num_classes": 527}) == WelsNetConfig(num_classes=527)


def test_differences():
    other = dataclasses.replace(
        STAGE,
        alpha=0.5,
        network=dataclasses.replace(NETWORK, width=0.25),
        train=dataclasses.replace(TRAIN, epochs=4, teacher="cached"),
    )
    assert STAGE.differences(STAGE) == ""
    assert (
        STAGE.differences(other)
        == "alpha: 0.3 != 0.5; width: 1.0 != 0.25; epochs: 3 != 4; teacher: 'online' != 'cached'"
    )


def test_differences_of_long_lists_name_the_first_item():
    classes = StageConfig(
        1, 0.3, (0,), WelsNetConfig(num_classes=9), TRAIN, (0.3, None, *[0.5] * 7)
    )
    other = dataclasses.replace(classes, class_alphas=(0.3, 0.4, *[0.6] * 7))
    assert classes.differences(other) == "class_alphas[1]: None != 0.4"
    assert (
        classes.differences(dataclasses.replace(other, class_alphas=()))
        == "class_alphas: 9 values != ()"
    )


def test_alphas_of_classes_go_to_json_and_back_and_may_be_missing_there():
    of_classes = dataclasses.replace(STAGE, class_alphas=(None, 0.1, None, 1.0, 0.0))
    assert StageConfig.from_dict(json.loads(json.dumps(of_classes.to_dict()))) == of_classes
    older = {name: value for name, value in STAGE.to_dict().items() if "alphas" not in name}
    assert StageConfig.from_dict(older) == STAGE


def test_alphas_that_an_older_version_estimated_are_read():
    """It could choose alpha by trial, and estimate that of each class; both stand as estimated."""
    kept = {**STAGE.to_dict(), "auto_alphas": [0.5, 0.3], "estimate_class_alphas": True}
    found_out = {**kept, "class_alphas": [0.1, 0.2, 0.3, 0.4, 0.5]}
    assert StageConfig.from_dict(kept) == STAGE
    assert StageConfig.from_dict(found_out).class_alphas == (0.1, 0.2, 0.3, 0.4, 0.5)


def test_what_the_loss_takes():
    assert (STAGE.loss_alpha, STAGE.needs_teacher, STAGE.alpha_note) == (0.3, True, "")
    given = dataclasses.replace(STAGE, class_alphas=(None, 0.1, None, 1.0, 0.0))
    assert given.loss_alpha == (0.3, 0.1, 0.3, 1.0, 0.0)
    assert (given.needs_teacher, given.alpha_note) == (True, "per class")
    labels_alone = dataclasses.replace(STAGE, alpha=1.0, class_alphas=(1.0, None, None, None, None))
    assert not labels_alone.needs_teacher
    assert dataclasses.replace(labels_alone, alpha=0.9).needs_teacher


def test_unknown_key():
    with pytest.raises(ValueError, match="TrainConfig has no epoch, lr"):
        TrainConfig.from_dict({"lr": 0.1, "epoch": 3, "epochs": 3})
    values = STAGE.to_dict()
    values["network"]["depth"] = 3
    with pytest.raises(ValueError, match="WelsNetConfig has no depth"):
        StageConfig.from_dict(values)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (NETWORK, {"num_classes": 0}, "num_classes: expected a whole number, at least 1, got 0"),
        (NETWORK, {"width": 0.0}, "width: expected a positive number, got 0.0"),
        (NETWORK, {"width": float("nan")}, "width: expected a positive number, got nan"),
        (
            NETWORK,
            {"block_pools": (4, 2, 2)},
            "block_pools: expected one pool for each of 2 blocks",
        ),
        (
            NETWORK,
            {"block_channels": (), "block_pools": ()},
            "block_pools: expected one pool for each of 0 blocks",
        ),
        (NETWORK, {"block_pools": (4, 0)}, "block_pools: expected whole numbers, at least 1"),
        (
            NETWORK,
            {"mel_bins": 12},
            "mel_bins: expected a multiple of 8, the product of the max-pools",
        ),
        (NETWORK, {"mel_bins": 0}, "mel_bins: expected a whole number, at least 1, got 0"),
        (NETWORK, {"embedding_frames": 0}, "embedding_frames: expected a whole number, at least 1"),
        (NETWORK, {"pooling": "median"}, "pooling: expected one of average, max, .*, got 'median'"),
        (NETWORK, {"pooling_k": 0}, "pooling_k: expected a whole number, at least 1"),
        (TRAIN, {"epochs": 0}, "epochs: expected a whole number, at least 1, got 0"),
        (TRAIN, {"batch_size": 0}, "batch_size: expected a whole number, at least 1, got 0"),
        (TRAIN, {"shuffle_clips": 0}, "shuffle_clips: expected a whole number, at least 1, got 0"),
        (TRAIN, {"learning_rate": 0.0}, "learning_rate: expected a positive number, got 0.0"),
        (
            TRAIN,
            {"warmup_share": 1.0},
            "warmup_share: expected a number, 0 or more, below 1, got 1.0",
        ),
        (
            TRAIN,
            {"validation_share": -0.1},
            "validation_share: expected a number, 0 or more, below 1, got -0.1",
        ),
        (TRAIN, {"teacher": "none"}, "teacher: expected one of cached, online, got 'none'"),
        (
            TRAIN,
            {"precision": "auto"},
            "precision: expected one of float32, mixed_bfloat16, mixed_float16, got 'auto'",
        ),
        (STAGE, {"stage": -1}, "stage: expected a whole number, 0 or more, got -1"),
        (STAGE, {"alpha": 1.1}, "alpha: expected a number from 0 to 1, got 1.1"),
        (STAGE, {"alpha": float("nan")}, "alpha: expected a number from 0 to 1, got nan"),
        (
            STAGE,
            {"class_alphas": (0.3,)},
            r"class_alphas: expected a number from 0 to 1, or none, for each of 5 classes, "
            r"got \(0\.3,\)",
        ),
        (
            STAGE,
            {"class_alphas": (0.3, None, 1.5, 0.0, 0.0)},
            "class_alphas: expected numbers from 0 to 1, got",
        ),
        (
            STAGE,
            {"stage": 0, "alpha": 1.0, "teacher_stages": (), "class_alphas": (0.3,) * 5},
            "class_alphas: expected none for stage 0",
        ),
        (STAGE, {"stage": 0}, "alpha: expected 1 for stage 0, which has no teacher, got 0.3"),
        (STAGE, {"stage": 0, "alpha": 1.0}, "teacher_stages: expected none for stage 0"),
        (STAGE, {"teacher_stages": ()}, "teacher_stages: expected stages before stage 2, got"),
        (STAGE, {"teacher_stages": (1, 2)}, "teacher_stages: expected stages before stage 2, got"),
        (
            STAGE,
            {"teacher_stages": (-1,)},
            "teacher_stages: expected whole numbers, 0 or more, got",
        ),
    ],
)
def test_errors_name_the_setting_what_was_expected_and_what_came(config, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **changes)


def test_the_base_model_has_no_teacher():
    assert StageConfig(0, 1.0, (), NETWORK, TRAIN).teacher_stages == ()


def test_strides_windows_and_channels():
    default = WelsNetConfig(num_classes=527, width=0.25)
    assert (default.stride_frames, default.window_frames) == (32, 96)
    assert [default.channels(number) for number in (64, 2048, 1)] == [16, 512, 1]
    assert (NETWORK.stride_frames, NETWORK.window_frames) == (8, 24)


@pytest.mark.parametrize(
    ("frames", "segments"), [(1, 1), (96, 1), (97, 2), (128, 2), (998, 30), (1024, 30)]
)
def test_num_segments(frames, segments):
    assert WelsNetConfig(num_classes=1).num_segments(frames) == segments
