"""The time and the attempts that a request to a server is given, and how it fails."""

from __future__ import annotations

import dataclasses

import numpy as np

Arrays = dict[str, np.ndarray]


LONGEST_PAUSE_SECONDS = 8.0  # between two attempts


class ServerError(ValueError):
    """A server that cannot be reached, or that refuses a request.

    Attributes:
        is_transient: true if the same request may succeed later.
    """

    def __init__(self, message: str, is_transient: bool = False):
        super().__init__(message)
        self.is_transient = is_transient


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """The time and the attempts that a request is given.

    Attributes:
        timeout_seconds: for the answer, all attempts and the pauses between them together.
        retries: attempts after the first one, where the server cannot be reached or is busy; gRPC
            makes four at most.
        pause_seconds: about where the pauses between attempts begin; they double, up to 8 s. Over
            REST the second attempt follows at once.
    """

    timeout_seconds: float = 60.0
    retries: int = 4
    pause_seconds: float = 0.25
