"""What an experiment shows: means and intervals over its seeds, differences paired by seed,
comparisons with controls.

All is read from finished run folders. TensorFlow is not imported.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from secost_tf.evaluation.intervals import Interval, mean_interval, paired_interval
from secost_tf.runs import ExperimentRecord, StageConfig, StageFolder, done_stages, run_folder
from tfrecord_tools import storage
from tfrecord_tools.datasets import ClassMap

_FIGURES = ("mAP", "mAUC", "d_prime", "lwlrap", "training_seconds")

LEVEL = 0.95


class NotFinished(ValueError):
    """A stage of an experiment is not done."""


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What an experiment's stages measure. A row is a stage; in a sweep, stage 0 and then stage 1
    at each alpha.

    Attributes:
        record: the experiment.
        stages, alphas: of each row; the median over the seeds where each chose an alpha of its own,
            as older versions could.
        alpha_notes: what is to be said beside each alpha (`StageConfig.alpha_note`).
        figures: float64 [seeds, rows] of mAP, mAUC, d_prime, lwlrap and training_seconds; NaN where
            not finite.
        average_precision: float64 [seeds, rows, classes]; NaN for a class without positive clips.
        class_map: the classes.
        split, num_clips, chance: what was evaluated, and the mAP of random scores there.
    """

    record: ExperimentRecord
    stages: tuple[int, ...]
    alphas: tuple[float, ...]
    alpha_notes: tuple[str, ...]
    figures: Mapping[str, np.ndarray]
    average_precision: np.ndarray
    class_map: ClassMap
    split: str
    num_clips: int
    chance: float | None

    @property
    def mAP(self) -> np.ndarray:
        """float64 [seeds, rows]."""
        return self.figures["mAP"]

    def row_name(self, row: int) -> str:
        """`stage 2`, or `alpha 0.3`."""
        of_alpha = self.record.sweep_alphas and row
        return f"alpha {self.alphas[row]:g}" if of_alpha else f"stage {self.stages[row]}"


