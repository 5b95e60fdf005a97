"""Make optimizers and take steps with them, on Keras 2.15, Keras 3 and TensorFlow Addons alike."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from secost_tf.models.backend import KERAS_3


def make_optimizer(name: str, learning_rate: Any) -> Any:
    """Make the optimizer of this name, in any case.

    Keras's own come first, then TensorFlow Addons' where it exists. An optimizer that wraps another
    (TensorFlow Addons' Lookahead, SWA, MovingAverage) wraps Adam.

    Args:
        name: a class of `keras.optimizers` or `tensorflow_addons.optimizers`.
        learning_rate: a number or a Keras schedule.

    Returns:
        The optimizer.

    Raises:
        ValueError: if neither has it, or it needs more than a learning rate; says which stack has
            TensorFlow Addons.
    """
    known = _optimizers()
    if name.lower() not in known:
        has_addons = "lamb" in known and not KERAS_3
        hint = "" if has_addons else " (TensorFlow Addons': Python 3.10 and 3.11 only)"
        names = ", ".join(sorted(kind.__name__ for kind in known.values()))
        raise ValueError(f"optimizer: expected one of {names}{hint}, got {name!r}")
    kind = known[name.lower()]
    try:
        if next(iter(inspect.signature(kind).parameters), "") == "optimizer":
            return kind(keras.optimizers.legacy.Adam(learning_rate))
        return kind(learning_rate=learning_rate)
    except TypeError as error:
        raise ValueError(
            f"optimizer: {name} cannot be made from a learning rate alone ({error})"
        ) from error


def _optimizers() -> dict[str, type]:
    """Return optimizer classes by lower-case name; Keras's win over TensorFlow Addons'."""
    places = [keras.optimizers]
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its end-of-life notice
        import tensorflow_addons as tfa

        places.insert(0, tfa.optimizers)
    return {
        name.lower(): kind
        for place in places
        for name, kind in vars(place).items()
        if isinstance(kind, type) and hasattr(kind, "apply_gradients") and "Optimizer" not in name
    }


def build_optimizer(optimizer: Any, variables: Sequence[Any]) -> None:
    """Make the optimizer's variables now, so that they can be restored before the first step."""
    if hasattr(optimizer, "build"):
        optimizer.build(variables)
    else:  # TensorFlow Addons' are of the older kind
        optimizer._create_all_weights(variables)


def optimizer_variables(optimizer: Any) -> list[Any]:
    """Return everything that must be saved to continue with this optimizer."""
    if hasattr(optimizer, "dynamic_counter"):  # Keras 2's LossScaleOptimizer leaves out its own
        scale = optimizer._loss_scale
        return [
            scale.current_loss_scale,
            scale.counter,
            *optimizer_variables(optimizer.inner_optimizer),
        ]
    # Of the older kind, only `weights` holds those of an optimizer that is wrapped.
    return list(optimizer.variables if hasattr(optimizer, "build") else optimizer.weights)


class Step(NamedTuple):
    """Facts about a step that was taken.

    Attributes:
        is_finite: bool [], true if this replica's gradient is finite; always true where a step that
            is not is left out anyway.
        gradient_norm: float32 [], the norm of the global batch's gradient before it was clipped;
            None where several replicas do not share it.
    """

    is_finite: tf.Tensor
    gradient_norm: tf.Tensor | None


def knows_gradient_norm(clip_norm: float) -> bool:
    """Tell if steps under the present strategy know their gradient's norm without a further sum."""
    return clip_norm > 0 or tf.distribute.get_strategy().num_replicas_in_sync == 1


def apply_gradients_of(
    tape: tf.GradientTape,
    loss: tf.Tensor,
    optimizer: Any,
    variables: Sequence[Any],
    clip_norm: float = 0.0,
) -> Step:
    """Take one step down `loss`; gradients sum over replicas.

    Args:
        tape: recorded the loss; it is left.
        loss: float32 [], of this replica; scaled here where float16 needs it.
        optimizer: takes the step.
        variables: to be changed.
        clip_norm: the most that the norm of the summed gradient may be; 0: any.

    Returns:
        Facts about the step.
    """
    scale: Any = 1.0
    if hasattr(optimizer, "get_scaled_loss"):  # Keras 2's LossScaleOptimizer
        with tape:
            loss = optimizer.get_scaled_loss(loss)
        gradients = optimizer.get_unscaled_gradients(tape.gradient(loss, variables))
    else:
        if hasattr(optimizer, "scale_loss"):  # it scales back when it applies the gradient
            scale = tf.convert_to_tensor(optimizer.scale_loss(1.0), tf.float32)
            with tape:
                loss = optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, variables)
    if clip_norm:
        context = tf.distribute.get_replica_context()
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norm = tf.linalg.global_norm(summed) / scale
        factor = clip_norm / tf.maximum(norm, clip_norm)
        gradients = [factor * gradient for gradient in gradients]
    else:
        norm = tf.linalg.global_norm(gradients) / scale
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    leaves_out = type(optimizer).__name__.startswith("LossScaleOptimizer")
    return Step(
        is_finite=tf.constant(True) if leaves_out else tf.math.is_finite(norm),
        gradient_norm=norm if knows_gradient_norm(clip_norm) else None,
    )
