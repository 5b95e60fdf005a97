"""Experiments on the tiny data: a cascade of two seeds, one of which `kept_run` has trained, and a
sweep of one.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from tensorflow.python.framework import ops

from secost_tf.evaluation.experiments import experiment_results
from secost_tf.runs import StageFolder, load_student
from secost_tf.runs.settings import RunOptions
from secost_tf.training import stage as stages
from secost_tf.training.experiments import (
    ExperimentConfig,
    estimate_experiment,
    run_experiment,
    run_flags,
)

OPTIONS = RunOptions(flags="# flags\n--width=0.02\n")


@pytest.fixture(scope="module")
def configs(cascade_config):
    """A cascade of one stage after stage 0, and a sweep which has a stage in common with it."""
    return {
        "two_stages": ExperimentConfig("two_stages", cascade_config(1, 0.3), 2),
        "sweep": ExperimentConfig("sweep", cascade_config(1), 1, (1.0, 0.3)),
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory, kept_data, kept_run, cascade_config, configs, one_device):
    """The folder, not to be changed; the stages trained, in order; the strategies made; custom
    gradients left registered.
    """
    registry = ops.gradient_registry._registry
    folder, trained, made = tmp_path_factory.mktemp("kept") / "experiments", [], []
    ExperimentConfig("three_stages", cascade_config(2)).record(kept_data).begin(str(folder))
    shutil.copytree(kept_run, folder / "three_stages" / "seed-1")
    train_stage = stages.train_stage

    def counted(config, data_dir, run_dir, *arguments):
        trained.append((str(Path(run_dir).relative_to(folder)), config.stage))
        return train_stage(config, data_dir, run_dir, *arguments)

    def make_strategy():
        made.append(one_device())
        return made[-1]

    registered = set(registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "train_stage", counted)
        for config in configs.values():
            run_experiment(config, kept_data, str(folder), make_strategy, OPTIONS)
    return folder, trained, made, set(registry) - registered


@pytest.fixture
def copied(kept, tmp_path) -> Path:
    return Path(shutil.copytree(kept[0], tmp_path / "experiments"))


@pytest.fixture
def no_training(monkeypatch):
    """Makes it a failure to train a stage."""
    monkeypatch.setattr(stages, "train_stage", lambda *args: pytest.fail("trained a stage"))


def metrics_of(run_dir: Path | str, stage: int) -> dict:
    """What `metrics.json` holds but for the times."""
    figures = StageFolder(str(run_dir), stage).metrics
    return {name: value for name, value in figures.items() if not name.endswith("_seconds")}


# --- settings ---


def test_runs_of_a_cascade_and_of_a_sweep(configs, cascade_config):
    runs = configs["two_stages"].runs("E")
    assert [(run.seed, run.alpha, run.run_dir) for run in runs] == [
        (0, None, "E/two_stages/seed-0"),
        (1, None, "E/two_stages/seed-1"),
    ]
    assert runs[0].cascade == cascade_config(1, 0.3, seed=0)
    runs = dataclasses.replace(configs["sweep"], seeds=2).runs("E")
    assert [(run.seed, run.alpha, run.run_dir) for run in runs] == [
        (seed, alpha, f"E/sweep/seed-{seed}/alpha-{alpha:g}")
        for seed in (0, 1)
        for alpha in (1.0, 0.3)
    ]
    assert runs[3].cascade == cascade_config(1, 0.3, seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a b"}, "name: expected that of an experiment"),
        ({"seeds": 0}, "seeds: expected a whole number, at least 1, got 0"),
        (
            {"sweep_alphas": (0.3, 1.5)},
            r"sweep_alphas: expected numbers from 0 to 1, got \(0\.3, 1\.5\)",
        ),
        ({"sweep_alphas": (0.3, 0.3)}, r"sweep_alphas: expected each alpha once, got 0\.3, 0\.3"),
    ],
)
def test_wrong_settings(configs, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(configs["two_stages"], **change)


def test_a_sweep_is_of_one_stage(cascade_config):
    with pytest.raises(ValueError, match=r"stage: expected 1 with --sweep_alphas, .*, got 2"):
        ExperimentConfig("sweep", cascade_config(2), 2, (0.3,))


def test_flags_of_a_run(configs):
    assert run_flags(configs["two_stages"].runs("E")[1]) == (
        "--run_dir=E/two_stages/seed-1\n--stage=1\n--alpha=0.3\n--epochs=2\n--seed=1\n"
    )


def test_the_estimate_counts_the_stages_of_all_runs(
    cascade_config, kept_data, one_device, tmp_path
):
    config = ExperimentConfig("cascade", cascade_config(1), 2)
    text = estimate_experiment(config, kept_data, str(tmp_path), one_device, OPTIONS)
    assert "time in all      about" in text and "for 2 stages\n" in text
    assert "This is cascade, seed 0. cascade has 4 stages to train in all" in text


# --- undisturbed ---


def test_what_experiments_have_in_common_is_trained_once(kept):
    _, trained, made, _ = kept
    assert trained == [
        ("two_stages/seed-0", 0),
        ("two_stages/seed-0", 1),
        ("sweep/seed-0/alpha-1", 1),
    ]
    assert len(made) == 2  # one for each experiment


def test_training_leaves_no_graph_registered(kept):
    """What `secost_tf.training.devices` is for; Keras 3 registers one a stage."""
    assert not kept[3]


def test_each_run_folder_is_whole(kept, kept_run, files_of):
    folder = kept[0]
    own = files_of(folder / "two_stages" / "seed-0")
    assert files_of(folder / "sweep" / "seed-0" / "alpha-0.3") == own
    of_alpha_1 = files_of(folder / "sweep" / "seed-0" / "alpha-1")
    for name, content in own.items():
        if name.startswith("stage-0"):
            assert of_alpha_1[name] == content
    kinds = [{name for name in files if "events" not in name} for files in (own, of_alpha_1)]
    assert kinds[0] == kinds[1]
    shared, theirs = files_of(folder / "two_stages" / "seed-1"), files_of(kept_run)
    of_stages = {name for name in theirs if name.startswith(("stage-0", "stage-1"))}
    assert set(shared) == of_stages | {"summary.csv", "summary.json"}
    assert all(shared[name] == theirs[name] for name in of_stages)
    load_student(str(folder / "two_stages" / "seed-1"), 1)


def test_a_run_knows_its_flags_and_figures(kept):
    folder = kept[0] / "sweep" / "seed-0" / "alpha-1"
    summary = json.loads((folder / "summary.json").read_text())
    assert [(row["stage"], row["alpha"]) for row in summary] == [(0, 1.0), (1, 1.0)]
    flags = (folder / "stage-1" / "flags.txt").read_text()
    assert (
        flags
        == OPTIONS.flags + f"--run_dir={folder}\n--stage=1\n--alpha=1.0\n--epochs=2\n--seed=0\n"
    )


def test_seeds_differ(kept):
    mine, theirs = (kept[0] / "two_stages" / f"seed-{seed}" for seed in (0, 1))
    assert metrics_of(mine, 0)["mAUC"] != metrics_of(theirs, 0)["mAUC"]


def test_results_are_those_of_the_runs(kept):
    folder = kept[0]
    rows = experiment_results(str(folder), "two_stages", 2).rows
    assert [list(row.mAP_per_seed) for row in rows] == [
        [metrics_of(folder / "two_stages" / f"seed-{seed}", stage)["mAP"] for seed in (0, 1)]
        for stage in (0, 1)
    ]
    rows = experiment_results(str(folder), "sweep", 1).rows
    assert [row.mAP_per_seed[0] for row in rows] == [
        metrics_of(folder / "sweep" / "seed-0" / run, stage)["mAP"]
        for run, stage in (("alpha-1", 0), ("alpha-1", 1), ("alpha-0.3", 1))
    ]


# --- again ---


def test_running_again_trains_nothing(copied, kept_data, configs, files_of, no_training):
    (
        copied / "two_stages" / "seed-0" / "summary.json"
    ).unlink()  # killed just before it was written
    for config in configs.values():
        run_experiment(config, kept_data, str(copied), lambda: pytest.fail("made a strategy"))
    assert (copied / "two_stages" / "seed-0" / "summary.json").exists()


def test_a_stopped_experiment_is_continued(
    copied, kept, kept_data, configs, one_device, files_of, caplog
):
    Path(copied, "two_stages", "seed-1", "stage-1", "metrics.json").unlink()
    before = files_of(copied / "two_stages" / "seed-0")
    teacher = files_of(copied / "two_stages" / "seed-1" / "stage-0")
    with caplog.at_level("INFO"):
        run_experiment(configs["two_stages"], kept_data, str(copied), one_device)
    assert "two_stages, seed 1, stage 1: mAP 0." in caplog.text
    assert "4 of 4 stages done, about 0 s left" in caplog.text
    for seed in (0, 1):
        run = Path("two_stages", f"seed-{seed}")
        assert metrics_of(copied / run, 1) == metrics_of(kept[0] / run, 1)
    assert files_of(copied / "two_stages" / "seed-0") == before
    assert files_of(copied / "two_stages" / "seed-1" / "stage-0") == teacher


def test_a_run_that_is_gone_is_shared_again(copied, kept_data, configs, files_of, no_training):
    folder = copied / "sweep" / "seed-0" / "alpha-0.3"
    before = files_of(folder)
    shutil.rmtree(folder)
    run_experiment(configs["sweep"], kept_data, str(copied), lambda: pytest.fail("made a strategy"))
    assert files_of(folder) == before


def test_more_seeds_go_on_where_fewer_ended(copied, kept_data, configs, monkeypatch):
    trained = []

    def stop(config, data_dir, run_dir, *arguments):
        trained.append((run_dir, config.stage))
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "train_stage", stop)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(
            dataclasses.replace(configs["two_stages"], seeds=3),
            kept_data,
            str(copied),
            lambda: None,
        )
    assert trained == [(str(copied / "two_stages" / "seed-2"), 0)]


def test_other_settings_under_the_same_name_are_refused(
    copied, kept_data, cascade_config, no_training
):
    other = ExperimentConfig("two_stages", cascade_config(1, 0.3, epochs=3), 2)
    message = (
        r"two_stages was begun with other settings \(there != asked\): epochs: 2 != 3\. "
        "Continue with"
    )
    with pytest.raises(ValueError, match=message):
        run_experiment(other, kept_data, str(copied), lambda: None)
