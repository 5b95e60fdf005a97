"""Flags that say how segment scores become events; those of `secost_tf.localize` and of `secost_tf.evaluate --events`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from absl import flags

from secost_tf import class_thresholds
from secost_tf.events import PostProcessing
from tfrecord_tools.datasets.clips import ClassMap

FLAGS = flags.FLAGS
TUNED = "tuned"


def define_detection_flags() -> None:
    """Thresholds and post-processing."""
    defaults = PostProcessing()
    flags.DEFINE_string(
        "threshold",
        f"{class_thresholds.DEFAULT:g}",
        "A class sounds where its segment score lies above this number in 0..1; or tuned: a threshold for each class, that with the "
        "highest F1 on the run's validation clips, which is kept in the stage's folder, in a thresholds.csv for each --hop_scale and "
        "--median_filter_seconds.",
    )
    flags.DEFINE_string(
        "thresholds_csv",
        None,
        "Thresholds of single classes: a csv with the columns threshold and mid or display_name. The others take --threshold.",
    )
    flags.DEFINE_integer(
        "hop_scale",
        defaults.hop_scale,
        "Scores this many times as often as the network's stride (0.32 s): 2, 4 and so on to 32. More than 1 takes the mean over all "
        "places of the max-pools' grid, so that a sound that comes later is heard alike, and costs two to six times as much.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "median_filter_seconds",
        defaults.median_filter_seconds,
        "Length in seconds of the median filter over the segment scores before thresholds. 0: none.",
        lower_bound=0.0,
    )
    flags.DEFINE_float(
        "hysteresis",
        defaults.hysteresis,
        "The share of its threshold by which a score may fall below it while the event goes on, less than 1. 0: not at all.",
        lower_bound=0.0,
    )
    flags.DEFINE_float(
        "min_event_seconds",
        defaults.min_event_seconds,
        "Events shorter than this many seconds are left out. 0: none is.",
        lower_bound=0.0,
    )


def post_processing() -> PostProcessing:
    """What the flags say of post-processing."""
    return PostProcessing(
        hop_scale=FLAGS.hop_scale,
        median_filter_seconds=FLAGS.median_filter_seconds,
        hysteresis=FLAGS.hysteresis,
        min_event_seconds=FLAGS.min_event_seconds,
    )


def thresholds(class_map: ClassMap, tune: Callable[[], np.ndarray] | None) -> np.ndarray:
    """The threshold of each class that the flags ask for, float64 [C].

    Args:
        class_map: the classes.
        tune: gives the tuned ones; None where there are no clips to tune them on.

    Raises:
        ValueError: if a threshold is no number in [0, 1], a class is unknown, or there is nothing to tune on.
    """
    if FLAGS.threshold != TUNED:
        default = class_thresholds.parse_threshold(FLAGS.threshold, "--threshold")
        found = np.full(len(class_map), default)
    elif tune is None:
        raise ValueError(
            "threshold: tuned needs --run_dir; with --saved_model give a run's thresholds.csv as --thresholds_csv"
        )
    else:
        found = tune()
    if FLAGS.thresholds_csv:
        listed = class_thresholds.read_thresholds(FLAGS.thresholds_csv, class_map, np.nan)
        found = np.where(np.isnan(listed), found, listed)
    return found
