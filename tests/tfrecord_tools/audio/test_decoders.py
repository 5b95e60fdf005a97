import os
from itertools import islice

import numpy as np
import pytest
import soundfile

from tfrecord_tools.audio.decoders import (
    AV_EXTENSIONS,
    EXTENSIONS,
    SOUNDFILE_EXTENSIONS,
    DecodingError,
    open_recording,
)
from tfrecord_tools.audio.loading import load_audio

av = pytest.importorskip("av")
CONTAINERS = (".m4a", ".mp4", ".mkv", ".aac", ".webm", ".mov")


def read_all(path: str, first: int = 0) -> np.ndarray:
    with open_recording(path) as recording:
        return np.concatenate(list(recording.blocks(first, recording.num_samples)))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_wav_of_every_kind(tmp_path, subtype, container, sweep):
    path = str(tmp_path / "a.wav")
    samples = sweep(0.5, 22050)[0]
    soundfile.write(
        path, np.stack([samples, -0.5 * samples], axis=1), 22050, subtype, format=container
    )
    np.testing.assert_allclose(
        read_all(path), samples / 4, atol=0.01 if subtype == "PCM_U8" else 1e-4
    )


@pytest.mark.parametrize("rate_hz", [44100, 48000])
@pytest.mark.parametrize("extension", CONTAINERS)
def test_av_formats(tmp_path, extension, rate_hz, encode, sweep):
    if extension == ".webm" and rate_hz != 48000:
        pytest.skip("Opus is at 48 kHz")
    path = encode(tmp_path / f"a{extension}", sweep(2.0, rate_hz), rate_hz)
    audio = load_audio(path, 16000)
    assert audio.warnings == ()
    expected = sweep(2.0, 16000)[0]
    got = audio.waveform
    assert abs(len(got) - 32000) <= 16000 * 0.05
    if extension == ".aac":  # does not say how many of its first samples the encoder added
        return
    inner = slice(1600, 30000)
    errors = {
        shift: np.abs(np.roll(got, shift)[inner] - expected[inner]).max() for shift in (-1, 0, 1)
    }
    assert errors[0] < 0.03 and errors[0] < min(errors[-1], errors[1])  # in place to the sample


@pytest.mark.parametrize("extension", CONTAINERS)
def test_a_span_equals_the_same_span_of_the_whole(tmp_path, extension, encode, sweep):
    path = encode(tmp_path / f"a{extension}", sweep(6.0, 48000), 48000)
    whole = load_audio(path, 16000).waveform
    for start, end in ((0.0, 1.0), (0.7123, 1.1777), (2.0, 3.0), (3.3333, 5.0)):
        cut = load_audio(path, 16000, start, end).waveform
        np.testing.assert_allclose(cut, whole[round(start * 16000) : round(end * 16000)], atol=1e-3)


@pytest.mark.parametrize("extension", [".m4a", ".webm", ".flac", ".wav"])
def test_a_span_is_reached_by_seeking(tmp_path, extension, encode, sweep):
    path = tmp_path / f"a{extension}"
    samples = sweep(30.0, 48000)
    if extension in CONTAINERS:
        encode(path, samples, 48000)
    else:
        soundfile.write(path, samples[0], 48000)
    with open_recording(str(path)) as recording:
        bytes_before = bytes_read()
        blocks = list(islice(recording.blocks(25 * 48000, 25 * 48000 + 1000), 3))
        assert bytes_read() - bytes_before < max(path.stat().st_size / 4, 200_000)
    got = np.concatenate(blocks)[:500]
    np.testing.assert_allclose(got, samples[0][1_200_000:1_200_500], atol=0.05)


def bytes_read() -> int:
    """Return the bytes that this process has read so far; 0 where the system does not tell."""
    if not os.path.exists("/proc/self/io"):
        return 0
    with open("/proc/self/io") as stream:
        return int(stream.readline().split()[1])


