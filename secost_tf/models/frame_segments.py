"""Make a network that scores a segment from every frame on, not from every stride on.

An input without its first frame falls on another grid of the max-pools; all such shifts together
score every frame. Here they share what they have in common: a pool of p hands on all its p grids,
as p times as many clips. At the defaults that is seven times the work of one pass, for 32 shifts.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from secost_tf.models.layers import ZeroPadding


def every_frame(student: keras.Model) -> keras.Model:
    """Make the network on every grid; its layers, and so its weights, are the student's own.

    Args:
        student: a `wels_net`, with K segments `stride` frames apart.

    Returns:
        A Keras model from the student's inputs to the segment logits, float32
        [batch, K * stride, classes], of the segments that begin with frame 0, 1, ... Every
        stride-th is the student's own, as are the others for a clip without its first frames, but
        for the ends: all grids see what comes before them, and zeros from the end of the student's
        padded clip on.
    """
    output = student.output["segment_logits"]
    network = keras.models.clone_model(
        keras.Model(student.input, output), clone_function=_on_every_grid
    )
    return keras.Model(
        network.input, JoinGrids(name="join_grids")(network.output, network.input["num_frames"])
    )


def _on_every_grid(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return the layer itself, or for one that knows of strides that of every grid."""
    if isinstance(layer, keras.layers.MaxPooling2D):
        return EveryMaxPooling(layer.pool_size[0], name=layer.name)
    if isinstance(layer, ZeroPadding):
        return EveryZeroPadding(**layer.get_config())
    return layer


class EveryMaxPooling(keras.layers.Layer):
    """Max-pooling on every grid along the time, before a ReLU.

    What lies behind the end counts as 0. From [n, time, mel, channels] to
    [pool * n, time / pool, mel / pool, channels], the clips of one grid after those of another.
    """

    def __init__(self, pool: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool = pool

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the largest values, on every grid."""
        x = tf.nn.max_pool2d(x, (1, self.pool), (1, self.pool), "VALID")
        x = tf.pad(x, [[0, 0], [0, self.pool - 1], [0, 0], [0, 0]])
        x = tf.nn.max_pool2d(x, (self.pool, 1), 1, "VALID")
        return tf.space_to_batch(x, [self.pool, 1], [[0, 0], [0, 0]])


class EveryZeroPadding(ZeroPadding):
    """Zero padding of clips that are there once for each grid."""

    def call(
        self, features: tf.Tensor, num_frames: tf.Tensor, training: bool | None = False
    ) -> tf.Tensor:
        """Return the features with zeros behind each clip's end, at inference."""
        return super().call(features, tf.tile(num_frames, [self.stride]), training)


class JoinGrids(keras.layers.Layer):
    """The segments of all grids in the order of their first frames.

    From [stride * batch, K, C] to [batch, K * stride, C].
    """

    def call(self, x: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Return the segments in their order."""
        return tf.batch_to_space(x, [tf.shape(x)[0] // tf.size(num_frames)], [[0, 0]])
