"""Log-mels of long recordings in blocks: equal to those of the whole, in bounded memory; files that
can't be used.
"""

import numpy as np
import pytest
import soundfile

from tfrecord_tools.audio import decoders
from tfrecord_tools.audio import streaming as long_audio
from tfrecord_tools.audio.loading import AudioError, load_audio
from tfrecord_tools.audio.streaming import LongRecording, read_ahead
from tfrecord_tools.log_mel import LogMelConfig, log_mel


def write(path, seconds, rate, channels=1, **options):
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, (round(seconds * rate), channels))
    soundfile.write(path, noise, rate, **options)
    return str(path)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (48000, 1), (8000, 3)])
def test_blocks_join_to_the_log_mel_of_the_whole(tmp_path, monkeypatch, rate, channels):
    monkeypatch.setattr(decoders, "_BLOCK_SAMPLES", 7001)
    path = write(tmp_path / "a.flac", 3.21, rate, channels)
    recording = LongRecording(path, LogMelConfig())
    blocks = list(recording)
    whole = load_audio(path, 16000)
    assert len(blocks) > 5
    np.testing.assert_allclose(
        np.concatenate(blocks), log_mel(whole.waveform, LogMelConfig()), atol=1e-4
    )
    assert recording.seconds == pytest.approx(whole.duration_seconds, abs=1e-4)
    assert recording.missing_seconds == 0


def test_a_block_is_small_whatever_the_length(tmp_path):
    path = write(tmp_path / "long.wav", 200, 16000)
    sizes = [len(block) for block in LongRecording(path, LogMelConfig())]
    assert max(sizes) <= 6600 and sum(sizes) == LogMelConfig().num_frames(200 * 16000)


def test_what_can_be_read_of_a_file_cut_short_is_used(tmp_path):
    path = tmp_path / "cut.wav"
    write(path, 4, 16000)
    path.write_bytes(path.read_bytes()[:-64000])  # two seconds of 16 bits
    recording = LongRecording(str(path), LogMelConfig())
    assert sum(map(len, recording)) in (198, 398)
    assert recording.seconds + recording.missing_seconds in (pytest.approx(2), pytest.approx(4))


def test_a_file_that_claims_more_than_it_holds(tmp_path, monkeypatch):
    class Recording:
        rate_hz, num_samples = 16000, 32000

        def blocks(self, first, last):
            yield np.zeros(16000, np.float32)

    path = write(tmp_path / "a.wav", 1, 16000)
    import contextlib

    monkeypatch.setattr(
        long_audio, "open_recording", lambda path: contextlib.nullcontext(Recording())
    )
    recording = LongRecording(path, LogMelConfig())
    list(recording)
    assert (recording.seconds, recording.missing_seconds) == (1, 1)


@pytest.mark.parametrize(
    ("content", "kind"),
    [(None, "missing"), (b"", "empty"), (b"no sound at all, but text", "unreadable")],
)
def test_files_that_are_no_sound(tmp_path, content, kind):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError) as raised:
        list(LongRecording(str(path), LogMelConfig()))
    assert raised.value.kind == kind


def test_sound_that_can_not_be_used(tmp_path):
    for name, samples, kind in (
        ("short.wav", np.zeros(399), "too_short"),
        ("nothing.wav", np.zeros(0), "empty"),
        ("nan.wav", np.full(1600, np.nan), "non_finite"),
    ):
        soundfile.write(tmp_path / name, samples, 16000, subtype="FLOAT")
        with pytest.raises(AudioError) as raised:
            list(LongRecording(str(tmp_path / name), LogMelConfig()))
        assert raised.value.kind == kind


def test_blocks_are_read_ahead_in_order_and_errors_come_where_they_arose():
    made = []

    def blocks():
        for number in range(10):
            made.append(number)
            yield np.full(1, number)
        raise AudioError("unreadable", "at the end")

    ahead, seen = read_ahead(blocks(), 3), []
    with pytest.raises(AudioError, match="at the end"):
        for block in ahead:
            seen.append(int(block[0]))
            assert len(made) <= len(seen) + 3
    assert seen == list(range(10))
    assert list(read_ahead([])) == []
