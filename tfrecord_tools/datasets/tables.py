"""Cells of label tables as numbers; every error names file and line."""

from __future__ import annotations

from collections.abc import Sequence

from tfrecord_tools.text import parse_number


def parse_seconds(text: str, name: str, where: str) -> float:
    """Return a time in seconds, finite and not negative; see `parse_number`."""
    return parse_number(text, name, where, "a time in seconds, 0 or more", low=0)


def parse_span(
    start: str, end: str, where: str, names: Sequence[str] = ("start", "end")
) -> tuple[float, float]:
    """Return a span's start and end in seconds; the end is after the start."""
    start_seconds, end_seconds = (
        parse_seconds(text, name, where) for text, name in zip((start, end), names, strict=True)
    )
    if end_seconds <= start_seconds:
        raise ValueError(
            f"{where}: expected an end after the start, "
            f"got {start_seconds:g} to {end_seconds:g} seconds"
        )
    return start_seconds, end_seconds


class UniqueIds:
    """The ids that came so far, each of which may come once."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def add(self, clip_id: str, where: str) -> None:
        """Note an id; raise a `ValueError` that names both lines if it was there."""
        if (first := self._seen.setdefault(clip_id, where)) != where:
            raise ValueError(f"{where}: clip id {clip_id!r} was there before, at {first}")
