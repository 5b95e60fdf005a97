"""`python -m secost_tf.analyze --run_dir=R`: what a later stage does better than an earlier one, and likely label errors.

Writes, into RUN_DIR/analysis or `--out`:

    analysis.json       everything that is printed, and more
    per_class.csv       each class: positives, AP of both stages, gain; how far the student is from its teacher
    label_errors.csv    the training labels that the later stage contradicts most, two ranked lists
    gain.png            mean gain in ranges of base AP
    calibration.png     how far scores are probabilities
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from secost_tf import analysis, metrics
from secost_tf.command_settings import ScoringSettings, StageSettings
from secost_tf.intervals import Interval, bootstrap_mAP_difference
from tfrecord_tools import schema, shards, storage
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.datasets import audioset

ANALYSIS = "analysis"
ANALYSIS_JSON = "analysis.json"
LABEL_ERRORS_CSV = "label_errors.csv"
PER_CLASS_CSV = "per_class.csv"
LEVEL = 0.95
_COUNTS = (10, 100, 1000)
_EXTREMES = 10  # best and worst classes
_WIDEST = 100  # pairs of a clip and a class where student and teacher are furthest apart
_DPI = 150


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyzeSettings(StageSettings, ScoringSettings):
    """Which two stages, on what, and how much of it."""

    base: int = setting(0, "The earlier stage, with which --stage is compared.", minimum=0)
    base_run_dir: str | None = setting(
        None,
        "Folder of the run that the earlier stage is of, such as a control. Default: --run_dir.",
    )
    split: str = setting("eval", "The split on which the stages are compared.")
    clean_labels_csv: str | None = setting(
        None,
        "True labels of the training clips, as AudioSet's segment lists have them, against which the "
        "label errors found are judged. Default: the classes of the clips' events, where the "
        "training split has events.",
    )
    label_errors: int = setting(
        1000,
        "Label errors of each of the two kinds to list: labels that are not heard, and sounds "
        "without their label. 0: none, and the training split is not read.",
        minimum=0,
    )
    resamples: int = setting(1000, "Resamples of the bootstrap over clips, for the interval.", minimum=1)
    out: str | None = setting(None, "Folder for the results. Default: analysis in --run_dir.")


SETTINGS = (AnalyzeSettings,)


@dataclasses.dataclass(frozen=True)
class Stages:
    """The two stages, the splits they are compared on, and the figures of both."""

    names: tuple[str, str]
    classes: tuple[str, ...]
    video_ids: list[str]
    labels: np.ndarray  # [clips, classes]
    scores: tuple[np.ndarray, np.ndarray]  # float64 [clips, classes], base and later
    per_class: tuple[metrics.PerClass, metrics.PerClass]


def analyze_run(
    run_dir: str,
    base: int = 0,
    stage: int | None = None,
    *,
    base_run_dir: str | None = None,
    data_dir: str | None = None,
    split: str = "eval",
    clean_labels_csv: str | None = None,
    label_errors: int = 1000,
    resamples: int = 1000,
    out: str | None = None,
    batch_size: int = 32,
) -> dict:
    """Compares two stages, writes the results and returns the content of `analysis.json`.

    Args:
        run_dir: the run of the later stage.
        base, stage: their numbers; by default 0 and the last that is done.
        base_run_dir: the run of the earlier stage, by default the same.
        data_dir: the converted splits, by default those that the later stage was trained with.
        split: what they are compared on.
        clean_labels_csv: true labels of the training clips; by default their events', if there are any.
        label_errors: how many of each kind to list; 0 leaves them out.
        resamples: of the bootstrap.
        out: folder for the results, by default `analysis` in the run.
        batch_size: clips scored at once.

    Raises:
        ValueError: if a stage is not done, the two are one, or classes, log-mels or clips differ; names both sides.
    """
    from secost_tf import cascade, stage_folder  # import TensorFlow
    from secost_tf.scoring import Scorer, sigmoid
    from secost_tf.splits import Split

    base_run_dir = base_run_dir or run_dir
    if stage is None:
        done = cascade.summarize(run_dir)
        if not done:
            raise ValueError(
                f"{run_dir}: no stage is done there; train one with python -m secost_tf.train --run_dir={run_dir}"
            )
        stage = done[-1]["stage"]
    sides = ((base_run_dir, base), (run_dir, stage))
    if sides[0] == sides[1]:
        raise ValueError(
            f"base, stage: expected two stages, got stage {stage} of {run_dir} twice; "
            + ("train a later one first" if not stage else "choose another --base")
        )
    students, records = [], []
    for where, number in sides:
        students.append(stage_folder.load_student(where, number))
        records.append(stage_folder.StageRecord.read(where, number))
    record = records[1]
    folder = data_dir or record.data_dir
    info = shards.read_dataset_info(folder, split)
    for (where, _), one in zip(sides, records, strict=True):
        one.check_data(where, info, folder)
    names = tuple(
        f"stage {number}" if where == run_dir else f"{where}, stage {number}" for where, number in sides
    )
    scored = [Scorer(student, batch_size).split(Split(folder, info)) for student in students]
    video_ids, labels, _ = scored[0]
    logits = [one[2] for one in scored]
    stages = Stages(
        names=names,
        classes=record.class_map.display_names,
        video_ids=video_ids,
        labels=labels,
        scores=tuple(map(sigmoid, logits)),
        per_class=tuple(metrics.evaluate_classes(labels, one) for one in logits),
    )
    interval = bootstrap_mAP_difference(labels, *logits, resamples=resamples, level=LEVEL)
    results = {
        "run_dir": storage.absolute(run_dir),
        "base_run_dir": storage.absolute(base_run_dir),
        "base": base,
        "stage": stage,
        "base_name": names[0],
        "data_dir": folder,
        "split": split,
        "num_clips": len(labels),
        "num_classes": len(stages.classes),
        "level": LEVEL,
        "resamples": resamples,
        **_compare(stages, interval),
    }
    disagreement, errors = None, None
    if label_errors:
        train = Split(folder, shards.read_dataset_info(folder, "train"))
        record.check_data(run_dir, train.info, folder)
        disagreement, errors = _read_training_clips(
            train, run_dir, stage, record.config.teacher_stages, label_errors, clean_labels_csv
        )
        results["label_errors"] = _judge(errors)
        results["teacher"] = disagreement and _teacher(
            disagreement, record.config.teacher_stages, stages.classes
        )
    _write(out or storage.join(run_dir, ANALYSIS), results, stages, disagreement, errors)
    return results


def _compare(stages: Stages, interval: Interval) -> dict:
    """What the two stages' scores on the split say."""
    before, after = (one.average_precision for one in stages.per_class)
    gains = after - before
    order = [int(c) for c in np.argsort(-gains) if np.isfinite(gains[c])]
    found = gains[np.isfinite(gains)].round(9)  # what is equal stays so

    def described(classes: Sequence[int]) -> list[dict]:
        return [
            {"class": stages.classes[c], "base_AP": float(before[c]), "AP": float(after[c])} for c in classes
        ]

    return {
        "mAP": {
            "base": float(np.nanmean(before)),
            "stage": float(np.nanmean(after)),
            "difference": dataclasses.asdict(interval),
        },
        "classes": {
            "compared": len(found),
            "improved": int((found > 0).sum()),
            "worse": int((found < 0).sum()),
        },
        "best": described(order[:_EXTREMES]),
        "worst": described(order[::-1][:_EXTREMES]),
        "ranges": [dataclasses.asdict(one) for one in analysis.gain_by_range(before, gains)],
        "calibration": {
            side: dataclasses.asdict(analysis.calibration(stages.labels, scores))
            for side, scores in zip(("base", "stage"), stages.scores, strict=True)
        },
    }


