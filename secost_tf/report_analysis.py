"""What the analysis of a run (`secost_tf.analyze`) adds to its report."""

from __future__ import annotations

import csv
import io

from secost_tf import analyze, figures
from secost_tf.report_page import Analysis, LabelError, Picture, StageFigures
from secost_tf.report_pictures import drawing
from tfrecord_tools import storage

_LISTED = 10  # label errors of each kind


def run_analysis(
    run_dir: str, stages: tuple[StageFigures, StageFigures], data_dir: str, split: str, batch_size: int
) -> dict:
    """The content of `analysis.json`: as it lies in the run, if it is of these stages and clips, or made now."""
    base, stage = (one.stage for one in stages)
    folder = storage.join(run_dir, analyze.ANALYSIS)
    path = storage.join(folder, analyze.ANALYSIS_JSON)
    if storage.exists(path):
        results = storage.read_json(path)
        asked = {"base": base, "stage": stage, "split": split, "data_dir": data_dir}
        asked["base_run_dir"] = storage.absolute(run_dir)
        is_asked = all(results.get(name) == value for name, value in asked.items())
        if is_asked and "label_errors" in results and _is_of(results["mAP"], stages):
            return results
    return analyze.analyze_run(run_dir, base, stage, data_dir=data_dir, split=split, batch_size=batch_size)


def _is_of(mAP: dict, stages: tuple[StageFigures, StageFigures]) -> bool:
    """Whether the stages are still those that were analysed."""
    return all(
        one.mAP is not None and abs(one.mAP - mAP[side]) < 1e-6
        for one, side in zip(stages, ("base", "stage"), strict=True)
    )


def page_analysis(run_dir: str, results: dict) -> Analysis:
    """The words and tables of the page."""
    difference, calibration = results["mAP"]["difference"], results["calibration"]
    names = (results["base_name"], f"stage {results['stage']}")
    facts = [
        (f"Expected calibration error, {name}", f"{calibration[side]['error']:.4f}")
        for name, side in zip(names, ("base", "stage"), strict=True)
    ]
    if found := results.get("teacher"):
        widest = found["classes"][0]
        facts += [
            (
                f"Mean difference of {names[1]} from its teacher, training clips",
                f"{found['mean_absolute_difference']:.4f}",
            ),
            (f"Largest for a class, {widest['class']}", f"{widest['mean_absolute_difference']:.4f}"),
        ]
    for kind, told in (
        ("not_heard", "labels that are not heard"),
        ("not_labelled", "sounds without their label"),
    ):
        found = results["label_errors"][kind]
        if found["base_rate"] is not None:
            shares = {count: share for count, share in found["precision"].items() if share is not None}
            count = min(shares, key=lambda n: abs(int(n) - 100), default=None)
            text = f"{found['base_rate']:.3f} of all"
            text += f", {shares[count]:.3f} of the first {count}" if count else ""
            facts.append((f"Wrong indeed, {told}", text))
    errors = _read_label_errors(storage.join(run_dir, analyze.ANALYSIS, analyze.LABEL_ERRORS_CSV))
    return Analysis(
        low=difference["low"],
        high=difference["high"],
        confidence=results["level"],
        facts=tuple(facts),
        label_errors=tuple(errors),
        num_label_errors=sum(found["listed"] for found in results["label_errors"].values()),
    )


def analysis_pictures(results: dict) -> dict[str, Picture]:
    """The figures of the analysis by their place in the page."""
    curves = analyze.calibration_curves(results)
    told = ", ".join(f"{name} {curve[2]:.4f}" for name, curve in curves.items())
    pictures = {
        "calibration": drawing(
            figures.calibration_figure(curves),
            f"Share of positives against mean score, in bins; expected calibration error: {told}.",
            "How far scores are probabilities, over all clips and classes: on the dotted line they are. Labels of the split "
            "as they are.",
        )
    }
    if ranges := results["ranges"]:
        told = ", ".join(
            f"{one['mean_gain']:+.3f} for the {one['classes']} from {one['low']:g} to {one['high']:g}"
            for one in ranges
        )
        pictures["ranges"] = drawing(
            figures.ranges_figure(
                [f"{one['low']:g}–{one['high']:g}" for one in ranges],
                [one["mean_gain"] for one in ranges],
                [one["classes"] for one in ranges],
            ),
            f"Bars of the mean gain in AP by range of base AP: {told}.",
            "Mean gain of the classes in each range of base AP.",
        )
    return pictures


def _read_label_errors(path: str) -> list[LabelError]:
    """The first of each kind."""
    with storage.open_file(path) as stream:
        rows = list(csv.DictReader(io.StringIO(stream.read(), newline="")))
    return [
        LabelError(row["video_id"], row["display_name"], row["kind"] == "not_heard", float(row["score"]))
        for row in rows
        if int(row["rank"]) <= _LISTED
    ]
