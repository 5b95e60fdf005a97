"""Students on disk: save one, load one."""

from __future__ import annotations

import keras

from secost_tf.models import wels_net
from secost_tf.runs.stage_folder import STUDENT_KERAS, WEIGHTS_H5, StageRecord, stage_dir
from tfrecord_tools import storage


def load_student(run_dir: str, stage: int) -> keras.Model:
    """The trained student of a stage that is done; works whichever stack it was trained on."""
    record = StageRecord.read_done(run_dir, stage)
    student = wels_net(record.config.network)
    with storage.local_copy(storage.join(stage_dir(run_dir, stage), WEIGHTS_H5)) as path:
        student.load_weights(path)
    return student


def save_student(student: keras.Model, folder: str) -> None:
    """Writes `student.weights.h5`, which loads on both stacks, and `student.keras`, which does not."""
    with storage.atomic_path(storage.join(folder, WEIGHTS_H5)) as path:
        student.save_weights(path)
    with storage.atomic_path(storage.join(folder, STUDENT_KERAS)) as path:
        student.save(path)
