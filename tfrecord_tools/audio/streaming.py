"""Log-mels of sound of any length, block by block, equal to those of the whole."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soxr
from absl import logging

from tfrecord_tools.audio.decoders import DecodingError, Recording, open_recording
from tfrecord_tools.audio.loading import AudioError, check_file
from tfrecord_tools.log_mel import LogMelConfig, log_mel

_SHORT_SECONDS = 0.05  # that much may be missing at the end of a file without a word


class LogMelStream:
    """A log-mel computed from samples that come in blocks; frames go on over the blocks' joins.

    Args:
        config: settings of the log-mel.
    """

    def __init__(self, config: LogMelConfig):
        self._config = config
        self._rest = np.empty(0, np.float32)  # samples that the next frame begins with

    def add(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples and return the frames that are complete now.

        Args:
            samples: float32 [samples] at the log-mel's rate, any number of them.

        Returns:
            float32 [frames, mel_bins].
        """
        self._rest = np.concatenate([self._rest, samples])
        frames = log_mel(self._rest, self._config)
        self._rest = self._rest[len(frames) * self._config.hop_samples :]
        return frames


def resample_blocks(
    blocks: Iterable[np.ndarray], rate_hz: int, target_rate_hz: int
) -> Iterator[np.ndarray]:
    """Yield a sound, float32 [samples] in blocks, at another sample rate, as if it were one."""
    if rate_hz == target_rate_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate_hz, target_rate_hz, 1, dtype="float32", quality="HQ")
    some = False
    for block in blocks:
        some = some or len(block) > 0
        yield resampler.resample_chunk(np.ascontiguousarray(block, np.float32))
    if some:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


class LongRecording:
    """A recording as an iterable of its log-mels: blocks, float32 [frames, mel_bins] of any length.

    The channels' mean is resampled in one stream, so that memory does not grow with the length of
    the recording.

    Args:
        path: a local file.
        config: settings of the log-mel.

    Attributes:
        seconds: length of the sound that was decoded; known at the end of the iteration.
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
        stream, num_frames = LogMelStream(self.config), 0
        for samples in self.samples():
            frames = stream.add(samples)
            if len(frames):
                num_frames += len(frames)
                yield frames
        if not num_frames:
            raise AudioError(
                "too_short",
                f"expected at least {self.config.window_seconds:g} s of sound, got "
                f"{self.seconds:.3f} s",
            )

    def samples(self) -> Iterator[np.ndarray]:
        """Yield the sound at the log-mel's rate, mono float32 [samples] in blocks.

        Raises:
            AudioError: if the file can't be used: missing, empty, unreadable or non_finite.
        """
        check_file(self.path)
        try:
            with open_recording(self.path) as recording:
                blocks = self._decode(recording)
                yield from resample_blocks(blocks, recording.rate_hz, self.config.sample_rate_hz)
        except DecodingError as error:
            raise AudioError("unreadable", str(error)) from error
        if not self.seconds:
            raise AudioError("empty", "the file has no samples that can be decoded")

    def warn_if_short(self) -> None:
        """Log that the file holds less than it claims, if it does; to be called at the end."""
        if self.missing_seconds:
            logging.warning(
                "%s: claims %.1f s more than can be decoded; what comes before was used",
                self.path,
                self.missing_seconds,
            )

    def _decode(self, recording: Recording) -> Iterator[np.ndarray]:
        """Yield the sound as the file holds it, up to the length that it claims."""
        decoded = 0
        for block in recording.blocks(0, recording.num_samples):
            block = block[: recording.num_samples - decoded]
            if not np.isfinite(block).all():
                raise AudioError("non_finite", "samples that are not finite")
            decoded += len(block)
            yield block
            if decoded == recording.num_samples:
                break
        self.seconds = decoded / recording.rate_hz
        missing = recording.num_samples / recording.rate_hz - self.seconds
        self.missing_seconds = missing if missing > _SHORT_SECONDS else 0.0


def read_ahead(blocks: Iterable[np.ndarray], count: int = 4) -> Iterator[np.ndarray]:
    """Yield the same blocks, up to `count` of them made ahead in a thread of their own."""
    source = iter(blocks)
    with ThreadPoolExecutor(1) as thread:
        waiting = collections.deque(thread.submit(next, source, None) for _ in range(count))
        while (block := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, source, None))
            yield block
