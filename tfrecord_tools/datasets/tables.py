"""Cells of label tables turned into numbers; every error names file and line."""

from __future__ import annotations

import math


def parse_seconds(text: str, name: str, where: str) -> float:
    """A time in seconds, finite and not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{where}: {name}: expected a time in seconds, 0 or more, got {text!r}")
    return value


def parse_int(text: str, name: str, where: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{where}: {name}: expected a whole number, got {text!r}") from None


def check_span(start_seconds: float, end_seconds: float | None, where: str) -> None:
    """Raises a `ValueError` if a span does not end after its start."""
    if end_seconds is not None and end_seconds <= start_seconds:
        raise ValueError(
            f"{where}: expected an end after the start, got {start_seconds:g} to {end_seconds:g} seconds"
        )


class UniqueIds:
    """Refuses an id that came before, naming both lines."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def add(self, clip_id: str, where: str) -> None:
        """Notes an id; a `ValueError` if it was there."""
        if (first := self._seen.setdefault(clip_id, where)) != where:
            raise ValueError(f"{where}: clip id {clip_id!r} was there before, at {first}")
