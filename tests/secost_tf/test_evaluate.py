import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from secost_tf import evaluate
from secost_tf.evaluation.run import evaluate_run
from secost_tf.training import stage as stages
from tfrecord_tools.datasets.clips import ClassMap
from tfrecord_tools.shards import info as shards

MEASURES = ("mAP", "mAUC", "d_prime", "lwlrap", "chance", "num_clips", "classes_without_positives")


@pytest.fixture
def copied_run(kept_run, tmp_path) -> Path:
    return Path(shutil.copytree(kept_run, tmp_path / "run"))


def figures_of(run_dir: Path, stage: int, file: str = "metrics.json") -> dict:
    return json.loads(Path(run_dir, f"stage-{stage}", file).read_text())


def assert_same_measures(figures: dict, expected: dict) -> None:
    for name in MEASURES:
        assert figures[name] == pytest.approx(expected[name], abs=1e-9), name


def test_the_run_s_own_figures_come_out_again(copied_run, kept_data, command):
    status, printed, stderr = command(evaluate, f"--run_dir={copied_run}", "--batch_size=5")
    assert status == 0, stderr
    summary = json.loads((copied_run / "summary.json").read_text())
    for number in range(3):
        figures = figures_of(copied_run, number, "metrics-eval.json")
        assert_same_measures(figures, figures_of(copied_run, number))
        assert (figures["split"], figures["data_dir"]) == ("eval", kept_data)
        line = printed.splitlines()[2 + number].split()
        assert line[0] == str(number) and line[3] == f"{summary[number]['mAP']:.4f}"
        assert not number or line[7] == f"{summary[number]['change']:+.4f}"
        folder = copied_run / f"stage-{number}"
        assert (folder / "per_class-eval.csv").read_bytes() == (
            folder / "per_class.csv"
        ).read_bytes()


def test_a_student_trained_in_bfloat16_is_evaluated_as_it_was(
    kept_data, tmp_path, cascade_config, one_device
):
    info = shards.read_dataset_info(kept_data, "train")
    config = cascade_config(0, epochs=1, precision="mixed_bfloat16").stage_config(0, info)
    figures = stages.train_stage(config, kept_data, str(tmp_path), one_device())
    assert_same_measures(evaluate_run(str(tmp_path))[0], figures)


def test_one_stage_on_another_split_of_another_folder(copied_run, tmp_path, write_split):
    write_split(tmp_path / "other", "folds", (9,))
    rows = evaluate_run(str(copied_run), stage=1, data_dir=str(tmp_path / "other"), split="folds")
    assert (
        [row["stage"] for row in rows] == [1]
        and rows[0]["num_clips"] == 9
        and rows[0]["change"] is None
    )
    assert figures_of(copied_run, 1, "metrics-folds.json")["mAP"] == rows[0]["mAP"]
    with open(copied_run / "stage-1" / "per_class-folds.csv", newline="") as stream:
        assert [row["display_name"] for row in csv.DictReader(stream)] == [
            "Bark",
            "Bell",
            "Rain",
            "Siren",
        ]
    assert not (copied_run / "stage-0" / "metrics-folds.json").exists()


def test_what_cannot_be_evaluated_is_said(kept_run, kept_data, tmp_path, write_split, command):
    other = ClassMap(("/m/x", "/m/b", "/m/c", "/m/d"), ("Sea", "Bell", "Rain", "Siren"))
    write_split(tmp_path / "other", "eval", (4,), class_map=other)
    for arguments, message in (
        (
            [f"--run_dir={kept_run}", "--split=test"],
            f"error: {kept_data}: no converted split 'test' .*it holds eval, train",
        ),
        (
            [f"--run_dir={kept_run}", "--stage=5"],
            "error: .*stage-5: this stage is not done; train it with --stage=5",
        ),
        (
            [f"--run_dir={tmp_path}"],
            f"error: {tmp_path}: no stage is done there; train one with python -m secost_tf.train",
        ),
        (
            [f"--run_dir={kept_run}", f"--data_dir={tmp_path / 'other'}"],
            "error: .*stage-0 was made with other classes than .*only in .*stage-0: /m/a; only in "
            ".*other: /m/x",
        ),
    ):
        status, printed, stderr = command(evaluate, *arguments)
        assert (status, printed) == (1, "") and "Traceback" not in stderr
        assert re.search(message, stderr), stderr


def test_a_damaged_eval_shard_is_named(kept_run, tiny_data, flip_byte):
    path = Path(tiny_data, "eval", "eval-00000-of-00002.tfrecord")
    flip_byte(path, -100)
    with pytest.raises(ValueError, match=rf"{path}: record 6 .*wrong checksum"):
        evaluate_run(kept_run, 0, tiny_data)
