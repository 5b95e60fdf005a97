"""Events against strong labels: segment-based F1, event-based F1, PSDS 1 and 2, by sed_scores_eval
(extra `detection`).

    segment_F1   segments of 1 s: a class is right in one if it sounds somewhere in it both by the
                 labels and by the events
    event_F1     an event is right if its onset is right to 200 ms, and its offset to 200 ms or a
                 fifth of its length
    PSDS_1       polyphonic sound detection score, scenario 1 of DCASE's task 4 (when exactly:
                 intersections of 0.7)
    PSDS_2       scenario 2 (what: intersections of 0.1, confusions count)

F1 are means over classes (`_micro`: over all segments or events) at the thresholds given; PSDS are
over all thresholds (Bilen et al., ICASSP 2020; Ebbers, Serizel and Haeb-Umbach, ICASSP 2022).
Beside the network stand two baselines: all classes always, and random scores.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from secost_tf.detection import (
    Detector,
    PostProcessing,
    active_segments,
    list_events,
    score_segments,
)
from tfrecord_tools.shards import ClipRecord

MEASURES = ("segment_F1", "segment_F1_micro", "event_F1", "event_F1_micro", "PSDS_1", "PSDS_2")

SEGMENT_SECONDS = 1.0

COLLAR_SECONDS, COLLAR_SHARE = 0.2, 0.2

_SCENARIO_1 = {"dtc_threshold": 0.7, "gtc_threshold": 0.7, "alpha_ct": 0.0, "alpha_st": 1.0}

_SCENARIO_2 = {
    "dtc_threshold": 0.1,
    "gtc_threshold": 0.1,
    "cttc_threshold": 0.3,
    "alpha_ct": 0.5,
    "alpha_st": 1.0,
}

_MOST_FALSE_AN_HOUR = 100.0

_RANDOM_SEED = 0


@dataclasses.dataclass(frozen=True)
class EventOptions:
    """Settings of the evaluation of events.

    Attributes:
        post_processing: makes events of scores.
        thresholds: (run folder, stage, its detector) -> the threshold of each class, float64 [C].
    """

    post_processing: PostProcessing
    thresholds: Callable[[str, int, Detector], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ScoredClip:
    """A clip's scores and truth.

    Attributes:
        id: unique.
        seconds: its length.
        spans: of its segments, seconds [K, 2].
        scores: of its segments, smoothed, [K, C].
        active: bool [K, C], the events that the scores give.
        events: (class index, onset, offset) of the true ones, in seconds.
    """

    id: str
    seconds: float
    spans: np.ndarray
    scores: np.ndarray
    active: np.ndarray
    events: tuple[tuple[int, float, float], ...]


def load_measures() -> ModuleType:
    """Return the module sed_scores_eval; raise `ValueError` if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pkg_resources, in what it imports
            import sed_scores_eval
    except ImportError as error:
        raise ValueError(
            f"--events needs sed_scores_eval ({error}): pip install 'secost_tf[detection]'"
        ) from error
    return sed_scores_eval


def evaluate_events(
    run_dir: str, stage: int, clips: Iterable[ClipRecord], options: EventOptions
) -> dict[str, Any]:
    """Measure a stage's events, and the baselines, on clips with strong labels.

    Returns:
        The measures of the network, its settings, the numbers of clips, classes and events, and
        `baselines`: the measures of `all_positive` and `random`.

    Raises:
        ValueError: if sed_scores_eval is missing, or no clip has a true event.
    """
    load_measures()
    detector = Detector.from_run(run_dir, stage)
    thresholds = options.thresholds(run_dir, stage, detector)
    scored = [score_clip(detector, clip, thresholds, options.post_processing) for clip in clips]
    counted = sorted({index for clip in scored for index, _, _ in true_events(clip)})
    if not counted:
        raise ValueError(
            "events: no clip has an event with onset and offset; --events needs strong labels"
        )
    rng = np.random.default_rng(_RANDOM_SEED)
    noise = [rng.uniform(size=clip.scores.shape) for clip in scored]
    ones = [np.ones_like(clip.scores) for clip in scored]
    mids = detector.class_map.mids
    return {
        **measure(scored, counted, mids),
        "baselines": {
            "all_positive": measure(_replaced(scored, ones), counted, mids),
            "random": measure(_replaced(scored, noise), counted, mids),
        },
        "num_clips": len(scored),
        "num_classes": len(counted),
        "num_events": sum(map(len, map(true_events, scored))),
        "post_processing": options.post_processing.to_dict(),
        "thresholds": {mids[index]: float(thresholds[index]) for index in counted},
    }


