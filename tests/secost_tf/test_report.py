import json
import re
import shutil
from pathlib import Path

import pytest

from secost_tf import models, report
from secost_tf.evaluation import scoring
from secost_tf.reporting.build import write_report
from secost_tf.reporting.page import signed
from tfrecord_tools import storage
from tfrecord_tools.datasets.clips import ClassMap

OTHER_CLASSES = ClassMap(("/m/x", "/m/b", "/m/c", "/m/d"), ("Sea", "Bell", "Rain", "Siren"))
EVIL = "<script>alert('x')</script> $\\frac{1$"


@pytest.fixture(scope="module")
def kept_report(kept_run, tmp_path_factory) -> tuple[Path, str]:
    """A copy of the tiny run after a report was made of it, and the report; not to be changed."""
    run_dir = Path(shutil.copytree(kept_run, tmp_path_factory.mktemp("report") / "run"))
    path, size = write_report(str(run_dir))
    html = Path(path).read_text()
    assert path == str(run_dir / "report.html") and size == len(html.encode())
    return run_dir, html


@pytest.fixture
def copied_run(kept_run, tmp_path) -> Path:
    return Path(shutil.copytree(kept_run, tmp_path / "run"))


def edit_json(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def undated(html: str) -> str:
    """The page without the day on which it was made."""
    return re.sub(r" on \d{4}-\d\d-\d\d\.", "", html)


def titles(html: str) -> list[str]:
    return re.findall("<h2 .*?>(.*?)</h2>", html)


def test_the_figures_are_those_of_the_run(kept_report):
    run_dir, html = kept_report
    for row in json.loads((run_dir / "summary.json").read_text()):
        assert f'<td class="number">{row["mAP"]:.4f}</td>' in html
    assert titles(html) == [
        "Stages",
        "Base against last stage",
        "Classes",
        "Learning curves",
        "Examples",
    ]
    for name, value in (
        ("batch_size", "4"),
        ("mel_bins", "32"),
        ("width", "0.02"),
        ("data_dir", ".*data"),
    ):
        assert re.search(f'<th scope="row">{name}</th><td>{value}</td>', html), name
    assert (
        '<th scope="row">eval</th><td>12 clips of 4 classes, 0.00 h, from manifest, float16</td>'
        in html
    )
    assert "Made by secost_tf" in html and undated(html) != html


def test_examples_show_clips_of_the_evaluated_split(kept_report):
    html = kept_report[1]
    shown = re.findall(r"Clip <code>(.*?)</code>, labels:\s<strong>(.*?)</strong>", html)
    assert len(shown) == 6 == len({clip for clip, _ in shown})
    assert all(
        re.fullmatch(r"eval-clip-0\d\d", clip) and labels != "none" for clip, labels in shown
    )
    assert html.count('src="data:image/png;base64,') == 6 and "--audio_dir=FOLDER" in html


def test_the_same_run_gives_the_same_page_and_only_the_report_is_written(
    kept_report, kept_run, files_of
):
    run_dir, html = kept_report
    path, _ = write_report(str(run_dir), str(run_dir.parent / "again.html"))
    assert undated(Path(path).read_text()) == undated(html)
    before, after = files_of(kept_run), files_of(run_dir)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in set(after) - set(before)} == {"report.html", "analysis"}


def test_the_analysis_is_shown(kept_report):
    run_dir, html = kept_report
    results = json.loads((run_dir / "analysis" / "analysis.json").read_text())
    difference = results["mAP"]["difference"]
    interval = (
        f"95% bootstrap interval of {signed(difference['low'])} to {signed(difference['high'])}"
    )
    assert interval in " ".join(html.split())
    assert f'<td class="number">{results["calibration"]["stage"]["error"]:.4f}</td>' in html
    assert "Mean gain of the classes in each range of base AP." in html
    assert (
        html.count("labelled, but not heard</td>")
        == html.count("heard, but not labelled</td>")
        == 10
    )
    assert "analysis/label_errors.csv" in html


