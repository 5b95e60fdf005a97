"""The command on recordings that people have: several formats, folders, silence, bad files among
good ones.
"""

import csv
import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from secost_tf import localize
from secost_tf.detection import localization
from secost_tf.detection.detector import Detector
from secost_tf.detection.events import PostProcessing
from secost_tf.detection.localization import find_recordings, localize_recordings
from secost_tf.models.segments import segment_spans
from tfrecord_tools.log_mel import LogMelConfig

RATE = 16000


def write(path, seconds=3.0, rate=RATE, level=0.1, channels=1) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, level, (round(seconds * rate), channels))
    soundfile.write(path, np.clip(noise, -1, 1), rate)
    return str(path)


def read(path, delimiter="\t") -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


@pytest.fixture
def loud(kept_run) -> Detector:
    """The class Bark scores 1 where a segment's window is loud on the whole, and Bell where it is
    not.
    """
    found = Detector.from_run(kept_run, 0)

    def every_frame(frames):
        padded = np.pad(frames.mean(axis=1), (0, 96), mode="edge")
        count = 32 * found.config.num_segments(len(frames))
        level = np.array([padded[first : first + 96].mean() for first in range(count)])
        scores = np.zeros((count, 4), np.float32)
        scores[:, 0], scores[:, 1] = level > -6, level <= -6
        return scores

    def clip_network(frames):
        scores = every_frame(frames)[::32]
        return scores.mean(axis=0), scores

    return dataclasses.replace(found, clip_network=clip_network, every_frame=every_frame)


def test_a_recording_s_files(kept_run, tmp_path, command):
    path = write(tmp_path / "one.flac", 4.0, 44100, channels=2)
    out = tmp_path / "out"
    status, printed, stderr = command(
        localize, f"--run_dir={kept_run}", f"--out={out}", "--threshold=0", "--hop_scale=2", path
    )
    assert status == 0, stderr
    assert printed == f"1 recording localized into {out}: events.tsv lists the events\n"
    names = {"events.tsv", "one.audacity.txt", "one.png", "one.raven.txt", "one.scores.tsv"}
    assert {file.name for file in out.iterdir()} == names
    scores = read(out / "one.scores.tsv")
    assert list(scores[0]) == ["onset", "offset", "Bark", "Bell", "Rain", "Siren"]
    config = Detector.from_run(kept_run, 2).config
    spans = segment_spans(config, LogMelConfig(mel_bins=32), 398, 2, 4.0)
    table = np.array([[float(row["onset"]), float(row["offset"])] for row in scores])
    np.testing.assert_allclose(table, spans, atol=1e-6)
    events = read(out / "events.tsv")
    assert {event["filename"] for event in events} == {"one.flac"}
    assert len((out / "one.audacity.txt").read_text().splitlines()) == len(events)
    assert len((out / "one.raven.txt").read_text().splitlines()) == len(events) + 1
    best = max(float(row["Bark"]) for row in scores)
    assert max(float(e["score"]) for e in events if e["event_label"] == "Bark") == pytest.approx(
        best
    )


def test_a_burst_is_found_when_it_sounds_and_moves_with_the_sound(loud, tmp_path):
    onsets = []
    for shift in (0.0, 0.5):
        sound = np.random.default_rng(0).normal(0, 1e-4, 10 * RATE)
        first = round((4.0 + shift) * RATE)
        sound[first : first + 2 * RATE] += np.random.default_rng(1).normal(0, 0.1, 2 * RATE)
        soundfile.write(tmp_path / "a.wav", sound, RATE)
        found = localization.find_events(
            str(tmp_path / "a.wav"), loud, np.full(4, 0.5), PostProcessing(hop_scale=4)
        )
        (bark,) = (event for event in found.events if event.class_index == 0)
        onsets.append(bark.onset)
        # A window of 0.96 s counts as loud when half of it is, or less, the scale being
        # logarithmic.
        assert abs((bark.onset + bark.offset) / 2 - (5.0 + shift)) < 0.08
        assert found.seconds == 10.0 and found.spans[-1, 1] == 10.0
    assert abs(onsets[1] - onsets[0] - 0.5) <= 0.08 + 1e-9


