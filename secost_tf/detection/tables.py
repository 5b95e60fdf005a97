"""Tables of segment scores and events, as other programs read them; each appears whole or not at
all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np

from secost_tf.detection.events import Event
from tfrecord_tools import storage
from tfrecord_tools.log_mel import LogMelConfig

EVENTS_COLUMNS = ("filename", "onset", "offset", "event_label", "score")

_SECONDS = "%.6f"

_SCORE = (
    "%.9g"  # all digits of a float32, so that what lies above a threshold does so in a table, too
)

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
    """Tab-separated `onset offset <class>...`, a line a segment: the table of sed_scores_eval."""
    rows = (
        [_seconds(onset), _seconds(offset), *map(_score, of_segment.tolist())]
        for (onset, offset), of_segment in zip(spans.tolist(), scores, strict=True)
    )
    _write(path, rows, ("onset", "offset", *names))


def write_events(
    path: str, files: Iterable[tuple[str, Sequence[Event]]], names: Sequence[str]
) -> None:
    """Tab-separated `filename onset offset event_label score`: DCASE's layout, with the score
    added.

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
    """Audacity's label track: tab-separated onset, offset and label, without a heading."""
    _write(path, ([*_cells(event, names)[:2], names[event.class_index]] for event in events))


def write_raven_table(
    path: str, filename: str, events: Sequence[Event], names: Sequence[str], log_mel: LogMelConfig
) -> None:
    """Raven's selection table; a selection spans all frequencies that the network hears."""
    rows = (
        [number, "Spectrogram 1", 1, onset, offset, f"{log_mel.mel_min_hz:g}", f"{log_mel.mel_max_hz:g}",
         os.path.basename(filename), name, score]
        for number, (onset, offset, name, score) in enumerate((_cells(event, names) for event in events), 1)
    )  # fmt: skip
    _write(path, rows, _RAVEN_COLUMNS)


def _cells(event: Event, names: Sequence[str]) -> tuple[str, str, str, str]:
    return (
        _seconds(event.onset),
        _seconds(event.offset),
        names[event.class_index],
        _score(event.score),
    )


def _seconds(value: float) -> str:
    return _SECONDS % value


def _score(value: float) -> str:
    return _SCORE % value


def _write(
    path: str, rows: Iterable[Sequence[object]], header: Sequence[str] | None = None
) -> None:
    storage.write_csv(path, rows, header, delimiter="\t")
