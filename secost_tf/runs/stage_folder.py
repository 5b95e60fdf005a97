"""A stage of a run on disk: its files, and what they hold."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from secost_tf.runs.settings import StageConfig
from secost_tf.version import __version__
from tfrecord_tools import storage
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shards import DatasetInfo, check_same_input

if TYPE_CHECKING:
    import keras

CONFIG_JSON = "config.json"
FLAGS_TXT = "flags.txt"
METRICS_JSON = "metrics.json"
WEIGHTS_H5 = "student.weights.h5"
STUDENT_KERAS = "student.keras"
PER_CLASS_CSV = "per_class.csv"
HISTORY_CSV = "history.csv"
ALPHA_PER_CLASS_CSV = "alpha_per_class.csv"
TEACHER_SCORES = "teacher_scores"
CHECKPOINTS = "checkpoints"
TRAINING_STATE = (CHECKPOINTS, "training-state.npz")
TENSORBOARD = "tensorboard"


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """The content of a stage's `config.json`: its settings, and the data it was made with.

    Attributes:
        config: the settings of the stage.
        data_dir: the converted splits.
        class_map: the classes.
        log_mel: what the clips' log-mels were made with.
    """

    config: StageConfig
    data_dir: str
    class_map: ClassMap
    log_mel: LogMelConfig

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "stage": self.config.to_dict(),
            "data_dir": self.data_dir,
            "class_map": dataclasses.asdict(self.class_map),
            "log_mel": self.log_mel.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StageRecord:
        """Return the record that `to_dict` gave."""
        return cls(
            StageConfig.from_dict(values["stage"]),
            values["data_dir"],
            ClassMap(**{name: tuple(items) for name, items in values["class_map"].items()}),
            LogMelConfig.from_dict(values["log_mel"]),
        )


@dataclasses.dataclass(frozen=True)
class StageFolder:
    """The folder of a stage, `RUN_DIR/stage-N`: its paths, settings, figures and student.

    What has been read is kept, so that one object is passed around in place of reading again.

    Source: a stage's folder as `run_cascade` writes it: `config.json`, `student.weights.h5`,
    `metrics.json`, `per_class.csv`, `history.csv`, the scores that it gave as a teacher.

    Args:
        run_dir: folder of the run.
        number: of the stage; 0 is the base model.

    Raises:
        ValueError: when something is read of a stage that was not begun or is not done.

    Example:
        `runs/secost` is a run of stages 0 to 2.

        >>> from secost_tf import StageFolder
        >>> stage = StageFolder("runs/secost", 2)
        >>> stage.path, stage.is_done, stage.record.config.alpha
        ('runs/secost/stage-2', True, 0.3)
        >>> StageFolder("runs/secost", 3).metrics
        Traceback (most recent call last):
            ...
        ValueError: runs/secost/stage-3: this stage is not done; train it with --stage=3
    """

    run_dir: str
    number: int

    @property
    def path(self) -> str:
        """The path of the folder."""
        return storage.join(self.run_dir, f"stage-{self.number}")

    def file(self, *parts: str) -> str:
        """Return the path of a file or folder in it."""
        return storage.join(self.path, *parts)

    @property
    def is_done(self) -> bool:
        """True if the stage has run to its end."""
        return storage.exists(self.file(METRICS_JSON))

    @property
    def is_begun(self) -> bool:
        """True if there is a checkpoint that training can go on from."""
        return storage.exists(self.file(*TRAINING_STATE))

    def check_done(self) -> None:
        """Raise `ValueError` if the stage is not done."""
        if not self.is_done:
            raise ValueError(
                f"{self.path}: this stage is not done; train it with --stage={self.number}"
            )

    # --- what the files hold ---

    @functools.cached_property
    def _config_json(self) -> dict[str, Any]:
        return storage.read_json(self.file(CONFIG_JSON))

    @functools.cached_property
    def record(self) -> StageRecord:
        """The settings of the stage, and its data.

        Raises:
            ValueError: if the stage was never begun, or the file is damaged.
        """
        if not self.has_record:
            raise ValueError(
                f"{self.path}: this stage was not begun; train it with --stage={self.number}"
            )
        try:
            return StageRecord.from_dict(self._config_json)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            path = self.file(CONFIG_JSON)
            raise ValueError(f"{path}: not the settings of a stage ({error})") from error

    @property
    def has_record(self) -> bool:
        """True if the settings of the stage stand there: it was begun."""
        return storage.exists(self.file(CONFIG_JSON))

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the libraries that it was trained with, by name."""
        return self._config_json.get("versions", {})

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """The figures of a stage that is done."""
        self.check_done()
        return storage.read_json(self.file(METRICS_JSON))

    @functools.cached_property
    def history(self) -> list[dict[str, float]]:
        """The figures of its epochs, by name; none if there is no such file."""
        return [
            {name: float(cell) for name, cell in row.items() if cell}
            for row in self._read_table(HISTORY_CSV)
        ]

    @functools.cached_property
    def per_class(self) -> list[dict[str, str]]:
        """The figures of each class: rows of cells; none if there is no such file."""
        return self._read_table(PER_CLASS_CSV)

    def _read_table(self, name: str) -> list[dict[str, str]]:
        path = self.file(name)
        return [row for _, row in storage.read_csv(path)] if storage.exists(path) else []

    @functools.cached_property
    def student(self) -> keras.Model:
        """The trained student; works whichever stack it was trained on.

        Raises:
            ValueError: if the stage is not done.
        """
        from secost_tf.models import wels_net

        self.check_done()
        student = wels_net(self.record.config.network)
        with storage.local_copy(self.file(WEIGHTS_H5)) as path:
            student.load_weights(path)
        return student

    def weights(self) -> bytes:
        """Return the content of the weights' file, which tells a student from any other."""
        with storage.open_file(self.file(WEIGHTS_H5), "rb") as stream:
            return stream.read()

    def check_data(self, info: DatasetInfo, data_dir: str) -> None:
        """Raise `ValueError` if a split has other classes or another log-mel than the stage.

        Args:
            info: of the split.
            data_dir: where it lies.
        """
        check_same_input(self.record, self.path, info, data_dir)

    # --- writing ---

    def begin(self, record: StageRecord) -> None:
        """Write the settings of the stage, atomically."""
        storage.make_dirs(self.path)
        values = {**record.to_dict(), "versions": library_versions()}
        storage.write_json(self.file(CONFIG_JSON), values)
        self._forget()

    def save_student(self, student: keras.Model) -> None:
        """Write `student.weights.h5`, which both stacks load, and `student.keras` for this one."""
        with storage.atomic_path(self.file(WEIGHTS_H5)) as path:
            student.save_weights(path)
        with storage.atomic_path(self.file(STUDENT_KERAS)) as path:
            student.save(path)
        self._forget()

    def write_metrics(self, figures: dict[str, Any]) -> None:
        """Write the figures of the stage, with which it is done."""
        storage.write_json(self.file(METRICS_JSON), figures)
        self._forget()

    def copy_from(self, source: StageFolder) -> None:
        """Take a stage from another run, in place of what stands here.

        A stage that is done appears whole: files are copied, or linked where that is possible (no
        file of a run is ever written in place), and `metrics.json` comes last.

        Args:
            source: the stage that is taken.
        """
        storage.remove_tree(self.path)
        last = ((METRICS_JSON,), TRAINING_STATE)
        for path in sorted(_files(source.path), key=lambda path: path in last):
            storage.make_dirs(self.file(*path[:-1]))
            _copy_file(source.file(*path), self.file(*path))
        self._forget()

    def _forget(self) -> None:
        """Forget what has been read."""
        for name in vars(self).keys() - {"run_dir", "number"}:
            del vars(self)[name]


