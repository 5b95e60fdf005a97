import functools
import sys

import pytest

from tfrecord_tools import convert as convert_module
from tfrecord_tools.conversion import beam_runner
from tfrecord_tools.conversion.clip import ConvertConfig
from tfrecord_tools.conversion.convert import convert_dataset
from tfrecord_tools.conversion.local_runner import convert_shards_locally
from tfrecord_tools.shards import info as shards

CONFIG = ConvertConfig("train", "manifest", clips_per_shard=5)


def test_beam_is_named_where_it_is_missing(read_collection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(
        ValueError, match=r"--runner=beam needs Apache Beam: pip install 'secost_tf\[beam\]'"
    ):
        convert_dataset(
            *read_collection(), CONFIG, str(tmp_path), runner=beam_runner.convert_shards_with_beam
        )


def test_beam_and_local_runs_give_the_same_bytes(
    collection, read_collection, tmp_path, files_of, command
):
    pytest.importorskip("apache_beam")
    clips, class_map = read_collection()
    convert_dataset(
        clips,
        class_map,
        CONFIG,
        str(tmp_path / "local"),
        runner=functools.partial(convert_shards_locally, workers=1),
    )
    status, stdout, stderr = command(
        convert_module,
        "--dataset=manifest",
        f"--manifest={collection / 'labels.csv'}",
        f"--out={tmp_path / 'beam'}",
        "--clips_per_shard=5",
        "--runner=beam",
        "--",
        "--runner=DirectRunner",
        "--direct_num_workers=1",
    )
    assert status == 0, stderr
    assert "Beam pipeline DONE: converted 16" in stdout
    assert files_of(tmp_path / "beam") == files_of(tmp_path / "local")


def test_failed_pipeline_keeps_what_is_finished(read_collection, tmp_path):
    pytest.importorskip("apache_beam")
    clips, class_map = read_collection()
    blocked = tmp_path / "train" / "partial-train-00002-of-00004.tfrecord"
    blocked.mkdir(parents=True)  # where a shard is to be written
    with pytest.raises(ValueError, match=r"the Beam pipeline failed .* finished shards are kept"):
        convert_dataset(
            clips, class_map, CONFIG, str(tmp_path), runner=beam_runner.convert_shards_with_beam
        )
    blocked.rmdir()
    info = convert_dataset(
        clips, class_map, CONFIG, str(tmp_path), runner=beam_runner.convert_shards_with_beam
    )
    assert info.num_clips == 16 and shards.has_split(str(tmp_path), "train")


def test_a_bundle_may_be_repeated(read_collection, tmp_path, monkeypatch):
    """Beam runs all elements of a bundle again when one of them failed: those that were done must
    not fail then.
    """
    pytest.importorskip("apache_beam")
    convert_shard = beam_runner._convert_shard

    def convert_twice(paths, config):
        convert_shard(paths, config)
        convert_shard(paths, config)

    monkeypatch.setattr(beam_runner, "_convert_shard", convert_twice)
    info = convert_dataset(
        *read_collection(), CONFIG, str(tmp_path), runner=beam_runner.convert_shards_with_beam
    )
    assert info.num_clips == 16 and not (tmp_path / "train" / "progress").exists()
