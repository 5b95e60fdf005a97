"""Detectors from a run and from an exported model give the same scores; the second loads neither
training code nor TensorFlow's Python.
"""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soxr

from secost_tf.detection.detector import Detector
from secost_tf.models import score_clips
from secost_tf.models.segments import fine_segments
from secost_tf.runs import load_student
from secost_tf.serving.exporting import export_run

SCRIPT = """
import sys
import numpy as np
from secost_tf.detection import Detector
found = Detector.from_saved_model(sys.argv[1])
clip = np.load(sys.argv[2])
np.savez(sys.argv[3], network=found.network(clip), every_frame=found.every_frame(clip))
print(sorted(name for name in sys.modules if name.startswith(("secost_tf", "tensorflow", "keras"))))
print(found.class_map.display_names, found.config.stride_frames)
"""


def test_the_last_stage_of_a_run(kept_run, read_clips, kept_data):
    clip = read_clips(kept_data, "eval")[0].log_mel.astype(np.float32)
    found = Detector.from_run(kept_run)
    scores = found.network(clip)
    assert scores.shape == (found.config.num_segments(len(clip)), 4) and scores.dtype == np.float32
    np.testing.assert_allclose(
        scores, score_clips(load_student(kept_run, 2), [clip])[0].segments, atol=1e-6
    )
    assert found.folder.endswith("stage-2") and found.class_map.display_names[0] == "Bark"
    assert np.abs(Detector.from_run(kept_run, 0).network(clip) - scores).max() > 1e-4
    np.testing.assert_allclose(found.every_frame(clip)[::32], scores, atol=1e-6)
    np.testing.assert_array_equal(found.segment_scores([clip]), scores)
    assert len(found.segment_scores([clip], 4)) == len(fine_segments(found.config, len(clip), 4))


@pytest.fixture(scope="module")
def exported(kept_run, tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("models") / "secost")
    export_run(kept_run, folder)
    return folder


@pytest.mark.slow
def test_an_exported_model_scores_alike_without_training_code(exported, kept_run, tmp_path):
    clip = np.random.default_rng(0).normal(-6, 2, (150, 32)).astype(np.float32)
    np.save(tmp_path / "clip.npy", clip)
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        exported,
        str(tmp_path / "clip.npy"),
        str(tmp_path / "scores.npz"),
    ]
    cwd = Path(__file__).parents[3]
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    scores, live = np.load(tmp_path / "scores.npz"), Detector.from_run(kept_run, 2)
    np.testing.assert_allclose(scores["network"], live.network(clip), atol=1e-5)
    np.testing.assert_allclose(scores["every_frame"], live.every_frame(clip), atol=1e-5)
    modules, classes = ran.stdout.splitlines()[-2:]
    assert "'Siren') 32" in classes
    for name in ("tensorflow", "keras", "secost_tf.models.network", "secost_tf.training"):
        assert f"'{name}'" not in modules
    assert "'secost_tf.detection.detector'" in modules


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_waveform_is_scored_as_the_exported_model_scores_it(
    kept_export, kept_servable, untrained_run, rate
):
    waveform = np.random.default_rng(0).normal(0, 0.1, round(2.5 * rate)).astype(np.float32)
    resampled = waveform if rate == 16000 else soxr.resample(waveform, rate, 16000, "HQ")
    expected = kept_servable.run("serving_default", {"waveform": resampled[None]})
    for detector in (Detector.from_run(untrained_run), Detector.from_saved_model(kept_export)):
        scores, segment_scores, times = detector(waveform, rate)
        np.testing.assert_allclose(scores, expected["scores"][0], atol=1e-5)
        np.testing.assert_allclose(segment_scores, expected["segment_scores"][0], atol=1e-5)
        assert scores.shape == (4,) and times.shape == (len(segment_scores), 2)
        assert times[0, 0] == 0.0 and times[-1, 1] == 2.5


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros((2, 16000)), r"waveform: expected floats .* got float64 of shape \[2, 16000\]"),
        (np.zeros(16000, np.int16), "expected floats in -1..1 .* got int16"),
        (np.full(16000, np.nan), "expected finite samples"),
        (np.zeros(160), "expected at least 0.025 s of sound, got 0.010 s"),
    ],
)
def test_a_waveform_that_can_not_be_scored(kept_export, waveform, message):
    with pytest.raises(ValueError, match=message):
        Detector.from_saved_model(kept_export)(waveform, 16000)


def test_a_model_of_before_there_were_finer_hops(kept_export):
    detector = dataclasses.replace(Detector.from_saved_model(kept_export), every_frame=None)
    assert detector.segment_scores([np.zeros((100, 32), np.float32)]).shape == (2, 4)
    with pytest.raises(ValueError, match="expected a signature 'every_frame' for a hop_scale"):
        detector.scorer(2)


def test_what_is_no_model(tmp_path, kept_run):
    with pytest.raises(ValueError, match="stage-7: this stage is not done"):
        Detector.from_run(kept_run, 7)
    with pytest.raises(ValueError, match=r"expected a folder with saved_model\.pb"):
        Detector.from_saved_model(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"export\.json: no such file.*secost_tf.export"):
        Detector.from_saved_model(str(tmp_path))
    (tmp_path / "export.json").write_text('{"stage": {}}')
    with pytest.raises(ValueError, match=r"export\.json: not the settings of an exported model"):
        Detector.from_saved_model(str(tmp_path))
