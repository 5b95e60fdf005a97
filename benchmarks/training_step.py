"""One step of training WELS-Net on sixteen clips of 1024 frames, 527 classes, against three sides.

    python benchmarks/training_step.py --peer_python=PEERS/bin/python [--widths=1,0.25]

A step is SeCoST's: alpha 0.3, cached teacher scores, forward, backward and Adam. The sides:

- `secost_tf`: `TeacherDistillation`, as `fit` runs it; `secost_tf-auto` with what
  `--precision=auto` takes, if that is not float32.
- `torch`: the same network in PyTorch, channels-last, float32. - `keras`: the same network of
Keras's own layers, compiled and trained as Keras and TensorFlow are installed. - `matmul`: as many
floating-point operations as the step's convolutions need, in products of large float32 matrices.
The
  ratio is the share of the processor's matmul rate that the step attains. A step counts as three
  forward passes, a multiply-add as two operations.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pairs

BATCH, FRAMES, MEL_BINS, CLASSES, ALPHA = 16, 1024, 64, 527, 0.3
MATRIX = 2048

Facts = dict[str, object]
Work = Callable[[], object]


def network_config(width: float):
    """The layer table; plain numbers, without TensorFlow."""
    from secost_tf.models.config import WelsNetConfig

    return WelsNetConfig(CLASSES, mel_bins=MEL_BINS, width=width)


def batch() -> dict[str, np.ndarray]:
    """Random log-mels, labels and teacher scores, float32."""
    generator = np.random.default_rng(0)
    return {
        "log_mel": generator.standard_normal((BATCH, FRAMES, MEL_BINS), np.float32) - 6,
        "labels": (generator.random((BATCH, CLASSES)) < 0.005).astype(np.float32),
        "teacher_scores": generator.random((BATCH, CLASSES), np.float32) * 0.1,
    }


def ours(width: float, precision: str) -> tuple[Work, Facts]:
    """SeCoST's step, and how many operations its convolutions take."""
    from secost_tf.models.distillation import TeacherDistillation
    from secost_tf.models.losses import SeCoSTLoss
    from secost_tf.models.network import wels_net
    from secost_tf.models.optimizers import make_optimizer
    from secost_tf.training import cost, devices

    precision, reason = devices.choose_precision(
        precision, network_config(width).convolution_channels
    )
    with devices.precision_policy(precision):
        student = wels_net(network_config(width))
        model = TeacherDistillation(student)
        model.compile(make_optimizer("Adam", 1e-3), SeCoSTLoss(ALPHA))
    arrays = batch()
    inputs = {"log_mel": arrays["log_mel"], "num_frames": np.full(BATCH, FRAMES, np.int32)}
    targets = {name: arrays[name] for name in ("labels", "teacher_scores")}
    parameters = sum(np.prod(weight.shape) for weight in student.trainable_variables)
    facts = {"parameters": int(parameters), "precision": precision, "reason": reason}
    facts["operations"] = 2 * cost.multiply_adds(network_config(width), FRAMES) * 3 * BATCH
    return steps_of(model, inputs, targets), facts


def steps_of(model, inputs, targets) -> Work:
    """Steps as `fit` takes them, on a batch that is ready; the first one traces the graph."""
    import tensorflow as tf

    batches = iter(tf.data.Dataset.from_tensors((inputs, targets)).repeat())
    model.make_train_function()
    return lambda: float(model.train_function(batches)["loss"])


def plain_keras(width: float) -> tuple[Work, Facts]:
    """Keras's own layers, losses and training, with the settings they come with."""
    config = network_config(width)
    os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)  # TensorFlow's default
    import keras

    layers = keras.layers

    def convolve(x, channels: int, kernel, padding: str):
        x = layers.Conv2D(config.channels(channels), kernel, padding=padding, use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization()(x))

    log_mel = keras.Input((FRAMES, MEL_BINS))
    x = layers.Normalization(mean=np.full(MEL_BINS, -6.0), variance=np.ones(MEL_BINS))(log_mel)
    x = layers.Reshape((FRAMES, MEL_BINS, 1))(x)
    for channels, pool in zip(config.block_channels, config.block_pools, strict=True):
        for _ in range(config.block_convolutions):
            x = convolve(x, channels, 3, "same")
        x = layers.MaxPooling2D(pool)(x)
    height = MEL_BINS // config.stride_frames
    x = convolve(x, config.embedding_channels, (config.embedding_frames, height), "valid")
    for channels in config.hidden_channels:
        x = convolve(x, channels, 1, "valid")
    x = layers.Conv2D(CLASSES, 1, activation="sigmoid")(x)
    model = keras.Model(log_mel, layers.GlobalAveragePooling2D()(x))
    model.compile(optimizer="adam", loss="binary_crossentropy")
    arrays, parameters = batch(), sum(np.prod(weight.shape) for weight in model.trainable_variables)
    targets = ALPHA * arrays["labels"] + (1 - ALPHA) * arrays["teacher_scores"]
    return steps_of(model, arrays["log_mel"], targets), {"parameters": int(parameters)}


