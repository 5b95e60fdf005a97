"""A trained network that scores segments, with all there is to know of it: from a run, or from an exported SavedModel.

The latter loads no training code, and no Keras model.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from secost_tf import export_folder
from secost_tf.config import StageConfig, WelsNetConfig
from secost_tf.segment_scores import Network
from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap, read_class_map
from tfrecord_tools.log_mel import LogMelConfig

SIGNATURE = "log_mel"


@dataclasses.dataclass(frozen=True)
class Detector:
    """What scores segments.

    Attributes:
        network: log-mel float32 [frames, mel_bins] -> segment scores float32 [K, C].
        config: of the network.
        log_mel: what its input is made with.
        class_map: its classes.
        folder: what it was loaded from.
    """

    network: Network
    config: WelsNetConfig
    log_mel: LogMelConfig
    class_map: ClassMap
    folder: str


def from_run(run_dir: str, stage: int) -> Detector:
    """The student of a stage; a `ValueError` if it is not done."""
    import tensorflow as tf

    from secost_tf import stage_folder

    student = stage_folder.load_student(run_dir, stage)
    record = stage_folder.StageRecord.read(run_dir, stage)

    def scores(log_mels):
        inputs = {"log_mel": log_mels, "num_frames": tf.shape(log_mels)[1:2]}
        return tf.sigmoid(student(inputs, training=False)["segment_logits"])[0]

    graph = tf.function(scores, [tf.TensorSpec([1, None, record.log_mel.mel_bins], tf.float32)])
    return Detector(
        network=lambda frames: graph(tf.constant(frames[None], tf.float32)).numpy(),
        config=record.config.network,
        log_mel=record.log_mel,
        class_map=record.class_map,
        folder=stage_folder.stage_dir(run_dir, stage),
    )


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """What lies beside the graph of a model that `secost_tf.export` made.

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
    """Reads it from the folder of a version, or of versions, of which the last is taken. Loads no TensorFlow.

    Raises:
        ValueError: if there is no model, or it is not one of these.
    """
    folder = export_folder.latest_version(folder)
    settings_json = storage.join(folder, export_folder.EXPORT_JSON)
    if not storage.exists(settings_json):
        raise ValueError(
            f"{settings_json}: no such file, which tells of a model's log-mel and strides; make the model with python -m "
            "secost_tf.export"
        )
    settings = storage.read_json(settings_json)
    try:
        title = f"{settings['model']}, version {settings['version']}"
        config = StageConfig.from_dict(settings["stage"]).network
        log_mel = LogMelConfig.from_dict(settings["log_mel"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{settings_json}: not the settings of an exported model ({error})") from error
    class_map = read_class_map(storage.join(folder, "assets", export_folder.CLASSES_CSV))
    return ExportedModel(folder, title, config, log_mel, class_map)


def from_saved_model(folder: str) -> Detector:
    """A model that `secost_tf.export` made; see `read_exported`."""
    import tensorflow as tf

    exported = read_exported(folder)
    model = tf.saved_model.load(exported.folder)
    if SIGNATURE not in model.signatures:
        raise ValueError(
            f"{exported.folder}: expected a signature {SIGNATURE!r}, found {', '.join(sorted(model.signatures))}; export the model again"
        )

    def network(frames: np.ndarray) -> np.ndarray:
        outputs = model.signatures[SIGNATURE](log_mel=tf.constant(frames[None], tf.float32))
        return outputs["segment_scores"][0].numpy()

    return Detector(network, exported.config, exported.log_mel, exported.class_map, exported.folder)
