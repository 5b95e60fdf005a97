"""Train a tiny student over some replicas, in some of `CASES`, and write the results as `.npz`.

Run in a process of its own, as logical devices must be set before TensorFlow starts:
`replica_script.py REPLICAS FILE CASE...`.
"""

import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from secost_tf.data.augmentation import mixup
from secost_tf.models.config import WelsNetConfig
from secost_tf.models.distillation import TeacherDistillation, average_teacher
from secost_tf.models.losses import SeCoSTLoss
from secost_tf.models.network import wels_net
from secost_tf.models.optimizers import build_optimizer
from secost_tf.training import devices
from secost_tf.training.checkpoints import TrainingState, restore_state, save_state

CONFIG = WelsNetConfig(
    num_classes=3,
    mel_bins=8,
    block_channels=(4,),
    block_pools=(8,),
    block_convolutions=1,
    embedding_channels=8,
    hidden_channels=(),
)
GLOBAL_BATCH = 6


def batches(clips, *, weighted=False):
    """Batches of six clips, the last with what is left."""
    rng = np.random.default_rng(0)
    inputs = {
        "log_mel": rng.normal(0, 1, (clips, 40, 8)).astype(np.float32),
        "num_frames": rng.integers(1, 41, clips).astype(np.int32),
    }
    labels = (rng.random((clips, 3)) < 0.4).astype(np.float32)
    weights = (np.arange(clips) % 4 if weighted else np.ones(clips)).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices((inputs, {"labels": labels}, weights)).batch(
        GLOBAL_BATCH
    )
    return data.apply(tf.data.experimental.assert_cardinality(-(-clips // GLOBAL_BATCH)))


CASES = {
    "even": lambda: batches(6),
    "uneven": lambda: batches(11),  # of the last 5, one replica takes 3
    "weighted": lambda: batches(11, weighted=True),
}  # and, beside these, a precision: that of `everything`


def make_model(**options):
    devices.set_seed(0)
    student = wels_net(CONFIG)
    model = TeacherDistillation(student, average_teacher([wels_net(CONFIG)]), **options)
    # A large epsilon: the gradient of a shift that the next normalisation undoes is but rounding,
    # which Adam's default would blow up to whole steps.
    model.compile(
        keras.optimizers.Adam(0.01, epsilon=1e-3),
        SeCoSTLoss(0.3),
        metrics=["mae"],
        weighted_metrics=[keras.metrics.MeanSquaredError(name="weighted_error", dtype="float32")],
    )
    build_optimizer(model.optimizer, student.trainable_variables)
    return model


def train(model, data):
    """The figures of one epoch and of an evaluation, the optimizer's steps, and the student's
    weights.
    """
    results = {name: values[0] for name, values in model.fit(data, verbose=0).history.items()}
    results["validation_loss"] = model.evaluate(data, verbose=0, return_dict=True)["loss"]
    results["steps"] = tf.convert_to_tensor(model.optimizer.iterations).numpy()
    for layer in model.student.layers:
        for weight, value in zip(layer.weights, layer.get_weights(), strict=True):
            results[f"weight {layer.name} {weight.name.split('/')[-1].split(':')[0]}"] = value
    return results


def everything(folder, precision):
    """Two epochs with all that can be switched on, the second one continued by another model."""

    def mix(step, batch):
        inputs, targets, weights = batch
        return (*mixup(inputs, targets, tf.stack([7, tf.cast(step, tf.int32)]), alpha=0.5), weights)

    mixed = batches(11, weighted=True).enumerate().map(mix)
    data = mixed.apply(tf.data.experimental.assert_cardinality(2))
    with devices.precision_policy(precision):
        model = make_model(ema=0.9, clip_norm=0.05)  # well below the norms that come
        first = train(model, data)
        save_state(folder, TrainingState(epoch=1), model)
        continued = make_model(ema=0.9, clip_norm=0.05)
        restore_state(folder, continued)
        results = train(continued, data)
        results |= {f"first {name}": value for name, value in first.items()}
        for index, value in enumerate(continued.scored_weights()):
            results[f"average {index}"] = value
    for step, (inputs, targets, weights) in enumerate(mixed):
        results |= {
            f"batch {step} {name}": value
            for name, value in {**inputs, **targets, "weights": weights}.items()
        }
    return results


def train_cases(strategy, cases):
    """Return what came of training in each case, by `case/name`, and `replicas`, their number."""
    results = {"replicas": np.array(strategy.num_replicas_in_sync)}
    with strategy.scope(), tempfile.TemporaryDirectory() as folder:
        model = make_model()
        save_state(folder, TrainingState(), model)
        for case in cases:
            restore_state(folder, model)  # every case starts alike
            if case in CASES:
                figures = train(model, CASES[case]())
            else:
                figures = everything(f"{folder}/{case}", case)
            results |= {f"{case}/{name}": value for name, value in figures.items()}
    return results


if __name__ == "__main__":
    replicas, path, *cases = sys.argv[1:]
    made = train_cases(devices.make_strategy("auto", logical_cpus=int(replicas)), cases)
    np.savez(path, **made)
