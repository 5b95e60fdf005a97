import csv
import dataclasses
import json
import re
import shutil
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit
from sklearn.metrics import average_precision_score, confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.pr_curve import metadata as pr_metadata

from secost_tf import train
from secost_tf.data import splits
from secost_tf.evaluation import metrics, scoring
from secost_tf.runs import StageFolder, load_student
from secost_tf.runs.settings import RunOptions
from secost_tf.runs.stage_folder import StageRecord
from secost_tf.training import flags, tensorboard
from secost_tf.training import stage as stages
from secost_tf.training.checkpoints import TrainingState
from tfrecord_tools.shards import info as shards

FLAGS = "# flags\n--width=0.02\n"


def board_of(run_dir, stage: int) -> Path:
    return Path(run_dir, f"stage-{stage}", "tensorboard")


def events_of(folder) -> EventAccumulator:
    return EventAccumulator(str(folder), {"tensors": 0}).Reload()


def points(events: EventAccumulator, tag: str) -> list[tuple[int, np.ndarray]]:
    return [(event.step, tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]


def history_of(run_dir, stage: int) -> list[dict[str, float]]:
    with open(Path(run_dir, f"stage-{stage}", "history.csv"), newline="") as stream:
        return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def record(kept_run) -> StageRecord:
    return StageFolder(kept_run, 1).record


def settings(record, *, epochs: int) -> StageRecord:
    train = dataclasses.replace(record.config.train, epochs=epochs)
    return dataclasses.replace(record, config=dataclasses.replace(record.config, train=train))


def row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "loss": 1.0 / epoch, "learning_rate": 0.5, "gradient_norm": 2.0 * epoch}


# --- what a trained run holds ---


def test_scalars_are_those_of_the_history(kept_run):
    for stage in (0, 1, 2):
        events, rows = events_of(board_of(kept_run, stage)), history_of(kept_run, stage)
        assert len(rows) == 2
        for name in set(rows[0]) - {"epoch", "val_loss", "val_mAP"}:
            expected = [(int(one["epoch"]), pytest.approx(one[name], rel=1e-6)) for one in rows]
            assert points(events, f"training/{name}") == expected, name
        for name in ("loss", "mAP"):
            expected = [
                (int(one["epoch"]), pytest.approx(one[f"val_{name}"], rel=1e-6)) for one in rows
            ]
            assert points(events, f"validation/{name}") == expected
        rates = points(events, "training/clips_per_second")
        assert [step for step, _ in rates] == [1, 2] and all(rate > 0 for _, rate in rates)


def test_tags_are_the_same_for_every_stage(kept_run):
    tags = [set(events_of(board_of(kept_run, stage)).Tags()["tensors"]) for stage in (0, 1, 2)]
    assert tags[0] == tags[1] == tags[2]
    groups = {tag.split("/")[0] for tag in tags[0]}
    assert groups == {
        "training", "validation", "precision_recall", "clips", "evaluation", "settings",
        "_hparams_",
    }  # fmt: skip


def test_validation_figures_are_those_of_the_student_that_was_kept(kept_run, kept_data, record):
    """The last epoch has the curves; where it is the best, the student scores as it did then."""
    stage = next(
        stage
        for stage in (0, 1, 2)
        if json.loads(Path(kept_run, f"stage-{stage}", "metrics.json").read_text())["best_epoch"]
        == 2
    )
    events = events_of(board_of(kept_run, stage))
    validation = splits.training_splits(kept_data, record.config.train)[1]
    _, labels, logits = scoring.Scorer(load_student(kept_run, stage), 4).split(validation)
    evaluation, scores = metrics.evaluate_scores(labels, logits), expit(logits, dtype=np.float64)
    for name in ("mAUC", "d_prime"):
        assert points(events, f"validation/{name}")[-1] == (
            2,
            pytest.approx(getattr(evaluation, name), 1e-4, 1e-4),
        )
    histogram = points(events, "validation/AP_of_classes")[-1][1]
    assert histogram[:, 2].sum() == np.isfinite(evaluation.per_class.average_precision).sum()
    curves = {
        tag.split("/")[1]: points(events, tag)
        for tag in events.Tags()["tensors"]
        if tag.startswith("precision_recall/")
    }
    assert set(curves) == {"all classes (micro-average)"} | {
        name
        for name, count in zip(record.class_map.display_names, labels.sum(axis=0), strict=True)
        if count
    }
    for name, curve in curves.items():
        ((step, counts),) = curve
        assert step == 2 and counts.shape == (6, 201)
        columns = (
            slice(None)
            if name.startswith("all classes")
            else [record.class_map.display_names.index(name)]
        )
        positives = labels[:, columns].sum()
        np.testing.assert_allclose(counts[0] + counts[3], positives)
        np.testing.assert_allclose(counts[:4].sum(axis=0), labels[:, columns].size)
        np.testing.assert_allclose(
            counts[:, 100],
            tensorboard.curve_counts(labels[:, columns], scores[:, columns])[:, 100],
            atol=1.01,
        )