# === The training clips: labels, scores, and what is wrong ===


def _read_training_clips(
    split, run_dir: str, stage: int, teachers: Sequence[int], most: int, clean_labels_csv: str | None
) -> tuple[analysis.Disagreement | None, analysis.LabelErrors]:
    """Reads the training clips shard by shard, with the scores that the stage and its teacher gave them."""
    from secost_tf import stage_folder
    from secost_tf.splits import check_teacher_scores

    info = split.info
    folders = [
        storage.join(stage_folder.stage_dir(run_dir, number), stage_folder.TEACHER_SCORES)
        for number in (stage, *teachers)
    ]
    for folder in folders:
        check_teacher_scores(split, folder)
    listed = audioset.read_labels(clean_labels_csv, info.class_map) if clean_labels_csv else None
    errors = analysis.LabelErrors(most, len(info.class_map))
    disagreement = analysis.Disagreement(len(info.class_map), _WIDEST) if teachers else None
    clean_is_known = listed is not None or _has_events(split)
    for shard, path in zip(
        tqdm(info.shards, desc="training clips", unit="shard", disable=None),
        info.shard_paths(split.data_dir),
        strict=True,
    ):
        student, *taught = (_read_scores(storage.join(folder, shard.file)) for folder in folders)
        ids, labels, clean = _read_labels(path, info, listed)
        errors.add(ids, labels, student, clean if clean_is_known else None)
        if disagreement:
            disagreement.add(ids, student, np.mean(taught, axis=0))
    return disagreement, errors


