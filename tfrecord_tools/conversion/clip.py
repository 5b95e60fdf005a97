"""The work of a worker process: one clip to one record."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np

from tfrecord_tools import shards, storage
from tfrecord_tools.audio import AudioError, load_audio
from tfrecord_tools.config import Config, setting
from tfrecord_tools.datasets import Clip
from tfrecord_tools.log_mel import LogMelConfig, log_mel
from tfrecord_tools.shards import FEATURE_DTYPES, ClipRecord, dequantize, encode, quantize

_CLIPS_PER_SHARD = 1024  # about 130 MB of AudioSet

_USUAL_SHARDS, _FEWEST_CLIPS_PER_SHARD = 8, 16


@dataclasses.dataclass(frozen=True)
class ConvertConfig(Config):
    """The settings that, besides the clips, decide the bytes that are written."""

    split: str = setting(help="The name of the split and its folder.", flag=False)
    dataset: str = setting(help="The reader that the clips came from, for the record.", flag=False)
    log_mel: LogMelConfig = setting(LogMelConfig, "The log-mel settings.", flag=False)
    feature_dtype: str = setting(
        "float16",
        "Stored type of the log-mel. float16 rounds by less than 0.004 nat; float32 doubles its "
        "size, uint8 halves it (steps of 0.1 nat).",
        choices=FEATURE_DTYPES,
    )
    compression: str = setting(
        "NONE",
        "Of the shards. GZIP takes a quarter off, and about 4 ms a clip of ten seconds.",
        choices=shards.COMPRESSIONS,
    )
    clips_per_shard: int = setting(
        0,
        "Most clips in a shard file. 0: 1024, fewer in a small set so that it has up to 8 shards "
        "of at least 16.",
        minimum=0,
    )

    def __post_init__(self):
        super().__post_init__()
        is_name = re.fullmatch(r"[A-Za-z0-9_-]+", self.split)
        self._require(bool(is_name), "split", "letters, digits, '_' and '-' only")

    @property
    def feature_range(self) -> tuple[float, float] | None:
        """The log-mels that uint8 stores as 0 and 255 (see `shards.feature_range`)."""
        return shards.feature_range(self.log_mel, self.feature_dtype)

    def num_shards(self, num_clips: int) -> int:
        """Return the number of shards for `num_clips` clips."""
        if self.clips_per_shard:
            return -(-num_clips // self.clips_per_shard)
        return max(
            -(-num_clips // _CLIPS_PER_SHARD),
            min(_USUAL_SHARDS, -(-num_clips // _FEWEST_CLIPS_PER_SHARD)),
        )


@dataclasses.dataclass(frozen=True)
class Problem:
    """A line of `failures.csv`, of a clip that is left out, or of `warnings.csv`."""

    id: str
    path: str
    kind: str
    detail: str

    @classmethod
    def of(cls, clip: Clip, kind: str, detail: str) -> Problem:
        """Return a problem of a clip."""
        # A file name may be no text.
        path = os.fsencode(clip.path or "").decode(errors="backslashreplace")
        return cls(clip.id, path, kind, detail)


@dataclasses.dataclass(frozen=True)
class ConvertedClip:
    """The result for one clip; without a record `failure` says why.

    Attributes:
        record: the serialised clip, as it stands in a shard (see `shards.frame`), or None.
        num_frames, seconds: its length.
        total, total_of_squares: float64 [mel_bins], over the frames as they are stored.
        failure: why there is no record.
        warnings: what is suspicious.
    """

    clip: Clip
    record: bytes | None = None
    num_frames: int = 0
    seconds: float = 0.0
    total: np.ndarray | float = 0.0
    total_of_squares: np.ndarray | float = 0.0
    failure: Problem | None = None
    warnings: tuple[Problem, ...] = ()


def failed_clip(clip: Clip, kind: str, detail: str) -> ConvertedClip:
    """Return the result for a clip of which there is no record."""
    return ConvertedClip(clip, failure=Problem.of(clip, kind, detail))


def convert_clip(clip: Clip, config: ConvertConfig) -> ConvertedClip:
    """Decode, transform and serialise one clip; the result says what is wrong with it."""
    if clip.path is None:
        return failed_clip(clip, "missing", clip.missing)
    try:
        return _convert_audio(clip, clip.path, config)
    except AudioError as error:
        return failed_clip(clip, error.kind, error.detail)
    except Exception as error:  # one clip, whatever is wrong with it, does not stop the others
        return failed_clip(clip, "unexpected", f"{type(error).__name__}: {error}")


def _convert_audio(clip: Clip, path: str, config: ConvertConfig) -> ConvertedClip:
    """Convert a clip, or raise an `AudioError`."""
    span = clip.start_seconds, clip.end_seconds, clip.file_start_seconds
    with storage.local_copy(path) as local:
        audio = load_audio(local, config.log_mel.sample_rate_hz, *span)
    with np.errstate(over="ignore"):  # checked below
        features = log_mel(audio.waveform, config.log_mel)
    if not len(features):
        raise AudioError(
            "too_short",
            f"{audio.duration_seconds:.4f} s, less than one window of "
            f"{config.log_mel.window_seconds:g} s",
        )
    if not np.isfinite(features).all():
        raise AudioError("non_finite", "samples so large that their power is not finite")
    stored = quantize(features, config.feature_dtype, config.feature_range)
    record = encode(
        ClipRecord(
            video_id=clip.id,
            log_mel=stored,
            labels=clip.labels,
            start_time_seconds=clip.start_seconds,
            end_time_seconds=clip.start_seconds + audio.duration_seconds,
            events=clip.events,
        )
    )
    exact = dequantize(stored, config.feature_range).astype(np.float64)
    return ConvertedClip(
        clip,
        shards.frame(record, config.compression),
        num_frames=len(features),
        seconds=audio.duration_seconds,
        total=exact.sum(axis=0),
        total_of_squares=np.square(exact).sum(axis=0),
        warnings=tuple(Problem.of(clip, kind, detail) for kind, detail in audio.warnings),
    )
