"""Splits of random log-mels, written as the converter writes them: what the benchmarks of training
read.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import files, records
from tfrecord_tools.shards import info as shards
from tfrecord_tools.shards.info import DatasetInfo, Shard

CLASSES, SECONDS, CLIPS_PER_SHARD = 527, 10, 100
_DISTINCT = 64  # log-mels; more would only take longer to draw


def write_split(data_dir: Path | str, split: str, clips: int) -> DatasetInfo:
    """Writes shards of 100 clips of ten seconds (998 frames, float16, two labels of 527),
    `clips.csv`, `dataset.json`.
    """
    generator, log_mel = np.random.default_rng(0), LogMelConfig()
    names = tuple(f"class {index}" for index in range(CLASSES))
    frames = log_mel.num_frames(SECONDS * log_mel.sample_rate_hz)
    values = generator.standard_normal((_DISTINCT, frames, log_mel.mel_bins), np.float32) - 6
    values = values.astype(np.float16)
    labels = [
        tuple(sorted({index % CLASSES, int(generator.integers(CLASSES))})) for index in range(clips)
    ]
    folder = Path(data_dir, split)
    folder.mkdir(parents=True)
    written, rows = [], []
    count = -(-clips // CLIPS_PER_SHARD)
    for shard in range(count):
        path = folder / shards.shard_name(split, shard, count)
        inside = range(shard * CLIPS_PER_SHARD, min((shard + 1) * CLIPS_PER_SHARD, clips))
        files.write_records(
            str(path),
            (
                records.encode(
                    records.ClipRecord(
                        name(split, clip), values[clip % _DISTINCT], labels[clip], 0.0, SECONDS
                    )
                )
                for clip in inside
            ),
        )
        written.append(Shard(path.name, len(inside), path.stat().st_size))
        rows += [(name(split, clip), shard, record, frames) for record, clip in enumerate(inside)]
    with open(folder / shards.CLIPS_CSV, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([shards.CLIPS_COLUMNS, *rows])
    info = DatasetInfo(
        split=split,
        dataset="manifest",
        log_mel=log_mel,
        feature_dtype="float16",
        feature_range=None,
        compression="NONE",
        class_map=ClassMap(names, names),
        num_clips=clips,
        seconds=float(clips * SECONDS),
        max_frames=frames,
        positives=tuple(np.bincount(np.concatenate(labels), minlength=CLASSES).tolist()),
        mean=(-6.0,) * log_mel.mel_bins,
        variance=(1.0,) * log_mel.mel_bins,
        shards=tuple(written),
        failures={},
        settings={},
    )
    info.write(str(data_dir))
    return info


def write_teacher_scores(scores_dir: Path | str, info: DatasetInfo) -> None:
    """Writes random scores of every clip of a split, as a teacher's stage does."""
    generator, start = np.random.default_rng(1), 0
    Path(scores_dir).mkdir(parents=True)
    for shard in info.shards:
        inside = range(start, start + shard.clips)
        start += shard.clips
        scores = generator.random((shard.clips, CLASSES), np.float32)
        files.write_records(
            str(Path(scores_dir, shard.file)),
            (
                records.encode_teacher_scores(name(info.split, clip), row)
                for clip, row in zip(inside, scores, strict=True)
            ),
        )


def name(split: str, clip: int) -> str:
    """A clip's id."""
    return f"{split}-{clip:07d}"
