import csv
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tfrecord_tools.corpora import corpus
from tfrecord_tools.corpora.corpus import clip_id, make_clip, make_corpus
from tfrecord_tools.corpora.label_noise import noisy_labels
from tfrecord_tools.corpora.mixing import SoundscapeConfig
from tfrecord_tools.corpora.synthesised_events import CLASSES

TINY = SoundscapeConfig(num_train=14, num_eval=5, min_seconds=1.0, max_seconds=1.5)
NOISY = dataclasses.replace(TINY, missing_rate=0.4, wrong_rate=0.4)
MIDS = [c.mid for c in CLASSES]


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("corpora") / "noisy"
    assert make_corpus(NOISY, out_dir, workers=1)
    return out_dir


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def read_weak(path: Path) -> dict[str, tuple[float, float, list[str]]]:
    with path.open(newline="") as file:
        comments, rows = (
            [next(file) for _ in range(3)],
            list(csv.reader(file, skipinitialspace=True)),
        )
    assert all(line.startswith("# ") for line in comments)
    counts = dict(re.findall(r"(\w+)=(\d+)", comments[1]))
    labels = {row[0]: row[3].split(",") if row[3] else [] for row in rows}
    assert int(counts["num_ytids"]) == int(counts["num_segs"]) == len(rows)
    assert int(counts["num_positive_labels"]) == sum(map(len, labels.values()))
    assert int(counts["num_unique_labels"]) == len(
        {mid for mids in labels.values() for mid in mids}
    )
    return {row[0]: (float(row[1]), float(row[2]), labels[row[0]]) for row in rows}


def read_strong(path: Path) -> list[tuple[str, float, float, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert list(rows[0]) == ["segment_id", "start_time_seconds", "end_time_seconds", "label"]
    return [
        (r["segment_id"], float(r["start_time_seconds"]), float(r["end_time_seconds"]), r["label"])
        for r in rows
    ]


# === Clips ===


def test_clip_is_the_same_again_and_another_elsewhere():
    waveform, events = make_clip(TINY, "train", 3)
    again, events_again = make_clip(TINY, "train", 3)
    assert waveform.dtype == np.float32
    assert np.array_equal(waveform, again)
    assert events == events_again
    for config, split, index in (
        (TINY, "eval", 3),
        (TINY, "train", 3 + len(CLASSES)),
        (dataclasses.replace(TINY, seed=1), "train", 3),
    ):
        other, _ = make_clip(config, split, index)
        assert waveform.shape != other.shape or not np.allclose(waveform, other)


def test_clip_does_not_depend_on_the_corpus_size_or_label_noise():
    bigger = dataclasses.replace(NOISY, num_train=1_000, num_eval=1_000)
    assert np.array_equal(make_clip(TINY, "train", 5)[0], make_clip(bigger, "train", 5)[0])


def test_any_twelve_clips_in_a_row_hold_every_class():
    clips = [make_clip(TINY, "eval", index)[1] for index in range(7, 19)]
    assert {mid for events in clips for mid, _, _ in events} == set(MIDS)


def test_clips_keep_to_the_config():
    config = SoundscapeConfig(min_seconds=1.2, max_seconds=1.9, max_events=2, max_snr_db=40)
    counts = set()
    for index in range(24):
        waveform, events = make_clip(config, "train", index)
        assert 1.2 <= len(waveform) / 16_000 <= 1.9
        assert len(waveform) % 16 == 0
        assert np.abs(waveform).max() <= 0.9901  # never clipped
        assert len({mid for mid, _, _ in events}) == len(events)
        assert [onset for _, onset, _ in events] == sorted(onset for _, onset, _ in events)
        for _, onset, offset in events:
            assert 0 <= onset < offset <= len(waveform) / 16_000
        counts.add(len(events))
    assert counts == {1, 2}


def test_event_energy_lies_within_its_span():
    """With the background 80 dB down, all that is heard is events."""
    config = SoundscapeConfig(max_events=1, min_snr_db=80, max_snr_db=80)
    for index in range(len(CLASSES)):
        waveform, [(mid, onset, offset)] = make_clip(config, "train", index)
        start, stop = round(onset * 16_000), round(offset * 16_000)
        event, outside = waveform[start:stop], np.concatenate([waveform[:start], waveform[stop:]])
        assert mid == MIDS[index]
        assert np.sum(outside**2) < 1e-4 * np.sum(event**2), mid
        heard = np.flatnonzero(np.abs(event) > 0.009 * np.abs(event).max())
        assert heard[0] <= 32, mid  # and it begins and ends where the times say, to 2 ms
        assert heard[-1] >= len(event) - 32, mid


def test_snr_is_the_loudest_eighth_of_a_second_over_the_background():
    low, high = (
        make_clip(
            dataclasses.replace(TINY, max_events=1, min_snr_db=snr, max_snr_db=snr), "train", 4
        )[0]
        for snr in (-30, 0)
    )
    event = (high - low).astype(float) / (1 - 10 ** (-30 / 20))  # the background cancels
    background = high - event
    loudest = (
        max(np.mean(event[i : i + 2_000] ** 2) for i in range(0, len(event) - 1_999, 20)) ** 0.5
    )
    snr_db = 20 * np.log10(loudest / np.sqrt(np.mean(background**2)))
    assert snr_db == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train": 0}, "num_train: expected a whole number from 1"),
        ({"num_eval": 2.5}, "num_eval: expected a whole number from 1"),
        ({"seed": -1}, "seed: expected a whole number from 0 to 4294967295, got -1"),
        ({"min_seconds": 0.5}, "min_seconds: expected a number from 1 to 3600, got 0.5"),
        ({"min_seconds": float("nan")}, "min_seconds: expected a number from 1 to 3600, got nan"),
        (
            {"min_seconds": 3, "max_seconds": 2},
            "min_seconds: expected at most max_seconds, 2, got 3",
        ),
        ({"min_snr_db": 30}, "min_snr_db: expected at most max_snr_db, 20.0, got 30"),
        ({"max_events": 13}, "max_events: expected a whole number from 1 to 12, got 13"),
        ({"missing_rate": 1.1}, "missing_rate: expected a number from 0 to 1, got 1.1"),
        ({"wrong_rate": -0.1}, "wrong_rate: expected a number from 0 to 1"),
    ],
)
def test_bad_config_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SoundscapeConfig(**settings)


