"""Train a student on labels and a teacher's scores, as a Keras model: `TeacherDistillation`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from secost_tf.models import losses
from secost_tf.models.layers import Standardize
from secost_tf.models.optimizers import apply_gradients_of, build_optimizer, knows_gradient_norm
from secost_tf.models.weight_average import WeightAverage

# From inputs, as the student takes them, to clip scores [batch, classes] or a dict with `logits`.
Teacher = Callable[[Any], Any]


def average_teacher(models: Sequence[keras.Model]) -> Teacher:
    """Make a teacher that averages the clip scores of trained students.

    Source: SUSTAIN, by the authors of SeCoST, lets several earlier stages teach at once (Kumar and
    Ithapu, ICML 2020, arXiv:2007.00144).

    Args:
        models: Keras models that give logits [batch, classes], or a dict that holds `logits`.

    Returns:
        A callable from the models' inputs to scores in 0..1, float32 [batch, classes].

    Raises:
        ValueError: when the teacher is called, if a model gives no logits.

    Example:
        >>> import keras, tensorflow as tf
        >>> from secost_tf import average_teacher
        >>> dense = keras.layers.Dense(1, kernel_initializer="zeros")
        >>> model = keras.Sequential([keras.Input((2,)), dense])
        >>> teacher = average_teacher([model, model])
        >>> print(teacher(tf.ones((1, 2))).numpy())
        [[0.5]]
    """

    def teacher(inputs: Any) -> tf.Tensor:
        logits = (clip_logits(call_model(model, inputs, training=False)) for model in models)
        scores = [tf.sigmoid(tf.cast(values, tf.float32)) for values in logits]
        return tf.add_n(scores) / len(models)

    return teacher


def call_model(model: keras.layers.Layer, inputs: Any, training: bool | None) -> Any:
    """Call a Keras model with `training`, if its `call` takes that."""
    parameters = inspect.signature(model.call).parameters.values()
    takes_training = any(it.name == "training" or it.kind is it.VAR_KEYWORD for it in parameters)
    return model(inputs, training=training) if takes_training else model(inputs)


def clip_logits(outputs: Any) -> tf.Tensor:
    """Return the clip logits [batch, classes] among a model's outputs.

    Raises:
        ValueError: if the outputs are neither a tensor nor a dict with `logits`.
    """
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else outputs
    if logits is None or isinstance(logits, (list, tuple)):
        came = f"a dict of {sorted(outputs)}" if isinstance(outputs, Mapping) else "several outputs"
        raise ValueError(
            f"outputs: expected logits [batch, classes], or a dict with `logits`, got {came}"
        )
    return logits


# Without a search for Python to convert, as in Keras 3: it took up to a third of the tracing.
_in_graph = tf.autograph.experimental.do_not_convert


# In classes of their own, metrics and arguments are out of the sight of Keras's trackers: Keras 2
# would count the metrics' variables among the model's weights.


@dataclasses.dataclass(frozen=True)
class _Metrics:
    """Metrics of a model: means of the losses by name, and those that `compile` was given."""

    losses: dict[str, keras.metrics.Mean]
    of_scores: list[keras.metrics.Metric] = dataclasses.field(default_factory=list)
    weighted: list[keras.metrics.Metric] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """The arguments of `compile`."""

    metrics: Sequence[Any] | None
    weighted_metrics: Sequence[Any] | None
    run_eagerly: bool | None
    steps_per_execution: int
    jit_compile: bool


@keras.saving.register_keras_serializable(package="secost_tf")
class TeacherDistillation(keras.Model):
    """Train `student` on α · labels + (1 − α) · teacher scores.

    Compile it with a `SeCoSTLoss`, which holds α, and fit it as any Keras model. A batch is
    `(inputs, targets)` or `(inputs, targets, sample_weight)`: inputs as the student takes them,
    targets a dict of `labels` [batch, classes] and, where no teacher is given, `teacher_scores`
    [batch, classes] in 0..1. `call` and `predict` give the student's clip logits.

    The loss is the sum over clips of weight times loss, divided by the number of clips in the
    global batch: one replica or several, evenly filled or not, take the same step. The loss of
    `evaluate` and of `validation_data` is the plain binary cross-entropy against the labels, so
    that stages and alphas compare, and needs no teacher.

    Tracked are `loss`, its two parts `label_loss` and `teacher_loss`, and `gradient_norm`, before
    it is clipped: always on one replica, on several where `clip_norm` sums it over them anyway. A
    step with a gradient that is not finite makes the epoch's `loss` not a number, so that a
    callback can stop; not so in mixed_float16, where Keras leaves out such steps by itself.

    `save` and `keras.models.load_model` keep the student, the loss with its alpha, the metrics, the
    optimizer and the average of the weights. The teacher is left out: it is never trained or saved.
    Give a loaded model its teacher with `set_teacher`, or targets with `teacher_scores`.

    Source: Kumar and Ithapu, SeCoST, ICASSP 2020 (arXiv:1910.11789).

    Args:
        student: the network to train: any Keras model that gives logits [batch, classes], or a dict
            with them as `logits`, as `wels_net` does.
        teacher: gives the teacher's scores for the batch that the student sees. A Keras model
            (called with `training=False`) or any callable, `tf.numpy_function` included. It returns
            scores in 0..1, [batch, classes], or a dict that holds `logits`, as `wels_net` does;
            around other models that give logits put `average_teacher`. None: the targets bring
            `teacher_scores`, or alpha is 1.
        clip_norm: the most that the norm of the global batch's gradient may be; longer ones are
            shortened. 0: any.
        ema: decay, in (0, 1), of a moving average of the student's weights, `average`; 0 keeps
            none.
        **kwargs: of `keras.Model`.

    Raises:
        ValueError: if an argument is none of these.

    Example:
        >>> import keras, numpy as np
        >>> from secost_tf import SeCoSTLoss, TeacherDistillation
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model = TeacherDistillation(student)
        >>> model.compile("adam", SeCoSTLoss(alpha=0.3), metrics=["binary_accuracy"])
        >>> x, labels = np.ones((8, 4)), np.ones((8, 2))
        >>> history = model.fit(x, {"labels": labels, "teacher_scores": 0.9 * labels}, verbose=0)
        >>> sorted(history.history)
        ['binary_accuracy', 'gradient_norm', 'label_loss', 'loss', 'teacher_loss']

        And with an online teacher, saved and loaded:

            teacher = wels_net(config)  # trained before
            model = TeacherDistillation(wels_net(config), teacher)
            model.compile("adam", SeCoSTLoss(alpha=0.3))
            model.fit(inputs, {"labels": labels})
            model.save("distilled.keras")
            model = keras.models.load_model("distilled.keras")
            model.set_teacher(teacher)
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: Teacher | None = None,
        *,
        clip_norm: float = 0.0,
        ema: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})  # log-mels reach the student as they are
        if not isinstance(student, keras.Model):
            raise ValueError(f"student: expected a Keras model, got {student!r}")
        if not clip_norm >= 0:
            raise ValueError(f"clip_norm: expected a positive norm, or 0 for none, got {clip_norm}")
        self.student, self.clip_norm, self.ema = student, clip_norm, ema
        self.average = WeightAverage(student, ema) if ema else None
        self.set_teacher(teacher)
        names = ["loss", "label_loss", "teacher_loss"]
        if knows_gradient_norm(clip_norm):
            names.append("gradient_norm")
        means = {name: keras.metrics.Mean(name=name, dtype="float32") for name in names}
        self._counted = _Metrics(means)
        self._compiled_with: _Compiled | None = None
        self.built = student.built

    def set_teacher(self, teacher: Teacher | None) -> None:
        """Replace the teacher, or give one to a model that was loaded; None: none.

        Args:
            teacher: as of the class.
        """
        if teacher is not None and not callable(teacher):
            raise ValueError(
                f"teacher: expected a Keras model or another callable, got {teacher!r}"
            )
        # In a function, out of Keras's sight: a teacher's weights are no part of this model. For
        # the same reason no attribute or property holds it.
        self._teach = None if teacher is None else functools.partial(_teacher_scores, teacher)
        self.train_function = None  # made anew by the next `fit`

    # === Compiling ===

    def compile(
        self,
        optimizer: Any = "adam",
        loss: losses.SeCoSTLoss | None = None,
        metrics: Sequence[Any] | None = None,
        weighted_metrics: Sequence[Any] | None = None,
        run_eagerly: bool | None = None,
        steps_per_execution: int = 1,
        jit_compile: bool = False,
    ) -> None:
        """Set the optimizer, the loss and the metrics, as `keras.Model.compile` does.

        Args:
            optimizer: a Keras optimizer or the name of one.
            loss: a `SeCoSTLoss` with the default reduction, which is over the global batch here.
            metrics: a list of Keras metrics, or of their names or functions. They compare the
                labels with the student's clip scores σ(logits) in 0..1, so leave `from_logits` off.
                "accuracy" is "binary_accuracy".
            weighted_metrics: the same, with the batch's `sample_weight`.
            run_eagerly: run Python step by step, for debugging.
            steps_per_execution: steps in one call of TensorFlow.
            jit_compile: compile by XLA, which is the slower one on a CPU.

        Raises:
            ValueError: if the loss is no such `SeCoSTLoss`, or two metrics have one name.
        """
        if not isinstance(loss, losses.SeCoSTLoss):
            raise ValueError(
                f"loss: expected a SeCoSTLoss, got {loss!r}; write "
                "model.compile(optimizer, SeCoSTLoss(alpha=0.3)), with the weight of the labels"
            )
        if loss.reduction not in {"sum_over_batch_size", "auto"}:
            raise ValueError(
                "loss: expected the reduction 'sum_over_batch_size', over the global batch here, "
                f"got {loss.reduction!r}"
            )
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
        )
        # Applied by `train_step` alone: Keras would try it on targets that are a dict.
        self.loss = loss
        with self.distribute_strategy.scope():
            self._counted = _Metrics(
                self._counted.losses,
                _make_metrics("metrics", metrics),
                _make_metrics("weighted_metrics", weighted_metrics),
            )
        names = [metric.name for metric in self.metrics]
        if same := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"metrics: expected names that differ, got {', '.join(same)} more than once; give "
                "each a `name`"
            )
        self._compiled_with = _Compiled(
            metrics, weighted_metrics, run_eagerly, steps_per_execution, jit_compile
        )

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile` as they are saved; None before it."""
        if self._compiled_with is None:
            return None
        arguments = {"optimizer": self.optimizer, "loss": self.loss, **vars(self._compiled_with)}
        config: dict[str, Any] = keras.saving.serialize_keras_object(arguments)
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as `get_compile_config` says, with the optimizer ready for its saved state."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.student.built:
            build_optimizer(self.optimizer, self.student.trainable_variables)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All metrics, those of the losses first."""
        counted = self._counted
        return [*counted.losses.values(), *counted.of_scores, *counted.weighted]

    # === Saving ===

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the same model of, without weights and teacher."""
        student = keras.saving.serialize_keras_object(self.student)
        return {"name": self.name, "student": student, "clip_norm": self.clip_norm, "ema": self.ema}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> TeacherDistillation:
        """Make the model that `get_config` describes."""
        student = keras.saving.deserialize_keras_object(config["student"], custom_objects)
        return cls(**{**config, "student": student})

    def build(self, input_shape: Any = None) -> None:
        """Do nothing: the student has all the weights, and builds itself."""
        self.built = True

    def get_build_config(self) -> None:
        """Return nothing: the student's own is saved with it."""

    def save_own_variables(self, store: Any) -> None:
        """Save the average of the weights; Keras saves the student and the optimizer."""
        for index, variable in enumerate(self.average.variables if self.average else []):
            store[f"average_{index}"] = tf.convert_to_tensor(variable).numpy()

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` saved."""
        variables = self.average.variables if self.average else []
        names = [f"average_{index}" for index in range(len(variables))]
        if missing := [name for name in names if name not in store]:
            raise ValueError(
                f"ema: the saved model has no average of {len(variables) - 1} weights (no "
                f"{missing[0]}); make the model with ema=0, or load weights into its student alone"
            )
        for name, variable in zip(names, variables, strict=True):
            variable.assign(np.asarray(store[name]))

    # === Weights that are scored ===

    def scored_weights(self) -> list[np.ndarray]:
        """Return the weights to evaluate and keep: the student's, with `ema` their average."""
        return self.average.weights() if self.average else self.student.get_weights()

    def as_scored(self) -> contextlib.AbstractContextManager[None]:
        """Put `scored_weights` into the student for a block."""
        return self.average.applied() if self.average else contextlib.nullcontext()

    # === Steps ===

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Return the student's clip logits, [batch, classes]."""
        return clip_logits(call_model(self.student, inputs, training))

    def make_train_function(self, force: bool = False) -> Any:
        """Make Keras's function of a training step; warn of a front end without statistics."""
        if self.train_function is None:
            for layer in self.student.layers:
                if isinstance(layer, Standardize) and not layer.has_statistics():
                    logging.warning(
                        "%s: its layer %r has the mean 0 and the variance 1 in place of those of "
                        "the data, so that it may train worse: call "
                        "student.get_layer(%r).adapt(inputs) before `fit`",
                        self.student.name,
                        layer.name,
                        layer.name,
                    )
        return super().make_train_function(force)

    @_in_graph
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one step down the loss of a batch; return the means of all metrics so far."""
        inputs, labels, targets, weights = _unpack(data)
        teacher_scores = self._teacher_for(inputs, targets, labels)
        with tf.GradientTape() as tape:
            logits = tf.cast(self(inputs, training=True), tf.float32)
            _check_shape("student", logits, labels)
            per_clip = self.loss.call(losses.stack_targets(labels, teacher_scores), logits)
            loss_weights = tf.ones_like(per_clip) if weights is None else weights
            loss = tf.reduce_sum(loss_weights * per_clip) / _global_batch_size(per_clip)
            if self.student.losses:  # regularisers: once, not once a replica
                replicas = tf.distribute.get_strategy().num_replicas_in_sync
                loss += tf.add_n(self.student.losses) / replicas
        variables = self.student.trainable_variables
        step = apply_gradients_of(tape, loss, self.optimizer, variables, self.clip_norm)
        if self.average:
            self.average.update()
        if step.gradient_norm is not None:
            is_number = tf.math.is_finite(step.gradient_norm)  # unless float16 leaves a step out
            norm = tf.where(is_number, step.gradient_norm, 0.0)
            counts = tf.cast(is_number, tf.float32)
            self._counted.losses["gradient_norm"].update_state(norm, counts)
        teacher_part = losses.teacher_part(labels, teacher_scores, logits, self.loss.alpha)
        self._track(
            loss=tf.where(step.is_finite, loss_weights * per_clip, float("nan")),
            label_loss=loss_weights * losses.label_part(labels, logits),
            teacher_loss=loss_weights * teacher_part,
        )
        return self._results(labels, logits, weights)

    @_in_graph
    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Compare a batch with its labels; return the means of all metrics so far."""
        inputs, labels, _, weights = _unpack(data)
        logits = tf.cast(self(inputs, training=False), tf.float32)
        _check_shape("student", logits, labels)
        per_clip = losses.label_part(labels, logits)
        if weights is not None:
            per_clip *= weights
        self._track(loss=per_clip, label_loss=per_clip, teacher_loss=tf.zeros_like(per_clip))
        return self._results(labels, logits, weights)

    def _teacher_for(self, inputs: Any, targets: Mapping[str, Any], labels: tf.Tensor) -> tf.Tensor:
        """Return the teacher's scores for a batch, float32 [batch, classes]."""
        if "teacher_scores" in targets and self._teach is not None:
            raise ValueError(
                "teacher: expected a teacher or batches with `teacher_scores`, got both"
            )
        if "teacher_scores" in targets:
            scores = tf.cast(targets["teacher_scores"], tf.float32)
        elif self._teach is not None:
            scores = self._teach(inputs)
        elif np.min(self.loss.alpha) == 1:
            scores = labels  # weighs nothing
        else:
            raise ValueError(
                f"teacher: alpha = {self.loss.alpha} needs a teacher, or batches with "
                "`teacher_scores`; got neither. A model that was loaded comes without its teacher: "
                "give it with `set_teacher`"
            )
        _check_shape("teacher", scores, labels)
        return tf.ensure_shape(scores, labels.shape)

    def _track(self, **per_clip: tf.Tensor) -> None:
        """Take values into the means over clips, which add up over replicas as values would not."""
        for name, values in per_clip.items():
            self._counted.losses[name].update_state(values)

    def _results(self, labels: tf.Tensor, logits: tf.Tensor, weights: Any) -> dict[str, tf.Tensor]:
        """Update the metrics of the scores; return the results of all metrics.

        Of all: Keras 3 adds up over replicas only where every metric is returned.
        """
        scores = tf.sigmoid(logits)
        for metric in self._counted.of_scores:
            metric.update_state(labels, scores)
        for metric in self._counted.weighted:
            metric.update_state(labels, scores, sample_weight=weights)
        results: dict[str, tf.Tensor] = self.get_metrics_result()
        return results


