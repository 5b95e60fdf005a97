"""Results of an experiment: means and intervals over its seeds, and comparisons with controls.

All is read from finished run folders. TensorFlow is not imported.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from secost_tf.evaluation.intervals import Interval, mean_interval, paired_interval
from secost_tf.runs import ExperimentRecord, StageFolder, done_stages, run_folder
from tfrecord_tools import storage
from tfrecord_tools.datasets import ClassMap

_FIGURES = ("mAP", "mAUC", "d_prime", "lwlrap", "training_seconds")


class NotFinished(ValueError):
    """A stage of an experiment is not done."""


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """The figures of an experiment's stages.

    A row is a stage; in a sweep, stage 0 and then stage 1 at each alpha.

    Attributes:
        record: the experiment.
        stages, alphas: of each row; the median over the seeds where each chose an alpha of its own,
            as older versions could.
        alpha_notes: a word beside each alpha (`StageConfig.alpha_note`).
        figures: float64 [seeds, rows] of mAP, mAUC, d_prime, lwlrap and training_seconds; NaN where
            not finite.
        average_precision: float64 [seeds, rows, classes]; NaN for a class without positive clips.
        class_map: the classes.
        split, num_clips, chance: the evaluated clips, and the mAP of random scores there.
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
        """mAP of each stage, float64 [seeds, rows]."""
        return self.figures["mAP"]

    def row_name(self, row: int) -> str:
        """Return the name of a row: `stage 2`, or `alpha 0.3` in a sweep."""
        of_alpha = self.record.sweep_alphas and row
        return f"alpha {self.alphas[row]:g}" if of_alpha else f"stage {self.stages[row]}"


@dataclasses.dataclass(frozen=True)
class Row:
    """A stage, or an alpha of a sweep, over all seeds; intervals are of the mean, by Student's t.

    Attributes:
        stage, alpha: those of the row.
        mAP: the mean over the seeds.
        change: of mAP against stage 0, paired by seed; None for stage 0.
        relative_change: the mean change divided by the mean mAP of stage 0.
        improved_classes, worse_classes: classes whose AP, averaged over seeds, is above or below
            that of stage 0.
        classes: number of classes that have an AP.
        mAUC, d_prime, lwlrap, training_seconds: means; None where that of a seed is not finite.
        mAP_per_seed: [seeds].
        alpha_note: a word beside alpha (`StageConfig.alpha_note`).
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
    """A row compared with that of a control, paired by seed.

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
        measured: the figures that they are drawn from.
        rows: of the stages, or of the alphas after stage 0.
        comparisons: with the controls; in a sweep, of each alpha with alpha 1, retraining alone.
        controls: those that were compared with.
        missing: the reason why each of the other controls was not.
    """

    measured: Measured
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    controls: tuple[Measured, ...]
    missing: Mapping[str, str]


def default_command(name: str) -> str:
    """Return the command of an experiment of the slides, but for the flags of its data."""
    return f"python -m secost_tf.experiment --flagfile={name}.flags"


def experiment_results(
    experiments_dir: str,
    name: str,
    seeds: int,
    controls: Sequence[str] = (),
    command: Callable[[str], str] = default_command,
) -> Results:
    """Return the results of a finished experiment.

    Args:
        experiments_dir: folder of the experiments.
        name: the experiment.
        seeds: number of its seeds, from 0 on; also of the controls'.
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
    is_sweep = bool(measured.record.sweep_alphas)
    if is_sweep and controls:
        raise ValueError(
            f"controls: {name} is a sweep, whose control is its own alpha 1 (retraining alone); "
            f"got {', '.join(controls)}"
        )
    comparisons = list(_compare_with_alpha_1(measured)) if is_sweep else []
    finished, missing = [], {}
    for control in controls:
        try:
            finished.append(read_measured(experiments_dir, control, seeds))
        except NotFinished as error:
            missing[control] = f"{error}. Run it with: {command(control)}"
    for other in finished:
        _check_comparable(measured, other)
        comparisons += _compare_with_control(measured, other)
    rows = tuple(_row(measured, row) for row in range(len(measured.stages)))
    return Results(measured, rows, tuple(comparisons), tuple(finished), missing)