# === Labels ===


def test_label_noise_has_the_promised_rates():
    config = SoundscapeConfig(missing_rate=0.3, wrong_rate=0.2)
    true = MIDS[2:5]
    noisy = [noisy_labels(config, "train", index, true) for index in range(4_000)]
    kept = np.array([[mid in labels for mid in true] for labels in noisy])
    wrong = np.array([[mid in labels for mid in MIDS if mid not in true] for labels in noisy])
    # Four standard deviations each.
    assert kept.mean(axis=0) == pytest.approx([0.7] * 3, abs=4 * np.sqrt(0.21 / 4_000))
    assert wrong.sum(axis=1).max() == 1
    assert wrong.any(axis=1).mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 4_000))
    assert wrong.mean(axis=0) == pytest.approx([0.2 / 9] * 9, abs=4 * np.sqrt(0.0222 / 4_000))
    assert [] in noisy


def test_label_noise_at_its_ends():
    everything = SoundscapeConfig(missing_rate=1.0, wrong_rate=1.0)
    assert len(noisy_labels(everything, "train", 0, MIDS[:2])) == 1
    assert noisy_labels(everything, "train", 0, MIDS) == []  # no class is left to be wrong about
    assert noisy_labels(everything, "eval", 0, MIDS[:2]) == MIDS[:2]
    assert noisy_labels(SoundscapeConfig(), "train", 0, MIDS[:2]) == MIDS[:2]


# === The corpus ===


def test_corpus_has_its_files(corpus_dir):
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
    with (corpus_dir / "class_labels_indices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["index"]), r["mid"], r["display_name"]) for r in rows] == [
        (index, c.mid, c.display_name) for index, c in enumerate(CLASSES)
    ]


def test_ids_are_like_audioset_s_and_unique(corpus_dir):
    ids = [path.stem for path in corpus_dir.rglob("*.wav")]
    assert len(set(ids)) == len(ids) == 19
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{11}", name) for name in ids)
    assert clip_id("eval", 255) == "sce000000ff"


def test_wav_files_hold_the_clips(corpus_dir):
    for split, count in (("train", 14), ("eval", 5)):
        weak = read_weak(corpus_dir / f"{split}_segments.csv")
        assert list(weak) == [clip_id(split, index) for index in range(count)]
        for index, (name, (start, end, _)) in enumerate(weak.items()):
            path = corpus_dir / split / f"{name}.wav"
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
            assert (start, end) == (0, info.duration)
            waveform, _ = make_clip(NOISY, split, index)
            assert np.allclose(soundfile.read(path)[0], waveform, atol=1e-4)