def _teacher_scores(teacher: Teacher, inputs: Any) -> tf.Tensor:
    """Return a teacher's scores, float32 [batch, classes], with no gradient."""
    if isinstance(teacher, keras.layers.Layer):
        outputs = call_model(teacher, inputs, training=False)
    else:
        outputs = teacher(inputs)
    if isinstance(outputs, Mapping):
        outputs = tf.sigmoid(tf.cast(clip_logits(outputs), tf.float32))
    return tf.stop_gradient(tf.cast(outputs, tf.float32))


def _unpack(data: Any) -> tuple[Any, tf.Tensor, Mapping[str, Any], tf.Tensor | None]:
    """Return a batch's inputs, labels [batch, classes], all its targets, and weights [batch]."""
    inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    if not isinstance(targets, Mapping) or "labels" not in targets:
        is_dict = isinstance(targets, Mapping)
        came = f"a dict of {sorted(targets)}" if is_dict else type(targets).__name__
        raise ValueError(
            f"y: expected a dict with the `labels`, got {came}; write "
            '`model.fit(x, {"labels": y, "teacher_scores": t})`, without `teacher_scores` where '
            'the model has a teacher, and `model.evaluate(x, {"labels": y})`'
        )
    if isinstance(weights, Mapping):  # Keras 3 gives each target the weights
        weights = weights.get("labels")
    if weights is not None:
        weights = tf.cast(weights, tf.float32)
    return inputs, tf.cast(targets["labels"], tf.float32), targets, weights


