import contextlib
import dataclasses
import errno
import functools
import json
import os
import re
import signal
import subprocess
import sys
import types
from collections import Counter

import numpy as np
import pytest

from tfrecord_tools import convert as convert_module
from tfrecord_tools import storage
from tfrecord_tools.commands import describe_error
from tfrecord_tools.conversion import local_runner, split
from tfrecord_tools.conversion.clip import ConvertConfig, convert_clip
from tfrecord_tools.conversion.convert import convert_dataset
from tfrecord_tools.conversion.local_runner import convert_shards_locally
from tfrecord_tools.datasets import audioset, readers
from tfrecord_tools.datasets.clips import ClassMap, Clip
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import files
from tfrecord_tools.shards import info as shards
from tfrecord_tools.shards import records as schema

CONFIG = ConvertConfig("train", "manifest", clips_per_shard=5)
TABLES = ("classes.csv", "clips.csv", "failures.csv", "warnings.csv")
HERE = functools.partial(convert_shards_locally, workers=1)  # in this process


@pytest.fixture
def convert_collection(read_collection):
    """Convert the train split of the collection: sixteen clips in four shards."""

    def run(out_dir, config: ConvertConfig = CONFIG, **options) -> shards.DatasetInfo:
        return convert_dataset(
            *read_collection(config.split), config, str(out_dir), **{"runner": HERE, **options}
        )

    return run


@pytest.fixture(scope="module")
def converted(tmp_path_factory, collection):
    folder = tmp_path_factory.mktemp("converted")
    clips, class_map = readers.read_dataset(
        "manifest", "train", {"manifest": str(collection / "labels.csv")}
    )
    return folder, clips, convert_dataset(clips, class_map, CONFIG, str(folder), runner=HERE)


def records_of(out_dir, info: shards.DatasetInfo) -> list[list[schema.ClipRecord]]:
    return [
        [
            schema.decode(data, info.feature_dtype, info.log_mel.mel_bins)
            for data in files.read_records(path)
        ]
        for path in info.shard_paths(str(out_dir))
    ]


def test_every_clip_is_in_one_place(converted):
    folder, clips, info = converted
    by_shard = records_of(folder, info)
    ids = [record.video_id for records in by_shard for record in records]
    assert sorted(ids) == sorted(clip.id for clip in clips) and ids != sorted(ids)
    assert (
        [len(records) for records in by_shard]
        == [shard.clips for shard in info.shards]
        == [4, 4, 4, 4]
    )
    labels = {clip.id: clip.labels for clip in clips}
    assert all(
        record.labels == labels[record.video_id] for records in by_shard for record in records
    )


