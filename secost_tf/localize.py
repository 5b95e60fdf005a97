"""`python -m secost_tf.localize --run_dir=R --out=DIR FILE|FOLDER...`: when did it sound? Events in recordings of any length.

Writes into the folder `--out`, for each recording NAME:

    NAME.png            its log-mel, and below it the events and the scores of some classes over time
    NAME.scores.tsv     onset, offset and the score of each class, a line a segment: the table of sed_scores_eval
    NAME.audacity.txt   its events as a label track for Audacity
    NAME.raven.txt      its events as a selection table for Raven

and `events.tsv`, the events of all recordings.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from secost_tf import detector as detectors
from secost_tf import event_tables
from secost_tf.class_thresholds import tuned_thresholds
from secost_tf.command_settings import EXPORTED_MODEL_HELP, StageSettings
from secost_tf.detection_flags import ThresholdSettings
from secost_tf.detector import Detector
from secost_tf.events import Event, PostProcessing, active_segments, list_events, smooth
from secost_tf.localize_picture import Overview, leading_classes, write_picture
from secost_tf.long_audio import LongRecording, read_ahead
from secost_tf.segment_times import hop_frames, segment_spans
from tfrecord_tools import storage
from tfrecord_tools.audio import AudioError
from tfrecord_tools.commands import describe_error, run_command
from tfrecord_tools.config import setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.decoders import EXTENSIONS
from tfrecord_tools.progress import Progress

EVENTS_TSV = "events.tsv"
MOST_SHOWN = 8  # classes in a picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalizeSettings(StageSettings):
    """With what network, which classes, and where to."""

    saved_model: str | None = setting(
        None, f"{EXPORTED_MODEL_HELP} Default: a stage of the run in --run_dir."
    )
    classes: tuple[str, ...] = setting(
        (),
        "Names or mids of the classes to look for, separated by commas, a name with a comma in "
        "double quotes. Default: all.",
    )
    top: int = setting(
        5,
        f"Classes that a picture shows, those with the highest segment scores; {MOST_SHOWN} at most.",
        minimum=1,
        maximum=MOST_SHOWN,
    )
    pictures: bool = setting(True, "Draw a picture of each recording, which takes about half a second.")
    out: str | None = setting(None, "Folder for the results; what has the same name there is replaced.")


SETTINGS = (LocalizeSettings, ThresholdSettings, PostProcessing)


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
    config: PostProcessing = PostProcessing(),  # noqa: B008
) -> Localization:
    """Finds the events in a recording of any format and length; memory holds its scores and some seconds of its sound.

    Args:
        path: a local file.
        detector: what scores segments.
        thresholds: of the classes, [C].
        config: how events are made of scores.

    Raises:
        AudioError: if the file can't be used.
    """
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
    return Localization(recording.seconds, spans, scores, list_events(active, scores, spans), overview)


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
        paths: files, which are taken whatever they are called, and folders, in which the files with a recording's extension are
            taken, at any depth.
        out: folder of the results, not looked into.

    Returns:
        Each once, called by its path within the folder that was given, or, where two are called alike, within the folder
        that holds all. Results go without the extension unless another recording has the name but for its extension.

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
    """Writes the files of one recording into the folder `out`; of all classes those that are looked for."""
    names = detector.class_map.display_names
    target = storage.join(out, recording.name)
    storage.make_dirs(os.path.dirname(target))
    event_tables.write_scores(
        f"{target}.scores.tsv", found.spans, found.scores[:, classes], [names[c] for c in classes]
    )
    event_tables.write_audacity_labels(f"{target}.audacity.txt", found.events, names)
    event_tables.write_raven_table(
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
    config: PostProcessing = PostProcessing(),  # noqa: B008
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
        {path: what is wrong with it} of the recordings that could not be used, or whose results could not be written.
    """
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
    event_tables.write_events(storage.join(out, EVENTS_TSV), events, detector.class_map.display_names)
    return failures


def main(argv: Sequence[str]) -> int:
    """Read the flags, localize, and say what was found and what failed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings, config = read_flags(LocalizeSettings), read_flags(PostProcessing)
    if not settings.out:
        raise ValueError("out: expected a folder for the results, such as --out=events")
    recordings = find_recordings(argv[1:], settings.out)
    if settings.saved_model:
        detector, tune = detectors.from_saved_model(settings.saved_model), None
    else:
        from secost_tf.stage_folder import done_stages  # imports TensorFlow

        stage = done_stages(settings.run_dir)[-1] if settings.stage is None else settings.stage
        detector = detectors.from_run(settings.run_dir, stage)
        tune = functools.partial(tuned_thresholds, settings.run_dir, stage, detector, config)
    hop_frames(detector.config, config.hop_scale)  # says what is wrong with it before any work
    thresholds = read_flags(ThresholdSettings).of_classes(detector.class_map, tune)
    classes = list(dict.fromkeys(map(detector.class_map.index, settings.classes)))
    top = settings.top
    failures = localize_all(
        recordings,
        detector,
        thresholds,
        settings.out,
        config=config,
        classes=classes,
        top=top if not classes else max(top, min(len(classes), MOST_SHOWN)),
        pictures=settings.pictures,
    )
    done = len(recordings) - len(failures)
    print(f"{done} recording{'s' * (done != 1)} localized into {settings.out}: {EVENTS_TSV} lists the events")
    if failures:
        print(f"error: {len(failures)} of {len(recordings)} recordings could not be used:", file=sys.stderr)
        for path, what in failures.items():
            print(f"    {path}: {what}", file=sys.stderr)
    return int(bool(failures))


main.takes_arguments = True
main.begins_anew = True


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
