"""Measures of events: worked by hand, against sed_eval on the written tables, and through the
command.
"""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from secost_tf import evaluate
from secost_tf.detection import tables
from secost_tf.detection.events import (
    Event,
    PostProcessing,
    Segments,
    active_segments,
    list_events,
)
from secost_tf.evaluation import event_metrics
from secost_tf.evaluation.event_metrics import EventOptions, ScoredClip, measure, true_events
from secost_tf.evaluation.run import evaluate_run
from secost_tf.reporting.page_data import read_run
from secost_tf.reporting.tables import format_events
from tfrecord_tools.shards.records import ClipRecord

pytest.importorskip("sed_scores_eval", reason="needs the extra 'detection'")
pytestmark = pytest.mark.filterwarnings("ignore")  # of what sed_scores_eval imports

NAMES = ("Bark", "Bell")


def clip(identity, scores, events, hop=0.5) -> ScoredClip:
    scores = np.asarray(scores, np.float64)
    edges = np.arange(len(scores) + 1) * hop
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    segments = Segments(spans, scores)
    active = active_segments(list_events(segments, 0.5, PostProcessing()), segments)
    return ScoredClip(identity, float(edges[-1]), spans, scores, active, tuple(events))


def random_clips(count=6):
    rng = np.random.default_rng(0)
    clips = []
    for number in range(count):
        scores = np.repeat(rng.uniform(size=(10, 2)), 2, axis=0)
        events = [(index, *np.sort(rng.uniform(0, 10, 2)).round(2).tolist()) for index in (0, 1)]
        clips.append(clip(f"clip-{number}", scores, events))
    return clips


def test_measures_worked_by_hand():
    # Found: 1.0 to 2.5 s. True: 1 to 3 s. Seconds 1 and 2 are right by both, but the offset is off
    # by more than 0.4 s.
    row = [[0.1], [0.1], [0.9], [0.9], [0.9], [0.1], [0.1], [0.1]]
    figures = measure([clip("a", row, [(0, 1.0, 3.0)])], [0], NAMES[:1])
    assert (figures["segment_F1"], figures["event_F1"]) == (1.0, 0.0)
    assert (figures["PSDS_1"], figures["PSDS_2"]) == (None, None)  # of one class
    figures = measure([clip("a", row, [(0, 1.1, 2.8)])], [0], NAMES[:1])
    assert (figures["segment_F1"], figures["event_F1"]) == (1.0, 1.0)
    figures = measure([clip("a", row, [(0, 0.0, 1.9)])], [0], NAMES[:1])
    assert figures["segment_F1"] == pytest.approx(0.5)  # true: seconds 0, 1; found: 1, 2
    assert figures["segment_F1_micro"] == pytest.approx(0.5)


def test_perfect_scores_and_no_scores():
    truth = [(0, 1.0, 2.0), (0, 3.0, 4.0), (1, 0.0, 4.0)]
    exact = [[0, 1], [0, 1], [1, 1], [1, 1], [0, 1], [0, 1], [1, 1], [1, 1]]
    assert set(measure([clip("a", exact, truth)], [0, 1], NAMES).values()) == {1.0}
    nothing = measure([clip("a", np.zeros((8, 2)), truth)], [0, 1], NAMES)
    assert [nothing[name] for name in ("segment_F1", "event_F1", "PSDS_1")] == [0.0, 0.0, 0.0]


def test_psds_worked_by_hand():
    # Bark: 1.5 s found of the 2 s that are true, and none that is false: found in both scenarios,
    # at 0.7 and 0.1. Bell: half of a second that is true, so found in the second alone. Rates 1 and
    # 0: their mean less their deviation is 0.
    rows = np.zeros((8, 2))
    rows[2:5, 0] = rows[2, 1] = 0.9
    figures = measure([clip("a", rows, [(0, 1.0, 3.0), (1, 1.0, 2.0)])], [0, 1], NAMES)
    assert (figures["PSDS_1"], figures["PSDS_2"]) == (0.0, 1.0)


def test_true_events_that_touch_are_one_and_end_with_the_clip():
    events = [(1, 2.0, 9.0), (0, 1.0, 2.0), (0, 0.5, 1.0), (0, 3.0, 3.5), (1, 8.0, 9.0)]
    assert true_events(clip("a", np.zeros((8, 2)), events)) == [
        (0, 0.5, 2.0),
        (0, 3.0, 3.5),
        (1, 2.0, 4.0),
    ]


