"""Export a stage: SavedModel, TFLite, ONNX."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from secost_tf.runs import find_stage
from secost_tf.serving.layout import PortableConfig, ServingConfig
from tfrecord_tools import storage

if TYPE_CHECKING:
    import keras

    from secost_tf.runs import StageRecord
    from secost_tf.serving.model_card import Check, Exported, Signatures


FORMATS = ("saved_model", "tflite", "onnx")


def export_run(
    run_dir: str,
    export_dir: str,
    stage: int | None = None,
    config: ServingConfig | PortableConfig | None = None,
    model_format: str = "saved_model",
    calibration_dir: str | None = None,
) -> tuple[str, Exported]:
    """Export a stage as the next version in a folder, checked before it gets its final name.

    Source: folders of numbered versions, as TensorFlow Serving reads them.

    Args:
        run_dir: folder of the run.
        export_dir: folder of the model; its name is the model's.
        stage: number of the stage; None: the last that is done.
        config: what can be chosen of the model: a `ServingConfig` for a SavedModel, else a
            `PortableConfig`.
        model_format: one of `FORMATS`.
        calibration_dir: for TFLite in int8: of converted splits, by default those the run was
            trained with; or, if the model takes waveforms, of recordings.

    Returns:
        The folder of the new version, and a description of the model: settings, signatures and how
        far its scores are from the live network's.

    Raises:
        ValueError: if the stage is not done, or the exported model does not answer as the live one.

    Example:
        `runs/secost` is a run of three stages.

        >>> from secost_tf import export_run
        >>> folder, exported = export_run("runs/secost", "models/secost", stage=2)
        >>> folder, exported.check.largest_difference <= exported.check.tolerance
        ('models/secost/1', True)
    """
    from secost_tf.serving import layout, model_card

    config = config or (ServingConfig() if model_format == "saved_model" else PortableConfig())
    if model_format not in FORMATS or isinstance(config, ServingConfig) != (
        model_format == "saved_model"
    ):
        raise ValueError(
            "model_format: expected saved_model with a ServingConfig, or tflite or onnx with a "
            f"PortableConfig, got {model_format!r} with a {type(config).__name__}"
        )
    stage_folder = find_stage(run_dir, stage)
    student, record = stage_folder.student, stage_folder.record
    name = os.path.basename(export_dir.rstrip("/"))
    with layout.new_version(export_dir, model_format) as (version, folder):
        if isinstance(config, ServingConfig):
            signatures, check = _write_saved_model(student, record, config, folder, name)
        else:
            options = config, folder, model_format, calibration_dir
            signatures, check = _write_portable(student, record, *options)
        exported = model_card.Exported(
            name, version, model_format, config, folder, signatures, check
        )
        model_card.write(model_card.facts(stage_folder, exported), record, folder)
    return storage.join(export_dir, str(version)), exported


def _write_saved_model(
    student: keras.Model, record: StageRecord, config: ServingConfig, folder: str, name: str
) -> tuple[Signatures, Check]:
    from secost_tf.serving.checks import TOLERANCE, check_export
    from secost_tf.serving.cpp_loader import Servable, describe_signatures
    from secost_tf.serving.model_card import Check
    from secost_tf.serving.saved_model import save_model

    save_model(student, record, config, name, folder)
    difference = check_export(folder, student, record, config)
    with Servable(folder) as servable:
        signatures = describe_signatures(servable.signatures)
    return signatures, Check("TensorFlow's C++ loader", difference, TOLERANCE)


def _write_portable(
    student: keras.Model,
    record: StageRecord,
    config: PortableConfig,
    folder: str,
    model_format: str,
    calibration_dir: str | None,
) -> tuple[Signatures, Check]:
    from secost_tf.serving import layout, onnx, portable, tflite
    from secost_tf.serving.model_card import Check

    classes_csv = storage.join(folder, "assets", layout.CLASSES_CSV)
    storage.make_dirs(os.path.dirname(classes_csv))
    record.class_map.write(classes_csv)
    path = storage.join(folder, layout.MODEL_FILES[model_format])
    if model_format == "onnx":
        difference = onnx.write_onnx(student, record, config, path)
        samples, check = None, Check("onnxruntime", difference, onnx.TOLERANCE)
    else:
        clips = tflite.calibration_clips(record, config, calibration_dir)
        difference = tflite.write_tflite(student, record, config, path, clips)
        samples = tflite.clip_samples(record, config)
        check = Check("the TFLite interpreter", difference, tflite.TOLERANCES[config.precision])
    return portable.describe_signature(record, config, samples), check


def serve_command(export_dir: str) -> str:
    """Return the command that serves a model with TensorFlow Serving's image."""
    path = os.path.abspath(export_dir)
    name = os.path.basename(path)
    volume = shlex.quote(f"{path}:/models/{name}:ro")
    return (
        f"docker run -p 8500:8500 -p 8501:8501 -v {volume} -e MODEL_NAME={shlex.quote(name)} "
        "tensorflow/serving:2.19.1"
    )
