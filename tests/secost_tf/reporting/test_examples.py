import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from secost_tf.reporting import examples
from secost_tf.reporting import examples as report_audio
from secost_tf.reporting.examples import clip_sounds, encode_flac
from tfrecord_tools.shards.records import ClipRecord


def record(video_id: str, start: float = 0.0, end: float = 1.0) -> ClipRecord:
    return ClipRecord(video_id, np.zeros((1, 1), np.float32), (), start, end)


def write_level(path: Path, *levels: float, rate_hz: int = 16000) -> None:
    """A file of one second at each level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(levels, rate_hz), rate_hz)


def levels(sound: bytes) -> list[float]:
    """The level in the middle of each second."""
    samples, rate_hz = soundfile.read(io.BytesIO(sound))
    assert rate_hz == 16000 and samples.ndim == 1
    return np.round(samples[8000::16000], 3).tolist()


def test_sounds_are_found_by_id_as_the_converter_finds_them(tmp_path):
    write_level(tmp_path / "a" / "whole.wav", 0.1, 0.2, 0.3)
    write_level(tmp_path / "b" / "Yspan.flac", 0.4)
    write_level(tmp_path / "timed_30000.wav", 0.5)
    write_level(tmp_path / "cut.wav", 0.6)
    write_level(tmp_path / "one" / "same.wav", 0.7)
    write_level(tmp_path / "two" / "same.wav", 0.8)
    clips = [
        record("whole", 1, 3),  # of a file that holds the whole recording
        record("span"),  # a name that begins with Y
        record("timed", 30, 31),  # a name with the segment's start
        record(
            "cut_30000", 30, 31
        ),  # one of several segments of a recording; the file holds it alone
        record("two/same"),  # a manifest's id, which is a path
        record("lost"),
    ]
    sounds = clip_sounds(str(tmp_path), clips)
    assert {clip_id: levels(sound) for clip_id, sound in sounds.items()} == {
        "whole": [0.2, 0.3],
        "span": [0.4],
        "timed": [0.5],
        "cut_30000": [0.6],
        "two/same": [0.8],
    }


def test_a_sound_is_resampled_and_cut_to_the_most_seconds(tmp_path):
    write_level(tmp_path / "long.wav", *[0.25] * 14, rate_hz=8000)
    (sound,) = clip_sounds(str(tmp_path), [record("long", 0, 14)]).values()
    assert soundfile.info(io.BytesIO(sound)).duration == examples.MOST_SECONDS
    assert soundfile.info(io.BytesIO(sound)).samplerate == 16000


def test_what_is_too_much_or_cannot_be_read_is_left_out(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", generator.uniform(-1, 1, 16000), 16000)
    (tmp_path / "text.wav").write_text("no sound")
    clips = [record(name) for name in ("text", "a", "b", "c")]
    assert list(clip_sounds(str(tmp_path), clips)) == ["a", "b", "c"]
    monkeypatch.setattr(report_audio, "MOST_BYTES", 70_000)  # a second of noise takes 32 kB
    assert list(clip_sounds(str(tmp_path), clips)) == ["a", "b"]


def test_flac_keeps_the_samples_to_16_bits_and_clips_what_is_too_loud():
    waveform = np.array([0.0, 0.5, -0.25, 1.5, -2.0], np.float32)
    samples, _ = soundfile.read(io.BytesIO(encode_flac(waveform)))
    np.testing.assert_allclose(samples, [0, 0.5, -0.25, 1, -1], atol=2**-15)


@pytest.mark.parametrize("folder", ["gs://bucket/audio", "missing"])
def test_a_folder_that_is_none_is_said(folder):
    with pytest.raises(
        ValueError, match=f"audio_dir: expected a local folder of recordings, got '{folder}'"
    ):
        clip_sounds(folder, [])