@dataclasses.dataclass(frozen=True)
class Row:
    """A stage, or an alpha of a sweep, over all seeds; intervals are of the mean, by Student's t.

    Attributes:
        stage, alpha: which.
        mAP: its mean.
        change: of mAP against stage 0, paired by seed; None for stage 0.
        relative_change: the mean change divided by the mean mAP of stage 0.
        improved_classes, worse_classes: classes whose AP, averaged over seeds, is above or below
            that of stage 0.
        classes: that have an AP.
        mAUC, d_prime, lwlrap, training_seconds: means; None where that of a seed is not finite.
        mAP_per_seed: [seeds].
        alpha_note: what is to be said beside alpha (`StageConfig.alpha_note`).
    """

    stage: int
    alpha: float
    mAP: Interval
    change: Interval | None
    relative_change: float | None
    improved_classes: int
    worse_classes: int
    classes: int
    mAUC: float | None
    d_prime: float | None
    lwlrap: float | None
    training_seconds: float | None
    mAP_per_seed: tuple[float, ...]
    alpha_note: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row against that of a control, paired by seed.

    Attributes:
        of: the row, as `stage 5`.
        against: the control's, as `no_teacher, stage 5 (its last)`.
        mAP: the control's mean.
        difference: of mAP, the row's less the control's.
        difference_per_seed: [seeds].
    """

    of: str
    against: str
    mAP: float
    difference: Interval
    difference_per_seed: tuple[float, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """An experiment's results.

    Attributes:
        measured: what they are drawn from.
        rows: one a stage, or an alpha after stage 0.
        comparisons: with the controls; in a sweep, of each alpha with alpha 1, retraining alone.
        controls: those that were compared with.
        missing: why each of the other controls was not.
    """

    measured: Measured
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    controls: tuple[Measured, ...]
    missing: Mapping[str, str]


def default_command(name: str) -> str:
    """Return what runs or continues an experiment of the slides, but for the flags of its data."""
    return f"python -m secost_tf.experiment --flagfile={name}.flags"


def experiment_results(
    experiments_dir: str,
    name: str,
    seeds: int,
    controls: Sequence[str] = (),
    command: Callable[[str], str] = default_command,
) -> Results:
    """The results of a finished experiment.

    Args:
        experiments_dir: folder of the experiments.
        name: the experiment.
        seeds: how many of its seeds, from 0 on; also of the controls'.
        controls: experiments to compare the last stage with; one that is not finished is only
            named.
        command: gives the command that runs an experiment, for messages.

    Raises:
        ValueError: if a stage of a seed is not done (`NotFinished`); if seeds differ in more than
            the seed; if a control is of other data or classes, or is a sweep; or if a sweep is
            given controls, having its own.
    """
    try:
        measured = read_measured(experiments_dir, name, seeds)
    except NotFinished as error:
        raise NotFinished(f"{error}. Continue with: {command(name)}") from error
    if measured.record.sweep_alphas and controls:
        raise ValueError(
            f"controls: {name} is a sweep, whose control is its own alpha 1 (retraining alone); got "
            f"{', '.join(controls)}"
        )
    found, missing = [], {}
    for control in controls:
        try:
            found.append(read_measured(experiments_dir, control, seeds))
        except NotFinished as error:
            missing[control] = f"{error}. Run it with: {command(control)}"
    for other in found:
        _check_comparable(measured, other)
    comparisons = _against_alpha_1(measured) if measured.record.sweep_alphas else ()
    return Results(
        measured=measured,
        rows=tuple(_row(measured, row) for row in range(len(measured.stages))),
        comparisons=(
            *comparisons,
            *(one for other in found for one in _against_control(measured, other)),
        ),
        controls=tuple(found),
        missing=missing,
    )


def read_measured(experiments_dir: str, name: str, seeds: int) -> Measured:
    """Reads the first seeds of an experiment.

    Raises:
        NotFinished: if a stage is not done; names seed and stage.
        ValueError: if the stages of the seeds do not go together; names both.
    """
    record = ExperimentRecord.read(experiments_dir, name)
    if record is None:
        raise NotFinished(f"{storage.join(experiments_dir, name)}: this experiment was not begun")
    table = [_read_seed(experiments_dir, record, seed) for seed in range(seeds)]
    first = table[0][0]
    for row in zip(*table, strict=True):
        for stage in row:
            stage.check_same_data(first)
            stage.check_same_settings(row[0], _chosen_settings(record))
    figures = {
        name: np.array([[_number(stage.metrics[name]) for stage in of_seed] for of_seed in table])
        for name in _FIGURES
    }
    if np.isnan(figures["mAP"]).any():
        raise ValueError(
            f"{storage.join(experiments_dir, name)}: no class of the {first.metrics['split']} split has a positive clip, so that there is no mAP"
        )
    return Measured(
        record=record,
        stages=tuple(stage.config.stage for stage in table[0]),
        alphas=tuple(
            statistics.median(stage.config.alpha for stage in of_seeds)
            for of_seeds in zip(*table, strict=True)
        ),
        alpha_notes=tuple(stage.metrics.get("alpha_note", "") for stage in table[0]),
        figures=figures,
        average_precision=np.array(
            [[stage.average_precision for stage in of_seed] for of_seed in table]
        ),
        class_map=first.class_map,
        split=first.metrics["split"],
        num_clips=first.metrics["num_clips"],
        chance=first.metrics["chance"],
    )


def _chosen_settings(record: ExperimentRecord) -> list[str]:
    """Return the settings that each seed's stages chose for themselves, as older versions could."""
    chosen = {"auto_alphas": "alpha", "estimate_class_alphas": "class_alphas"}
    return [name for asked, name in chosen.items() if record.settings.get(asked)]


