"""The processes that train together, one or several: who writes, and what they must do in step."""

from __future__ import annotations

import functools
import zlib

import tensorflow as tf


class Workers:
    """The workers of a strategy; of any but a `MultiWorkerMirroredStrategy` there is one, this
    process.

    What several workers call here, all of them must call, in the same order: each call waits for
    the others.
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
        """Whether this worker is the one that writes files and speaks to people."""
        return self.index == 0

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any worker."""
        return bool(flag) if self.count == 1 else bool(self._sum([float(flag)])[0] > 0)

    def wait(self) -> None:
        """Returns when all workers are here."""
        self.any(False)

    def check_same(self, text: str) -> None:
        """A `ValueError` if the workers do not all have the same text: what they see of the run."""
        if self.count == 1:
            return
        mine = float(zlib.crc32(text.encode()) % (1 << 20))
        mean = self._sum([mine])[0] / self.strategy.num_replicas_in_sync
        if self.any(mean != mine):
            raise ValueError(
                f"the workers do not see the same run (worker {self.index}: {text}): give all the same command and a "
                "--run_dir and --data_dir on storage that they share"
            )

    def _sum(self, values: list[float]) -> list[float]:
        return self._reduce(tf.constant(values, tf.float64)).numpy().tolist()

    @functools.cached_property
    def _reduce(self):
        def reduce(values):
            each = self.strategy.run(tf.identity, (values,))
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None)

        return tf.function(reduce, [tf.TensorSpec([1], tf.float64)])


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy spans several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
