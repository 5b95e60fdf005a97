"""Results of stages whose figures were written by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from secost_tf.evaluation.experiments import NotFinished, experiment_results, read_measured
from secost_tf.models.config import WelsNetConfig
from secost_tf.runs import StageRecord
from secost_tf.runs.experiment_folder import ExperimentRecord, run_folder
from secost_tf.runs.settings import StageConfig, TrainConfig
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.log_mel import LogMelConfig

T_2 = 4.302653  # 97.5 % quantile of Student's t with 2 degrees of freedom
CLASSES = ("Bark", "Bell", "Rain")
# Average precision of Bark and Bell, by seed and stage; Rain has no positive clip.
CASCADE = (
    ((0.4, 0.6), (0.5, 0.7)),
    ((0.5, 0.7), (0.4, 0.8)),
    ((0.6, 0.8), (1.0, 0.8)),
)  # mAP below


def write_stage(
    run_dir: str, stage: int, alpha: float, precisions, seed: int, alphas_set=None, **metrics
) -> Path:
    """Write a stage that is done, as far as results look at it.

    Args:
        alphas_set: its alphas besides `alpha`, also as older versions wrote them.
    """
    folder = Path(run_dir, f"stage-{stage}")
    folder.mkdir(parents=True, exist_ok=True)
    config = StageConfig(
        stage,
        alpha,
        (stage - 1,) if stage else (),
        WelsNetConfig(num_classes=3),
        TrainConfig(seed=seed),
    )
    class_map = ClassMap(tuple(f"/m/{name}" for name in CLASSES), tuple(CLASSES))
    values = StageRecord(config, "/data", class_map, LogMelConfig()).to_dict()
    values["stage"] |= alphas_set or {}
    (folder / "config.json").write_text(json.dumps(values))
    figures = {
        "mAP": float(np.mean(precisions)),
        "mAUC": 0.8 + 0.01 * seed,
        "d_prime": None if seed else 1.5,
        "lwlrap": 0.5,
        "chance": 0.25,
        "split": "eval",
        "num_clips": 12,
        "training_seconds": 60.0 + seed,
    }
    (folder / "metrics.json").write_text(json.dumps(figures | metrics))
    with open(folder / "per_class.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["index", "mid", "display_name", "positives", "AP", "AUC", "d_prime"])
        for index, (name, precision) in enumerate(zip(CLASSES, (*precisions, ""), strict=True)):
            writer.writerow([index, f"/m/{name}", name, 3, precision, "", ""])
    return folder


def write_experiment(experiments_dir: Path, name: str, table, alpha: float = 0.3, **record) -> None:
    """Write a cascade: average precisions by seed, stage and class."""
    values = {"stage": len(table[0]) - 1, "sweep_alphas": (), "settings": {}} | record
    ExperimentRecord(**{"name": name, "data_dir": "/data", "data_digest": "digest"} | values).begin(
        str(experiments_dir)
    )
    for seed, of_seed in enumerate(table):
        for stage, precisions in enumerate(of_seed):
            folder = run_folder(str(experiments_dir), name, seed)
            write_stage(folder, stage, alpha if stage else 1.0, precisions, seed)


def write_sweep(experiments_dir: Path, name: str, alphas, table) -> None:
    """Write a sweep: average precisions by seed, stage 0 and then each alpha, and class."""
    ExperimentRecord(name, 1, alphas, {}, "/data", "digest").begin(str(experiments_dir))
    for seed, (base, *of_alphas) in enumerate(table):
        for alpha, precisions in zip(alphas, of_alphas, strict=True):
            folder = run_folder(str(experiments_dir), name, seed, alpha)
            write_stage(folder, 0, 1.0, base, seed)
            write_stage(folder, 1, alpha, precisions, seed)


def around(interval, mean: float, half: float) -> None:
    assert (interval.mean, interval.low, interval.high) == pytest.approx(
        (mean, mean - half, mean + half), abs=1e-6
    )


def command(name: str) -> str:
    return f"run {name}"


# --- one cascade ---


def test_a_cascade_by_hand(tmp_path):
    """mAP of stage 0: 0.5, 0.6, 0.7; of stage 1: 0.6, 0.6, 0.9; the change: 0.1, 0, 0.2."""
    write_experiment(tmp_path, "two_stages", CASCADE)
    base, last = experiment_results(str(tmp_path), "two_stages", 3).rows
    around(base.mAP, 0.6, T_2 * 0.1 / 3**0.5)
    assert (base.stage, base.alpha, base.change, base.relative_change) == (0, 1.0, None, None)
    around(last.mAP, 0.7, T_2 * 0.03**0.5 / 3**0.5)
    around(last.change, 0.1, T_2 * 0.1 / 3**0.5)
    assert (last.stage, last.alpha) == (1, 0.3)
    assert last.relative_change == pytest.approx(1 / 6)
    assert last.mAP_per_seed == pytest.approx((0.6, 0.6, 0.9))
    assert last.mAUC == pytest.approx(0.81) and last.training_seconds == pytest.approx(61)
    assert last.d_prime is None  # that of two seeds is not finite
    assert (last.improved_classes, last.worse_classes, last.classes) == (2, 0, 2)


def test_classes_count_by_their_mean_over_the_seeds(tmp_path):
    """Bark falls from 0.3 to 0.2; Bell stays at 0.7, though in another order."""
    write_experiment(
        tmp_path,
        "two_stages",
        (((0.2, 0.6), (0.3, 0.8)), ((0.4, 0.7), (0.1, 0.6)), ((0.3, 0.8), (0.2, 0.7))),
    )
    last = experiment_results(str(tmp_path), "two_stages", 3).rows[1]
    assert (last.improved_classes, last.worse_classes, last.classes) == (0, 1, 2)


def test_the_first_seeds_alone(tmp_path):
    write_experiment(tmp_path, "two_stages", CASCADE)
    last = experiment_results(str(tmp_path), "two_stages", 2).rows[1]
    assert last.mAP_per_seed == pytest.approx((0.6, 0.6)) and last.change.mean == pytest.approx(
        0.05
    )
    (only,) = experiment_results(str(tmp_path), "two_stages", 1).rows[1:]
    assert only.change.mean == pytest.approx(0.1) and not np.isfinite(only.change.low)


def test_alphas_of_classes_are_said(tmp_path):
    write_experiment(tmp_path, "two_stages", CASCADE)
    for seed in range(3):
        folder = run_folder(str(tmp_path), "two_stages", seed)
        alphas_set = {"class_alphas": (None, 0.2, 0.3)}
        write_stage(folder, 1, 0.3, (0.5, 0.5), seed, alphas_set, alpha_note="per class")
    base, last = experiment_results(str(tmp_path), "two_stages", 3).rows
    assert (base.alpha, base.alpha_note) == (1.0, "")
    assert (last.alpha, last.alpha_note) == (0.3, "per class")


@pytest.mark.parametrize(
    ("asked", "alphas", "class_alphas", "note"),
    [
        ({"auto_alphas": [0.7, 0.3, 0.1]}, (0.7, 0.3, 0.1), lambda seed: (), "auto"),
        (
            {"estimate_class_alphas": True},
            (0.3, 0.3, 0.3),
            lambda seed: (0.1 * seed, 0.2, 0.3),
            "per class",
        ),
    ],
)
def test_an_experiment_of_older_versions_whose_seeds_chose_their_alphas(
    tmp_path, asked, alphas, class_alphas, note
):
    """The seeds may differ in what they were asked to choose; alpha is then the median."""
    write_experiment(tmp_path, "chosen", CASCADE, settings=asked)
    write_experiment(tmp_path, "given", CASCADE)
    for name in ("chosen", "given"):
        for seed, alpha in enumerate(alphas):
            alphas_set = asked | {"class_alphas": class_alphas(seed)}
            folder = run_folder(str(tmp_path), name, seed)
            write_stage(folder, 1, alpha, (0.5, 0.5), seed, alphas_set, alpha_note=note)
    last = experiment_results(str(tmp_path), "chosen", 3).rows[1]
    assert (last.alpha, last.alpha_note, last.mAP.mean) == (0.3, note, pytest.approx(0.5))
    with pytest.raises(ValueError, match=r"differ in more than the seed: (class_)?alpha"):
        experiment_results(str(tmp_path), "given", 3)


# --- a sweep ---


def test_a_sweep_by_hand(tmp_path):
    """mAP of stage 0: 0.5, 0.6; at alpha 1: 0.6, 0.6; at alpha 0.3: 0.8, 0.7, against alpha 1 by
    0.2, 0.1.
    """
    table = (((0.5, 0.5), (0.6, 0.6), (0.8, 0.8)), ((0.6, 0.6), (0.6, 0.6), (0.7, 0.7)))
    write_sweep(tmp_path, "sweep", (1.0, 0.3), table)
    results = experiment_results(str(tmp_path), "sweep", 2)
    assert [(row.stage, row.alpha) for row in results.rows] == [(0, 1.0), (1, 1.0), (1, 0.3)]
    assert [row.mAP.mean for row in results.rows] == pytest.approx([0.55, 0.6, 0.75])
    assert results.rows[2].change.mean == pytest.approx(0.2)
    (comparison,) = results.comparisons
    assert (comparison.of, comparison.against) == ("alpha 0.3", "alpha 1, retraining alone")
    assert comparison.mAP == pytest.approx(0.6) and comparison.difference_per_seed == pytest.approx(
        (0.2, 0.1)
    )
    around(comparison.difference, 0.15, 12.706205 * 0.005**0.5 / 2**0.5)


def test_a_sweep_has_its_own_control(tmp_path):
    write_sweep(tmp_path, "sweep", (0.5, 0.3), (((0.5, 0.5),) * 3, ((0.5, 0.5),) * 3))
    assert experiment_results(str(tmp_path), "sweep", 2).comparisons == ()
    with pytest.raises(
        ValueError, match=r"controls: sweep is a sweep, whose control is its own alpha 1"
    ):
        experiment_results(str(tmp_path), "sweep", 2, ["no_teacher"])


def test_the_students_of_a_sweep_have_one_teacher(tmp_path):
    write_sweep(tmp_path, "sweep", (0.5, 0.3), (((0.5, 0.5),) * 3,))
    write_stage(run_folder(str(tmp_path), "sweep", 0, 0.3), 0, 1.0, (0.5, 0.6), 0)
    with pytest.raises(
        ValueError, match=r"alpha-0\.3/stage-0 and .*alpha-0\.5/stage-0 are not the same stage 0"
    ):
        experiment_results(str(tmp_path), "sweep", 1)


# --- controls ---


def test_the_last_stage_against_controls_by_hand(tmp_path):
    """Ours ends at 0.6, 0.6, 0.9; no_teacher has its best stage between, 0.6, 0.7, 0.8, and ends at
    0.5, 0.5, 0.8.
    """
    write_experiment(tmp_path, "two_stages", CASCADE)
    no_teacher = [
        [(mAP, mAP) for mAP in of_seed]
        for of_seed in ((0.5, 0.6, 0.5), (0.6, 0.7, 0.5), (0.7, 0.8, 0.8))
    ]
    write_experiment(tmp_path, "no_teacher", no_teacher, alpha=1.0)
    write_experiment(tmp_path, "same_compute", [[(mAP, mAP)] for mAP in (0.4, 0.6, 0.8)])
    results = experiment_results(str(tmp_path), "two_stages", 3, ["no_teacher", "same_compute"])
    assert [(comparison.of, comparison.against) for comparison in results.comparisons] == [
        ("stage 1", "no_teacher, stage 1 (the same, its best)"),
        ("stage 1", "no_teacher, stage 2 (its last)"),
        ("stage 1", "same_compute, stage 0 (its last, its best)"),
    ]
    same, last, compute = results.comparisons
    assert [comparison.mAP for comparison in results.comparisons] == pytest.approx([0.7, 0.6, 0.6])
    around(same.difference, 0.0, T_2 * 0.01**0.5 / 3**0.5)  # 0, -0.1, 0.1
    around(last.difference, 0.1, 0.0)
    around(compute.difference, 0.1, T_2 * 0.01**0.5 / 3**0.5)  # 0.2, 0, 0.1
    assert [control.record.name for control in results.controls] == ["no_teacher", "same_compute"]
    assert results.missing == {}


def test_a_control_that_is_not_finished_is_named_with_its_command(tmp_path):
    write_experiment(tmp_path, "two_stages", CASCADE)
    write_experiment(tmp_path, "same_compute", [[(0.5, 0.5)]] * 2)
    results = experiment_results(
        str(tmp_path), "two_stages", 3, ["no_teacher", "same_compute"], command
    )
    assert results.comparisons == () == results.controls
    assert results.missing == {
        "no_teacher": f"{tmp_path}/no_teacher: this experiment was not begun. Run it with: "
        "run no_teacher",
        "same_compute": "same_compute: seed 2, stage 0 is not done "
        f"({tmp_path}/same_compute/seed-2/stage-0). Run it with: run same_compute",
    }


def test_controls_that_cannot_be_compared_are_refused(tmp_path, monkeypatch):
    write_experiment(tmp_path, "two_stages", CASCADE)
    write_experiment(tmp_path, "other_data", CASCADE, data_digest="else", data_dir="/else")
    message = (
        "two_stages and other_data cannot be compared, their data differ: two_stages was trained "
        r"on /data and evaluated on 12 clips \(eval\), other_data on /else and 12 clips"
    )
    with pytest.raises(ValueError, match=message):
        experiment_results(str(tmp_path), "two_stages", 3, ["other_data"])
    write_sweep(tmp_path, "sweep", (0.5,), (((0.5, 0.5),) * 2,) * 3)
    with pytest.raises(
        ValueError, match="controls: expected cascades, got sweep, a sweep of alpha"
    ):
        experiment_results(str(tmp_path), "two_stages", 3, ["sweep"])
    monkeypatch.setitem(globals(), "CLASSES", ("Bark", "Bell", "Sea"))
    write_experiment(tmp_path, "other_classes", CASCADE)
    message = (
        "two_stages and other_classes cannot be compared, their classes differ: "
        ".*only in two_stages: /m/Rain"
    )
    with pytest.raises(ValueError, match=message):
        experiment_results(str(tmp_path), "two_stages", 3, ["other_classes"])


# --- folders that are not what they should be ---


def test_a_seed_half_done_is_refused(tmp_path):
    write_experiment(tmp_path, "two_stages", CASCADE)
    Path(tmp_path, "two_stages", "seed-2", "stage-1", "metrics.json").unlink()
    message = (
        r"two_stages: seed 2, stage 1 is not done \(.*seed-2/stage-1\)\. "
        "Continue with: run two_stages"
    )
    with pytest.raises(NotFinished, match=message):
        experiment_results(str(tmp_path), "two_stages", 3, command=command)
    assert len(experiment_results(str(tmp_path), "two_stages", 2).rows) == 2
    with pytest.raises(
        NotFinished, match=r"nothing: this experiment was not begun\. Continue with: run nothing"
    ):
        experiment_results(str(tmp_path), "nothing", 3, command=command)


def test_seeds_that_do_not_go_together_are_refused(tmp_path):
    write_experiment(tmp_path, "two_stages", CASCADE)
    folder = run_folder(str(tmp_path), "two_stages", 1)
    write_stage(folder, 1, 0.4, (0.5, 0.5), 1)
    message = (
        "seed-1/stage-1 and .*seed-0/stage-1 differ in more than the seed: "
        r"alpha: 0\.4 != 0\.3; delete"
    )
    with pytest.raises(ValueError, match=message):
        read_measured(str(tmp_path), "two_stages", 3)
    write_stage(folder, 1, 0.3, (0.5, 0.5), 1, num_clips=13)
    with pytest.raises(ValueError, match=r"were evaluated on other clips: num_clips: 13 != 12"):
        read_measured(str(tmp_path), "two_stages", 3)
    write_stage(folder, 1, 0.3, (0.5, 0.5), 1, mAP=None)
    with pytest.raises(ValueError, match="no class of the eval split has a positive clip"):
        read_measured(str(tmp_path), "two_stages", 3)
    Path(folder, "stage-1", "config.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"seed-1/stage-1/config\.json: not the settings of a stage"
    ):
        read_measured(str(tmp_path), "two_stages", 3)


def test_what_was_measured_is_read(tmp_path):
    write_experiment(tmp_path, "two_stages", CASCADE)
    measured = read_measured(str(tmp_path), "two_stages", 3)
    assert measured.average_precision.shape == (3, 2, 3) and measured.mAP.shape == (3, 2)
    np.testing.assert_allclose(measured.average_precision[..., :2], CASCADE)
    assert np.isnan(measured.average_precision[..., 2]).all()
    assert (measured.split, measured.num_clips, measured.chance) == ("eval", 12, 0.25)
    assert [measured.row_name(row) for row in range(2)] == ["stage 0", "stage 1"]
