"""Average a network's weights over its steps, which often scores better than the last ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf


class WeightAverage:
    """Keep an exponential moving average of a network's weights.

    After step t the average becomes d · average + (1 − d) · weights, with d = min(decay, (1 + t) /
    (10 + t)). The rising d forgets the first, random weights. The statistics of the batch
    normalisation are averaged with the weights that they belong to.

    `TeacherDistillation(student, ema=decay)` makes one, updates it and saves it. Under a
    `tf.distribute` strategy make it in the scope in which the network was made.

    Source: `tf.train.ExponentialMovingAverage` with a number of updates; Polyak and Juditsky
        (1992).

    Args:
        network: the network whose weights are averaged; it must be built.
        decay: in (0, 1); the average reaches back about 1 / (1 − decay) steps.

    Raises:
        ValueError: if the decay is not in (0, 1), or the network has no weights yet.

    Example:
        >>> import keras, numpy as np
        >>> from secost_tf import WeightAverage
        >>> network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> network.set_weights([np.array([[0.0]])])
        >>> average = WeightAverage(network, decay=0.9)
        >>> network.set_weights([np.array([[1.0]])])
        >>> average.update()  # the first step: d = 1 / 10
        >>> print(average.weights()[0].round(3))
        [[0.9]]
        >>> with average.applied():
        ...     print(network.get_weights()[0].round(3))
        [[0.9]]
    """

    def __init__(self, network: keras.Model, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ema: expected a decay in (0, 1), got {decay}")
        if not network.weights:
            raise ValueError(
                f"network: expected a network with weights, got {network.name}, which has none "
                "yet; call it on a batch first"
            )
        self.network, self.decay = network, decay
        self._step = self._variable(np.zeros([], np.float32))
        self._averages = [self._variable(value) for value in network.get_weights()]

    @staticmethod
    def _variable(value: np.ndarray) -> tf.Variable:
        once = tf.VariableAggregation.ONLY_FIRST_REPLICA  # all replicas average the same
        return tf.Variable(value, trainable=False, aggregation=once)

    @property
    def variables(self) -> list[tf.Variable]:
        """All that must be saved to continue."""
        return [self._step, *self._averages]

    def update(self) -> None:
        """Take the network's weights into the average; called by each replica after its step."""
        step = tf.convert_to_tensor(self._step)
        decay = tf.minimum(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self._averages, self.network.weights, strict=True):
            mean = tf.convert_to_tensor(average)
            value = tf.cast(tf.convert_to_tensor(weight), tf.float32)
            average.assign(mean + (1 - decay) * (value - mean))
        self._step.assign(step + 1)

    def weights(self) -> list[np.ndarray]:
        """Return the averages, as `network.set_weights` takes them."""
        return [tf.convert_to_tensor(average).numpy() for average in self._averages]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the network for a block, and its own weights back at the end."""
        own = self.network.get_weights()
        self.network.set_weights(self.weights())
        try:
            yield
        finally:
            self.network.set_weights(own)
