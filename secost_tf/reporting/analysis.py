"""Two stages compared: files and text for `secost_tf.analyze`, a section for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from secost_tf.evaluation import Comparison, compare_stages
from secost_tf.reporting import figures
from secost_tf.reporting.page import Analysis, LabelError, Picture
from secost_tf.reporting.pictures import drawing
from secost_tf.runs import StageFolder
from tfrecord_tools import storage
from tfrecord_tools.text import format_figure, format_table

if TYPE_CHECKING:
    from secost_tf.evaluation import SplitScorer

_LISTED = 10  # label errors of each kind


def run_analysis(scorer: SplitScorer, base: StageFolder, last: StageFolder) -> dict:
    """Return the content of `analysis.json` for two stages of a run.

    The file that lies in the run is taken if it is of these stages and clips; else it is made now.

    Args:
        scorer: of the split on which they are compared.
        base, last: the two stages.
    """
    folder = storage.join(last.run_dir, ANALYSIS)
    path = storage.join(folder, ANALYSIS_JSON)
    if storage.exists(path):
        results = storage.read_json(path)
        asked = {
            "base_run_dir": storage.absolute(base.run_dir),
            "base": base.number,
            "stage": last.number,
            "split": scorer.split.info.split,
            "data_dir": scorer.split.data_dir,
        }
        is_asked = all(results.get(name) == value for name, value in asked.items())
        if is_asked and "label_errors" in results and _is_of(results["mAP"], base, last):
            return results
    comparison = compare_stages(base, last, scorer)
    write_analysis(folder, comparison)
    return comparison.results


def _is_of(mAP: dict, base: StageFolder, last: StageFolder) -> bool:
    """Return True if the stages are still those that were analysed."""
    return all(
        stage.metrics["mAP"] is not None and abs(stage.metrics["mAP"] - mAP[side]) < 1e-6
        for side, stage in (("base", base), ("stage", last))
    )


def page_analysis(run_dir: str, results: dict) -> Analysis:
    """Return the content of `analysis.json`, and the label errors beside it, for the page."""
    difference, calibration = results["mAP"]["difference"], results["calibration"]
    names = (results["base_name"], f"stage {results['stage']}")
    facts = [
        (f"Expected calibration error, {name}", f"{calibration[side]['error']:.4f}")
        for name, side in zip(names, ("base", "stage"), strict=True)
    ]
    if teacher := results.get("teacher"):
        widest = teacher["classes"][0]
        facts += [
            (
                f"Mean difference of {names[1]} from its teacher, training clips",
                f"{teacher['mean_absolute_difference']:.4f}",
            ),
            (
                f"Largest for a class, {widest['class']}",
                f"{widest['mean_absolute_difference']:.4f}",
            ),
        ]
    for kind, told in (
        ("not_heard", "labels that are not heard"),
        ("not_labelled", "sounds without their label"),
    ):
        judged = results["label_errors"][kind]
        if judged["base_rate"] is not None:
            shares = {n: share for n, share in judged["precision"].items() if share is not None}
            count = min(shares, key=lambda n: abs(int(n) - 100), default=None)
            text = f"{judged['base_rate']:.3f} of all"
            text += f", {shares[count]:.3f} of the first {count}" if count else ""
            facts.append((f"Wrong indeed, {told}", text))
    errors = _read_label_errors(storage.join(run_dir, ANALYSIS, LABEL_ERRORS_CSV))
    return Analysis(
        low=difference["low"],
        high=difference["high"],
        confidence=results["level"],
        facts=tuple(facts),
        label_errors=tuple(errors),
        num_label_errors=sum(kind["listed"] for kind in results["label_errors"].values()),
    )


def analysis_pictures(results: dict) -> dict[str, Picture]:
    """Draw the figures of the analysis, by their place in the page."""
    curves = calibration_curves(results)
    told = ", ".join(f"{name} {curve[2]:.4f}" for name, curve in curves.items())
    pictures = {
        "calibration": drawing(
            figures.calibration_figure(curves),
            f"Share of positives against mean score, in bins; expected calibration error: {told}.",
            "How far scores are probabilities, over all clips and classes: on the dotted line they "
            "are. Labels of the split as they are.",
        )
    }
    if ranges := results["ranges"]:
        told = ", ".join(
            f"{gain['mean_gain']:+.3f} for the {gain['classes']} "
            f"from {gain['low']:g} to {gain['high']:g}"
            for gain in ranges
        )
        pictures["ranges"] = drawing(
            _ranges_figure(ranges),
            f"Bars of the mean gain in AP by range of base AP: {told}.",
            "Mean gain of the classes in each range of base AP.",
        )
    return pictures


def _ranges_figure(ranges: Sequence[dict]) -> Figure:
    """Draw the mean gain of the classes in each range of base AP."""
    return figures.ranges_figure(
        [f"{gain['low']:g}–{gain['high']:g}" for gain in ranges],
        [gain["mean_gain"] for gain in ranges],
        [gain["classes"] for gain in ranges],
    )


def _read_label_errors(path: str) -> list[LabelError]:
    """Read the first of each kind."""
    columns = ("kind", "rank", "video_id", "display_name", "score")
    return [
        LabelError(
            row["video_id"], row["display_name"], row["kind"] == "not_heard", float(row["score"])
        )
        for _, row in storage.read_csv(path, columns, exact=True)
        if int(row["rank"]) <= _LISTED
    ]


ANALYSIS = "analysis"

ANALYSIS_JSON = "analysis.json"

LABEL_ERRORS_CSV = "label_errors.csv"

PER_CLASS_CSV = "per_class.csv"

_DPI = 150


# === Files and text ===
def write_analysis(folder: str, comparison: Comparison) -> None:
    """Write `analysis.json`, the tables and the pictures of two stages compared into a folder."""
    from tfrecord_tools import plots  # imports Matplotlib

    results, stages = comparison.results, comparison.stages
    disagreement, errors = comparison.disagreement, comparison.errors

    storage.make_dirs(folder)
    before, after = (side.average_precision for side in stages.per_class)
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
    storage.write_csv(
        storage.join(folder, PER_CLASS_CSV), zip(*columns.values(), strict=True), list(columns)
    )
    if errors:
        rows = [
            (
                kind,
                rank,
                error.clip_id,
                stages.classes[error.class_index],
                f"{error.score:.6f}",
                f"{error.strength:.6f}",
                "" if error.wrong is None else int(error.wrong),
            )
            for kind, labelled in (("not_heard", True), ("not_labelled", False))
            for rank, error in enumerate(errors.ranked(labelled), 1)
        ]
        header = ["kind", "rank", "video_id", "display_name", "score", "strength", "wrong"]
        storage.write_csv(storage.join(folder, LABEL_ERRORS_CSV), rows, header)
    pictures = {"calibration.png": figures.calibration_figure(calibration_curves(results))}
    if results["ranges"]:
        pictures["gain.png"] = _ranges_figure(results["ranges"])
    for name, figure in pictures.items():
        with storage.atomic_write(storage.join(folder, name), "wb") as stream:
            stream.write(plots.to_png(figure, _DPI))
    storage.write_json(storage.join(folder, ANALYSIS_JSON), results)


def calibration_curves(results: dict) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """Return the arguments of `figures.calibration_figure`, of the content of `analysis.json`."""
    return {
        name: (np.array(bins["mean_scores"]), np.array(bins["positive_shares"]), bins["error"])
        for name, bins in (
            (results["base_name"], results["calibration"]["base"]),
            (f"stage {results['stage']}", results["calibration"]["stage"]),
        )
    }


def _cells(values: np.ndarray) -> list[str]:
    return [format_figure(value, ".6f", missing="") for value in values]


def format_analysis(results: dict) -> str:
    """The results for the terminal."""
    mAP, classes, difference = results["mAP"], results["classes"], results["mAP"]["difference"]
    base_error, error = (results["calibration"][name]["error"] for name in ("base", "stage"))
    figures = [
        (
            "mAP",
            f"{mAP['base']:.4f} ({results['base_name']}) -> "
            f"{mAP['stage']:.4f} (stage {results['stage']})",
        ),
        (
            "difference",
            f"{difference['mean']:+.4f}, {results['level']:.0%} interval "
            f"{difference['low']:+.4f} to {difference['high']:+.4f} (bootstrap over clips)",
        ),
        (
            "classes",
            f"{classes['improved']} of {classes['compared']} improved, {classes['worse']} fell",
        ),
        ("calibration", f"expected error {base_error:.4f} -> {error:.4f}"),
    ]
    lines = [
        f"{results['split']}: {results['num_clips']} clips, {results['num_classes']} classes",
        format_table(figures, left=(0, 1)),
    ]
    if results["ranges"]:
        header = ("base AP", "classes", "improved", "mean gain")
        cells = [
            (
                f"{gains['low']:.1f} to {gains['high']:.1f}",
                str(gains["classes"]),
                str(gains["improved"]),
                f"{gains['mean_gain']:+.4f}",
            )
            for gains in results["ranges"]
        ]
        lines += ["", format_table(cells, header)]
    for title, key in (("best", "best"), ("worst", "worst")):
        told = ", ".join(
            f"{row['class']} {row['AP'] - row['base_AP']:+.3f}" for row in results[key][:5]
        )
        lines.append(f"{title}: {told}")
    if results.get("teacher"):
        teacher = results["teacher"]
        told = ", ".join(
            f"{row['class']} {row['mean_difference']:+.3f}" for row in teacher["classes"][:5]
        )
        lines += [
            "",
            f"from its teacher (stage {' + '.join(map(str, teacher['stages']))}) the student "
            f"differs by {teacher['mean_absolute_difference']:.4f} on average over the training "
            f"clips; most, student less teacher: {told}",
        ]
    if results.get("label_errors"):
        lines += ["", "likely label errors among the training labels"]
        for name, told in (
            ("not_heard", "labelled, not heard"),
            ("not_labelled", "heard, not labelled"),
        ):
            judged = results["label_errors"][name]
            text = f"{told}: {judged['listed']} of {judged['labels']} listed"
            if judged["base_rate"] is not None:
                known = {
                    count: share
                    for count, share in judged["precision"].items()
                    if share is not None
                }
                text += f"; {judged['base_rate']:.3f} of all are wrong, of the first " + ", ".join(
                    f"{count} {share:.3f}" for count, share in known.items()
                )
            lines.append(text)
    return "\n".join(lines)