def read_measured(experiments_dir: str, name: str, seeds: int) -> Measured:
    """Read the first seeds of an experiment.

    Raises:
        NotFinished: if a stage is not done; names seed and stage.
        ValueError: if the stages of the seeds do not go together; names both.
    """
    record = ExperimentRecord.read(experiments_dir, name)
    folder = storage.join(experiments_dir, name)
    if record is None:
        raise NotFinished(f"{folder}: this experiment was not begun")
    table = [_find_stages(experiments_dir, record, seed) for seed in range(seeds)]
    first = table[0][0]
    try:
        for row in zip(*table, strict=True):
            for stage in row:
                _check_same_data(stage, first)
                _check_same_settings(stage, row[0], _chosen_settings(record))
        figures = {
            figure: np.array([[stage.metrics[figure] for stage in seed] for seed in table], float)
            for figure in _FIGURES
        }
        precision = [[_average_precision(stage) for stage in of_seed] for of_seed in table]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder}: not what stages leave ({error!r})") from error
    if np.isnan(figures["mAP"]).any():
        raise ValueError(
            f"{folder}: no class of the {first.metrics['split']} split has a positive clip, so "
            "that there is no mAP"
        )
    return Measured(
        record=record,
        stages=tuple(stage.number for stage in table[0]),
        alphas=tuple(
            statistics.median(stage.record.config.alpha for stage in of_seeds)
            for of_seeds in zip(*table, strict=True)
        ),
        alpha_notes=tuple(stage.metrics.get("alpha_note", "") for stage in table[0]),
        figures=figures,
        average_precision=np.array(precision),
        class_map=first.record.class_map,
        split=first.metrics["split"],
        num_clips=first.metrics["num_clips"],
        chance=first.metrics["chance"],
    )


def _chosen_settings(record: ExperimentRecord) -> list[str]:
    """Return the settings that each seed's stages chose for themselves, as older versions could."""
    chosen = {"auto_alphas": "alpha", "estimate_class_alphas": "class_alphas"}
    return [name for asked, name in chosen.items() if record.settings.get(asked)]


def _find_stages(experiments_dir: str, record: ExperimentRecord, seed: int) -> list[StageFolder]:
    """Return the stages of a seed, a row each; those of a sweep have one stage 0."""
    runs = []
    for alpha in record.sweep_alphas or (None,):
        run_dir = run_folder(experiments_dir, record.name, seed, alpha)
        stages = [StageFolder(run_dir, number) for number in range(record.stage + 1)]
        if (done := len(done_stages(run_dir))) < len(stages):
            of_alpha = "" if alpha is None else f", alpha {alpha:g}"
            raise NotFinished(
                f"{record.name}: seed {seed}{of_alpha}, stage {done} is not done "
                f"({stages[done].path})"
            )
        runs.append(stages)
    base = runs[0][0]
    for run in runs[1:]:
        if run[0].metrics != base.metrics:
            raise ValueError(
                f"{run[0].path} and {base.path} are not the same stage 0, so that their students "
                "cannot be compared; delete the folders of the stages of one run, and it is "
                "trained anew"
            )
    return runs[0] + [run[1] for run in runs[1:]]


def _average_precision(stage: StageFolder) -> list[float]:
    """Return the AP of each class; NaN for a class without positive clips."""
    try:
        return [float(row["AP"] or "nan") for row in stage.per_class]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{stage.path}: not what a stage leaves ({error!r})") from error


def _check_same_data(stage: StageFolder, other: StageFolder) -> None:
    """Raise `ValueError` if two stages have other classes, or were evaluated on other clips."""
    mine, theirs = stage.record.class_map, other.record.class_map
    _check_same_classes(mine, theirs, stage.path, other.path)
    for name in ("split", "num_clips"):
        if stage.metrics[name] != other.metrics[name]:
            raise ValueError(
                f"{stage.path} and {other.path} were evaluated on other clips: {name}: "
                f"{stage.metrics[name]!r} != {other.metrics[name]!r}"
            )


