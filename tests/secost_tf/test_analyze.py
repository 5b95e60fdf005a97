import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from secost_tf import analyze
from secost_tf.evaluation import SplitScorer, compare_stages
from secost_tf.reporting import write_analysis
from secost_tf.runs import StageFolder, find_stage
from tfrecord_tools.datasets.clips import ClassMap

FILES = {"analysis.json", "per_class.csv", "label_errors.csv", "gain.png", "calibration.png"}


@pytest.fixture
def copied_run(kept_run, tmp_path) -> Path:
    return Path(shutil.copytree(kept_run, tmp_path / "run"))


def analyze_run(
    run_dir: str, base=0, number=None, out=None, base_run_dir=None, data_dir=None, **options
) -> dict:
    later = find_stage(run_dir, number)
    scorer = SplitScorer.open(data_dir or later.record.data_dir)
    comparison = compare_stages(
        StageFolder(base_run_dir or run_dir, base), later, scorer, **options
    )
    write_analysis(out or f"{run_dir}/analysis", comparison)
    return comparison.results


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_stages_are_compared_and_all_is_written(copied_run, command, files_of):
    before = files_of(copied_run)
    status, printed, stderr = command(analyze, f"--run_dir={copied_run}", "--resamples=50")
    assert status == 0, stderr
    folder = copied_run / "analysis"
    assert {path.name for path in folder.iterdir()} == FILES
    after = files_of(copied_run)
    assert {name: after[name] for name in before} == before
    results = json.loads((folder / "analysis.json").read_text())
    summary = json.loads((copied_run / "summary.json").read_text())
    assert (results["base"], results["stage"], results["num_clips"]) == (0, 2, 12)
    mAP = results["mAP"]
    assert (mAP["base"], mAP["stage"]) == pytest.approx(
        (summary[0]["mAP"], summary[2]["mAP"]), abs=1e-9
    )
    assert mAP["difference"]["mean"] == pytest.approx(summary[2]["change"], abs=1e-9)
    assert mAP["difference"]["low"] <= mAP["difference"]["mean"] <= mAP["difference"]["high"]
    classes = results["classes"]
    assert classes["compared"] == sum(one["classes"] for one in results["ranges"]) == 4
    assert f"{classes['improved']} of 4 improved" in printed
    assert f"{mAP['base']:.4f} (stage 0) -> {mAP['stage']:.4f} (stage 2)" in printed
    per_class = rows_of(folder / "per_class.csv")
    kept = rows_of(copied_run / "stage-2" / "per_class.csv")
    assert [row["AP"] for row in per_class] == [row["AP"] for row in kept]
    assert sum(float(row["gain"]) > 0 for row in per_class) == classes["improved"]
    assert results["teacher"]["stages"] == [1] and results["teacher"]["clips"] == 30


def test_label_errors_are_listed_with_the_scores_that_the_stage_keeps(
    copied_run, kept_data, read_clips
):
    results = analyze_run(str(copied_run), resamples=10, label_errors=7)
    clips = {clip.video_id: clip.labels for clip in read_clips(kept_data, "train")}
    rows = rows_of(copied_run / "analysis" / "label_errors.csv")
    names = ("Bark", "Bell", "Rain", "Siren")
    for kind, labelled in (("not_heard", True), ("not_labelled", False)):
        listed = [row for row in rows if row["kind"] == kind]
        assert [row["rank"] for row in listed] == [str(rank) for rank in range(1, 8)]
        strengths = [float(row["strength"]) for row in listed]
        assert strengths == sorted(strengths, reverse=True) and {
            row["wrong"] for row in listed
        } == {""}
        for row in listed:
            assert (names.index(row["display_name"]) in clips[row["video_id"]]) == labelled
        assert results["label_errors"][kind]["base_rate"] is None
    total = sum(map(len, clips.values()))
    assert results["label_errors"]["not_heard"]["labels"] == total
    assert results["label_errors"]["not_labelled"]["labels"] == 30 * 4 - total


