"""The training step by hand, teachers that stay as they are, and one replica against two."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import replica_script
import tensorflow as tf

from secost_tf.models.config import WelsNetConfig
from secost_tf.models.distillation import TeacherDistillation, average_teacher
from secost_tf.models.losses import SeCoSTLoss
from secost_tf.models.network import wels_net
from secost_tf.training.devices import precision_policy, set_seed

CONFIG = WelsNetConfig(
    num_classes=3,
    mel_bins=8,
    block_channels=(4,),
    block_pools=(8,),
    block_convolutions=1,
    embedding_channels=8,
    hidden_channels=(6,),
)
CLIPS = 8


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


def network(seed):
    set_seed(seed)
    return wels_net(CONFIG)


@pytest.fixture
def clips():
    """Inputs, labels and teacher scores of eight clips."""
    rng = np.random.default_rng(0)
    inputs = {
        "log_mel": rng.normal(0, 1, (CLIPS, 40, 8)).astype(np.float32),
        "num_frames": rng.integers(1, 41, CLIPS).astype(np.int32),
    }
    labels = (rng.random((CLIPS, 3)) < 0.4).astype(np.float32)
    return inputs, labels, rng.random((CLIPS, 3)).astype(np.float32)


def batches(inputs, labels, teacher_scores=None, weights=None, size=4):
    targets = {"labels": labels} | (
        {} if teacher_scores is None else {"teacher_scores": teacher_scores}
    )
    slices = (
        (inputs, targets) if weights is None else (inputs, targets, np.asarray(weights, np.float32))
    )
    return tf.data.Dataset.from_tensor_slices(slices).batch(size)


def distillation(student, teacher=None, alpha=0.3, optimizer=None):
    model = TeacherDistillation(student, teacher)
    model.compile(optimizer or keras.optimizers.Adam(0.01, epsilon=1e-3), SeCoSTLoss(alpha))
    return model


def assert_equal_weights(actual, expected, **tolerance):
    for value, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(value, wanted, **{"rtol": 0, "atol": 0, **tolerance})


# === By hand ===


def linear_student(**options):
    """Logits = 2 inputs times weights, which start at 0, so that every p = 1/2."""
    inputs = keras.Input((2,))
    return keras.Model(
        inputs, keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros", **options)(inputs)
    )


X = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]], np.float32)
Y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
TEACHER = np.array([[0.5, 0.25], [0.5, 0.75], [1.0, 0.0]], np.float32)
TARGET = 0.25 * Y + 0.75 * TEACHER


@pytest.mark.parametrize("weights", [None, [1, 2, 1], [0, 1, 0]])
def test_step_by_hand(weights):
    """Sum over clips of weight times gradient x (p − ȳ) / C, over the number of clips."""
    model = distillation(linear_student(), alpha=0.25, optimizer=keras.optimizers.SGD(1.0))
    history = model.fit(batches(X, Y, TEACHER, weights, size=3), verbose=0).history
    w = np.ones(3) if weights is None else np.array(weights)
    gradient = sum(w[n] * np.outer(X[n], 0.5 - TARGET[n]) / 2 for n in range(3)) / 3
    np.testing.assert_allclose(model.student.get_weights()[0], -gradient, rtol=1e-6)
    np.testing.assert_allclose(history["loss"], [np.log(2) * w.sum() / 3], rtol=1e-6)


def test_step_by_hand_with_an_alpha_for_each_class():
    """The second class has alpha 1: its teacher is not read."""
    teacher = np.where([True, False], TEACHER, np.nan).astype(np.float32)
    model = distillation(linear_student(), alpha=(0.25, 1.0), optimizer=keras.optimizers.SGD(1.0))
    model.fit(batches(X, Y, teacher, size=3), verbose=0)
    target = np.where([True, False], TARGET, Y)
    gradient = sum(np.outer(X[n], 0.5 - target[n]) / 2 for n in range(3)) / 3
    np.testing.assert_allclose(model.student.get_weights()[0], -gradient, rtol=1e-6)


def test_weight_of_two_is_that_clip_twice():
    """The same sum over clips; four clips instead of three divide it."""
    twice = [0, 1, 1, 2]
    weighted = distillation(linear_student(), alpha=0.25, optimizer=keras.optimizers.SGD(3.0))
    weighted.fit(batches(X, Y, TEACHER, [1, 2, 1], size=3), verbose=0)
    repeated = distillation(linear_student(), alpha=0.25, optimizer=keras.optimizers.SGD(4.0))
    repeated.fit(batches(X[twice], Y[twice], TEACHER[twice], size=4), verbose=0)
    assert_equal_weights(weighted.student.get_weights(), repeated.student.get_weights(), rtol=1e-6)


def test_regularisers_count_once():
    student = linear_student(kernel_regularizer=keras.regularizers.L2(0.1))
    student.set_weights([np.ones((2, 2), np.float32)])
    model = distillation(student, optimizer=keras.optimizers.SGD(1.0), alpha=1.0)
    model.fit(batches(np.zeros((3, 2), np.float32), Y, size=3), verbose=0)
    np.testing.assert_allclose(student.get_weights()[0], np.full((2, 2), 1 - 2 * 0.1), rtol=1e-6)


def test_evaluation_by_hand():
    model = distillation(linear_student())
    model.student.set_weights([np.array([[1.0, 0.0], [0.0, -1.0]], np.float32)])
    z = X * [1, -1]
    per_clip = np.mean(np.log1p(np.exp(z)) - Y * z, axis=1)
    for weights in (None, [1, 2, 0]):
        loss = model.evaluate(batches(X, Y, weights=weights, size=2), verbose=0, return_dict=True)[
            "loss"
        ]
        expected = np.mean(per_clip * (np.ones(3) if weights is None else weights))
        assert loss == pytest.approx(expected, rel=1e-6)


# === Losses ===


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_logged_loss_is_label_loss_plus_teacher_loss(alpha):
    model = distillation(linear_student(), alpha=alpha, optimizer=keras.optimizers.SGD(0.5))
    history = model.fit(batches(X, Y, TEACHER, [1, 2, 0.5], size=2), epochs=3, verbose=0).history
    assert sorted(history) == ["gradient_norm", "label_loss", "loss", "teacher_loss"]
    parts = np.add(history["label_loss"], history["teacher_loss"])
    np.testing.assert_allclose(parts, history["loss"], rtol=0, atol=1e-6)
    assert np.any(history["teacher_loss"]) == (alpha < 1)
    assert len(set(history["loss"])) == 3


def test_logged_loss_is_that_of_the_step():
    model = distillation(linear_student(), alpha=0.25)
    model.student.set_weights([np.array([[1.0, 0.5], [0.0, -1.0]], np.float32)])
    p = sigmoid(X @ model.student.get_weights()[0])
    history = model.fit(batches(X, Y, TEACHER, size=3), verbose=0).history
    np.testing.assert_allclose(
        history["loss"], [-np.mean(TARGET * np.log(p) + (1 - TARGET) * np.log(1 - p))], rtol=1e-5
    )
    np.testing.assert_allclose(
        history["label_loss"], [-np.mean(Y * np.log(p) + (1 - Y) * np.log(1 - p))], rtol=1e-5
    )


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_validation_loss_is_plain_bce_whatever_alpha(clips, alpha):
    inputs, labels, _ = clips
    model = distillation(network(0), alpha=alpha)
    p = sigmoid(model.student(inputs, training=False)["logits"])
    figures = model.evaluate(batches(inputs, labels), verbose=0, return_dict=True)
    expected = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)
    assert figures["label_loss"] == figures["loss"]
    assert figures["teacher_loss"] == 0


def test_validation_in_fit():
    model = distillation(linear_student())
    history = model.fit(batches(X, Y, TEACHER), validation_data=batches(X, Y), verbose=0).history
    after = model.evaluate(batches(X, Y), verbose=0, return_dict=True)
    assert history["val_loss"] == [pytest.approx(after["loss"], rel=1e-6)]


@pytest.mark.parametrize(("size", "steps"), [(3, 1), (2, 2), (1, 3)])
def test_one_step_a_batch(size, steps):
    model = distillation(linear_student())
    model.fit(batches(X, Y, TEACHER, size=size), epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == 2 * steps


# === The teacher ===


def test_online_teacher_teaches_as_its_cached_scores_and_stays_as_it_is(clips, tmp_path):
    inputs, labels, _ = clips
    teacher = network(1)
    before = [weight.copy() for weight in teacher.get_weights()]
    scores = sigmoid(teacher(inputs, training=False)["logits"]).astype(np.float32)
    online, cached = distillation(network(0), average_teacher([teacher])), distillation(network(0))
    start = online.student.get_weights()
    taught = online.fit(batches(inputs, labels), verbose=0).history
    for name, values in cached.fit(batches(inputs, labels, scores), verbose=0).history.items():
        np.testing.assert_allclose(values, taught[name], rtol=1e-5, atol=1e-6)
    assert_equal_weights(cached.student.get_weights(), online.student.get_weights(), atol=1e-5)
    assert np.any(online.student.get_weights()[-1] != start[-1])
    assert_equal_weights(
        teacher.get_weights(), before
    )  # batch normalisation's statistics among them

    theirs = {id(weight) for weight in teacher.weights}
    assert not theirs & {id(weight) for weight in (*online.weights, *online.variables)}
    trained = {id(weight) for weight in online.trainable_variables}
    assert trained == {id(weight) for weight in online.student.trainable_variables}

    def arrays_saved_by(name, saved):
        saved.save_weights(str(tmp_path / name))
        return arrays_in(tmp_path / name)

    arrays = arrays_saved_by("model.weights.h5", online)
    largest = max(before, key=np.size)
    assert any(same(array, max(online.student.get_weights(), key=np.size)) for array in arrays)
    assert not any(same(array, largest) for array in arrays)
    assert any(same(array, largest) for array in arrays_saved_by("teacher.weights.h5", teacher))


def arrays_in(path):
    import h5py

    arrays = []
    with h5py.File(path) as file:
        file.visititems(
            lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None
        )
    return arrays


def same(array, another):
    return np.shape(array) == np.shape(another) and np.array_equal(array, another)


def test_two_teachers_are_averaged(clips):
    inputs = clips[0]
    teachers = [network(1), network(2)]
    scores = [sigmoid(teacher(inputs, training=False)["logits"]) for teacher in teachers]
    assert np.abs(scores[0] - scores[1]).max() > 0.01
    np.testing.assert_allclose(
        average_teacher(teachers)(inputs), (scores[0] + scores[1]) / 2, rtol=1e-5
    )


def test_a_model_as_teacher_is_no_part_of_the_student():
    student, teacher = linear_student(), linear_student(activation="sigmoid")
    teacher.set_weights([np.ones((2, 2), np.float32)])
    model = distillation(student, teacher)
    model.fit(batches(X, Y), verbose=0)
    assert not any(weight is teacher.weights[0] for weight in model.weights)
    assert [weight is student.weights[0] for weight in model.trainable_variables] == [True]
    np.testing.assert_array_equal(teacher.get_weights()[0], np.ones((2, 2)))


def test_no_gradient_flows_into_a_teacher():
    """A teacher that is the student itself counts as a constant target."""
    student = linear_student()
    model = distillation(
        student, lambda x: tf.sigmoid(student(x)), alpha=0.0, optimizer=keras.optimizers.SGD(1.0)
    )
    start = np.array([[1.0, 0.0], [0.0, -1.0]], np.float32)
    student.set_weights([start])
    model.fit(batches(X, Y, size=3), verbose=0)
    np.testing.assert_allclose(student.get_weights()[0], start, atol=1e-6)  # p = ȳ


def test_teacher_and_cached_scores_at_once():
    model = distillation(linear_student(), tf.sigmoid)
    with pytest.raises(
        ValueError, match="teacher: expected a teacher or batches with `teacher_scores`, got both"
    ):
        model.fit(batches(X, Y, TEACHER), verbose=0)


def test_neither_teacher_nor_cached_scores():
    with pytest.raises(
        ValueError, match=r"teacher: alpha = 0\.3 needs a teacher, or batches with `teacher_scores`"
    ):
        distillation(linear_student()).fit(batches(X, Y), verbose=0)


@pytest.mark.parametrize("alpha", [1.0, (1.0, 1.0)])
def test_alpha_1_needs_no_teacher(alpha):
    alone, taught = (
        distillation(linear_student(), alpha=alpha),
        distillation(linear_student(), alpha=alpha),
    )
    history = alone.fit(batches(X, Y), verbose=0).history
    assert history["teacher_loss"] == [0]
    taught_history = taught.fit(batches(X, Y, np.full_like(TEACHER, np.nan)), verbose=0).history
    assert taught_history == history
    assert_equal_weights(taught.student.get_weights(), alone.student.get_weights())


def test_another_loss():
    for loss in ("binary_crossentropy", keras.losses.BinaryCrossentropy()):
        with pytest.raises(ValueError, match="loss: expected a SeCoSTLoss, got"):
            TeacherDistillation(linear_student()).compile(keras.optimizers.SGD(1.0), loss)


# === Gradients ===


def test_a_gradient_longer_than_clip_norm_is_shortened():
    def step(clip_norm):
        model = TeacherDistillation(linear_student(), clip_norm=clip_norm)
        model.compile(keras.optimizers.SGD(1.0), SeCoSTLoss(0.25))
        history = model.fit(batches(X, Y, TEACHER, size=len(X)), verbose=0).history
        np.testing.assert_allclose(
            history["gradient_norm"], [norm], rtol=1e-5
        )  # before it is clipped
        return model.student.get_weights()[0]

    gradient = -X.T @ (TARGET - 0.5) / 2 / len(X)  # as in `test_step_by_hand`
    norm = np.linalg.norm(gradient)
    np.testing.assert_allclose(step(0.0), -gradient, atol=1e-6)
    np.testing.assert_allclose(step(2 * norm), -gradient, atol=1e-6)
    np.testing.assert_allclose(step(norm / 4), -gradient / 4, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_clipping_in_float16_is_of_the_gradient_itself_not_of_the_scaled_one(clips, clip_norm):
    moved, norms = [], []
    for precision in ("float32", "mixed_float16"):
        with precision_policy(precision):
            model = TeacherDistillation(network(0), clip_norm=clip_norm)
            model.compile(keras.optimizers.SGD(0.1), SeCoSTLoss(0.3))
            before = model.student.get_weights()
            norms.append(model.fit(batches(*clips, size=CLIPS), verbose=0).history["gradient_norm"])
        moved.append(
            [after - own for after, own in zip(model.student.get_weights(), before, strict=True)]
        )
    assert_equal_weights(*moved, atol=2e-3)
    assert max(np.abs(change).max() for change in moved[0]) > 0.005
    np.testing.assert_allclose(*norms, rtol=0.01)


def test_a_gradient_that_is_not_finite_makes_the_loss_no_number():
    @tf.custom_gradient
    def poisoned(x):
        return tf.identity(x), lambda upstream: upstream * float("inf")

    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(2, use_bias=False)(inputs)
    student = keras.Model(inputs, keras.layers.Lambda(poisoned, output_shape=(2,))(outputs))
    history = distillation(student).fit(batches(X, Y, TEACHER), verbose=0).history
    assert np.isnan(history["loss"][0]) and np.isfinite(history["label_loss"][0])


# === Precision ===


def test_mixed_float16_scales_the_loss_and_takes_the_same_step(clips):
    full = distillation(network(0), optimizer=keras.optimizers.SGD(0.1))
    with precision_policy("mixed_float16"):
        half = distillation(network(0), optimizer=keras.optimizers.SGD(0.1))
        assert isinstance(half.optimizer, keras.mixed_precision.LossScaleOptimizer)
        half.fit(batches(*clips, size=CLIPS), verbose=0)
    start = full.student.get_weights()
    full.fit(batches(*clips, size=CLIPS), verbose=0)
    moved = [
        after - before for after, before in zip(full.student.get_weights(), start, strict=True)
    ]
    assert max(np.abs(change).max() for change in moved) > 0.01
    assert_equal_weights(half.student.get_weights(), full.student.get_weights(), atol=2e-3)


# === Replicas ===


def on_one_and_two_replicas(path, *cases):
    """Return what `replica_script` makes of cases in this process, and on two logical devices."""
    command = [sys.executable, replica_script.__file__, "2", path, *cases]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        single = replica_script.train_cases(tf.distribute.get_strategy(), cases)
        messages = process.communicate(timeout=600)[1]
    assert process.returncode == 0, messages
    with np.load(path) as file:
        double = dict(file)
    assert (single.pop("replicas"), double.pop("replicas")) == (1, 2)
    return single, double


def figures_of(case, results):
    return {
        name.removeprefix(f"{case}/"): value
        for name, value in results.items()
        if name.startswith(f"{case}/")
    }


def test_one_replica_and_two_take_the_same_steps(tmp_path):
    cases = {"even": 1, "uneven": 2, "weighted": 2}
    both = on_one_and_two_replicas(str(tmp_path / "two.npz"), *cases)
    for case, steps in cases.items():
        single, double = (figures_of(case, results) for results in both)
        assert single.pop("gradient_norm") > 0  # several replicas know it where it is clipped
        assert single.keys() == double.keys()
        # Statistics, two convolutions with their norms, the last layer.
        assert sum(name.startswith("weight ") for name in single) == 14
        assert int(single["steps"]) == int(double["steps"]) == steps
        for name, value in single.items():
            np.testing.assert_allclose(double[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
        assert np.all(double["weight b1_1 moving_mean"] != 0)


@pytest.mark.slow
def test_one_replica_and_two_agree_with_everything_on(tmp_path):
    """Mixup, sample weights, an uneven last batch, clipped gradients, averaged weights, continued
    by another model.
    """
    tolerances = {"float32": 1e-4, "mixed_bfloat16": 2e-2}
    both = on_one_and_two_replicas(str(tmp_path / "two.npz"), *tolerances)
    for precision, tolerance in tolerances.items():
        single, double = (figures_of(precision, results) for results in both)
        assert single.keys() == double.keys()
        assert int(single["steps"]) == int(double["steps"]) == 4
        for name, value in single.items():
            if name.startswith("batch "):
                np.testing.assert_array_equal(double[name], value, err_msg=name)
            else:
                np.testing.assert_allclose(
                    double[name], value, rtol=tolerance, atol=tolerance, err_msg=name
                )
        assert sum(name.startswith("batch ") for name in single) == 2 * 4
        assert sum(name.startswith("average ") for name in single) == 14
        moved = max(
            np.abs(value - single[f"first {name}"]).max()
            for name, value in single.items()
            if name.startswith("weight ")
        )
        assert moved > (100 * tolerance if precision == "float32" else 0)