@pytest.mark.slow
def test_the_written_tables_give_sed_eval_and_sed_scores_eval_the_same_figures(tmp_path):
    import dcase_util
    import sed_eval
    import sed_scores_eval

    clips = random_clips()
    figures = measure(clips, [0, 1], NAMES)
    events_of_clips = [
        (
            f"{record.id}.wav",
            list_events(Segments(record.spans, record.scores), 0.5, PostProcessing()),
        )
        for record in clips
    ]
    true = [
        (f"{record.id}.wav", [Event(*event, 1.0) for event in true_events(record)])
        for record in clips
    ]
    tables.write_events(str(tmp_path / "events.tsv"), events_of_clips, NAMES)
    tables.write_events(str(tmp_path / "truth.tsv"), true, NAMES)
    (tmp_path / "scores").mkdir()
    for record in clips:
        tables.write_scores(
            str(tmp_path / "scores" / f"{record.id}.tsv"), record.spans, record.scores, NAMES
        )

    truth, events = (
        sed_eval.io.load_event_list(str(tmp_path / name), file_format="CSV")
        for name in ("truth.tsv", "events.tsv")
    )
    by_segment = sed_eval.sound_event.SegmentBasedMetrics(list(NAMES), time_resolution=1.0)
    by_event = sed_eval.sound_event.EventBasedMetrics(
        list(NAMES), t_collar=0.2, percentage_of_length=0.2, event_matching_type="optimal"
    )
    for record in clips:
        for measures in (by_segment, by_event):
            lists = (
                dcase_util.containers.MetaDataContainer(
                    [row for row in rows.filter(filename=f"{record.id}.wav") if row["event_label"]]
                )
                for rows in (truth, events)
            )
            length = {"evaluated_length_seconds": record.seconds} if measures is by_segment else {}
            measures.evaluate(*lists, **length)
    for measures, name in ((by_segment, "segment_F1"), (by_event, "event_F1")):
        macro = measures.results_class_wise_average_metrics()["f_measure"]["f_measure"]
        micro = measures.results_overall_metrics()["f_measure"]["f_measure"]
        assert figures[name] == pytest.approx(macro) and figures[f"{name}_micro"] == pytest.approx(
            micro
        )
    assert 0 < figures["segment_F1"] < 1

    loaded = sed_scores_eval.io.read_sed_scores(tmp_path / "scores")
    ground_truth = sed_scores_eval.io.read_ground_truth_events(tmp_path / "truth.tsv")
    seconds = {record.id: record.seconds for record in clips}
    again = sed_scores_eval.segment_based.fscore(
        loaded, ground_truth, seconds, 0.5, segment_length=1.0
    )[0]
    assert again["macro_average"] == pytest.approx(figures["segment_F1"])
    psds = sed_scores_eval.intersection_based.psds(
        loaded, ground_truth, seconds, dtc_threshold=0.7, gtc_threshold=0.7, alpha_st=1.0
    )[0]
    assert psds == pytest.approx(figures["PSDS_1"], abs=1e-6)


@pytest.fixture
def with_events(kept_run, tmp_path, write_split):
    """Return a run whose eval clips have an event for each label, and the folder of its data."""

    def add_events(clips: list[ClipRecord]) -> list[ClipRecord]:
        return [
            dataclasses.replace(
                record,
                events=tuple(
                    (label, 0.1, len(record.log_mel) / 100 - 0.1) for label in record.labels
                ),
            )
            for record in clips
        ]

    write_split(tmp_path / "data", "eval", (7, 5), change=add_events)
    run = shutil.copytree(kept_run, tmp_path / "run")
    for config in run.glob("stage-*/config.json"):
        config.write_text(
            json.dumps({**json.loads(config.read_text()), "data_dir": str(tmp_path / "data")})
        )
    return run, str(tmp_path / "data")


