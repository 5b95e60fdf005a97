"""`TeacherDistillation`: a student that learns from labels and a teacher."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from secost_tf.models import losses
from secost_tf.models.optimizers import apply_gradients_of, knows_gradient_norm
from secost_tf.models.weight_average import WeightAverage

Teacher = Callable[[dict[str, tf.Tensor]], tf.Tensor]


def average_teacher(models: Sequence[keras.Model]) -> Teacher:
    """A teacher that averages the clip scores of trained students: inputs of `wels_net` -> scores
    [batch, classes].
    """

    def teacher(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.add_n(
            [tf.sigmoid(model(inputs, training=False)["logits"]) for model in models]
        ) / len(models)

    return teacher


# TensorFlow's own operations alone, as Keras 3 has it: to look for Python to convert took up to a
# third of the tracing.
_in_graph = tf.autograph.experimental.do_not_convert


class TeacherDistillation(keras.Model):
    """Trains `student` on `alpha * labels + (1 - alpha) * teacher scores`; compile it with a
    `SeCoSTLoss`.

    A batch is `(inputs, targets)` or `(inputs, targets, sample_weight)`: inputs as `student` takes
    them, targets a dict of `labels` [batch, classes] and, with cached scores, `teacher_scores`
    [batch, classes]. The student returns a dict that holds `logits` [batch, classes], or the logits
    alone.

    The loss is the sum over clips of weight times loss, divided by the number of clips in the
    global batch: one replica or several, evenly filled or not, take the same step. Validation loss
    (`evaluate`) is plain binary cross-entropy against the labels, so that stages and alphas
    compare.

    Args:
        student: the network to train; the only thing that is trained or saved.
        teacher: a callable from inputs to clip scores in 0..1, [batch, classes], called with the
            batch the student sees; None where the batches bring `teacher_scores`, or for a loss
            with alpha = 1.
        clip_norm: the most that the norm of the global batch's gradient may be; longer ones are
            shortened. 0: any.
        ema: decay of a moving average of the student's weights, `average`; 0 keeps none.

    Besides the loss and its two parts, `gradient_norm` is tracked, before clipping: always on one
    replica, on several where `clip_norm` has it summed over them anyway.

    A step with a gradient that is not finite makes the epoch's `loss` not a number, so that whoever
    watches it can stop; not in mixed_float16, where Keras leaves out such steps by itself.
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: Teacher | None = None,
        *,
        clip_norm: float = 0.0,
        ema: float = 0.0,
        **kwargs,
    ):
        super().__init__(**{"autocast": False, **kwargs})  # log-mels reach the student as they are
        self.student, self.clip_norm = student, clip_norm
        self.average = WeightAverage(student, ema) if ema else None
        # Held by a closure, out of Keras's sight: the teacher's weights are neither trained nor
        # saved with this model.
        self._teacher_scores = (
            None if teacher is None else lambda inputs: tf.stop_gradient(teacher(inputs))
        )
        self._trackers = {
            name: keras.metrics.Mean(name=name, dtype="float32")
            for name in ("loss", "label_loss", "teacher_loss")
        }
        if knows_gradient_norm(clip_norm):
            self._trackers["gradient_norm"] = keras.metrics.Mean(
                name="gradient_norm", dtype="float32"
            )

    def compile(self, optimizer, loss: losses.SeCoSTLoss, **kwargs):
        """As `keras.Model.compile`; XLA is off unless asked for (it is the slower one on a CPU)."""
        if not isinstance(loss, losses.SeCoSTLoss):
            raise ValueError(f"loss: expected a SeCoSTLoss, got {loss!r}")
        super().compile(optimizer=optimizer, **{"jit_compile": False, **kwargs})
        self.loss = (
            loss  # applied by `train_step` alone: Keras would try it on targets that are a dict
        )

    def scored_weights(self) -> list[np.ndarray]:
        """The student's weights as they are to be evaluated and kept: with `ema` their average."""
        return self.average.weights() if self.average else self.student.get_weights()

    def as_scored(self) -> contextlib.AbstractContextManager:
        """Puts `scored_weights` into the student for a block."""
        return self.average.applied() if self.average else contextlib.nullcontext()

    @property
    def metrics(self):
        return list(self._trackers.values())

    def call(self, inputs, training=None):
        outputs = self.student(inputs, training=training)
        return outputs["logits"] if isinstance(outputs, dict) else outputs

    @_in_graph
    def train_step(self, data):
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        labels, teacher_scores = (
            tf.cast(targets["labels"], tf.float32),
            self._teacher_for(inputs, targets),
        )
        variables = self.student.trainable_variables
        with tf.GradientTape() as tape:
            logits = tf.cast(self(inputs, training=True), tf.float32)
            per_clip = self.loss.call(losses.stack_targets(labels, teacher_scores), logits)
            weights = tf.ones_like(per_clip) if weights is None else tf.cast(weights, tf.float32)
            loss = tf.reduce_sum(weights * per_clip) / _global_batch_size(per_clip)
            if self.student.losses:  # regularisers: once, not once a replica
                loss += (
                    tf.add_n(self.student.losses)
                    / tf.distribute.get_strategy().num_replicas_in_sync
                )
        step = apply_gradients_of(tape, loss, self.optimizer, variables, self.clip_norm)
        if self.average:
            self.average.update()
        if step.gradient_norm is not None:
            is_number = tf.math.is_finite(
                step.gradient_norm
            )  # not so where float16 leaves a step out
            self._trackers["gradient_norm"].update_state(
                tf.where(is_number, step.gradient_norm, 0.0), tf.cast(is_number, tf.float32)
            )
        return self._track(
            loss=tf.where(step.is_finite, weights * per_clip, float("nan")),
            label_loss=weights * losses.label_part(labels, logits),
            teacher_loss=weights
            * losses.teacher_part(labels, teacher_scores, logits, self.loss.alpha),
        )

    @_in_graph
    def test_step(self, data):
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        logits = tf.cast(self(inputs, training=False), tf.float32)
        per_clip = losses.label_part(tf.cast(targets["labels"], tf.float32), logits)
        if weights is not None:
            per_clip *= tf.cast(weights, tf.float32)
        # All of them: Keras 3 adds up over replicas only where every metric is returned.
        return self._track(loss=per_clip, label_loss=per_clip, teacher_loss=tf.zeros_like(per_clip))

    def _teacher_for(self, inputs, targets):
        if "teacher_scores" in targets and self._teacher_scores is None:
            return tf.cast(targets["teacher_scores"], tf.float32)
        if "teacher_scores" in targets:
            raise ValueError(
                "teacher: expected a teacher or batches with `teacher_scores`, got both"
            )
        if self._teacher_scores is not None:
            return self._teacher_scores(inputs)
        if np.min(self.loss.alpha) == 1:
            return tf.cast(targets["labels"], tf.float32)  # weighs nothing
        raise ValueError(
            f"teacher: alpha = {self.loss.alpha} needs a teacher, or batches with `teacher_scores`; got neither"
        )

    def _track(self, **per_clip):
        """Means over clips so far; the trackers add up over replicas, which plain values would not."""
        for name, values in per_clip.items():
            self._trackers[name].update_state(values)
        return {name: tracker.result() for name, tracker in self._trackers.items()}


def _global_batch_size(per_clip: tf.Tensor) -> tf.Tensor:
    """Clips in this step over all replicas, float32 []."""
    context = tf.distribute.get_replica_context()
    size = tf.cast(tf.size(per_clip), tf.float32)
    return (
        context.all_reduce(tf.distribute.ReduceOp.SUM, size)
        if context.num_replicas_in_sync > 1
        else size
    )
