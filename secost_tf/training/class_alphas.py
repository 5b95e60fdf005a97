"""A weight of the labels for each class, read from a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfrecord_tools import storage
from tfrecord_tools.datasets import ClassMap


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
    for where, row in storage.read_csv(path, ("alpha",), ("mid", "display_name")):
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
    rows = zip(class_map.mids, class_map.display_names, alphas, strict=True)
    storage.write_csv(path, rows, ("mid", "display_name", "alpha"))
