"""Localise: recordings in, events and segment scores out."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from secost_tf.detection import tables
from secost_tf.detection.detector import Detector
from secost_tf.detection.events import Event, PostProcessing, active_segments, list_events, smooth
from secost_tf.detection.overview import Overview, leading_classes, write_picture
from secost_tf.models import segment_spans
from tfrecord_tools import storage
from tfrecord_tools.audio import EXTENSIONS, AudioError, LongRecording, read_ahead
from tfrecord_tools.commands import describe_error
from tfrecord_tools.progress import Progress

EVENTS_TSV = "events.tsv"

MOST_SHOWN = 8  # classes in a picture


@dataclasses.dataclass(frozen=True)
class Localization:
    """What was found in a recording.

    Attributes:
        seconds: of sound.
        spans: of the segments, seconds [K, 2].
        scores: of the segments after the median filter, float32 [K, C].
        events: by onset.
        overview: its log-mel, for a picture.
    """

    seconds: float
    spans: np.ndarray
    scores: np.ndarray
    events: list[Event]
    overview: Overview


def localize(
    path: str,
    detector: Detector,
    thresholds: np.ndarray,
    config: PostProcessing | None = None,
) -> Localization:
    """Finds the events in a recording of any format and length; memory holds its scores and some
    seconds of its sound.

    Args:
        path: a local file.
        detector: what scores segments.
        thresholds: of the classes, [C].
        config: how events are made of scores.

    Raises:
        AudioError: if the file can't be used.
    """
    config = config or PostProcessing()
    recording = LongRecording(path, detector.log_mel)
    overview = Overview(detector.log_mel.mel_bins)
    blocks = overview.watch(read_ahead(recording))
    scores = detector.segment_scores(blocks, config.hop_scale)
    spans = segment_spans(
        detector.config, detector.log_mel, overview.num_frames, config.hop_scale, recording.seconds
    )
    scores = smooth(scores, spans, config.median_filter_seconds)
    active = active_segments(scores, spans, thresholds, config)
    if recording.missing_seconds:
        logging.warning(
            "%s: claims %.1f s more than can be decoded; what comes before was used",
            path,
            recording.missing_seconds,
        )
    return Localization(
        recording.seconds, spans, scores, list_events(active, scores, spans), overview
    )


class Recording(NamedTuple):
    """A recording to be listened to.

    Attributes:
        path: of the file.
        filename: what it is called in `events.tsv`; no two are alike.
        name: what the files of its results begin with; no two are alike.
    """

    path: str
    filename: str
    name: str


def find_recordings(paths: Sequence[str], out: str) -> list[Recording]:
    """The recordings to be listened to.

    Args:
        paths: files, which are taken whatever they are called, and folders, in which the files with
            a recording's extension are taken, at any depth.
        out: folder of the results, not looked into.

    Returns:
        Each once, called by its path within the folder that was given, or, where two are called
        alike, within the folder that holds all. Results go without the extension unless another
        recording has the name but for its extension.

    Raises:
        ValueError: if there is no path, or a folder holds no recording.
    """
    if not paths:
        raise ValueError("expected recordings, or folders of them, after the flags; got none")
    found: dict[str, tuple[str, str]] = {}  # by absolute path: the path, and what it is called
    for path in paths:
        if not os.path.isdir(path):
            found[os.path.abspath(path)] = path, os.path.basename(path)
            continue
        inside = sorted(
            os.path.join(folder, name)
            for folder, _, names in os.walk(path)
            if os.path.abspath(folder) != os.path.abspath(out)
            for name in names
            if name.lower().endswith(EXTENSIONS)
        )
        if not inside:
            raise ValueError(f"{path}: no recording in this folder ({', '.join(EXTENSIONS)})")
        found |= {os.path.abspath(one): (one, os.path.relpath(one, path)) for one in inside}
    given, filenames = zip(*found.values(), strict=True)
    if len(set(filenames)) < len(filenames):
        common = os.path.commonpath([os.path.dirname(path) for path in found])
        filenames = [os.path.relpath(path, common) for path in found]
    stems = [os.path.splitext(filename)[0] for filename in filenames]
    taken = Counter([*stems, *filenames])
    return [
        Recording(path, _text(filename), stem if taken[stem] == 1 else filename)
        for path, filename, stem in zip(given, filenames, stems, strict=True)
    ]


def _text(filename: str) -> str:
    """A file name as text, which it need not be."""
    return os.fsencode(filename).decode(errors="backslashreplace")


def write_results(
    out: str,
    recording: Recording,
    found: Localization,
    detector: Detector,
    classes: Sequence[int],
    top: int,
    pictures: bool,
) -> None:
    """Writes the files of one recording into the folder `out`; of all classes those that are looked
    for.
    """
    names = detector.class_map.display_names
    target = storage.join(out, recording.name)
    storage.make_dirs(os.path.dirname(target))
    tables.write_scores(
        f"{target}.scores.tsv", found.spans, found.scores[:, classes], [names[c] for c in classes]
    )
    tables.write_audacity_labels(f"{target}.audacity.txt", found.events, names)
    tables.write_raven_table(
        f"{target}.raven.txt", recording.filename, found.events, names, detector.log_mel
    )
    if pictures:
        shown = leading_classes(found.scores, classes, top)
        count = sum(event.class_index in shown for event in found.events)
        title = f"{recording.filename}, {count} event{'s' * (count != 1)}"
        if len(shown) < len(classes):
            title += f" of the {len(shown)} classes with the highest scores"
        write_picture(
            f"{target}.png",
            found.overview,
            detector.log_mel,
            found.spans,
            found.scores,
            found.events,
            shown,
            names,
            title,
        )


def localize_all(
    recordings: Sequence[Recording],
    detector: Detector,
    thresholds: np.ndarray,
    out: str,
    *,
    config: PostProcessing | None = None,
    classes: Sequence[int] = (),
    top: int = 5,
    pictures: bool = True,
) -> dict[str, str]:
    """Localizes events in recordings, and writes what is found; see the module's docstring.

    Args:
        recordings: see `find_recordings`.
        detector, thresholds, config: see `localize`.
        out: folder of the results.
        classes: those to look for; none: all.
        top: classes in a picture.
        pictures: whether to draw them.

    Returns:
        {path: what is wrong with it} of the recordings that could not be used, or whose results
        could not be written.
    """
    config = config or PostProcessing()
    classes = list(classes) or list(range(len(detector.class_map)))
    wanted = set(classes)
    events, failures = [], {}
    storage.make_dirs(out)
    with Progress(len(recordings), logging.info) as progress:
        for recording in recordings:
            try:
                found = localize(recording.path, detector, thresholds, config)
                found = dataclasses.replace(
                    found, events=[one for one in found.events if one.class_index in wanted]
                )
                write_results(out, recording, found, detector, classes, top, pictures)
            except (AudioError, OSError) as error:
                failures[recording.path] = describe_error(error)
                progress.update(None)
                continue
            events.append((recording.filename, found.events))
            progress.update(found.seconds)
    tables.write_events(storage.join(out, EVENTS_TSV), events, detector.class_map.display_names)
    return failures
