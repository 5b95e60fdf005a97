"""Thresholds tuned for F1, against scikit-learn over all of them; their table."""

import csv
import re
import shutil

import numpy as np
import pytest
from sklearn.metrics import f1_score

from secost_tf.detection.detector import Detector
from secost_tf.detection.events import PostProcessing
from secost_tf.detection.thresholds import (
    best_thresholds,
    read_thresholds,
    tuned_thresholds,
    write_thresholds,
)
from tfrecord_tools.datasets.clips import ClassMap

CLASSES = ClassMap(("/m/a", "/m/b", "/m/c"), ("Bark", "Bell", "Rain"))


def test_thresholds_worked_by_hand():
    labels = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    scores = np.array([[0.9, 0.2, 0.5], [0.1, 0.4, 0.5], [0.6, 0.4, 0.1], [0.2, 0.1, 0.1]])
    thresholds, f1 = best_thresholds(labels, scores)
    # Bark parts at 0.6 | 0.2. Bell: three clips above 0.15, two of them right: 2 * 2 / (3 + 2).
    # Rain has no clip.
    np.testing.assert_allclose(thresholds, [0.4, 0.15, 0.5])
    np.testing.assert_allclose(f1, [1.0, 0.8, np.nan])


@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_gives_a_higher_f1(seed):
    rng = np.random.default_rng(seed)
    labels = rng.uniform(size=(30, 3)) < 0.3
    labels[0] = True
    scores = rng.uniform(size=(30, 3)).round(1) * 0.9 + 0.05
    thresholds, f1 = best_thresholds(labels, scores)
    for index in range(3):
        tried = [f1_score(labels[:, index], scores[:, index] > t) for t in np.arange(0, 1, 0.01)]
        assert f1[index] == pytest.approx(max(tried))
        assert f1_score(labels[:, index], scores[:, index] > thresholds[index]) == pytest.approx(
            f1[index]
        )


def test_the_table_there_and_back(tmp_path):
    path = str(tmp_path / "thresholds.csv")
    write_thresholds(path, CLASSES, [2e-7, 1 / 3, 1.0], [0.75, np.nan, 1.0])
    assert read_thresholds(path, CLASSES).tolist() == [2e-7, 1 / 3, 1.0]
    with open(path, newline="") as stream:
        assert [row["F1"] for row in csv.DictReader(stream)] == ["0.750000", "", "1.000000"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("Barks,0.5", "line 2: unknown class 'Barks'; did you mean 'Bark'"),
        ("Bark,0.5\nBark,0.4", "line 3: 'Bark' was there before"),
        ("Bark,1.5", "line 2: threshold: expected a number in [0, 1], got '1.5'"),
        ("Bark,loud", "got 'loud'"),
    ],
)
def test_tables_that_are_wrong(tmp_path, lines, message):
    path = tmp_path / "t.csv"
    path.write_text(f"display_name,threshold\n{lines}\n")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_thresholds(str(path), CLASSES)


def test_classes_that_are_not_listed_keep_the_default(tmp_path):
    (tmp_path / "t.csv").write_text("mid,threshold\n/m/b,0.1\n")
    assert read_thresholds(str(tmp_path / "t.csv"), CLASSES, 0.3).tolist() == [0.3, 0.1, 0.3]


def test_a_stage_s_thresholds_are_tuned_on_its_validation_clips_once(kept_run, tmp_path):
    run = shutil.copytree(kept_run, tmp_path / "run")
    found = Detector.from_run(str(run), 1)
    thresholds = tuned_thresholds(str(run), 1, found)
    table = run / "stage-1" / "thresholds.csv"
    assert thresholds.shape == (4,) and np.ptp(thresholds) > 0
    table.write_text(re.sub(r"(/m/a,Bark),[^,]+", r"\1,0.125", table.read_text()))
    assert tuned_thresholds(str(run), 1, found).tolist() == [0.125, *thresholds[1:]]
    fine = PostProcessing(hop_scale=4, median_filter_seconds=0.5)
    tuned = tuned_thresholds(str(run), 1, found, fine)
    assert (
        np.abs(tuned - thresholds).max() > 1e-4
    )  # means lie below the highest of what they are of
    of_fine = read_thresholds(
        str(run / "stage-1" / "thresholds-hop4-median0.5.csv"), found.class_map
    )
    assert of_fine.tolist() == tuned.tolist()
