"""TFLite models against the live network, in the interpreter."""

import functools
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from secost_tf import export
from secost_tf.runs import StageFolder, load_student
from secost_tf.runs.stage_folder import StageRecord
from secost_tf.serving.exporting import export_run
from secost_tf.serving.layout import PortableConfig
from secost_tf.serving.tflite import (
    calibration_clips,
    calibration_waveforms,
    convert_student,
    interpreter,
)
from secost_tf.serving.waveforms import encode_wav
from tfrecord_tools.log_mel import log_mel
from tfrecord_tools.shards import info as shards

RATE = 16000


@pytest.fixture(scope="module")
def student(untrained_run):
    return load_student(untrained_run, 2)


@pytest.fixture(scope="module")
def record(untrained_run) -> StageRecord:
    return StageFolder(untrained_run, 2).record


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> str:
    """Six sounds of different lengths and loudness below a folder."""
    folder, generator = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    for number in range(6):
        path = folder / f"class-{number % 2}" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        sound = 10.0 ** -(number / 3) * generator.uniform(-1, 1, RATE // 2 * (1 + number % 3))
        path.write_bytes(encode_wav(sound, RATE))
    return str(folder)


def weights_of(content: bytes) -> set[np.dtype]:
    """Return the types of the larger constants in a model."""
    details = tf.lite.Interpreter(model_content=content).get_tensor_details()
    return {
        np.dtype(tensor["dtype"])
        for tensor in details
        if np.prod(tensor["shape"]) > 300 and "kernel" not in tensor["name"]
    }


@pytest.fixture(scope="module")
def converted(student, record, recordings):
    """(model input, precision) -> the model for clips of a second, and the inputs that it was
    calibrated on.
    """

    @functools.cache
    def make(model_input: str, precision: str) -> tuple[bytes, list[np.ndarray]]:
        config = PortableConfig(model_input, seconds=1.0, precision=precision)
        values = calibration_waveforms(record, recordings, config)
        if model_input == "log_mel":
            values = [log_mel(sound, record.log_mel) for sound in values]
        return convert_student(student, record, config, values), values

    return make


@pytest.mark.parametrize("model_input", ["waveform", "log_mel"])
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-4), ("float16", 2e-2), ("int8", 0.2)]
)
def test_scores_are_those_of_the_live_network(
    converted, kept_live, model_input, precision, tolerance
):
    content, values = converted(model_input, precision)
    run = interpreter(content, PortableConfig(model_input))
    for value in values:
        actual, expected = run(value[None]), kept_live({model_input: value[None]})
        assert set(actual) == {"scores", "segment_scores"}
        for name, given in actual.items():
            assert given.shape == expected[name].shape
            np.testing.assert_allclose(given, expected[name], rtol=0, atol=tolerance)
    assert precision in {kind.name for kind in weights_of(content)}


def test_int8_is_smaller_and_float16_half(converted):
    float32, float16, int8 = (
        len(converted("log_mel", precision)[0]) for precision in ("float32", "float16", "int8")
    )
    assert int8 < float16 < float32


def test_the_command(untrained_run, tmp_path, command):
    arguments = [
        f"--run_dir={untrained_run}",
        "--format=tflite",
        f"--export_dir={tmp_path}/phone",
        "--seconds=2",
    ]
    options = ["--tflite_precision=int8", "--model_input=log_mel", "--calibration_clips=7"]
    status, printed, stderr = command(export, *arguments, *options)
    assert status == 0, stderr
    assert printed.startswith(
        f"{tmp_path}/phone/1: in the TFLite interpreter its scores differ by "
    )
    folder = tmp_path / "phone" / "1"
    assert sorted(os.listdir(folder)) == ["assets", "export.json", "model.tflite", "model_card.md"]
    assert (folder / "assets" / "classes.csv").read_text().splitlines()[1] == "0,/m/a,Bark"
    facts = json.loads((folder / "export.json").read_text())
    assert facts["format"] == "tflite" and facts["settings"]["precision"] == "int8"
    assert facts["signatures"]["serving_default"]["inputs"] == {"log_mel": "float32 [1, 198, 32]"}
    card = (folder / "model_card.md").read_text()
    assert "clips of 2 s (shorter ones followed by silence)" in card and "as tflite in int8" in card
    run = interpreter((folder / "model.tflite").read_bytes(), PortableConfig("log_mel"))
    assert run(np.zeros((1, 198, 32), np.float32))["scores"].shape == (1, 4)
    # A server would take the version for its own.
    status, _, stderr = command(
        export, f"--run_dir={untrained_run}", f"--export_dir={tmp_path}/phone"
    )
    assert (
        status == 1
        and "phone holds tflite models" in stderr
        and "export as saved_model to another" in stderr
    )


def test_clips_to_calibrate_on(record, recordings, kept_data, read_clips):
    config = PortableConfig("log_mel", seconds=0.5, precision="int8", calibration_clips=10)
    clips = calibration_clips(record, config, None)
    assert len(clips) == 10 and {clip.shape for clip in clips} == {(48, 32)}
    # Of three files with 11, 9 and 10 clips, four each, and of the last one those that are still
    # missing.
    info, stored = shards.read_dataset_info(kept_data, "train"), read_clips(kept_data, "train")
    for clip, index in zip(clips, (0, 2, 4, 6, 11, 13, 15, 17, 20, 22), strict=True):
        frames = min(48, len(stored[index].log_mel))
        np.testing.assert_array_equal(clip[:frames], stored[index].log_mel[:frames])
    config = PortableConfig("log_mel", seconds=0.5, precision="int8", calibration_clips=2)
    (first, second) = calibration_clips(record, config, None)
    np.testing.assert_array_equal(first[:40], stored[0].log_mel[:40])
    np.testing.assert_array_equal(second[:40], stored[info.shards[0].clips].log_mel[:40])
    config = PortableConfig("waveform", seconds=0.5, precision="int8", calibration_clips=3)
    assert [len(clip) for clip in calibration_clips(record, config, recordings)] == [8000] * 3
    assert calibration_clips(record, PortableConfig(precision="float16"), None) == []


def test_what_cannot_be_calibrated_is_said(student, record, tmp_path):
    config = PortableConfig("waveform", precision="int8")
    with pytest.raises(
        ValueError,
        match="name a folder of recordings with --calibration_dir, or take --model_input",
    ):
        calibration_clips(record, config, None)
    with pytest.raises(ValueError, match=rf"{tmp_path}: no recordings to calibrate on \(.wav"):
        calibration_clips(record, config, str(tmp_path))
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"text\.wav: unreadable"):
        calibration_clips(record, config, str(tmp_path))
    with pytest.raises(ValueError, match="int8: expected clips to calibrate on, got none"):
        convert_student(student, record, config, [])
    with pytest.raises(
        ValueError, match=r"seconds: expected 0\.025 or more, one window, got 0\.01"
    ):
        convert_student(student, record, PortableConfig(seconds=0.01), [])


def test_a_model_that_errs_too_much_is_not_published(untrained_run, tmp_path, monkeypatch):
    monkeypatch.setattr("secost_tf.serving.tflite.TOLERANCES", {"float16": 1e-9})
    with pytest.raises(ValueError, match=r"scores differ by .*, by 1e-09 at most"):
        export_run(
            untrained_run,
            str(tmp_path),
            config=PortableConfig(precision="float16", seconds=1.0),
            model_format="tflite",
        )
    assert os.listdir(tmp_path) == []
