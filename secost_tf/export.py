"""`python -m secost_tf.export --run_dir=R --export_dir=MODELS/secost`: a trained stage for
TensorFlow Serving, TFLite or ONNX.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from secost_tf.runs import RunDataSettings, StageSettings
from secost_tf.serving import FORMATS, PortableConfig, ServingConfig, export_run, serve_command
from tfrecord_tools import storage
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(StageSettings, RunDataSettings):
    """The stage to export, the folder and the format."""

    export_dir: str | None = setting(
        None,
        "Folder of the model, whose name is the model's: each export makes the next numbered "
        "version "
        "in it. Default: models/secost, for the other formats models/secost-tflite and "
        "models/secost-onnx.",
    )
    format: str = setting(
        "saved_model",
        "saved_model: for TensorFlow Serving. tflite: for phones and small machines. onnx: for "
        "other "
        "runtimes (extra onnx).",
        choices=FORMATS,
    )
    calibration_dir: str | None = setting(
        None,
        "TFLite in int8: folder of recordings, like those the model will hear, that it is "
        "calibrated "
        "on with --model_input=waveform. With --model_input=log_mel that is the train split of "
        "--data_dir.",
    )


SETTINGS = (ExportSettings, ServingConfig, PortableConfig)


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
    print(
        f"{path}: in {exported.check.runtime} its scores differ by {difference} from the live "
        f"model's"
    )
    if is_saved_model and not storage.is_remote(export_dir):
        print(f"serve it: {serve_command(export_dir)}")


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
