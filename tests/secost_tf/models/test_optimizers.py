import keras
import numpy as np
import pytest
import tensorflow as tf

from secost_tf.models.backend import KERAS_3
from secost_tf.models.optimizers import (
    apply_gradients_of,
    build_optimizer,
    make_optimizer,
    optimizer_variables,
)

START, SLOPE = np.array([1.0, -2.0, 3.0], np.float32), np.array([0.5, -1.0, 2.0], np.float32)
ADDONS = ("RectifiedAdam", "LAMB", "Lookahead", "NovoGrad", "SWA", "Yogi", "LazyAdam")
needs_addons = pytest.mark.skipif(KERAS_3, reason="TensorFlow Addons has no Keras 3")


def variable():
    return keras.Variable(START) if KERAS_3 else tf.Variable(START)


def step(optimizer, weight, times=1):
    """Steps down a loss whose gradient is SLOPE + 0.1 times the weight."""
    for _ in range(times):
        with tf.GradientTape() as tape:
            value = tf.convert_to_tensor(weight)
            loss = tf.reduce_sum(value * SLOPE + 0.05 * value**2)
        apply_gradients_of(tape, loss, optimizer, [weight])
    return np.array(weight)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "sgd", "ADAMW"])
def test_optimizer_by_name_in_any_case(name):
    optimizer = make_optimizer(name, 0.01)
    assert type(optimizer).__name__.lower() == name.lower()
    assert isinstance(optimizer, keras.optimizers.Optimizer)
    assert float(optimizer.learning_rate) == pytest.approx(0.01)
    weight = variable()
    build_optimizer(optimizer, [weight])
    assert np.all(np.sign(START - step(optimizer, weight)) == np.sign(SLOPE))


def test_sgd_step_by_hand():
    after = step(make_optimizer("SGD", 0.1), variable())
    np.testing.assert_allclose(after, START - 0.1 * (SLOPE + 0.1 * START), rtol=1e-6)


def test_learning_rate_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.1, 0.0])
    optimizer, weight = make_optimizer("SGD", schedule), variable()
    after = step(optimizer, weight)
    assert np.all(after != START)
    np.testing.assert_array_equal(step(optimizer, weight), after)


def test_unknown_optimizer_lists_the_names():
    with pytest.raises(
        ValueError, match=r"optimizer: expected one of .*Adam, .*SGD.*, got 'Adamm'"
    ) as caught:
        make_optimizer("Adamm", 0.1)
    assert ("Python 3.10 and 3.11" in str(caught.value)) == KERAS_3


@pytest.mark.skipif(not KERAS_3, reason="the reference stack has them")
@pytest.mark.parametrize("name", ["RectifiedAdam", "Lookahead", "NovoGrad"])
def test_addons_without_addons_name_the_stack_that_has_them(name):
    with pytest.raises(
        ValueError, match=rf"TensorFlow Addons': Python 3.10 and 3.11 only\), got '{name}'"
    ):
        make_optimizer(name, 0.1)


def test_lamb_is_on_both_stacks():
    assert type(make_optimizer("LAMB", 0.1)).__module__.startswith(
        "keras" if KERAS_3 else "tensorflow_addons"
    )


@needs_addons
def test_keras_wins_over_addons_of_the_same_name():
    assert isinstance(make_optimizer("AdamW", 0.1), keras.optimizers.AdamW)


@needs_addons
def test_optimizer_that_needs_more_than_a_learning_rate():
    with pytest.raises(
        ValueError,
        match=r"optimizer: SGDW cannot be made from a learning rate alone .*weight_decay",
    ):
        make_optimizer("SGDW", 0.1)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", *(() if KERAS_3 else ADDONS)])
def test_continues_from_saved_variables_as_if_undisturbed(name):
    optimizer, weight = make_optimizer(name, 0.1), variable()
    build_optimizer(optimizer, [weight])
    after_seven = step(optimizer, weight, 7)
    assert np.all(np.isfinite(after_seven))
    saved = [np.asarray(value) for value in optimizer_variables(optimizer)]
    expected = step(optimizer, weight, 5)
    assert np.any(expected != after_seven)

    optimizer, weight = make_optimizer(name, 0.1), variable()
    build_optimizer(optimizer, [weight])
    weight.assign(after_seven)
    for target, value in zip(optimizer_variables(optimizer), saved, strict=True):
        target.assign(value)
    np.testing.assert_array_equal(step(optimizer, weight, 5), expected)


def scaled(optimizer, initial_scale):
    return keras.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=initial_scale)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_loss_scaling_leaves_the_step_as_it_is(name):
    plain = step(make_optimizer(name, 0.1), variable(), 3)
    optimizer = scaled(make_optimizer(name, 0.1), 1024.0)
    np.testing.assert_allclose(step(optimizer, variable(), 3), plain, rtol=1e-6)


def test_overflow_skips_the_step_and_halves_the_scale():
    optimizer, weight = scaled(make_optimizer("SGD", 0.1), 2.0**127), variable()
    np.testing.assert_array_equal(step(optimizer, weight), START)  # 2 * 2^127 overflows float32
    assert scale_of(optimizer) == 2.0**126


def scale_of(optimizer):
    return float(optimizer.dynamic_scale if KERAS_3 else optimizer.loss_scale)


def test_the_loss_scale_is_saved_with_the_optimizer():
    optimizer, weight = scaled(make_optimizer("Adam", 0.1), 2.0**127), variable()
    build_optimizer(optimizer, [weight])
    step(optimizer, weight, 2)
    fresh, other = scaled(make_optimizer("Adam", 0.1), 2.0**15), variable()
    build_optimizer(fresh, [other])
    for target, value in zip(
        optimizer_variables(fresh), optimizer_variables(optimizer), strict=True
    ):
        target.assign(np.asarray(value))
    assert scale_of(fresh) == scale_of(optimizer) < 2.0**127
