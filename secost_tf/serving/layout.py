"""The folder of a served model: numbered versions; TensorFlow Serving sees finished ones only."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from secost_tf.models import WelsNetConfig
from secost_tf.runs import StageConfig
from tfrecord_tools import shards, storage
from tfrecord_tools.config import Config, setting
from tfrecord_tools.datasets import ClassMap, read_class_map
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.storage import PARTIAL_PREFIX

SAVED_MODEL_PB = "saved_model.pb"

# By format.
MODEL_FILES = {"saved_model": SAVED_MODEL_PB, "tflite": "model.tflite", "onnx": "model.onnx"}

CLASSES_CSV, EXPORT_JSON, MODEL_CARD = "classes.csv", "export.json", "model_card.md"

LOG_MEL, EVERY_FRAME = "log_mel", "every_frame"  # the signatures that detectors use

WARMUP = "assets.extra/tf_serving_warmup_requests"


def versions(export_dir: str) -> list[int]:
    """Return the numbered versions in a folder, ascending; none if there is no such folder."""
    return sorted(int(name) for name in storage.list_dir(export_dir) if name.isdecimal())


def latest_version(folder: str) -> str:
    """Return the folder of a SavedModel: this one, or its version with the highest number.

    Raises:
        ValueError: if there is none.
    """
    for path in (folder, *(storage.join(folder, str(it)) for it in reversed(versions(folder)))):
        if storage.exists(storage.join(path, SAVED_MODEL_PB)):
            return path
    problem = "no model in it" if storage.is_dir(folder) else "no such folder"
    raise ValueError(
        f"{folder}: expected a folder with {SAVED_MODEL_PB}, or with numbered versions of one; "
        f"there is {problem}. Make one with python -m secost_tf.export --run_dir=RUN_DIR "
        f"--export_dir={folder}"
    )


@contextlib.contextmanager
def new_version(export_dir: str, model_format: str = "saved_model") -> Iterator[tuple[int, str]]:
    """Yield the next version's number, and a local folder that becomes `EXPORT_DIR/NUMBER`.

    TensorFlow Serving looks for names that are numbers, so it does not see the folder before that.
    An error leaves no version; a process that is killed leaves a temporary folder, which the next
    attempt replaces. Object storage has no folders to rename: there, the model's file, which makes
    a folder a model, is written last.

    Raises:
        ValueError: if the folder holds versions of another of the formats `MODEL_FILES`, which a
            server would take for its own.
    """
    _check_format(export_dir, model_format)
    storage.make_dirs(export_dir)
    number = max(versions(export_dir), default=0) + 1
    final = storage.join(export_dir, str(number))
    if storage.is_remote(export_dir):
        with tempfile.TemporaryDirectory() as folder:
            yield number, folder
            _upload(folder, final, MODEL_FILES[model_format])
        return
    temporary = storage.join(export_dir, f"{PARTIAL_PREFIX}{number}")
    storage.remove_tree(temporary)
    storage.make_dirs(temporary)
    try:
        yield number, temporary
        if storage.exists(final):
            raise ValueError(
                f"{final} has come up in the meantime: another export was faster; export again"
            )
        os.rename(temporary, final)
    finally:
        storage.remove_tree(temporary)


def _check_format(export_dir: str, model_format: str) -> None:
    for version in versions(export_dir):
        folder = storage.join(export_dir, str(version))
        for other, file in MODEL_FILES.items():
            if other != model_format and storage.exists(storage.join(folder, file)):
                raise ValueError(
                    f"{export_dir} holds {other} models ({folder}): export as {model_format} to "
                    "another --export_dir"
                )


def _upload(folder: str, final: str, last: str) -> None:
    import tensorflow as tf

    storage.make_dirs(final)
    for name in sorted(files_below(folder), key=lambda name: name == last):
        target = storage.join(final, *name.split("/"))
        storage.make_dirs(target.rsplit("/", 1)[0])
        tf.io.gfile.copy(os.path.join(folder, name), target, overwrite=True)


def files_below(folder: str) -> list[str]:
    """Return the files of a local folder, sorted, as `variables/variables.index`."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def digest(folder: str) -> str:
    """Return the SHA-256 over the names and contents of a model's graph, variables and assets."""
    total = hashlib.sha256()
    for name in files_below(folder):
        if name in MODEL_FILES.values() or name.startswith(("variables/", "assets/")):
            content = hashlib.sha256(Path(folder, name).read_bytes()).hexdigest()
            total.update(f"{name} {content}\n".encode())
    return total.hexdigest()


def write_warmup(folder: str, logs: list[bytes]) -> None:
    """Write the requests that TensorFlow Serving runs when it has loaded the model."""
    path = os.path.join(folder, *WARMUP.split("/"))
    os.makedirs(os.path.dirname(path))
    shards.write_records(path, logs)


@dataclasses.dataclass(frozen=True)
class ServingConfig(Config):
    """Settings of a model exported for TensorFlow Serving."""

    top_k: int = setting(
        10,
        "SavedModel: classes that the signature top_k gives for a clip, the highest scores first; "
        "at most all.",
        minimum=1,
    )
    max_seconds: float = setting(
        1200.0,
        "SavedModel: most sound in one request, over all its clips, in seconds; more is an error. "
        "Bounds the memory that a request takes: 5 MB a second at width 1.",
        above=0,
    )


@dataclasses.dataclass(frozen=True)
class PortableConfig(Config):
    """Settings of a model exported for the TFLite and ONNX runtimes."""

    model_input: str = setting(
        "waveform",
        "TFLite, ONNX: whether the model takes waveforms, or log-mels that the application "
        "computes as tfrecord_tools.log_mel does.",
        choices=("waveform", "log_mel"),
    )
    seconds: float = setting(
        10.0,
        "TFLite: length of the clips that the model takes, in seconds; shorter ones are to be "
        "followed by silence. ONNX takes any.",
        above=0,
    )
    precision: str = setting(
        "float32",
        "TFLite: float32; float16 weights, half the size; or int8 weights and convolutions, a "
        "quarter of the size, calibrated on clips (the log-mel and the pooling stay float32).",
        choices=("float32", "float16", "int8"),
        flag="tflite_precision",
        aliases=("precision",),
    )
    calibration_clips: int = setting(
        200, "TFLite in int8: clips that it is calibrated on, at most.", minimum=1
    )


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """The files beside the graph of a model that `secost_tf.export` made.

    Attributes:
        folder: of the version.
        title: the model's name and version.
        config: of the network.
        log_mel: what its input is made with.
        class_map: its classes.
    """

    folder: str
    title: str
    config: WelsNetConfig
    log_mel: LogMelConfig
    class_map: ClassMap


def read_exported(folder: str) -> ExportedModel:
    """Read it from the folder of a version, or of versions, of which the last is taken.

    TensorFlow is not loaded.

    Raises:
        ValueError: if there is no model, or it is not one of these.
    """
    folder = latest_version(folder)
    settings_json = storage.join(folder, EXPORT_JSON)
    if not storage.exists(settings_json):
        raise ValueError(
            f"{settings_json}: no such file, which tells of a model's log-mel and strides; make "
            "the model with python -m secost_tf.export"
        )
    settings = storage.read_json(settings_json)
    try:
        title = f"{settings['model']}, version {settings['version']}"
        config = StageConfig.from_dict(settings["stage"]).network
        log_mel = LogMelConfig.from_dict(settings["log_mel"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{settings_json}: not the settings of an exported model ({error})"
        ) from error
    class_map = read_class_map(storage.join(folder, "assets", CLASSES_CSV))
    return ExportedModel(folder, title, config, log_mel, class_map)
