"""The cascade: stages in order, each the teacher of the next; what is done is kept."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence

from absl import logging

from secost_tf.config import RunOptions, StageConfig, TrainConfig, WelsNetConfig
from tfrecord_tools import shards, storage
from tfrecord_tools.config import describe_difference
from tfrecord_tools.shards import DatasetInfo

SUMMARY_CSV = "summary.csv"
SUMMARY_JSON = "summary.json"
_FIGURES = ("mAP", "mAUC", "d_prime", "lwlrap", "chance")


@dataclasses.dataclass(frozen=True)
class CascadeConfig:
    """What to run.

    Attributes:
        stage: the last stage wanted; the stages before it that are not done are trained first.
        alphas: weight of the labels: one number for every stage trained now, or one for each of stages 1 to `stage`;
            none with `auto_alphas`.
        network: settings of the student but for the classes and mel bins, which come from the data.
        train: how each stage is trained.
        teacher_stages: the stages whose scores teach `stage`; none means the stage before.
        prerequisites: False makes a stage before `stage` that is not done an error.
        class_alphas: weight of the labels of each class in every stage after 0, None where that of the stage holds; none: that
            of the stage holds for all.
        estimate_class_alphas: each stage after 0 estimates `class_alphas` (`secost_tf.class_alphas`).
        auto_alphas: the weights among which each stage after 0 chooses its own (`secost_tf.alpha_search`); none: `alphas`
            are given.
    """

    stage: int
    alphas: tuple[float, ...]
    network: dict
    train: TrainConfig
    teacher_stages: tuple[int, ...] = ()
    prerequisites: bool = True
    class_alphas: tuple[float | None, ...] = ()
    estimate_class_alphas: bool = False
    auto_alphas: tuple[float, ...] = ()

    def __post_init__(self):
        if self.stage < 0:
            raise ValueError(f"stage: expected 0 or more, got {self.stage}")
        if self.auto_alphas and self.alphas:
            raise ValueError(
                f"alpha: expected either numbers or auto, for all stages, got {_list(self.alphas)} and auto among "
                f"{_list(self.auto_alphas)}"
            )
        if not self.auto_alphas and len(self.alphas) not in {1, self.stage}:
            raise ValueError(
                f"alpha: expected one number, or one for each of stages 1 to {self.stage} ({self.stage} numbers), "
                f"got {len(self.alphas)}: {_list(self.alphas)}"
            )
        for name, alphas in (("alpha", self.alphas), ("auto_alphas", self.auto_alphas)):
            for alpha in alphas:
                if not 0 <= alpha <= 1:
                    raise ValueError(
                        f"{name}: expected numbers in [0, 1], the weight of the labels, got {alpha:g}"
                    )
        if len(set(self.auto_alphas)) < len(self.auto_alphas):
            raise ValueError(f"auto_alphas: expected each alpha once, got {_list(self.auto_alphas)}")
        if self.estimate_class_alphas and self.class_alphas:
            raise ValueError(
                "alpha_per_class_csv: gives the alphas that --estimate_alpha_per_class would estimate; leave one of the two "
                "out"
            )
        if self.estimate_class_alphas and self.train.teacher == "online":
            raise ValueError(
                "estimate_alpha_per_class: reads the scores that --teacher=cached joins to the clips; leave out "
                "--teacher=online"
            )

    def stage_config(self, stage: int, info: DatasetInfo) -> StageConfig:
        """The settings of one stage on this data."""
        network = WelsNetConfig(
            num_classes=len(info.class_map), mel_bins=info.log_mel.mel_bins, **self.network
        )
        if stage == 0:
            return StageConfig(0, 1.0, (), network, self.train)
        alphas = self.auto_alphas[:1] or self.alphas
        teachers = self.teacher_stages if stage == self.stage else ()
        return StageConfig(
            stage=stage,
            alpha=alphas[0] if len(alphas) == 1 else alphas[stage - 1],
            teacher_stages=tuple(teachers or [stage - 1]),
            network=network,
            train=self.train,
            class_alphas=self.class_alphas,
            estimate_class_alphas=self.estimate_class_alphas,
            auto_alphas=self.auto_alphas,
        )


def run_cascade(
    config: CascadeConfig,
    data_dir: str,
    run_dir: str,
    make_strategy: Callable[[], object],
    options: RunOptions = RunOptions(),  # noqa: B008
    stage_done: Callable[[StageConfig], None] = lambda stage: None,
) -> list[dict]:
    """Trains stages 0 to `config.stage`, keeping those that are done, and writes the summary.

    Args:
        config: what to run.
        data_dir: folder of the converted splits.
        run_dir: folder of the run, made if need be.
        make_strategy: gives the `tf.distribute.Strategy`; called only if there is something to train.
        options: what changes no result.
        stage_done: called after each stage that was trained, not for those that were kept.

    Returns:
        The rows of the summary, one a stage.

    Raises:
        ValueError: if the data, the run folder or the settings do not go together; before anything is trained.
    """
    configs, to_train = plan(config, data_dir, run_dir)
    from secost_tf import (
        alpha_search,
        stage_folder,
    )  # import TensorFlow: after what can be checked without it
    from secost_tf.graph_memory import custom_gradients_forgotten
    from secost_tf.stage import train_stage
    from secost_tf.workers import Workers

    strategy = make_strategy() if to_train else None
    is_chief = strategy is None or Workers(strategy).is_chief
    if to_train:
        alpha_search.check_choices(to_train[-1], data_dir, strategy)
        logging.info("stages to train: %s", alpha_search.describe_trainings(to_train))
    for one in configs:
        if one in to_train:
            logging.info("stage %d: %s", one.stage, _describe(one))
            train = alpha_search.search_alpha if one.auto_alphas else train_stage
            with custom_gradients_forgotten():
                train(one, data_dir, run_dir, strategy, options)
        else:
            logging.info("stage %d: kept, done in %s", one.stage, stage_folder.stage_dir(run_dir, one.stage))
        if is_chief:
            alpha_search.remove_search(run_dir, one.stage)
            write_summary(run_dir)
        if one in to_train:
            stage_done(one)
    return summarize(run_dir)


def _describe(config: StageConfig) -> str:
    if not config.stage:
        return "the base model"
    alpha = alpha_text(config.alpha, config.alpha_note)
    alpha = f"the best of {_list(config.auto_alphas)}" if config.auto_alphas else alpha
    return f"alpha {alpha}, teacher {_join(config.teacher_stages)}"


def plan(config: CascadeConfig, data_dir: str, run_dir: str) -> tuple[list[StageConfig], list[StageConfig]]:
    """The settings of stages 0 to `config.stage`, and of those among them that are yet to be trained.

    Raises:
        ValueError: as `run_cascade`.
    """
    info = shards.read_dataset_info(data_dir, "train")
    from secost_tf import stage_folder

    configs = [config.stage_config(stage, info) for stage in range(config.stage + 1)]
    to_train = [one for one in configs if not stage_folder.is_done(run_dir, one.stage)]
    for one in configs:
        record = stage_folder.StageRecord.read(run_dir, one.stage)
        if record is None:
            continue
        record.check_data(run_dir, info, data_dir)
        if one not in to_train:
            _check_kept(record.config, one, config, stage_folder.stage_dir(run_dir, one.stage))
    missing = [one.stage for one in to_train if one.stage != config.stage]
    if missing and not config.prerequisites:
        raise ValueError(
            f"stage {config.stage} needs stage {', '.join(map(str, missing))}, not done in {run_dir}: train "
            f"{'it' if len(missing) == 1 else 'them'} first, or leave out --noprerequisites"
        )
    return configs, to_train


def _check_kept(done: StageConfig, asked: StageConfig, config: CascadeConfig, folder: str) -> None:
    """A stage that is done must be what was asked for, as far as it was asked for: the last stage, and its alphas."""
    if asked.stage == config.stage:
        difference = done.aligned_to(asked).differences(asked)
    else:
        named = ["alpha"] * (len(config.alphas) > 1) + ["class_alphas"] * bool(config.class_alphas)
        difference = "; ".join(
            describe_difference(name, getattr(done, name), getattr(asked, name))
            for name in named
            if getattr(done, name) != getattr(asked, name)
        )
    if difference:
        raise ValueError(
            f"{folder} is done, with other settings (there != asked): {difference}. Choose another --run_dir, or "
            f"delete {folder} and the stages after it to train them anew"
        )


def summarize(run_dir: str) -> list[dict]:
    """The figures of the stages that are done, a row each."""
    from secost_tf import stage_folder

    rows: list[dict] = []
    while stage_folder.is_done(run_dir, len(rows)):
        metrics = {"alpha_note": ""} | storage.read_json(  # which older ones do not have
            storage.join(stage_folder.stage_dir(run_dir, len(rows)), stage_folder.METRICS_JSON)
        )
        names = ("stage", "alpha", "alpha_note", "teacher_stages", "split", "best_epoch", *_FIGURES)
        rows.append({name: metrics[name] for name in names})
    return add_changes(rows)


def write_summary(run_dir: str) -> None:
    """Writes the rows of `summarize` to `summary.csv` and `summary.json`, if that is not what they hold."""
    rows, path = summarize(run_dir), storage.join(run_dir, SUMMARY_JSON)
    if storage.exists(path) and storage.read_json(path) == rows:
        return
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "teacher_stages": " ".join(map(str, row["teacher_stages"]))} for row in rows)
    with storage.atomic_write(storage.join(run_dir, SUMMARY_CSV)) as file:
        file.write(stream.getvalue())
    storage.write_json(path, rows)


def add_changes(rows: list[dict]) -> list[dict]:
    """Adds `change` and `relative_change` of mAP against stage 0 to each row; None where one of the two is unknown."""
    base = next((row["mAP"] for row in rows if row["stage"] == 0), None)
    for row in rows:
        row["change"] = None if None in (base, row["mAP"]) else row["mAP"] - base
        row["relative_change"] = row["change"] / base if row["change"] is not None and base else None
    return rows


def format_table(rows: Sequence[dict]) -> str:
    """The table for the terminal: stage, alpha, teacher, mAP, mAUC, d', lwlrap, change against stage 0, chance."""
    header = ("stage", "alpha", "teacher", "mAP", "mAUC", "d'", "lwlrap", "change", "chance mAP")
    cells = [
        (
            str(row["stage"]),
            alpha_text(row["alpha"], row["alpha_note"]),
            _join(row["teacher_stages"]),
            *(_figure(row[name]) for name in ("mAP", "mAUC", "d_prime", "lwlrap")),
            "" if row["stage"] == 0 else _change(row),
            _figure(row["chance"]),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in (header, *cells)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def alpha_text(alpha: float, note: str) -> str:
    """Alpha as tables show it: `0.3`, or with a note (`StageConfig.alpha_note`) `0.3 per class`."""
    return f"{alpha:g} {note}".strip()


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _change(row: dict) -> str:
    if row["change"] is None or row["relative_change"] is None:
        return "-"
    return f"{row['change']:+.4f} ({row['relative_change']:+.1%})"


def _list(alphas: Sequence[float]) -> str:
    return ", ".join(f"{alpha:g}" for alpha in alphas)


def _join(stages: Sequence[int]) -> str:
    return "+".join(map(str, stages)) or "-"