def test_clean_labels_come_from_events_or_from_a_list(
    copied_run, tmp_path, write_split, kept_data, read_clips, command
):
    """Every third clip's last label is wrong: the events lack it."""

    def true_classes(index, clip):
        return clip.labels[:-1] if index % 3 == 0 else clip.labels

    def with_events(clips):
        return [
            dataclasses.replace(
                clip, events=tuple((c, 0.0, 0.2) for c in true_classes(index, clip))
            )
            for index, clip in enumerate(clips)
        ]

    write_split(tmp_path / "data", "train", (11, 9, 10), change=with_events)
    write_split(tmp_path / "data", "eval", (7, 5))
    results = analyze_run(
        str(copied_run), data_dir=str(tmp_path / "data"), resamples=10, label_errors=100
    )
    clips = read_clips(kept_data, "train")
    wrong = sum(len(clip.labels) - len(true_classes(i, clip)) for i, clip in enumerate(clips))
    found = results["label_errors"]["not_heard"]
    assert found["base_rate"] == pytest.approx(wrong / sum(len(clip.labels) for clip in clips))
    assert results["label_errors"]["not_labelled"]["base_rate"] == 0
    assert found["precision"]["10"] is not None and found["precision"]["1000"] is None
    rows = rows_of(copied_run / "analysis" / "label_errors.csv")
    assert sum(row["wrong"] == "1" for row in rows) == wrong

    mids = ("/m/a", "/m/b", "/m/c", "/m/d")
    listed = [
        f'{clip.video_id}, 0.0, 10.0, "{",".join(mids[c] for c in true_classes(i, clip))}"'
        for i, clip in enumerate(clips)
    ]
    path = tmp_path / "clean.csv"
    path.write_text("\n".join(listed) + "\n")
    again = analyze_run(str(copied_run), clean_labels_csv=str(path), resamples=10, label_errors=100)
    assert again["label_errors"] == results["label_errors"]

    path.write_text("\n".join(listed[1:]) + "\n")
    status, _, said = command(analyze, f"--run_dir={copied_run}", f"--clean_labels_csv={path}")
    assert status == 1
    assert (
        "clean_labels_csv: expected the labels of every training clip, got none of train-clip-000"
        in said
    )


def test_without_label_errors_the_training_split_is_not_needed(copied_run, tmp_path, write_split):
    write_split(tmp_path / "data", "eval", (7, 5))
    results = analyze_run(
        str(copied_run),
        data_dir=str(tmp_path / "data"),
        resamples=10,
        label_errors=0,
        out=str(tmp_path / "out"),
    )
    assert "label_errors" not in results and "teacher" not in results
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"label_errors.csv"}


def test_two_runs_can_be_compared(copied_run, kept_run):
    results = analyze_run(
        str(copied_run), 1, 1, base_run_dir=kept_run, resamples=10, label_errors=0
    )
    assert results["base_name"] == f"{kept_run}, stage 1"
    assert results["mAP"]["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert results["classes"] == {"compared": 4, "improved": 0, "worse": 0}


def test_wrong_use_is_said(copied_run, kept_data, tmp_path, write_split, command):
    other = ClassMap(("/m/x", "/m/b", "/m/c", "/m/d"), ("Sea", "Bell", "Rain", "Siren"))
    foreign = Path(shutil.copytree(copied_run, tmp_path / "foreign"))
    config = foreign / "stage-0" / "config.json"
    values = json.loads(config.read_text())
    values["class_map"] = {"mids": other.mids, "display_names": other.display_names}
    config.write_text(json.dumps(values))
    for arguments, message in (
        ([f"--run_dir={tmp_path / 'none'}"], "no stage is done there; train one with"),
        (
            [f"--run_dir={copied_run}", "--stage=7"],
            "stage-7: this stage is not done; train it with --stage=7",
        ),
        (
            [f"--run_dir={copied_run}", "--base=5"],
            "stage-5: this stage is not done; train it with --stage=5",
        ),
        (
            [f"--run_dir={copied_run}", "--stage=0"],
            "expected two stages, got stage 0 of .* twice; train a later",
        ),
        (
            [f"--run_dir={copied_run}", "--base=2"],
            "expected two stages, got stage 2 of .* twice; choose another",
        ),
        (
            [f"--run_dir={copied_run}", f"--base_run_dir={foreign}"],
            "foreign/stage-0 was made with other classes than .*: .*/m/x; only in",
        ),
        ([f"--run_dir={copied_run}", "--split=test"], "no converted split 'test'"),
        ([f"--run_dir={copied_run}", "--resamples=0"], "resamples"),
    ):
        status, _, said = command(analyze, *arguments)
        assert status == 1, arguments
        assert re.search(message, said), (arguments, said)
    assert not (copied_run / "analysis").exists()


def test_scores_of_other_clips_are_an_error(copied_run, rewrite_shard, command):
    first = next((copied_run / "stage-2" / "teacher_scores").iterdir())
    rewrite_shard(first, lambda records: records[:-1])
    status, _, said = command(analyze, f"--run_dir={copied_run}")
    assert status == 1 and "no scores for clips" in said
    assert not (copied_run / "analysis").exists()
