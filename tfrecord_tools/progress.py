"""How far long work is: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

_LINE_EVERY_SECONDS = 10.0


class Progress:
    """Counts clips and shows the count, the speed, the hours of sound, the failures and the time
    left; a context manager.

    Args:
        total: clips to do.
        report: gets the plain lines.
    """

    def __init__(self, total: int, report: Callable[[str], None]):
        self.done = self.failed = 0
        self.sound_seconds = 0.0
        self._total = total
        self._report = report
        self._started = self._last_line = time.monotonic()
        self._bar = tqdm(total=total, unit="clip", disable=not sys.stderr.isatty())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    @property
    def clips_per_second(self) -> float:
        """Since the start."""
        return self.done / max(self.seconds, 1e-9)

    def update(self, sound_seconds: float | None) -> None:
        """One clip more is done; its length, or None if it failed."""
        self.done += 1
        self.failed += sound_seconds is None
        self.sound_seconds += sound_seconds or 0.0
        self._bar.update()
        if not self._bar.disable:
            self._bar.set_postfix_str(self._sound_and_failures(), refresh=False)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            left = (self._total - self.done) / self.clips_per_second
            self._report(
                f"{self.done} of {self._total} clips, {self.clips_per_second:.1f} clips/s, "
                f"{self._sound_and_failures()}, {tqdm.format_interval(left)} left"
            )

    def _sound_and_failures(self) -> str:
        return f"{self.sound_seconds / 3600:.2f} h of sound, {self.failed} failed"
