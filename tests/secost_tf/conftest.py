"""Tiny converted splits of random log-mels, and a cascade trained on them once."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from networks import SMALL

from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import files, records
from tfrecord_tools.shards import info as shards
from tfrecord_tools.shards.info import DatasetInfo, Shard

CLASS_MAP = ClassMap(("/m/a", "/m/b", "/m/c", "/m/d"), ("Bark", "Bell", "Rain", "Siren"))
LOG_MEL = LogMelConfig(mel_bins=32)


def _random_clips(
    split: str, count: int, num_classes: int, mel_bins: int
) -> list[records.ClipRecord]:
    """Clips of 40 to 100 frames; each class lifts a band of mel bins of its own. Every fourth clip
    has no label.
    """
    generator = np.random.default_rng(sum(split.encode()))
    clips = []
    for index in range(count):
        labels = (
            sorted({index % num_classes, int(generator.integers(num_classes))})
            if index % 4 != 3
            else []
        )
        log_mel = generator.standard_normal((40 + (index * 23) % 61, mel_bins)) - 6.0
        for label in labels:
            log_mel[:, label * mel_bins // num_classes :][:, : mel_bins // num_classes] += 3.0
        clips.append(
            records.ClipRecord(
                f"{split}-clip-{index:03d}",
                log_mel.astype(np.float16),
                tuple(labels),
                0.0,
                len(log_mel) / 100,
            )
        )
    return clips


def _write_split(
    data_dir: Path | str,
    split: str,
    shard_sizes: Sequence[int],
    *,
    class_map: ClassMap = CLASS_MAP,
    log_mel: LogMelConfig = LOG_MEL,
    feature_dtype: str = "float16",
    compression: str = "NONE",
    change: Callable[[list[records.ClipRecord]], list[records.ClipRecord]] = lambda clips: clips,
) -> DatasetInfo:
    """Writes a split as the converter does: shards, `clips.csv`, `dataset.json`."""
    clips = change(_random_clips(split, sum(shard_sizes), len(class_map), log_mel.mel_bins))
    folder = Path(data_dir, split)
    folder.mkdir(parents=True)
    feature_range = records.feature_range(log_mel, feature_dtype)
    stored = [
        dataclasses.replace(
            clip, log_mel=records.quantize(clip.log_mel, feature_dtype, feature_range)
        )
        for clip in clips
    ]
    written, rows, start = [], [], 0
    for index, size in enumerate(shard_sizes):
        path = folder / shards.shard_name(split, index, len(shard_sizes))
        part, start = stored[start : start + size], start + size
        files.write_records(str(path), map(records.encode, part), compression)
        written.append(Shard(path.name, size, path.stat().st_size))
        rows += [
            (clip.video_id, index, record, len(clip.log_mel)) for record, clip in enumerate(part)
        ]
    with open(folder / shards.CLIPS_CSV, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([shards.CLIPS_COLUMNS, *rows])
    frames = np.concatenate([clip.log_mel for clip in clips]).astype(np.float64)
    info = DatasetInfo(
        split=split,
        dataset="manifest",
        log_mel=log_mel,
        feature_dtype=feature_dtype,
        feature_range=feature_range,
        compression=compression,
        class_map=class_map,
        num_clips=len(clips),
        seconds=len(frames) / 100,
        max_frames=max(len(clip.log_mel) for clip in clips),
        positives=tuple(
            sum(label in clip.labels for clip in clips) for label in range(len(class_map))
        ),
        mean=tuple(frames.mean(axis=0).tolist()),
        variance=tuple(frames.var(axis=0).tolist()),
        shards=tuple(written),
        failures={},
        settings={},
    )
    info.write(str(data_dir))
    return info


def _read_clips(data_dir: Path | str, split: str) -> list[records.ClipRecord]:
    info = shards.read_dataset_info(str(data_dir), split)
    return [
        records.decode(record, info.feature_dtype, info.log_mel.mel_bins)
        for path in info.shard_paths(str(data_dir))
        for record in files.read_records(path, info.compression)
    ]


def _write_tiny_data(folder: Path) -> str:
    _write_split(folder, "train", (11, 9, 10))
    _write_split(folder, "eval", (7, 5))
    return str(folder)


@pytest.fixture(scope="session")
def write_split():
    return _write_split


@pytest.fixture(scope="session")
def read_clips():
    """All clips of a split as stored, in the order of the shards."""
    return _read_clips


@pytest.fixture
def tiny_data(tmp_path) -> str:
    """Train, 30 clips of 4 classes in 3 shards, and eval, 12 clips in 2; free to be changed."""
    return _write_tiny_data(tmp_path / "data")


@pytest.fixture(scope="session")
def kept_data(tmp_path_factory) -> str:
    """The same as `tiny_data`, not to be changed."""
    return _write_tiny_data(tmp_path_factory.mktemp("kept") / "data")


@pytest.fixture
def flip_byte():
    """Damages a file: one byte, counted from the start, or from the end if negative."""

    def flip(path: Path | str, position: int) -> None:
        content = bytearray(Path(path).read_bytes())
        content[position] ^= 0xFF
        Path(path).write_bytes(content)

    return flip


@pytest.fixture
def rewrite_shard():
    """Replaces a shard's records by what a function makes of them."""

    def rewrite(path: Path | str, change: Callable[[list[bytes]], list[bytes]]) -> None:
        files.write_records(str(path), change(list(files.read_records(str(path)))))

    return rewrite


@pytest.fixture(scope="session")
def files_of():
    """The bytes of every file below a folder, by its relative path."""

    def read(folder: Path | str) -> dict[str, bytes]:
        folder = Path(folder)
        return {
            str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }

    return read


