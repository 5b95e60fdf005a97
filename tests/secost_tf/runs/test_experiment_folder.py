"""Layout and sharing of stages, on folders written by hand: nothing is trained."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

import secost_tf
from secost_tf.models.config import WelsNetConfig
from secost_tf.runs import StageRecord, experiment_folder, stage_folder
from secost_tf.runs.experiment_folder import ExperimentRecord, data_digest, run_folder, share_stages
from secost_tf.runs.settings import StageConfig, TrainConfig
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.log_mel import LogMelConfig

NETWORK, TRAIN = WelsNetConfig(num_classes=4, mel_bins=32), TrainConfig(seed=3)
RECORD = ExperimentRecord(
    "mine", 2, (), {"stage": 2, "alphas": [0.3], "train": {"epochs": 30}}, "/data", "digest"
)
ASKED = (
    StageConfig(0, 1.0, (), NETWORK, TRAIN),
    StageConfig(1, 0.3, (0,), NETWORK, TRAIN),
    StageConfig(2, 0.3, (1,), NETWORK, TRAIN),
)
FILES = (
    "checkpoints/training-state.npz",
    "config.json",
    "metrics.json",
    "student.weights.h5",
    "teacher_scores/train-00000-of-00001.tfrecord",
)


def versions() -> dict:
    import keras
    import tensorflow as tf

    return {
        "secost_tf": secost_tf.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def write_stage(run_dir: str, config: StageConfig, weights: str = "weights", **values) -> Path:
    """Write a stage's folder as far as sharing looks at it."""
    folder = Path(run_dir, f"stage-{config.stage}")
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} of {run_dir}")
    names = tuple("abcdefgh"[: config.network.num_classes])
    record = StageRecord(config, "/data", ClassMap(names, names), LogMelConfig())
    values = record.to_dict() | {"versions": versions()} | values
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "student.weights.h5").write_text(weights)
    return folder


@pytest.fixture
def donor(tmp_path):
    """The run folder of seed 3 of another experiment on the same data, with stages 0 and 1 as asked
    for.
    """
    record = dataclasses.replace(RECORD, name="other")
    record.begin(str(tmp_path))
    folder = run_folder(str(tmp_path), "other", 3)
    for config in ASKED[:2]:
        write_stage(folder, config)
    return folder


@pytest.fixture
def mine(tmp_path):
    return run_folder(str(tmp_path), "mine", 3)


def shared(tmp_path, mine: str, record: ExperimentRecord = RECORD, seed: int = 3) -> list[int]:
    return [stage for stage, _ in share_stages(mine, ASKED, record, str(tmp_path), seed)]


# --- names ---


def test_run_folders():
    assert run_folder("E", "fixed_alpha", 4) == "E/fixed_alpha/seed-4"
    assert (
        run_folder("s3://b/E", "alpha_effect", 0, 0.3) == "s3://b/E/alpha_effect/seed-0/alpha-0.3"
    )
    assert run_folder("E", "alpha_effect", 0, 1.0) == "E/alpha_effect/seed-0/alpha-1"


@pytest.mark.parametrize("name", [None, "", "a/b", "..", "-a"])
def test_a_name_that_can_be_none(name):
    with pytest.raises(ValueError, match=r"name: expected that of an experiment, .*give --name"):
        experiment_folder.check_name(name)


# --- what was asked ---


def test_a_record_comes_back(tmp_path):
    record = dataclasses.replace(RECORD, sweep_alphas=(0.3, 1.0))
    assert ExperimentRecord.read(str(tmp_path), "mine") is None
    record.begin(str(tmp_path))
    assert ExperimentRecord.read(str(tmp_path), "mine") == record
    written = (tmp_path / "mine" / "experiment.json").stat().st_ino
    record.begin(
        str(tmp_path)
    )  # the same again, maybe by another process at this moment: nothing is written
    assert (tmp_path / "mine" / "experiment.json").stat().st_ino == written
    (tmp_path / "mine" / "experiment.json").write_text('{"name": "mine", "colour": 1}')
    with pytest.raises(
        ValueError, match=r"experiment\.json: not the settings of an experiment .*colour"
    ):
        ExperimentRecord.read(str(tmp_path), "mine")


