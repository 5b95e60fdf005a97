"""The progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from tqdm import tqdm

Self = TypeVar("Self", bound="Progress")


class Progress:
    """Shows how much is done, how fast, and the time left; a context manager.

    Args:
        total: how many units there are to do.
        report: gets the plain lines.
        unit: what is counted.
        label: what is done; the lines begin with it.
        first: how many units were done before.
        every_seconds: time between two lines.
        keep: whether the bar stays when it is full.
    """

    def __init__(
        self,
        total: int,
        report: Callable[[str], None],
        *,
        unit: str = "clip",
        label: str = "",
        first: int = 0,
        every_seconds: float = 10.0,
        keep: bool = True,
    ):
        self.done = self._first = first
        self._total, self._report, self._every_seconds = total, report, every_seconds
        self._unit, self._label = unit, label
        self._note: Callable[[], str] = str
        self._started = self._last_line = time.monotonic()
        self._bar = tqdm(
            total=total,
            desc=label or None,
            unit=unit,
            initial=first,
            leave=keep,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the bar."""
        if not self._bar.disable:
            self._bar.set_postfix_str(self._note(), refresh=False)
        self._bar.close()

    @property
    def seconds(self) -> float:
        """The time since the start."""
        return time.monotonic() - self._started

    @property
    def speed(self) -> float:
        """Units done in a second, on average since the start."""
        return (self.done - self._first) / max(self.seconds, 1e-9)

    def update(self, count: int = 1, note: Callable[[], str] = str) -> None:
        """Add units that are done.

        Args:
            count: how many.
            note: gives what to show besides; called when it is shown.
        """
        self.done += count
        self._note = note
        if self._bar.update(count):
            self._bar.set_postfix_str(note(), refresh=False)
        elif self._bar.disable and time.monotonic() - self._last_line >= self._every_seconds:
            self._last_line = time.monotonic()
            parts = [f"{self.done} of {self._total} {self._unit}s"]
            parts += [f"{self.speed:.1f} {self._unit}s/s", note()]
            parts += [f"{tqdm.format_interval((self._total - self.done) / self.speed)} left"]
            self._report(f"{self._label}: " * bool(self._label) + ", ".join(filter(None, parts)))


class ClipProgress(Progress):
    """Counts clips, and shows the hours of sound and the failures besides."""

    def __init__(self, total: int, report: Callable[[str], None]):
        super().__init__(total, report)
        self.failed = 0
        self.sound_seconds = 0.0

    def add(self, sound_seconds: float | None) -> None:
        """Count a clip that is done; its length, or None if it failed."""
        self.failed += sound_seconds is None
        self.sound_seconds += sound_seconds or 0.0
        self.update(1, self._describe)

    def _describe(self) -> str:
        return f"{self.sound_seconds / 3600:.2f} h of sound, {self.failed} failed"
