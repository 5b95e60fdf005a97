"""`TeacherDistillation` as a Keras model: targets, teachers, students, metrics, saving."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import TINY

from secost_tf.models.distillation import TeacherDistillation, average_teacher
from secost_tf.models.losses import SeCoSTLoss, stack_targets
from secost_tf.models.network import wels_net
from secost_tf.training.devices import set_seed

X = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]], np.float32)
Y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
TEACHER = np.array([[0.5, 0.25], [0.5, 0.75], [1.0, 0.0]], np.float32)
TAUGHT = {"labels": Y, "teacher_scores": TEACHER}
WEIGHTS = np.array([[1.0, 0.5], [0.0, -1.0]], np.float32)


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


def linear(weights=None, **options):
    """A model of two inputs and two outputs without a bias."""
    dense = keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros", **options)
    model = keras.Sequential([keras.Input((2,)), dense])
    if weights is not None:
        model.set_weights([weights])
    return model


def compiled(student=None, teacher=None, alpha=0.3, metrics=None, weighted_metrics=None, **options):
    model = TeacherDistillation(linear() if student is None else student, teacher, **options)
    model.compile(keras.optimizers.Adam(0.1), SeCoSTLoss(alpha), metrics, weighted_metrics)
    return model


def equal(actual, expected, **tolerance):
    for values, others in zip(actual, expected, strict=True):
        np.testing.assert_allclose(values, others, **{"rtol": 1e-6, "atol": 1e-7, **tolerance})


@pytest.fixture
def warnings(caplog):
    """Returns what was warned of so far."""
    caplog.set_level(logging.WARNING, logger="absl")
    return lambda: [record.getMessage() for record in caplog.records]


# === Targets ===


@pytest.mark.parametrize(
    ("y", "came"),
    [(Y, "got \\w*Tensor"), ({"teacher_scores": Y}, r"got a dict of \['teacher_scores'\]")],
)
def test_targets_without_labels(y, came):
    message = (
        rf"y: expected a dict with the `labels`, {came}; write `model.fit\(x, \{{\"labels\": y, "
    )
    with pytest.raises(ValueError, match=message):
        compiled().fit(X, y, verbose=0)
    with pytest.raises(ValueError, match=message):
        compiled().evaluate(X, y, verbose=0)


def test_labels_of_another_number_of_classes():
    with pytest.raises(
        ValueError, match=r"student: expected the shape of the labels, .*3\] .*got .*2\]"
    ):
        compiled(alpha=1).fit(X, {"labels": np.ones((3, 3))}, verbose=0)


# === Teachers ===


class Subclassed(keras.Model):
    """A model whose `call` takes no `training`, and which is built when it is called."""

    def __init__(self, dense):
        super().__init__()
        self.dense = dense

    def call(self, inputs):
        return {"logits": self.dense(inputs), "other": inputs}


def dense_of(model):
    model(X)
    return model.layers[-1]


TEACHERS = {
    "scores of a model": lambda: linear(WEIGHTS, activation="sigmoid"),
    "logits in a dict": lambda: Subclassed(dense_of(linear(WEIGHTS))),
    "average of models": lambda: average_teacher([linear(WEIGHTS), linear(WEIGHTS)]),
    "TensorFlow": lambda: lambda x: tf.sigmoid(tf.matmul(x, WEIGHTS)),
    "NumPy": lambda: (
        lambda x: tf.numpy_function(
            lambda array: sigmoid(array @ WEIGHTS).astype(np.float32), [x], tf.float32
        )
    ),
    "another type": lambda: (
        lambda x: tf.sigmoid(tf.matmul(tf.cast(x, tf.float64), WEIGHTS.astype(float)))
    ),
}


@pytest.mark.parametrize("kind", TEACHERS)
def test_teachers_of_every_kind_teach_alike(kind):
    scores = sigmoid(X @ WEIGHTS).astype(np.float32)
    cached, online = compiled(), compiled(teacher=TEACHERS[kind]())
    expected = cached.fit(X, {"labels": Y, "teacher_scores": scores}, epochs=2, verbose=0).history
    history = online.fit(X, {"labels": Y}, epochs=2, verbose=0).history
    equal(online.student.get_weights(), cached.student.get_weights(), rtol=1e-5)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("teacher", [lambda: linear(WEIGHTS), None])
def test_logits_as_teacher_scores(teacher):
    model = compiled(teacher=teacher and teacher())
    y = {"labels": Y} if teacher else {"labels": Y, "teacher_scores": 3 * TEACHER}
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"teacher_scores: expected scores in 0..1.*logits"
    ):
        model.fit(X, y, verbose=0)


def test_teacher_scores_that_no_class_reads():
    history = compiled(alpha=1.0).fit(X, {"labels": Y, "teacher_scores": 9 * Y}, verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_teachers_of_other_shapes():
    with pytest.raises(
        ValueError, match=r"teacher: expected the shape of the labels, .*2\] .*got .*3\]"
    ):
        compiled(teacher=lambda x: tf.ones((3, 3))).fit(X, {"labels": Y}, verbose=0)
    unknown = compiled(teacher=lambda x: tf.numpy_function(lambda a: a[:, 0], [x], tf.float32))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=r"[Ss]hape"):
        unknown.fit(X, {"labels": Y}, verbose=0)


def test_what_is_no_teacher():
    with pytest.raises(ValueError, match=r"teacher: expected a Keras model .* got 0.3"):
        TeacherDistillation(linear(), 0.3)


# === Students ===


def test_a_student_that_is_built_by_its_first_batch():
    model, usual = compiled(Subclassed(keras.layers.Dense(2, use_bias=False))), compiled()
    model.fit(X, TAUGHT, verbose=0)
    assert len(model.trainable_variables) == 1
    model.student.set_weights([WEIGHTS])
    usual.student.set_weights([WEIGHTS])
    equal([model.predict(X, verbose=0)], [X @ WEIGHTS], rtol=1e-5)
    assert model.evaluate(X, TAUGHT, verbose=0) == pytest.approx(
        usual.evaluate(X, TAUGHT, verbose=0)
    )


def test_students_without_logits():
    x = keras.Input((2,))
    for outputs, came in (({"scores": x}, r"a dict of \['scores'\]"), ([x, x], "several outputs")):
        model = compiled(keras.Model(x, outputs))
        with pytest.raises(ValueError, match=f"expected logits .* got {came}"):
            model.fit(X, TAUGHT, verbose=0)
    with pytest.raises(ValueError, match="student: expected a Keras model, got None"):
        TeacherDistillation(None)


def test_a_front_end_without_statistics_is_warned_of(warnings):
    inputs = {"log_mel": np.ones((2, 40, 8), np.float32), "num_frames": np.full(2, 40, np.int32)}
    inputs["log_mel"][0] = 3
    model = compiled(wels_net(TINY), alpha=1)
    model.fit(inputs, {"labels": np.ones((2, 3))}, verbose=0)
    assert [text for text in warnings() if "student.get_layer('standardize').adapt(inputs)" in text]
    told = len(warnings())
    model = compiled(wels_net(TINY), alpha=1)
    model.student.get_layer("standardize").adapt(inputs)
    model.fit(inputs, {"labels": np.ones((2, 3))}, verbose=0)
    assert len(warnings()) == told


def test_a_plain_model_takes_the_loss_too():
    plain, model = linear(), compiled()
    plain.compile(keras.optimizers.Adam(0.1), SeCoSTLoss(0.3))
    plain.fit(X, stack_targets(Y, TEACHER), epochs=3, verbose=0)
    model.fit(X, TAUGHT, epochs=3, verbose=0)
    equal(plain.get_weights(), model.student.get_weights(), rtol=1e-5)


# === Compiling ===


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            None,
            r"loss: expected a SeCoSTLoss, got None; write model.compile\(optimizer, SeCoSTLoss",
        ),
        (
            SeCoSTLoss(0.3, reduction="sum"),
            "expected the reduction 'sum_over_batch_size', .* got 'sum'",
        ),
    ],
)
def test_losses_that_cannot_be(loss, message):
    with pytest.raises(ValueError, match=message):
        TeacherDistillation(linear()).compile("adam", loss)


def test_metrics_that_cannot_be():
    with pytest.raises(
        ValueError, match="metrics: expected names that differ, got loss, mae more than"
    ):
        compiled(metrics=["mae", keras.metrics.Mean(name="mae"), keras.metrics.Mean(name="loss")])
    with pytest.raises(ValueError, match=r"weighted_metrics: expected a list .* got 'mae'"):
        compiled(weighted_metrics="mae")


def test_metrics_compare_labels_with_scores():
    metrics = [
        "accuracy",
        "mae",
        "AUC",
        keras.losses.binary_crossentropy,
        keras.metrics.AUC(curve="PR", multi_label=True, name="mAP"),
    ]
    weighted = [keras.metrics.MeanAbsoluteError(name="weighted_mae")]
    model = compiled(linear(WEIGHTS), None, 1.0, metrics, weighted)
    weights = np.array([1.0, 0.0, 2.0])
    figures = model.evaluate(X, {"labels": Y}, sample_weight=weights, verbose=0, return_dict=True)
    scores = sigmoid(X @ WEIGHTS)
    assert figures["accuracy"] == pytest.approx(np.mean((scores > 0.5) == Y))
    errors = np.abs(scores - Y).mean(axis=1)
    assert figures["mae"] == pytest.approx(errors.mean(), rel=1e-5)
    assert figures["weighted_mae"] == pytest.approx(np.average(errors, weights=weights), rel=1e-5)
    assert 0 < figures["mAP"] <= 1 and 0 < figures["AUC"] <= 1
    entropies = -(Y * np.log(scores) + (1 - Y) * np.log(1 - scores)).mean(axis=1)
    assert figures["binary_crossentropy"] == pytest.approx(entropies.mean(), rel=1e-5)
    assert figures["loss"] == pytest.approx((weights * entropies).mean(), rel=1e-5)
    history = model.fit(X, {"labels": Y}, validation_data=(X, {"labels": Y}), verbose=0).history
    assert history["accuracy"] == [pytest.approx(figures["accuracy"])]
    after = model.evaluate(X, {"labels": Y}, verbose=0, return_dict=True)
    assert history["val_mAP"] == [pytest.approx(after["mAP"])]


# === Saving ===


def inputs_of_clips():
    rng = np.random.default_rng(0)
    num_frames = rng.integers(20, 41, 6).astype(np.int32)
    labels = (rng.random((6, 3)) < 0.4).astype(np.float32)
    inputs = {"log_mel": rng.normal(1, 2, (6, 40, 8)).astype(np.float32), "num_frames": num_frames}
    return inputs, {"labels": labels, "teacher_scores": rng.random((6, 3)).astype(np.float32)}


def test_a_loaded_model_goes_on_as_the_saved_one(tmp_path):
    inputs, targets = inputs_of_clips()
    set_seed(0)
    model = TeacherDistillation(wels_net(TINY), clip_norm=0.5, ema=0.9, name="distilled")
    model.student.get_layer("standardize").adapt(inputs)
    rate = keras.optimizers.schedules.CosineDecay(0.01, 100)
    model.compile(keras.optimizers.Adam(rate), SeCoSTLoss((0.3, 0.5, 1.0)), ["accuracy"])
    model.fit(inputs, targets, batch_size=3, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")

    assert type(loaded) is TeacherDistillation and loaded.name == "distilled"
    layers = [[layer.get_config() for layer in each.student.layers] for each in (loaded, model)]
    assert layers[0] == layers[1]
    assert loaded.loss.alpha == (0.3, 0.5, 1.0) and (loaded.clip_norm, loaded.ema) == (0.5, 0.9)
    assert int(loaded.optimizer.iterations) == 2
    equal([loaded.predict(inputs, verbose=0)], [model.predict(inputs, verbose=0)])
    equal(loaded.scored_weights(), model.scored_weights(), rtol=0, atol=0)
    assert np.any(model.scored_weights()[-1] != model.student.get_weights()[-1])
    histories = [
        each.fit(inputs, targets, batch_size=3, shuffle=False, verbose=0).history
        for each in (model, loaded)
    ]
    assert sorted(histories[0]) == sorted(histories[1]) and "accuracy" in histories[0]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5, err_msg=name)
    equal(loaded.scored_weights(), model.scored_weights(), rtol=1e-5, atol=1e-6)


def test_a_loaded_model_asks_for_its_teacher(tmp_path):
    teacher = linear(WEIGHTS, activation="sigmoid")
    model = compiled(teacher=teacher)
    model.fit(X, {"labels": Y}, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"teacher: alpha = 0\.3 needs .* `set_teacher`"):
        loaded.fit(X, {"labels": Y}, verbose=0)
    loaded.set_teacher(teacher)
    for each in (model, loaded):
        each.fit(X, {"labels": Y}, verbose=0)
    equal(loaded.student.get_weights(), model.student.get_weights())


def test_a_model_that_was_never_compiled_or_fitted(tmp_path):
    model = TeacherDistillation(linear(WEIGHTS))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    equal(loaded.student.get_weights(), [WEIGHTS])
    model = compiled(linear(WEIGHTS))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.evaluate(X, TAUGHT, verbose=0) == pytest.approx(
        model.evaluate(X, TAUGHT, verbose=0)
    )


def test_weights_without_their_average(tmp_path):
    compiled().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="ema: the saved model has no average of 1 weights"):
        compiled(ema=0.9).load_weights(tmp_path / "m.weights.h5")
