"""Which Keras this is, and what the processor is good at."""

from __future__ import annotations

from pathlib import Path

import keras

KERAS_3 = int(keras.__version__.split(".")[0]) >= 3


def processor_flags() -> set[str]:
    """What the processor can do, by Linux's names; empty elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())
