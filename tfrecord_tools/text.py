"""Texts for people: lists, durations, sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np


def duration(seconds: float) -> str:
    """Return a time as `2 h 05 min`, `3 min 20 s` or `45 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min"
        if hours
        else f"{minutes} min {seconds:02d} s"
        if minutes
        else f"{seconds} s"
    )


def format_figure(value: float | None, spec: str = ".4f", missing: str = "-") -> str:
    """Return a number as text; `missing` if it is None or not finite."""
    return missing if value is None or not math.isfinite(value) else format(value, spec)


def join_some(names: Sequence[str], most: int = 5) -> str:
    """Return the first names as `a, b, c ...`; no dots if these are all."""
    return ", ".join(names[:most]) + " ..." * (len(names) > most)


def join_stages(stages: Iterable[int]) -> str:
    """Return numbers of stages as `0+1+2`, or `-` if there are none."""
    return "+".join(map(str, stages)) or "-"


def format_size(num_bytes: int) -> str:
    """Return a file's size as `812 kB` or `1.42 MB`."""
    return f"{num_bytes / 1e6:.2f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return scores in 0..1, float64, of the same shape."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, np.float64)))