def _check_shape(name: str, values: tf.Tensor, labels: tf.Tensor) -> None:
    """Raise a `ValueError` if what is known of two shapes differs."""
    if not labels.shape.is_compatible_with(values.shape):
        expected, came = labels.shape.as_list(), values.shape.as_list()
        raise ValueError(
            f"{name}: expected the shape of the labels, {expected} (clips, classes), got {came}"
        )


def _make_metrics(name: str, metrics: Sequence[Any] | None) -> list[keras.metrics.Metric]:
    """Return Keras metrics for objects, names or functions."""
    if metrics is not None and not isinstance(metrics, (list, tuple)):
        raise ValueError(f"{name}: expected a list of metrics of the clip scores, got {metrics!r}")
    return [_make_metric(metric) for metric in metrics or []]


def _make_metric(metric: Any) -> keras.metrics.Metric:
    if isinstance(metric, keras.metrics.Metric):
        return metric
    if callable(metric):
        return keras.metrics.MeanMetricWrapper(metric, name=metric.__name__, dtype="float32")
    made = keras.metrics.get("binary_accuracy" if metric in {"accuracy", "acc"} else metric)
    if not isinstance(made, keras.metrics.Metric):  # a function in Keras 2, seldom in Keras 3
        return keras.metrics.MeanMetricWrapper(made, name=metric, dtype="float32")
    return type(made).from_config({**made.get_config(), "name": metric, "dtype": "float32"})


def _global_batch_size(per_clip: tf.Tensor) -> tf.Tensor:
    """Return the number of clips in this step over all replicas, float32 []."""
    context = tf.distribute.get_replica_context()
    size = tf.cast(tf.size(per_clip), tf.float32)
    if context.num_replicas_in_sync == 1:
        return size
    return context.all_reduce(tf.distribute.ReduceOp.SUM, size)
