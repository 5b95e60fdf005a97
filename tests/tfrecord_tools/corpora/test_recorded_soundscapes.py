"""Corpora whose events are cut from recordings, from the recordings to the converter's clips."""

import csv
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tfrecord_tools.conversion.clip import ConvertConfig
from tfrecord_tools.conversion.convert import convert_dataset
from tfrecord_tools.corpora.corpus import make_corpus
from tfrecord_tools.corpora.mixing import SoundscapeConfig
from tfrecord_tools.corpora.recorded_events import RecordedEvents
from tfrecord_tools.corpora.recordings import read_sources
from tfrecord_tools.datasets import audioset
from tfrecord_tools.shards import info as shards

RATE = 16_000
NAMES = ("bell", "horn", "Whistle, high")
# Clips are short and events loud, so that what is in a clip can be told from its sound.
CONFIG = SoundscapeConfig(
    num_train=24,
    num_eval=12,
    min_seconds=1,
    max_seconds=1.2,
    min_snr_db=40,
    max_snr_db=40,
    missing_rate=0.5,
)
RATES = (0.3, 0.0, 0.1)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Write three recordings a class: a tone between silences; fold 3 sounds 100 Hz higher."""
    folder = tmp_path_factory.mktemp("collection")
    rows = [["filename", "label", "fold"]]
    for label, name in enumerate(NAMES):
        for fold, seconds in ((1, 0.1), (2, 2.0), (3, 0.3)):
            hertz = 800 + 1_000 * label + (100 if fold == 3 else 0)
            sound = np.zeros(round((seconds + 0.3) * RATE))
            span = slice(round(0.2 * RATE), round((0.2 + seconds) * RATE))
            sound[span] = 0.3 * np.sin(2 * np.pi * hertz * np.arange(span.stop - span.start) / RATE)
            path = folder / name / f"{fold}.flac"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, sound, RATE)
            rows.append([f"{name}/{fold}.flac", name, fold])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def events(collection):
    return RecordedEvents(read_sources(str(collection / "labels.csv"), eval_folds=[3]), 0.8)


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory, events):
    out_dir = tmp_path_factory.mktemp("corpora") / "corpus"
    assert make_corpus(CONFIG, out_dir, workers=1, events=events, wrong_label_rates=RATES)
    return out_dir


def read_split(corpus_dir, split, segments=None):
    return audioset.read_audioset(
        segments_csv=str(corpus_dir / (segments or f"{split}_segments.csv")),
        class_labels_csv=str(corpus_dir / "class_labels_indices.csv"),
        audio_dir=str(corpus_dir / split),
        strong_tsv=str(corpus_dir / f"{split}_strong.tsv"),
    )


def test_files_are_those_of_the_synthesised_corpus(corpus_dir):
    assert {path.name for path in corpus_dir.iterdir()} == {
        "train",
        "eval",
        "train_segments.csv",
        "eval_segments.csv",
        "train_clean_segments.csv",
        "train_strong.tsv",
        "eval_strong.tsv",
        "class_labels_indices.csv",
        "soundscapes.json",
    }
    _, class_map = read_split(corpus_dir, "eval")
    assert class_map.display_names == ("Whistle, high", "bell", "horn")
    assert class_map.mids == ("Whistle_high", "bell", "horn")


def power_at(sound: np.ndarray, hertz: float) -> float:
    wave = np.exp(2j * np.pi * hertz * np.arange(len(sound)) / RATE)
    return abs(np.sum(sound * np.hanning(len(sound)) * wave)) ** 2


def test_train_and_eval_are_made_of_different_recordings(corpus_dir):
    for split, own, other in (("train", 0, 100), ("eval", 100, 0)):
        clips, class_map = read_split(corpus_dir, split)
        for clip in clips:
            sound = soundfile.read(clip.path)[0]
            for label, onset, offset in clip.events:
                span = sound[round(onset * RATE) : round(offset * RATE)]
                hertz = 800 + 1_000 * NAMES.index(class_map.display_names[label])
                assert power_at(span, hertz + own) > 20 * power_at(span, hertz + other), clip.id


def test_onsets_and_offsets_are_where_the_sound_is(events, tmp_path):
    config = dataclasses.replace(CONFIG, max_events=1, min_snr_db=80, max_snr_db=80)
    make_corpus(config, tmp_path / "loud", workers=1, events=events)
    lengths = set()
    for split in ("train", "eval"):
        for clip in read_split(tmp_path / "loud", split)[0]:
            sound = soundfile.read(clip.path)[0]
            [(_, onset, offset)] = clip.events
            heard = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max()) / RATE
            assert 0 <= heard[0] - onset <= 0.008, (
                clip.id
            )  # 5 ms to fade, and what is left of a millisecond
            assert 0 <= offset - heard[-1] <= 0.008, clip.id
            lengths.add(round(offset - onset, 1))
    assert {0.1, 0.3} < lengths and max(lengths) <= 0.8  # and parts of the two seconds


def test_eval_is_clean_and_train_is_noisy(corpus_dir):
    clips, _ = read_split(corpus_dir, "eval")
    assert all(
        clip.labels == tuple(sorted({label for label, _, _ in clip.events})) for clip in clips
    )
    clean, noisy = (
        [clip.labels for clip in read_split(corpus_dir, "train", name)[0]]
        for name in ("train_clean_segments.csv", "train_segments.csv")
    )
    described = json.loads((corpus_dir / "soundscapes.json").read_text())["splits"]["train"]
    _, class_map = read_split(corpus_dir, "eval")
    for label, name in enumerate(class_map.display_names):
        true, given = (np.array([label in labels for labels in rows]) for rows in (clean, noisy))
        assert described["true_clips_per_class"][name] == true.sum()
        assert described["labelled_clips_per_class"][name] == given.sum()
        assert described["labels_left_out_per_class"][name] == (true & ~given).sum() > 0
        assert described["labels_added_per_class"][name] == (given & ~true).sum()
    assert (
        described["labels_added_per_class"]["bell"]
        == 0
        < described["labels_added_per_class"]["Whistle, high"]
    )
    assert described["clips_without_labels"] == noisy.count(()) > 0


def test_the_converter_keeps_every_clip_also_those_without_labels(corpus_dir, tmp_path):
    for split, count in (("train", 24), ("eval", 12)):
        clips, class_map = read_split(corpus_dir, split)
        info = convert_dataset(
            clips, class_map, ConvertConfig(split=split, dataset="audioset"), str(tmp_path)
        )
        assert (info.num_clips, info.failures) == (count, {})
        assert sum(info.positives) == sum(len(clip.labels) for clip in clips)
    assert shards.list_splits(str(tmp_path)) == ["eval", "train"]


def test_settings_and_recordings_are_in_the_settings_file(corpus_dir, events):
    description = json.loads((corpus_dir / "soundscapes.json").read_text())
    settings = description["settings"]
    assert settings | dataclasses.asdict(CONFIG) | events.settings() == settings
    assert settings["wrong_label_rates"] == {"Whistle_high": 0.3, "bell": 0.0, "horn": 0.1}
    assert (settings["max_event_seconds"], settings["eval_folds"]) == (0.8, [3])
    assert description["recordings_per_class"] == {
        "train": dict.fromkeys(NAMES, 2),
        "eval": dict.fromkeys(NAMES, 1),
    }
    assert description["recordings_skipped"] == []


def test_bytes_do_not_depend_on_the_number_of_processes(corpus_dir, tmp_path, events, files_of):
    make_corpus(CONFIG, tmp_path / "two", workers=2, events=events, wrong_label_rates=RATES)
    assert files_of(tmp_path / "two") == files_of(corpus_dir)


def test_label_noise_and_the_size_leave_a_clip_as_it_is(corpus_dir, tmp_path, events, files_of):
    config = dataclasses.replace(CONFIG, missing_rate=0.0, num_train=10)
    make_corpus(config, tmp_path / "clean", workers=1, events=events)
    clean, noisy = files_of(tmp_path / "clean"), files_of(corpus_dir)
    sounds = [name for name in clean if name.endswith(".wav")]
    assert len(sounds) == 22 and all(clean[name] == noisy[name] for name in sounds)
    assert clean["eval_segments.csv"] == noisy["eval_segments.csv"]
    assert noisy["train_strong.tsv"].startswith(clean["train_strong.tsv"])
    assert "train_clean_segments.csv" not in clean


def test_a_corpus_of_other_recordings_or_cuts_is_refused(corpus_dir, collection, events):
    assert not make_corpus(
        CONFIG, corpus_dir, workers=1, events=events, wrong_label_rates=RATES
    )  # kept
    other_folds = RecordedEvents(read_sources(str(collection / "labels.csv"), eval_folds=[2]), 0.8)
    for other, message in (
        (other_folds, r"eval_folds: \[3\] != \[2\]; source_digest: '\w+' != '"),
        (
            dataclasses.replace(events, max_event_seconds=0.5),
            "max_event_seconds: 0.8 != 0.5",
        ),
        (None, "max_event_seconds: 0.8 != None"),
    ):
        with pytest.raises(ValueError, match=message):
            make_corpus(CONFIG, corpus_dir, workers=1, events=other, wrong_label_rates=RATES[:0])


def test_settings_must_fit_the_classes(tmp_path, events):
    for config, rates, message in (
        (
            dataclasses.replace(CONFIG, max_events=4),
            (),
            "max_events must be at most the number of classes, 3, got 4",
        ),
        (CONFIG, (0.1,), "wrong_label_rates: expected one for each of 3 classes, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make_corpus(config, tmp_path / "x", workers=1, events=events, wrong_label_rates=rates)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_recording_is_named_in_the_settings_file(collection, tmp_path):
    for number in (1, 2, 3):
        for name in ("one", "two"):
            path = tmp_path / "sounds" / name / f"{number}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((collection / "bell" / "3.flac").read_bytes())
    events = RecordedEvents(read_sources(str(tmp_path / "sounds")))
    bad = events.sources.clips["train"][0]
    with open(bad.path, "wb") as file:
        file.write(b"no sound")
    config = dataclasses.replace(CONFIG, num_train=2, num_eval=2, max_events=2)
    make_corpus(config, tmp_path / "corpus", workers=1, events=events)
    description = json.loads((tmp_path / "corpus" / "soundscapes.json").read_text())
    [skipped] = description["recordings_skipped"]
    assert (skipped["id"], skipped["kind"]) == (bad.id, "unreadable")
    for split in ("train", "eval"):
        assert len(list((tmp_path / "corpus" / split).glob("*.wav"))) == 2

    for clip in events.sources.clips["train"]:
        open(clip.path, "wb").close()
    with pytest.raises(
        ValueError, match=r"none of the 2 recordings of 'one' for train can be used, such as one/"
    ):
        make_corpus(config, tmp_path / "none", workers=1, events=events)
    assert not list(tmp_path.glob("none*"))  # nothing is left behind


# === Command ===


def run_command(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tfrecord_tools.soundscapes", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_mixes_recordings(collection, tmp_path):
    (tmp_path / "precision.csv").write_text("label_id,num_rated,num_true\nbell,10,8\nhorn,10,10\n")
    flags = [
        f"--out={tmp_path / 'corpus'}",
        f"--source={collection / 'labels.csv'}",
        "--eval_folds=3",
    ]
    flags += ["--num_train=2", "--num_eval=1", "--workers=1", "--missing_labels=0.3"]
    flags += [f"--label_precision_csv={tmp_path / 'precision.csv'}", "--max_event_seconds=0.5"]
    made = run_command(*flags)
    assert (
        made.stdout == f"wrote 2 train and 1 eval clips of 3 classes to {tmp_path / 'corpus'}\n"
    ), made.stderr
    assert (
        "mixed 3 clips in " in made.stderr
        and "Whistle, high take their mean precision, 0.900" in made.stderr
    )
    settings = json.loads((tmp_path / "corpus" / "soundscapes.json").read_text())["settings"]
    assert (settings["missing_rate"], settings["max_event_seconds"]) == (0.3, 0.5)
    # Two events on average of three classes: q = 2/3, q (1 - m) = 1.4/3, and 1 - q = 1/3.
    assert settings["wrong_label_rates"] == pytest.approx(
        {"bell": 1.4 * 0.25, "horn": 0, "Whistle_high": 1.4 / 9}
    )
    kept = run_command(*flags)
    assert (kept.returncode, kept.stdout.split()[0]) == (0, "kept"), kept.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--eval_folds=1", "--max_event_seconds=1"],
            "--eval_folds, --max_event_seconds: of use with --source only",
        ),
        (
            ["--source={source}", "--eval_folds=one"],
            "flag --eval_folds=one: expected a comma separated list of whole numbers (see --help)",
        ),
        (
            ["--wrong_labels=0.1", "--label_precision_csv=x"],
            "two ways to add wrong labels; give one of them",
        ),
        (
            ["--wrong_labels=0.1", "--label_noise=0.1"],
            "wrong_label_rates: does not go with wrong_rate",
        ),
        (["--source=nowhere"], "nowhere: expected a csv file there, found nothing"),
    ],
)
def test_command_refuses(collection, tmp_path, flags, message):
    flags = [flag.format(source=collection / "labels.csv") for flag in flags]
    refused = run_command(f"--out={tmp_path / 'corpus'}", *flags)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ") and message in refused.stderr


@pytest.mark.esc10
def test_esc_10(shared_data, tmp_path):
    sources = read_sources(str(shared_data / "esc10" / "labels.csv"), eval_folds=[4, 5])
    assert [len(sources.clips[split]) for split in ("train", "eval")] == [240, 160]
    config = SoundscapeConfig(num_train=10, num_eval=10)
    make_corpus(config, tmp_path / "corpus", workers=1, events=RecordedEvents(sources))
    assert (
        json.loads((tmp_path / "corpus" / "soundscapes.json").read_text())["recordings_skipped"]
        == []
    )
    for split in ("train", "eval"):
        clips, class_map = read_split(tmp_path / "corpus", split)
        assert {label for clip in clips for label, _, _ in clip.events} == set(
            range(len(class_map))
        )
