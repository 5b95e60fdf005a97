"""Tables of alphas, the estimate by hand and against its definition, and stages that are trained
with them.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from secost_tf.data import splits
from secost_tf.data.splits import Split
from secost_tf.data.teacher_scores import read_labels_and_scores
from secost_tf.reporting import page_data
from secost_tf.reporting.tables import format_table
from secost_tf.runs import stage_folder
from secost_tf.training import callbacks, tensorboard
from secost_tf.training import stage as stages
from secost_tf.training.cascade import run_cascade
from secost_tf.training.class_alphas import (
    estimate_class_alphas,
    read_class_alphas,
    write_class_alphas,
)
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.shards import files, records

CLASS_MAP = ClassMap(("/m/a", "/m/b", "/m/c", "/m/d"), ("Bark", "Bell", "Rain, heavy", "Siren"))


@pytest.fixture
def begun(kept_run, tmp_path) -> str:
    """A run folder that holds stage 0 of `kept_run`."""
    shutil.copytree(Path(kept_run, "stage-0"), tmp_path / "run" / "stage-0")
    return str(tmp_path / "run")


@pytest.fixture
def validation(kept_data, cascade_config) -> Split:
    """The clips on which a stage of `kept_run` picked its best epoch."""
    return splits.training_splits(kept_data, cascade_config(1).train)[1]


@pytest.fixture
def no_training(monkeypatch):
    """Makes it a failure to train a stage."""
    monkeypatch.setattr(stages, "train_stage", lambda *args: pytest.fail("trained a stage"))


def estimated(config):
    return dataclasses.replace(config, estimate_class_alphas=True)


# --- tables ---


@pytest.mark.parametrize(
    "text",
    [
        "mid,alpha\n/m/b,0.5\n/m/c,0\n",
        'alpha,display_name,note\n0,"Rain, heavy",\n.5,Bell,loud\n',
        '# mine\nindex,mid,display_name,alpha\n7,/m/b,another name,5e-1\n8,,"Rain, heavy",0.0\n',
    ],
)
def test_classes_are_found_by_mid_or_name(tmp_path, text):
    (tmp_path / "alphas.csv").write_text(text)
    assert read_class_alphas(str(tmp_path / "alphas.csv"), CLASS_MAP) == (None, 0.5, 0.0, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mid,alpha\n/m/a,0.5\nBerk,0.5\n",
            r"alphas\.csv, line 3: unknown class 'Berk'; did you mean 'Bark'",
        ),
        (
            "mid,alpha\n/m/a,0.5\nBark,0.5\n",
            r"line 3: 'Bark' was there before, at .*alphas\.csv, line 2",
        ),
        (
            "mid,alpha\n/m/a,1.5\n",
            r"line 2: alpha: expected a number in \[0, 1\], the weight .* got '1\.5'",
        ),
        ("mid,alpha\n/m/a,\n", r"line 2: alpha: expected a number in \[0, 1\], .* got ''"),
        ("mid,alpha\n/m/a,nan\n", r"line 2: alpha: expected a number in \[0, 1\], .* got 'nan'"),
        ("mid,weight\n/m/a,0.5\n", r"line 1: expected a column 'alpha'; found mid, weight"),
        (
            "class,alpha\nBark,0.5\n",
            r"line 2: expected a class in a column 'mid' or 'display_name', got none",
        ),
        ("mid,alpha\n", r"alphas\.csv: expected a line for at least one class, got none"),
    ],
)
def test_tables_that_say_nothing(tmp_path, text, message):
    (tmp_path / "alphas.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_alphas(str(tmp_path / "alphas.csv"), CLASS_MAP)


def test_what_is_written_is_read(tmp_path):
    path, alphas = str(tmp_path / "alphas.csv"), (0.3, 0.1234, 0.0, 1.0)
    write_class_alphas(path, CLASS_MAP, alphas)
    assert Path(path).read_text().splitlines()[:2] == ["mid,display_name,alpha", "/m/a,Bark,0.3"]
    assert read_class_alphas(path, CLASS_MAP) == alphas


# --- the estimate ---


def test_the_estimate_by_hand():
    """Trust: 1 where the teacher agrees, 0.5 where it is sure that one of two labels is wrong, 1
    where it only doubts.
    """
    labels = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    scores = np.array([[1, 0, 0.5, 0.9], [1, 1, 0.5, 0], [0, 0, 0.5, 0], [0, 0, 0.5, 0]])
    mean = 2.5 / 3
    expected = [
        0.3 / mean,
        0.15 / mean,
        0.3 / mean,
        0.3,
    ]  # the last class has no labels: it takes alpha
    assert estimate_class_alphas([(labels, scores)], 0.3) == pytest.approx(expected, abs=5e-5)
    in_parts = [(labels[:1], scores[:1]), (labels[1:], scores[1:])]
    assert estimate_class_alphas(in_parts, 0.3) == estimate_class_alphas([(labels, scores)], 0.3)
    assert estimate_class_alphas([(labels, scores)], 1.0) == (1.0, 0.6, 1.0, 1.0)  # 1.2, in bounds
    assert estimate_class_alphas([(labels, scores)], 0.0) == (0.0,) * 4
    assert estimate_class_alphas([(labels[:, 3:], scores[:, 3:])], 0.3) == (0.3,)


def test_wrong_labels_weigh_less_and_hard_classes_do_not():
    """Labels drawn from the scores of a teacher that is sure, of one that is not, and a third of
    the first's turned round.
    """
    generator = np.random.default_rng(0)
    sure, unsure = (generator.beta(shape, shape, 20_000) for shape in (0.05, 2.0))
    scores = np.stack([sure, unsure, sure], axis=1)
    labels = generator.random(scores.shape) < scores
    labels[:, 2] ^= generator.random(len(labels)) < 1 / 3
    sure, unsure, wrong = estimate_class_alphas([(labels, scores)], 0.3)
    assert sure == pytest.approx(unsure, rel=0.02) and wrong < 0.6 * sure


def test_labels_and_scores_are_joined(kept_run, kept_data, read_clips, validation):
    folders = [str(Path(kept_run, f"stage-{number}", "teacher_scores")) for number in (0, 1)]
    by_id = [
        dict(
            records.decode_teacher_scores(record)
            for path in sorted(Path(folder).iterdir())
            for record in files.read_records(str(path))
        )
        for folder in folders
    ]
    chosen = {
        video_id
        for ids, flags in zip(validation.clip_ids, validation.selected, strict=True)
        for video_id, is_in in zip(ids, flags, strict=True)
        if is_in
    }
    clips = [clip for clip in read_clips(kept_data, "train") if clip.video_id in chosen]
    assert 1 < len(clips) < 30
    labels, scores = (
        np.concatenate(one)
        for one in zip(*read_labels_and_scores(validation, folders), strict=True)
    )
    for clip, of_clip, mean in zip(clips, labels, scores, strict=True):
        assert set(np.flatnonzero(of_clip)) == set(clip.labels)
        np.testing.assert_allclose(
            mean, (by_id[0][clip.video_id] + by_id[1][clip.video_id]) / 2, rtol=1e-6
        )


# --- stages ---


def test_given_alphas_reach_the_loss(kept_run, kept_data, cascade_config, begun, one_device):
    """0.3 in each class, whatever alpha is, trains as alpha 0.3 does."""
    config = dataclasses.replace(cascade_config(1, 0.9), class_alphas=(0.3,) * 4)
    rows = run_cascade(config, kept_data, begun, one_device)
    expected = json.loads(Path(kept_run, "summary.json").read_text())[1]
    for name in ("mAP", "mAUC", "lwlrap"):
        assert rows[1][name] == pytest.approx(expected[name], abs=1e-5)
    assert (rows[1]["alpha"], rows[1]["alpha_note"]) == (0.9, "per class")
    assert " 0.9 per class " in format_table(rows)
    assert page_data.read_run(begun).stages[1].alpha_note == "per class"


def test_a_stage_with_estimated_alphas(
    kept_run, kept_data, cascade_config, begun, one_device, validation, monkeypatch
):
    config, plain = estimated(cascade_config(1)), callbacks.Progress.on_train_batch_end

    def interrupted(self, batch, logs=None):
        plain(self, batch, logs)
        if self.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callbacks.Progress, "on_train_batch_end", interrupted)
        run_cascade(config, kept_data, begun, one_device)
    run_cascade(config, kept_data, begun, one_device)  # continued, with the same estimate
    record = stage_folder.StageRecord.read(begun, 1)
    batches = read_labels_and_scores(validation, [str(Path(kept_run, "stage-0", "teacher_scores"))])
    assert record.config.class_alphas == estimate_class_alphas(batches, 0.3)
    assert len(set(record.config.class_alphas)) > 1 and record.config.alpha == 0.3
    assert tensorboard.hparams_of(record)["alpha_note"] == "per class"
    table = str(Path(begun, "stage-1", "alpha_per_class.csv"))
    assert read_class_alphas(table, record.class_map) == record.config.class_alphas

    monkeypatch.setattr(stages, "train_stage", lambda *args: pytest.fail("trained a stage"))
    rows = run_cascade(config, kept_data, begun, lambda: pytest.fail("made a strategy"))
    assert rows[1]["alpha_note"] == "per class"
    with pytest.raises(
        ValueError, match=r"stage-1 is done, .*: estimate_class_alphas: True != False"
    ):
        given = dataclasses.replace(cascade_config(1), class_alphas=record.config.class_alphas)
        run_cascade(given, kept_data, begun, one_device)


def test_a_kept_stage_with_other_alphas_is_an_error(
    kept_run, kept_data, cascade_config, no_training
):
    for stage in (1, 2):  # the last one, and one before
        config = dataclasses.replace(cascade_config(stage), class_alphas=(None, 0.5, None, None))
        message = r"stage-1 is done, .* class_alphas: \(\) != \(None, 0\.5, None, None\)"
        with pytest.raises(ValueError, match=message):
            run_cascade(config, kept_data, kept_run, lambda: pytest.fail("made a strategy"))


def test_a_stage_begun_with_other_alphas_is_an_error(
    kept_run, kept_data, cascade_config, begun, one_device
):
    shutil.copytree(Path(kept_run, "stage-1"), Path(begun, "stage-1"))
    Path(begun, "stage-1", "metrics.json").unlink()
    message = r"stage-1 was begun with other settings \(there != now\): class_alphas: \(\) != \(0\."
    with pytest.raises(ValueError, match=message):
        run_cascade(estimated(cascade_config(1)), kept_data, begun, one_device)


def test_an_estimate_needs_clips_that_the_teacher_has_scored(
    tiny_data, write_split, cascade_config, tmp_path, one_device, no_training
):
    run_dir = str(tmp_path / "run")
    with pytest.raises(
        ValueError,
        match=r"--estimate_alpha_per_class needs validation clips, .*set --validation_share",
    ):
        run_cascade(
            estimated(cascade_config(1, validation_share=0.0)), tiny_data, run_dir, one_device
        )
    write_split(tiny_data, "validation", (8,))
    message = rf"{tiny_data} has a validation split of its own: use a --data_dir without one .*--alpha_per_class_csv"
    with pytest.raises(ValueError, match=message):
        run_cascade(estimated(cascade_config(1)), tiny_data, run_dir, one_device)
    assert not Path(run_dir).exists()


def test_settings_that_cannot_be(cascade_config):
    with pytest.raises(
        ValueError,
        match="alpha_per_class_csv: gives the alphas that --estimate_alpha_per_class would",
    ):
        estimated(dataclasses.replace(cascade_config(1), class_alphas=(0.3,) * 4))
    with pytest.raises(
        ValueError, match=r"estimate_alpha_per_class: .* leave out --teacher=online"
    ):
        estimated(cascade_config(1, teacher="online"))
