"""A student on log-mels: clip scores and segment scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit


class ClipScores(NamedTuple):
    """The scores of a clip, float64 [C], and of its segments, float64 [K, C], in 0..1."""

    clip: np.ndarray
    segments: np.ndarray


def score_clips(student: keras.Model, log_mels: Iterable[np.ndarray]) -> list[ClipScores]:
    """Score some clips, each by itself, so that no score depends on the others.

    `secost_tf.evaluation.Scorer` scores whole splits, batch by batch.

    Args:
        student: a `wels_net`.
        log_mels: float [frames, mel_bins] each, of any lengths.
    """
    scores = []
    for log_mel in log_mels:
        inputs = {
            "log_mel": tf.constant(log_mel[None], tf.float32),
            "num_frames": tf.constant([len(log_mel)], tf.int32),
        }
        outputs = student(inputs, training=False)
        logits = (outputs[name].numpy()[0] for name in ("logits", "segment_logits"))
        scores.append(ClipScores(*(expit(values, dtype=np.float64) for values in logits)))
    return scores
