"""Choices for a whole process: devices, replicas, threads, precision, seeds."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from secost_tf.models import processor_flags
from tfrecord_tools.text import format_count

if TYPE_CHECKING:
    import tensorflow as tf

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

_BFLOAT16_CHANNELS = 16  # whose multiples oneDNN's bfloat16 convolutions are made for


@contextlib.contextmanager
def _before_start(demand: str) -> Iterator[None]:
    """Raise `ValueError` with a demand if TensorFlow has already started."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"{demand} before TensorFlow has started ({error})") from error


def make_strategy(name: str = "auto", logical_cpus: int = 0) -> tf.distribute.Strategy:
    """Return a `tf.distribute.Strategy`.

    `auto` mirrors over all GPUs if there are several, else over the logical CPUs if there are
    several, else takes the one device; `mirrored` mirrors over all there are; `one_device` is
    TensorFlow's default strategy, which computes on the first GPU, or on the CPU; `multi_worker`
    mirrors over the devices of all processes that the environment variable TF_CONFIG names.
    """
    import tensorflow as tf

    if name not in STRATEGIES:
        raise ValueError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")
    if logical_cpus > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
        processor = tf.config.list_physical_devices("CPU")[0]
        with _before_start("logical_cpus: must be set"):
            tf.config.set_logical_device_configuration(processor, parts)
    if name == "multi_worker":
        return _multi_worker_strategy()
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if name == "mirrored" or (name == "auto" and len(devices) > 1):
        options = None if gpus else tf.distribute.ReductionToOneDevice()
        return tf.distribute.MirroredStrategy(
            [device.name for device in devices], cross_device_ops=options
        )
    # Any other strategy wraps the batches in a data set of its own, whose end may wait for seconds
    # (`data._ahead`).
    return tf.distribute.get_strategy()


def _multi_worker_strategy():
    import tensorflow as tf

    from secost_tf.models import KERAS_3

    if KERAS_3:
        raise ValueError(
            "strategy: multi_worker needs Python 3.10 or 3.11 (TensorFlow 2.15): Keras 3 cannot "
            "train under a MultiWorkerMirroredStrategy (keras-team/keras#20585). On one machine, "
            "use --strategy=mirrored"
        )
    cluster_config()
    with _before_start("strategy: multi_worker must be set up"):
        return tf.distribute.MultiWorkerMirroredStrategy()


def cluster_config() -> dict:
    """Return the content of the environment variable TF_CONFIG.

    Raises:
        ValueError: if it is not set, or not as expected; the message has an example.
    """
    expected = (
        'multi_worker reads TF_CONFIG, on each worker its own index: \'{"cluster": {"worker": '
        '["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}\''
    )
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        cluster[task["type"]][int(task["index"])]
        if not set(cluster) <= {"chief", "worker"}:
            raise ValueError(
                f"tasks of type {', '.join(sorted(cluster))}, only chief and worker are known"
            )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        got = f"got {text!r} ({error})" if text else "it is not set"
        raise ValueError(f"strategy: {expected}; {got}") from error
    return config


def set_threads(threads: int = 0) -> tuple[int, str]:
    """Set the number of threads of an operation, and return it with the reason.

    TensorFlow takes a thread for each core that it sees. In a container it does not see the limit
    that is set there, and many threads on few cores are slow. To be called before TensorFlow runs.

    Args:
        threads: number of threads; 0: as many as this process may use cores.
    """
    import tensorflow as tf

    from tfrecord_tools.parallel import available_cores

    number = threads or available_cores()
    reason = "as asked" if threads else "all cores that it may use"
    try:
        tf.config.threading.set_intra_op_parallelism_threads(number)
        tf.config.threading.set_inter_op_parallelism_threads(number)
    except RuntimeError as error:
        if threads:
            message = f"threads: must be set before TensorFlow has started ({error})"
            raise ValueError(message) from error
        return 0, "TensorFlow had started"
    return number, reason


def _read_bytes(path: str, name: str) -> int:
    """Read a number of kilobytes from a file below /proc, and return it in bytes."""
    values = dict(line.split(":", 1) for line in Path(path).read_text().splitlines())
    return int(values[name].split()[0]) * 1024


def available_memory() -> int:
    """Return the memory that this process can still get, in its container too, in bytes."""
    free = _read_bytes("/proc/meminfo", "MemAvailable")
    with contextlib.suppress(OSError, ValueError):  # no such limit
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free = min(free, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return free


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    return _read_bytes("/proc/self/status", "VmHWM")


def make_deterministic() -> None:
    """Let the same operations on the same values give the same bits, at a price in speed."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def describe(strategy, precision: str, reason: str, threads: int, why_threads: str) -> str:
    """Return a line with versions, devices, threads, kernels, precision, and the reasons."""
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    one_dnn = os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1"
    devices = (
        f"{format_count(len(gpus), 'GPU')}"
        if gpus
        else f"processor with {threads} threads ({why_threads})"
    )
    replicas = strategy.num_replicas_in_sync
    return (
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}; {devices}, "
        f"oneDNN {'on' if one_dnn else 'off'}; {type(strategy).__name__.lstrip('_')}, "
        f"{format_count(replicas, 'replica')}; precision {precision} ({reason})"
    )


def choose_precision(name: str, channels: Sequence[int]) -> tuple[str, str]:
    """Return a Keras policy, chosen if `auto` is asked for, and the reason.

    Args:
        name: one of `PRECISIONS`.
        channels: of the network's 3x3 convolutions; oneDNN's bfloat16 kernels are fast for
            multiples of 16 alone, and two to four times as slow as float32 for others.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {name!r}")
    if name != "auto":
        return name, "as asked"
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capabilities = [
            tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus
        ]
        if all(capability and capability >= (8, 0) for capability in capabilities):
            return "mixed_bfloat16", "the GPUs have fast bfloat16"
        return "float32", "not all GPUs have fast bfloat16"
    fast = sorted(processor_flags() & {"amx_bf16", "avx512_bf16"})
    if not fast:
        return "float32", "the processor has neither amx_bf16 nor avx512_bf16"
    if any(number % _BFLOAT16_CHANNELS for number in channels):
        slow = f"bfloat16 is slow where channels are no multiples of {_BFLOAT16_CHANNELS}"
        return "float32", f"{slow}: {', '.join(map(str, channels))}"
    return "mixed_bfloat16", f"the processor has {' and '.join(fast)}"


@contextlib.contextmanager
def precision_policy(name: str) -> Iterator[None]:
    """Set Keras's global precision policy for the block."""
    import keras

    before = keras.mixed_precision.global_policy().name
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and with them the weights of the next network built."""
    import keras

    keras.utils.set_random_seed(seed)


_NAME = "CustomGradient-"  # of what `tf.custom_gradient` registers each time that it is traced


@contextlib.contextmanager
def custom_gradients_forgotten() -> Iterator[None]:
    """Forget, at the end of the block, the custom gradients that were traced in it.

    No graph of the block may be used after it. TensorFlow registers them by a name of their own,
    for good, and with each the graph that it lies in and all variables of that graph. Keras 3's
    optimizers trace one for each network, in `all_reduce`: without this, every stage would leave
    its weights and those of its optimizer in memory.
    """
    from tensorflow.python.framework import ops

    registry = getattr(getattr(ops, "gradient_registry", None), "_registry", {})
    before = set(registry)
    try:
        yield
    finally:
        for name in [name for name in registry if name.startswith(_NAME) and name not in before]:
            del registry[name]
