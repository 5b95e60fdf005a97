"""What a stage's folder holds: its settings, the student, the figures; how to find and to load them."""

from __future__ import annotations

import csv
import dataclasses
import io

import keras
import numpy as np
import tensorflow as tf

import secost_tf
from secost_tf.config import StageConfig
from secost_tf.metrics import Evaluation
from secost_tf.wels_net import wels_net
from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import DatasetInfo

CONFIG_JSON = "config.json"
FLAGS_TXT = "flags.txt"
METRICS_JSON = "metrics.json"
WEIGHTS_H5 = "student.weights.h5"
STUDENT_KERAS = "student.keras"
PER_CLASS_CSV = "per_class.csv"
HISTORY_CSV = "history.csv"
TEACHER_SCORES = "teacher_scores"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"


def stage_dir(run_dir: str, stage: int) -> str:
    """`RUN_DIR/stage-1`."""
    return storage.join(run_dir, f"stage-{stage}")


def is_done(run_dir: str, stage: int) -> bool:
    """Whether a stage has run to its end."""
    return storage.exists(storage.join(stage_dir(run_dir, stage), METRICS_JSON))


def done_stages(run_dir: str) -> list[int]:
    """The numbers of the stages that are done, ascending; a `ValueError` if there is none."""
    done = [stage for stage in range(len(storage.list_dir(run_dir))) if is_done(run_dir, stage)]
    if not done:
        raise ValueError(
            f"{run_dir}: no stage is done there; train one with python -m secost_tf.train --run_dir={run_dir}"
        )
    return done


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What `config.json` keeps of a stage: its settings, and the data it was made with."""

    config: StageConfig
    data_dir: str
    class_map: ClassMap
    log_mel: LogMelConfig

    def write(self, run_dir: str) -> None:
        """Writes `config.json` into the stage's folder, atomically."""
        values = {
            "stage": self.config.to_dict(),
            "data_dir": self.data_dir,
            "class_map": {"mids": self.class_map.mids, "display_names": self.class_map.display_names},
            "log_mel": self.log_mel.to_dict(),
            "versions": {
                "secost_tf": secost_tf.__version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
            },
        }
        storage.write_json(storage.join(stage_dir(run_dir, self.config.stage), CONFIG_JSON), values)

    @classmethod
    def read(cls, run_dir: str, stage: int) -> StageRecord | None:
        """The record of a stage, or None if it was never begun."""
        path = storage.join(stage_dir(run_dir, stage), CONFIG_JSON)
        if not storage.exists(path):
            return None
        values = storage.read_json(path)
        try:
            return cls(
                config=StageConfig.from_dict(values["stage"]),
                data_dir=values["data_dir"],
                class_map=ClassMap(**{name: tuple(items) for name, items in values["class_map"].items()}),
                log_mel=LogMelConfig.from_dict(values["log_mel"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not the settings of a stage ({error})") from error

    def check_data(self, run_dir: str, info: DatasetInfo, data_dir: str) -> None:
        """A `ValueError` that names both sides if a split has other classes or another log-mel than the stage."""
        where = stage_dir(run_dir, self.config.stage)
        if difference := self.class_map.differences(info.class_map, f"in {where}", f"in {data_dir}"):
            raise ValueError(f"{where} was made with other classes than {data_dir}: {difference}")
        if difference := self.log_mel.differences(info.log_mel):
            raise ValueError(f"{where} was made with another log-mel than {data_dir}: {difference}")


def load_student(run_dir: str, stage: int) -> keras.Model:
    """The trained student of a stage that is done; works whichever stack it was trained on."""
    record = StageRecord.read(run_dir, stage)
    if record is None or not is_done(run_dir, stage):
        raise ValueError(
            f"{stage_dir(run_dir, stage)}: this stage is not done; train it with --stage={stage}"
        )
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


def write_per_class(path: str, evaluation: Evaluation, class_map: ClassMap) -> None:
    """Writes one csv row a class; a figure that does not exist (no positive clip) is left empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["index", "mid", "display_name", "positives", "AP", "AUC", "d_prime"])
    per_class = evaluation.per_class
    columns = (per_class.positives, per_class.average_precision, per_class.roc_auc, per_class.d_prime)
    for index, (positives, *figures) in enumerate(zip(*columns, strict=True)):
        cells = [f"{figure:.6f}" if np.isfinite(figure) else "" for figure in figures]
        writer.writerow(
            [index, class_map.mids[index], class_map.display_names[index], int(positives), *cells]
        )
    with storage.atomic_write(path) as file:
        file.write(stream.getvalue())
