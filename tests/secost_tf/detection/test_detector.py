"""Detectors from a run and from an exported model give the same scores; the second loads no
training code.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from secost_tf.detection import detector
from secost_tf.models.segments import fine_segments
from secost_tf.reporting.examples import segment_scores
from secost_tf.runs import load_student
from secost_tf.runs.stage_folder import done_stages
from secost_tf.serving.exporting import export_run

SCRIPT = """
import sys
import numpy as np
from secost_tf.detection import detector
found = detector.from_saved_model(sys.argv[1])
clip = np.load(sys.argv[2])
np.savez(sys.argv[3], network=found.network(clip), every_frame=found.every_frame(clip))
print(sorted(name for name in sys.modules if name.startswith("secost_tf.")))
print(found.class_map.display_names, found.config.stride_frames)
"""


def test_the_last_stage_of_a_run(kept_run, read_clips, kept_data):
    clip = read_clips(kept_data, "eval")[0].log_mel.astype(np.float32)
    found = detector.from_run(kept_run, done_stages(kept_run)[-1].number)
    scores = found.network(clip)
    assert scores.shape == (found.config.num_segments(len(clip)), 4) and scores.dtype == np.float32
    np.testing.assert_allclose(
        scores, segment_scores(load_student(kept_run, 2), clip, len(scores)), atol=1e-6
    )
    assert found.folder.endswith("stage-2") and found.class_map.display_names[0] == "Bark"
    assert np.abs(detector.from_run(kept_run, 0).network(clip) - scores).max() > 1e-4
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
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ})
    assert ran.returncode == 0, ran.stderr
    scores, live = np.load(tmp_path / "scores.npz"), detector.from_run(kept_run, 2)
    np.testing.assert_allclose(scores["network"], live.network(clip), atol=1e-5)
    np.testing.assert_allclose(scores["every_frame"], live.every_frame(clip), atol=1e-5)
    modules, classes = ran.stdout.splitlines()[-2:]
    assert "'Siren') 32" in classes
    for name in ("models.network", "models.layers", "models.optimizers", "training", "data"):
        assert f"secost_tf.{name}'" not in modules


def test_what_is_no_model(tmp_path, kept_run):
    with pytest.raises(ValueError, match="stage-7: this stage is not done"):
        detector.from_run(kept_run, 7)
    with pytest.raises(ValueError, match=r"expected a folder with saved_model\.pb"):
        detector.from_saved_model(str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"export\.json: no such file.*secost_tf.export"):
        detector.from_saved_model(str(tmp_path))
    (tmp_path / "export.json").write_text('{"stage": {}}')
    with pytest.raises(ValueError, match=r"export\.json: not the settings of an exported model"):
        detector.from_saved_model(str(tmp_path))
