"""Tables of segment scores and events, for other programs; each appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np

from secost_tf.detection.events import Event
from tfrecord_tools import storage
from tfrecord_tools.log_mel import LogMelConfig

EVENTS_COLUMNS = ("filename", "onset", "offset", "event_label", "score")

_SECONDS = "%.6f"

_SCORE = "%.9g"  # all digits of a float32, so that what reaches a threshold does so in a table, too

_RAVEN_COLUMNS = (
    *(
        "Selection",
        "View",
        "Channel",
        "Begin Time (s)",
        "End Time (s)",
        "Low Freq (Hz)",
        "High Freq (Hz)",
    ),
    *("Begin File", "Species", "Score"),
)


def write_scores(path: str, spans: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> None:
    """Write tab-separated `onset offset <class>...`, a line a segment, for sed_scores_eval."""
    rows = (
        [_SECONDS % onset, _SECONDS % offset, *(_SCORE % score for score in of_segment.tolist())]
        for (onset, offset), of_segment in zip(spans.tolist(), scores, strict=True)
    )
    _write(path, rows, ("onset", "offset", *names))


def write_events(
    path: str, files: Iterable[tuple[str, Sequence[Event]]], names: Sequence[str]
) -> None:
    """Write tab-separated `filename onset offset event_label score`.

    This is DCASE's layout, with the score added.
    A file without events has a line with its name alone, as DCASE's lists do.
    """
    rows = (
        row
        for filename, events in files
        for row in (
            [[filename, *_cells(event, names)] for event in events] or [[filename, "", "", "", ""]]
        )
    )
    _write(path, rows, EVENTS_COLUMNS)


def write_audacity_labels(path: str, events: Sequence[Event], names: Sequence[str]) -> None:
    """Write Audacity's label track: tab-separated onset, offset and label, without a heading."""
    _write(path, ([*_cells(event, names)[:2], names[event.class_index]] for event in events))


def write_raven_table(
    path: str, filename: str, events: Sequence[Event], names: Sequence[str], log_mel: LogMelConfig
) -> None:
    """Write Raven's selection table; a selection spans all frequencies that the network hears."""
    low, high = f"{log_mel.mel_min_hz:g}", f"{log_mel.mel_max_hz:g}"
    file = os.path.basename(filename)
    rows = (
        (number, "Spectrogram 1", 1, onset, offset, low, high, file, name, score)
        for number, event in enumerate(events, 1)
        for onset, offset, name, score in [_cells(event, names)]
    )
    _write(path, rows, _RAVEN_COLUMNS)


def _cells(event: Event, names: Sequence[str]) -> tuple[str, str, str, str]:
    onset, offset = _SECONDS % event.onset, _SECONDS % event.offset
    return onset, offset, names[event.class_index], _SCORE % event.score


def _write(
    path: str, rows: Iterable[Sequence[object]], header: Sequence[str] | None = None
) -> None:
    storage.write_csv(path, rows, header, delimiter="\t")