def _read_seed(experiments_dir: str, record: ExperimentRecord, seed: int) -> list[_Stage]:
    """The stages of a seed, a row each; those of a sweep have one stage 0."""
    runs = []
    for alpha in record.sweep_alphas or (None,):
        of_alpha = "" if alpha is None else f", alpha {alpha:g}"
        folder = run_folder(experiments_dir, record.name, seed, alpha)
        what = f"{record.name}: seed {seed}{of_alpha}"
        runs.append([_Stage.read(what, folder, stage) for stage in range(record.stage + 1)])
    base = runs[0][0]
    for run in runs[1:]:
        if run[0].metrics != base.metrics:
            raise ValueError(
                f"{run[0].folder} and {base.folder} are not the same stage 0, so that their students cannot be compared; "
                f"delete the folders of the stages of one run, and it is trained anew"
            )
    return runs[0] + [run[1] for run in runs[1:]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Stage:
    """A stage that is done, as its folder has it."""

    folder: str
    config: StageConfig
    class_map: ClassMap
    metrics: dict
    average_precision: np.ndarray

    @classmethod
    def read(cls, what: str, run_dir: str, number: int) -> _Stage:
        stage = StageFolder(run_dir, number)
        if number >= len(done_stages(run_dir)):
            raise NotFinished(f"{what}, stage {number} is not done ({stage.path})")
        record = stage.record
        try:
            return cls(
                folder=stage.path,
                config=record.config,
                class_map=record.class_map,
                metrics=stage.metrics,
                average_precision=np.array([_number(row["AP"] or None) for row in stage.per_class]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{stage.path}: not what a stage leaves ({error!r})") from error

    def check_same_data(self, other: _Stage) -> None:
        """A `ValueError` that names both sides if two stages have other classes, or were evaluated
        on other clips.
        """
        _check_same_classes(self.class_map, other.class_map, self.folder, other.folder)
        for name in ("split", "num_clips"):
            if self.metrics[name] != other.metrics[name]:
                raise ValueError(
                    f"{self.folder} and {other.folder} were evaluated on other clips: {name}: "
                    f"{self.metrics[name]!r} != {other.metrics[name]!r}"
                )

    def check_same_settings(self, other: _Stage, chosen: Sequence[str] = ()) -> None:
        """Raise a `ValueError` that names both sides if two seeds' stages differ in more than the
        seed and the settings that each chose for itself.
        """
        train = dataclasses.replace(self.config.train, seed=other.config.train.seed)
        aligned = {name: getattr(other.config, name) for name in chosen}
        mine = dataclasses.replace(self.config, train=train, **aligned)
        if difference := mine.differences(other.config):
            raise ValueError(
                f"{self.folder} and {other.folder} differ in more than the seed: {difference}; delete the one that does "
                "not belong here, and train it anew"
            )


def _number(value: float | str | None) -> float:
    return float("nan") if value is None else float(value)


def _check_same_classes(mine: ClassMap, theirs: ClassMap, here: str, there: str) -> None:
    if difference := mine.differences(theirs, f"in {here}", f"in {there}"):
        raise ValueError(
            f"{here} and {there} cannot be compared, their classes differ: {difference}"
        )


def _check_comparable(measured: Measured, control: Measured) -> None:
    """A `ValueError` that names both sides if a control cannot be one."""
    mine, theirs = measured.record, control.record
    if theirs.sweep_alphas:
        raise ValueError(f"controls: expected cascades, got {theirs.name}, a sweep of alpha")
    _check_same_classes(measured.class_map, control.class_map, mine.name, theirs.name)
    sides = [
        (one.record.data_digest, one.split, one.num_clips, one.record.data_dir)
        for one in (measured, control)
    ]
    if sides[0][:-1] != sides[1][:-1]:
        raise ValueError(
            f"{mine.name} and {theirs.name} cannot be compared, their data differ: {mine.name} was trained on "
            f"{mine.data_dir} and evaluated on {measured.num_clips} clips ({measured.split}), {theirs.name} on "
            f"{theirs.data_dir} and {control.num_clips} clips ({control.split})"
        )


def _row(measured: Measured, row: int) -> Row:
    mAP = measured.mAP  # [seeds, rows]
    precision = measured.average_precision.mean(axis=0).round(
        9
    )  # [rows, classes]; what is equal stays so
    change = paired_interval(mAP[:, row], mAP[:, 0], LEVEL) if row else None
    means = {
        name: float(values[:, row].mean())
        for name, values in measured.figures.items()
        if name != "mAP"
    }
    return Row(
        stage=measured.stages[row],
        alpha=measured.alphas[row],
        mAP=mean_interval(mAP[:, row], LEVEL),
        change=change,
        relative_change=float(change.mean / mAP[:, 0].mean())
        if change and mAP[:, 0].any()
        else None,
        improved_classes=int((precision[row] > precision[0]).sum()),
        worse_classes=int((precision[row] < precision[0]).sum()),
        classes=int(np.isfinite(precision[row]).sum()),
        mAP_per_seed=tuple(mAP[:, row].tolist()),
        alpha_note=measured.alpha_notes[row],
        **{name: value if np.isfinite(value) else None for name, value in means.items()},
    )


def _against_alpha_1(measured: Measured) -> Iterator[Comparison]:
    """Each alpha of a sweep against its alpha 1, if that is one of them."""
    alphas = measured.alphas[1:]  # without stage 0
    if 1 not in alphas:
        return
    control = 1 + alphas.index(1)
    for row in range(1, len(measured.alphas)):
        if row != control:
            yield _compare(measured, row, "alpha 1, retraining alone", measured.mAP[:, control])


def _against_control(measured: Measured, control: Measured) -> Iterator[Comparison]:
    """The last stage against the control's same, last and best stage; the best is that of the
    highest mean mAP.
    """
    last, best = len(control.stages) - 1, int(control.mAP.mean(axis=0).argmax())
    rows: dict[int, list[str]] = {}
    for row, which in (
        (len(measured.stages) - 1, "the same"),
        (last, "its last"),
        (best, "its best"),
    ):
        if row <= last:
            rows.setdefault(row, []).append(which)
    for row, which in rows.items():
        against = f"{control.record.name}, {control.row_name(row)} ({', '.join(which)})"
        yield _compare(measured, len(measured.stages) - 1, against, control.mAP[:, row])


def _compare(measured: Measured, row: int, against: str, control: np.ndarray) -> Comparison:
    return Comparison(
        of=measured.row_name(row),
        against=against,
        mAP=float(control.mean()),
        difference=paired_interval(measured.mAP[:, row], control, LEVEL),
        difference_per_seed=tuple((measured.mAP[:, row] - control).tolist()),
    )