def _check_same_settings(stage: StageFolder, other: StageFolder, chosen: Sequence[str]) -> None:
    """Raise `ValueError` if two seeds' stages differ in more than the seed and what they chose."""
    mine, theirs = stage.record.config, other.record.config
    train = dataclasses.replace(mine.train, seed=theirs.train.seed)
    aligned = {name: getattr(theirs, name) for name in chosen}
    if difference := dataclasses.replace(mine, train=train, **aligned).differences(theirs):
        raise ValueError(
            f"{stage.path} and {other.path} differ in more than the seed: {difference}; delete "
            "the one that does not belong here, and train it anew"
        )


def _check_same_classes(mine: ClassMap, theirs: ClassMap, here: str, there: str) -> None:
    """Raise `ValueError` if two sides have other classes."""
    if difference := mine.differences(theirs, f"in {here}", f"in {there}"):
        raise ValueError(
            f"{here} and {there} cannot be compared, their classes differ: {difference}"
        )


def _check_comparable(measured: Measured, control: Measured) -> None:
    """Raise `ValueError` if a control is a sweep, or of other classes or data."""
    mine, theirs = measured.record, control.record
    if theirs.sweep_alphas:
        raise ValueError(f"controls: expected cascades, got {theirs.name}, a sweep of alpha")
    _check_same_classes(measured.class_map, control.class_map, mine.name, theirs.name)
    sides = [(of.record.data_digest, of.split, of.num_clips) for of in (measured, control)]
    if sides[0] != sides[1]:
        raise ValueError(
            f"{mine.name} and {theirs.name} cannot be compared, their data differ: {mine.name} was "
            f"trained on {mine.data_dir} and evaluated on {measured.num_clips} clips "
            f"({measured.split}), {theirs.name} on {theirs.data_dir} and {control.num_clips} clips "
            f"({control.split})"
        )


def _row(measured: Measured, row: int) -> Row:
    """Return a row of the results."""
    mAP, base = measured.mAP[:, row], measured.mAP[:, 0]
    precision = measured.average_precision.mean(axis=0).round(9)  # what is equal stays so
    gain = precision[row] - precision[0]
    change = paired_interval(mAP, base) if row else None
    means = {name: float(values[:, row].mean()) for name, values in measured.figures.items()}
    del means["mAP"]
    return Row(
        stage=measured.stages[row],
        alpha=measured.alphas[row],
        mAP=mean_interval(mAP),
        change=change,
        relative_change=float(change.mean / base.mean()) if change and base.any() else None,
        improved_classes=int((gain > 0).sum()),
        worse_classes=int((gain < 0).sum()),
        classes=int(np.isfinite(precision[row]).sum()),
        mAP_per_seed=tuple(mAP.tolist()),
        alpha_note=measured.alpha_notes[row],
        **{name: value if np.isfinite(value) else None for name, value in means.items()},
    )


def _compare_with_alpha_1(measured: Measured) -> Iterator[Comparison]:
    """Compare each alpha of a sweep with its alpha 1, if that is one of them."""
    alphas = measured.alphas[1:]  # without stage 0
    if 1 not in alphas:
        return
    control = 1 + alphas.index(1)
    for row in range(1, len(measured.alphas)):
        if row != control:
            yield _compare(measured, row, "alpha 1, retraining alone", measured.mAP[:, control])


def _compare_with_control(measured: Measured, control: Measured) -> Iterator[Comparison]:
    """Compare the last stage with the control's same, last and best stage, by mean mAP."""
    mine, last = len(measured.stages) - 1, len(control.stages) - 1
    kinds = {"the same": mine, "its last": last, "its best": control.mAP.mean(axis=0).argmax()}
    for row in dict.fromkeys(row for row in kinds.values() if row <= last):
        told = ", ".join(kind for kind, place in kinds.items() if place == row)
        against = f"{control.record.name}, {control.row_name(row)} ({told})"
        yield _compare(measured, mine, against, control.mAP[:, row])


def _compare(measured: Measured, row: int, against: str, control: np.ndarray) -> Comparison:
    """Compare a row with mAPs of the same seeds, [seeds]."""
    mAP = measured.mAP[:, row]
    return Comparison(
        of=measured.row_name(row),
        against=against,
        mAP=float(control.mean()),
        difference=paired_interval(mAP, control),
        difference_per_seed=tuple((mAP - control).tolist()),
    )
