"""An exponential moving average of a network's weights, which often scores better than the last
ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf


class WeightAverage:
    """average ← d · average + (1 − d) · weights after each step, with d = min(decay, (1 + t) / (10
    + t)) at step t.

    The statistics of the batch normalisation are averaged with the weights that they belong to. The
    rising d forgets the first, random weights (as `tf.train.ExponentialMovingAverage` does with a
    number of updates).

    Make it in the scope of the strategy in which `network` was made.

    Args:
        network: whose weights are averaged.
        decay: in (0, 1); the average reaches back about 1 / (1 - decay) steps.
    """

    def __init__(self, network: keras.Model, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"ema: expected a decay in (0, 1), got {decay}")
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
        """Takes the network's weights into the average; called by each replica after its step."""
        step = tf.convert_to_tensor(self._step)
        decay = tf.minimum(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self._averages, self.network.weights, strict=True):
            mean, value = (
                tf.convert_to_tensor(average),
                tf.cast(tf.convert_to_tensor(weight), tf.float32),
            )
            average.assign(mean + (1 - decay) * (value - mean))
        self._step.assign(step + 1)

    def weights(self) -> list[np.ndarray]:
        """The averages, as `network.set_weights` takes them."""
        return [tf.convert_to_tensor(average).numpy() for average in self._averages]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the averages into the network for the block, then its own weights back."""
        own: Sequence[np.ndarray] = self.network.get_weights()
        self.network.set_weights(self.weights())
        try:
            yield
        finally:
            self.network.set_weights(own)