def test_the_command_measures_each_stage_beside_the_baselines(with_events, command):
    run, _ = with_events
    arguments = (f"--run_dir={run}", "--events", "--threshold=0.3", "--hop_scale=2")
    status, printed, stderr = command(evaluate, *arguments)
    assert status == 0, stderr
    for number in range(3):
        figures = json.loads((run / f"stage-{number}" / "metrics-eval.json").read_text())["events"]
        assert (
            json.loads((run / f"stage-{number}" / "metrics.json").read_text())["events"] == figures
        )
        assert re.search(rf"^stage {number} +{figures['segment_F1']:.4f} ", printed, re.MULTILINE)
        assert (figures["num_clips"], figures["num_classes"]) == (12, 4)
        assert figures["post_processing"]["hop_scale"] == 2 and set(
            figures["thresholds"].values()
        ) == {0.3}
        always = figures["baselines"]["all_positive"]
        assert figures["num_events"] >= 12 and 0 < always["segment_F1"] < 1
    assert re.search(r"^all positive +\d\.\d{4}.*\nrandom +\d\.\d{4}", printed, re.MULTILINE)


def test_measures_on_other_data_are_not_the_stage_s_own(with_events, tmp_path, write_split):
    run, data_dir = with_events

    def shorter(clips):  # as many of them
        return [
            dataclasses.replace(record, log_mel=record.log_mel[1:], events=((0, 0.0, 0.2),))
            for record in clips
        ]

    other = tmp_path / "other"
    write_split(other, "eval", (7, 5), change=shorter)
    options = EventOptions(PostProcessing(), lambda *_: np.full(4, 0.4))
    (figures,) = evaluate_run(str(run), 1, str(other), events=options)
    own = run / "stage-1" / "metrics.json"
    assert "events" in figures and "events" not in json.loads(own.read_text())
    (figures,) = evaluate_run(str(run), 1, data_dir, events=options)
    evaluate_run(str(run), 1, str(other), events=options)
    assert json.loads(own.read_text())["events"] == figures["events"]


def test_an_event_past_the_end_of_its_clip_counts_for_no_class(kept_run, read_clips, kept_data):
    clips = [
        dataclasses.replace(record, events=((0, 0.0, 0.2), (1, 50.0, 51.0)))
        for record in read_clips(kept_data, "eval")[:2]
    ]
    clips = [
        dataclasses.replace(record, log_mel=record.log_mel.astype(np.float32)) for record in clips
    ]
    options = EventOptions(PostProcessing(), lambda *_: np.full(4, 0.5))
    figures = event_metrics.evaluate_events(kept_run, 0, clips, options)
    assert (figures["num_classes"], figures["num_events"]) == (1, 2)
    clips = [dataclasses.replace(record, events=((1, 50.0, 51.0),)) for record in clips]
    with pytest.raises(ValueError, match="no clip has an event"):
        event_metrics.evaluate_events(kept_run, 0, clips, options)


def test_clips_without_events_and_a_missing_library_are_said(kept_run, command, monkeypatch):
    status, printed, stderr = command(evaluate, f"--run_dir={kept_run}", "--stage=0", "--events")
    assert (status, printed) == (1, "") and "no clip has an event with onset and offset" in stderr
    monkeypatch.setitem(__import__("sys").modules, "sed_scores_eval", None)
    with pytest.raises(ValueError, match=r"pip install 'secost_tf\[detection\]'"):
        event_metrics.load_measures()


def test_the_table_lines_up():
    figures = dict.fromkeys(event_metrics.MEASURES, 0.5)
    lines = format_events(
        [{"stage": 0, "events": {**figures, "baselines": {"random": figures}}}]
    ).splitlines()
    assert len(set(map(len, lines))) == 1 and [line.split("  ")[0] for line in lines] == [
        "",
        "-" * 61,
        "stage 0",
        "random",
    ]


def test_the_report_shows_them(with_events):
    run, data_dir = with_events
    options = EventOptions(PostProcessing(), lambda *_: np.full(4, 0.4))
    figures = evaluate_run(str(run), 1, data_dir, events=options)[0]["events"]
    rows = {row.name: row for row in read_run(str(run)).events}
    assert list(rows) == ["Stage 1", "All positive", "Random"]
    assert (rows["Stage 1"].segment_F1, rows["Stage 1"].PSDS_2) == (
        figures["segment_F1"],
        figures["PSDS_2"],
    )
    assert rows["Random"].event_F1 == figures["baselines"]["random"]["event_F1"]
