"""Damaged files of every format: each is converted or reported; none crashes, hangs, or takes
memory without bound.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfrecord_tools.conversion.clip import ConvertConfig, ConvertedClip, convert_clip, failed_clip
from tfrecord_tools.datasets.clips import Clip
from tfrecord_tools.parallel import ordered_map
from tfrecord_tools.shards import files as shards
from tfrecord_tools.shards import records

FILES_PER_FORMAT = int(os.environ.get("SECOST_FUZZ_FILES_PER_FORMAT", "12"))
FORMATS = (
    ".wav",
    ".flac",
    ".aiff",
    ".ogg",
    ".opus",
    ".mp3",
    ".m4a",
    ".mp4",
    ".webm",
    ".aac",
    ".mkv",
    ".mov",
)
MOST_BYTES = 1 << 30  # of memory, a worker
CONFIG = ConvertConfig("train", "fuzz")


def undamaged(folder: Path, encode, sweep) -> dict[str, bytes]:
    """Three seconds of a rising tone in noise, stereo, in each format."""
    rate_hz = 48000
    noise = np.random.default_rng(0).standard_normal((2, 3 * rate_hz))
    samples = (sweep(3.0, rate_hz) + 0.02 * noise).astype(np.float32)
    for extension in FORMATS:
        path = folder / f"whole{extension}"
        if extension in (".wav", ".flac", ".aiff", ".ogg", ".opus", ".mp3"):
            soundfile.write(
                path, samples.T, rate_hz, format="OGG" if extension == ".opus" else None
            )
        else:
            encode(path, samples, rate_hz)
    return {extension: (folder / f"whole{extension}").read_bytes() for extension in FORMATS}


def damage(data: bytes, kind: int, generator: np.random.Generator) -> bytes:
    """One of the ways in which files are damaged."""
    damaged = bytearray(data)
    header = min(len(damaged), 256)
    if kind == 0:  # cut off
        return bytes(damaged[: generator.integers(len(damaged))])
    if kind == 1:  # single bits
        for place in generator.integers(len(damaged), size=generator.integers(1, 40)):
            damaged[place] ^= 1 << generator.integers(8)
    elif kind == 2:  # bits of the header
        for place in generator.integers(header, size=generator.integers(1, 9)):
            damaged[place] ^= 1 << generator.integers(8)
    elif kind == 3:  # a header that claims four gigabytes, or any other absurd number
        place = generator.integers(header - 4)
        damaged[place : place + 4] = b"\xff\xff\xff\xff"
    elif kind == 4:  # a stretch of zeros, as of a lost disk block
        place = generator.integers(len(damaged))
        length = min(4096, len(damaged) - place)
        damaged[place : place + length] = bytes(length)
    else:  # a stretch of noise
        place = generator.integers(len(damaged))
        length = min(int(generator.integers(1, 2000)), len(damaged) - place)
        damaged[place : place + length] = generator.bytes(length)
    return bytes(damaged)


def write_files(folder: Path, encode, sweep) -> list[str]:
    """Return the damaged files, and some that never were sound."""
    whole = undamaged(folder, encode, sweep)
    generator = np.random.default_rng(1)
    files = {
        f"{index}{extension}": damage(data, index % 6, generator)
        for extension, data in whole.items()
        for index in range(FILES_PER_FORMAT)
    }
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("a.txt", "no sound" * 1000)
    wav = bytearray(whole[".wav"])
    wav[4:8] = wav[40:44] = b"\xf0\xff\xff\xff"
    for extension in FORMATS:
        files[f"empty{extension}"] = b""
        files[f"text{extension}"] = b"This is no sound. " * 500
        files[f"zip{extension}"] = (folder / "a.zip").read_bytes()
        files[f"noise{extension}"] = generator.bytes(20_000)
        files[f"playlist{extension}"] = b"#EXTM3U\n#EXTINF:3,\n/etc/passwd\n"
        files[f"four-gigabytes{extension}"] = bytes(wav)
        files[f"other{extension}"] = whole[FORMATS[FORMATS.index(extension) - 1]]
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return sorted(str(folder / name) for name in files)


def convert_and_measure(clip: Clip) -> tuple[ConvertedClip, int]:
    """Return the converted clip and the most memory that the worker has had, in bytes."""
    return convert_clip(clip, CONFIG), most_memory()


def most_memory() -> int:
    """Return the most memory that this process has had, in bytes; 0 if that is unknown."""
    if not os.path.exists("/proc/self/status"):
        return 0
    with open(
        "/proc/self/status"
    ) as stream:  # getrusage would tell that of the process it was forked from
        return next(1024 * int(line.split()[1]) for line in stream if line.startswith("VmHWM"))


def report_lost(clip: Clip, kind: str, detail: str) -> tuple[ConvertedClip, int]:
    return failed_clip(clip, kind, detail), 0


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_damaged_files(tmp_path, encode, sweep, start):
    paths = write_files(tmp_path, encode, sweep)
    clips = [Clip(path, path, start, 2.5 if start else None) for path in paths]
    results = list(ordered_map(convert_and_measure, clips, 2, report_lost, timeout_seconds=60.0))
    assert len(results) == len(paths) >= 12 * (FILES_PER_FORMAT + 7)
    for (converted, most_bytes), clip in zip(results, clips, strict=True):
        assert most_bytes < MOST_BYTES, clip.path
        assert converted.clip == clip
        if converted.failure:
            assert converted.failure.detail and converted.failure.kind not in (
                "crashed",
                "timeout",
                "unexpected",
            ), converted.failure
        else:
            shards.write_frames(str(tmp_path / "one"), [converted.record])
            (data,) = shards.read_records(str(tmp_path / "one"))
            log_mel = records.decode(data, "float16", 64).log_mel
            assert np.isfinite(log_mel).all() and len(log_mel) == converted.num_frames > 0
    failures = [converted.failure for converted, _ in results if converted.failure]
    assert 0.1 * len(clips) < len(failures) < 0.9 * len(clips)
