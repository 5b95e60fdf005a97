"""Noise of the weak labels of a soundscape corpus: true labels left out, wrong ones added."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import logging

from tfrecord_tools import storage
from tfrecord_tools.corpora import synthesised_events
from tfrecord_tools.corpora.mixing import SPLITS, SoundscapeConfig
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.text import join_some, parse_int

PRECISION_COLUMNS = ("label_id", "num_rated", "num_true")  # AudioSet's qa_true_counts.csv


def noisy_labels(
    config: SoundscapeConfig,
    split: str,
    index: int,
    true_mids: Sequence[str],
    mids: Sequence[str] = synthesised_events.CLASS_MAP.mids,
    wrong_label_rates: Sequence[float] = (),
) -> list[str]:
    """Return a clip's weak labels, in class order: true ones for eval, with noise for train.

    They are drawn from streams apart from the sound's, and missing labels apart from wrong ones:
    noise leaves the sound as it is, and another rate of the one leaves the other as it is.

    Args:
        config: its `missing_rate` and `wrong_rate` are the noise.
        split, index: which clip.
        true_mids: what it holds.
        mids: all classes.
        wrong_label_rates: for each class, the probability that a clip without it gets its label;
            none: no such noise.
    """
    labels = set(true_mids)
    if split == "train":
        rng = np.random.default_rng([config.seed, SPLITS.index(split), index, 1])
        absent = [mid for mid in mids if mid not in labels]
        labels = {mid for mid in mids if mid in labels and rng.random() >= config.missing_rate}
        if absent and rng.random() < config.wrong_rate:
            labels.add(absent[rng.integers(len(absent))])
        if len(wrong_label_rates):
            rng = np.random.default_rng([config.seed, SPLITS.index(split), index, 2])
            drawn = zip(mids, rng.random(len(mids)) < np.asarray(wrong_label_rates), strict=True)
            labels |= {mid for mid, is_wrong in drawn if is_wrong and mid in absent}
    return [mid for mid in mids if mid in labels]


def check_wrong_label_rates(
    config: SoundscapeConfig, rates: Sequence[float], num_classes: int
) -> None:
    """Raise a `ValueError` if `rates` can't be the `wrong_label_rates` of `noisy_labels`."""
    if not rates:
        return
    if len(rates) != num_classes:
        raise ValueError(
            f"wrong_label_rates: expected one for each of {num_classes} classes, got {len(rates)}"
        )
    for rate in rates:
        if not 0 <= rate <= 1:
            raise ValueError(f"wrong_label_rates: expected numbers from 0 to 1, got {rate}")
    if config.wrong_rate:
        raise ValueError(
            "wrong_label_rates: does not go with wrong_rate (which --label_noise sets too), "
            f"another way to add wrong labels; got wrong_rate {config.wrong_rate:g}"
        )


# === Wrong labels of a given precision ===
def read_label_precisions(path: str, class_map: ClassMap) -> tuple[float, ...]:
    """Read each class's share of right labels from a table such as AudioSet's `qa_true_counts.csv`.

    Args:
        path: a csv with the columns label_id, num_rated, num_true. A label_id is a class's mid or
            display name; rows of other classes are passed over.
        class_map: the classes.

    Returns:
        num_true / num_rated of each class. A class without a row, or with a num_rated of 0, takes
        the mean of the others.

    Raises:
        ValueError: if a count is wrong, a class has two rows, or no class is rated.
    """
    rated: dict[int, float] = {}
    lines: dict[int, str] = {}
    for where, row in storage.read_csv(path, PRECISION_COLUMNS):
        num_rated, num_true = (parse_int(row[name], name, where) for name in PRECISION_COLUMNS[1:])
        if not 0 <= num_true <= num_rated:
            raise ValueError(
                f"{where}: num_true: expected 0 to num_rated, which is {num_rated}, got {num_true}"
            )
        index = class_map.by_label.get(row["label_id"])
        if index is None:
            continue
        if (first := lines.setdefault(index, where)) != where:
            raise ValueError(
                f"{where}: {class_map.display_names[index]!r} was there before, at {first}"
            )
        if num_rated:
            rated[index] = num_true / num_rated
    if not rated:
        some = join_some(class_map.display_names, most=3)
        raise ValueError(
            f"{path}: label_id: expected mids or display names of the {len(class_map)} classes "
            f"({some}), none of them is rated there"
        )
    mean = float(np.mean(list(rated.values())))
    unrated = [name for index, name in enumerate(class_map.display_names) if index not in rated]
    if unrated:
        counts = f"{len(rated)} of {len(class_map)} classes"
        others = f"{join_some(unrated)} take their mean precision, {mean:.3f}"
        logging.warning("%s rates %s; %s", path, counts, others)
    return tuple(rated.get(index, mean) for index in range(len(class_map)))


def rates_for_precisions(
    config: SoundscapeConfig, precisions: Sequence[float], display_names: Sequence[str]
) -> tuple[float, ...]:
    """Return the `wrong_label_rates` that give each class's labels an expected share of right ones.

    With the prevalence q of a class (`SoundscapeConfig.prevalence`) and the missing rate m, a clip
    has a right label of the class with probability q(1 − m), and a wrong one with (1 − q)·rate. The
    share of right ones is the precision p if

        rate = q(1 − m)(1 − p) / (p(1 − q))

    Raises:
        ValueError: if a precision is not in (0, 1], or so low that wrong labels on all clips do not
            reach it; names the class.
    """
    q = config.prevalence(len(precisions))
    right = q * (1 - config.missing_rate)
    rates = []
    for name, p in zip(display_names, precisions, strict=True):
        lowest = right / (right + 1 - q) if right else 0.0
        if not 0 < p <= 1 or p < lowest:
            raise ValueError(
                f"label precision of {name!r}: expected more than 0, at most 1 and, for these "
                f"settings (it is in {q:.1%} of the clips, {config.missing_rate:.0%} of its labels "
                f"are missing), at least {lowest:.3f}: then every clip has its label; got {p:g}"
            )
        rates.append(min(1.0, right * (1 - p) / (p * (1 - q))) if p < 1 else 0.0)
    return tuple(rates)
