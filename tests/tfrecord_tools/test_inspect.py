import dataclasses
import functools
import os
import re
import shutil

import numpy as np
import pytest

from tfrecord_tools import inspect
from tfrecord_tools.conversion.clip import ConvertConfig
from tfrecord_tools.conversion.convert import convert_dataset
from tfrecord_tools.conversion.local_runner import convert_shards_locally
from tfrecord_tools.datasets import manifest
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.shards import files
from tfrecord_tools.shards import info as shards
from tfrecord_tools.shards import records as schema


@pytest.fixture(scope="module")
def converted(tmp_path_factory, collection):
    folder = tmp_path_factory.mktemp("inspected")
    for split in ("train", "eval"):
        clips, class_map = manifest.read_manifest(
            manifest=str(collection / "labels.csv"), split=split
        )
        config = ConvertConfig(split, "manifest", clips_per_shard=8)
        convert_dataset(
            clips,
            class_map,
            config,
            str(folder),
            runner=functools.partial(convert_shards_locally, workers=1),
        )
    return folder


@pytest.fixture
def data_dir(converted, tmp_path) -> str:
    """Return a copy to damage: `train` of two shards of eight clips, `eval` of one of four."""
    shutil.copytree(converted, tmp_path / "data")
    return str(tmp_path / "data")


def verify(data_dir: str) -> list[str]:
    return inspect.verify(data_dir, shards.read_dataset_info(data_dir, "train", check_shards=False))


def test_describe(converted):
    info = shards.read_dataset_info(str(converted), "train")
    lines = inspect.describe(str(converted), info).splitlines()
    assert "16 clips" in lines[0] and "from manifest" in lines[0]
    assert "2 shards of 8 to 8 clips" in lines[1]
    assert "float16: 64 bins from 50 to 8000 Hz, window 25 ms, hop 10 ms, at 16000 Hz" in lines[2]
    assert [line.split() for line in lines[5:8]] == [["6", "bark"], ["5", "bell"], ["5", "siren"]]
    assert lines[-1] == "  failed: none"


@pytest.mark.parametrize("feature_dtype", ["float32", "uint8"])
def test_every_stored_type_is_verified_and_drawn(read_collection, tmp_path, feature_dtype):
    config = ConvertConfig("train", "manifest", feature_dtype=feature_dtype, compression="GZIP")
    info = convert_dataset(
        *read_collection(),
        config,
        str(tmp_path),
        runner=functools.partial(convert_shards_locally, workers=1),
    )
    assert verify(str(tmp_path)) == []
    assert f"log-mel {feature_dtype} (GZIP): 64 bins" in inspect.describe(str(tmp_path), info)
    inspect.plot(str(tmp_path), info, str(tmp_path / "a.png"))
    (shard, *_) = info.shard_paths(str(tmp_path))
    with open(shard, "r+b") as stream:
        stream.seek(2000)
        stream.write(b"XXXX")
    assert any(re.search(r"record \d+ \(byte \d+\)", problem) for problem in verify(str(tmp_path)))


def test_describe_shows_twenty_classes_or_all(converted):
    names = tuple(f"class{index}" for index in range(30))
    info = dataclasses.replace(
        shards.read_dataset_info(str(converted), "train"),
        class_map=ClassMap(names, names),
        positives=tuple(range(30)),
        failures={"missing": 2},
    )
    text = inspect.describe(str(converted), info)
    assert "29  class29" in text and "class9\n" not in text
    assert (
        "10 more classes of 9 to 0 clips (--all shows them)" in text and "failed: missing 2" in text
    )
    assert "0  class0\n" in inspect.describe(str(converted), info, all_classes=True)


def test_sound_split(data_dir):
    assert verify(data_dir) == []


def test_corrupt_record_is_named(data_dir):
    path = f"{data_dir}/train/train-00001-of-00002.tfrecord"
    first, second = list(files.read_records(path))[:2]
    with open(path, "r+b") as stream:
        stream.seek(16 + len(first) + 12 + len(second) // 2)
        stream.write(b"????")
    (problem,) = verify(data_dir)
    assert problem.startswith(f"{path}: record 1 (byte {16 + len(first)}) is corrupt")


def test_missing_and_cut_shards(data_dir, tmp_path):
    paths = [
        tmp_path / "data" / "train" / f"train-0000{index}-of-00002.tfrecord" for index in range(2)
    ]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-7])
    problems = verify(data_dir)
    assert len(problems) == 3
    assert (
        f"{paths[0]}: shard is missing" in problems[0] and f"{paths[1]}: shard has " in problems[1]
    )
    assert f"{paths[1]}: record 7" in problems[2] and "cut short" in problems[2]


