"""Cached teacher scores: read, and checked against the clips of a split."""

from __future__ import annotations

import itertools

from secost_tf.data.splits import Split
from tfrecord_tools import shards, storage
from tfrecord_tools.shards import decode_teacher_scores
from tfrecord_tools.text import join_some


def check_teacher_scores(split: Split, scores_dir: str) -> None:
    """Check that a folder of cached teacher scores fits a split, clip by clip.

    Raises:
        ValueError: if clips lack scores, scores lack a clip, or their orders differ; names the ids.
    """
    advice = (
        f"; score the clips again: delete {scores_dir} and the stage's metrics.json and run the "
        "same command"
    )
    for shard, ids in zip(split.info.shards, split.clip_ids, strict=True):
        path = storage.join(scores_dir, shard.file)
        if not storage.exists(path):
            raise ValueError(
                f"{path}: the teacher's scores of clips {join_some(ids)} are missing{advice}"
            )
        scored = [decode_teacher_scores(record)[0] for record in shards.read_records(path)]
        if scored == ids:
            continue
        problems = []
        if missing := [video_id for video_id in ids if video_id not in set(scored)]:
            problems.append(f"no scores for clips {join_some(missing)}")
        if extra := [video_id for video_id in scored if video_id not in set(ids)]:
            problems.append(f"scores for clips that are not in the split: {join_some(extra)}")
        if not problems:
            pairs = itertools.zip_longest(ids, scored, fillvalue="end of the shard")
            swapped = [f"{clip} / {scores}" for clip, scores in pairs if clip != scores]
            problems = [f"another order than the shard's (clip / scores): {join_some(swapped)}"]
        raise ValueError(f"{path}: {'; '.join(problems)}{advice}")
