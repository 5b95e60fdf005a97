"""Frees what TensorFlow would otherwise hold for ever of a network that was trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tensorflow.python.framework import ops

_NAME = "CustomGradient-"  # of what `tf.custom_gradient` registers each time that it is traced


@contextlib.contextmanager
def custom_gradients_forgotten() -> Iterator[None]:
    """At its end, forgets the custom gradients that were traced in the block; no graph of the block may be used after it.

    TensorFlow registers them by a name of their own, for good, and with each the graph that it lies in and all variables
    of that graph. Keras 3's optimizers trace one for each network, in `all_reduce`: without this, every stage would leave
    its weights and those of its optimizer in memory.
    """
    registry = getattr(getattr(ops, "gradient_registry", None), "_registry", {})
    before = set(registry)
    try:
        yield
    finally:
        for name in [name for name in registry if name.startswith(_NAME) and name not in before]:
            del registry[name]
