"""Tiny trees of audio."""

from __future__ import annotations

import csv
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfrecord_tools.datasets import manifest
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.shards import files


def _write_noise(
    path: Path, seconds: float = 0.3, rate_hz: int = 16000, seed: int = 0, channels: int = 1
) -> Path:
    """Write white noise at a tenth of full scale; a seed and a rate always begin alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate_hz), channels))
    soundfile.write(path, noise, rate_hz, format="OGG" if path.suffix == ".opus" else None)
    return path


@pytest.fixture
def write_noise():
    return _write_noise


def _write_table(path: Path, header: list[str], rows: list[list]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def write_table():
    return _write_table


_ENCODERS = {
    ".m4a": "aac",
    ".mp4": "aac",
    ".mkv": "aac",
    ".aac": "aac",
    ".webm": "libopus",
    ".mov": "pcm_s16le",
}


def _encode(path, samples: np.ndarray, rate_hz: int) -> str:
    """Write float32 [channels, samples] with FFmpeg's encoder for the extension."""
    import av

    options = (
        {"movflags": "faststart"} if path.suffix in (".m4a", ".mp4") else {}
    )  # the index in front
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(_ENCODERS[path.suffix], rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples, np.float32), "fltp", layout
        )
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        fifo = av.AudioFifo()
        for part in av.AudioResampler(stream.format.name, stream.layout.name, rate_hz).resample(
            frame
        ):
            fifo.write(part)
        while part := fifo.read(stream.codec_context.frame_size or 1024, partial=True):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return str(path)


def _sweep(seconds: float, rate_hz: int) -> np.ndarray:
    """Return a tone that rises from 200 to 5,000 Hz, no two places alike; float32 [1, samples]."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * (200 * time + 2400 / seconds * np.square(time))
    return 0.3 * np.sin(phase, dtype=np.float32)[None]


@pytest.fixture
def encode():
    return _encode


@pytest.fixture
def sweep():
    return _sweep


@pytest.fixture(scope="session")
def collection(tmp_path_factory) -> Path:
    """Write a manifest of twenty clips of noise, 0.2 to 0.4 s, of three classes.

    Every fifth is in the split `eval`.
    """
    folder = tmp_path_factory.mktemp("collection")
    rows = []
    for index in range(20):
        name = f"{'ab'[index % 2]}/clip{index:02d}.wav"
        _write_noise(folder / name, 0.2 + 0.01 * index, seed=index)
        labels = ["bark", "bell;siren", ""][index % 3]
        rows.append([name, labels, "eval" if index % 5 == 4 else "train"])
    _write_table(folder / "labels.csv", ["path", "labels", "split"], rows)
    return folder


@pytest.fixture
def read_collection(collection):
    def read(split: str = "train"):
        return manifest.read_manifest(manifest=str(collection / "labels.csv"), split=split)

    return read


@pytest.fixture
def files_of():
    """Return the bytes of every file below a folder, by its relative path."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }

    return read


@pytest.fixture
def table_of():
    def read(path: Path) -> list[dict[str, str]]:
        with open(path, encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    return read


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data that SECOST_SHARED_DATA names."""
    folder = os.environ.get("SECOST_SHARED_DATA")
    if not folder or not os.path.isdir(folder):
        pytest.skip("SECOST_SHARED_DATA does not name a folder of real data")
    return Path(folder)


@pytest.fixture
def class_map() -> ClassMap:
    return ClassMap(("/m/1", "/m/2", "/t/dd3"), ("Speech", "Male speech, man speaking", "Siren"))


@pytest.fixture
def class_labels_csv(tmp_path, class_map) -> str:
    path = str(tmp_path / "class_labels_indices.csv")
    class_map.write(path)
    return path


@pytest.fixture
def rewrite_shard():
    """Replace a shard's records by what a function makes of them."""

    def rewrite(path: str, change) -> None:
        files.write_records(path, change(list(files.read_records(path))))

    return rewrite
