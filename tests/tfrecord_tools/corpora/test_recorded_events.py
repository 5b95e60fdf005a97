import logging

import numpy as np
import pytest
import soundfile

from tfrecord_tools.audio.loading import AudioError
from tfrecord_tools.corpora import recorded_events
from tfrecord_tools.corpora.mixing import loudest_window
from tfrecord_tools.corpora.recorded_events import (
    RecordedEvents,
    cut_event,
    heard_span,
    load_sound,
    prepare_sounds,
    recorded_event,
)
from tfrecord_tools.corpora.recordings import read_sources
from tfrecord_tools.datasets.clips import Clip

RATE = 16_000


def tone(seconds: float, hertz: float = 1_000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def silence(seconds: float, level: float = 0.0) -> np.ndarray:
    return level * np.random.default_rng(0).standard_normal(round(seconds * RATE))


def test_heard_is_what_is_within_40_db_of_the_loudest_millisecond():
    sound = np.concatenate([silence(0.2), tone(0.3), silence(0.1)])
    assert heard_span(sound) == slice(195 * 16, 505 * 16)  # 5 ms around it, to fade over
    noisy = sound + silence(0.6, 0.001)  # 51 dB below the tone
    assert heard_span(noisy) == heard_span(sound)
    assert heard_span(sound + silence(0.6, 0.01)) == slice(
        0, 605 * 16
    )  # 31 dB below: all of it is heard
    assert heard_span(tone(0.3)) == slice(0, 305 * 16)  # a slice may reach beyond the end
    click = np.zeros(RATE)
    click[-1] = 1
    assert heard_span(click) == slice(994 * 16, 1005 * 16)


def test_quiet_stretches_within_a_sound_are_kept():
    sound = np.concatenate([tone(0.1), silence(0.5), tone(0.1), silence(0.5)])
    assert heard_span(sound) == slice(0, 705 * 16)


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_recording_is_decoded_trimmed_and_scaled(tmp_path, name, rate_hz):
    seconds = np.arange(rate_hz) / rate_hz
    channel = 0.2 * np.sin(2 * np.pi * 1_000 * seconds) * (seconds >= 0.25) * (seconds < 0.75)
    soundfile.write(tmp_path / name, np.stack([channel, 0.5 * channel], axis=1), rate_hz)
    sound = load_sound(Clip("x", str(tmp_path / name)), 2.0)
    assert sound.dtype == np.float32 and np.abs(sound).max() == 1
    assert len(sound) / RATE == pytest.approx(0.51, abs=0.04 if name == "x.ogg" else 0.002)
    spectrum = np.abs(np.fft.rfft(sound[:8_000]))
    assert np.argmax(spectrum) * RATE / 8_000 == 1_000


def test_a_span_of_a_recording(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.concatenate([tone(1, 500), tone(1, 2_000)]), RATE)
    sound = load_sound(Clip("x", str(tmp_path / "x.wav"), 1.2, 1.7), 2.0)
    assert len(sound) == 0.5 * RATE
    assert np.argmax(np.abs(np.fft.rfft(sound))) * 2 == 2_000


def test_of_a_long_recording_the_surroundings_of_its_loudest_moment_are_kept(tmp_path):
    loud = tone(6)
    loud[3 * RATE : 3 * RATE + 2_000] *= 1.9
    soundfile.write(tmp_path / "x.wav", loud, RATE)
    sound = load_sound(Clip("x", str(tmp_path / "x.wav")), 1.0)
    assert len(sound) == 2 * RATE + 2_000
    assert abs(loudest_window(sound.astype(float))[0].start - RATE) <= 1


def test_useless_recordings(tmp_path):
    def error_of(name, samples):
        soundfile.write(tmp_path / name, samples, RATE)
        with pytest.raises(AudioError) as raised:
            load_sound(Clip("x", str(tmp_path / name)), 1.0)
        return raised.value

    assert error_of("silent.wav", np.zeros(RATE)).kind == "silent"
    assert error_of("faint.wav", silence(1, 1e-5)).kind == "silent"
    short = error_of("click.wav", np.concatenate([silence(0.1), tone(0.004), silence(0.1)]))
    assert short.kind == "too_short" and short.detail == "0.0140 s of sound, less than 20 ms"
    with pytest.raises(AudioError, match="missing: no file y"):
        load_sound(Clip("y", None, missing="no file y"), 1.0)


# === Cutting ===


def test_a_sound_that_fits_is_an_event_whole():
    sound = np.concatenate([silence(0.005), tone(0.4), silence(0.005)])
    event = cut_event(np.random.default_rng(0), sound, RATE)
    assert len(event) == len(sound)
    assert np.array_equal(event[80:-80], sound[80:-80])  # it fades where nothing is heard
    odd = cut_event(np.random.default_rng(0), tone(0.4)[:6_395], RATE)
    assert len(odd) == 6_400 and not odd[6_395:].any()


def test_parts_are_of_many_lengths_and_all_hold_the_loudest_moment():
    sound = np.ones(4 * RATE) * 0.1
    sound[RATE : RATE + 2_000] = 1
    lengths, onsets = [], []
    for seed in range(200):
        event = cut_event(np.random.default_rng(seed), sound, 2 * RATE)
        loud = np.flatnonzero(event > 0.5)
        assert len(event) % 16 == 0
        assert len(loud) >= 2_000 - 80  # less what may fade
        lengths.append(len(event))
        onsets.append(loud[0])
        assert event[0] == 0 and np.abs(event[-16:]).min() < 0.01  # both ends fade
    assert RATE <= min(lengths) < 1.1 * RATE and 1.9 * RATE < max(lengths) <= 2 * RATE
    assert min(onsets) < 0.1 * RATE and max(onsets) > 0.85 * RATE


def test_no_part_is_the_silence_between_two_sounds():
    sound = np.concatenate([tone(0.2), silence(3, 1e-4), 0.9 * tone(0.2)])
    for seed in range(50):
        event = cut_event(np.random.default_rng(seed), sound, RATE)
        assert 130 * 16 <= len(event) <= 205 * 16  # the part is trimmed again
        assert loudest_window(event)[1] == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("seconds", [0.2, float("nan"), 4_000])
def test_bad_lengths_are_refused(seconds):
    with pytest.raises(ValueError, match=r"max_event_seconds: expected 0\.3 to 3600 seconds, got"):
        RecordedEvents(None, seconds)


# === All recordings ===


@pytest.fixture
def collection(tmp_path):
    """Four recordings a class, the pitch of each its own; the last of each class is for eval."""
    rows = ["path,labels,split"]
    for label, first in (("a", 400), ("b", 2_000)):
        for number in range(4):
            name = f"{label}{number}.wav"
            soundfile.write(tmp_path / name, tone(0.4, first + 200 * number), RATE)
            rows.append(f"{name},{label},{'eval' if number == 3 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "sounds").mkdir()
    return tmp_path


def prepare(collection, workers=1):
    events = RecordedEvents(read_sources(str(collection / "labels.csv")), 1.0)
    return prepare_sounds(events, collection / "sounds", workers)


def test_events_are_drawn_from_all_recordings_of_their_class_and_split(collection):
    sounds, skipped = prepare(collection)
    assert not skipped
    rng, heard = np.random.default_rng(0), {}
    for split in ("train", "eval"):
        for label in (0, 1):
            events = [recorded_event(sounds, 1.0, rng, split, label, 1_000) for _ in range(30)]
            pitches = {
                round(np.argmax(np.abs(np.fft.rfft(e[:6_400]))) * 2.5 / 100) * 100 for e in events
            }
            heard[split, label] = sorted(pitches)
    assert heard == {
        ("train", 0): [400, 600, 800],
        ("train", 1): [2_000, 2_200, 2_400],
        ("eval", 0): [1_000],
        ("eval", 1): [2_600],
    }


def test_bad_recordings_are_skipped_counted_and_named(collection, caplog):
    (collection / "a0.wav").write_bytes(b"RIFF no sound")
    (collection / "b2.wav").unlink()
    with caplog.at_level(logging.WARNING):
        sounds, skipped = prepare(collection)
    assert [(p.id, p.kind) for p in skipped] == [("a0", "unreadable"), ("b2", "missing")]
    assert "2 of 8 recordings are skipped: a0 (unreadable: " in caplog.text
    assert "b2 (missing: no file " in caplog.text
    assert [len(paths) for paths in sounds["train"]] == [2, 2]


def test_a_class_without_any_that_is_good_is_an_error(collection):
    (collection / "b3.wav").write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=r"source: none of the 1 recordings of 'b' for eval can be used, such as b3 \(empty: ",
    ):
        prepare(collection)


def test_an_error_that_nobody_foresaw_is_of_one_recording_alone(collection, monkeypatch):
    def load(clip, max_event_seconds):
        if clip.id == "a1":
            raise MemoryError("no room")
        return load_sound(clip, max_event_seconds)

    monkeypatch.setattr(recorded_events, "load_sound", load)
    _, [problem] = prepare(collection)
    assert (problem.id, problem.kind, problem.detail) == (
        "a1",
        "unexpected",
        "MemoryError: no room",
    )


def test_recordings_are_decoded_the_same_in_several_processes(collection, tmp_path):
    sounds, _ = prepare(collection)
    before = [np.load(path) for paths in sounds["train"] for path in paths]
    others, _ = prepare(collection, workers=2)
    assert sounds == others
    after = [np.load(path) for paths in others["train"] for path in paths]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
