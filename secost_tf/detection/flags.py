"""Settings that say from which score on a class sounds: of localize, evaluate and monitor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from secost_tf.detection import thresholds as class_thresholds
from tfrecord_tools.config import Config, setting
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.text import parse_number

TUNED = "tuned"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThresholdSettings(Config):
    """The thresholds of the classes."""

    threshold: str = setting(
        f"{class_thresholds.DEFAULT:g}",
        "A class sounds where its segment score is this number in 0..1 or more; or tuned: a "
        "threshold for each class, that with the highest F1 on the run's validation clips, which "
        "is kept in the stage's folder, in a thresholds.csv for each --hop_scale and "
        "--median_filter_seconds.",
    )
    thresholds_csv: str | None = setting(
        None,
        "Thresholds of single classes: a csv with the columns threshold and mid or display_name. "
        "The others take --threshold.",
    )

    def of_classes(self, class_map: ClassMap, tune: Callable[[], np.ndarray] | None) -> np.ndarray:
        """Return the threshold of each class, float64 [C].

        Args:
            class_map: the classes.
            tune: gives the tuned ones; None where there are no clips to tune them on.

        Raises:
            ValueError: if a threshold is no number in [0, 1], a class is unknown, or there is
                nothing to tune on.
        """
        if self.threshold != TUNED:
            default = parse_number(
                self.threshold, "threshold", "--threshold", "a number in [0, 1]", 0, 1
            )
            thresholds = np.full(len(class_map), default)
        elif tune is None:
            raise ValueError(
                "threshold: tuned needs --run_dir; with --saved_model give a run's thresholds.csv "
                "as --thresholds_csv"
            )
        else:
            thresholds = tune()
        if self.thresholds_csv:
            listed = class_thresholds.read_thresholds(self.thresholds_csv, class_map, np.nan)
            thresholds = np.where(np.isnan(listed), thresholds, listed)
        return thresholds
