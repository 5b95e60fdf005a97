"""A threshold for each class: read from a table, or tuned for F1 on validation clips.

Tuning needs weak labels alone: a clip counts as one with a class if the highest of its segment
scores reaches the class's threshold.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from absl import logging

from secost_tf.detection.detector import Detector
from secost_tf.detection.events import PostProcessing
from secost_tf.detection.stream import score_segments
from secost_tf.runs import StageFolder
from tfrecord_tools import storage
from tfrecord_tools.datasets import ClassMap, read_class_values, write_class_values
from tfrecord_tools.text import format_figure

THRESHOLDS_CSV = "thresholds.csv"

DEFAULT = 0.5


def best_thresholds(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the threshold of each class that gives the highest F1, and that F1: float64 [C] each.

    A threshold lies in the middle between the scores on its two sides, or between 0 and the lowest.
    Of equals the highest is taken. A class without a positive clip gets `DEFAULT`, and NaN as its
    F1.

    Args:
        labels: multi-hot truth, [clips, C].
        scores: in 0..1, [clips, C].
    """
    labels, scores = np.asarray(labels) > 0.5, np.asarray(scores, np.float64)
    thresholds, best = np.full(labels.shape[1], DEFAULT), np.full(labels.shape[1], np.nan)
    for index in np.flatnonzero(labels.any(axis=0)):
        order = np.argsort(-scores[:, index], kind="stable")
        falling = np.append(scores[order, index], 0.0)
        hits = np.cumsum(labels[order, index])
        f1 = 2 * hits / (np.arange(1, len(order) + 1) + hits[-1])
        f1[falling[:-1] == falling[1:]] = -1.0  # no threshold lies between equal scores
        place = int(np.argmax(f1))
        thresholds[index] = (falling[place] + falling[place + 1]) / 2
        best[index] = f1[place]
    return thresholds, best


def read_thresholds(path: str, class_map: ClassMap, default: float = DEFAULT) -> np.ndarray:
    """Read a csv with the columns `threshold` and `mid` or `display_name`.

    Returns:
        Of each class, float64 [C]; `default` for those that are not listed.

    Raises:
        ValueError: if a class is unknown or there twice, or a threshold is not in [0, 1]; names
            file and line.
    """
    values = read_class_values(path, class_map, "threshold")
    return np.array([default if value is None else value for value in values])


def write_thresholds(
    path: str, class_map: ClassMap, thresholds: Iterable[float], f1: Iterable[float]
) -> None:
    """Write a csv line a class, which `read_thresholds` reads; an F1 that is NaN is left empty."""
    columns = {
        "threshold": map(float, thresholds),
        "F1": (format_figure(figure, ".6f", missing="") for figure in f1),
    }
    write_class_values(path, class_map, columns)


def thresholds_csv(config: PostProcessing) -> str:
    """Return the name of the table of thresholds that are tuned on scores made like this.

    It is `thresholds.csv`, or such as `thresholds-hop4-median0.5.csv`.
    """
    stem, extension = os.path.splitext(THRESHOLDS_CSV)
    if config.hop_scale > 1:
        stem += f"-hop{config.hop_scale}"
    if config.median_filter_seconds:
        stem += f"-median{config.median_filter_seconds:g}"
    return stem + extension


def tuned_thresholds(
    run_dir: str,
    stage: int,
    detector: Detector,
    config: PostProcessing | None = None,
) -> np.ndarray:
    """Return the tuned thresholds of a stage, float64 [C].

    They come from a table in its folder, `thresholds_csv`, which is made if it is not there.

    Args:
        run_dir: the run.
        stage: its stage.
        detector: that of the stage.
        config: hop and median filter of the scores that they are tuned on, and are for.

    Raises:
        ValueError: if there are no validation clips, or the data are no longer those that the stage
            was trained with.
    """
    config = config or PostProcessing()
    from secost_tf.data import iterate_clips, training_splits

    class_map = detector.class_map
    path = storage.join(detector.folder, thresholds_csv(config))
    if not storage.exists(path):
        folder = StageFolder(run_dir, stage)
        record = folder.record
        validation = training_splits(record.data_dir, record.config.train)[1]
        if validation is None:
            raise ValueError(
                f"{record.data_dir}: no validation clips to tune thresholds on: convert a split of "
                "that name, or give --threshold or --thresholds_csv"
            )
        folder.check_data(validation.info, record.data_dir)
        labels, peaks = [], []
        for clip in iterate_clips(validation):
            labels.append(np.isin(np.arange(len(class_map)), clip.labels))
            peaks.append(score_segments([clip.log_mel], detector, config).scores.max(axis=0))
        thresholds, f1 = best_thresholds(np.array(labels), np.array(peaks))
        write_thresholds(path, class_map, thresholds, f1)
        logging.info(
            "%s: tuned on %d clips, mean F1 of clips %.4f", path, len(labels), np.nanmean(f1)
        )
    return read_thresholds(path, class_map)
