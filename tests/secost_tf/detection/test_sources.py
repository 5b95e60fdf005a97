import io
import sys
import types

import numpy as np
import pytest
import soundfile

from secost_tf.detection import sources as monitor_sources
from secost_tf.detection.sources import (
    FileSource,
    MicrophoneSource,
    PipeSource,
    in_blocks,
    in_time,
)
from tfrecord_tools.audio.loading import load_audio
from tfrecord_tools.log_mel import LogMelConfig


def sweep(rate: int, seconds: float = 2.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 + 500 * time) * time)).astype(np.float32)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_file_is_what_the_converter_reads(tmp_path, rate):
    path = str(tmp_path / "sweep.flac")
    soundfile.write(path, np.stack([sweep(rate), 0.5 * sweep(rate)], axis=1), rate)
    source = FileSource(path, LogMelConfig())
    heard = np.concatenate(list(source))
    assert source.seconds == 2.0
    expected = load_audio(path, 16000).waveform
    assert abs(len(heard) - len(expected)) <= 1
    length = min(len(heard), len(expected))
    np.testing.assert_allclose(heard[:length], expected[:length], atol=1e-4)


def test_a_file_that_is_no_sound(tmp_path):
    path = tmp_path / "text.wav"
    path.write_text("no sound")
    with pytest.raises(ValueError, match=f"{path}: "):
        list(FileSource(str(path), LogMelConfig()))


class Pipe(io.RawIOBase):
    """Gives odd pieces, as pipes may."""

    def __init__(self, data: bytes, piece: int):
        self._data, self._piece = data, piece

    def read(self, size: int = -1) -> bytes:
        data, self._data = self._data[: self._piece], self._data[self._piece :]
        return data


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_a_pipe(piece):
    values = np.array([0, 16384, -32768, 32767, 1], np.int16)
    source = PipeSource(Pipe(values.astype("<i2").tobytes(), piece), 16000, 16000)
    heard = np.concatenate(list(source))
    assert source.seconds == 5 / 16000
    np.testing.assert_array_equal(heard, values / np.float32(32768))
    assert heard.dtype == np.float32


def test_a_pipe_of_another_rate():
    data = (sweep(48000) * 32767).astype("<i2").tobytes()
    heard = np.concatenate(list(PipeSource(io.BytesIO(data), 48000, 16000)))
    assert abs(len(heard) - 32000) <= 1
    np.testing.assert_allclose(heard[100:31900], sweep(16000)[100:31900], atol=5e-3)


def test_blocks_of_one_length():
    source = iter([np.arange(5), np.arange(5, 6), np.arange(6, 17)])
    blocks = list(in_blocks(source, 4))
    assert [len(block) for block in blocks] == [4, 4, 4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(17))


def test_blocks_come_when_they_would_be_heard():
    now, pauses = [7.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    heard = []
    for _ in in_time(iter([np.zeros(10)] * 3), 10, lambda: now[0], sleep):
        heard.append(now[0])
        now[0] += (
            0.25 if len(heard) == 1 else 1.5
        )  # work; the second time it takes longer than the block
    assert heard == [8.0, 9.0, 10.5] and pauses == [1.0, 0.75]


@pytest.fixture
def sounddevice(monkeypatch):
    """A stand-in for the package: three blocks come in at once."""

    class InputStream:
        def __init__(self, rate, device, channels, dtype, callback):
            if device == "broken":
                raise ValueError("No input device matching 'broken'")
            module.opened.append((rate, device, channels, dtype))
            for level in (0.1, 0.2, 0.3):
                callback(
                    np.full((4, 1), level, np.float32),
                    4,
                    None,
                    "input overflow" if level == 0.2 else "",
                )

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            module.closed.append(True)

    module = types.ModuleType("sounddevice")
    module.InputStream, module.PortAudioError = (
        InputStream,
        type("PortAudioError", (Exception,), {}),
    )
    module.opened, module.closed = [], []
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


@pytest.mark.parametrize(("device", "number"), [(None, None), ("3", 3), ("USB", "USB")])
def test_a_microphone(sounddevice, device, number):
    source = iter(MicrophoneSource(16000, device))
    blocks = [next(source) for _ in range(3)]
    source.close()
    assert sounddevice.opened == [(16000, number, 1, "float32")] and sounddevice.closed
    np.testing.assert_allclose(np.concatenate(blocks), np.repeat([0.1, 0.2, 0.3], 4), rtol=1e-6)


def test_a_microphone_that_is_not_there(sounddevice, monkeypatch):
    with pytest.raises(
        ValueError, match=r"no microphone broken \(No input device.*python -m sounddevice lists"
    ):
        next(iter(MicrophoneSource(16000, "broken")))
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ValueError, match=r"needs the extra microphone .*secost_tf\[microphone\]"):
        next(iter(MicrophoneSource(16000)))


def test_sound_is_lost_rather_than_memory(sounddevice, monkeypatch, caplog):
    monkeypatch.setattr(monitor_sources, "_MOST_WAITING_BLOCKS", 2)
    source = iter(MicrophoneSource(16000))
    assert [next(source)[0] for _ in range(2)] == pytest.approx([0.1, 0.2])
    assert "sound is lost" in caplog.text
    source.close()
