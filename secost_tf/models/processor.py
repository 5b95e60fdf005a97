"""Tell what the processor can do."""

from __future__ import annotations

from pathlib import Path


def processor_flags() -> set[str]:
    """Return what the processor can do, by Linux's names; empty elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())
