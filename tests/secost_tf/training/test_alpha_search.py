"""The search for alpha: once in earnest, else over stages whose figures are made up."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from secost_tf.reporting.tables import format_table
from secost_tf.runs import stage_folder, students
from secost_tf.runs.settings import RunOptions
from secost_tf.training import alpha_search, cascade, cost
from secost_tf.training import stage as stages
from secost_tf.training.alpha_search import describe_trainings
from secost_tf.training.cascade import run_cascade
from tfrecord_tools.shards import info as shards

# Validation mAP and loss by epoch, for each alpha; the best epoch is the second.
FIGURES = {
    0.7: ((0.9, 0.1), (0.5, 0.3)),
    0.3: ((0.1, 0.5), (0.6, 0.4)),
    0.1: ((0.1, 0.5), (0.4, 0.2)),
}


@pytest.fixture
def begun(kept_run, tmp_path) -> Path:
    """A run folder that holds stage 0 of `kept_run`."""
    shutil.copytree(Path(kept_run, "stage-0"), tmp_path / "run" / "stage-0")
    return tmp_path / "run"


@pytest.fixture
def auto(cascade_config):
    """Makes the settings of a cascade that chooses its alphas."""

    def make(stage: int, alphas=tuple(FIGURES), **train):
        return dataclasses.replace(cascade_config(stage, **train), alphas=(), auto_alphas=alphas)

    return make


class Trained:
    """Trains nothing, but writes what the search and the next stage read of a stage; notes what was
    asked.
    """

    def __init__(self, figures=FIGURES):
        self.figures, self.runs, self.weights = dict(figures), [], "weights"

    def __call__(self, config, data_dir, run_dir, strategy, options):
        if self.figures.get(config.alpha) is None and config.stage:
            raise KeyboardInterrupt
        self.runs.append((config.stage, config.alpha))
        info = shards.read_dataset_info(data_dir, "train")
        folder = Path(run_dir, f"stage-{config.stage}")
        (folder / "checkpoints").mkdir(parents=True)
        stage_folder.StageRecord(config, data_dir, info.class_map, info.log_mel).write(run_dir)
        for name in ("checkpoints/training-state.npz", "student.weights.h5"):
            (folder / name).write_text(f"{self.weights} of {config.alpha}")
        with open(folder / "history.csv", "w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["epoch", "loss", "val_mAP", "val_loss"])
            for epoch, figures in enumerate(self.figures.get(config.alpha, ((0, 0), (0, 0))), 1):
                writer.writerow([epoch, 0.5, *figures])
        metrics = {
            "stage": config.stage,
            "alpha": config.alpha,
            "alpha_note": config.alpha_note,
            "best_epoch": 2,
        }
        measures = dict.fromkeys(("mAP", "mAUC", "d_prime", "lwlrap", "chance"), 0.5)
        metrics |= {"teacher_stages": config.teacher_stages, "split": "eval"} | measures
        (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def train(monkeypatch):
    """Puts a `Trained` in the place of training."""

    def put(figures=FIGURES) -> Trained:
        trained = Trained(figures)
        monkeypatch.setattr(stages, "train_stage", trained)
        return trained

    return put


def found_in(run_dir, stage: int = 1) -> dict:
    return json.loads(Path(run_dir, f"stage-{stage}", "alpha_search.json").read_text())


# --- in earnest ---


def test_a_search_from_end_to_end(kept_run, kept_data, auto, begun, one_device, files_of, caplog):
    with caplog.at_level("INFO"):
        rows = run_cascade(auto(1, (0.9, 0.3)), kept_data, str(begun), one_device)
    assert (
        "stages to train: 1; with --alpha=auto 2 trainings for each after stage 0 (alpha 0.9, 0.3)"
        in caplog.text
    )
    assert "stage 1: alpha the best of 0.9, 0.3, teacher 0" in caplog.text
    found = found_in(begun)
    best = max(found, key=found.get)
    assert list(found) == ["0.9", "0.3"] and 0 < min(found.values()) <= max(found.values()) <= 1
    with open(Path(kept_run, "stage-1", "history.csv"), newline="") as stream:
        at_03 = max(float(row["val_mAP"]) for row in csv.DictReader(stream))
    assert found["0.3"] == pytest.approx(
        at_03, abs=1e-6
    )  # a candidate is the stage that --alpha=0.3 gives
    assert (rows[1]["alpha"], rows[1]["alpha_note"]) == (float(best), "auto")
    assert f" {best} auto " in format_table(rows)
    assert sorted(path.name for path in begun.iterdir()) == [
        "stage-0",
        "stage-1",
        "summary.csv",
        "summary.json",
    ]
    names = {path.name for path in Path(kept_run, "stage-1").iterdir()}
    assert {path.name for path in (begun / "stage-1").iterdir()} == names | {"alpha_search.json"}
    students.load_student(str(begun), 1)
    before = files_of(begun)
    run_cascade(auto(1, (0.9, 0.3)), kept_data, str(begun), lambda: pytest.fail("made a strategy"))
    assert files_of(begun) == before


# --- which one is the best ---


@pytest.mark.parametrize(
    ("changes", "best", "found"),
    [
        ({}, 0.3, {"0.7": 0.5, "0.3": 0.6, "0.1": 0.4}),  # by the epoch that is kept, not by any
        (
            {0.1: ((0, 0), (0.6, 0.3))},
            0.1,
            {"0.7": 0.5, "0.3": 0.6, "0.1": 0.6},
        ),  # then by the loss
        ({0.3: ((0, 0), ("nan", 0.0))}, 0.7, {"0.7": 0.5, "0.3": None, "0.1": 0.4}),
        (dict.fromkeys(FIGURES, ((0, 0), (0.5, 0.5))), 0.7, {"0.7": 0.5, "0.3": 0.5, "0.1": 0.5}),
    ],
)
def test_the_best_alpha(kept_data, auto, begun, one_device, train, changes, best, found):
    trained = train(FIGURES | changes)
    rows = run_cascade(auto(1), kept_data, str(begun), one_device)
    assert trained.runs == [(1, 0.7), (1, 0.3), (1, 0.1)]
    assert found_in(begun) == found and rows[1]["alpha"] == best
    record = stage_folder.StageRecord.read(str(begun), 1)
    assert (record.config.alpha, record.config.auto_alphas) == (best, tuple(FIGURES))
    assert Path(begun, "stage-1", "student.weights.h5").read_text() == f"weights of {best}"
    assert not (begun / "alpha-search").exists()


def test_each_stage_learns_from_the_best_one_before(kept_data, auto, tmp_path, one_device, train):
    trained, run_dir = train(), tmp_path / "run"
    rows = run_cascade(auto(2), kept_data, str(run_dir), one_device)
    assert trained.runs == [(0, 1.0), *((stage, alpha) for stage in (1, 2) for alpha in FIGURES)]
    assert [row["alpha"] for row in rows] == [1.0, 0.3, 0.3]


def test_a_candidate_has_its_teachers_beside_it(
    kept_data, auto, begun, one_device, train, files_of
):
    before = files_of(begun / "stage-0")
    train({0.7: FIGURES[0.7], 0.3: None})
    with pytest.raises(KeyboardInterrupt):
        run_cascade(auto(1), kept_data, str(begun), one_device)
    search = begun / "alpha-search" / "stage-1"
    assert sorted(path.name for path in search.iterdir()) == ["alpha-0.1", "alpha-0.3", "alpha-0.7"]
    assert sorted(path.name for path in (search / "alpha-0.7").iterdir()) == ["stage-0", "stage-1"]
    # Not what TensorBoard shows of them: it would show them once for each alpha.
    expected = {
        name: content for name, content in before.items() if not name.startswith("tensorboard")
    }
    assert files_of(search / "alpha-0.7" / "stage-0") == expected != before


# --- killed and continued ---


def test_a_killed_search_continues_where_it_was(kept_data, auto, begun, one_device, train, caplog):
    trained = train({0.7: FIGURES[0.7], 0.3: None})
    with pytest.raises(KeyboardInterrupt):
        run_cascade(auto(1), kept_data, str(begun), one_device)
    assert trained.runs == [(1, 0.7)] and not (begun / "stage-1").exists()
    trained = train()
    with caplog.at_level("INFO"):
        run_cascade(auto(1), kept_data, str(begun), one_device)
    assert (
        trained.runs == [(1, 0.3), (1, 0.1)] and "stage 1, alpha 0.7 (1 of 3): kept" in caplog.text
    )
    assert found_in(begun) == {"0.7": 0.5, "0.3": 0.6, "0.1": 0.4}


@pytest.mark.parametrize("last", ["training-state.npz", "metrics.json"])
def test_a_search_killed_while_its_best_takes_its_place(
    kept_data, auto, begun, one_device, train, monkeypatch, last
):
    copy, trained = stage_folder._copy_file, train()

    def killed(source, target):
        if target == str(begun / "stage-1" / last) or target.endswith(
            f"run/stage-1/checkpoints/{last}"
        ):
            raise KeyboardInterrupt
        copy(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage_folder, "_copy_file", killed)
        run_cascade(auto(1), kept_data, str(begun), one_device)
    assert (begun / "stage-1").exists() and not stage_folder.is_done(str(begun), 1)
    rows = run_cascade(auto(1), kept_data, str(begun), one_device)
    assert (
        len(trained.runs) == 3 and rows[1]["alpha"] == 0.3 and not (begun / "alpha-search").exists()
    )


def test_a_search_killed_before_the_others_are_removed(
    kept_data, auto, begun, one_device, train, monkeypatch
):
    trained = train()

    def killed(run_dir, number):
        if number == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(alpha_search, "remove_search", killed)
        run_cascade(auto(1), kept_data, str(begun), one_device)
    assert stage_folder.is_done(str(begun), 1) and (begun / "alpha-search").exists()
    run_cascade(auto(1), kept_data, str(begun), one_device)
    assert len(trained.runs) == 3 and not (begun / "alpha-search").exists()


def test_candidates_of_a_teacher_that_is_gone_are_trained_anew(
    kept_data, auto, begun, one_device, train
):
    train({0.7: FIGURES[0.7], 0.3: None})
    with pytest.raises(KeyboardInterrupt):
        run_cascade(auto(1), kept_data, str(begun), one_device)
    (begun / "stage-0" / "student.weights.h5").unlink()  # a link that others have, too
    (begun / "stage-0" / "student.weights.h5").write_text("trained anew")
    trained = train()
    run_cascade(auto(1), kept_data, str(begun), one_device)
    assert trained.runs == [(1, 0.7), (1, 0.3), (1, 0.1)]


def test_candidates_of_other_settings_are_an_error(kept_data, auto, begun, one_device, train):
    train({0.7: FIGURES[0.7], 0.3: None})
    with pytest.raises(KeyboardInterrupt):
        run_cascade(auto(1), kept_data, str(begun), one_device)
    for other, message in (
        (
            auto(1, ema=0.5),
            r"alpha-0\.7/stage-1 was begun with other settings .*: ema: 0\.0 != 0\.5\.",
        ),
        (
            auto(1, (0.7, 0.2)),
            r"was begun with other settings .*: auto_alphas: \(0\.7, 0\.3, 0\.1\) != \(0\.7, 0\.2\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            run_cascade(other, kept_data, str(begun), one_device)


def test_a_stage_begun_with_a_given_alpha_is_an_error(
    kept_run, kept_data, auto, begun, one_device, train
):
    shutil.copytree(Path(kept_run, "stage-1"), begun / "stage-1")
    (begun / "stage-1" / "metrics.json").unlink()
    trained = train()
    message = (
        r"run/stage-1 was begun with other settings .*auto_alphas: \(\) != \(0\.7, 0\.3, 0\.1\)"
    )
    with pytest.raises(ValueError, match=message):
        run_cascade(auto(1), kept_data, str(begun), one_device)
    assert not trained.runs and (begun / "stage-1" / "checkpoints").exists()


# --- kept ---


def test_what_was_chosen_is_kept_only_where_the_same_is_asked(
    kept_run, kept_data, auto, begun, cascade_config, one_device, train
):
    train()
    run_cascade(auto(1), kept_data, str(begun), one_device)
    for other, difference in (
        (auto(1, (0.7, 0.3)), r"auto_alphas: \(0\.7, 0\.3, 0\.1\) != \(0\.7, 0\.3\)"),
        (cascade_config(1, 0.3), r": auto_alphas: \(0\.7, 0\.3, 0\.1\) != \(\)"),
    ):
        with pytest.raises(
            ValueError, match=rf"stage-1 is done, with other settings .*{difference}"
        ):
            run_cascade(other, kept_data, str(begun), one_device)
    with pytest.raises(
        ValueError, match=r"stage-1 is done, .*auto_alphas: \(\) != \(0\.7, 0\.3, 0\.1\)"
    ):
        run_cascade(auto(1), kept_data, kept_run, one_device)


def test_auto_is_for_the_stages_trained_now(kept_data, auto, kept_run, begun, one_device, train):
    """As one number is: stage 1 was trained with 0.3, and is kept."""
    shutil.copytree(Path(kept_run, "stage-1"), begun / "stage-1")
    trained = train()
    rows = run_cascade(auto(2), kept_data, str(begun), one_device)
    assert trained.runs == [(2, 0.7), (2, 0.3), (2, 0.1)]
    assert [row["alpha_note"] for row in rows] == ["", "", "auto"]


# --- what it takes ---


def test_no_validation_clips_are_an_error_before_anything_is_trained(
    kept_data, auto, tmp_path, one_device, train
):
    trained, run_dir = train(), str(tmp_path / "run")
    for share in (0.0, 1e-9):  # none asked for, and a share so small that no clip falls into it
        config = auto(1, validation_share=share)
        with pytest.raises(
            ValueError, match="--alpha=auto needs validation clips, and there are none: set --val"
        ):
            run_cascade(config, kept_data, run_dir, one_device)
        with pytest.raises(ValueError, match="--alpha=auto needs validation clips"):
            cost.estimate_cost(config, kept_data, run_dir, one_device, RunOptions())
    assert not trained.runs and not Path(run_dir).exists()


def test_several_workers_are_an_error(kept_data, auto, begun, one_device, train, monkeypatch):
    trained = train()
    monkeypatch.setattr(alpha_search, "Workers", lambda strategy: type("Two", (), {"count": 2}))
    with pytest.raises(
        ValueError, match=r"alpha: auto runs on one machine; give numbers with .*multi_worker"
    ):
        run_cascade(auto(1), kept_data, str(begun), one_device)
    assert not trained.runs


@pytest.mark.parametrize(
    ("alphas", "auto_alphas", "message"),
    [
        (
            (0.3,),
            (0.5, 0.1),
            r"alpha: expected either numbers or auto, .* got 0\.3 and auto among 0\.5, 0\.1",
        ),
        ((), (0.5, 0.5), r"auto_alphas: expected each alpha once, got 0\.5, 0\.5"),
        ((), (0.5, 1.5), r"auto_alphas: expected numbers from 0 to 1, got \(0\.5, 1\.5\)"),
    ],
)
def test_settings_that_cannot_be(cascade_config, alphas, auto_alphas, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(cascade_config(1), alphas=alphas, auto_alphas=auto_alphas)


def test_what_it_costs(kept_data, auto, begun, one_device):
    configs, to_train = cascade.plan(auto(2), kept_data, str(begun))
    told = "with --alpha=auto 3 trainings for each after stage 0 (alpha 0.7, 0.3, 0.1)"
    assert describe_trainings(to_train) == f"1, 2; {told}: 6 in all"
    assert describe_trainings(configs) == f"0, 1, 2; {told}: 7 in all"
    text = cost.estimate_cost(auto(2), kept_data, str(begun), one_device, RunOptions())
    assert f"stages to train  1, 2; {told}: 6 in all\n" in text and "for 6 stages" in text
