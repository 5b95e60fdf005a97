"""The cost of training, estimated from ten steps: parameters, operations, steps, memory, time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from secost_tf.models import WelsNetConfig
from secost_tf.runs import CascadeConfig, RunOptions
from secost_tf.training import cascade, devices, stage
from tfrecord_tools.text import format_duration, format_size, format_table

_TIMED_STEPS, _WARM_UP_STEPS = 10, 3


def multiply_adds(config: WelsNetConfig, num_frames: int) -> int:
    """Return the multiply-adds of the convolutions for one clip of `num_frames` frames.

    They are nearly all of a forward pass. A training step takes about three times as many: forward,
    and back to the weights and to the inputs.
    """
    time_steps = max(
        -(-num_frames // config.stride_frames) * config.stride_frames, config.window_frames
    )
    mel_bins, inputs, total = config.mel_bins, 1, 0
    for channels, pool in zip(config.block_channels, config.block_pools, strict=True):
        outputs = config.channels(channels)
        for _ in range(config.block_convolutions):
            total += time_steps * mel_bins * 3 * 3 * inputs * outputs
            inputs = outputs
        time_steps, mel_bins = time_steps // pool, mel_bins // pool
    segments, kernel = config.num_segments(num_frames), config.embedding_frames * mel_bins
    for channels in (config.embedding_channels, *config.hidden_channels):
        outputs = config.channels(channels)
        total += segments * kernel * inputs * outputs
        inputs, kernel = outputs, 1
    heads = 2 if config.pooling == "attention" else 1
    return total + segments * inputs * config.num_classes * heads


def estimate_cost(
    config: CascadeConfig,
    data_dir: str,
    run_dir: str,
    make_strategy: Callable[[], tf.distribute.Strategy],
    options: RunOptions,
) -> str:
    """Return a table of the cost of all stages that are not done, from ten steps of the first one.

    Nothing is written. Arguments and errors as for `cascade.run_cascade`.
    """
    _, to_train = cascade.plan(config, data_dir, run_dir)
    if not to_train:
        return f"nothing to train: all stages up to {config.stage} are done in {run_dir}"
    first, strategy = to_train[0], make_strategy()
    train = first.train
    stage_data = stage.StageData.open(first, data_dir, run_dir)
    training, info = stage_data.training, stage_data.training.info
    with devices.precision_policy(train.precision):
        model, _ = stage.make_model(stage_data.record(first), stage_data, run_dir, strategy)
        timer = _StepTimer()
        batches = stage.Batches(first, stage_data, strategy, options).epoch(0)
        steps = stage.steps_per_epoch(train, training)
        taken = min(steps, _WARM_UP_STEPS + _TIMED_STEPS)
        model.fit(batches, steps_per_epoch=taken, callbacks=[timer], shuffle=False, verbose=0)
    # The graph is traced and the buffers fill in the first steps.
    times = timer.times[min(_WARM_UP_STEPS, taken - 1) :]
    seconds = float(np.median(times))
    validation = stage_data.validation.num_clips if stage_data.validation else 0
    # Scoring is the forward third of a step: the validation clips each epoch, all clips once for
    # the next stage.
    clip_seconds = seconds / train.batch_size / 3
    scoring = clip_seconds * (validation * train.epochs + info.num_clips)
    total = steps * train.epochs * seconds + scoring
    parameters = sum(math.prod(weight.shape) for weight in model.student.trainable_variables)
    gflop = 2 * multiply_adds(first.network, info.max_frames) / 1e9
    a_pass = f"; a pass is {training.num_clips // train.batch_size:,} steps"
    rows = {
        "stages to train": ", ".join(str(config.stage) for config in to_train),
        "parameters": f"{parameters:,}",
        "operations": f"{gflop:.2f} GFLOP a clip forward ({info.max_frames} frames), "
        "three times that a step",
        "records": f"{training.num_clips:,} clips, "
        f"{format_size(sum(shard.bytes for shard in info.shards))}",
        "validation": f"{validation:,} clips after each epoch"
        if validation
        else "none: the last epoch is kept",
        "steps": f"{steps:,} an epoch of {train.batch_size} clips, "
        f"{steps * train.epochs:,} a stage{a_pass if train.steps_per_epoch else ''}",
        "memory": _describe_memory(),
        "speed": f"{train.batch_size / seconds:.1f} clips/s "
        f"({1000 * seconds:.0f} ms a step, median of {len(times)})",
        "operations/s": f"{3 * gflop * train.batch_size / seconds:.0f} GFLOP/s",
        "time a stage": f"about {format_duration(total)}, "
        f"of which scoring {format_duration(scoring)}",
        "time in all": f"about {format_duration(total * len(to_train))} for {len(to_train)} stages",
    }
    if train.teacher == "online" and config.stage:
        rows[""] = "later stages take longer: the teacher scores each batch"
    return format_table(list(rows.items()), left=(0, 1))


class _StepTimer(keras.callbacks.Callback):
    """A clock that takes the time of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_batch_begin(self, batch, logs=None):
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        float(logs["loss"])  # waits for the device
        self.times.append(time.perf_counter() - self._started)


def _describe_memory() -> str:
    """Return the memory that was held and that is free, of the machine and of each GPU."""
    peak, free = format_size(devices.peak_memory()), format_size(devices.available_memory())
    parts = [f"{peak} peak of this process so far, {free} free"]
    for gpu in tf.config.list_logical_devices("GPU"):
        peak = tf.config.experimental.get_memory_info(gpu.name.removeprefix("/device:"))["peak"]
        parts.append(f"{format_size(peak)} peak on {gpu.name}")
    return "; ".join(parts)
