"""One shard: its clips to its file, and the report that a restart, or another machine, reads."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tfrecord_tools import shards, storage
from tfrecord_tools.conversion.clip import ConvertedClip, Problem
from tfrecord_tools.datasets import Clip


@dataclasses.dataclass
class ShardReport:
    """The notes on a finished shard: enough for `dataset.json` and the tables.

    Attributes:
        bytes: size of its file.
        seconds: length of its clips.
        positives: clips of each class, by index.
        total, total_of_squares: of the log-mel over its frames, [mel_bins].
        clips: id and number of frames of each record.
        failures, warnings: of its clips.
    """

    bytes: int = 0
    seconds: float = 0.0
    positives: Counter[int] = dataclasses.field(default_factory=Counter)
    total: np.ndarray | float = 0.0
    total_of_squares: np.ndarray | float = 0.0
    clips: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    failures: list[Problem] = dataclasses.field(default_factory=list)
    warnings: list[Problem] = dataclasses.field(default_factory=list)

    def add(self, converted: ConvertedClip) -> None:
        """Count one clip more."""
        self.warnings += converted.warnings
        if converted.failure:
            self.failures.append(converted.failure)
            return
        self.clips.append((converted.clip.id, converted.num_frames))
        self.positives.update(converted.clip.labels)
        self.seconds += converted.seconds
        self.total = self.total + converted.total
        self.total_of_squares = self.total_of_squares + converted.total_of_squares

    def to_dict(self) -> dict:
        """Return plain values, for JSON; numbers come back exactly."""
        return {
            **vars(self),
            "positives": sorted(self.positives.items()),
            "total": np.asarray(self.total).tolist(),
            "total_of_squares": np.asarray(self.total_of_squares).tolist(),
            "failures": list(map(dataclasses.astuple, self.failures)),
            "warnings": list(map(dataclasses.astuple, self.warnings)),
        }

    @classmethod
    def from_dict(cls, values: dict) -> ShardReport:
        """Return what `to_dict` gave, as an object again."""
        return cls(
            **{
                **values,
                "positives": Counter(dict(values["positives"])),
                "total": np.array(values["total"]),
                "total_of_squares": np.array(values["total_of_squares"]),
                "clips": [tuple(clip) for clip in values["clips"]],
                "failures": [Problem(*problem) for problem in values["failures"]],
                "warnings": [Problem(*problem) for problem in values["warnings"]],
            }
        )


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """The clips of one shard, and where the shard and its report go."""

    clips: Sequence[Clip]
    shard_path: str
    report_path: str

    def write(
        self,
        converted: Iterable[ConvertedClip],
        on_clip: Callable[[ConvertedClip], None] = lambda clip: None,
    ) -> None:
        """Write the shard, then its report; `on_clip` is called for each clip."""
        report = ShardReport()

        def records() -> Iterator[bytes]:
            for clip in converted:
                report.add(clip)
                on_clip(clip)
                if clip.record is not None:
                    yield clip.record

        shards.write_frames(self.shard_path, records())
        report.bytes = storage.size(self.shard_path)
        storage.write_json(self.report_path, report.to_dict())

    def finished(self) -> ShardReport | None:
        """Return the report of the shard if it is finished and stands there whole, else None."""
        if not (storage.exists(self.report_path) and storage.exists(self.shard_path)):
            return None
        try:
            report = ShardReport.from_dict(storage.read_json(self.report_path))
        except (KeyError, TypeError, ValueError):  # damaged, or another version's: it is made again
            return None
        return report if report.bytes == storage.size(self.shard_path) else None
