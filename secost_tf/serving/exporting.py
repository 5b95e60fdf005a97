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

    stage_folder = find_stage(run_dir, stage)
    student, record = stage_folder.student, stage_folder.record
    name = os.path.basename(export_dir.rstrip("/"))
    with layout.new_version(export_dir, model_format) as (version, folder):
        if model_format == "saved_model":
            config = config or ServingConfig()
            signatures, check = _write_saved_model(student, record, config, folder, name)
        else:
            config = config or PortableConfig()
            write = {"tflite": _write_tflite, "onnx": _write_onnx}[model_format]
            classes_csv = storage.join(folder, "assets", layout.CLASSES_CSV)
            storage.make_dirs(os.path.dirname(classes_csv))
            record.class_map.write(classes_csv)
            path = storage.join(folder, layout.MODEL_FILES[model_format])
            signatures, check = write(student, record, config, path, calibration_dir)
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


def _write_tflite(
    student: keras.Model,
    record: StageRecord,
    config: PortableConfig,
    path: str,
    calibration_dir: str | None,
) -> tuple[Signatures, Check]:
    from secost_tf.serving import tflite
    from secost_tf.serving.model_card import Check
    from secost_tf.serving.portable import describe_signature

    calibration = tflite.calibration_clips(record, config, calibration_dir)
    difference = tflite.write_tflite(student, record, config, path, calibration)
    signatures = describe_signature(record, config, tflite.clip_samples(record, config))
    return signatures, Check(
        "the TFLite interpreter", difference, tflite.TOLERANCES[config.precision]
    )


def _write_onnx(
    student: keras.Model,
    record: StageRecord,
    config: PortableConfig,
    path: str,
    calibration_dir: str | None,
) -> tuple[Signatures, Check]:
    from secost_tf.serving import onnx
    from secost_tf.serving.model_card import Check
    from secost_tf.serving.portable import describe_signature

    difference = onnx.write_onnx(student, record, config, path)
    signatures = describe_signature(record, config, samples=None)
    return signatures, Check("onnxruntime", difference, onnx.TOLERANCE)


def serve_command(export_dir: str) -> str:
    """The command that serves a model with TensorFlow Serving's image, for people to copy."""
    path = os.path.abspath(export_dir)
    name = os.path.basename(path)
    volume = shlex.quote(f"{path}:/models/{name}:ro")
    return f"docker run -p 8500:8500 -p 8501:8501 -v {volume} -e MODEL_NAME={shlex.quote(name)} tensorflow/serving:2.19.1"
