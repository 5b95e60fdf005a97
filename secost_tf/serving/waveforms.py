"""Waveforms as requests take them: padded together, as wav files, as arrays of bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import soundfile


def pad_together(sounds: Sequence[np.ndarray]) -> np.ndarray:
    """Return sounds as float32 [batch, samples], as long as the longest."""
    batch = np.zeros((len(sounds), max(map(len, sounds))), np.float32)
    for row, sound in zip(batch, sounds, strict=True):
        row[: len(sound)] = sound
    return batch


def encode_wav(samples: np.ndarray, rate_hz: int) -> bytes:
    """Return a 16-bit wav file of samples [samples] or [samples, channels], clipped to -1..1."""
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(samples, -1.0, 1.0), rate_hz, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def bytes_array(values: Sequence[bytes]) -> np.ndarray:
    """Return bytes as an array of objects, which keeps zeros at their ends."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
