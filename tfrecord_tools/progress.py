"""How far long work is: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

_LINE_EVERY_SECONDS = 10.0


class Progress:
    """Counts clips and shows the count, the speed and the failures; a context manager.

    Args:
        total: clips to do.
        report: gets the plain lines.
    """

    def __init__(self, total: int, report: Callable[[str], None]):
        self.done = self.failed = 0
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

    def update(self, failed: bool) -> None:
        """One clip more is done."""
        self.done += 1
        self.failed += failed
        self._bar.update()
        if failed:
            self._bar.set_postfix(failed=self.failed)
        if self._bar.disable and time.monotonic() - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            self._report(
                f"{self.done} of {self._total} clips, {self.clips_per_second:.1f} clips/s, {self.failed} failed"
            )
