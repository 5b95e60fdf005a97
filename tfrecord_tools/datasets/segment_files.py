"""Which file of a folder holds a segment of a recording, by its name, as the usual download scripts
give them.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from tfrecord_tools.audio import EXTENSIONS

_NAME_WITH_TIMES = re.compile(r"(.+?)_(\d+(?:\.\d+)?)(?:_(\d+(?:\.\d+)?))?")


class SegmentFile(NamedTuple):
    """An audio file of one recording, and the times in its name, as they are written there."""

    path: str
    start: str | None
    end: str | None


def index_files(audio_dir: str, ytids: Collection[str]) -> dict[str, list[SegmentFile]]:
    """The readable files of each recording that `ytids` names, in the order of preference.

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
    for found in files.values():
        found.sort(
            key=lambda file: (
                file.start is None,
                rank[os.path.splitext(file.path)[1].lower()],
                file.path,
            )
        )
    return files


def choose_file(
    files: Sequence[SegmentFile], start_ms: int, end_ms: int, audio_dir: str
) -> tuple[SegmentFile | None, str]:
    """The first file that holds the segment of a recording, or None and why.

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
        names = ", ".join(os.path.basename(file.path) for file in files[:3])
        return None, f"only other segments of it are there ({names})"
    return None, f"no file of that name in {audio_dir}"


def _interpretations(stem: str) -> Iterator[tuple[str, str | None, str | None]]:
    """Each (YTID, start, end) that a file name may mean, the plainest first.

    For YTIDs, which have 11 characters, at most one of them has the right length, whatever `Y`, `-`
    or `_` they hold.
    """
    parts: list[tuple[str, str | None, str | None]] = [(stem, None, None)]
    head, _, last = stem.rpartition("_")
    if head and (match := _NAME_WITH_TIMES.fullmatch(stem)):
        parts.append((head, last, None))
        if match[3]:
            parts.append((match[1], match[2], match[3]))
    for ytid, start, end in parts:
        yield ytid, start, end
    for ytid, start, end in parts:
        if ytid.startswith("Y"):
            yield ytid[1:], start, end


def _is_time(text: str, milliseconds: int, unit: int) -> bool:
    return abs(float(text) * unit - milliseconds) < 1
