import dataclasses
import gzip
import json
import os

import pytest

from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import files
from tfrecord_tools.shards import info as shards
from tfrecord_tools.shards.info import DatasetInfo, Shard

RECORDS = [b"", b"one", b"two" * 1000]


@pytest.fixture
def path(tmp_path) -> str:
    path = str(tmp_path / "a.tfrecord")
    assert files.write_records(path, RECORDS) == 3
    return path


def test_shard_name():
    assert shards.shard_name("train", 3, 8) == "train-00003-of-00008.tfrecord"


def test_known_bytes(tmp_path):
    """Compare with the record of b"foo" as TensorFlow 2.15 writes it."""
    path = tmp_path / "a"
    files.write_records(str(path), [b"foo"])
    assert path.read_bytes().hex() == "0300000000000000b099490e666f6f618abefe"


def test_tensorflow_reads_what_is_written_and_the_other_way(path, tmp_path):
    tf = pytest.importorskip("tensorflow")
    assert [record.numpy() for record in tf.data.TFRecordDataset(path)] == RECORDS
    other = str(tmp_path / "b.tfrecord")
    with tf.io.TFRecordWriter(other) as writer:
        for record in RECORDS:
            writer.write(record)
    assert list(files.read_records(other)) == RECORDS


def test_gzip_is_one_stream_to_every_reader(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = str(tmp_path / "a.tfrecord")
    files.write_records(path, RECORDS, "GZIP")
    assert [record.numpy() for record in tf.data.TFRecordDataset(path, "GZIP")] == RECORDS
    assert list(files.read_records(path, "GZIP")) == RECORDS
    plain = b"".join(map(files.frame, RECORDS))
    with open(path, "rb") as stream:
        data = stream.read()
    assert gzip.decompress(data) == plain and len(data) < len(plain)
    for damaged in (data[:-3], data[:40] + b"XXXX" + data[44:], plain):
        with open(path, "wb") as stream:
            stream.write(damaged)
        with pytest.raises(ValueError, match=r"a\.tfrecord: record \d \(byte \d+\)"):
            list(files.read_records(path, "GZIP"))


def test_an_error_while_writing_leaves_no_shard(tmp_path):
    def records():
        yield b"one"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        files.write_records(str(tmp_path / "a.tfrecord"), records())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:5], r"record 0 \(byte 0\) is cut short"),
        (lambda data: data[:-1], r"record 2 \(byte 35\) is cut short"),
        (lambda data: b"\1" + data[1:], r"record 0 \(byte 0\) has a corrupt length"),
        (lambda data: data[:30] + b"X" + data[31:], r"record 1 \(byte 16\) is corrupt"),
    ],
)
def test_damage_names_file_and_record(path, damage, message):
    with open(path, "rb") as stream:
        data = stream.read()
    with open(path, "wb") as stream:
        stream.write(damage(data))
    with pytest.raises(ValueError, match=rf"a\.tfrecord: {message}"):
        list(files.read_records(path))


@pytest.fixture
def info(tmp_path, class_map) -> DatasetInfo:
    """Write a split `train` of one shard of three records."""
    os.makedirs(tmp_path / "train")
    name = shards.shard_name("train", 0, 1)
    files.write_records(str(tmp_path / "train" / name), RECORDS)
    info = DatasetInfo(
        split="train",
        dataset="manifest",
        log_mel=LogMelConfig(mel_bins=2),
        feature_dtype="float16",
        feature_range=None,
        compression="NONE",
        class_map=class_map,
        num_clips=3,
        seconds=1.5,
        max_frames=50,
        positives=(1, 0, 2),
        mean=(0.0, 1.0),
        variance=(1.0, 2.0),
        shards=(Shard(name, 3, os.path.getsize(tmp_path / "train" / name)),),
        failures={"missing": 1},
        settings={"clips": "3"},
    )
    info.write(str(tmp_path))
    return info


def test_dataset_info_round_trip(tmp_path, info):
    assert shards.read_dataset_info(str(tmp_path), "train") == info
    assert shards.list_splits(str(tmp_path)) == ["train"]
    assert [os.path.exists(path) for path in info.shard_paths(str(tmp_path))] == [True]


def test_missing_split_says_what_is_there(tmp_path, info):
    with pytest.raises(ValueError, match=r"no converted split 'eval'.*it holds train"):
        shards.read_dataset_info(str(tmp_path), "eval")
    with pytest.raises(ValueError, match="there is no such folder"):
        shards.read_dataset_info(str(tmp_path / "nowhere"), "eval")
    os.makedirs(tmp_path / "other" / "eval" / shards.PROGRESS_DIR)
    with pytest.raises(
        ValueError, match="it holds no converted split, and an unfinished conversion of this one"
    ):
        shards.read_dataset_info(str(tmp_path / "other"), "eval")


def test_missing_or_cut_shard(tmp_path, info):
    (path,) = info.shard_paths(str(tmp_path))
    os.truncate(path, 10)
    with pytest.raises(ValueError, match=r"00001\.tfrecord: shard has 10 bytes, dataset.json says"):
        shards.read_dataset_info(str(tmp_path), "train")
    os.remove(path)
    with pytest.raises(ValueError, match="shard is missing"):
        shards.read_dataset_info(str(tmp_path), "train")
    assert shards.read_dataset_info(str(tmp_path), "train", check_shards=False) == info


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "another version"),
        ({"colour": "red"}, "unknown keys: colour"),
        ({"log_mel": {"bands": 3}}, "LogMelConfig has no bands"),
    ],
)
def test_bad_dataset_json(tmp_path, info, change, message):
    path = tmp_path / "train" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"dataset\.json: .*{message}"):
        shards.read_dataset_info(str(tmp_path), "train")


def test_dataset_info_is_frozen(info):
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.num_clips = 4
