"""A number for each class, such as a threshold or an alpha, as a csv table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.text import parse_number


def read_class_values(path: str, class_map: ClassMap, column: str) -> tuple[float | None, ...]:
    """Read a number in [0, 1] for each class from a csv.

    Args:
        path: the csv, with the column that is asked for, and `mid` or `display_name`; where a row
            has both, the mid counts. Other columns are ignored.
        class_map: the classes.
        column: the name of the column of the numbers.

    Returns:
        [classes]; None for a class that is not listed.

    Raises:
        ValueError: if a class is unknown or listed twice, a value is no number in [0, 1], or no
            class is listed; names file and line.
    """
    values: dict[int, float] = {}
    lines: dict[int, str] = {}
    for where, row in storage.read_csv(path, (column,), ("mid", "display_name")):
        name = row.get("mid") or row.get("display_name")
        if not name:
            raise ValueError(
                f"{where}: expected a class in a column 'mid' or 'display_name', got none"
            )
        (index,) = class_map.indices([name], where)
        if (first := lines.setdefault(index, where)) != where:
            raise ValueError(
                f"{where}: {class_map.display_names[index]!r} was there before, at {first}"
            )
        values[index] = parse_number(row[column], column, where, "a number in [0, 1]", 0, 1)
    if not values:
        raise ValueError(f"{path}: expected a line for at least one class, got none")
    return tuple(map(values.get, range(len(class_map))))


def write_class_values(
    path: str, class_map: ClassMap, columns: Mapping[str, Iterable[object]]
) -> None:
    """Write a csv row a class: mid, display name and the given columns, [classes] each."""
    table = {"mid": class_map.mids, "display_name": class_map.display_names, **columns}
    storage.write_csv(path, zip(*table.values(), strict=True), list(table))