@pytest.fixture
def moved(kept_run, tmp_path):
    """The events of a sound, of several classes, and those of the same sound some frames later,
    moved back.
    """
    detector, rng = Detector.from_run(kept_run, 0), np.random.default_rng(0)
    sound = rng.normal(0, 10 ** np.repeat(rng.uniform(-4, -1, 40), RATE // 2))

    def localized(waveform, thresholds, config):
        soundfile.write(tmp_path / "a.wav", np.clip(waveform, -1, 1), RATE)
        return localization.find_events(str(tmp_path / "a.wav"), detector, thresholds, config)

    def found(frames, config):
        thresholds = np.median(localized(sound, np.ones(4), config).scores, axis=0)
        later = np.concatenate([rng.normal(0, 0.1, frames * RATE // 100), sound])
        events = localized(later, thresholds, config).events
        moved = ((e.class_index, e.onset - frames / 100, e.offset - frames / 100) for e in events)
        # Away from both ends, where there is other sound.
        return np.array(sorted(one for one in moved if one[1] > 2 and one[2] < 18))

    return found


def test_at_the_finest_hop_events_move_as_the_sound_does_by_any_number_of_frames(moved):
    config = PostProcessing(hop_scale=32)
    events = moved(0, config)
    assert len(events) > 10
    for frames in (1, 13):
        np.testing.assert_allclose(moved(frames, config), events, rtol=0, atol=1e-6)


def test_at_a_coarser_hop_events_move_within_a_hop(moved):
    config = PostProcessing(hop_scale=4, median_filter_seconds=0.5, hysteresis=0.4)
    events = moved(0, config)
    assert len(events) > 10
    apart = [
        np.abs(moved(frames, config)[:, None] - events).max(axis=2).min(axis=0)
        for frames in (1, 2, 4, 7)
    ]
    # The others barely reach a threshold, and part or join between two scores.
    assert np.mean(np.concatenate(apart) <= 0.08 + 1e-6) > 0.9


def test_bad_files_among_good_ones_are_listed_at_the_end(kept_run, tmp_path, command):
    folder = tmp_path / "in"
    write(folder / "good.wav")
    write(folder / "silence.wav", level=0)
    write(folder / "brief.wav", 0.3)
    write(folder / "tiny.wav", 0.01)
    write(folder / "deep" / "good.ogg", rate=44100)
    (folder / "noise.mp3").write_bytes(b"this is no sound at all")
    (folder / "empty.flac").touch()
    (folder / "notes.txt").write_text("not looked at")
    out = tmp_path / "out"
    status, printed, stderr = command(
        localize,
        f"--run_dir={kept_run}",
        f"--out={out}",
        "--nopictures",
        folder,
        tmp_path / "gone.wav",
    )
    assert status == 1 and "Traceback" not in stderr
    assert printed.startswith(f"4 recordings localized into {out}")
    *_, heading, one, two, three, four = stderr.splitlines()
    assert heading == "error: 4 of 8 recordings could not be used:"
    assert one == f"    {folder / 'empty.flac'}: empty: the file has no bytes"
    assert two.startswith(f"    {folder / 'noise.mp3'}: unreadable: ")
    assert three.startswith(
        f"    {folder / 'tiny.wav'}: too_short: expected at least 0.025 s of sound, got 0.010"
    )
    assert four == f"    {tmp_path / 'gone.wav'}: missing: no such file"
    assert (out / "deep" / "good.scores.tsv").exists() and not (out / "tiny.scores.tsv").exists()
    assert len(read(out / "brief.scores.tsv")) == 1
    files = [row["filename"] for row in read(out / "events.tsv")]
    assert list(dict.fromkeys(files)) == ["brief.wav", "deep/good.ogg", "good.wav", "silence.wav"]


def test_classes_are_chosen_and_near_names_suggested(kept_run, tmp_path, command):
    arguments = (f"--run_dir={kept_run}", f"--out={tmp_path / 'out'}", write(tmp_path / "a.wav"))
    status, _, stderr = command(
        localize, *arguments, "--classes=Rain,/m/a", "--threshold=0.01", "--nopictures"
    )
    assert status == 0, stderr
    assert list(read(tmp_path / "out" / "a.scores.tsv")[0])[2:] == ["Rain", "Bark"]
    assert {row["event_label"] for row in read(tmp_path / "out" / "events.tsv")} <= {"Rain", "Bark"}
    status, _, stderr = command(localize, *arguments, "--classes=Sirene")
    assert status == 1 and "unknown class 'Sirene'; did you mean 'Siren'" in stderr


def test_thresholds_fixed_listed_and_tuned(kept_run, tmp_path, command):
    run = shutil.copytree(kept_run, tmp_path / "run")
    (tmp_path / "t.csv").write_text("display_name,threshold\nBark,1\n")
    path = write(tmp_path / "a.wav")
    out = tmp_path / "out"
    arguments = (f"--run_dir={run}", "--stage=1", f"--out={out}", "--nopictures", path)
    assert (
        command(localize, *arguments, "--threshold=0", f"--thresholds_csv={tmp_path / 't.csv'}")[0]
        == 0
    )
    assert {row["event_label"] for row in read(out / "events.tsv")} == {"Bell", "Rain", "Siren"}
    assert command(localize, *arguments, "--threshold=tuned")[0] == 0
    assert (run / "stage-1" / "thresholds.csv").exists()
    for flag, message in (
        ("--threshold=high", "--threshold: threshold: expected a number in [0, 1], got 'high'"),
        ("--threshold=2", "got '2'"),
        ("--hop_scale=3", "hop_scale: expected a divisor of the 32 frames"),
    ):
        status, _, stderr = command(localize, *arguments, flag)
        assert status == 1 and message in stderr


def test_what_is_asked_for_wrongly_is_said(kept_run, tmp_path, command):
    (tmp_path / "nothing").mkdir()
    for arguments, message in (
        (
            [f"--out={tmp_path}"],
            "expected recordings, or folders of them, after the flags; got none",
        ),
        (["a.wav"], "out: expected a folder for the results, such as --out=events"),
        (
            [f"--out={tmp_path}", tmp_path / "nothing"],
            "nothing: no recording in this folder (.wav, ",
        ),
        (
            [f"--out={tmp_path}", f"--saved_model={tmp_path}", "a.wav"],
            "expected a folder with saved_model.pb",
        ),
    ):
        status, printed, stderr = command(localize, *arguments)
        assert (status, printed) == (1, "") and message in stderr and "Traceback" not in stderr


def test_names_of_results(tmp_path):
    for name in ("a.wav", "a.flac", "b.wav", "x/b.WAV", "out/c.wav"):
        write(tmp_path / name, 0.1)
    found = find_recordings([str(tmp_path)], str(tmp_path / "out"))
    assert [Path(one.path).relative_to(tmp_path).as_posix() for one in found] == [
        one.filename for one in found
    ]
    names = {one.filename: one.name for one in found}
    assert names == {"a.flac": "a.flac", "a.wav": "a.wav", "b.wav": "b", "x/b.WAV": "x/b"}


def test_names_that_would_be_alike(tmp_path, monkeypatch):
    files = [write(tmp_path / name, 0.1) for name in ("a.wav", "a.wav.wav", "x/a.wav", "y/a.flac")]

    def names(*paths):
        return {one.filename: one.name for one in find_recordings(paths, "out")}

    assert names(*files[:2]) == {"a.wav": "a", "a.wav.wav": "a.wav.wav"}
    assert names(files[0], files[2]) == {"a.wav": "a", "x/a.wav": "x/a"}
    assert names(*files[2:]) == {"a.wav": "a.wav", "a.flac": "a.flac"}
    assert names(str(tmp_path / "x"), files[3], files[0]) == {
        "x/a.wav": "x/a",
        "y/a.flac": "y/a",
        "a.wav": "a",
    }
    monkeypatch.chdir(tmp_path)
    assert names("a.wav", files[0], "./x/../a.wav") == {"a.wav": "a"}


def test_a_file_name_that_is_no_text(loud, tmp_path):
    write(tmp_path / "in" / "a.wav", 0.5)
    shutil.copy(tmp_path / "in" / "a.wav", os.fsencode(tmp_path / "in") + b"/\xff.wav")
    results = localize_recordings([str(tmp_path / "in")], loud, str(tmp_path / "out"), top=2)
    assert results.failures == {} and list(results.events) == ["a.wav", "\\xff.wav"]
    assert {row["filename"] for row in read(tmp_path / "out" / "events.tsv")} == {
        "a.wav",
        "\\xff.wav",
    }


def test_events_as_a_library_gives_them(loud, tmp_path):
    path, out = write(tmp_path / "a.wav", 2.0), str(tmp_path / "out")
    (event,) = localize_recordings([path], loud, out, pictures=False).events["a.wav"]
    assert event == (0, 0.0, 2.0, 1.0)
    results = localize_recordings([path], loud, out, classes=["Bell"], pictures=False)
    assert results.events == {"a.wav": []}
    thresholds = np.array([1.0, 0.0, 0.5, 0.5])
    results = localize_recordings([path], loud, out, thresholds=thresholds, pictures=False)
    assert results.events == {"a.wav": [event, (1, 0.0, 2.0, 0.0)]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresholds": 1.5}, r"thresholds: expected a number in \[0, 1\], or one for each of 4"),
        ({"thresholds": np.zeros(3)}, r"got \[0. 0. 0.\]"),
        ({"classes": ["Sirene"]}, "unknown class 'Sirene'; did you mean 'Siren'"),
        (
            {"post_processing": PostProcessing(hop_scale=3)},
            "hop_scale: expected a divisor of the 32",
        ),
        ({"paths": []}, "paths: expected recordings, or folders of them; got none"),
    ],
)
def test_what_a_library_is_asked_for_wrongly(loud, tmp_path, options, message):
    paths = options.pop("paths", [write(tmp_path / "a.wav")])
    with pytest.raises(ValueError, match=message):
        localize_recordings(paths, loud, str(tmp_path / "out"), **options)


def test_whatever_is_wrong_with_one_stops_no_other(loud, tmp_path):
    paths = [write(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav")]
    out = tmp_path / "out"
    (out / "a.scores.tsv" / "full").mkdir(parents=True)  # a folder where a file should go
    remaining = iter([lambda frames: 1 / 0])

    def clip_network(frames):
        return next(remaining, loud.clip_network)(frames)

    broken = dataclasses.replace(loud, clip_network=clip_network)
    failures = localize_recordings(paths[1:], broken, str(out), pictures=False).failures
    assert failures == {paths[1]: "ZeroDivisionError: division by zero"}
    assert {row["filename"] for row in read(out / "events.tsv")} == {"c.wav"}
    failures = localize_recordings(paths[:2], loud, str(out), pictures=False).failures
    assert list(failures) == paths[:1] and "directory" in failures[paths[0]]
    assert {row["filename"] for row in read(out / "events.tsv")} == {"b.wav"}
    assert (out / "b.scores.tsv").exists()


@pytest.mark.slow
def test_a_thousand_files(loud, tmp_path):
    path = write(tmp_path / "a.wav", 0.2)
    (tmp_path / "in").mkdir()
    for number in range(1000):
        (tmp_path / "in" / f"{number:04}.wav").symlink_to(path)
    out = str(tmp_path / "out")
    results = localize_recordings([str(tmp_path / "in")], loud, out, pictures=False)
    assert not results.failures and len(read(tmp_path / "out" / "events.tsv")) == 1000
