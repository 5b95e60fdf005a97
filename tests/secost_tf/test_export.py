"""The command, what lies beside the model, and the check before it is published."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

import secost_tf
from secost_tf import export
from secost_tf.models.backend import KERAS_3
from secost_tf.runs import StageFolder
from secost_tf.serving import exporting, layout, model_card
from secost_tf.serving import messages as serving_messages
from secost_tf.serving import saved_model as export_model
from secost_tf.serving.checks import answer_in_cpp, compare, compare_top_k, probe_requests
from secost_tf.serving.exporting import export_run
from secost_tf.serving.layout import ServingConfig
from secost_tf.serving.model_card import Check, Exported
from tfrecord_tools.shards import files
from tfrecord_tools.shards import info as shards

REPOSITORY = Path(__file__).parents[2]


def test_the_command(untrained_run, tmp_path, command, files_of):
    models = tmp_path / "models" / "birds"
    (models / "7").mkdir(parents=True)
    arguments = [f"--run_dir={untrained_run}", f"--export_dir={models}/", "--stage=0", "--top_k=2"]
    status, printed, stderr = command(export, *arguments)
    assert status == 0, stderr
    assert re.search(
        rf"^{models}/8: .* differ by \d+e-\d+ from the live model's$", printed, re.MULTILINE
    )
    served = (
        f"docker run -p 8500:8500 -p 8501:8501 -v {models}:/models/birds:ro "
        "-e MODEL_NAME=birds tensorflow/serving:"
    )
    assert f"serve it: {served}" in printed
    assert sorted(os.listdir(models)) == ["7", "8"]
    assert sorted(files_of(models / "8")) == [
        "assets.extra/tf_serving_warmup_requests",
        "assets/classes.csv",
        "export.json",
        "fingerprint.pb",
        "model_card.md",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    facts = json.loads((models / "8" / "export.json").read_text())
    assert (facts["model"], facts["version"], facts["stage"]["stage"]) == ("birds", 8, 0)
    top_k = {"labels": "string [?, 2]", "scores": "float32 [?, 2]"}
    assert facts["signatures"]["top_k"]["outputs"] == top_k
    assert "from the labels alone" in (models / "8" / "model_card.md").read_text()


def test_the_image_is_the_same_as_in_the_configuration():
    compose = (REPOSITORY / "serving" / "docker-compose.yml").read_text()
    image = exporting.serve_command("models/secost").split()[-1]
    assert f"image: {image}\n" in compose
    assert "'/a b/secost:/models/secost:ro'" in exporting.serve_command("/a b/secost/")


def test_a_figure_that_does_not_exist_is_a_dash_in_the_card(kept_export, untrained_run, tmp_path):
    facts = json.loads(Path(kept_export, "export.json").read_text())
    facts["metrics"] |= {"mAP": None, "d_prime": None}
    model_card.write(facts, StageFolder(untrained_run, 2).record, str(tmp_path))
    card = (tmp_path / "model_card.md").read_text()
    assert "| mean average precision | - |" in card and "| d' | - |" in card


def test_the_facts(kept_export, untrained_run, kept_data):
    facts = json.loads(Path(kept_export, "export.json").read_text())
    metrics = json.loads(Path(untrained_run, "stage-2", "metrics.json").read_text())
    record = StageFolder(untrained_run, 2).record
    info = shards.read_dataset_info(kept_data, "train")
    assert facts["data"] == {
        "folder": "data",
        "classes": 4,
        "dataset": "manifest",
        "training_clips": 30,
        "training_hours": round(info.seconds / 3600, 3),
    }
    assert facts["stage"]["alpha"] == 0.3 and facts["stage"]["teacher_stages"] == [1]
    assert facts["metrics"]["mAP"] == metrics["mAP"] and facts["metrics"]["split"] == "eval"
    assert facts["log_mel"] == record.log_mel.to_dict()
    assert facts["settings"] == {"top_k": 3, "max_seconds": 1100.0}
    assert 0 <= facts["check"]["largest_difference"] <= facts["check"]["tolerance"] == 1e-5
    assert facts["versions"]["exported_with"]["tensorflow"] == tf.__version__
    assert facts["versions"]["trained_with"]["secost_tf"] == secost_tf.__version__
    assert facts["digest"]["model"] == layout.digest(kept_export)
    assert re.fullmatch(r"[0-9a-f]{64}", facts["digest"]["student_weights"])


def test_the_model_card(kept_export):
    card, facts = (Path(kept_export, name).read_text() for name in ("model_card.md", "export.json"))
    facts = json.loads(facts)
    for said in (
        "# secost, version 1",
        "scores of 4 classes",
        "stage 2 of a SeCoST cascade",
        "alpha 0.3 of the labels and 0.7 of the scores of stage 1",
        "Bark, Bell, Rain, Siren",
        "Trained on 30 clips",
        f"| mean average precision | {facts['metrics']['mAP']:.4f} |",
        "| `wav_bytes` | `wav_bytes` string [?] |",
        "1100 s in a request",
        facts["digest"]["model"],
    ):
        assert said in card, said
    assert not re.search(r"\b(None|nan)\b", card)


def test_the_data_may_be_gone(untrained_run, kept_export, tmp_path):
    run_dir = shutil.copytree(untrained_run, tmp_path / "run")
    stage = StageFolder(str(run_dir), 2)
    stage.begin(dataclasses.replace(stage.record, data_dir="/no/such/data"))
    check = Check("a runtime", 0.0, 1e-5)
    exported = Exported("secost", 1, "saved_model", ServingConfig(), kept_export, {}, check)
    facts = model_card.facts(stage, exported)
    assert facts["data"] == {"folder": "data", "classes": 4}
    model_card.write(facts, stage.record, str(tmp_path))
    assert "not there any more" in (tmp_path / "model_card.md").read_text()


def test_the_warm_up_requests_are_answered(kept_export, kept_servable):
    logs = list(
        files.read_records(os.path.join(kept_export, "assets.extra", "tf_serving_warmup_requests"))
    )
    requests = [serving_messages.request_of(log) for log in logs]
    assert {signature for signature, _ in requests} == set(kept_servable.signatures)
    for signature, inputs in requests:
        assert all(len(value) == 1 for value in kept_servable.run(signature, inputs).values())
    assert sum(map(len, logs)) < 50_000


def test_the_warm_up_requests_are_tensorflow_serving_s(kept_export):
    messages = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2", reason="the extra `serving` is not installed"
    )
    path = os.path.join(kept_export, "assets.extra", "tf_serving_warmup_requests")
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        request = messages.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "secost"
        assert {len(tf.make_ndarray(value)) for value in request.inputs.values()} == {1}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (True, r"scores differ by \d\.\de-\d\d from the live model, by 1e-05 at most is expected"),
        (
            False,
            "the exported model can't be served: .*TensorFlow's C\\+\\+ loader refuses this "
            "SavedModel",
        ),
    ],
)
def test_a_model_that_answers_otherwise_or_not_at_all_is_not_published(
    written, message, untrained_run, kept_export, tmp_path, monkeypatch
):
    def save_model_of_stage_2(student, record, config, name, folder):
        if written:
            shutil.copytree(kept_export, folder, dirs_exist_ok=True)

    monkeypatch.setattr(export_model, "save_model", save_model_of_stage_2)
    with pytest.raises(ValueError, match=message):
        export_run(untrained_run, str(tmp_path / "models"), stage=1)
    assert os.listdir(tmp_path / "models") == []


def test_what_cannot_be_exported_is_said(untrained_run, tmp_path, command):
    (tmp_path / "file").write_text("")
    models = f"--export_dir={tmp_path}/models"
    run = f"--run_dir={untrained_run}"
    for arguments, message in (
        (
            [f"--run_dir={tmp_path}", models],
            f"error: {tmp_path}: no stage is done there; train one with python -m",
        ),
        (
            [run, models, "--stage=5"],
            "error: .*stage-5: this stage is not done; train it with --stage=5",
        ),
        ([run, f"--export_dir={tmp_path}/file"], "error: .*file: File exists"),
        (
            [run, models, "--max_seconds=0"],
            "error: flag --max_seconds=0: expected a positive number",
        ),
    ):
        status, printed, stderr = command(export, *arguments)
        assert (status, printed) == (1, "") and "Traceback" not in stderr
        assert re.search(message, stderr), stderr
    assert not (tmp_path / "models").exists()


def other_python() -> str | None:
    """The interpreter of the other stack: named by SECOST_OTHER_PYTHON, or in one of the
    repository's environments.
    """
    mine = os.path.realpath(sys.prefix)
    found = [
        os.environ.get("SECOST_OTHER_PYTHON"),
        *map(str, sorted(REPOSITORY.glob(".venv*/bin/python"))),
    ]
    for python in filter(None, found):
        if os.path.realpath(Path(python).parents[1]) != mine:
            script = "import importlib.metadata as m; print(m.version('keras').split('.')[0])"
            shown = subprocess.run([python, "-c", script], capture_output=True, text=True)
            if shown.returncode == 0 and int(shown.stdout) != (3 if KERAS_3 else 2):
                return python
    return None


def test_exports_cross_the_stacks(untrained_run, kept_export, kept_live, tmp_path, monkeypatch):
    """Each stack's export, in the other's C++ loader (and here in Python), against the live network
    of this one.
    """
    python = other_python()
    if not python:
        pytest.skip("the other stack is not installed: SECOST_OTHER_PYTHON names its python")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    requests = probe_requests(StageFolder(untrained_run, 2).record.log_mel)
    monkeypatch.setattr("secost_tf.serving.checks.sys.executable", python)
    theirs_of_mine = answer_in_cpp(kept_export, requests)
    monkeypatch.undo()
    command = [
        python,
        "-m",
        "secost_tf.export",
        f"--run_dir={untrained_run}",
        f"--export_dir={tmp_path}/models",
        "--top_k=3",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    made = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert made.returncode == 0, made.stderr
    versions = json.loads((tmp_path / "models" / "1" / "export.json").read_text())["versions"]
    assert versions["exported_with"]["tensorflow"] != tf.__version__
    mine_of_theirs = answer_in_cpp(str(tmp_path / "models" / "1"), requests)
    in_python, worst = tf.saved_model.load(str(tmp_path / "models" / "1")), 0.0
    for (signature, inputs), *answers in zip(requests, theirs_of_mine, mine_of_theirs, strict=True):
        expected = kept_live(inputs, every_frame=signature == "every_frame")
        tensors = {
            name: tf.constant(value.tolist() if value.dtype.hasobject else value)
            for name, value in inputs.items()
        }
        loaded = in_python.signatures[signature](**tensors)
        for answer in (*answers, {name: value.numpy() for name, value in loaded.items()}):
            if signature == "top_k":
                record = StageFolder(untrained_run, 2).record
                difference = compare_top_k(
                    signature, answer, expected["scores"], record, ServingConfig(top_k=3)
                )
            else:
                difference = compare(signature, answer, expected)
            worst = max(worst, difference)
    print(f"largest difference of a score across the stacks: {worst:.1e}")
