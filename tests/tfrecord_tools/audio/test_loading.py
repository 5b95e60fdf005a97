import numpy as np
import pytest
import soundfile

from tfrecord_tools.audio.loading import AudioError, guess_file_start, load_audio


def kinds(audio) -> list[str]:
    return [kind for kind, _ in audio.warnings]


def test_mono_is_the_mean_of_the_channels(tmp_path):
    left, right = np.array([0.5, -0.5, 0.25] * 100), np.array([0.25, 0.5, -0.25] * 100)
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    audio = load_audio(path, 16000)
    assert audio.waveform.dtype == np.float32 and audio.warnings == ()
    assert audio.duration_seconds == 300 / 16000
    np.testing.assert_allclose(audio.waveform, (left + right) / 2)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44056, 44100, 48000])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.5, 1.5), (0.7123, 1.1777), (1.0, 2.0)])
def test_a_cut_equals_the_same_span_of_the_whole(tmp_path, write_noise, rate_hz, start, end):
    path = str(write_noise(tmp_path / "a.wav", 2.0, rate_hz))
    whole = load_audio(path, 16000).waveform
    assert len(whole) == 32000
    cut = load_audio(path, 16000, start, end)
    np.testing.assert_allclose(
        cut.waveform, whole[round(start * 16000) : round(end * 16000)], atol=1e-6
    )
    assert cut.warnings == ()


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff", ".ogg", ".opus", ".mp3"])
def test_formats(tmp_path, write_noise, extension):
    path = str(write_noise(tmp_path / f"a{extension}", 2.0, 48000))
    whole = load_audio(path, 16000)
    assert whole.duration_seconds == pytest.approx(2.0, abs=0.01)
    cut = load_audio(path, 16000, 0.5, 1.5).waveform
    np.testing.assert_allclose(cut, whole.waveform[8000:24000], atol=1e-4)


def test_resampling_keeps_a_tone_and_removes_what_it_can_t_hold(tmp_path):
    time = np.arange(44100) / 44100
    for hz, amplitude in ((1000, 0.5), (7000, 0.5), (12000, 0.0)):
        path = str(tmp_path / f"{hz}.wav")
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * hz * time), 44100)
        middle = load_audio(path, 16000).waveform[1600:-1600]
        assert np.sqrt(2) * middle.std() == pytest.approx(amplitude, abs=1e-3)


def test_spans_of_a_file_that_begins_later_in_the_recording(tmp_path, write_noise):
    path = str(write_noise(tmp_path / "a.wav", 1.0))
    whole = load_audio(path, 16000).waveform
    np.testing.assert_array_equal(load_audio(path, 16000, 30.0, 31.0, 30.0).waveform, whole)
    np.testing.assert_array_equal(load_audio(path, 16000, 30.0, 31.0, None).waveform, whole)
    np.testing.assert_array_equal(
        load_audio(path, 16000, 0.25, 0.5, None).waveform, whole[4000:8000]
    )


@pytest.mark.parametrize(
    ("file_seconds", "start", "end", "expected"),
    [
        (10.0, 0.0, 10.0, 0.0),
        (10.0, 30.0, 40.0, 30.0),  # the cut
        (9.97, 30.0, 40.0, 30.0),
        (10.02, 30.0, 40.0, 30.0),
        (4.0, 30.0, 40.0, 30.0),  # a cut that ends early
        (240.0, 30.0, 40.0, 0.0),  # the recording
        (40.0, 30.0, 40.0, 0.0),
        (38.5, 30.0, 40.0, 0.0),  # a recording that ends early
        (10.0, 5.0, 15.0, 5.0),  # the cut: 5 to 15 lies in no recording of 10 s
        (7.0, 5.0, None, 0.0),
    ],
)
def test_guess_file_start(file_seconds, start, end, expected):
    assert guess_file_start(file_seconds, start, end) == expected


def test_short_file_is_kept_at_its_length(tmp_path, write_noise):
    audio = load_audio(str(write_noise(tmp_path / "a.wav", 0.7)), 16000, 0.0, 1.0)
    assert audio.duration_seconds == 0.7
    assert audio.warnings == (("short", "expected 1.000 s, got 0.700 s"),)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg", ".mp3"])
def test_truncated_file_is_kept_at_its_length(tmp_path, write_noise, extension):
    path = write_noise(tmp_path / f"a{extension}", 10.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    audio = load_audio(str(path), 16000, 1.0, 9.0)
    assert 1.0 < audio.duration_seconds < 5.0
    assert kinds(audio) == ["short"]


def test_silent_and_clipped(tmp_path):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.zeros(1600), 16000)
    assert kinds(load_audio(path, 16000)) == ["silent"]
    soundfile.write(path, np.clip(2 * np.sin(np.arange(1600)), -1, 1), 16000)
    assert kinds(load_audio(path, 16000)) == ["clipped"]


def test_bad_files(tmp_path, write_noise):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("This is no sound. " * 100)
    (tmp_path / "samples.raw").write_bytes(bytes(1000))
    soundfile.write(tmp_path / "no_samples.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(1600, np.nan), 16000, subtype="FLOAT")
    write_noise(tmp_path / "short.wav", 0.5)
    for name, kind in {
        "nowhere.wav": "missing",
        "": "missing",  # a folder
        "empty.wav": "empty",
        "no_samples.wav": "empty",
        "text.wav": "unreadable",
        "samples.raw": "unreadable",
        "nan.wav": "non_finite",
    }.items():
        with pytest.raises(AudioError) as caught:
            load_audio(str(tmp_path / name), 16000)
        assert caught.value.kind == kind and str(caught.value).startswith(f"{kind}: ")
        assert str(tmp_path) not in caught.value.detail
    with pytest.raises(
        AudioError, match=r"outside: the file has 0\.500 s, the span starts at 1\.000 s"
    ):
        load_audio(str(tmp_path / "short.wav"), 16000, 1.0, 2.0)


def test_damaged_beginning_is_unreadable(tmp_path, write_noise):
    path = write_noise(tmp_path / "a.flac", 10.0)
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes(len(data) - 100))
    with pytest.raises(AudioError) as caught:
        load_audio(str(path), 16000)
    assert caught.value.kind in ("unreadable", "empty")