def test_channels_are_averaged(tmp_path, encode, sweep):
    rate = 48000
    tone = sweep(1.0, rate)
    silent = np.zeros_like(tone)
    stereo = read_all(encode(tmp_path / "a.mov", np.concatenate([tone, silent]), rate))
    np.testing.assert_allclose(stereo, tone[0] / 2, atol=1e-4)
    surround = read_all(encode(tmp_path / "b.mov", np.concatenate([tone] * 3 + [silent] * 3), rate))
    np.testing.assert_allclose(surround, tone[0] / 2, atol=1e-4)


def test_content_goes_before_the_extension(tmp_path, encode, sweep):
    path = encode(tmp_path / "a.m4a", sweep(1.0, 44100), 44100)
    os.rename(path, tmp_path / "a.wav")
    assert load_audio(str(tmp_path / "a.wav"), 16000).duration_seconds == pytest.approx(
        1.0, abs=0.03
    )
    soundfile.write(tmp_path / "b.wav", sweep(1.0, 44100)[0], 44100)
    os.rename(tmp_path / "b.wav", tmp_path / "b.m4a")
    assert load_audio(str(tmp_path / "b.m4a"), 16000).duration_seconds == pytest.approx(
        1.0, abs=0.03
    )


@pytest.mark.parametrize("extension", [".wav", ".m4a"])
def test_a_file_name_that_is_no_text(tmp_path, extension, encode, sweep):
    path = tmp_path / f"a{extension}"
    if extension == ".wav":
        soundfile.write(path, sweep(0.5, 22050)[0], 22050)
    else:
        encode(path, sweep(0.5, 22050), 22050)
    expected = read_all(str(path))
    renamed = os.path.join(os.fsencode(tmp_path), b"\xff" + extension.encode())
    os.rename(path, renamed)
    np.testing.assert_array_equal(read_all(os.fsdecode(renamed)), expected)


def test_length_is_counted_where_the_file_does_not_say_it(tmp_path, encode, sweep):
    path = tmp_path / "a.webm"
    encode(path, sweep(3.0, 48000), 48000)
    data = bytearray(path.read_bytes())
    place = data.index(b"\x44\x89")  # the element Duration, made one that readers skip (Void)
    size = 2 + 1 + (data[place + 2] & 0x7F)
    data[place : place + size] = b"\xec" + bytes([0x80 | (size - 2)]) + bytes(size - 2)
    path.write_bytes(data)
    assert av.open(str(path)).duration is None
    audio = load_audio(str(path), 16000)
    assert audio.duration_seconds == pytest.approx(3.0, abs=0.03) and audio.warnings == ()


@pytest.mark.parametrize("extension", [".m4a", ".webm"])
def test_truncated_file_is_kept_at_its_length(tmp_path, extension, encode, sweep):
    path = tmp_path / f"a{extension}"
    encode(path, sweep(10.0, 48000), 48000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    audio = load_audio(str(path), 16000)
    assert 2.0 < audio.duration_seconds < 8.0
    assert [kind for kind, _ in audio.warnings] == ["short"]


def test_what_is_no_sound(tmp_path):
    for name, data in {
        "text.m4a": b"This is no sound. " * 100,
        "list.m4a": b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.aac\n",
        "head.mp4": b"\0\0\0\x18ftypmp42" + bytes(100),
        "zip.webm": b"PK\3\4" + bytes(1000),
        "text.wav": b"This is no sound. " * 100,
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DecodingError) as caught, open_recording(str(tmp_path / name)):
            pass
        assert str(tmp_path) not in str(caught.value) and str(caught.value)


def test_video_without_sound(tmp_path, encode):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    with (
        pytest.raises(DecodingError, match="no sound in it"),
        open_recording(str(tmp_path / "a.mp4")),
    ):
        pass


def test_absurd_sample_rate_is_a_damaged_header(tmp_path, sweep):
    path = tmp_path / "a.wav"
    soundfile.write(path, sweep(0.5, 16000)[0], 16000)
    data = bytearray(path.read_bytes())
    data[24:28] = (1).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DecodingError, match="a sample rate of 1 Hz"), open_recording(str(path)):
        pass


def test_extensions():
    assert len(set(EXTENSIONS)) == len(SOUNDFILE_EXTENSIONS) + len(AV_EXTENSIONS)
    assert all(extension == extension.lower() and extension[0] == "." for extension in EXTENSIONS)
