"""The folder of one split while it is being converted: settings, finished shards, and the tables at the end."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tfrecord_tools import shards, storage
from tfrecord_tools.clip_conversion import ERROR, WARNING, ConvertConfig, ConvertedClip, Problem, convert_clip
from tfrecord_tools.datasets.clips import ClassMap, Clip

SETTINGS_JSON = "settings.json"


@dataclasses.dataclass
class ShardReport:
    """What is kept of a finished shard: enough for `dataset.json`, `clips.csv` and `failures.csv`."""

    bytes: int = 0
    seconds: float = 0.0
    positives: Counter[int] = dataclasses.field(default_factory=Counter)
    total: np.ndarray | float = 0.0
    total_of_squares: np.ndarray | float = 0.0
    clips: list[tuple[str, int]] = dataclasses.field(default_factory=list)  # id, number of frames
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def add(self, converted: ConvertedClip) -> None:
        """Counts one clip more."""
        self.problems += converted.problems
        if converted.record is not None:
            self.clips.append((converted.clip.id, converted.num_frames))
            self.positives.update(converted.clip.labels)
            self.seconds += converted.seconds
            self.total = self.total + converted.total
            self.total_of_squares = self.total_of_squares + converted.total_of_squares

    def to_dict(self) -> dict:
        """Plain values, for JSON; numbers come back exactly."""
        return {
            **vars(self),
            "positives": sorted(self.positives.items()),
            "total": np.asarray(self.total).tolist(),
            "total_of_squares": np.asarray(self.total_of_squares).tolist(),
            "problems": [dataclasses.astuple(problem) for problem in self.problems],
        }

    @classmethod
    def from_dict(cls, values: dict) -> ShardReport:
        """The inverse of `to_dict`."""
        return cls(
            **{
                **values,
                "positives": Counter(dict(values["positives"])),
                "total": np.array(values["total"]),
                "total_of_squares": np.array(values["total_of_squares"]),
                "clips": [tuple(clip) for clip in values["clips"]],
                "problems": [Problem(*problem) for problem in values["problems"]],
            }
        )


class SplitWriter:
    """Writes one split, shard by shard; what was finished before is kept.

    Attributes:
        folder: `out_dir/<split>`.
        plan: the clips of each shard, those that have audio, in an order drawn from a hash of their ids.
        reports: of the shards that are finished, by index.

    Raises:
        ValueError: if there is no clip or none with audio, an id occurs twice, a label is no class, or another split in
            `out_dir` has other classes or log-mel settings. Nothing is written or removed before `clear` or `begin`.
    """

    def __init__(self, clips: Sequence[Clip], class_map: ClassMap, config: ConvertConfig, out_dir: str):
        _check_clips(clips, class_map)
        self.folder = storage.join(out_dir, config.split)
        self.reports: dict[int, ShardReport] = {}
        self._class_map = class_map
        self._config = config
        self._out_dir = out_dir
        self._settings = _settings(clips, class_map, config)
        self._missing = [convert_clip(clip, config) for clip in clips if not clip.path]
        found = sorted((clip for clip in clips if clip.path), key=_random_order)
        if not found:
            raise ValueError(
                f"not one of {len(clips)} clips has audio; the first: {clips[0].id}: {clips[0].missing}"
            )
        self._check_other_splits()
        count = config.num_shards(len(found))
        self.plan = [
            found[index * len(found) // count : (index + 1) * len(found) // count] for index in range(count)
        ]

    def complete(self) -> shards.DatasetInfo | None:
        """The split as it stands there complete, or None; a `ValueError` if it was made otherwise."""
        if not shards.has_split(self._out_dir, self._config.split):
            return None
        info = shards.read_dataset_info(self._out_dir, self._config.split)
        self._check_settings(info.settings, "is complete, and")
        return info

    def clear(self) -> None:
        """Removes the split, `dataset.json` first, and nothing else that may lie in its folder."""
        for name in (shards.DATASET_JSON, shards.CLASSES_CSV, shards.CLIPS_CSV, shards.FAILURES_CSV):
            storage.remove(storage.join(self.folder, name))
        storage.remove_tree(storage.join(self.folder, shards.PROGRESS_DIR))
        shard = re.compile(
            f"({storage.PARTIAL_PREFIX})?{re.escape(self._config.split)}" + r"-\d{5}-of-\d{5}\.tfrecord"
        )
        for name in storage.list_dir(self.folder):
            if shard.fullmatch(name):
                storage.remove(storage.join(self.folder, name))

    def begin(self) -> None:
        """Makes the folder and notes the settings, or checks those noted there and reads what is finished.

        Raises:
            ValueError: if what is there was made otherwise, or the folder can't be written to.
        """
        path = storage.join(self.folder, shards.PROGRESS_DIR, SETTINGS_JSON)
        if storage.exists(path):
            self._check_settings(storage.read_json(path), "is unfinished, and")
            found = {index: self._read_report(index) for index in range(len(self.plan))}
            self.reports = {index: report for index, report in found.items() if report}
            return
        try:
            storage.make_dirs(storage.join(self.folder, shards.PROGRESS_DIR))
            storage.write_json(path, self._settings)
        except OSError as error:
            raise ValueError(f"--out: can't write to {self.folder} ({error.strerror or error})") from error

    def write_shard(
        self, index: int, converted: Iterable[ConvertedClip], on_clip: Callable[[ConvertedClip], None]
    ) -> None:
        """Writes a shard and its report; `on_clip` is called for each clip."""
        report = ShardReport()

        def records() -> Iterator[bytes]:
            for clip in converted:
                report.add(clip)
                on_clip(clip)
                if clip.record is not None:
                    yield clip.record

        shards.write_records(self._shard_path(index), records())
        report.bytes = storage.size(self._shard_path(index))
        storage.write_json(self._report_path(index), report.to_dict())
        self.reports[index] = report

    def problems(self, severity: str) -> list[Problem]:
        """All errors or all warnings, by clip id."""
        of_clips = [
            *(clip.problems for clip in self._missing),
            *(done.problems for done in self.reports.values()),
        ]
        return sorted(
            (problem for problems in of_clips for problem in problems if problem.severity == severity),
            key=lambda problem: problem.id,
        )

    def finish(self) -> shards.DatasetInfo:
        """Writes the tables and, last, `dataset.json`; removes the notes of progress.

        Raises:
            ValueError: if no clip was converted.
        """
        errors = self.problems(ERROR)
        failures = dict(sorted(Counter(problem.kind for problem in errors).items()))
        _write_csv(
            storage.join(self.folder, shards.FAILURES_CSV),
            [field.name for field in dataclasses.fields(Problem)],
            map(dataclasses.astuple, errors + self.problems(WARNING)),
        )
        reports = [self.reports[index] for index in range(len(self.plan))]
        num_frames = [frames for report in reports for _, frames in report.clips]
        if not num_frames:
            storage.remove_tree(storage.join(self.folder, shards.PROGRESS_DIR))
            raise ValueError(
                f"not one of {len(errors)} clips could be converted: {count_text(failures)}. The first: {errors[0].id}: "
                f"{errors[0].detail}. All are in {storage.join(self.folder, shards.FAILURES_CSV)}"
            )
        self._class_map.write(storage.join(self.folder, shards.CLASSES_CSV))
        rows = (
            (clip_id, shard, record, frames)
            for shard, report in enumerate(reports)
            for record, (clip_id, frames) in enumerate(report.clips)
        )
        _write_csv(storage.join(self.folder, shards.CLIPS_CSV), shards.CLIPS_COLUMNS, rows)
        mean = sum(report.total for report in reports) / sum(num_frames)
        mean_square = sum(report.total_of_squares for report in reports) / sum(num_frames)
        positives = sum((report.positives for report in reports), Counter())
        info = shards.DatasetInfo(
            split=self._config.split,
            dataset=self._config.dataset,
            log_mel=self._config.log_mel,
            feature_dtype=self._config.feature_dtype,
            class_map=self._class_map,
            num_clips=len(num_frames),
            seconds=sum(report.seconds for report in reports),
            max_frames=max(num_frames),
            positives=tuple(positives[index] for index in range(len(self._class_map))),
            mean=tuple(mean.tolist()),
            variance=tuple(np.maximum(0.0, mean_square - np.square(mean)).tolist()),
            shards=tuple(
                shards.Shard(self._shard_name(index), len(report.clips), report.bytes)
                for index, report in enumerate(reports)
            ),
            failures=failures,
            settings=self._settings,
        )
        info.write(self._out_dir)
        storage.remove_tree(storage.join(self.folder, shards.PROGRESS_DIR))
        return info

    def _shard_name(self, index: int) -> str:
        return shards.shard_name(self._config.split, index, len(self.plan))

    def _shard_path(self, index: int) -> str:
        return storage.join(self.folder, self._shard_name(index))

    def _report_path(self, index: int) -> str:
        return storage.join(self.folder, shards.PROGRESS_DIR, f"{index:05d}.json")

    def _read_report(self, index: int) -> ShardReport | None:
        """The report of a shard that is finished and stands there whole, else None."""
        path, shard = self._report_path(index), self._shard_path(index)
        if not (storage.exists(path) and storage.exists(shard)):
            return None
        try:
            report = ShardReport.from_dict(storage.read_json(path))
        except (KeyError, TypeError, ValueError):  # damaged, or another version's: the shard is made again
            return None
        return report if report.bytes == storage.size(shard) else None

    def _check_settings(self, there: dict, state: str) -> None:
        asked = self._settings
        different = [
            f"{name}: {there.get(name)} there, {asked[name]} asked for"
            for name in asked
            if there.get(name) != asked[name]
        ]
        if different:
            raise ValueError(
                f"{self.folder} {state} was made from other settings or clips: {'; '.join(different)}. Give another "
                "--out, or --overwrite to replace it"
            )

    def _check_other_splits(self) -> None:
        for split in shards.list_splits(self._out_dir):
            if split == self._config.split:
                continue
            other = shards.read_dataset_info(self._out_dir, split, check_shards=False)
            where = f"--out: {self._out_dir} holds the split {split}"
            if differences := self._class_map.differences(other.class_map, "here", f"in {split}"):
                raise ValueError(
                    f"{where}, whose classes are others: {differences}. Give one class list, or another --out"
                )
            if differences := self._config.log_mel.differences(other.log_mel):
                raise ValueError(f"{where}, with other log-mel settings (here != there): {differences}")


def count_text(counts: Mapping[str, int]) -> str:
    """`kind 3, other 1`."""
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


def _check_clips(clips: Sequence[Clip], class_map: ClassMap) -> None:
    if not clips:
        raise ValueError("clips: expected at least one clip")
    repeated = [clip_id for clip_id, count in Counter(clip.id for clip in clips).items() if count > 1]
    if repeated:
        raise ValueError(f"clips: {len(repeated)} ids occur more than once: {', '.join(repeated[:5])}")
    for clip in clips:
        if any(not 0 <= label < len(class_map) for label in clip.labels):
            raise ValueError(
                f"clip {clip.id}: labels: expected indices below {len(class_map)}, got {clip.labels}"
            )


def _settings(clips: Sequence[Clip], class_map: ClassMap, config: ConvertConfig) -> dict:
    """All that decides the result, as plain values, to compare with what stands in a folder."""
    listed = hashlib.sha256()
    for clip in sorted(clips, key=lambda clip: clip.id):
        name = clip.path and os.path.basename(clip.path)  # the audio folder may move
        span = (clip.start_seconds, clip.end_seconds, clip.file_start_seconds)
        listed.update(json.dumps((clip.id, name, span, clip.labels, clip.events)).encode())
    classes = hashlib.sha256(class_map.to_csv().encode())
    return {
        "dataset": config.dataset,
        "feature_dtype": config.feature_dtype,
        "clips_per_shard": config.clips_per_shard,
        **config.log_mel.to_dict(),
        "classes": f"{len(class_map)} ({classes.hexdigest()[:12]})",
        "clips": f"{len(clips)}, {sum(1 for clip in clips if clip.path)} with audio ({listed.hexdigest()[:12]})",
    }


def _random_order(clip: Clip) -> tuple[bytes, str]:
    """A place drawn from the clip's id alone, so that each shard is a random sample of the split."""
    return hashlib.blake2b(clip.id.encode(), digest_size=8).digest(), clip.id


def _write_csv(path: str, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with storage.atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
