"""A weight of the labels for each class: read from a table, or estimated from how the teacher
contradicts the labels.

TensorFlow is not imported before clips are read.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np

from tfrecord_tools import storage
from tfrecord_tools.datasets import ClassMap, read_table

ALPHA_PER_CLASS_CSV = "alpha_per_class.csv"


def read_class_alphas(path: str, class_map: ClassMap) -> tuple[float | None, ...]:
    """Reads a csv with the columns `alpha` and `mid` or `display_name` (the mid counts, where there
    are both).

    Args:
        path: the csv.
        class_map: the classes.

    Returns:
        [classes]; None for a class that is not listed.

    Raises:
        ValueError: if a class is unknown or listed twice, an alpha is not in [0, 1], or no class is
            listed; names file and line.
    """
    alphas: dict[int, float] = {}
    lines: dict[int, str] = {}
    for where, row in read_table(path, ("alpha",), ("mid", "display_name")):
        name = row.get("mid") or row.get("display_name")
        if not name:
            raise ValueError(
                f"{where}: expected a class in a column 'mid' or 'display_name', got none"
            )
        try:
            index = class_map.index(name)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if (first := lines.setdefault(index, where)) != where:
            raise ValueError(
                f"{where}: {class_map.display_names[index]!r} was there before, at {first}"
            )
        alphas[index] = _parse_alpha(row["alpha"], where)
    if not alphas:
        raise ValueError(f"{path}: expected a line for at least one class, got none")
    return tuple(map(alphas.get, range(len(class_map))))


def _parse_alpha(text: str, where: str) -> float:
    try:
        alpha = float(text)
    except ValueError:
        alpha = math.nan
    if not 0 <= alpha <= 1:
        raise ValueError(
            f"{where}: alpha: expected a number in [0, 1], the weight of the labels, got {text!r}"
        )
    return alpha


def write_class_alphas(path: str, class_map: ClassMap, alphas: Sequence[float]) -> None:
    """Writes one csv line a class, which `read_class_alphas` reads."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["mid", "display_name", "alpha"])
    writer.writerows(zip(class_map.mids, class_map.display_names, alphas, strict=True))
    with storage.atomic_write(path) as file:
        file.write(stream.getvalue())


def estimate_class_alphas(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], alpha: float
) -> tuple[float, ...]:
    """Less weight for the labels of a class that its teacher contradicts more than its own doubt
    explains.

    With labels y and teacher scores ŷ of class c, averaged over the validation clips:

        found    = mean (y − ŷ)²         how far the teacher contradicts the labels
        doubt    = mean ŷ (1 − ŷ)        how far it would if ŷ were the labels' true probabilities
        prior    = q (1 − q), q = mean y    how far it would if it knew no more than how frequent the class is
        trust_c  = (doubt + prior) / (found + prior)
        alpha_c  = alpha · trust_c / mean over classes of trust, in [0, 1]

    A class that is merely hard has a teacher that contradicts its labels often, but doubts as much:
    its trust stays near 1, whereas the contradiction alone would take the labels away where the
    teacher knows least. `prior` keeps rare classes, and those that the teacher never finds, near 1
    too.

    Args:
        batches: labels, 0 or 1, and teacher scores, in 0..1, both [batch, classes], of the
            validation clips.
        alpha: what the classes' alphas are on average, but for the bounds.

    Returns:
        [classes], to four decimals, so that it is the same on every machine; `alpha` for a class
        that all clips have, or none.
    """
    sums, clips = 0.0, 0
    for labels, scores in batches:
        y, s = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
        sums += np.sum([y, (y - s) ** 2, s * (1 - s)], axis=1)
        clips += len(y)
    q, found, doubt = sums / clips
    prior = q * (1 - q)
    known = prior > 0
    trust = np.divide(doubt + prior, found + prior, out=np.ones_like(q), where=known)
    mean = trust[known].mean() if known.any() else 1.0
    alphas = np.where(known, np.clip(alpha * trust / mean, 0.0, 1.0), alpha)
    return tuple(alphas.round(4).tolist())