def test_dataset_json_says_what_the_records_hold(converted):
    folder, clips, info = converted
    assert shards.read_dataset_info(str(folder), "train") == info
    records = [record for records in records_of(folder, info) for record in records]
    frames = np.concatenate([record.log_mel.astype(np.float64) for record in records])
    np.testing.assert_allclose(info.mean, frames.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(info.variance, frames.var(axis=0), rtol=1e-8)
    assert info.max_frames == max(len(record.log_mel) for record in records)
    assert info.seconds == pytest.approx(sum(0.2 + 0.01 * i for i in range(20) if i % 5 != 4))
    counts = Counter(label for clip in clips for label in clip.labels)
    assert info.positives == tuple(counts[index] for index in range(3))
    assert info.num_clips == 16 and info.failures == {}
    assert info.class_map.mids == ("bark", "bell", "siren")


def test_tables(converted, table_of):
    folder, _, info = converted
    names = {*TABLES, "dataset.json", *(s.file for s in info.shards)}
    assert set(os.listdir(folder / "train")) == names
    rows = table_of(folder / "train" / "clips.csv")
    by_shard = records_of(folder, info)
    for row in rows:
        record = by_shard[int(row["shard"])][int(row["record"])]
        assert (row["video_id"], int(row["num_frames"])) == (record.video_id, len(record.log_mel))
    assert len(rows) == 16 and table_of(folder / "train" / "failures.csv") == []
    assert table_of(folder / "train" / "classes.csv")[1] == {
        "index": "1",
        "mid": "bell",
        "display_name": "bell",
    }


def test_bytes_do_not_depend_on_the_number_of_workers(
    converted, convert_collection, tmp_path, files_of
):
    convert_collection(tmp_path, runner=functools.partial(convert_shards_locally, workers=2))
    assert files_of(tmp_path) == files_of(converted[0])


def test_bytes_do_not_depend_on_the_order_of_the_clips(converted, tmp_path, files_of):
    folder, clips, info = converted
    convert_dataset(clips[::-1], info.class_map, CONFIG, str(tmp_path), runner=HERE)
    assert files_of(tmp_path) == files_of(folder)


def break_at(monkeypatch, clip_id: str) -> list[str]:
    """Make the conversion of one clip raise; return the list of clips that are tried."""
    tried = []

    def convert_or_break(clip, config):
        tried.append(clip.id)
        if clip.id == clip_id:
            raise KeyboardInterrupt
        return convert_clip(clip, config)

    monkeypatch.setattr(local_runner, "convert_clip", convert_or_break)
    return tried


def test_stopped_conversion_continues(
    converted, convert_collection, tmp_path, files_of, monkeypatch
):
    order = [record.video_id for records in records_of(*converted[::2]) for record in records]
    break_at(monkeypatch, order[9])  # in the third shard
    with pytest.raises(KeyboardInterrupt):
        convert_collection(tmp_path)
    left = set(os.listdir(tmp_path / "train"))
    assert left == {"progress", *(f"train-{index:05d}-of-00004.tfrecord" for index in (0, 1))}
    assert not shards.has_split(str(tmp_path), "train")
    tried, lines = break_at(monkeypatch, ""), []
    convert_collection(tmp_path, report=lines.append)
    assert tried == order[8:] and "continuing: 2 of 4 shards were finished before" in lines
    assert files_of(tmp_path) == files_of(converted[0])


@pytest.mark.parametrize(
    "damage", ["shard gone", "shard cut", "report damaged", "report of another kind"]
)
def test_damaged_finished_shard_is_made_again(
    converted, convert_collection, tmp_path, files_of, monkeypatch, damage
):
    order = [record.video_id for records in records_of(*converted[::2]) for record in records]
    break_at(monkeypatch, order[9])
    with pytest.raises(KeyboardInterrupt):
        convert_collection(tmp_path)
    shard = tmp_path / "train" / "train-00000-of-00004.tfrecord"
    report = tmp_path / "train" / "progress" / "00000.json"
    {
        "shard gone": shard.unlink,
        "shard cut": lambda: os.truncate(shard, 10),
        "report damaged": lambda: report.write_text("{"),
        "report of another kind": lambda: report.write_text("{}"),
    }[damage]()
    tried = break_at(monkeypatch, "")
    convert_collection(tmp_path)
    assert tried == order[:4] + order[8:]
    assert files_of(tmp_path) == files_of(converted[0])


def test_complete_split_is_kept(converted, convert_collection, monkeypatch, files_of):
    before = files_of(converted[0])
    tried, lines = break_at(monkeypatch, ""), []
    assert convert_collection(converted[0], report=lines.append) == converted[2]
    assert tried == [] and len(lines) == 1 and "is complete with these settings: kept" in lines[0]
    assert files_of(converted[0]) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"feature_dtype": "float32"},
            "feature_dtype: 'float16' != 'float32'. Give another --out",
        ),
        ({"clips_per_shard": 6}, "clips_per_shard: 5 != 6"),
        ({"log_mel": LogMelConfig(mel_bins=32)}, "mel_bins: 64 != 32"),
        ({"dataset": "esc50"}, "dataset: 'manifest' != 'esc50'"),
    ],
)
@pytest.mark.parametrize("state", ["complete", "unfinished"])
def test_other_settings_are_refused_by_name(
    converted, convert_collection, tmp_path, monkeypatch, changes, message, state
):
    out_dir = converted[0]
    if state == "unfinished":
        out_dir = tmp_path
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            break_at(patch, converted[1][3].id)
            convert_collection(tmp_path)
    made = rf"train is {state}, and was made with other settings \(there != asked\): "
    with pytest.raises(ValueError, match=made + message):
        convert_collection(out_dir, dataclasses.replace(CONFIG, **changes))


def test_other_clips_are_refused(converted):
    folder, clips, info = converted
    with pytest.raises(
        ValueError,
        match=rf"clips: '16, 16 with audio' != '15, 15 .* 1 clips are only there: {clips[0].id}\.",
    ):
        convert_dataset(clips[1:], info.class_map, CONFIG, str(folder))
    other = dataclasses.replace(clips[0], labels=(2,))
    with pytest.raises(ValueError, match=r"asked\): labels of the clips: '\w+' != '\w+'\. Give"):
        convert_dataset([other, *clips[1:]], info.class_map, CONFIG, str(folder))


