"""What is chosen once for a process: devices, replicas, precision, seeds."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

STRATEGIES = ("auto", "one_device", "mirrored")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


def set_logical_cpus(count: int) -> None:
    """Splits the processor into `count` logical devices, to try replicas on one machine; before TensorFlow runs."""
    import tensorflow as tf

    devices = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    except RuntimeError as error:
        raise ValueError(f"logical_cpus: must be set before TensorFlow has started ({error})") from error


def make_strategy(name: str, logical_cpus: int = 0):
    """A `tf.distribute.Strategy`.

    `auto` mirrors over all GPUs if there are several, else over the logical CPUs if there are several, else takes
    the one device; `mirrored` mirrors over all there are; `one_device` takes the first GPU, or the CPU.
    """
    import tensorflow as tf

    if name not in STRATEGIES:
        raise ValueError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")
    if logical_cpus > 1:
        set_logical_cpus(logical_cpus)
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if name == "mirrored" or (name == "auto" and len(devices) > 1):
        options = None if gpus else tf.distribute.ReductionToOneDevice()
        return tf.distribute.MirroredStrategy([device.name for device in devices], cross_device_ops=options)
    return tf.distribute.OneDeviceStrategy("GPU:0" if gpus else "CPU:0")


def choose_precision(name: str) -> tuple[str, str]:
    """Turns `auto` into a Keras policy; returns it and the reason, for people to read."""
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
    flags = _processor_flags()
    fast = sorted(flags & {"amx_bf16", "avx512_bf16"})
    if fast:
        return "mixed_bfloat16", f"the processor has {' and '.join(fast)}"
    return "float32", "the processor has neither amx_bf16 nor avx512_bf16"


def _processor_flags() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())


@contextlib.contextmanager
def precision_policy(name: str) -> Iterator[None]:
    """Sets Keras's global precision policy for the block."""
    import keras

    before = keras.mixed_precision.global_policy().name
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def set_seed(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow, and with them the weights of the next network built."""
    import keras

    keras.utils.set_random_seed(seed)


class Preemption:
    """Makes of SIGTERM, which schedulers send before they take a machine away, an orderly end with status 143.

    Where a block is `deferred`, it only notes that an end was requested; whoever works there looks at `requested`, saves
    what is to be saved, and calls `stop`.
    """

    STATUS = 128 + signal.SIGTERM

    def __init__(self) -> None:
        self.requested = False
        self._is_deferred = False

    def install(self) -> None:
        """Handles SIGTERM from now on; in the main thread."""
        signal.signal(signal.SIGTERM, self._handle)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Leaves it to the block to stop."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def stop(self, message: str) -> None:
        """Ends the process, with what is to be said of it."""
        print(f"stopped by SIGTERM: {message}", file=sys.stderr)
        raise SystemExit(self.STATUS)

    def _handle(self, signum: int, frame: object) -> None:
        del signum, frame
        self.requested = True
        if not self._is_deferred:
            self.stop("the same command continues with what is not done")


preemption = Preemption()  # signals are the process's