def test_another_experiment_of_the_same_name_is_refused(tmp_path):
    RECORD.begin(str(tmp_path))
    write_stage(run_folder(str(tmp_path), "mine", 1), ASKED[0])
    settings = {"stage": 2, "alphas": [0.5], "train": {"epochs": 15}}
    message = (
        r"mine was begun with other settings \(there != asked\): alphas: \[0\.3\] != \[0\.5\]; "
        r"epochs: 30 != 15\. Continue with the same settings, or choose another --name"
    )
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECORD, settings=settings).begin(str(tmp_path))
    with pytest.raises(ValueError, match=r"sweep_alphas: \(\) != \(0\.3,\)"):
        dataclasses.replace(RECORD, sweep_alphas=(0.3,)).begin(str(tmp_path))
    moved = dataclasses.replace(RECORD, data_dir="/moved")
    moved.begin(str(tmp_path))
    with pytest.raises(
        ValueError, match=r"begun on the data of /data, which are not .* those of /moved"
    ):
        dataclasses.replace(moved, data_digest="else").begin(str(tmp_path))


def test_a_setting_that_an_older_version_did_not_have_is_off(tmp_path):
    RECORD.begin(str(tmp_path))
    write_stage(run_folder(str(tmp_path), "mine", 1), ASKED[0])
    newer = RECORD.settings | {"new_list": [], "new_flag": False}
    dataclasses.replace(RECORD, settings=newer).begin(str(tmp_path))
    with pytest.raises(ValueError, match=r"new_flag: None != True\."):
        dataclasses.replace(RECORD, settings=newer | {"new_flag": True}).begin(str(tmp_path))


@pytest.mark.parametrize("kept", ["metrics.json", "checkpoints/training-state.npz"])
def test_an_experiment_of_which_nothing_stands_may_become_another(tmp_path, kept):
    """As after settings that could not be trained with."""
    sweep = dataclasses.replace(RECORD, sweep_alphas=(0.5, 0.3))
    sweep.begin(str(tmp_path))
    folder = write_stage(run_folder(str(tmp_path), "mine", 2, 0.3), ASKED[0])
    for name in {"metrics.json", "checkpoints/training-state.npz"} - {kept}:
        (folder / name).unlink()
    with pytest.raises(ValueError, match="was begun with other settings"):
        RECORD.begin(str(tmp_path))
    (folder / kept).unlink()
    RECORD.begin(str(tmp_path))
    assert ExperimentRecord.read(str(tmp_path), "mine") == RECORD


def test_the_digest_tells_data_apart(tiny_data, kept_data, write_split):
    before = data_digest(tiny_data)
    assert before == data_digest(kept_data)  # the same clips in another folder
    path = Path(tiny_data, "train", "dataset.json")
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"settings": {"audio_dir": "elsewhere"}}))
    assert data_digest(tiny_data) == before
    path.write_text(json.dumps(info | {"positives": [1, 2, 3, 4]}))
    assert data_digest(tiny_data) != before
    path.write_text(json.dumps(info))
    write_split(tiny_data, "validation", (4,))
    assert data_digest(tiny_data) != before


# --- sharing ---


def test_the_stages_in_common_are_taken(tmp_path, donor, mine, files_of):
    before = files_of(donor)
    taken = list(share_stages(mine, ASKED, RECORD, str(tmp_path), 3))
    assert taken == [(0, donor), (1, donor)]
    assert files_of(mine) == before == files_of(donor)
    assert {Path(name).parts[0] for name in before} == {"stage-0", "stage-1"}
    assert shared(tmp_path, mine) == []  # nothing is left to take


def test_a_copy_where_no_link_can_be(tmp_path, donor, mine, files_of, monkeypatch):
    def no_link(*args):
        raise OSError("not here")

    monkeypatch.setattr(os, "link", no_link)
    assert shared(tmp_path, mine) == [0, 1] and files_of(mine) == files_of(donor)
    Path(mine, "stage-0", "config.json").write_text("changed")
    assert Path(donor, "stage-0", "config.json").read_text() != "changed"


