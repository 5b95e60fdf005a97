"""`python -m secost_tf.export --run_dir=R --export_dir=MODELS/secost`: a trained stage for TensorFlow Serving, TFLite or ONNX."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from secost_tf.command_settings import RunDataSettings, StageSettings
from secost_tf.config import PortableConfig, ServingConfig
from tfrecord_tools import storage
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags

if TYPE_CHECKING:
    import keras

    from secost_tf.export_card import Check, Exported, Signatures
    from secost_tf.stage_folder import StageRecord

FORMATS = ("saved_model", "tflite", "onnx")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(StageSettings, RunDataSettings):
    """What to export, where to, and as what."""

    export_dir: str | None = setting(
        None,
        "Folder of the model, whose name is the model's: each export makes the next numbered version "
        "in it. Default: models/secost, for the other formats models/secost-tflite and "
        "models/secost-onnx.",
    )
    format: str = setting(
        "saved_model",
        "saved_model: for TensorFlow Serving. tflite: for phones and small machines. onnx: for other "
        "runtimes (extra onnx).",
        choices=FORMATS,
    )
    calibration_dir: str | None = setting(
        None,
        "TFLite in int8: folder of recordings, like those the model will hear, that it is calibrated "
        "on with --model_input=waveform. With --model_input=log_mel that is the train split of "
        "--data_dir.",
    )


SETTINGS = (ExportSettings, ServingConfig, PortableConfig)


def export_run(
    run_dir: str,
    export_dir: str,
    stage: int | None = None,
    config: ServingConfig | PortableConfig | None = None,
    model_format: str = "saved_model",
    calibration_dir: str | None = None,
) -> tuple[str, Exported]:
    """Exports a stage as the next version in a folder, checked before it gets its final name.

    Args:
        run_dir: the run.
        export_dir: folder of the model; its name is the model's.
        stage: the stage, by default the last one that is done.
        config: what can be chosen of the model: a `ServingConfig` for a SavedModel, else a `PortableConfig`.
        model_format: one of `FORMATS`.
        calibration_dir: for TFLite in int8: of converted splits, by default those the run was trained with; or, if the
            model takes waveforms, of recordings.

    Returns:
        The folder of the new version, and what is known of it.

    Raises:
        ValueError: if the stage is not done, or the exported model does not answer as the live one.
    """
    from secost_tf import export_card, export_folder, stage_folder  # import TensorFlow

    stage = stage_folder.done_stages(run_dir)[-1] if stage is None else stage
    student = stage_folder.load_student(run_dir, stage)
    record = stage_folder.StageRecord.read(run_dir, stage)
    name = os.path.basename(export_dir.rstrip("/"))
    with export_folder.new_version(export_dir, model_format) as (version, folder):
        if model_format == "saved_model":
            config = config or ServingConfig()
            signatures, check = _write_saved_model(student, record, config, folder, name)
        else:
            config = config or PortableConfig()
            write = {"tflite": _write_tflite, "onnx": _write_onnx}[model_format]
            classes_csv = storage.join(folder, "assets", export_folder.CLASSES_CSV)
            storage.make_dirs(os.path.dirname(classes_csv))
            record.class_map.write(classes_csv)
            path = storage.join(folder, export_folder.MODEL_FILES[model_format])
            signatures, check = write(student, record, config, path, calibration_dir)
        exported = export_card.Exported(name, version, model_format, config, folder, signatures, check)
        export_card.write(export_card.facts(run_dir, record, exported), record, folder)
    return storage.join(export_dir, str(version)), exported


def _write_saved_model(
    student: keras.Model, record: StageRecord, config: ServingConfig, folder: str, name: str
) -> tuple[Signatures, Check]:
    from secost_tf.export_card import Check
    from secost_tf.export_check import TOLERANCE, check_export
    from secost_tf.export_model import save_model
    from secost_tf.servable import Servable, describe_signatures

    save_model(student, record, config, name, folder)
    difference = check_export(folder, student, record, config)
    with Servable(folder) as servable:
        signatures = describe_signatures(servable.signatures)
    return signatures, Check("TensorFlow's C++ loader", difference, TOLERANCE)


def _write_tflite(
    student: keras.Model, record: StageRecord, config: PortableConfig, path: str, calibration_dir: str | None
) -> tuple[Signatures, Check]:
    from secost_tf import export_tflite
    from secost_tf.export_card import Check
    from secost_tf.export_portable import describe_signature

    calibration = export_tflite.calibration_clips(record, config, calibration_dir)
    difference = export_tflite.write_tflite(student, record, config, path, calibration)
    signatures = describe_signature(record, config, export_tflite.clip_samples(record, config))
    return signatures, Check("the TFLite interpreter", difference, export_tflite.TOLERANCES[config.precision])


def _write_onnx(
    student: keras.Model, record: StageRecord, config: PortableConfig, path: str, calibration_dir: str | None
) -> tuple[Signatures, Check]:
    from secost_tf import export_onnx
    from secost_tf.export_card import Check
    from secost_tf.export_portable import describe_signature

    difference = export_onnx.write_onnx(student, record, config, path)
    signatures = describe_signature(record, config, samples=None)
    return signatures, Check("onnxruntime", difference, export_onnx.TOLERANCE)


def serve_command(export_dir: str) -> str:
    """The command that serves a model with TensorFlow Serving's image, for people to copy."""
    path = os.path.abspath(export_dir)
    name = os.path.basename(path)
    volume = shlex.quote(f"{path}:/models/{name}:ro")
    return f"docker run -p 8500:8500 -p 8501:8501 -v {volume} -e MODEL_NAME={shlex.quote(name)} tensorflow/serving:2.19.1"


def main(argv: Sequence[str]) -> None:
    """Read the flags, export and say what was made."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings, portable = read_flags(ExportSettings), read_flags(PortableConfig)
    is_saved_model = settings.format == "saved_model"
    suffix = "" if is_saved_model else f"-{settings.format}"
    export_dir = settings.export_dir or f"models/secost{suffix}"
    path, exported = export_run(
        settings.run_dir,
        export_dir,
        settings.stage,
        read_flags(ServingConfig) if is_saved_model else portable,
        settings.format,
        settings.calibration_dir if portable.model_input == "waveform" else settings.data_dir,
    )
    difference = f"{exported.check.largest_difference:.0e}"
    print(f"{path}: in {exported.check.runtime} its scores differ by {difference} from the live model's")
    if is_saved_model and not storage.is_remote(export_dir):
        print(f"serve it: {serve_command(export_dir)}")


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
