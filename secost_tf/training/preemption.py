"""SIGTERM: save at the end of the step and leave with status 143."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn


class Preemption:
    """Makes of SIGTERM, which schedulers send before they take a machine away, an orderly end with
    status 143.

    Where a block is `deferred`, it only notes that an end was requested; whoever works there looks
    at `requested`, saves what is to be saved, and calls `stop`.
    """

    STATUS = 128 + signal.SIGTERM

    def __init__(self) -> None:
        self.requested = False
        self._is_deferred = False

    def install(self) -> None:
        """Handles SIGTERM from now on; in the main thread."""
        signal.signal(signal.SIGTERM, self._handle)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Leaves it to the block to stop."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def stop(self, message: str, reason: str = "by SIGTERM") -> NoReturn:
        """Ends the process so that it is started again, with what is to be said of it."""
        print(f"stopped {reason}: {message}", file=sys.stderr)
        raise SystemExit(self.STATUS)

    def _handle(self, signum: int, frame: object) -> None:
        del signum, frame
        self.requested = True
        if not self._is_deferred:
            self.stop("the same command continues with what is not done")


preemption = Preemption()  # signals are the process's