def test_weak_and_strong_labels_agree(corpus_dir):
    for split, weak_file in (("train", "train_clean_segments.csv"), ("eval", "eval_segments.csv")):
        weak = read_weak(corpus_dir / weak_file)
        strong = read_strong(corpus_dir / f"{split}_strong.tsv")
        assert {segment_id.removesuffix("_0") for segment_id, *_ in strong} == set(weak)
        for name, (_, end, labels) in weak.items():
            events = [event for event in strong if event[0] == f"{name}_0"]
            assert sorted(label for *_, label in events) == sorted(labels)
            assert all(0 <= onset < offset <= end for _, onset, offset, _ in events)
            index = int(name[3:], 16)
            assert [(label, on, off) for _, on, off, label in events] == make_clip(
                NOISY, split, index
            )[1]


def test_label_noise_is_in_train_segments_alone(corpus_dir, tmp_path):
    assert read_weak(corpus_dir / "train_segments.csv") != read_weak(
        corpus_dir / "train_clean_segments.csv"
    )
    make_corpus(TINY, tmp_path / "clean", workers=1)
    noisy, clean = files_of(corpus_dir), files_of(tmp_path / "clean")
    assert clean["train_segments.csv"] == noisy.pop("train_clean_segments.csv")
    assert {name for name in noisy if noisy[name] != clean[name]} == {
        "train_segments.csv",
        "soundscapes.json",
    }


def test_settings_file_counts_classes(corpus_dir):
    description = json.loads((corpus_dir / "soundscapes.json").read_text())
    assert SoundscapeConfig(**description["settings"]) == NOISY
    train, labels = description["splits"]["train"], read_weak(corpus_dir / "train_segments.csv")
    clean = read_weak(corpus_dir / "train_clean_segments.csv")
    assert train["num_clips"] == 14
    assert train["seconds"] == pytest.approx(sum(end for _, end, _ in labels.values()))
    for c in CLASSES:
        assert train["labelled_clips_per_class"][c.display_name] == sum(
            c.mid in row[2] for row in labels.values()
        )
        assert train["true_clips_per_class"][c.display_name] == sum(
            c.mid in row[2] for row in clean.values()
        )
        assert train["true_clips_per_class"][c.display_name] > 0


def test_bytes_do_not_depend_on_the_number_of_processes(corpus_dir, tmp_path):
    make_corpus(NOISY, tmp_path / "two", workers=2)
    assert files_of(tmp_path / "two") == files_of(corpus_dir)


def test_built_in_corpus_is_what_it_was(corpus_dir):
    """Compare digests with the first version's, which may change with GENERATOR_VERSION alone."""
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in corpus_dir.iterdir()
        if path.is_file()
    }
    assert digests == {
        "class_labels_indices.csv": "92e1b057521feb9a",
        "eval_segments.csv": "8825bf82beca802e",
        "eval_strong.tsv": "b682d67eb15f2880",
        "soundscapes.json": "5121102dfaa3ee0d",
        "train_clean_segments.csv": "2d5bfd76f026c372",
        "train_segments.csv": "a4bcf3cf3dcaa5bd",
        "train_strong.tsv": "f45d543e34343436",
    }


def test_each_absent_class_may_be_added_to_synthesised_clips_too(corpus_dir, tmp_path):
    rates = (0.2,) * len(CLASSES)
    assert make_corpus(TINY, tmp_path / "corpus", workers=1, wrong_label_rates=rates)
    assert not make_corpus(TINY, tmp_path / "corpus", workers=1, wrong_label_rates=rates)
    made, other = files_of(tmp_path / "corpus"), files_of(corpus_dir)
    assert [name for name in made if name.endswith(".wav")] == [
        name for name in other if name.endswith(".wav")
    ]
    assert all(made[name] == other[name] for name in made if name.endswith((".wav", ".tsv")))
    description = json.loads(made["soundscapes.json"])
    assert description["settings"]["wrong_label_rates"] == dict.fromkeys(MIDS, 0.2)
    noisy, clean = (
        read_weak(tmp_path / "corpus" / f"train{end}_segments.csv") for end in ("", "_clean")
    )
    added = [mid for name in noisy for mid in noisy[name][2] if mid not in clean[name][2]]
    assert all(set(clean[name][2]) <= set(noisy[name][2]) for name in noisy) and len(added) > 10
    counts = description["splits"]["train"]["labels_added_per_class"]
    assert counts == {c.display_name: added.count(c.mid) for c in CLASSES}
    with pytest.raises(ValueError, match=r"wrong_label_rates: \{.* != None"):
        make_corpus(TINY, tmp_path / "corpus", workers=1)


# === An existing folder ===

FOUR = dataclasses.replace(TINY, num_train=2, num_eval=2)


def test_existing_corpus_is_kept(tmp_path):
    assert make_corpus(FOUR, tmp_path, workers=1)  # an empty folder will do
    marker = tmp_path / "train" / f"{clip_id('train', 0)}.wav"
    marker.write_bytes(b"kept")
    (tmp_path / "shards").mkdir()  # others' files do no harm
    assert not make_corpus(FOUR, tmp_path, workers=1)
    assert marker.read_bytes() == b"kept"