def test_the_curves_are_in_the_format_of_the_plugin(kept_run):
    events = events_of(board_of(kept_run, 1))
    found = events.PluginTagToContent(pr_metadata.PLUGIN_NAME)
    assert len(found) == 5
    for tag, content in found.items():
        assert pr_metadata.parse_plugin_metadata(content).num_thresholds == 201
        assert tag.startswith("precision_recall/") and tag.endswith("/pr_curves")


def test_clips_are_shown_at_the_last_epoch(kept_run, kept_data, record):
    validation = splits.training_splits(kept_data, record.config.train)[1]
    ids = {one for shard in validation.clip_ids for one in shard}
    shown = []
    for stage in (0, 1):
        events = events_of(board_of(kept_run, stage))
        tags = sorted(tag for tag in events.Tags()["tensors"] if tag.startswith("clips/"))
        assert len(tags) == 4 and {tag.removeprefix("clips/") for tag in tags} <= ids
        for tag in tags:
            ((step, (width, height, png)),) = points(events, tag)
            assert (
                step == 2 and int(width) == 800 and int(height) > 300 and png.startswith(b"\x89PNG")
            )
            assert np.ptp(tf.io.decode_png(png).numpy()) > 200
        shown.append(tags)
    assert shown[0] == shown[1]


def test_hyper_parameters_and_settings(kept_run, record):
    events = events_of(board_of(kept_run, 1))
    contents = events.PluginTagToContent(hparams_metadata.PLUGIN_NAME)
    start = hparams_metadata.parse_session_start_info_plugin_data(
        contents[hparams_metadata.SESSION_START_INFO_TAG]
    )
    values = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()
    }
    expected = {
        "stage": 1,
        "alpha": 0.3,
        "width": 0.02,
        "seed": 1,
        "epochs": 2,
        "learning_rate": 3e-3,
    }
    assert expected.items() <= values.items()
    assert (values["pooling"], values["teacher_stages"], values["ema"]) == ("average", "0", 0)
    experiment = hparams_metadata.parse_experiment_plugin_data(
        contents[hparams_metadata.EXPERIMENT_TAG]
    )
    tags = {metric.name.tag for metric in experiment.metric_infos}
    assert {"validation/mAP", "evaluation/mAP"} <= tags <= set(events.Tags()["tensors"])
    assert {info.name for info in experiment.hparam_infos} == set(values)
    assert hparams_metadata.SESSION_END_INFO_TAG in contents
    assert start.group_name == f"stage 1 of {board_of(kept_run, 1)}"
    assert [info.name for info in experiment.hparam_infos if info.differs] == [
        "stage", "alpha", "width", "pooling", "seed",
    ]  # fmt: skip
    ((step, text),) = points(events, "settings/config")
    assert step == 0
    written = json.loads(text.item().decode().removeprefix("```json\n").removesuffix("\n```"))
    assert written["stage"] == json.loads(json.dumps(record.config.to_dict()))


def test_final_figures_are_those_of_metrics_json(kept_run, record, tmp_path):
    figures = json.loads(Path(kept_run, "stage-1", "metrics.json").read_text())
    shutil.copytree(board_of(kept_run, 1), tmp_path / "board")
    tensorboard.write_final(
        str(tmp_path / "board"), record, figures
    )  # a second time: nothing is written
    events = events_of(tmp_path / "board")
    for name in ("mAP", "mAUC", "d_prime", "lwlrap", "chance", "best_epoch"):
        assert points(events, f"evaluation/{name}") == [(2, pytest.approx(figures[name], rel=1e-6))]


def test_a_figure_that_does_not_exist_is_left_out(record, tmp_path):
    tensorboard.write_final(str(tmp_path), record, {"mAP": None, "mAUC": 0.5})
    assert {"evaluation/mAUC"} == {
        tag for tag in events_of(tmp_path).Tags()["tensors"] if tag.startswith("evaluation/")
    }


