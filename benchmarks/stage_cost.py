"""An epoch of a SeCoST stage against an epoch of the student alone, width 0.25, batch 16, clips of
ten seconds.

    python benchmarks/stage_cost.py [--clips=320] [--width=0.25]

All read the same shards of random log-mels and train with Adam. The sides:

- `student`: Keras's `fit` of the network on the labels alone, the limit.
- `cached`: `TeacherDistillation` with the teacher's scores read beside the shards.
- `online`: `TeacherDistillation` with the teacher, a network like the student, in the step.
- `naive`: a distiller that calls the teacher as it does the student.
"""

from __future__ import annotations

import functools
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pairs

BATCH, ALPHA = 16, 0.3


def network(width: float):
    """A student of this width."""
    from random_data import CLASSES

    from secost_tf.models.config import WelsNetConfig
    from secost_tf.models.network import wels_net

    return wels_net(WelsNetConfig(CLASSES, width=width))


def student_alone(width: float):
    """Keras's own training of the network; the pooled logits are its only output."""
    student = network(width)
    import keras

    model = keras.Model(student.input, student.output["logits"])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    return model


def distilled(width: float, online: bool):
    """The project's training, as a stage does it."""
    from secost_tf.models.distillation import TeacherDistillation, average_teacher
    from secost_tf.models.losses import SeCoSTLoss
    from secost_tf.models.optimizers import make_optimizer

    teacher = average_teacher([network(width)]) if online else None
    model = TeacherDistillation(network(width), teacher)
    model.compile(make_optimizer("Adam", 1e-3), SeCoSTLoss(ALPHA))
    return model


def naive(width: float):
    """A custom `train_step` with everything in it."""
    student, teacher = network(width), network(width)
    import keras
    import tensorflow as tf

    class Distiller(keras.Model):
        def train_step(self, data):
            inputs, labels = data
            with tf.GradientTape() as tape:
                scores = tf.sigmoid(teacher(inputs)["logits"])
                logits = student(inputs, training=True)["logits"]
                target = ALPHA * labels + (1 - ALPHA) * scores
                loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(target, logits))
            variables = student.trainable_variables
            self.optimizer.apply_gradients(
                zip(tape.gradient(loss, variables), variables, strict=True)
            )
            return {"loss": loss}

    model = Distiller()
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    return model


SIDES = {
    "student": student_alone,
    "cached": functools.partial(distilled, online=False),
    "online": functools.partial(distilled, online=True),
    "naive": naive,
}
ROWS = (
    (
        "student",
        "cached",
        "cached scores, time of an epoch / that of the student alone",
        "at most 1.05",
    ),
    (
        "student",
        "online",
        "teacher in the step, time of an epoch / that of the student alone",
        "at most 1.4",
    ),
    ("student", "naive", "naive distiller, time of an epoch / that of the student alone", ""),
    ("cached", "naive", "cached scores, times as fast as the naive distiller", ""),
    ("online", "naive", "teacher in the step, times as fast as the naive distiller", ""),
)


def epochs(name: str, width: float, folder: str) -> Callable[[], object]:
    """Each call is an epoch, of batches in an order of its own."""
    import secost_tf  # noqa: F401  before TensorFlow: oneDNN's kernels are on for all sides
    from secost_tf.data import pipeline, splits
    from tfrecord_tools.shards import info

    split = splits.Split(folder, info.read_dataset_info(folder, "train"))
    scores = [str(Path(folder, "scores"))] if name == "cached" else []
    data = pipeline.TrainingData(split=split, batch_size=BATCH, teacher_scores_dirs=scores)
    model, number = SIDES[name](width), itertools.count()

    def work() -> None:
        batches = data.epoch(next(number))
        if name in ("student", "naive"):
            batches = batches.map(lambda inputs, targets: (inputs, targets["labels"]))
        model.fit(batches, epochs=1, shuffle=False, verbose=0)

    return work


def main() -> None:
    options = pairs.parser(__doc__)
    options.add_argument("--clips", type=int, default=320, help="clips of an epoch (default 320)")
    options.add_argument(
        "--width", type=float, default=0.25, help="width of the network (default 0.25)"
    )
    options.add_argument("--folder", help="of the shards, made by the script itself")
    options.set_defaults(pairs=5)
    arguments = options.parse_args()
    if arguments.serve:
        packages = ("tensorflow", "keras", "numpy")
        pairs.serve(lambda: epochs(arguments.serve, arguments.width, arguments.folder), packages)
        return
    sys.path.insert(0, str(pairs.ROOT))
    from random_data import write_split, write_teacher_scores

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_teacher_scores(Path(folder, "scores"), write_split(folder, "train", arguments.clips))
        given = (f"--width={arguments.width}", f"--folder={folder}")
        for one, other, what, bar in ROWS:
            sides = [
                pairs.Side(__file__, side, sys.executable, None, given) for side in (one, other)
            ]
            rows.append({"what": what, "bar": bar, **pairs.compare(*sides, arguments.pairs, 1)})
            for side in sides:
                side.close()
    pairs.show(f"a stage, width {arguments.width:g}, {arguments.clips} clips", rows, arguments.json)


if __name__ == "__main__":
    main()