def test_overwrite_replaces_the_split_alone(convert_collection, tmp_path, files_of):
    convert_collection(tmp_path)
    convert_collection(tmp_path, ConvertConfig("eval", "manifest"))
    (tmp_path / "train" / "notes.txt").write_text("mine")
    kept = {
        name: data for name, data in files_of(tmp_path).items() if "eval" in name or "notes" in name
    }
    info = convert_collection(
        tmp_path,
        dataclasses.replace(CONFIG, feature_dtype="float32", clips_per_shard=8),
        overwrite=True,
    )
    assert info.feature_dtype == "float32" and len(info.shards) == 2
    names = {*TABLES, "dataset.json", *(s.file for s in info.shards), "notes.txt"}
    assert set(os.listdir(tmp_path / "train")) == names
    assert kept.items() <= files_of(tmp_path).items()


def test_overwrite_keeps_the_split_if_there_is_nothing_to_replace_it(
    convert_collection, tmp_path, files_of
):
    info = convert_collection(tmp_path)
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match="not one of 1 clips has audio; the first: a: no file"):
        convert_dataset(
            [Clip("a", None, missing="no file")],
            info.class_map,
            CONFIG,
            str(tmp_path),
            overwrite=True,
        )
    assert files_of(tmp_path) == before


def test_splits_share_classes_and_log_mel(converted, convert_collection, read_collection):
    folder = converted[0]
    clips, _ = read_collection("eval")
    other_classes = ClassMap(("bark", "bell", "horn"), ("bark", "bell", "horn"))
    with pytest.raises(
        ValueError,
        match=r"eval was made with other classes than .*train: .*"
        r"only in .*eval: horn; only in .*train: siren\. Give one class list",
    ):
        convert_dataset(clips, other_classes, ConvertConfig("eval", "manifest"), str(folder))
    config = ConvertConfig("eval", "manifest", LogMelConfig(mel_bins=32))
    with pytest.raises(
        ValueError, match=r"eval was made with another log-mel than .*train: mel_bins: 32 != 64"
    ):
        convert_collection(folder, config)
    assert not (folder / "eval").exists()


def test_bad_clips_are_listed_and_the_others_converted(tmp_path, write_noise, table_of, class_map):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound " * 99)
    write_noise(tmp_path / "tiny.wav", 0.01)
    write_noise(tmp_path / "good.wav", 0.3)
    names = ["empty", "text", "tiny", "good"]
    clips = [Clip(name, str(tmp_path / f"{name}.wav"), labels=(0,)) for name in names]
    clips += [
        Clip("late", clips[3].path, 5.0, 6.0),
        Clip("long", clips[3].path, 0.0, 9.0),
        Clip("gone", None, missing="no file x"),
    ]
    lines = []
    info = convert_dataset(
        clips, class_map, CONFIG, str(tmp_path / "out"), runner=HERE, report=lines.append
    )
    assert info.num_clips == 2 and info.positives == (1, 0, 0)
    assert info.failures == {
        "empty": 1,
        "missing": 1,
        "outside": 1,
        "too_short": 1,
        "unreadable": 1,
    }
    rows = table_of(tmp_path / "out" / "train" / "failures.csv")
    assert [(row["id"], row["kind"]) for row in rows] == [
        ("empty", "empty"),
        ("gone", "missing"),
        ("late", "outside"),
        ("text", "unreadable"),
        ("tiny", "too_short"),
    ]
    assert rows[1] == {"id": "gone", "path": "", "kind": "missing", "detail": "no file x"}
    assert table_of(tmp_path / "out" / "train" / "warnings.csv") == [
        {
            "id": "long",
            "path": clips[3].path,
            "kind": "short",
            "detail": "expected 9.000 s, got 0.300 s",
        }
    ]
    assert "2 of 7 clips converted" in lines[1]
    assert "failed: empty 1, missing 1, outside 1, too_short 1, unreadable 1; see" in lines[2]
    assert "warnings: short 1; see" in lines[3]


def test_no_clip_at_all_is_an_error_with_the_reasons(tmp_path, class_map, table_of):
    for name in "ab":
        (tmp_path / name).touch()
    clips = [Clip(name, str(tmp_path / name)) for name in "ab"] + [
        Clip("c", None, missing="no file c")
    ]
    for _ in range(2):  # a second attempt says the same, and does not continue the first
        with pytest.raises(
            ValueError,
            match=r"not one of 3 clips could be converted: empty 2, missing 1\. "
            "The first: a: the file has no bytes",
        ):
            convert_dataset(clips, class_map, CONFIG, str(tmp_path / "out"), runner=HERE)
    assert len(table_of(tmp_path / "out" / "train" / "failures.csv")) == 3
    assert not shards.has_split(str(tmp_path / "out"), "train")


