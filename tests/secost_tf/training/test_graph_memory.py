import gc
import weakref

import pytest
import tensorflow as tf

from secost_tf.training.devices import custom_gradients_forgotten


def doubled_gradient():
    """A traced function of x whose gradient is said to be 2."""

    @tf.custom_gradient
    def identity(x):
        return tf.identity(x), lambda dy: 2.0 * dy

    function = tf.function(lambda x: identity(x))
    return function.get_concrete_function(tf.TensorSpec([], tf.float32))


def gradient_of(function) -> float:
    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return float(tape.gradient(y, x))


def test_graphs_of_the_block_are_freed_after_it():
    with custom_gradients_forgotten():
        function = doubled_gradient()
        assert gradient_of(function) == 2.0
        graph = weakref.ref(function.graph)
    del function
    gc.collect()
    assert graph() is None


def test_what_was_traced_before_the_block_stays():
    before = doubled_gradient()
    with pytest.raises(KeyboardInterrupt), custom_gradients_forgotten():
        inside = weakref.ref(doubled_gradient().graph)
        raise KeyboardInterrupt
    gc.collect()
    assert inside() is None  # after an error too
    assert gradient_of(before) == 2.0
