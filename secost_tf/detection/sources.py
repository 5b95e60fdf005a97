"""Where a monitor's sound comes from: a recording, raw samples on a pipe, or a microphone; always
mono float32 blocks.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import soxr
from absl import logging

from tfrecord_tools.audio import DecodingError, open_recording

_FULL_SCALE = 32768.0  # of 16-bit samples

_MOST_WAITING_BLOCKS = 200  # of a microphone; more are lost


def of_file(path: str, sample_rate_hz: int) -> Iterator[np.ndarray]:
    """A recording of any format, resampled; ends with it.

    Raises:
        ValueError: if it is not sound that can be decoded.
    """
    try:
        with open_recording(path) as recording:
            blocks = recording.blocks(0, recording.num_samples)
            yield from _resampled(blocks, recording.rate_hz, sample_rate_hz)
    except DecodingError as error:
        raise ValueError(f"{path}: {error}") from error


def of_pipe(
    stream: BinaryIO, rate_hz: int, sample_rate_hz: int, block_samples: int = 1600
) -> Iterator[np.ndarray]:
    """Raw 16-bit little-endian mono samples at `rate_hz`, such as sox and FFmpeg write; ends with
    the stream.
    """

    def blocks() -> Iterator[np.ndarray]:
        left = b""
        while data := stream.read(2 * block_samples):
            data = left + data
            whole = len(data) // 2 * 2
            left = data[whole:]
            yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / _FULL_SCALE

    yield from _resampled(blocks(), rate_hz, sample_rate_hz)


def _resampled(
    blocks: Iterator[np.ndarray], rate_hz: int, sample_rate_hz: int
) -> Iterator[np.ndarray]:
    if rate_hz == sample_rate_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block, np.float32))
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def of_microphone(sample_rate_hz: int, device: str | None = None) -> Iterator[np.ndarray]:
    """The default microphone, or the one whose number or name is `device`; does not end.

    Raises:
        ValueError: if the extra `microphone` is not installed, or there is no such device.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: without the PortAudio library
        raise ValueError(
            f"the microphone needs the extra microphone ({error}): pip install 'secost_tf[microphone]' and, on Linux, the "
            "package libportaudio2; or pipe raw samples in with --input=-"
        ) from error
    waiting: queue.Queue[np.ndarray] = queue.Queue(_MOST_WAITING_BLOCKS)

    def keep(block: np.ndarray, frames: int, when: object, status: object) -> None:
        if status:
            logging.warning("microphone: %s", status)
        try:
            waiting.put_nowait(block[:, 0].copy())
        except queue.Full:
            logging.warning("sound is lost: the model is slower than the microphone")

    number = int(device) if device and device.isdecimal() else device
    try:
        with sounddevice.InputStream(
            sample_rate_hz, device=number, channels=1, dtype="float32", callback=keep
        ):
            while True:
                yield waiting.get()
    except (sounddevice.PortAudioError, ValueError) as error:
        named = f" {device}" if device else ""
        raise ValueError(
            f"no microphone{named} ({error}); python -m sounddevice lists the devices"
        ) from error


def in_blocks(source: Iterator[np.ndarray], block_samples: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of one length, the last one shorter."""
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
    """The same blocks, each not before its time: as if the recording were played."""
    start, samples = clock(), 0
    for block in blocks:
        samples += len(block)
        if (wait := start + samples / sample_rate_hz - clock()) > 0:
            sleep(wait)
        yield block