def test_bad_lists_of_clips(tmp_path, class_map):
    clip = Clip("a", "a.wav")
    for clips, message in {
        (): "clips: expected at least one clip",
        (clip, clip): "clips: 1 ids occur more than once: a",
        (dataclasses.replace(clip, labels=(3,)),): "clip a: labels: expected indices below 3",
        (
            Clip("a", None, missing="no file b"),
        ): "not one of 1 clips has audio; the first: a: no file b",
    }.items():
        with pytest.raises(ValueError, match=message):
            convert_dataset(clips, class_map, CONFIG, str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_folder_that_can_t_be_written_to(convert_collection, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out: can't write to .*file/train"):
        convert_collection(tmp_path / "file")


def test_shards_by_hand(converted, convert_collection, tmp_path, files_of):
    lines = []
    assert convert_collection(tmp_path, shard_range=(2, 3), report=lines.append) is None
    assert "shards 2-3 are finished, 0-1 are not. When all are, the same command" in lines[-1]
    assert not shards.has_split(str(tmp_path), "train")
    assert convert_collection(tmp_path, shard_range=(0, 0)) is None
    assert convert_collection(tmp_path, shard_range=(1, 3)) == converted[2]
    assert files_of(tmp_path) == files_of(converted[0])


def test_bad_shard_ranges(convert_collection, tmp_path):
    for shard_range in ((0, 4), (2, 1)):
        with pytest.raises(ValueError, match=r"shard_range: expected shards of 0-3, got \d-\d"):
            convert_collection(tmp_path, shard_range=shard_range)
    with pytest.raises(ValueError, match="shard_range: does not go with overwrite"):
        convert_collection(tmp_path, shard_range=(0, 1), overwrite=True)
    assert os.listdir(tmp_path) == []


def test_runner_that_writes_nothing_is_an_error(convert_collection, tmp_path):
    with pytest.raises(ValueError, match="shards 0-3 were not written; try again"):
        convert_collection(tmp_path, runner=lambda jobs, config, report: None)


@pytest.mark.parametrize("full_at_byte", [1, 20_000, 50_000])
def test_full_disk(converted, convert_collection, tmp_path, files_of, monkeypatch, full_at_byte):
    """Fill the disk at some byte, then make room: the conversion continues."""
    left = full_at_byte

    @contextlib.contextmanager
    def open_on_small_disk(path, mode):
        with open_file(path, mode) as stream:

            def write(data, write=stream.write):
                nonlocal left
                left -= len(data)
                if left < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(data)

            yield types.SimpleNamespace(write=write, flush=stream.flush, fileno=stream.fileno)

    open_file = storage.open_file
    with monkeypatch.context() as patch:
        patch.setattr(
            storage,
            "open_file",
            lambda path, mode="r": (
                open_on_small_disk(path, mode) if mode == "wb" else open_file(path, mode)
            ),
        )
        with pytest.raises(OSError) as caught:
            convert_collection(tmp_path)
    assert re.fullmatch(
        rf"{tmp_path}/train/train-0000\d-of-00004.tfrecord: No space left on device; "
        "make room, and the same command "
        "continues",
        describe_error(caught.value),
    )
    sizes = {shard.file: shard.bytes for shard in converted[2].shards}
    left_there = [name for name in os.listdir(tmp_path / "train") if name != "progress"]
    assert all(os.path.getsize(tmp_path / "train" / name) == sizes[name] for name in left_there)
    convert_collection(tmp_path)
    assert files_of(tmp_path) == files_of(converted[0])


@pytest.mark.parametrize("killed_after", [1, 7, 15])
def test_killed_conversion_continues(converted, collection, tmp_path, files_of, killed_after):
    """Kill the process and its workers at some clip: the same command ends as if it had not."""
    arguments = [
        "--dataset=manifest",
        f"--manifest={collection / 'labels.csv'}",
        f"--out={tmp_path}",
        "--clips_per_shard=5",
    ]
    code = f"""
import os, signal
from tfrecord_tools import convert, progress
update = progress.Progress.update
def update_or_die(self, *args):
    update(self, *args)
    if self.done == {killed_after}:
        os.kill(os.getpid(), signal.SIGKILL)
progress.Progress.update = update_or_die
if __name__ == "__main__":
    convert.run()
"""
    script = tmp_path.parent / f"{tmp_path.name}.py"
    script.write_text(code)
    killed = subprocess.run([sys.executable, script, *arguments], stdout=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL and not shards.has_split(str(tmp_path), "train")
    subprocess.run([sys.executable, "-m", "tfrecord_tools.convert", *arguments], check=True)
    assert files_of(tmp_path) == files_of(converted[0])


def test_audioset_under_its_usual_names(
    tmp_path, write_noise, write_table, class_map, class_labels_csv, table_of
):
    """Convert twelve of twenty clips, in nested folders; the other eight are reported missing."""
    names = [
        "{0}.wav", "Y{0}.flac", "a/{0}_30000.wav", "a/{0}_30000_31000.wav", "a/b/{0}_30.wav",
        "a/b/{0}_30.000.wav", "{0}_30.000_31.000.flac", "Y{0}_30000.ogg",
        "c/Y{0}_30.000_31.000.mp3", "c/Y{0}_30.aiff", "c/{0}.opus", "c/{0}.ogg",
    ]  # fmt: skip
    ids = [f"-_Y{index:08d}" for index in range(20)]
    for index, name in enumerate(names):
        rate_hz = 48000 if name.endswith("opus") else 16000
        write_noise(tmp_path / "audio" / name.format(ids[index]), 1.0, rate_hz, seed=index)
    write_noise(tmp_path / "audio" / f"{ids[12]}_99000.wav", 1.0)  # another segment
    (tmp_path / "list.csv").write_text(
        "# a list\n" + "".join(f'{ytid}, 30.000, 31.000, "/m/1"\n' for ytid in ids)
    )
    clips, classes = audioset.read_audioset(
        segments_csv=str(tmp_path / "list.csv"),
        class_labels_csv=class_labels_csv,
        audio_dir=str(tmp_path / "audio"),
    )
    info = convert_dataset(
        clips, classes, ConvertConfig("eval", "audioset"), str(tmp_path / "out"), runner=HERE
    )
    assert info.num_clips == 12 and info.failures == {"missing": 8}
    assert info.seconds == pytest.approx(12.0, abs=0.1)
    rows = table_of(tmp_path / "out" / "eval" / "failures.csv")
    assert [row["id"] for row in rows] == ids[12:]
    assert (
        "only other segments" in rows[0]["detail"] and "no file of that name" in rows[1]["detail"]
    )
    for record in records_of(tmp_path / "out", info)[0]:
        assert (record.start_time_seconds, record.end_time_seconds) == pytest.approx(
            (30.0, 31.0), abs=0.02
        )


def test_command(command, collection, tmp_path, files_of, converted):
    arguments = [
        "--dataset=manifest",
        f"--manifest={collection / 'labels.csv'}",
        f"--out={tmp_path}",
    ]
    status, stdout, _ = command(convert_module, *arguments, "--clips_per_shard=5", "--workers=1")
    assert status == 0 and "16 of 16 clips converted" in stdout
    assert files_of(tmp_path) == files_of(converted[0])
    status, stdout, _ = command(convert_module, *arguments, "--clips_per_shard=5")
    assert status == 0 and "kept" in stdout
    status, _, stderr = command(convert_module, *arguments, "--mel_bins=32", "--mel_max_hz=7000")
    assert status == 1 and "mel_bins: 64 != 32; mel_max_hz: 8000.0 != 7000.0" in stderr
    status, _, stderr = command(convert_module, *arguments, "--folds=one")
    assert status == 1 and "--folds=one: expected a comma separated list of whole numbers" in stderr
    status, _, stderr = command(convert_module, *arguments, "--shard_range=a-b")
    assert (
        status == 1
        and "--shard_range: expected the first and the last shard, such as 0-99" in stderr
    )
    status, _, stderr = command(convert_module, *arguments, "--", "--streaming")
    assert status == 1 and "unexpected argument '--streaming'" in stderr
    status, _, stderr = command(convert_module, *arguments, "--segments_csv=x")
    assert status == 1 and "has no use for --segments_csv" in stderr


def test_tensorflow_is_never_loaded(collection, tmp_path):
    code = """
import sys
from absl import app, flags, logging
before = set(flags.FLAGS)
from tfrecord_tools import convert, inspect
assert set(flags.FLAGS) == before, "importing defines flags"
sys.argv[0] = "convert"
try:
    convert.run()
except SystemExit as stopped:
    assert not stopped.code
assert "tensorflow" not in sys.modules
"""
    arguments = [
        "--dataset=manifest",
        f"--manifest={collection / 'labels.csv'}",
        f"--out={tmp_path}",
        "--workers=1",
    ]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)


def test_settings_are_plain(converted):
    settings = json.loads((converted[0] / "train" / "dataset.json").read_text())["settings"]
    assert settings["mel_bins"] == 64 and settings["classes"].startswith("3 (")
    assert split.count_text({"b": 1, "a": 2}) == "a 2, b 1"
