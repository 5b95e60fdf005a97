"""Read a run's folder into the plain data of the report's page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from secost_tf.data import Split, evaluation_split
from secost_tf.reporting.experiments import RESULTS_JSON
from secost_tf.reporting.page import ClassFigures, EventFigures, StageFigures
from secost_tf.runs import StageFolder, done_stages, find_stage, summarize
from tfrecord_tools import shards, storage
from tfrecord_tools.text import format_duration


@dataclasses.dataclass(frozen=True)
class Run:
    """The stages of a run that are done, from stage 0 on.

    Attributes:
        folders: the stages.
        split, num_clips, chance: the clips on which the last one was evaluated, and the mAP of
            random scores there.
        stages, classes: figures for the page.
        histories: rows of `history.csv` by `stage N`, of those stages that have one.
        events: of the stages whose events were evaluated, and the last one's baselines.
    """

    folders: tuple[StageFolder, ...]
    split: str
    num_clips: int
    chance: float | None
    stages: tuple[StageFigures, ...]
    classes: tuple[ClassFigures, ...]
    histories: Mapping[str, list[dict[str, float]]]
    events: tuple[EventFigures, ...] = ()


def read_run(run_dir: str) -> Run:
    """Read the stages of a run that are done.

    Raises:
        ValueError: if none is, or a file is not what it should be.
    """
    find_stage(run_dir)  # says so if there is none
    folders = done_stages(run_dir)
    last = folders[-1].metrics
    return Run(
        folders=tuple(folders),
        split=last["split"],
        num_clips=last["num_clips"],
        chance=last["chance"],
        stages=tuple(map(_stage_figures, summarize(folders), folders)),
        classes=_class_figures(folders),
        histories={
            f"stage {folder.number}": folder.history for folder in folders if folder.history
        },
        events=_event_figures([folder.metrics for folder in folders]),
    )


def _event_figures(metrics: Sequence[Mapping]) -> tuple[EventFigures, ...]:
    measured = {f"Stage {m['stage']}": m["events"] for m in metrics if "events" in m}
    if measured:
        baselines = list(measured.values())[-1]["baselines"]
        measured |= {name.replace("_", " ").capitalize(): baselines[name] for name in baselines}
    measures = [field.name for field in dataclasses.fields(EventFigures)[1:]]
    return tuple(
        EventFigures(name, *(values[measure] for measure in measures))
        for name, values in measured.items()
    )


def _stage_figures(row: Mapping, folder: StageFolder) -> StageFigures:
    metrics = folder.metrics
    fields = {field.name for field in dataclasses.fields(StageFigures)}
    return StageFigures(
        **{name: value for name, value in row.items() if name in fields},
        teacher=" + ".join(map(str, row["teacher_stages"])) or "–",
        epochs=metrics["epochs"],
        time=format_duration(metrics["training_seconds"] + metrics["scoring_seconds"]),
    )


def _class_figures(folders: Sequence[StageFolder]) -> tuple[ClassFigures, ...]:
    tables = [folder.per_class for folder in folders]
    try:
        return tuple(
            ClassFigures(
                name=lines[-1]["display_name"],
                positives=int(lines[-1]["positives"]),
                average_precision=tuple(
                    float(line["AP"]) if line["AP"] else None for line in lines
                ),
            )
            for lines in zip(*tables, strict=True)
        )
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{folders[0].path} to {folders[-1].path}: per_class.csv are not tables of the same "
            f"classes "
            f"({error}); "
            f"python -m secost_tf.evaluate writes them anew, as per_class-SPLIT.csv"
        ) from error


def open_split(run: Run, data_dir: str | None, notes: list[str]) -> Split | None:
    """Return the clips that the run's stages were evaluated on; note it if they are gone.

    Args:
        run: the run.
        data_dir: the converted splits; None: those that the last stage was trained with.
        notes: gets a sentence if those are gone.

    Raises:
        ValueError: if there are no such splits, or they have other classes or another log-mel than
            the run.
    """
    last = run.folders[-1]
    record = last.record
    if data_dir is None and not storage.is_dir(record.data_dir):
        notes.append(
            f"The data are no longer in {record.data_dir}, so that there are no examples; name "
            f"their "
            f"folder with --data_dir."
        )
        return None
    folder = data_dir or record.data_dir
    split = (
        Split(folder, shards.read_dataset_info(folder, run.split))
        if shards.has_split(folder, run.split)
        else evaluation_split(folder, record.config.train)
    )
    last.check_data(split.info, folder)
    return split


def read_experiments(experiment_dirs: Sequence[str], notes: list[str]) -> list[dict]:
    """Return the results of experiments (`secost_tf.experiment`): name, sweep_alphas, rows.

    Args:
        experiment_dirs: their folders.
        notes: gets a sentence for each that has no results.

    Raises:
        ValueError: if a file is not what it should be.
    """
    experiments = []
    for folder in experiment_dirs:
        path = storage.join(folder, RESULTS_JSON)
        if not storage.exists(path):
            notes.append(f"There are no results of an experiment in {folder} (yet).")
            continue
        results = storage.read_json(path)
        try:
            for row in results["rows"]:
                row["stage"], row["alpha"], row["mAP"]["mean"], row["mAP_per_seed"][0]
            results["name"], results["sweep_alphas"], results["rows"][0]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"{path}: not the results of an experiment ({error!r}); "
                "python -m secost_tf.experiment writes them anew"
            ) from error
        experiments.append(results)
    return experiments


# === Settings ===
def settings(run: Run) -> dict[str, list[tuple[str, str]]]:
    """Return (name, value) pairs by group: network, training, data, log-mel, versions.

    Values name the stages where they differ.
    """
    records = [folder.record for folder in run.folders]
    data_dir = records[-1].data_dir
    return {
        "Network": _merge(run, [record.config.network.to_dict() for record in records]),
        "Training": _merge(run, [record.config.train.to_dict() for record in records]),
        "Data": [("data_dir", data_dir), *_splits(data_dir)],
        "Log-mel": _merge(run, [record.log_mel.to_dict() for record in records]),
        "Versions": _merge(run, [folder.versions for folder in run.folders]),
    }


def _merge(run: Run, values: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    merged = []
    for name in values[-1]:
        texts = [_text(of_stage.get(name)) for of_stage in values]
        if len(set(texts)) > 1:
            texts = [
                f"{text} (stage {row.stage})" for text, row in zip(texts, run.stages, strict=True)
            ]
        merged.append((name, ", ".join(dict.fromkeys(texts))))
    return merged


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)


def _splits(data_dir: str) -> list[tuple[str, str]]:
    """Describe each split; return nothing if the data are no longer there."""
    described = []
    for split in shards.list_splits(data_dir):
        try:
            info = shards.read_dataset_info(data_dir, split, check_shards=False)
        except ValueError as error:
            described.append((split, str(error)))
            continue
        text = (
            f"{info.num_clips:,} clips of {len(info.class_map)} classes, "
            f"{info.seconds / 3600:.2f} h, from {info.dataset}, {info.feature_dtype}"
        )
        if lost := sum(info.failures.values()):
            text += f"; {lost:,} clips could not be converted"
        described.append((split, text))
    return described
