"""The processes that train together, one or several."""

from __future__ import annotations

import functools
import zlib

import tensorflow as tf


class Workers:
    """The workers of a strategy; there is one, unless it is a `MultiWorkerMirroredStrategy`.

    All workers must make the same calls, in the same order: each call waits for the others.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        resolver = strategy.cluster_resolver if is_multi_worker(strategy) else None
        cluster = resolver.cluster_spec().as_dict() if resolver else {}
        chiefs, others = len(cluster.get("chief", [])), len(cluster.get("worker", []))
        self.count = chiefs + others or 1
        self.index = 0
        if resolver and resolver.task_type == "worker":
            self.index = chiefs + resolver.task_id
        self.local_replicas = strategy.num_replicas_in_sync // self.count

    @property
    def is_chief(self) -> bool:
        """True if this worker is the one that writes files and prints."""
        return self.index == 0

    def any(self, flag: bool) -> bool:
        """Return True if `flag` is true in any worker."""
        return bool(flag) if self.count == 1 else self._sum(float(flag)) > 0

    def wait(self) -> None:
        """Wait until all workers are here."""
        self.any(False)

    def check_same(self, text: str) -> None:
        """Raise `ValueError` if the workers do not all have the same text about the run."""
        if self.count == 1:
            return
        mine = float(zlib.crc32(text.encode()) % (1 << 20))
        mean = self._sum(mine) / self.strategy.num_replicas_in_sync
        if self.any(mean != mine):
            raise ValueError(
                f"the workers do not see the same run (worker {self.index}: {text}): give all the "
                "same command and a --run_dir and --data_dir on storage that they share"
            )

    def _sum(self, value: float) -> float:
        """Return the sum of a value over all replicas."""
        return float(self._reduce(tf.constant([value], tf.float64))[0])

    @functools.cached_property
    def _reduce(self):
        def reduce(values):
            each = self.strategy.run(tf.identity, (values,))
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None)

        return tf.function(reduce, [tf.TensorSpec([1], tf.float64)])


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Return True if a strategy spans several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
