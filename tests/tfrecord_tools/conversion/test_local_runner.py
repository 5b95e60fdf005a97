import functools
import os
import time

import pytest

from tfrecord_tools.conversion import local_runner
from tfrecord_tools.conversion.clip import ConvertConfig, convert_clip
from tfrecord_tools.conversion.convert import convert_dataset

CONFIG = ConvertConfig("train", "manifest", clips_per_shard=5)


def convert_or_misbehave(clip, config):
    """Hang at a clip, as on a network folder that is gone; end the process at another."""
    while clip.id.endswith("02"):
        time.sleep(1)
    if clip.id.endswith("05"):
        os.abort()
    return convert_clip(clip, config)


@pytest.mark.parametrize("workers", [1, 2])
def test_clips_that_hang_or_crash_are_reported(
    read_collection, tmp_path, table_of, monkeypatch, workers
):
    monkeypatch.setattr(local_runner, "convert_clip", convert_or_misbehave)
    clips, class_map = read_collection()
    runner = functools.partial(
        local_runner.convert_shards_locally, workers=workers, clip_timeout_seconds=2.0
    )
    info = convert_dataset(clips, class_map, CONFIG, str(tmp_path), runner=runner)
    assert info.num_clips == 14 and info.failures == {"crashed": 1, "timeout": 1}
    rows = table_of(tmp_path / "train" / "failures.csv")
    assert [(row["id"], row["kind"], row["detail"]) for row in rows] == [
        ("a/clip02", "timeout", "took more than 2 s"),
        ("b/clip05", "crashed", "its worker process was killed by signal 6, 3 times"),
    ]


def test_speed_is_reported(read_collection, tmp_path):
    lines = []
    runner = functools.partial(local_runner.convert_shards_locally, workers=1)
    convert_dataset(*read_collection(), CONFIG, str(tmp_path), runner=runner, report=lines.append)
    assert lines[0].startswith("16 clips in ") and "with 1 processes" in lines[0]
