"""Files of segments of recordings, found by the names that the usual download scripts give."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from tfrecord_tools.audio import EXTENSIONS
from tfrecord_tools.text import join_some

_NAME_WITH_TIMES = re.compile(r"(.+?)_(\d+(?:\.\d+)?)(?:_(\d+(?:\.\d+)?))?")


class SegmentFile(NamedTuple):
    """An audio file of one recording, and the times in its name, as they are written there."""

    path: str
    start: str | None
    end: str | None


def index_files(audio_dir: str, ytids: Collection[str]) -> dict[str, list[SegmentFile]]:
    """Return the readable files of each recording in `ytids`, in the order of preference.

    Nested folders and links are searched too. Names with times come first, then the order of
    `decoders.EXTENSIONS` decides, then the path.
    """
    files: dict[str, list[SegmentFile]] = defaultdict(list)
    rank = {extension: place for place, extension in enumerate(EXTENSIONS)}
    seen = set()
    for folder, folders, names in os.walk(audio_dir, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to where we have been
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in names:
            stem, extension = os.path.splitext(name)
            if extension.lower() in rank:
                for ytid, start, end in _interpretations(stem):
                    if ytid in ytids:
                        files[ytid].append(SegmentFile(os.path.join(folder, name), start, end))
                        break

    def preference(file: SegmentFile) -> tuple[bool, int, str]:
        extension = os.path.splitext(file.path)[1].lower()
        return file.start is None, rank[extension], file.path

    return {ytid: sorted(of_ytid, key=preference) for ytid, of_ytid in files.items()}


def choose_file(
    files: Sequence[SegmentFile], start_ms: int, end_ms: int, audio_dir: str
) -> tuple[SegmentFile | None, str]:
    """Return the first file that holds the segment of a recording, or None and why.

    Args:
        files: those of the recording, in the order of preference (`index_files`).
        start_ms, end_ms: the segment's times in the recording, in milliseconds; names give them in
            these or in seconds.
        audio_dir: the folder, for the message.
    """
    for file in files:
        if file.start is None or any(
            _is_time(file.start, start_ms, unit)
            and (file.end is None or _is_time(file.end, end_ms, unit))
            for unit in (1, 1000)
        ):
            return file, ""
    if files:
        names = join_some((os.path.basename(file.path) for file in files), most=3)
        return None, f"only other segments of it are there ({names})"
    return None, f"no file of that name in {audio_dir}"


def _interpretations(stem: str) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield each (YTID, start, end) that a file name may mean, the plainest first.

    For YTIDs, which have 11 characters, at most one of them has the right length, whatever `Y`, `-`
    or `_` they hold.
    """
    parts: list[tuple[str, str | None, str | None]] = [(stem, None, None)]
    head, _, last = stem.rpartition("_")
    if head and (match := _NAME_WITH_TIMES.fullmatch(stem)):
        parts.append((head, last, None))
        if match[3]:
            parts.append((match[1], match[2], match[3]))
    yield from parts
    yield from ((ytid[1:], start, end) for ytid, start, end in parts if ytid.startswith("Y"))


def _is_time(text: str, milliseconds: int, unit: int) -> bool:
    """Return True if a text is a time in a unit of so many milliseconds."""
    return abs(float(text) * unit - milliseconds) < 1
