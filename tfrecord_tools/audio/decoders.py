"""Recordings of any format: read by libsndfile where it can, else by FFmpeg's libraries (PyAV).

Both give the same three things: the sample rate, the length that the file claims, and its samples
from any place on.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import soundfile

# In the order in which one of several copies of a recording is chosen: lossless ones first.
_LOSSLESS_EXTENSIONS = (".wav", ".flac", ".aiff", ".aif", ".w64", ".rf64", ".caf", ".au")

SOUNDFILE_EXTENSIONS = (*_LOSSLESS_EXTENSIONS, ".ogg", ".oga", ".opus", ".mp3")

AV_EXTENSIONS = (".m4a", ".mp4", ".aac", ".webm", ".mkv", ".mka", ".mov", ".3gp")

EXTENSIONS = SOUNDFILE_EXTENSIONS + AV_EXTENSIONS

# Samples of all channels that are read at once: each read ends with a costly search in the file.
_BLOCK_SAMPLES = 1 << 20

_DAMAGED_BLOCK_SECONDS = 0.05  # read at once where a block can't be read: that much is lost

_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1000, 1_000_000  # a rate beyond is a damaged header

# (offset, bytes): MP4 and its kin; Matroska and WebM
_MAGIC = ((4, b"ftyp"), (0, b"\x1aE\xdf\xa3"))

_AV_OPTIONS = {
    # A file that is really a playlist would make FFmpeg open what it names, so these formats alone,
    # and no network.
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,mp3,flac,ogg,wav,avi,asf,flv,"
    "mpegts,mpeg",
    "protocol_whitelist": "file",
}

# Other formats only guess lengths and places: they are decoded from the start.
_AV_WITH_INDEX = ("mov", "matroska")

_AV_JOINED_SAMPLES = 1 << 14

# Decoded and dropped before a span, until the decoder's state is that of the whole file.
_AV_PREROLL_SECONDS = 0.5


class DecodingError(ValueError):
    """A file that is not sound, or whose sound can't be decoded; the message says why, without the
    file's name.
    """


class Recording(Protocol):
    """An open recording.

    Attributes:
        rate_hz: samples a second.
        num_samples: samples a channel, as the file claims; what can be decoded may be less.
    """

    rate_hz: int
    num_samples: int

    def blocks(self, first: int, last: int) -> Iterator[np.ndarray]:
        """Yield samples from `first` to at least `last`, as the mean of the channels: float32
        [samples], any lengths.

        It ends before where the recording, or what can be decoded of it, ends.

        Raises:
            DecodingError: if nothing can be decoded there.
        """


@contextlib.contextmanager
def open_recording(path: str) -> Iterator[Recording]:
    """Open a local file for reading.

    Raises:
        DecodingError: if it is not sound that can be decoded.
    """
    recording_class = _AvRecording if _is_for_av(path) else _SoundFileRecording
    with contextlib.closing(recording_class(path)) as recording:
        if not _LOWEST_RATE_HZ <= recording.rate_hz <= _HIGHEST_RATE_HZ:
            raise DecodingError(f"a sample rate of {recording.rate_hz} Hz")
        yield recording


def _is_for_av(path: str) -> bool:
    """Return True if PyAV is to read a file: by its first bytes, or else by its extension.

    Downloads are often misnamed.
    """
    with open(path, "rb") as stream:
        start = stream.read(16)
    return any(start[offset:].startswith(magic) for offset, magic in _MAGIC) or (
        os.path.splitext(path)[1].lower() in AV_EXTENSIONS
    )


class _SoundFileRecording:
    """A recording that libsndfile reads."""

    def __init__(self, path: str):
        try:
            self._file = soundfile.SoundFile(os.fsencode(path))  # a file name may be no text
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a headerless extension
            raise DecodingError(getattr(error, "error_string", str(error))) from error
        self.rate_hz = self._file.samplerate
        self.num_samples = self._file.frames
        self.close = self._file.close

    def blocks(self, first: int, last: int) -> Iterator[np.ndarray]:
        length = max(1, _BLOCK_SAMPLES // self._file.channels)
        short = max(1, min(length, round(_DAMAGED_BLOCK_SECONDS * self.rate_hz)))
        position, seeks = first, first > 0
        while position < last:
            try:
                if seeks:
                    self._file.seek(position)
                block = self._file.read(min(length, last - position), "float32", always_2d=True)
            except soundfile.SoundFileError as error:
                if length > short:
                    length, seeks = short, True
                    continue
                if position == first:
                    raise DecodingError(getattr(error, "error_string", str(error))) from error
                return
            if not len(block):
                return
            yield _mean_of_channels(block.T)
            position, seeks = position + len(block), False


class _AvRecording:
    """A recording that FFmpeg's libraries read."""

    def __init__(self, path: str):
        import av

        self._path = path
        self._av_error = av.error.FFmpegError
        try:
            self._open()
        except self._av_error as error:
            raise DecodingError(error.strerror or str(error)) from error
        self.num_samples = self._claimed_samples()

    def close(self) -> None:
        self._container.close()

    def _open(self) -> None:
        """Open the file; decode a few frames, which alone tell the rate and where sound begins."""
        import av

        # Tags that are no text are replaced; from version 19 on they always are.
        replace_tags = int(av.__version__.split(".")[0]) < 19
        settings: dict[str, Any] = {"metadata_errors": "replace"} if replace_tags else {}
        container = av.open(f"file:{self._path}", options=_AV_OPTIONS, **settings)
        self._container = container
        try:
            if not container.streams.audio:
                raise DecodingError("no sound in it")
            self._stream = container.streams.audio[0]
            self._stream.codec_context.thread_count = 1
            self._resampler = av.AudioResampler(format="fltp")
            frames = container.decode(self._stream)
            beginning = list(itertools.islice(frames, 4))
            if not beginning:
                raise DecodingError("no sound can be decoded")
        except (self._av_error, DecodingError):
            container.close()
            raise
        self.rate_hz = beginning[0].sample_rate
        self._has_index = container.format.name.startswith(_AV_WITH_INDEX)
        self._beginning = [frame.samples for frame in beginning]
        self._origin = beginning[0].pts
        self._frames = itertools.chain(beginning, frames)

    def _claimed_samples(self) -> int:
        """Return the length that the file claims; one that claims none is searched for its end."""
        stream, container = self._stream, self._container
        if self._has_index and stream.duration is not None:
            return round(stream.duration * stream.time_base * self.rate_hz)
        if self._has_index and container.duration is not None:
            return round(container.duration / 1e6 * self.rate_hz)
        # Such as bare AAC, or what a browser recorded.
        seconds = 0.0
        with contextlib.suppress(self._av_error):  # cut short; what came before counts
            for packet in container.demux(stream):
                if packet.pts is not None:
                    end = packet.pts + (packet.duration or 0)
                    seconds = max(seconds, float(end * packet.time_base))
        self._reopen()
        return round(seconds * self.rate_hz)

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    def blocks(self, first: int, last: int) -> Iterator[np.ndarray]:
        del last  # frames come one by one; whoever has enough stops
        try:
            position = self._seek(first)
            for part in self._parts():
                block = _mean_of_channels(part.to_ndarray())[max(0, first - position) :]
                position += part.samples
                if len(block):
                    yield block
        except (self._av_error, ValueError) as error:  # ValueError: the layout changes on the way
            if position <= first:
                raise DecodingError(getattr(error, "strerror", None) or str(error)) from error

    def _parts(self) -> Iterator:
        """Yield the rest of the sound as long frames of planar float32; short ones are joined."""
        import av

        fifo = av.AudioFifo()
        try:
            for frame in self._frames:
                if frame.sample_rate != self.rate_hz:
                    break
                is_planar = frame.format.name == "fltp"
                for part in [frame] if is_planar else self._resampler.resample(frame):
                    part.pts = None  # the position is counted
                    fifo.write(part)
                if fifo.samples >= _AV_JOINED_SAMPLES:
                    yield fifo.read()
        except self._av_error:
            if fifo.samples:
                yield fifo.read()  # what came before the damage
            raise
        if fifo.samples:
            yield fifo.read()

    def _seek(self, first: int) -> int:
        """Move to a frame at or before sample `first`; return the sample that it begins with."""
        preroll = round(_AV_PREROLL_SECONDS * self.rate_hz)
        if not self._has_index or self._origin is None or first <= 2 * preroll:
            return 0
        tick_samples = float(self._stream.time_base * self.rate_hz)
        ticks = math.floor((first - preroll) / tick_samples)
        self._container.seek(self._origin + ticks, stream=self._stream)
        frames = self._container.decode(self._stream)
        frame = next(frames, None)
        if frame is not None and frame.pts is not None:
            position = self._on_grid((frame.pts - self._origin) * tick_samples, tick_samples)
            if position <= first:
                self._frames = itertools.chain([frame], frames)
                return position
        self._reopen()
        return 0

    def _on_grid(self, position: float, tick_samples: float) -> int:
        """Return the sample that a time stamp means.

        In Matroska time stamps are whole milliseconds, but frames have equal lengths.
        """
        first_length, *lengths = self._beginning
        step = math.gcd(*lengths[:-1])  # not the last, which may be cut
        if tick_samples <= 1 or step < 2 * tick_samples:
            return round(position)
        return first_length + round((position - first_length) / step) * step


def _mean_of_channels(channels: np.ndarray) -> np.ndarray:
    """Return the mean [samples] of [channels, samples].

    It takes a fraction of the time of `mean` on two interleaved channels.
    """
    if len(channels) == 1:
        return np.array(channels[0])
    total = channels[0] + channels[1]
    for channel in channels[2:]:
        total += channel
    total /= np.float32(len(channels))
    return total