def test_an_analysis_that_lies_in_the_run_is_taken_while_it_is_of_these_stages(
    kept_report, tmp_path
):
    run_dir = Path(shutil.copytree(kept_report[0], tmp_path / "run"))
    path = run_dir / "analysis" / "analysis.json"
    results = json.loads(path.read_text())
    moved = storage.absolute(str(run_dir))
    edit_json(
        path,
        calibration=results["calibration"]
        | {"stage": results["calibration"]["stage"] | {"error": 0.4321}},
    )
    edit_json(path, run_dir=moved, base_run_dir=moved)
    assert ">0.4321<" in Path(write_report(str(run_dir), num_examples=0)[0]).read_text()
    edit_json(path, mAP=results["mAP"] | {"stage": results["mAP"]["stage"] + 0.01})
    assert ">0.4321<" not in Path(write_report(str(run_dir), num_examples=0)[0]).read_text()


def test_a_stage_is_loaded_and_scores_the_split_once(copied_run, monkeypatch):
    calls = []

    def count(owner, name: str) -> None:
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a: calls.append(name) or function(*a))

    count(models, "wels_net")
    count(scoring.Scorer, "split")
    write_report(str(copied_run), num_examples=1)
    assert (copied_run / "analysis" / "analysis.json").exists()
    assert calls == ["wels_net", "split"] * 2


def test_what_is_not_wanted_is_left_out(copied_run):
    path, _ = write_report(str(copied_run), num_examples=0, analysis=False)
    assert not (copied_run / "analysis").exists()
    assert titles(Path(path).read_text()) == [
        "Stages",
        "Base against last stage",
        "Classes",
        "Learning curves",
    ]


def test_a_run_of_one_stage(copied_run):
    for stage in (1, 2):
        shutil.rmtree(copied_run / f"stage-{stage}")
    (copied_run / "stage-0" / "history.csv").unlink()
    html = Path(write_report(str(copied_run), num_examples=2)[0]).read_text()
    assert titles(html) == ["Stages", "Classes", "Examples"]


def test_data_that_are_gone_leave_the_rest(copied_run):
    for stage in range(3):
        edit_json(copied_run / f"stage-{stage}" / "config.json", data_dir="/moved/away")
    html = Path(write_report(str(copied_run))[0]).read_text()
    assert titles(html) == ["Stages", "Base against last stage", "Classes", "Learning curves"]
    assert "The data are no longer in /moved/away" in html and "--data_dir" in html


def test_settings_name_the_stages_where_these_differ(copied_run):
    config = copied_run / "stage-2" / "config.json"
    stage = json.loads(config.read_text())["stage"]
    edit_json(config, stage=stage | {"train": stage["train"] | {"epochs": 7, "ema": 0.5}})
    html = Path(write_report(str(copied_run), num_examples=0)[0]).read_text()
    assert '<th scope="row">epochs</th><td>2 (stage 0), 2 (stage 1), 7 (stage 2)</td>' in html
    assert '<th scope="row">ema</th><td>0 (stage 0), 0 (stage 1), 0.5 (stage 2)</td>' in html


def experiment(
    alphas: list[float], *rows: tuple[int, float, list[float]], name: str = "sweep_of_alpha"
) -> dict:
    """The parts of `results.json` that are shown; a row: stage, alpha, mAP of each seed."""
    return {
        "name": name,
        "sweep_alphas": alphas,
        "rows": [
            {
                "stage": stage,
                "alpha": alpha,
                "mAP": {"mean": sum(mAP) / len(mAP)},
                "mAP_per_seed": mAP,
            }
            for stage, alpha, mAP in rows
        ],
    }


@pytest.mark.parametrize(
    ("results", "alt"),
    [
        (
            experiment(
                [0.3, 1.0], (0, 1.0, [0.2, 0.4]), (1, 0.3, [0.5, 0.7]), (1, 1.0, [0.3, 0.4])
            ),
            "Mean mAP of one stage against 1 − α: 0.6000 at 0.7, 0.3500 at 0; stage 0, 0.3000.",
        ),
        (
            experiment([], (0, 1.0, [0.25]), (1, 0.3, [0.5])),
            "Mean mAP against stage: sweep_of_alpha, 0.2500 at stage 0, 0.5000 at stage 1.",
        ),
    ],
)
def test_an_experiment_is_shown_beside_the_run(copied_run, tmp_path, results, alt):
    (tmp_path / "results.json").write_text(json.dumps(results))
    options = {"num_examples": 0, "experiment_dirs": [str(tmp_path)]}
    html = Path(write_report(str(copied_run), **options)[0]).read_text()
    seeds = len(results["rows"][0]["mAP_per_seed"])
    assert (
        f'alt="{alt}"' in html
        and f"{seeds} seed{'s' * (seeds > 1)} of experiment sweep_of_alpha" in html
    )