def score_clip(
    detector: Detector, clip: ClipRecord, thresholds: np.ndarray, config: PostProcessing
) -> ScoredClip:
    """Score a clip, its log-mel float32 [frames, mel_bins], as `secost_tf.localize` does."""
    seconds = max(
        clip.end_time_seconds - clip.start_time_seconds,
        detector.log_mel.seconds(len(clip.log_mel)),
    )
    segments = score_segments([clip.log_mel], detector, config, seconds)
    active = active_segments(list_events(segments, thresholds, config), segments)
    return ScoredClip(clip.video_id, seconds, *segments, active, clip.events)


def _replaced(clips: Sequence[ScoredClip], scores: Sequence[np.ndarray]) -> list[ScoredClip]:
    """Return the clips with other scores, of which those of a half and more are events."""
    return [
        dataclasses.replace(clip, scores=of_clip, active=of_clip >= 0.5)
        for clip, of_clip in zip(clips, scores, strict=True)
    ]


def measure(
    clips: Sequence[ScoredClip], classes: Sequence[int], names: Sequence[str]
) -> dict[str, float | None]:
    """Compute the `MEASURES` over some classes, each of which has a true event.

    PSDS, which counts confusions with other classes, is None where there is one class.
    """
    library = load_measures()
    scores = {clip.id: _table(clip.spans, clip.scores, classes, names) for clip in clips}
    active = {clip.id: _table(clip.spans, clip.active, classes, names) for clip in clips}
    truth = {
        clip.id: [
            (onset, offset, names[index])
            for index, onset, offset in true_events(clip)
            if index in classes
        ]
        for clip in clips
    }
    seconds = {clip.id: clip.seconds for clip in clips}
    by_segment, *_ = library.segment_based.fscore(
        active, truth, seconds, 0.5, segment_length=SEGMENT_SECONDS, num_jobs=1
    )
    collars = {
        "onset_collar": COLLAR_SECONDS,
        "offset_collar": COLLAR_SECONDS,
        "offset_collar_rate": COLLAR_SHARE,
    }
    by_event, *_ = library.collar_based.fscore(active, truth, 0.5, **collars, num_jobs=1)
    psds: list[float | None] = [None, None]
    if len(classes) > 1:
        shared = {"max_efpr": _MOST_FALSE_AN_HOUR, "num_jobs": 1}
        psds = [
            library.intersection_based.psds(scores, truth, seconds, **scenario, **shared)[0].item()
            for scenario in (_SCENARIO_1, _SCENARIO_2)
        ]
    scores_F1 = [
        float(measured[average])
        for measured in (by_segment, by_event)
        for average in ("macro_average", "micro_average")
    ]
    return dict(zip(MEASURES, (*scores_F1, *psds), strict=True))


def true_events(clip: ScoredClip) -> list[tuple[int, float, float]]:
    """Return the true events (class index, onset, offset) of a clip, joined if they touch."""
    joined: list[tuple[int, float, float]] = []
    for index, onset, offset in sorted(clip.events):
        onset, offset = max(onset, 0.0), min(offset, clip.seconds)
        if offset <= onset:
            continue
        if joined and joined[-1][0] == index and onset <= joined[-1][2]:
            joined[-1] = (index, joined[-1][1], max(offset, joined[-1][2]))
        else:
            joined.append((index, onset, offset))
    return joined


def _table(
    spans: np.ndarray, scores: np.ndarray, classes: Sequence[int], names: Sequence[str]
) -> Any:
    """Return the score table of sed_scores_eval."""
    import pandas as pd

    columns = {"onset": spans[:, 0], "offset": spans[:, 1]}
    return pd.DataFrame(
        columns | {names[index]: np.asarray(scores[:, index], np.float64) for index in classes}
    )
