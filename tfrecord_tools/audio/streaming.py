"""Log-mels of a recording of any length, block by block, equal to those of the whole recording."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soxr

from tfrecord_tools.audio.decoders import DecodingError, open_recording
from tfrecord_tools.audio.loading import AudioError, check_file
from tfrecord_tools.log_mel import LogMelConfig, log_mel

_SHORT_SECONDS = 0.05  # that much may be missing at the end of a file without a word


class LongRecording:
    """A recording as an iterable of its log-mels: blocks, float32 [frames, mel_bins] of any length.

    The channels' mean is resampled in one stream, and frames go on over the blocks' joins, so that
    memory does not grow with the length of the recording.

    Args:
        path: a local file.
        config: what to make.

    Attributes:
        seconds: of sound that was decoded; known at the end of the iteration.
        missing_seconds: what the file claims besides, but does not hold; 0 if it is whole.
    """

    def __init__(self, path: str, config: LogMelConfig):
        self.path, self.config = path, config
        self.seconds = self.missing_seconds = 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the blocks.

        Raises:
            AudioError: if the file can't be used: missing, empty, unreadable, too_short or
                non_finite.
        """
        check_file(self.path)
        config, frames = self.config, 0
        rest = np.empty(0, np.float32)  # samples that the next frame begins with
        try:
            for samples in self._samples():
                rest = np.concatenate([rest, samples])
                block = log_mel(rest, config)
                if len(block):
                    frames += len(block)
                    rest = rest[len(block) * config.hop_samples :]
                    yield block
        except DecodingError as error:
            raise AudioError("unreadable", str(error)) from error
        if not self.seconds:
            raise AudioError("empty", "the file has no samples that can be decoded")
        if not frames:
            raise AudioError(
                "too_short",
                f"expected at least {config.window_seconds:g} s of sound, got {self.seconds:.3f} s",
            )

    def _samples(self) -> Iterator[np.ndarray]:
        """Yield mono samples at the log-mel's rate."""
        decoded = 0
        with open_recording(self.path) as recording:
            rate, rate_out = recording.rate_hz, self.config.sample_rate_hz
            stream = soxr.ResampleStream(rate, rate_out, 1, dtype="float32", quality="HQ")
            for block in recording.blocks(0, recording.num_samples):
                block = block[: recording.num_samples - decoded]
                if not np.isfinite(block).all():
                    raise AudioError("non_finite", "samples that are not finite")
                decoded += len(block)
                yield block if rate == rate_out else stream.resample_chunk(block)
                if decoded == recording.num_samples:
                    break
            self.seconds = decoded / rate
            missing = recording.num_samples / rate - self.seconds
            self.missing_seconds = missing if missing > _SHORT_SECONDS else 0.0
            if rate != rate_out and decoded:
                yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def read_ahead(blocks: Iterable[np.ndarray], count: int = 4) -> Iterator[np.ndarray]:
    """Yield the same blocks, up to `count` of them made ahead in a thread of their own."""
    source = iter(blocks)
    with ThreadPoolExecutor(1) as thread:
        waiting = collections.deque(thread.submit(next, source, None) for _ in range(count))
        while (block := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, source, None))
            yield block
