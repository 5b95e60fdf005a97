"""Settings of the commands that train, `secost_tf.train` and `secost_tf.experiment`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from absl import logging

from secost_tf.models import WelsNetConfig
from secost_tf.runs import CascadeConfig, RunOptions, RunSettings, TrainConfig
from secost_tf.training import devices
from secost_tf.training.preemption import preemption
from tfrecord_tools import shards
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import given_flags, read_flag_values, read_flags
from tfrecord_tools.corpora import make_builtin_data
from tfrecord_tools.datasets import read_class_values

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings(RunSettings):
    """The data that a cascade is trained on, and the folder of its run."""

    data_dir: str | None = setting(
        None,
        "Folder of converted splits (tfrecord_tools.convert --out): train, eval, and validation if "
        "given. Default: the built-in corpus, made once under the user's cache directory (about 15 "
        "seconds).",
    )
    alpha_per_class_csv: str | None = setting(
        None,
        "A csv with the columns alpha and mid or display_name: weights of the labels of some "
        "classes, in every stage after 0; the other classes take --alpha. Default: --alpha for "
        "all.",
    )
    dry_run: bool = setting(
        False,
        "Train nothing: print what a stage costs (parameters, operations, records, steps, memory) "
        "and, from ten timed steps, how long it takes.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceSettings(Config):
    """The devices that a cascade is trained on, and their arithmetic."""

    precision: str = setting(
        "auto",
        "Arithmetic of the convolutions; weights, loss and pooling stay float32. auto takes "
        "mixed_bfloat16 where the GPU or processor is fast at it, else float32; a processor is "
        "fast at it if --width makes all channels multiples of 16 (1, 0.5, 0.25).",
        choices=devices.PRECISIONS,
    )
    input_streams: int | None = setting(
        None,
        "Equal parts of the shards from which each batch is drawn alike. Default: as many as there "
        "are workers; give it to make, on fewer workers, the batches of more.",
        minimum=1,
    )
    strategy: str = setting(
        "auto",
        "auto: mirrored over all GPUs if there are several, else one device. mirrored: "
        "MirroredStrategy over all devices. one_device: the first GPU, or the processor. "
        "multi_worker: mirrored over the devices of all machines in TF_CONFIG, each of which runs "
        "the same command (Python 3.10 and 3.11).",
        choices=devices.STRATEGIES,
    )
    threads: int = setting(
        0,
        "Processor threads for an operation. 0: as many as this process may use cores, container "
        "limits included.",
        minimum=0,
    )
    deterministic: bool = setting(
        False,
        "Let the same command give the same weights to the bit on the same machine; slower on "
        "GPUs.",
    )
    logical_cpus: int = setting(
        0,
        "Splits the processor into this many logical devices, to try replicas on one machine; 0 "
        "leaves it whole.",
        minimum=0,
    )


TRAIN_SETTINGS = (
    TrainSettings,
    CascadeConfig,
    WelsNetConfig,
    TrainConfig,
    DeviceSettings,
    RunOptions,
)


def read_cascade_flags(**train_values: Any) -> CascadeConfig:
    """Return the cascade that the flags ask for; what depends on the machine is left to `set_up`.

    Args:
        **train_values: of `TrainConfig`, in place of what the flags say.
    """
    return read_flags(
        CascadeConfig,
        network=read_flag_values(WelsNetConfig),
        train=read_flags(TrainConfig, **train_values),
    )


def read_run_options(leave_out: Collection[str] = ()) -> RunOptions:
    """Return the settings that change no result, as the flags say.

    Args:
        leave_out: flags that are not kept beside the stages; --dry_run never is.
    """
    lines = given_flags(*TRAIN_SETTINGS, leave_out=("dry_run", *leave_out))
    command = "# python -m secost_tf.train --flagfile=flags.txt"
    return read_flags(RunOptions, flags=f"{command}\n{lines}")


def set_up(
    config: CascadeConfig, settings: TrainSettings, device_settings: DeviceSettings
) -> tuple[CascadeConfig, str, Callable[[], tf.distribute.Strategy]]:
    """Prepare this process for training; to be called once.

    Args:
        config: settings of the cascade.
        settings: the data and the folder of the run.
        device_settings: the devices.

    Returns:
        The settings of the cascade, completed with those that depend on the machine; the folder of
        the data; the function that makes the strategy.

    Raises:
        ValueError: if several workers have no folder of data in common, or a file is wrong.
    """
    preemption.install()
    num_workers = 1
    if device_settings.strategy == "multi_worker":
        if not settings.data_dir:
            raise ValueError(
                "data_dir: must be given with --strategy=multi_worker, on storage that all workers "
                "share"
            )
        num_workers = sum(map(len, devices.cluster_config()["cluster"].values()))
    data_dir = settings.data_dir or make_builtin_data()
    if settings.alpha_per_class_csv:
        class_map = shards.read_dataset_info(data_dir, "train").class_map
        class_alphas = read_class_values(settings.alpha_per_class_csv, class_map, "alpha")
        config = dataclasses.replace(config, class_alphas=class_alphas)
    threads = devices.set_threads(device_settings.threads)
    if device_settings.deterministic:
        devices.make_deterministic()
    channels = WelsNetConfig(num_classes=1, **config.network).convolution_channels
    precision, reason = devices.choose_precision(device_settings.precision, channels)
    input_streams = device_settings.input_streams or num_workers
    train = dataclasses.replace(config.train, precision=precision, input_streams=input_streams)
    config = dataclasses.replace(config, train=train)

    def make_strategy():
        strategy = devices.make_strategy(device_settings.strategy, device_settings.logical_cpus)
        preemption.install()  # again: TensorFlow takes SIGTERM when several workers start
        logging.info("%s", devices.describe(strategy, precision, reason, *threads))
        return strategy

    return config, data_dir, make_strategy
