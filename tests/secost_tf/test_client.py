"""The command against the stand-in for TensorFlow Serving, over REST and gRPC."""

import json

import numpy as np
import pytest

from secost_tf import client
from secost_tf.serving.waveforms import encode_wav
from tfrecord_tools.audio import loading

RATE = 16000


@pytest.fixture(params=["rest", "grpc"])
def address(request, kept_server) -> str:
    pytest.importorskip("requests", reason="the extra `serving` is not installed")
    port = getattr(kept_server, request.param)
    if not port:
        pytest.skip("the extra `serving` is not installed")
    return f"{'grpc' if request.param == 'grpc' else 'http'}://127.0.0.1:{port}"


@pytest.fixture
def recordings(tmp_path) -> tuple[list[str], list[np.ndarray]]:
    """Two wav files, one at another rate, and what they hold at 16 kHz."""
    sounds = [
        np.sin(2 * np.pi * 500 * np.arange(seconds * rate) / rate) * 0.5
        for seconds, rate in ((1, RATE), (2, 8000))
    ]
    paths = [tmp_path / "one.wav", tmp_path / "two.wav"]
    for path, sound, rate in zip(paths, sounds, (RATE, 8000), strict=True):
        path.write_bytes(encode_wav(sound, rate))
    return [str(path) for path in paths], [
        loading.load_audio(str(path), RATE).waveform for path in paths
    ]


def test_the_best_classes(address, recordings, kept_servable, command):
    files, waveforms = recordings
    status, printed, stderr = command(client, f"--server={address}", "--top=2", *files)
    assert status == 0, stderr
    expected = []
    for file, seconds, waveform in zip(files, ("1.0", "2.0"), waveforms, strict=True):
        answer = kept_servable.run("top_k", {"waveform": waveform[None]})
        pairs = list(zip(answer["scores"][0], answer["labels"][0], strict=True))[:2]
        expected += [
            f"{file} ({seconds} s)",
            *(f"  {score:6.3f}  {label.decode()}" for score, label in pairs),
        ]
    assert printed.splitlines() == expected


@pytest.mark.parametrize("signature", ["wav_bytes", "serving_default"])
def test_all_that_was_answered_as_json(address, recordings, kept_servable, signature, command):
    files, waveforms = recordings
    status, printed, stderr = command(
        client, f"--server={address}", "--json", f"--signature={signature}", *files
    )
    assert status == 0, stderr
    for line, file, waveform in zip(printed.splitlines(), files, waveforms, strict=True):
        answer = json.loads(line)
        assert (answer["file"], answer["seconds"]) == (file, len(waveform) / RATE)
        expected = kept_servable.run("serving_default", {"waveform": waveform[None]})
        for name in ("scores", "segment_scores", "segment_onsets"):
            np.testing.assert_allclose(answer[name], expected[name][0], atol=2e-3)  # 16 bits


def test_the_times_of_peaks(address, recordings, kept_export, kept_servable, command):
    files, waveforms = recordings
    arguments = [f"--server={address}", "--signature=serving_default", "--top=1", files[1]]
    answer = kept_servable.run("serving_default", {"waveform": waveforms[1][None]})
    best = int(answer["scores"][0].argmax())
    peak = int(answer["segment_scores"][0, :, best].argmax())
    name = ("Bark", "Bell", "Rain", "Siren")[best]
    for options, shown in (
        ([f"--classes_csv={kept_export}/assets/classes.csv"], name),
        ([], f"class {best}"),
    ):
        status, printed, stderr = command(client, *arguments, *options)
        assert status == 0, stderr
        assert (
            f"{answer['scores'][0, best]:6.3f}  {shown}, at {0.32 * peak:.2f} s "
            in printed.splitlines()[1]
        )


def test_what_cannot_be_answered_does_not_stop_the_rest(address, recordings, tmp_path, command):
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "short.wav").write_bytes(encode_wav(np.zeros(399), RATE))
    bad = [str(tmp_path / name) for name in ("text.wav", "short.wav", "none.wav")]
    status, printed, stderr = command(client, f"--server={address}", *bad, recordings[0][0])
    assert status == 1 and "Traceback" not in stderr
    assert printed.splitlines()[0] == f"{recordings[0][0]} (1.0 s)"
    for file, message in zip(
        bad, ("unreadable", "400 samples or more in a clip", "missing: no such file"), strict=True
    ):
        (line,) = [line for line in stderr.splitlines() if line.startswith(f"error: {file}: ")]
        assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: no recordings: name one file or more"),
        (["--server=nowhere", "a.wav"], "error: server: expected host:8501"),
        (["--classes_csv=none.csv", "a.wav"], "error: none.csv"),
    ],
)
def test_what_is_wrong_with_the_command(arguments, message, command):
    status, printed, stderr = command(client, *arguments)
    assert (status, printed) == (1, "") and message in stderr and "Traceback" not in stderr
