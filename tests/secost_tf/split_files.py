"""What tests of splits and of batches share: written teacher scores, and data read to the end."""

from pathlib import Path

import tensorflow as tf

from secost_tf.data.pipeline import TrainingData, Worker, scoring_data
from secost_tf.data.splits import Split
from tfrecord_tools.shards import files
from tfrecord_tools.shards import records as schema


def write_scores(split: Split, folder: Path, scores_of) -> str:
    folder.mkdir()
    for shard, ids in zip(split.info.shards, split.clip_ids, strict=True):
        records = [schema.encode_teacher_scores(video_id, scores_of(video_id)) for video_id in ids]
        files.write_records(str(folder / shard.file), records)
    return str(folder)


def ids_of(split: Split) -> list[str]:
    return [video_id.decode() for *_, ids in scoring_data(split, 8) for video_id in ids.numpy()]


def batches_of_epoch(
    split: Split, batch_size: int, epoch: int = 0, first_step: int = 0, worker=None, **options
) -> tf.data.Dataset:
    data = TrainingData(split=split, batch_size=batch_size, **options)
    return data.epoch(epoch, first_step, worker or Worker())


def drain(split, *scores_dirs, **options):
    for _ in batches_of_epoch(split, 4, teacher_scores_dirs=scores_dirs, **options):
        pass