def test_other_settings_are_refused_by_name_or_overwritten(tmp_path):
    out_dir = tmp_path / "corpus"
    make_corpus(FOUR, out_dir, workers=1)
    before = files_of(out_dir)
    other = dataclasses.replace(FOUR, seed=7, num_eval=1)
    with pytest.raises(
        ValueError, match=r"settings differ \(there != asked\): num_eval: 2 != 1; seed: 0 != 7"
    ):
        make_corpus(other, out_dir, workers=1)
    assert files_of(out_dir) == before
    assert make_corpus(other, out_dir, workers=1, overwrite=True)
    assert len(list((out_dir / "eval").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "eval_strong.tsv").unlink(), "eval_strong.tsv is missing"),
        (
            lambda d: (d / "train" / "sct00000001.wav").unlink(),
            "train/ holds 1 wav files instead of 2",
        ),
        (lambda d: (d / "soundscapes.json").write_text("{"), "soundscapes.json is damaged"),
        (lambda d: (d / "soundscapes.json").write_text("[]"), "soundscapes.json is damaged"),
    ],
)
def test_damaged_corpus_is_refused_and_can_be_overwritten(tmp_path, damage, message):
    make_corpus(FOUR, tmp_path, workers=1)
    before = files_of(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        make_corpus(FOUR, tmp_path, workers=1)
    make_corpus(FOUR, tmp_path, workers=1, overwrite=True)
    assert files_of(tmp_path) == before


def test_nothing_but_a_corpus_is_ever_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not empty and no soundscape corpus"):
        make_corpus(FOUR, tmp_path, workers=1, overwrite=True)
    with pytest.raises(ValueError, match="is a file"):
        make_corpus(FOUR, tmp_path / "thesis.txt", workers=1)
    make_corpus(FOUR, tmp_path / "corpus", workers=1)
    (tmp_path / "corpus" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"also holds notes\.txt"):
        make_corpus(TINY, tmp_path / "corpus", workers=1, overwrite=True)
    assert (tmp_path / "corpus" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_killed_run_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(corpus, "_write_strong", fail)
    with pytest.raises(error):
        make_corpus(FOUR, tmp_path / "corpus", workers=1)
    assert list(tmp_path.iterdir()) == []


def test_failed_overwrite_leaves_the_old_corpus(tmp_path, monkeypatch):
    make_corpus(FOUR, tmp_path / "corpus", workers=1)
    before = files_of(tmp_path)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(corpus, "_write_strong", fail)
    with pytest.raises(OSError, match="disk full"):
        make_corpus(
            dataclasses.replace(FOUR, seed=1), tmp_path / "corpus", workers=1, overwrite=True
        )
    assert files_of(tmp_path) == before


def test_corpus_that_another_process_made_meanwhile_is_kept(tmp_path, monkeypatch):
    write_corpus = corpus._write_corpus

    def write_two(config, partial_dir, workers):
        write_corpus(config, partial_dir, workers)
        write_corpus(config, tmp_path / "corpus", workers)

    monkeypatch.setattr(corpus, "_write_corpus", write_two)
    assert not make_corpus(FOUR, tmp_path / "corpus", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        make_corpus(FOUR, tmp_path, workers=0)
    with pytest.raises(ValueError, match="must be a local folder"):
        make_corpus(FOUR, "gs://bucket/corpus", workers=1)


# === Command ===


def run_command(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tfrecord_tools.soundscapes", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_makes_keeps_and_refuses(tmp_path):
    flags = [f"--out={tmp_path / 'new' / 'corpus'}", "--num_train=2", "--num_eval=1", "--workers=1"]
    flags += ["--label_noise=0.5", "--wrong_rate=0.25"]
    made = run_command(*flags)
    assert (made.returncode, made.stdout.split()[0]) == (0, "wrote"), made.stderr
    assert "synthesised 3 clips in " in made.stderr
    settings = json.loads((tmp_path / "new" / "corpus" / "soundscapes.json").read_text())[
        "settings"
    ]
    assert (settings["missing_rate"], settings["wrong_rate"]) == (0.5, 0.25)

    kept = run_command(*flags)
    assert (kept.returncode, kept.stdout.split()[0]) == (0, "kept"), kept.stderr

    refused = run_command(*flags, "--seed=1")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert "seed: 0 != 1" in refused.stderr


def test_import_defines_no_flags_and_loads_no_tensorflow():
    code = """
import sys
from absl import flags
from tfrecord_tools import soundscapes
assert "num_train" not in flags.FLAGS
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
