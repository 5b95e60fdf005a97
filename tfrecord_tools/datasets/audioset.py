"""AudioSet: Google's segment lists, and the audio as the usual download scripts name it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from typing import NamedTuple

from absl import logging

from tfrecord_tools import storage
from tfrecord_tools.datasets import segment_files
from tfrecord_tools.datasets.clips import ClassMap, Clip, read_class_map, sort_events
from tfrecord_tools.datasets.tables import parse_span

COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")

STRONG_COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")


class _Segment(NamedTuple):
    """A row of a segment list, and the line that it was read from."""

    ytid: str
    start_ms: int
    end_ms: int
    labels: tuple[int, ...]
    where: str

    @property
    def id(self) -> str:
        """Its id in a strong list."""
        return f"{self.ytid}_{self.start_ms}"


def read_audioset(
    *, segments_csv: str, class_labels_csv: str, audio_dir: str, strong_tsv: str | None = None
) -> tuple[list[Clip], ClassMap]:
    """Read a segment list and find its audio in a folder, nested folders and links included.

    Args:
        segments_csv: Google's csv: `#` comments, then rows `YTID, start, end, "mid,mid"`. A clip's
            id is its YTID, or `YTID_<start in ms>` where the list has several segments of that
            recording.
        class_labels_csv: Google's `class_labels_indices.csv`.
        audio_dir: where the audio lies. `YTID.wav` may hold the recording or the segment: its
            length tells. `YTID_30000.wav`, `YTID_30.wav` and `YTID_30.000_40.000.wav` hold the
            segment that starts (and ends) then, in milliseconds or seconds. Each may begin with a
            `Y`, and end in any extension that can be read. A name with times goes before one
            without, then the order of `decoders.EXTENSIONS` decides, then the path.
        strong_tsv: optional events: segment_id (`YTID_<start in ms>`), start_time_seconds,
            end_time_seconds (from the segment's start), label (mid). Other segments are skipped,
            and so are classes that are not in the list.

    Returns:
        The clips in the list's order, those without audio with `path=None`, and the classes.

    Raises:
        ValueError: if a file is missing, or a row has a wrong number of cells, an id that could be
            a path, a bad time, an unknown mid, or was there before; names file and line.
    """
    class_map = read_class_map(class_labels_csv)
    segments = _read_segments(segments_csv, class_map)
    ids = {segment.id for segment in segments}
    events = _read_events(strong_tsv, class_map, ids) if strong_tsv else {}
    if not storage.is_dir(audio_dir):
        raise ValueError(f"--audio_dir: expected a folder of audio files, got {audio_dir!r}")
    files = segment_files.index_files(audio_dir, {segment.ytid for segment in segments})
    clips = []
    for clip_id, segment in zip(_clip_ids(segments), segments, strict=True):
        chosen, missing = segment_files.choose_file(
            files.get(segment.ytid, []), segment.start_ms, segment.end_ms, audio_dir
        )
        start_seconds = segment.start_ms / 1000
        clips.append(
            Clip(
                id=clip_id,
                path=chosen and chosen.path,
                start_seconds=start_seconds,
                end_seconds=segment.end_ms / 1000,
                labels=segment.labels,
                events=sort_events(events.get(segment.id, ())),
                file_start_seconds=start_seconds if chosen and chosen.start else None,
                missing=missing,
            )
        )
    return clips, class_map


def read_labels(segments_csv: str, class_map: ClassMap) -> dict[str, tuple[int, ...]]:
    """Read the labels alone of a segment list: class indices by the ids of `read_audioset`.

    Raises:
        ValueError: as for `read_audioset`.
    """
    segments = _read_segments(segments_csv, class_map)
    labels = (segment.labels for segment in segments)
    return dict(zip(_clip_ids(segments), labels, strict=True))


def _clip_ids(segments: list[_Segment]) -> list[str]:
    """Return YTIDs; with the start, where the list has several segments of a recording."""
    counts = Counter(segment.ytid for segment in segments)
    return [segment.ytid if counts[segment.ytid] == 1 else segment.id for segment in segments]


def _read_segments(path: str, class_map: ClassMap) -> list[_Segment]:
    """Read the rows of a segment list, each segment of which may occur once."""
    segments: dict[str, _Segment] = {}
    for where, cells in storage.read_cells(path):
        if cells[0] == COLUMNS[0]:  # a header row: some copies have it for the third comment
            continue
        if len(cells) != len(COLUMNS):
            raise ValueError(
                f"{where}: expected {len(COLUMNS)} cells ({', '.join(COLUMNS)}, the labels in "
                f"quotes), got {len(cells)}"
            )
        ytid, start, end, labels = cells
        if not re.fullmatch(r"[A-Za-z0-9_-]+", ytid):
            raise ValueError(
                f"{where}: YTID: expected letters, digits, '_' and '-' only, got {ytid!r}"
            )
        span = parse_span(start, end, where, COLUMNS[1:3])
        mids = [mid.strip() for mid in labels.split(",") if mid.strip()]
        indices = class_map.indices(mids, f"{where}: {COLUMNS[3]}")
        segment = _Segment(ytid, round(span[0] * 1000), round(span[1] * 1000), indices, where)
        first = segments.setdefault(segment.id, segment)
        if first is not segment:
            raise ValueError(
                f"{where}: {ytid} from {span[0]:g} s was there before, at {first.where}"
            )
    if not segments:
        raise ValueError(f"{path}: no segment in it")
    return list(segments.values())


def _read_events(
    path: str, class_map: ClassMap, wanted: Collection[str]
) -> dict[str, list[tuple[int, float, float]]]:
    """Read the events of the segments whose ids are wanted."""
    known = {mid: index for index, mid in enumerate(class_map.mids)}
    events: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    skipped: Counter[str] = Counter()
    for where, row in storage.read_csv(path, STRONG_COLUMNS, delimiter="\t"):
        segment_id, start, end, mid = (row[name] for name in STRONG_COLUMNS)
        span = parse_span(start, end, where, STRONG_COLUMNS[1:3])
        if segment_id in wanted and mid in known:
            events[segment_id].append((known[mid], *span))
        elif segment_id in wanted:
            skipped[mid] += 1
    if not events:
        raise ValueError(
            f"{path}: no event of any segment in the list; expected ids such as {min(wanted)}"
        )
    if skipped:
        logging.warning(
            "%s: skipped %d events of %d classes that are not in the class list (%s ...)",
            path,
            skipped.total(),
            len(skipped),
            min(skipped),
        )
    return events
