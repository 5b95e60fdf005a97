"""A trained network that scores segments, with all there is to know of it: from a run, or from an
exported SavedModel.

The latter loads no training code, and no Keras model.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from secost_tf.detection.windows import Network, fine_segment_scores, segment_scores
from secost_tf.models import WelsNetConfig
from secost_tf.runs import find_stage
from secost_tf.serving import EVERY_FRAME, LOG_MEL, read_exported
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.log_mel import LogMelConfig

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Detector:
    """What scores segments.

    Attributes:
        network: log-mel float32 [frames, mel_bins] -> segment scores float32 [K, C].
        every_frame: the same of the segments that begin with every frame, float32 [K * stride, C].
        config: of the network.
        log_mel: what its input is made with.
        class_map: its classes.
        folder: what it was loaded from.
    """

    network: Network
    every_frame: Network
    config: WelsNetConfig
    log_mel: LogMelConfig
    class_map: ClassMap
    folder: str

    def segment_scores(self, blocks: Iterable[np.ndarray], hop_scale: int = 1) -> np.ndarray:
        """The scores of a recording of any length, from pieces of its log-mel: float32 [K, C].

        Args:
            blocks: float32 [frames, mel_bins] each.
            hop_scale: 1: of the segments that the network was trained with, a stride apart; more:
                see `fine_segment_scores`.
        """
        if hop_scale == 1:
            return segment_scores(blocks, self.network, self.config)
        return fine_segment_scores(blocks, self.every_frame, self.config, hop_scale)


def from_run(run_dir: str, stage: int) -> Detector:
    """The student of a stage; a `ValueError` if it is not done."""
    folder = find_stage(run_dir, stage)
    record = folder.record
    return from_student(
        folder.student, record.config.network, record.log_mel, record.class_map, folder.path
    )


def from_student(
    student: keras.Model,
    config: WelsNetConfig,
    log_mel: LogMelConfig,
    class_map: ClassMap,
    folder: str,
) -> Detector:
    """A `wels_net`; the other arguments are the detector's attributes."""
    import tensorflow as tf

    from secost_tf.models import every_frame

    def network(logits: Callable[[dict[str, tf.Tensor]], tf.Tensor]) -> Network:
        def scores(log_mels):
            return tf.sigmoid(
                logits({"log_mel": log_mels, "num_frames": tf.shape(log_mels)[1:2]})[0]
            )

        graph = tf.function(scores, [tf.TensorSpec([1, None, log_mel.mel_bins], tf.float32)])
        return lambda frames: graph(tf.constant(frames[None], tf.float32)).numpy()

    @functools.cache
    def fine() -> Network:  # made when it is asked for
        model = every_frame(student)
        return network(lambda inputs: model(inputs, training=False))

    return Detector(
        network=network(lambda inputs: student(inputs, training=False)["segment_logits"]),
        every_frame=lambda frames: fine()(frames),
        config=config,
        log_mel=log_mel,
        class_map=class_map,
        folder=folder,
    )


def from_saved_model(folder: str) -> Detector:
    """A model that `secost_tf.export` made; see `read_exported`."""
    import tensorflow as tf

    exported = read_exported(folder)
    model = tf.saved_model.load(exported.folder)

    def of_signature(name: str) -> Network:
        def network(frames: np.ndarray) -> np.ndarray:
            if name not in model.signatures:
                raise ValueError(
                    f"{exported.folder}: expected a signature {name!r}, found {', '.join(sorted(model.signatures))}; export the "
                    "model again"
                )
            outputs = model.signatures[name](log_mel=tf.constant(frames[None], tf.float32))
            return outputs["segment_scores"][0].numpy()

        return network

    return Detector(
        of_signature(LOG_MEL),
        of_signature(EVERY_FRAME),
        exported.config,
        exported.log_mel,
        exported.class_map,
        exported.folder,
    )
