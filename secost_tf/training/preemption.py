"""An orderly end at SIGTERM: training saves at the end of the step, and exits with status 143."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn


class Preemption:
    """Handler of SIGTERM, which schedulers send before they take a machine away.

    The process exits with status 143. Within `deferred`, the handler only notes the request: the
    code there looks at `requested`, saves its state, and calls `stop`.
    """

    STATUS = 128 + signal.SIGTERM

    def __init__(self) -> None:
        self.requested = False
        self._is_deferred = False

    def install(self) -> None:
        """Handle SIGTERM from now on; to be called in the main thread."""
        signal.signal(signal.SIGTERM, self._handle)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Leave it to the block to stop."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def stop(self, message: str, reason: str = "by SIGTERM") -> NoReturn:
        """Print why, and exit with the status after which a scheduler starts the command again."""
        print(f"stopped {reason}: {message}", file=sys.stderr)
        raise SystemExit(self.STATUS)

    def _handle(self, signum: int, frame: object) -> None:
        del signum, frame
        self.requested = True
        if not self._is_deferred:
            self.stop("the same command continues with what is not done")


preemption = Preemption()  # signals are the process's
