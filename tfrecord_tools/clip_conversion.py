"""One clip to one record: all that a worker process does."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np

from tfrecord_tools import schema
from tfrecord_tools.audio import AudioError, load_audio
from tfrecord_tools.datasets.clips import Clip
from tfrecord_tools.log_mel import LogMelConfig, log_mel

ERROR, WARNING = "error", "warning"

_CLIPS_PER_SHARD = 1024  # about 130 MB of AudioSet
_USUAL_SHARDS, _FEWEST_CLIPS_PER_SHARD = 8, 16


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """What decides the bytes that are written, besides the clips.

    Attributes:
        split: the name of the split and its folder.
        dataset: the reader that the clips came from, for the record.
        log_mel: the log-mel settings.
        feature_dtype: the stored type of the log-mel; float16 halves the size, its rounding is below 0.004 nat.
        clips_per_shard: most clips in a shard; 0 takes 1024, or fewer so that small sets have up to 8 shards of at
            least 16.
    """

    split: str
    dataset: str
    log_mel: LogMelConfig = dataclasses.field(default_factory=LogMelConfig)
    feature_dtype: str = "float16"
    clips_per_shard: int = 0

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.split):
            raise ValueError(f"split: expected letters, digits, '_' and '-' only, got {self.split!r}")
        if self.feature_dtype not in schema.FEATURE_DTYPES:
            raise ValueError(
                f"feature_dtype: expected {' or '.join(schema.FEATURE_DTYPES)}, got {self.feature_dtype!r}"
            )
        if self.clips_per_shard < 0:
            raise ValueError(f"clips_per_shard: expected 0 (automatic) or more, got {self.clips_per_shard}")

    def num_shards(self, num_clips: int) -> int:
        """Number of shards for `num_clips` clips."""
        if self.clips_per_shard:
            return -(-num_clips // self.clips_per_shard)
        return max(
            -(-num_clips // _CLIPS_PER_SHARD), min(_USUAL_SHARDS, -(-num_clips // _FEWEST_CLIPS_PER_SHARD))
        )


@dataclasses.dataclass(frozen=True)
class Problem:
    """A line of `failures.csv`: an error left its clip out, a warning did not."""

    id: str
    path: str
    severity: str
    kind: str
    detail: str


@dataclasses.dataclass(frozen=True)
class ConvertedClip:
    """What a worker makes of one clip; without a record its problems say why.

    Attributes:
        record: the serialised clip, or None.
        num_frames, seconds: its length.
        total, total_of_squares: float64 [mel_bins], over the frames as they are stored.
        problems: what was wrong.
    """

    clip: Clip
    record: bytes | None = None
    num_frames: int = 0
    seconds: float = 0.0
    total: np.ndarray | None = None
    total_of_squares: np.ndarray | None = None
    problems: tuple[Problem, ...] = ()


def convert_clip(clip: Clip, config: ConvertConfig) -> ConvertedClip:
    """Decodes, transforms and serialises one clip. Whatever is wrong with it is a problem in the result, never raised."""

    def problem(severity: str, kind: str, detail: str) -> Problem:
        path = os.fsencode(clip.path or "").decode(errors="backslashreplace")  # a file name may be no text
        return Problem(clip.id, path, severity, kind, detail)

    try:
        if clip.path is None:
            raise AudioError("missing", clip.missing)
        audio = load_audio(
            clip.path,
            config.log_mel.sample_rate_hz,
            clip.start_seconds,
            clip.end_seconds,
            clip.file_start_seconds,
        )
        with np.errstate(over="ignore"):  # found below
            features = log_mel(audio.waveform, config.log_mel)
        if not len(features):
            raise AudioError(
                "too_short",
                f"{audio.duration_seconds:.4f} s, less than one window of {config.log_mel.window_seconds:g} s",
            )
        if not np.isfinite(features).all():
            raise AudioError("non_finite", "samples so large that their power is not finite")
        stored = features.astype(config.feature_dtype)
        record = schema.encode(
            schema.ClipRecord(
                video_id=clip.id,
                log_mel=stored,
                labels=clip.labels,
                start_time_seconds=clip.start_seconds,
                end_time_seconds=clip.start_seconds + audio.duration_seconds,
                events=clip.events,
            )
        )
    except AudioError as error:
        return ConvertedClip(clip, problems=(problem(ERROR, error.kind, error.detail),))
    except Exception as error:  # one clip, whatever is wrong with it, does not stop the others
        return ConvertedClip(
            clip, problems=(problem(ERROR, "unexpected", f"{type(error).__name__}: {error}"),)
        )
    exact = stored.astype(np.float64)
    return ConvertedClip(
        clip,
        record,
        num_frames=len(features),
        seconds=audio.duration_seconds,
        total=exact.sum(axis=0),
        total_of_squares=np.square(exact).sum(axis=0),
        problems=tuple(problem(WARNING, *warning) for warning in audio.warnings),
    )
