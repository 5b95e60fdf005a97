"""Where a stream's sound comes from: a recording, raw samples on a pipe, or a microphone.

A source is iterated over once, and gives mono float32 blocks at the model's sample rate.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

import numpy as np
from absl import logging

from tfrecord_tools.audio import AudioError, LongRecording, resample_blocks
from tfrecord_tools.log_mel import LogMelConfig

_FULL_SCALE = 32768.0  # of 16-bit samples
_MOST_WAITING_BLOCKS = 200  # of a microphone; more are lost


class Source(Protocol):
    """A sound, float32 [samples] in blocks of any lengths.

    Attributes:
        seconds: length of the sound; known at the end of the iteration.
    """

    @property
    def seconds(self) -> float: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


class FileSource:
    """A recording of any format, resampled; ends with it.

    Args:
        path: a local file.
        log_mel: what the sound is for.
    """

    def __init__(self, path: str, log_mel: LogMelConfig):
        self._recording = LongRecording(path, log_mel)

    @property
    def seconds(self) -> float:
        """Length of the sound; known at the end of the iteration."""
        return self._recording.seconds

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the samples.

        Raises:
            ValueError: if the file can't be used; names it.
        """
        try:
            yield from self._recording.samples()
        except AudioError as error:
            raise ValueError(f"{self._recording.path}: {error}") from error
        self._recording.warn_if_short()


class PipeSource:
    """Raw 16-bit little-endian mono samples, such as sox and FFmpeg write; ends with the stream.

    Args:
        stream: where to read them.
        rate_hz: their sample rate.
        target_rate_hz: the one that they are resampled to.
        block_samples: read at once, at most.

    Attributes:
        seconds: length of the sound so far.
    """

    def __init__(
        self, stream: BinaryIO, rate_hz: int, target_rate_hz: int, block_samples: int = 1600
    ):
        self.seconds = 0.0
        self._stream, self._rate_hz, self._target_rate_hz = stream, rate_hz, target_rate_hz
        self._block_bytes = 2 * block_samples

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the samples, resampled."""
        return resample_blocks(self._read(), self._rate_hz, self._target_rate_hz)

    def _read(self) -> Iterator[np.ndarray]:
        left, num_samples = b"", 0
        while data := self._stream.read(self._block_bytes):
            data = left + data
            whole = len(data) // 2 * 2
            left = data[whole:]
            num_samples += whole // 2
            self.seconds = num_samples / self._rate_hz
            yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / _FULL_SCALE


class MicrophoneSource:
    """The default microphone, or another; does not end.

    Args:
        sample_rate_hz: that it is asked for.
        device: number or name of the microphone.
    """

    seconds = 0.0  # known at the end

    def __init__(self, sample_rate_hz: int, device: str | None = None):
        self._sample_rate_hz, self._device = sample_rate_hz, device

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the samples.

        Raises:
            ValueError: if the extra `microphone` is not installed, or there is no such device.
        """
        try:
            import sounddevice
        except (ImportError, OSError) as error:  # OSError: without the PortAudio library
            raise ValueError(
                f"the microphone needs the extra microphone ({error}): pip install "
                "'secost_tf[microphone]' and, on Linux, the package libportaudio2; or pipe raw "
                "samples in with --input=-"
            ) from error
        waiting: queue.Queue[np.ndarray] = queue.Queue(_MOST_WAITING_BLOCKS)

        def keep(block: np.ndarray, frames: int, when: object, status: object) -> None:
            if status:
                logging.warning("microphone: %s", status)
            try:
                waiting.put_nowait(block[:, 0].copy())
            except queue.Full:
                logging.warning("sound is lost: the model is slower than the microphone")

        device = self._device
        number = int(device) if device and device.isdecimal() else device
        try:
            with sounddevice.InputStream(
                self._sample_rate_hz, device=number, channels=1, dtype="float32", callback=keep
            ):
                while True:
                    yield waiting.get()
        except (sounddevice.PortAudioError, ValueError) as error:
            named = f" {device}" if device else ""
            raise ValueError(
                f"no microphone{named} ({error}); python -m sounddevice lists the devices"
            ) from error


def in_blocks(source: Iterator[np.ndarray], block_samples: int) -> Iterator[np.ndarray]:
    """Yield the same samples in blocks of one length, the last one shorter."""
    kept = np.zeros(0, np.float32)
    for block in source:
        kept = np.concatenate([kept, block])
        while len(kept) >= block_samples:
            yield kept[:block_samples]
            kept = kept[block_samples:]
    if len(kept):
        yield kept


def in_time(
    blocks: Iterator[np.ndarray],
    sample_rate_hz: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[np.ndarray]:
    """Yield the same blocks, each not before its time: as if the recording were played."""
    start, samples = clock(), 0
    for block in blocks:
        samples += len(block)
        if (wait := start + samples / sample_rate_hz - clock()) > 0:
            sleep(wait)
        yield block