def torch_step(width: float) -> tuple[Work, Facts]:
    """PyTorch, channels-last, float32, all cores."""
    import torch
    from torch import nn

    config, layers, inputs = network_config(width), [], 1

    def convolve(channels: int, kernel, padding: int) -> None:
        nonlocal inputs
        channels = config.channels(channels)
        norm = nn.BatchNorm2d(
            channels, eps=config.batch_norm_epsilon, momentum=1 - config.batch_norm_momentum
        )
        layers.extend(
            [
                nn.Conv2d(inputs, channels, kernel, padding=padding, bias=False),
                norm,
                nn.ReLU(inplace=True),
            ]
        )
        inputs = channels

    for channels, pool in zip(config.block_channels, config.block_pools, strict=True):
        for _ in range(config.block_convolutions):
            convolve(channels, 3, 1)
        layers.append(nn.MaxPool2d(pool))
    convolve(
        config.embedding_channels, (config.embedding_frames, MEL_BINS // config.stride_frames), 0
    )
    for channels in config.hidden_channels:
        convolve(channels, 1, 0)
    network = nn.Sequential(*layers, nn.Conv2d(inputs, CLASSES, 1)).to(
        memory_format=torch.channels_last
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    arrays = {name: torch.from_numpy(values) for name, values in batch().items()}

    def work() -> None:
        target = ALPHA * arrays["labels"] + (1 - ALPHA) * arrays["teacher_scores"]
        x = (arrays["log_mel"] + 6.0)[:, None].to(memory_format=torch.channels_last)
        scores = network(x).sigmoid().mean((2, 3))
        loss = nn.functional.binary_cross_entropy(scores, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return work, {"parameters": sum(weight.numel() for weight in network.parameters())}


def matmul(operations: float) -> tuple[Work, Facts]:
    """About so many operations in products of large float32 matrices, and how many exactly."""
    import secost_tf  # noqa: F401  oneDNN's kernels are on, as they are in training

    import tensorflow as tf  # isort: skip

    one, other = (tf.random.stateless_normal([MATRIX, MATRIX], [0, seed]) for seed in (0, 1))
    count = max(1, round(operations / (2 * MATRIX**3)))

    @tf.function(jit_compile=False)
    def product():
        return tf.linalg.matmul(one, other)

    return lambda: [product() for _ in range(count)][-1].numpy(), {
        "operations": count * 2 * MATRIX**3
    }


TENSORFLOW = ("tensorflow", "keras", "numpy")
SIDES = {
    "secost_tf": (lambda arguments: ours(arguments.width, "float32"), TENSORFLOW),
    "secost_tf-auto": (lambda arguments: ours(arguments.width, "auto"), TENSORFLOW),
    "torch": (lambda arguments: torch_step(arguments.width), ("torch", "numpy")),
    "keras": (lambda arguments: plain_keras(arguments.width), TENSORFLOW),
    "matmul": (lambda arguments: matmul(arguments.operations), TENSORFLOW),
}


def serve(arguments) -> None:
    """A side: its facts go to a file, then it steps as often as it is asked to."""
    prepare, packages = SIDES[arguments.serve]
    repeats = 1 if arguments.width >= 0.5 else 4  # several steps at a time where one is short

    def prepared() -> Work:
        work, facts = prepare(arguments)
        Path(arguments.facts).write_text(json.dumps(facts))
        return lambda: [work() for _ in range(repeats)]

    pairs.serve(prepared, packages)


def start(name: str, width: float, arguments, operations: float = 0.0) -> tuple[pairs.Side, Facts]:
    """A side that is ready, and its facts."""
    python = arguments.peer_python if name == "torch" else sys.executable
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "facts.json")
        options = (f"--width={width}", f"--operations={operations}", f"--facts={path}")
        side = pairs.Side(__file__, name, python, None, options)
        return side, json.loads(path.read_text())


def rows_of(width: float, arguments) -> list[dict]:
    """The table's rows for one width."""
    rows = []

    def add(one: pairs.Side, other: pairs.Side, what: str, bar: str, factor: float = 1.0) -> None:
        figures = pairs.compare(one, other, arguments.pairs)
        figures |= {name: figures[name] * factor for name in ("ratio", "lowest", "highest")}
        rows.append({"what": f"width {width:g}: {what}", "bar": bar, **figures})
        other.close()

    step, facts = start("secost_tf", width, arguments)
    side, known = start("matmul", width, arguments, facts["operations"])
    share = facts["operations"] / known["operations"]
    add(step, side, "share of the processor's matmul rate, float32", "0.6", share)
    for name, what, bar in (
        ("torch", "times as fast as PyTorch, float32", "1.2"),
        ("keras", "times as fast as plain Keras, float32", ""),
    ):
        side, known = start(name, width, arguments)
        if known["parameters"] != facts["parameters"]:
            raise SystemExit(
                f"{name}: {known['parameters']} parameters, expected {facts['parameters']}"
            )
        add(step, side, what, bar)
    step.close()
    step, facts = start("secost_tf-auto", width, arguments)
    if facts["precision"] == "float32":
        print(f"width {width:g}: --precision=auto is float32 here, {facts['reason']}: not measured")
    else:
        side, _ = start("torch", width, arguments)
        add(step, side, f"times as fast as PyTorch in float32, {facts['precision']}", "2")
    step.close()
    return rows


def main() -> None:
    options = pairs.parser(__doc__)
    options.add_argument(
        "--widths", default="1,0.25", help="widths of the network (default 1,0.25)"
    )
    options.add_argument("--width", type=float, help=argparse.SUPPRESS)
    options.add_argument("--operations", type=float, default=0.0, help=argparse.SUPPRESS)
    options.add_argument("--facts", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.serve:
        serve(arguments)
        return
    rows = [
        row for width in arguments.widths.split(",") for row in rows_of(float(width), arguments)
    ]
    pairs.show("training step, batch 16, 1024 frames, 527 classes", rows, arguments.json)


if __name__ == "__main__":
    main()