@pytest.fixture(scope="session")
def cascade_config():
    """Makes a `CascadeConfig` of two epochs a stage; keywords go to its TrainConfig or to it."""
    from secost_tf.runs.settings import CascadeConfig, TrainConfig

    def make(
        stage: int, *alphas: float, teacher_stages=(), prerequisites=True, **train
    ) -> CascadeConfig:
        train = {
            "epochs": 2,
            "batch_size": 4,
            "learning_rate": 3e-3,
            "validation_share": 0.3,
            "seed": 1,
        } | train
        return CascadeConfig(
            stage, alphas or (0.3,), SMALL, TrainConfig(**train), teacher_stages, prerequisites
        )

    return make


@pytest.fixture(scope="session")
def one_device():
    """Makes the strategy of one device."""
    import tensorflow as tf

    return tf.distribute.get_strategy


@pytest.fixture(scope="session")
def kept_run(tmp_path_factory, kept_data, cascade_config, one_device) -> str:
    """The run folder of an undisturbed cascade of stages 0 to 2 on `kept_data`; leave it so."""
    from secost_tf.training.cascade import run_cascade

    run_dir = str(tmp_path_factory.mktemp("kept") / "run")
    run_cascade(cascade_config(2), kept_data, run_dir, one_device)
    return run_dir


@pytest.fixture(scope="session")
def untrained_run(tmp_path_factory, kept_data, cascade_config) -> str:
    """The run folder of stages 0 to 2 as if they were done on `kept_data`, with random weights; not
    to be changed.
    """
    from secost_tf.runs import stage_folder
    from secost_tf.runs.stage_folder import StageFolder, StageRecord
    from secost_tf.training.stage import build_student

    run_dir = str(tmp_path_factory.mktemp("untrained") / "run")
    info = shards.read_dataset_info(kept_data, "train")
    generator = np.random.default_rng(0)
    for stage in range(3):
        config = cascade_config(2).stage_config(stage, info)
        folder = StageFolder(run_dir, stage)
        folder.begin(StageRecord(config, kept_data, info.class_map, info.log_mel))
        student = build_student(folder.record)
        student.get_layer("standardize").set_statistics(info.mean, info.variance)
        student.set_weights(
            [weight * generator.uniform(0.5, 1.5, weight.shape) for weight in student.get_weights()]
        )
        student.save_weights(folder.file(stage_folder.WEIGHTS_H5))
        figures = {
            "mAP": 0.5 + 0.1 * stage,
            "mAUC": 0.75,
            "d_prime": 1.25,
            "lwlrap": 0.6,
            "chance": 0.25,
        }
        counts = {
            "num_clips": 12,
            "classes_without_positives": 1,
            "best_epoch": 2,
            "parameters": 1234,
        }
        folder.write_metrics({"stage": stage, "split": "eval", **figures, **counts})
    return run_dir


@pytest.fixture(scope="session")
def kept_export(tmp_path_factory, untrained_run) -> str:
    """The folder of version 1 of the served model of `untrained_run`'s last stage; not to be
    changed.
    """
    from secost_tf.serving.exporting import export_run
    from secost_tf.serving.layout import ServingConfig

    export_dir = str(tmp_path_factory.mktemp("models") / "secost")
    return export_run(untrained_run, export_dir, config=ServingConfig(top_k=3, max_seconds=1100.0))[
        0
    ]


@pytest.fixture(scope="session")
def kept_servable(kept_export):
    """`kept_export` in TensorFlow's C++ loader."""
    from secost_tf.serving.cpp_loader import Servable

    with Servable(kept_export) as servable:
        yield servable


@pytest.fixture(scope="session")
def kept_live(untrained_run):
    """The live network of `kept_export`: a function of a request's inputs."""
    from secost_tf.runs import StageFolder
    from secost_tf.serving.checks import LiveModel

    stage = StageFolder(untrained_run, 2)
    return LiveModel(stage.student, stage.record)


@dataclasses.dataclass(frozen=True)
class ServingServer:
    """A running `serving_server.py`: its ports, gRPC's None where the extra `serving` is absent,
    and its process.
    """

    rest: int
    grpc: int | None
    pid: int


@contextlib.contextmanager
def _run_server(export_dir: Path | str, grpc: bool = True):
    has_grpc = grpc and importlib.util.find_spec("tensorflow_serving") is not None
    script = Path(__file__).with_name("serving") / "serving_server.py"
    command = [sys.executable, str(script), str(export_dir), *["--grpc"] * has_grpc]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        ports = json.loads(process.stdout.readline())
        yield ServingServer(ports["rest"], ports.get("grpc"), process.pid)
        process.stdin.close()


@pytest.fixture(scope="session")
def run_server():
    """Serves a folder of versions in a process of its own, for the time of a block."""
    return _run_server


@pytest.fixture(scope="session")
def kept_server(kept_export):
    """A server of `kept_export`, as the model secost, version 1."""
    with _run_server(Path(kept_export).parent) as server:
        yield server


@pytest.fixture
def begun(kept_run, tmp_path):
    """Makes a run folder that holds the first stages of `kept_run`."""

    def make(*numbers: int) -> str:
        for number in numbers:
            shutil.copytree(Path(kept_run, f"stage-{number}"), tmp_path / "run" / f"stage-{number}")
        return str(tmp_path / "run")

    return make


@pytest.fixture
def no_training(monkeypatch):
    """Makes it a failure to train a stage."""
    monkeypatch.setattr(
        "secost_tf.training.stage.train_stage", lambda *args: pytest.fail("trained a stage")
    )
