"""What a stage's folder holds: its settings, the student, the figures; how to find and to load
them.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator

from secost_tf.runs.settings import StageConfig
from secost_tf.version import __version__
from tfrecord_tools import storage
from tfrecord_tools.datasets import ClassMap
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


def library_versions() -> dict[str, str]:
    """Return the versions that a stage is trained with."""
    import keras
    import tensorflow as tf

    return {
        "secost_tf": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


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
            "class_map": {
                "mids": self.class_map.mids,
                "display_names": self.class_map.display_names,
            },
            "log_mel": self.log_mel.to_dict(),
            "versions": library_versions(),
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
                class_map=ClassMap(
                    **{name: tuple(items) for name, items in values["class_map"].items()}
                ),
                log_mel=LogMelConfig.from_dict(values["log_mel"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not the settings of a stage ({error})") from error

    @classmethod
    def read_done(cls, run_dir: str, stage: int) -> StageRecord:
        """Read the record of a stage that is done.

        Raises:
            ValueError: if the stage is not done.
        """
        record = cls.read(run_dir, stage)
        if record is None or not is_done(run_dir, stage):
            raise ValueError(
                f"{stage_dir(run_dir, stage)}: this stage is not done; train it with --stage={stage}"
            )
        return record

    def check_data(self, run_dir: str, info: DatasetInfo, data_dir: str) -> None:
        """A `ValueError` that names both sides if a split has other classes or another log-mel than
        the stage.
        """
        where = stage_dir(run_dir, self.config.stage)
        if difference := self.class_map.differences(
            info.class_map, f"in {where}", f"in {data_dir}"
        ):
            raise ValueError(f"{where} was made with other classes than {data_dir}: {difference}")
        if difference := self.log_mel.differences(info.log_mel):
            raise ValueError(f"{where} was made with another log-mel than {data_dir}: {difference}")


# The names that `secost_tf.runs.stage_folder` gives, which imports TensorFlow.
CONFIG_JSON = "config.json"

METRICS_JSON = "metrics.json"

PER_CLASS_CSV = "per_class.csv"

_WEIGHTS_H5 = "student.weights.h5"

_STATE = ("checkpoints", "training-state.npz")


def leading_stages(run_dir: str) -> range:
    """The stages that are done: those from 0 on without a gap."""
    count = 0
    while storage.exists(storage.join(stage_dir(run_dir, count), METRICS_JSON)):
        count += 1
    return range(count)


def read_metrics(run_dir: str, stage: int) -> dict:
    """The figures of a stage that is done."""
    return storage.read_json(storage.join(stage_dir(run_dir, stage), METRICS_JSON))


def copy_stage(source_run: str, run_dir: str, stage: int) -> None:
    """Takes a stage from another run, in place of what stands there; a stage that is done appears
    whole.

    Files are copied, or linked where that is possible (no file of a run is ever written in place);
    `metrics.json` comes last.
    """
    source, target = stage_dir(source_run, stage), stage_dir(run_dir, stage)
    storage.remove_tree(target)
    for path in sorted(_files(source), key=lambda path: (path == (METRICS_JSON,), path == _STATE)):
        storage.make_dirs(storage.join(target, *path[:-1]))
        _copy_file(storage.join(source, *path), storage.join(target, *path))


def weights_of(folder: str) -> bytes:
    """A stage's weights, which tell it from any other."""
    with storage.open_file(storage.join(folder, _WEIGHTS_H5), "rb") as stream:
        return stream.read()


def _files(folder: str, *parents: str) -> Iterator[tuple[str, ...]]:
    """The files below a folder, each as the parts of its relative path; without those that were
    never finished.
    """
    for name in storage.list_dir(storage.join(folder, *parents)):
        if storage.is_dir(storage.join(folder, *parents, name)):
            yield from _files(folder, *parents, name)
        elif not name.startswith(storage.PARTIAL_PREFIX):
            yield (*parents, name)


def _copy_file(source: str, target: str) -> None:
    """Links or copies a file, atomically."""
    with storage.local_copy(source) as local, storage.atomic_path(target) as temporary:
        storage.remove(temporary)  # of an attempt that was killed
        try:
            os.link(local, temporary)
        except OSError:  # another file system, or one without links
            shutil.copyfile(local, temporary)