def replaced(position: int, **changes):
    """Change one record of a shard."""

    def change(records: list[bytes]) -> list[bytes]:
        record = dataclasses.replace(schema.decode(records[position], "float16", 64), **changes)
        return [*records[:position], schema.encode(record), *records[position + 1 :]]

    return change


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            replaced(2, labels=(7,)),
            [r"record 2: labels \[7\] are not among the 3 classes", "positive clips of"],
        ),
        (
            replaced(2, log_mel=np.zeros((3, 64), np.float16)),
            ["clips.csv: shard 0, record 2: .* is listed", "the mean is not"],
        ),
        (
            replaced(2, video_id="x"),
            ["clips.csv: shard 0, record 2: .* is listed, there is 'x' with"],
        ),
        (
            lambda records: [records[0], *records[:7]],
            ["record 1: clip id '.*' was there before, at .*record 0"],
        ),
        (
            lambda records: records[:-1],
            ["7 records, dataset.json says 8", "there is no readable record"],
        ),
        (
            lambda records: [*records, records[0]],
            ["9 records, dataset.json says 8", "shard 0, record 8: '.*' is not listed"],
        ),
        (lambda records: [b"nonsense", *records[1:]], ["record 0: not a clip record"]),
        (
            replaced(2, log_mel=np.zeros((300, 64), np.float16)),
            ["max_frames is 36, the longest record has 300"],
        ),
    ],
)  # fmt: skip
def test_wrong_records_are_named(data_dir, rewrite_shard, change, messages):
    path = f"{data_dir}/train/train-00000-of-00002.tfrecord"
    rewrite_shard(path, change)
    info = shards.read_dataset_info(data_dir, "train", check_shards=False)
    size = os.path.getsize(path)  # is not what is wrong here
    first = dataclasses.replace(info.shards[0], bytes=size)
    dataclasses.replace(info, shards=(first, *info.shards[1:])).write(data_dir)
    problems = "\n".join(verify(data_dir))
    for message in messages:
        assert re.search(message, problems), problems


def test_values_that_are_not_finite_and_no_frames():
    info = type("Info", (), {"class_map": ("a",)})()
    record = schema.ClipRecord("x", np.array([[np.inf]]), (0,))
    assert list(inspect._record_problems(record, info)) == ["log-mel values that are not finite"]
    assert list(
        inspect._record_problems(dataclasses.replace(record, log_mel=np.zeros((0, 1))), info)
    ) == ["no frames"]


def test_tables_that_disagree(data_dir, tmp_path):
    train = tmp_path / "data" / "train"
    (train / "classes.csv").write_text("index,mid,display_name\n0,bark,bark\n1,bell,bell\n")
    (problem,) = verify(data_dir)
    assert "only dataset.json: siren" in problem
    (train / "classes.csv").unlink()
    (problem,) = verify(data_dir)
    assert "classes.csv: expected a csv file there" in problem
    (train / "dataset.json").write_text(
        (train / "dataset.json").read_text().replace('"num_clips": 16', '"num_clips": 17')
    )
    assert "num_clips is 17, its shards have 16" in verify(data_dir)[0]


@pytest.mark.parametrize("text", [None, "a,b\n", "video_id,shard,record,num_frames\nx,y,0,3\n", ""])
def test_bad_clips_csv(data_dir, tmp_path, text):
    path = tmp_path / "data" / "train" / "clips.csv"
    path.unlink()
    if text is not None:
        path.write_text(text)
    (problem,) = verify(data_dir)
    assert "clips.csv has the columns video_id, shard, record, num_frames" in problem


def test_examples_have_the_fewest_labels(data_dir):
    info = shards.read_dataset_info(data_dir, "train")
    examples = inspect._examples(data_dir, info, [0, 1])
    assert examples[0].labels == (0,) and examples[1].labels == (1, 2)
    records = [
        schema.decode(r, "float16", 64)
        for path in info.shard_paths(data_dir)
        for r in files.read_records(path)
    ]
    assert examples[0].video_id == next(
        record.video_id for record in records if record.labels == (0,)
    )


def test_command(command, data_dir, tmp_path):
    picture = tmp_path / "a.png"
    status, stdout, _ = command(inspect, data_dir, "--verify", f"--plot={picture}")
    assert status == 0
    assert (
        "verified: all 16 records are sound" in stdout
        and "verified: all 4 records are sound" in stdout
    )
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10000
    status, stdout, _ = command(inspect, data_dir, "--split=eval")
    assert status == 0 and "data/eval: 4 clips" in stdout and "train" not in stdout
    (tmp_path / "data" / "train" / "train-00000-of-00002.tfrecord").unlink()
    status, stdout, _ = command(inspect, data_dir, "--verify")
    assert status == 1 and "wrong: " in stdout and "1 problems" in stdout
    status, _, stderr = command(inspect, data_dir)
    assert status == 1 and "shard is missing" in stderr
    status, _, stderr = command(inspect)
    assert status == 1 and "expected one folder" in stderr
    status, _, stderr = command(inspect, tmp_path / "nowhere")
    assert status == 1 and "there is no such folder" in stderr


def test_many_classes_are_drawn(data_dir, tmp_path):
    names = tuple(f"class{index}" for index in range(60))
    info = dataclasses.replace(
        shards.read_dataset_info(data_dir, "eval"),
        class_map=ClassMap(names, names),
        positives=(900, 1, 1, *[500] * 57),
    )
    inspect.plot(data_dir, info, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").exists()


def test_nothing_to_draw(data_dir, tmp_path):
    info = dataclasses.replace(shards.read_dataset_info(data_dir, "train"), positives=(0, 0, 0))
    with pytest.raises(ValueError, match="train: no clip has a label"):
        inspect.plot(data_dir, info, str(tmp_path / "a.png"))