def test_cascades_and_controls_of_one_stage_share_a_figure(copied_run, tmp_path):
    folders = []
    for name, results in {
        "cascade": experiment([], (0, 1.0, [0.2, 0.4]), (1, 0.3, [0.5, 0.7]), name="cascade"),
        "long_base": experiment([], (0, 1.0, [0.1, 0.3]), name="long_base"),
        "sweep": experiment([0.3], (0, 1.0, [0.2]), (1, 0.3, [0.5]), name="sweep"),
        "sweep_2": experiment([0.5], (0, 1.0, [0.2]), (1, 0.5, [0.5]), name="sweep_2"),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results))
        folders.append(str(tmp_path / name))
    html = Path(
        write_report(str(copied_run), num_examples=0, experiment_dirs=folders[:3])[0]
    ).read_text()
    assert "cascade, 0.3000 at stage 0, 0.6000 at stage 1; long_base, 0.2000 at stage 0." in html
    assert "2 seeds of experiment cascade, 2 seeds of experiment long_base" in html
    assert "0.5000 at 0.7; stage 0, 0.2000." in html
    html = Path(
        write_report(str(copied_run), num_examples=0, experiment_dirs=folders[1:2])[0]
    ).read_text()
    assert "Mean mAP against stage: long_base, 0.2000 at stage 0." in html
    with pytest.raises(
        ValueError, match="one sweep of alpha at most, got sweep and sweep_2; name one"
    ):
        write_report(str(copied_run), num_examples=0, experiment_dirs=folders)


def test_an_experiment_without_results_is_noted_and_one_with_others_refused(copied_run, tmp_path):
    options = {"num_examples": 0, "experiment_dirs": [str(tmp_path)]}
    html = Path(write_report(str(copied_run), **options)[0]).read_text()
    assert f'<p class="note">There are no results of an experiment in {tmp_path} (yet).</p>' in html
    for content in ({"rows": []}, {"rows": [{"mAP": 0.5}]}, []):
        (tmp_path / "results.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"results\.json: not the results of an experiment"):
            write_report(str(copied_run), **options)


def test_names_of_classes_are_text_and_nothing_else(copied_run):
    for stage in range(3):
        folder = copied_run / f"stage-{stage}"
        mids = json.loads((folder / "config.json").read_text())["class_map"]["mids"]
        edit_json(
            folder / "config.json",
            class_map={"mids": mids, "display_names": [EVIL, "$", "_^\\", "Siren"]},
        )
        table = (folder / "per_class.csv").read_text()
        (folder / "per_class.csv").write_text(table.replace("Bark", f'"{EVIL}"'))
    html = Path(write_report(str(copied_run))[0]).read_text()
    assert "<script>alert" not in html and "&lt;script&gt;alert(&#39;x&#39;)" in html
    assert html.count("<script") == 1


def test_the_command_says_where_the_report_is(copied_run, tmp_path, command):
    out = tmp_path / "page.html"
    status, printed, stderr = command(
        report, f"--run_dir={copied_run}", f"--out={out}", "--examples=1"
    )
    assert status == 0, stderr
    assert re.fullmatch(rf"{out}: \d+ kB, opens in any browser\n", printed)
    assert out.stat().st_size < 1_000_000 and not (copied_run / "report.html").exists()


def test_what_cannot_be_reported_is_said(kept_run, tmp_path, write_split, command):
    write_split(tmp_path / "other", "eval", (4,), class_map=OTHER_CLASSES)
    for arguments, message in (
        (
            [f"--run_dir={tmp_path}"],
            f"error: {tmp_path}: no stage is done there; train one with python -m",
        ),
        (
            [f"--run_dir={kept_run}", f"--data_dir={tmp_path / 'none'}"],
            f"error: {tmp_path / 'none'}: no converted split",
        ),
        (
            [f"--run_dir={kept_run}", f"--data_dir={tmp_path / 'other'}"],
            "error: .*stage-2 was made with other classes than",
        ),
        (
            [f"--run_dir={kept_run}", f"--audio_dir={tmp_path / 'none'}"],
            "error: audio_dir: expected a local folder of recordings, got",
        ),
    ):
        status, printed, stderr = command(report, f"--out={tmp_path / 'page.html'}", *arguments)
        assert (status, printed) == (1, "") and "Traceback" not in stderr
        assert re.search(message, stderr), stderr
    assert not (tmp_path / "page.html").exists()