def test_figures_that_are_no_numbers_are_left_out(record, tmp_path):
    """The mAP of validation clips of which none has a label; TensorBoard's table cannot take it."""
    history = [{**row(1), "val_loss": 0.5, "val_mAP": float("nan")}]
    tensorboard.TensorBoard(
        str(tmp_path), record, TrainingState(epoch=1, history=history), 10
    ).close()
    steps = tensorboard.written_steps(str(tmp_path))
    assert "validation/mAP" not in steps and steps["validation/loss"] == steps["training/loss"] == {
        1
    }


# --- a stage that is continued ---


def test_epochs_that_the_folder_lacks_are_written_first(record, tmp_path):
    """A run may be stopped when its state is saved and TensorBoard's point is not written yet."""
    state = TrainingState()
    board = tensorboard.TensorBoard(
        str(tmp_path), settings(record, epochs=4), state, 10, RunOptions(flags=FLAGS)
    )
    for epoch in (1, 2):
        state.history.append(row(epoch))
        if epoch == 1:
            board.on_epoch_begin(0)
            board.on_train_batch_end(9)
            board.on_epoch_end(0)
        state.epoch = epoch
    board.close()
    board = tensorboard.TensorBoard(
        str(tmp_path), settings(record, epochs=4), state, 10, RunOptions(flags=FLAGS)
    )
    state.history.append(row(3))
    state.epoch = 3
    board.on_epoch_begin(2)
    board.on_epoch_end(2)
    board.close()
    events = events_of(tmp_path)
    assert points(events, "training/loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert points(events, "training/gradient_norm") == [(1, 2.0), (2, 4.0), (3, 6.0)]
    assert len(points(events, "settings/config")) == len(points(events, "settings/flags")) == 1
    assert FLAGS in points(events, "settings/flags")[0][1].item().decode()


@pytest.mark.parametrize("kept_epochs", [0, 1])
def test_what_an_attempt_left_that_is_not_continued_is_removed(record, tmp_path, kept_epochs):
    folder, state = str(tmp_path / "board"), TrainingState()
    board = tensorboard.TensorBoard(folder, settings(record, epochs=4), state, 10)
    for epoch in (1, 2):
        state.history.append(row(epoch))
        state.epoch = epoch
        board.on_epoch_begin(epoch - 1)
        board.on_epoch_end(epoch - 1)
    board.close()
    again = TrainingState(epoch=kept_epochs, history=[{**row(1), "loss": 7.0}][:kept_epochs])
    board = tensorboard.TensorBoard(folder, settings(record, epochs=4), again, 10)
    board.close()
    assert tensorboard.written_steps(folder).get("training/loss", set()) == set(
        range(1, kept_epochs + 1)
    )
    if kept_epochs:
        assert points(events_of(folder), "training/loss") == [(1, 7.0)]
    assert tensorboard.written_steps(folder)["settings/config"] == {0}


def test_a_file_that_ends_in_the_middle_counts_up_to_there(record, tmp_path):
    board = tensorboard.TensorBoard(
        str(tmp_path), record, TrainingState(epoch=2, history=[row(1), row(2)]), 10
    )
    board.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    steps = tensorboard.written_steps(str(tmp_path))
    assert steps["training/loss"] == {1, 2} and steps["training/gradient_norm"] == {1}
    assert tensorboard.written_steps(str(tmp_path / "nowhere")) == {}


# --- without a validation split ---


def test_without_validation_all_else_is_written(kept_data, tmp_path, cascade_config, one_device):
    info = shards.read_dataset_info(kept_data, "train")
    config = cascade_config(0, validation_share=0.0, epochs=1).stage_config(0, info)
    options = RunOptions(flags=FLAGS, profile_steps=(2, 3))
    stages.train_stage(config, kept_data, str(tmp_path), one_device(), options)
    tags = set(events_of(board_of(tmp_path, 0)).Tags()["tensors"])
    assert {
        "training/loss",
        "training/clips_per_second",
        "evaluation/mAP",
        "settings/flags",
    } <= tags
    assert not any(tag.startswith(("validation/", "clips/", "precision_recall/")) for tag in tags)
    assert list(board_of(tmp_path, 0).glob("plugins/profile/*/*.xplane.pb"))


# --- profiles ---


def test_steps_to_profile_that_are_not_there(record, tmp_path):
    with pytest.raises(
        ValueError, match=r"profile_steps: expected at most 20, .* \(2 epochs of 10\), got 15,21"
    ):
        tensorboard.TensorBoard(
            str(tmp_path), record, TrainingState(), 10, RunOptions(profile_steps=(15, 21))
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [(5,), (0, 3), (4, 3), (1, 2, 3)])
def test_steps_to_profile_that_are_no_range(steps):
    with pytest.raises(ValueError, match=r"profile_steps: expected a first and a last step"):
        RunOptions(profile_steps=steps)


@pytest.mark.parametrize("steps", ["20,10", "5", "5,x"])
def test_the_command_says_so_before_all_else(command, tmp_path, steps):
    status, _, stderr = command(train, f"--profile_steps={steps}", f"--run_dir={tmp_path / 'run'}")
    assert status == 1 and re.search("profile_steps.*: expected", stderr)
    assert not (tmp_path / "run").exists()


def test_the_flags_become_the_options(monkeypatch, command):
    made = []

    def stop(*settings):
        made.append(flags.read_run_options())
        raise ValueError("far enough")

    monkeypatch.setattr(train, "set_up", stop)
    status, _, stderr = command(
        train, "--profile_steps=10,20", "--picture_clips=2", "--picture_epochs=3"
    )
    assert status == 1 and "far enough" in stderr
    (options,) = made
    assert (options.profile_steps, options.picture_clips, options.picture_epochs) == (
        (10, 20),
        2,
        3,
    )
    assert "--profile_steps=10,20" in options.flags


@pytest.mark.parametrize("options", [{"picture_clips": -1}, {"picture_epochs": 0}])
def test_other_options_that_cannot_be(options):
    with pytest.raises(ValueError, match=r"picture_\w+: expected"):
        RunOptions(**options)


def test_the_profile_covers_the_steps_that_were_asked_for(record, tmp_path, monkeypatch):
    calls, state = [], TrainingState(epoch=1, step=2)
    profiler = types.SimpleNamespace(
        start=lambda folder: calls.append("start"), stop=lambda: calls.append("stop")
    )
    monkeypatch.setattr(tensorboard.tf.profiler, "experimental", profiler)
    board = tensorboard.TensorBoard(
        str(tmp_path), settings(record, epochs=3), state, 10, RunOptions(profile_steps=(14, 22))
    )
    for epoch, batches in ((1, 8), (2, 10)):  # steps 13 to 20, then 21 to 30
        board.on_epoch_begin(epoch)
        for batch in range(batches):
            board.on_train_batch_begin(batch)
            calls.append(batch)
            board.on_train_batch_end(batch)
        state.epoch, state.step = epoch + 1, 0
    board.close()
    assert calls == [0, "start", *range(1, 8), 0, 1, "stop", *range(2, 10)]


# --- the pieces ---


def test_curve_counts_by_hand():
    labels, scores = np.array([1, 0, 1, 0]), np.array([1.0, 0.75, 0.5, 0.0])
    counts = tensorboard.curve_counts(labels, scores, num_thresholds=5)  # 0, 0.25, 0.5, 0.75, 1
    expected = [
        [2, 2, 2, 1, 1],
        [2, 1, 1, 1, 0],
        [0, 1, 1, 1, 2],
        [0, 0, 0, 1, 1],
        [1 / 2, 2 / 3, 2 / 3, 1 / 2, 1],
        [1, 1, 1, 1 / 2, 1 / 2],
    ]
    np.testing.assert_allclose(counts, expected)


def test_curve_counts_against_scikit_learn():
    generator = np.random.default_rng(3)
    labels, scores = generator.integers(0, 2, (40, 3)), generator.random((40, 3)) * 0.9
    counts = tensorboard.curve_counts(labels, scores, num_thresholds=11)
    for index in range(11):
        found = scores.ravel() >= index / 10
        (tn, fp), (fn, tp) = confusion_matrix(labels.ravel(), found, labels=[0, 1])
        np.testing.assert_array_equal(counts[:4, index], [tp, fp, tn, fn])
    assert counts[4, 10] == 0  # nothing is found
    fine = tensorboard.curve_counts(labels, np.round(scores, 4), num_thresholds=10_001)
    recalls = np.append(fine[5], 0.0)
    area = np.sum((recalls[:-1] - recalls[1:]) * fine[4])
    assert area == pytest.approx(
        average_precision_score(labels, np.round(scores, 4), average="micro")
    )


def test_a_curve_without_positives_has_no_recall():
    counts = tensorboard.curve_counts(np.zeros(3), np.array([0.1, 0.5, 0.9]), num_thresholds=3)
    np.testing.assert_array_equal(
        counts, [[0, 0, 0], [3, 2, 0], [0, 1, 3], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    )


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(4, [1, 2, 4, 5]), (2, [1, 4]), (3, [1, 2, 4]), (9, [1, 2, 4, 5]), (0, [])],
)
def test_chosen_clips_show_many_classes(count, chosen):
    labels = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 1, 0]])
    assert tensorboard.choose_clips(labels, count) == chosen