def test_the_run_with_most_in_common_is_taken_from(tmp_path, donor, mine):
    dataclasses.replace(RECORD, name="a_sweep", sweep_alphas=(0.3, 0.1)).begin(str(tmp_path))
    for alpha in (0.3, 0.1):
        folder = run_folder(str(tmp_path), "a_sweep", 3, alpha)
        write_stage(folder, ASKED[0], "sweep")
        write_stage(folder, dataclasses.replace(ASKED[1], alpha=alpha), "sweep")
    Path(donor, "stage-1", "metrics.json").unlink()
    assert list(share_stages(mine, ASKED, RECORD, str(tmp_path), 3)) == [
        (0, run_folder(str(tmp_path), "a_sweep", 3, 0.3)),
        (1, run_folder(str(tmp_path), "a_sweep", 3, 0.3)),
    ]


@pytest.mark.parametrize(
    ("change", "values", "taken"),
    [
        ({"train": dataclasses.replace(TRAIN, epochs=31)}, {}, []),
        ({"network": dataclasses.replace(NETWORK, width=0.5)}, {}, []),
        ({"train": dataclasses.replace(TRAIN, seed=4)}, {}, []),
        ({}, {"data_dir": "/elsewhere"}, []),
        ({}, {"versions": {"tensorflow": "1.0"}}, []),
        ({}, {}, [0]),
    ],
)
def test_a_stage_that_differs_is_not_taken(tmp_path, donor, mine, change, values, taken):
    write_stage(donor, dataclasses.replace(ASKED[0], **change), **values)
    write_stage(donor, dataclasses.replace(ASKED[1], alpha=0.4))
    assert shared(tmp_path, mine) == taken


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({"auto_alphas": [0.5, 0.3], "alpha": 0.3}, [0, 1]),  # trained as with alpha 0.3 given
        ({"auto_alphas": [0.5, 0.3], "alpha": 0.5}, [0]),
        ({"estimate_class_alphas": True, "class_alphas": [0.1, 0.2, 0.3, 0.4]}, [0]),
    ],
)
def test_of_a_stage_that_chose_its_alphas_counts_what_it_was_trained_with(
    tmp_path, donor, mine, change, taken
):
    folder = write_stage(donor, ASKED[1])
    record = json.loads((folder / "config.json").read_text())
    record["stage"] |= change
    (folder / "config.json").write_text(json.dumps(record))
    assert shared(tmp_path, mine) == taken


def test_a_stage_of_an_older_version_is_taken(tmp_path, donor, mine):
    folder = write_stage(donor, ASKED[1])
    record = json.loads((folder / "config.json").read_text())
    del record["stage"]["class_alphas"]
    record["stage"] |= {"estimate_class_alphas": False, "auto_alphas": []}
    (folder / "config.json").write_text(json.dumps(record))
    assert shared(tmp_path, mine) == [0, 1]


def test_nothing_is_taken_from_what_is_not_done_or_of_another_seed_or_data(tmp_path, donor, mine):
    assert shared(tmp_path, mine, seed=4) == []
    assert shared(tmp_path, mine, dataclasses.replace(RECORD, data_digest="else")) == []
    Path(donor, "stage-0", "metrics.json").unlink()
    assert shared(tmp_path, mine) == [] and not Path(mine).exists()


def test_a_student_is_taken_only_with_its_teacher(tmp_path, donor, mine):
    write_stage(mine, ASKED[0], "weights of its own")
    assert shared(tmp_path, mine) == []
    write_stage(mine, ASKED[0])
    assert shared(tmp_path, mine) == [1]


def test_what_can_be_continued_is_left_to_be(tmp_path, donor, mine):
    folder = write_stage(mine, ASKED[0])
    (folder / "metrics.json").unlink()
    assert shared(tmp_path, mine) == []
    (folder / "checkpoints" / "training-state.npz").unlink()
    assert shared(tmp_path, mine) == [0, 1]


def test_a_copy_that_was_killed_is_made_anew(tmp_path, donor, mine, files_of, monkeypatch):
    copy, copied = stage_folder._copy_file, []

    def killed(source, target):
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(target)
        copy(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage_folder, "_copy_file", killed)
        shared(tmp_path, mine)
    assert len(files_of(mine)) == 2 and not Path(mine, "stage-0", "metrics.json").exists()
    Path(mine, "stage-0", "partial-student.weights.h5").write_text("half")
    assert shared(tmp_path, mine) == [0, 1]
    assert files_of(mine) == files_of(donor)
