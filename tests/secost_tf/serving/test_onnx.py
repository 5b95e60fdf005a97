"""ONNX models against the live network, in onnxruntime."""

import json
import sys

import numpy as np
import pytest

from secost_tf import export
from secost_tf.runs import StageFolder, load_student
from secost_tf.serving.layout import PortableConfig
from secost_tf.serving.onnx import runtime, write_onnx
from tfrecord_tools.log_mel import log_mel

RATE = 16000


@pytest.fixture(scope="module")
def needs_onnx():
    for package in ("tf2onnx", "onnxruntime"):
        pytest.importorskip(package, reason="the extra `onnx` is not installed")


@pytest.mark.usefixtures("needs_onnx")
@pytest.mark.parametrize("model_input", ["waveform", "log_mel"])
def test_scores_are_those_of_the_live_network_for_any_batch_and_length(
    untrained_run, kept_live, tmp_path, model_input
):
    student, record = load_student(untrained_run, 2), StageFolder(untrained_run, 2).record
    path = str(tmp_path / "model.onnx")
    assert write_onnx(student, record, PortableConfig(model_input), path) < 1e-4
    run = runtime(path)
    generator = np.random.default_rng(0)
    for clips, samples in ((1, 400), (3, RATE), (2, 3 * RATE + 77)):
        waveform = generator.uniform(-0.5, 0.5, (clips, samples)).astype(np.float32)
        value = (
            waveform
            if model_input == "waveform"
            else np.stack([log_mel(sound, record.log_mel) for sound in waveform])
        )
        actual, expected = run(value), kept_live({model_input: value})
        assert set(actual) == {"scores", "segment_scores"}
        for name, given in actual.items():
            assert given.shape == expected[name].shape
            np.testing.assert_allclose(given, expected[name], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("needs_onnx")
def test_the_command(untrained_run, tmp_path, command):
    arguments = [f"--run_dir={untrained_run}", "--format=onnx", f"--export_dir={tmp_path}/models"]
    status, printed, stderr = command(export, *arguments, "--model_input=log_mel")
    assert status == 0, stderr
    assert printed.startswith(f"{tmp_path}/models/1: in onnxruntime its scores differ by ")
    facts = json.loads((tmp_path / "models" / "1" / "export.json").read_text())
    assert facts["format"] == "onnx" and facts["check"]["runtime"] == "onnxruntime"
    assert facts["signatures"]["serving_default"]["inputs"] == {"log_mel": "float32 [?, ?, 32]"}
    card = (tmp_path / "models" / "1" / "model_card.md").read_text()
    assert "of 400 samples or more; scores are" in card


def test_what_cannot_be_is_said(untrained_run, tmp_path, command, monkeypatch):
    arguments = [f"--run_dir={untrained_run}", "--format=onnx", f"--export_dir={tmp_path}"]
    status, _, stderr = command(export, *arguments, "--precision=int8")
    assert status == 1 and "precision: expected float32 for ONNX, got int8" in stderr
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    status, _, stderr = command(export, *arguments)
    assert status == 1 and "pip install 'secost_tf[onnx]'" in stderr and "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
