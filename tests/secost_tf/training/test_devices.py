import random
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from secost_tf.models import processor
from secost_tf.models.config import WelsNetConfig
from secost_tf.training import devices
from secost_tf.training import devices as runtime


def policy():
    return keras.mixed_precision.global_policy().name


@pytest.mark.parametrize(
    ("flags", "precision", "reason"),
    [
        ({"avx2", "avx512f"}, "float32", "the processor has neither amx_bf16 nor avx512_bf16"),
        (set(), "float32", "the processor has neither amx_bf16 nor avx512_bf16"),
        ({"avx512_bf16", "avx2"}, "mixed_bfloat16", "the processor has avx512_bf16"),
        (
            {"amx_bf16", "avx512_bf16"},
            "mixed_bfloat16",
            "the processor has amx_bf16 and avx512_bf16",
        ),
    ],
)
def test_precision_follows_the_processor(monkeypatch, flags, precision, reason):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(runtime, "processor_flags", lambda: flags)
    assert devices.choose_precision("auto", (16, 32)) == (precision, reason)


def test_a_processor_is_slow_at_bfloat16_for_odd_numbers_of_channels(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(runtime, "processor_flags", lambda: {"amx_bf16"})
    channels = WelsNetConfig(num_classes=1, width=0.375).convolution_channels
    assert channels == (24, 48, 96, 192)
    reason = "bfloat16 is slow where channels are no multiples of 16: 24, 48, 96, 192"
    assert devices.choose_precision("auto", channels) == ("float32", reason)
    assert devices.choose_precision("mixed_bfloat16", channels) == ("mixed_bfloat16", "as asked")


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [([(8, 0)], "mixed_bfloat16"), ([(9, 0), (7, 5)], "float32"), ([None], "float32")],
)
def test_precision_follows_the_gpus_where_there_are_some(monkeypatch, capabilities, precision):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: capabilities)
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda gpu: {"compute_capability": gpu} if gpu else {},
    )
    monkeypatch.setattr(runtime, "processor_flags", lambda: {"amx_bf16"})
    assert devices.choose_precision("auto", (8,))[0] == precision


def test_precision_as_asked():
    for name in ("float32", "mixed_bfloat16", "mixed_float16"):
        assert devices.choose_precision(name, (16,)) == (name, "as asked")


def test_processor_flags(monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "Path", lambda path: cpuinfo)
    assert processor.processor_flags() == set()
    cpuinfo.write_text(
        "processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\nbugs\t: none\nflags\t: other\n"
    )
    assert {"fpu", "avx2", "amx_bf16"} <= processor.processor_flags()
    assert "other" not in processor.processor_flags()
    cpuinfo.write_text("processor\t: 0\nFeatures\t: asimd\n")
    assert processor.processor_flags() == set()


def test_unknown_names():
    with pytest.raises(
        ValueError, match=r"precision: expected one of auto, float32, .*, got 'bfloat16'"
    ):
        devices.choose_precision("bfloat16", (16,))
    with pytest.raises(
        ValueError,
        match="strategy: expected one of auto, one_device, mirrored, multi_worker, got 'tpu'",
    ):
        devices.make_strategy("tpu")


def test_precision_policy_is_restored():
    assert policy() == "float32"
    with devices.precision_policy("mixed_bfloat16"):
        assert policy() == "mixed_bfloat16"
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        with devices.precision_policy("float32"):
            assert policy() == "float32"
        assert policy() == "mixed_bfloat16"
    assert policy() == "float32"
    with pytest.raises(KeyError), devices.precision_policy("mixed_float16"):
        raise KeyError
    assert policy() == "float32"


def draw(seed):
    devices.set_seed(seed)
    layer = keras.layers.Dense(4)
    layer.build((None, 3))
    values = (random.random(), np.random.random(), *layer.get_weights()[0].ravel())  # noqa: NPY002
    return np.array(values)


def test_a_seed_makes_equal_weights():
    np.testing.assert_array_equal(draw(3), draw(3))
    assert np.all(draw(3)[:3] != draw(4)[:3])


@pytest.mark.parametrize("name", ["auto", "one_device", "mirrored"])
def test_one_processor_is_one_replica(name):
    strategy = devices.make_strategy(name)
    assert strategy.num_replicas_in_sync == 1
    assert isinstance(strategy, tf.distribute.MirroredStrategy) == (name == "mirrored")


def test_logical_processors_after_tensorflow_has_started():
    tf.constant(0)
    with pytest.raises(ValueError, match="logical_cpus: must be set before TensorFlow has started"):
        devices.make_strategy("mirrored", logical_cpus=2)


def test_logical_processors_in_a_fresh_process():
    script = (
        "from secost_tf.training.devices import make_strategy\n"
        "for name, cpus in (('auto', 3), ('mirrored', 0), ('one_device', 0)):\n"
        "    strategy = make_strategy(name, logical_cpus=cpus)\n"
        "    print(type(strategy).__name__, strategy.num_replicas_in_sync)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "MirroredStrategy 3",
        "MirroredStrategy 3",
        "_DefaultDistributionStrategy 1",
    ]


def test_threads_are_those_that_the_process_may_use():
    script = (
        "from secost_tf.training import devices as runtime; from tfrecord_tools import parallel; "
        "import tensorflow as tf\n"
        "parallel.available_cores = lambda: 3\n"
        "print(runtime.set_threads(), tf.config.threading.get_intra_op_parallelism_threads())\n"
        "print(runtime.set_threads(5), tf.config.threading.get_intra_op_parallelism_threads())\n"
        "tf.constant(0)\n"
        "print(runtime.set_threads())\n"
        "try: runtime.set_threads(7)\n"
        "except ValueError as error: print(error)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    lines = shown.splitlines()
    assert lines[:3] == [
        "(3, 'all cores that it may use') 3",
        "(5, 'as asked') 5",
        "(0, 'TensorFlow had started')",
    ]
    assert lines[3].startswith("threads: must be set before TensorFlow has started")


def test_one_line_says_what_was_chosen():
    strategy = tf.distribute.get_strategy()
    line = devices.describe(strategy, "float32", "as asked", 2, "all cores that it may use")
    assert line.startswith(
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}; processor with 2 threads (all "
    )
    assert (
        line.endswith("DefaultDistributionStrategy, 1 replica; precision float32 (as asked)")
        and "oneDNN" in line
    )


def test_memory_is_read_from_the_system(monkeypatch, tmp_path):
    assert 0 < devices.peak_memory() < devices.available_memory() + devices.peak_memory() < 1 << 50
    folder = tmp_path
    (folder / "meminfo").write_text("MemTotal: 8000 kB\nMemAvailable:    4000 kB\n")
    monkeypatch.setattr(devices, "Path", lambda path: folder / path.rsplit("/", 1)[1])
    assert devices.available_memory() == 4000 * 1024
    (folder / "memory.max").write_text("max\n")
    assert devices.available_memory() == 4000 * 1024
    (folder / "memory.max").write_text("3000000\n")
    (folder / "memory.current").write_text("1000000\n")
    assert devices.available_memory() == 2000000