def done_stages(run_dir: str) -> list[StageFolder]:
    """Return the stages of a run that are done, from stage 0 on without a gap."""
    stages: list[StageFolder] = []
    while (stage := StageFolder(run_dir, len(stages))).is_done:
        stages.append(stage)
    return stages


def find_stage(run_dir: str, number: int | None = None) -> StageFolder:
    """Return a stage that is done: the one of this number, or the last.

    Raises:
        ValueError: if it is not done, or none is.
    """
    if number is not None:
        stage = StageFolder(run_dir, number)
        stage.check_done()
        return stage
    if stages := done_stages(run_dir):
        return stages[-1]
    raise ValueError(
        f"{run_dir}: no stage is done there; train one with python -m secost_tf.train "
        f"--run_dir={run_dir}"
    )


def load_student(run_dir: str, stage: int | None = None) -> keras.Model:
    """Load the trained student of a stage, whichever stack it was trained on.

    Source: the network is that of `wels_net`.

    Args:
        run_dir: folder of the run.
        stage: number of the stage; None: the last that is done.

    Returns:
        A `wels_net` in float32, from a dict of `log_mel` [clips, frames, mel_bins] and `num_frames`
        [clips] to a dict of `logits` [clips, classes] and `segment_logits` [clips, K, classes].

    Raises:
        ValueError: if the stage is not done.

    Example:
        `runs/secost` is a run on four classes and 32 mel bins.

        >>> import numpy as np
        >>> from secost_tf import load_student
        >>> student = load_student("runs/secost", stage=2)
        >>> log_mel = np.zeros((1, 998, 32), "float32")  # ten seconds
        >>> outputs = student({"log_mel": log_mel, "num_frames": np.array([998], "int32")})
        >>> outputs["logits"].shape.as_list(), outputs["segment_logits"].shape.as_list()
        ([1, 4], [1, 30, 4])
    """
    return find_stage(run_dir, stage).student


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a stage is trained with, by name."""
    import keras
    import tensorflow as tf

    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    return {"secost_tf": __version__, **versions}


def _files(folder: str, *parents: str) -> Iterator[tuple[str, ...]]:
    """Yield the finished files below a folder, each as the parts of its relative path."""
    for name in storage.list_dir(storage.join(folder, *parents)):
        if storage.is_dir(storage.join(folder, *parents, name)):
            yield from _files(folder, *parents, name)
        elif not name.startswith(storage.PARTIAL_PREFIX):
            yield (*parents, name)


def _copy_file(source: str, target: str) -> None:
    """Link or copy a file, atomically."""
    with storage.local_copy(source) as local, storage.atomic_path(target) as temporary:
        storage.remove(temporary)  # of an attempt that was killed
        try:
            os.link(local, temporary)
        except OSError:  # another file system, or one without links
            shutil.copyfile(local, temporary)
