"""One recording, or a span of it, decoded to a mono waveform; each way a file can be bad."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator

import numpy as np
import soxr

from tfrecord_tools.audio.decoders import DecodingError, Recording, open_recording

# Decoded around the span, so that the resampling filter sees what lies beyond its ends.
_MARGIN_SECONDS = 0.05

_MOST_SAMPLES = 100_000_000  # of one clip at its own rate: 400 MB, 38 minutes at 44.1 kHz

_SHORT_SECONDS = 0.05  # that much may be missing from a span without a warning

_SILENT_PEAK = 1e-4  # -80 dB of full scale

_CLIPPED_LEVEL = 0.999

_CLIPPED_SHARE = 0.001


class AudioError(ValueError):
    """A recording that can't be used.

    Attributes:
        kind: missing, empty, unreadable, outside (the file ends before the span begins), too_long,
            too_short or non_finite.
        detail: what exactly is wrong.
    """

    def __init__(self, kind: str, detail: str):
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclasses.dataclass(frozen=True)
class Audio:
    """A decoded span.

    Attributes:
        waveform: mono float32 [samples]; full scale is -1..1.
        duration_seconds: its length, which is less than was asked for if the file ends early.
        warnings: (kind, detail) of what is suspicious: short, silent or clipped.
    """

    waveform: np.ndarray
    duration_seconds: float
    warnings: tuple[tuple[str, str], ...] = ()


def load_audio(
    path: str,
    sample_rate_hz: int,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    file_start_seconds: float | None = 0.0,
) -> Audio:
    """Decode a span to mono, the mean of the channels, at `sample_rate_hz`.

    A span is cut to the sample and equals the same span of the whole file, resampled. Of a file
    that ends early, what is there is kept at its true length, with a warning.

    Args:
        path: a local file.
        sample_rate_hz: the rate to resample to.
        start_seconds, end_seconds: the span of the recording; end None means to its end.
        file_start_seconds: where in the recording the file begins; None: see `guess_file_start`.

    Raises:
        AudioError: if the file or the span can't be used.
    """
    check_file(path)
    try:
        with open_recording(path) as recording:
            if not recording.num_samples:
                raise AudioError("empty", "the file has no samples")
            file_seconds = recording.num_samples / recording.rate_hz
            if file_start_seconds is None:
                file_start_seconds = guess_file_start(file_seconds, start_seconds, end_seconds)
            start = max(0.0, start_seconds - file_start_seconds)
            end = file_seconds if end_seconds is None else end_seconds - file_start_seconds
            if start >= file_seconds:
                detail = f"the file has {file_seconds:.3f} s, the span starts at {start:.3f} s"
                raise AudioError("outside", detail)
            waveform = _read_span(recording, start, end, sample_rate_hz)
    except DecodingError as error:
        raise AudioError("unreadable", str(error)) from error
    if not len(waveform):
        raise AudioError("empty", "no samples could be decoded in the span")
    if not np.isfinite(waveform).all():
        raise AudioError("non_finite", "samples that are not finite")
    seconds = len(waveform) / sample_rate_hz
    return Audio(waveform, seconds, tuple(_warnings(waveform, end - start, seconds)))


def check_file(path: str) -> None:
    """Raise an `AudioError` if there is no such file, or nothing in it."""
    if not os.path.isfile(path):
        raise AudioError("missing", "no such file")
    if not os.path.getsize(path):
        raise AudioError("empty", "the file has no bytes")


def guess_file_start(file_seconds: float, start_seconds: float, end_seconds: float | None) -> float:
    """Return where in the recording a file begins that may hold all of it or only the span.

    It holds the span alone if it ends before the span would, and is about as long as the span, or
    does not even reach its start. Then the result is `start_seconds`, else 0.
    """
    if end_seconds is None or file_seconds >= end_seconds:
        return 0.0
    span_seconds = end_seconds - start_seconds
    tolerance_seconds = max(0.5, 0.05 * span_seconds)
    is_cut = abs(file_seconds - span_seconds) <= tolerance_seconds or file_seconds <= start_seconds
    return start_seconds if is_cut else 0.0


def _read_span(recording: Recording, start: float, end: float, sample_rate_hz: int) -> np.ndarray:
    """Return a span in seconds, mono and resampled; shorter if the file ends early."""
    rate = recording.rate_hz
    if rate == sample_rate_hz:
        return _read_samples(recording, round(start * rate), round(end * rate))
    # Reading begins where a sample of the file and one of the result fall together, so that the
    # filter's phase is that of the whole file.
    step = rate // math.gcd(rate, sample_rate_hz)
    margin = math.ceil(_MARGIN_SECONDS * rate)
    first = max(0, math.floor(start * rate) - margin) // step * step
    samples = _read_samples(recording, first, math.ceil(end * rate) + margin)
    skipped = round(start * sample_rate_hz) - first * sample_rate_hz // rate
    length = round(end * sample_rate_hz) - round(start * sample_rate_hz)
    return soxr.resample(samples, rate, sample_rate_hz, quality="HQ")[skipped : skipped + length]


def _read_samples(recording: Recording, first: int, last: int) -> np.ndarray:
    """Return samples [first, last), float32; fewer if the file, or what can be read of it, ends."""
    # A damaged header may promise more than memory holds; what is not written to takes none.
    samples = np.empty(min(last - first, _MOST_SAMPLES), np.float32)
    filled = 0
    for block in recording.blocks(first, last):
        block = block[: len(samples) - filled]
        samples[filled : filled + len(block)] = block
        filled += len(block)
        if filled == len(samples):
            break
    if filled == _MOST_SAMPLES < last - first:
        minutes = f"{filled / recording.rate_hz / 60:.0f} minutes"
        raise AudioError(
            "too_long", f"more than {minutes}; cut it into clips, with a start and an end"
        )
    return samples[:filled]


def _warnings(
    waveform: np.ndarray, expected_seconds: float, seconds: float
) -> Iterator[tuple[str, str]]:
    """Yield (kind, detail) of what is suspicious."""
    if seconds < expected_seconds - _SHORT_SECONDS:
        yield "short", f"expected {expected_seconds:.3f} s, got {seconds:.3f} s"
    peak = np.abs(waveform).max()
    if peak < _SILENT_PEAK:
        yield "silent", f"peak {peak:.1e} of full scale"
    clipped = np.mean(np.abs(waveform) >= _CLIPPED_LEVEL)
    if clipped > _CLIPPED_SHARE:
        yield "clipped", f"{clipped:.1%} of the samples at full scale"