def _clips(path: str, info: shards.DatasetInfo) -> Iterator[schema.ClipRecord]:
    for record in shards.read_records(path, info.compression):
        yield schema.decode(record, info.feature_dtype, info.log_mel.mel_bins)


def _has_events(split) -> bool:
    """Whether clips of the first shard have events."""
    first = split.info.shard_paths(split.data_dir)[0]
    return any(clip.events for clip in _clips(first, split.info))


def _read_scores(path: str) -> np.ndarray:
    """float [clips, classes]."""
    return np.array([schema.decode_teacher_scores(record)[1] for record in shards.read_records(path)])


def _read_labels(
    path: str, info: shards.DatasetInfo, listed: dict[str, tuple[int, ...]] | None
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids, labels and true labels, bool [clips, classes], of a shard."""
    ids, rows = [], []
    for clip in _clips(path, info):
        ids.append(clip.video_id)
        if listed is not None and clip.video_id not in listed:
            raise ValueError(
                f"clean_labels_csv: expected the labels of every training clip, got none of {clip.video_id}"
            )
        true = {event[0] for event in clip.events} if listed is None else listed[clip.video_id]
        rows.append((clip.labels, true))
    table = np.zeros((2, len(rows), len(info.class_map)), bool)
    for place, sides in enumerate(rows):
        for side, classes in enumerate(sides):
            table[side, place, list(classes)] = True
    return ids, table[0], table[1]


def _judge(errors: analysis.LabelErrors) -> dict:
    """What was listed, and how much of it is wrong indeed, where that is known; by kind."""
    return {
        name: {
            "labels": errors.labels[labelled],
            "listed": len(errors.ranked(labelled)),
            "base_rate": errors.base_rate(labelled),
            "precision": {str(count): errors.precision_at(labelled, count) for count in _COUNTS},
        }
        for name, labelled in (("not_heard", True), ("not_labelled", False))
    }


def _teacher(found: analysis.Disagreement, teachers: Sequence[int], classes: Sequence[str]) -> dict:
    order = np.argsort(-found.mean_absolute)[:_EXTREMES]
    return {
        "stages": list(teachers),
        "clips": found.clips,
        "mean_absolute_difference": float(found.mean_absolute.mean()),
        "classes": [
            {
                "class": classes[c],
                "mean_absolute_difference": float(found.mean_absolute[c]),
                "mean_difference": float(found.mean[c]),
            }
            for c in order
        ],
        "widest": [
            {"clip": clip, "class": classes[c], "student": student, "teacher": teacher}
            for clip, c, student, teacher in found.pairs
        ],
    }


# === Files and text ===


def _write(
    folder: str,
    results: dict,
    stages: Stages,
    disagreement: analysis.Disagreement | None,
    errors: analysis.LabelErrors | None,
) -> None:
    from secost_tf import figures  # imports Matplotlib

    storage.make_dirs(folder)
    before, after = (one.average_precision for one in stages.per_class)
    columns = {
        "display_name": stages.classes,
        "positives": stages.per_class[0].positives.astype(int).tolist(),
        "base_AP": _cells(before),
        "AP": _cells(after),
        "gain": _cells(after - before),
    }
    if disagreement:
        columns["teacher_difference"] = _cells(disagreement.mean)
        columns["teacher_absolute_difference"] = _cells(disagreement.mean_absolute)
    _write_csv(storage.join(folder, PER_CLASS_CSV), list(columns), zip(*columns.values(), strict=True))
    if errors:
        rows = [
            (
                kind,
                rank,
                one.clip_id,
                stages.classes[one.class_index],
                f"{one.score:.6f}",
                f"{one.strength:.6f}",
                "" if one.wrong is None else int(one.wrong),
            )
            for kind, labelled in (("not_heard", True), ("not_labelled", False))
            for rank, one in enumerate(errors.ranked(labelled), 1)
        ]
        header = ["kind", "rank", "video_id", "display_name", "score", "strength", "wrong"]
        _write_csv(storage.join(folder, LABEL_ERRORS_CSV), header, rows)
    pictures = {"calibration.png": figures.calibration_figure(calibration_curves(results))}
    if results["ranges"]:
        pictures["gain.png"] = figures.ranges_figure(
            [f"{one['low']:g}–{one['high']:g}" for one in results["ranges"]],
            [one["mean_gain"] for one in results["ranges"]],
            [one["classes"] for one in results["ranges"]],
        )
    for name, figure in pictures.items():
        with storage.atomic_write(storage.join(folder, name), "wb") as stream:
            stream.write(figures.to_png(figure, _DPI))
    storage.write_json(storage.join(folder, ANALYSIS_JSON), _plain(results))


def calibration_curves(results: dict) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """What `figures.calibration_figure` draws, from the content of `analysis.json`."""
    return {
        name: (np.array(one["mean_scores"]), np.array(one["positive_shares"]), one["error"])
        for name, one in (
            (results["base_name"], results["calibration"]["base"]),
            (f"stage {results['stage']}", results["calibration"]["stage"]),
        )
    }


def _plain(value):
    """A value as JSON can hold it: what is not finite becomes null."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cells(values: np.ndarray) -> list[str]:
    return [f"{value:.6f}" if np.isfinite(value) else "" for value in values]


def _write_csv(path: str, header: Sequence[str], rows) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with storage.atomic_write(path) as file:
        file.write(stream.getvalue())


def format_analysis(results: dict) -> str:
    """The results for the terminal."""
    mAP, classes, difference = results["mAP"], results["classes"], results["mAP"]["difference"]
    lines = [
        f"{results['split']}: {results['num_clips']} clips, {results['num_classes']} classes",
        f"mAP            {mAP['base']:.4f} ({results['base_name']}) -> {mAP['stage']:.4f} (stage {results['stage']})",
        f"difference     {difference['mean']:+.4f}, {results['level']:.0%} interval {difference['low']:+.4f} to "
        f"{difference['high']:+.4f} (bootstrap over clips)",
        f"classes        {classes['improved']} of {classes['compared']} improved, {classes['worse']} fell",
        "calibration    expected error "
        f"{results['calibration']['base']['error']:.4f} -> {results['calibration']['stage']['error']:.4f}",
        "",
        "base AP      classes  improved  mean gain",
    ]
    lines += [
        f"{one['low']:.1f} to {one['high']:.1f}  {one['classes']:9d} {one['improved']:9d} {one['mean_gain']:+10.4f}"
        for one in results["ranges"]
    ]
    for title, key in (("best", "best"), ("worst", "worst")):
        told = ", ".join(f"{one['class']} {one['AP'] - one['base_AP']:+.3f}" for one in results[key][:5])
        lines.append(f"{title}: {told}")
    if results.get("teacher"):
        found = results["teacher"]
        told = ", ".join(f"{one['class']} {one['mean_difference']:+.3f}" for one in found["classes"][:5])
        lines += [
            "",
            f"from its teacher (stage {' + '.join(map(str, found['stages']))}) the student differs by "
            f"{found['mean_absolute_difference']:.4f} on average over the training clips; most, student less teacher: {told}",
        ]
    if results.get("label_errors"):
        lines += ["", "likely label errors among the training labels"]
        for name, told in (("not_heard", "labelled, not heard"), ("not_labelled", "heard, not labelled")):
            found = results["label_errors"][name]
            text = f"{told}: {found['listed']} of {found['labels']} listed"
            if found["base_rate"] is not None:
                known = {count: share for count, share in found["precision"].items() if share is not None}
                text += f"; {found['base_rate']:.3f} of all are wrong, of the first " + ", ".join(
                    f"{count} {share:.3f}" for count, share in known.items()
                )
            lines.append(text)
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Read the flags, compare the stages, and print what came out and where it is."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings = read_flags(AnalyzeSettings)
    results = analyze_run(**settings.to_dict())
    print(format_analysis(results))
    out = settings.out or storage.join(settings.run_dir, ANALYSIS)
    print(f"\n{out} holds the tables and pictures")


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
