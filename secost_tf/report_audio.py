"""The sound of clips, for the report: found by clip id in a folder of recordings, as short FLAC files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence

import numpy as np
import soundfile
from absl import logging

from tfrecord_tools import storage
from tfrecord_tools.audio import AudioError, load_audio
from tfrecord_tools.datasets import segment_files
from tfrecord_tools.schema import ClipRecord

SAMPLE_RATE_HZ = 16000
MOST_SECONDS = 12.0  # of a clip
MOST_BYTES = 2_000_000  # of all clips together


def clip_sounds(audio_dir: str, clips: Sequence[ClipRecord]) -> dict[str, bytes]:
    """The sounds of those clips whose recording is found: FLAC, mono, 16 kHz, 16 bits, 12 s at most, by clip id.

    Files are found as `tfrecord_tools.datasets.audioset.read` finds them: by name, in nested folders, with or without
    times in the name. An id that is a path (the manifest's) finds the file at the end of whose path it stands. A file that
    can't be decoded is left out with a warning, and so is what comes after 2 MB in all.

    Args:
        audio_dir: a local folder.
        clips: the clips, whose times in the recording are known.

    Raises:
        ValueError: if there is no such folder.
    """
    if storage.is_remote(audio_dir) or not os.path.isdir(audio_dir):
        raise ValueError(f"audio_dir: expected a local folder of recordings, got {audio_dir!r}")
    sounds: dict[str, bytes] = {}
    total = 0
    for clip, path, file_start_seconds in _find(audio_dir, clips):
        start, end = clip.start_time_seconds, clip.end_time_seconds
        try:
            audio = load_audio(
                path, SAMPLE_RATE_HZ, start, min(end, start + MOST_SECONDS), file_start_seconds
            )
        except AudioError as error:
            logging.warning("%s: no player in the report (%s)", path, error)
            continue
        sound = encode_flac(audio.waveform)
        if total + len(sound) > MOST_BYTES:
            logging.warning(
                "clip %s: no player in the report, whose sounds would take more than 2 MB", clip.video_id
            )
            continue
        sounds[clip.video_id], total = sound, total + len(sound)
    return sounds


def encode_flac(waveform: np.ndarray) -> bytes:
    """A mono waveform in -1..1 at 16 kHz, float [samples], as a FLAC file: lossless, and played by every browser."""
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(waveform, -1.0, 1.0), SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def _find(audio_dir: str, clips: Sequence[ClipRecord]) -> Iterator[tuple[ClipRecord, str, float | None]]:
    """(clip, path, where in the recording the file begins or None if its length must tell) of each that is found."""
    files = segment_files.index_files(audio_dir, {name for clip in clips for name in _names(clip)})
    for clip in clips:
        start_ms, end_ms = (round(1000 * s) for s in (clip.start_time_seconds, clip.end_time_seconds))
        folders = os.path.join(os.sep, os.path.dirname(clip.video_id), "")
        for name in _names(clip):
            candidates = [
                file
                for file in files.get(name, [])
                if folders in os.path.join(os.path.dirname(file.path), "")
            ]
            chosen, _ = segment_files.choose_file(candidates, start_ms, end_ms, audio_dir)
            if chosen:
                yield clip, chosen.path, clip.start_time_seconds if chosen.start else None
                break


def _names(clip: ClipRecord) -> list[str]:
    """What a clip's file may be called: its id, and, of one of several segments of a recording, the recording's."""
    name = os.path.basename(clip.video_id)
    return [name, name.removesuffix(f"_{round(1000 * clip.start_time_seconds)}")]
