"""How results look: text, json, csv and png of results made by hand."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from secost_tf.evaluation.experiments import Comparison, Measured, Results, Row
from secost_tf.evaluation.intervals import Interval
from secost_tf.reporting import experiments as experiment_tables
from secost_tf.reporting import figures
from secost_tf.reporting.experiments import (
    format_results,
    results_dict,
    results_figure,
    write_results,
)
from secost_tf.runs.experiment_folder import ExperimentRecord
from tfrecord_tools.datasets.clips import ClassMap

NONE = Interval(0.7, math.nan, math.nan)


def measured(name: str, mAP, alphas=None, sweep_alphas=()) -> Measured:
    mAP = np.array(mAP, np.float64)
    rows = mAP.shape[1]
    return Measured(
        record=ExperimentRecord(
            name, 1 if sweep_alphas else rows - 1, sweep_alphas, {}, "/data", "digest"
        ),
        stages=(0, *[1] * (rows - 1)) if sweep_alphas else tuple(range(rows)),
        alphas=alphas or (1.0, *[0.3] * (rows - 1)),
        alpha_notes=("",) * rows,
        figures={"mAP": mAP},
        average_precision=np.zeros((*mAP.shape, 2)),
        class_map=ClassMap(("/m/a", "/m/b"), ("Bark", "Bell")),
        split="eval",
        num_clips=12,
        chance=0.25,
    )


@pytest.fixture
def results() -> Results:
    base = Row(
        0, 1.0, Interval(0.6, 0.5, 0.7), None, None, 0, 0, 2, 0.8, None, 0.5, 60.0, (0.55, 0.65)
    )
    last = Row(
        1,
        0.3,
        Interval(0.7, 0.6, 0.8),
        Interval(0.1, -0.05, 0.25),
        1 / 6,
        2,
        0,
        2,
        0.85,
        1.5,
        0.6,
        61.0,
        (0.6, 0.8),
    )
    against = Comparison(
        "stage 1", "no_teacher, stage 2 (its last)", 0.65, Interval(0.05, 0.01, 0.09), (0.05,)
    )
    return Results(
        measured("two_stages", [[0.55, 0.6], [0.65, 0.8]]),
        (base, last),
        (against,),
        (
            measured("no_teacher", [[0.55, 0.6, 0.6], [0.65, 0.7, 0.7]]),
            measured("same_compute", [[0.6], [0.7]]),
        ),
        {"gone": "was not begun. Run it with: run gone"},
    )


def test_the_text(results):
    assert format_results(results).splitlines() == [
        "two_stages: 2 seeds, eval (12 clips, 2 classes, chance mAP 0.2500)",
        "stage  alpha     mAP      95% interval   change        95% interval  relative  classes up "
        "   mAUC      d'",
        "-" * 105,
        "    0      1  0.6000  0.5000 to 0.7000                                                    "
        " 0.8000       -",
        "    1    0.3  0.7000  0.6000 to 0.8000  +0.1000  -0.0500 to +0.2500    +16.7%      2 of 2 "
        " 0.8500  1.5000",
        "Means over the seeds; change: against stage 0, paired by seed; classes up: whose AP, "
        "averaged over the seeds, rose.",
        "",
        "                                against  its mAP  difference        95% interval",
        "-" * 80,
        "stage 1  no_teacher, stage 2 (its last)   0.6500     +0.0500  +0.0100 to +0.0900",
        "Its best: by its mean mAP on these same clips, which is in the control's favour.",
        "Not compared with gone: was not begun. Run it with: run gone",
    ]


def test_a_note_stands_beside_alpha(results):
    base, last = results.rows
    noted = dataclasses.replace(
        results, rows=(base, dataclasses.replace(last, alpha_note="per class"))
    )
    assert "    1  0.3 per class  0.7000  0.6000 to 0.8000" in format_results(noted)


def test_one_seed_has_no_interval():
    row = Row(0, 1.0, NONE, None, None, 0, 0, 2, None, None, None, None, (0.7,))
    results = Results(measured("base", [[0.7]]), (row,), (), (), {})
    lines = format_results(results).splitlines()
    assert lines[0].startswith("base: 1 seed, eval")
    assert lines[3].split() == ["0", "1", "0.7000", "-", "-", "-"]
    assert lines[-1] == "One seed gives no interval; take more with --seeds."
    assert results_dict(results)["rows"][0]["mAP"] == {"mean": 0.7, "low": None, "high": None}


def test_the_files(results, tmp_path):
    (tmp_path / "two_stages").mkdir()
    paths = write_results(results, str(tmp_path))
    names = ("results.json", "results.csv", "results.png")
    assert paths == [str(tmp_path / "two_stages" / name) for name in names]
    values = json.loads(Path(paths[0]).read_text())
    assert values == results_dict(results)
    assert (values["name"], values["seeds"], values["data_dir"]) == ("two_stages", [0, 1], "/data")
    assert values["rows"][1]["change"] == {"mean": 0.1, "low": -0.05, "high": 0.25}
    assert values["rows"][0]["change"] is None and values["rows"][1]["mAP_per_seed"] == [0.6, 0.8]
    assert values["comparisons"][0]["against"] == "no_teacher, stage 2 (its last)"
    with open(paths[1], newline="") as stream:
        base, last = csv.DictReader(stream)
    assert (base["change"], base["change_low"], base["d_prime"]) == ("", "", "")
    assert (last["stage"], last["alpha"], last["mAP"], last["mAP_low"], last["mAP_high"]) == (
        *("1", "0.3", "0.7", "0.6", "0.8"),
    )
    assert (last["change_high"], last["mAP_seed_0"], last["mAP_seed_1"]) == ("0.25", "0.6", "0.8")
    assert Path(paths[2]).read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_controls_beside_a_cascade(results, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "stages_figure", lambda *arguments: drawn.append(arguments))
    results_figure(results)
    ((curves, reference),) = drawn
    assert list(curves) == ["two_stages", "no_teacher"] and list(reference) == ["same_compute"]
    np.testing.assert_array_equal(curves["two_stages"], results.measured.mAP)
    np.testing.assert_array_equal(reference["same_compute"], [0.6, 0.7])


def test_the_picture_of_a_sweep_has_stage_0_as_a_line(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "alpha_figure", lambda *arguments: drawn.append(arguments))
    one = measured("sweep", [[0.5, 0.6, 0.7], [0.4, 0.5, 0.8]], (1.0, 1.0, 0.3), (1.0, 0.3))
    results_figure(Results(one, (), (), (), {}))
    ((alphas, mAP, base),) = drawn
    assert tuple(alphas) == (1.0, 0.3)
    np.testing.assert_array_equal(mAP, [[0.6, 0.7], [0.5, 0.8]])
    np.testing.assert_array_equal(base, [0.5, 0.4])


def test_the_column_of_an_interval_is_named_after_its_level(results, monkeypatch):
    monkeypatch.setattr(experiment_tables, "LEVEL", 0.9)
    assert "90% interval" in format_results(results)
