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
from secost_tf.detection.events import Event, PostProcessing, Segments, list_events
from secost_tf.detection.overview import Overview, leading_classes, write_picture
from secost_tf.detection.stream import SegmentStream
from secost_tf.detection.thresholds import DEFAULT
from tfrecord_tools import storage
from tfrecord_tools.audio import EXTENSIONS, LongRecording, read_ahead
from tfrecord_tools.commands import describe_error
from tfrecord_tools.progress import ClipProgress
from tfrecord_tools.text import format_count

EVENTS_TSV = "events.tsv"

MOST_SHOWN = 8  # classes in a picture


@dataclasses.dataclass(frozen=True)
class Localization:
    """The events of a recording.

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

    def of(self, classes: Sequence[int]) -> Localization:
        """Return the same with the events of these classes alone."""
        wanted = set(classes)
        events = [event for event in self.events if event.class_index in wanted]
        return dataclasses.replace(self, events=events)


def find_events(
    path: str,
    detector: Detector,
    thresholds: np.ndarray,
    config: PostProcessing | None = None,
) -> Localization:
    """Find the events in a recording of any format and length.

    Memory holds its scores and some seconds of its sound.

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
    stream = SegmentStream(detector, config)
    parts = [stream.add(block) for block in overview.watch(read_ahead(recording))]
    segments = Segments.join([*parts, stream.finish(recording.seconds)])
    recording.warn_if_short()
    events = list_events(segments, thresholds, config)
    return Localization(recording.seconds, *segments, events, overview)


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
    """Return the recordings to be listened to.

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
        raise ValueError("paths: expected recordings, or folders of them; got none")
    called: dict[str, tuple[str, str]] = {}  # by absolute path: the path, and what it is called
    for path in paths:
        if not os.path.isdir(path):
            called[os.path.abspath(path)] = path, os.path.basename(path)
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
        called |= {os.path.abspath(file): (file, os.path.relpath(file, path)) for file in inside}
    given = [path for path, _ in called.values()]
    filenames = [filename for _, filename in called.values()]
    if len(set(filenames)) < len(filenames):
        common = os.path.commonpath([os.path.dirname(path) for path in called])
        filenames = [os.path.relpath(path, common) for path in called]
    stems = [os.path.splitext(filename)[0] for filename in filenames]
    taken = Counter([*stems, *filenames])
    return [
        Recording(path, _text(filename), stem if taken[stem] == 1 else filename)
        for path, filename, stem in zip(given, filenames, stems, strict=True)
    ]


def _text(filename: str) -> str:
    """Return a file name as text, which it need not be."""
    return os.fsencode(filename).decode(errors="backslashreplace")


def write_results(
    out: str,
    recording: Recording,
    localization: Localization,
    detector: Detector,
    classes: Sequence[int],
    top: int,
    pictures: bool,
) -> None:
    """Write the files of a recording into a folder, with the classes that are looked for."""
    names = detector.class_map.display_names
    target = storage.join(out, recording.name)
    storage.make_dirs(os.path.dirname(target))
    tables.write_scores(
        f"{target}.scores.tsv",
        localization.spans,
        localization.scores[:, classes],
        [names[c] for c in classes],
    )
    tables.write_audacity_labels(f"{target}.audacity.txt", localization.events, names)
    tables.write_raven_table(
        f"{target}.raven.txt", recording.filename, localization.events, names, detector.log_mel
    )
    if pictures:
        shown = leading_classes(localization.scores, classes, top)
        count = sum(event.class_index in shown for event in localization.events)
        title = f"{recording.filename}, {format_count(count, 'event')}"
        if len(shown) < len(classes):
            title += f" of the {len(shown)} classes with the highest scores"
        write_picture(
            f"{target}.png",
            localization.overview,
            detector.log_mel,
            Segments(localization.spans, localization.scores),
            localization.events,
            shown,
            names,
            title,
        )


@dataclasses.dataclass(frozen=True)
class LocalizedRecordings:
    """The events of some recordings.

    Attributes:
        events: of each recording by onset, under its name in `events.tsv`.
        failures: {path: what is wrong with it} of the recordings that could not be used, or whose
            results could not be written; each path as it was given.
    """

    events: dict[str, list[Event]]
    failures: dict[str, str]


def localize_recordings(
    paths: Sequence[str],
    detector: Detector,
    out: str,
    *,
    thresholds: np.ndarray | float = DEFAULT,
    classes: Sequence[str] = (),
    post_processing: PostProcessing | None = None,
    top: int = 5,
    pictures: bool = True,
) -> LocalizedRecordings:
    """Find the events in recordings of any format and length, and write them into a folder.

    A recording that can't be used stops no other. For each recording NAME there are NAME.png,
    NAME.scores.tsv, NAME.audacity.txt and NAME.raven.txt, and `events.tsv` for all.

    Source: thresholds with hysteresis and a median filter over segment scores, as usual in DCASE's
    task 4; label files of Audacity and Raven.

    Args:
        paths: files, and folders of them; see `find_recordings`.
        detector: scores segments.
        out: folder of the results; what has the same name there is replaced.
        thresholds: a class begins to sound where its score reaches its threshold, in 0..1: of the
            classes, [C], or one of all.
        classes: names or mids of the classes to look for. Default: all.
        post_processing: how events are made of scores.
        top: classes that a picture shows, `MOST_SHOWN` at most.
        pictures: draw a picture of each recording.

    Returns:
        The events, and what is wrong with the recordings that could not be used.

    Raises:
        ValueError: if there is no recording, a class is unknown, or thresholds or settings are none
            for this detector.
        OSError: if `events.tsv` can't be written.

    Example:
        `runs/secost` is a run on four classes, `night.flac` a recording of two seconds.

        >>> from secost_tf import Detector, localize_recordings
        >>> detector = Detector.from_run("runs/secost")
        >>> results = localize_recordings(["night.flac"], detector, "events", thresholds=0.0)
        >>> for event in results.events["night.flac"]:
        ...     name = detector.class_map.display_names[event.class_index]
        ...     print(f"{event.onset:.2f} to {event.offset:.2f} s: {name}")
        0.00 to 2.00 s: Bark
        0.00 to 2.00 s: Bell
        0.00 to 2.00 s: Rain
        0.00 to 2.00 s: Siren
        >>> results.failures
        {}
    """
    recordings, config = find_recordings(paths, out), post_processing or PostProcessing()
    class_map = detector.class_map
    thresholds = _check_thresholds(thresholds, len(class_map))
    wanted = list(dict.fromkeys(map(class_map.index, classes))) or list(range(len(class_map)))
    if classes:  # all of these, rather than the first `top`
        top = max(top, min(len(wanted), MOST_SHOWN))
    detector.scorer(config.hop_scale)  # says what is wrong with it before any work
    results = LocalizedRecordings({}, {})
    storage.make_dirs(out)
    with ClipProgress(len(recordings), logging.info) as progress:
        for recording in recordings:
            try:
                localization = find_events(recording.path, detector, thresholds, config).of(wanted)
                write_results(out, recording, localization, detector, wanted, top, pictures)
            except Exception as error:  # whatever is wrong with one, the others are done
                logging.debug("%s", recording.path, exc_info=True)
                results.failures[recording.path] = _describe(error)
                progress.add(None)
                continue
            results.events[recording.filename] = localization.events
            progress.add(localization.seconds)
    events_tsv = storage.join(out, EVENTS_TSV)
    tables.write_events(events_tsv, results.events.items(), class_map.display_names)
    return results


def _check_thresholds(thresholds: np.ndarray | float, num_classes: int) -> np.ndarray:
    """Return one for each class, float64 [C]."""
    values = np.asarray(thresholds, np.float64)
    if values.shape not in ((), (num_classes,)) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"thresholds: expected a number in [0, 1], or one for each of {num_classes} classes, "
            f"got {thresholds}"
        )
    return np.broadcast_to(values, (num_classes,))


def _describe(error: Exception) -> str:
    """Return what went wrong; with the kind of the error where none of ours was to be expected."""
    if isinstance(error, (ValueError, OSError)):
        return describe_error(error)
    return f"{type(error).__name__}: {error}"
