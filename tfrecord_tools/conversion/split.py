"""The folder of one split while it is being converted: settings, finished shards, and the tables at
the end.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tfrecord_tools import shards, storage
from tfrecord_tools.conversion.clip import ConvertConfig, Problem
from tfrecord_tools.conversion.shard import ShardJob, ShardReport
from tfrecord_tools.datasets import ClassMap, Clip
from tfrecord_tools.text import join_some

SETTINGS_JSON = "settings.json"

_IDS_TXT = "ids.txt"

_TABLES = (shards.CLASSES_CSV, shards.CLIPS_CSV, shards.FAILURES_CSV, shards.WARNINGS_CSV)


class SplitWriter:
    """Plans the shards of one split and, when all are there, writes its tables; what was finished
    before is kept.

    Attributes:
        folder: `out_dir/<split>`.
        jobs: the shards, of the clips that have audio, in an order drawn from a hash of their ids.
        reports: of the shards that are finished, by index.
        missing: the clips without audio, as failures.

    Raises:
        ValueError: if there is no clip or none with audio, an id occurs twice, a label is no class,
            or another split in `out_dir` has other classes or log-mel settings. Nothing is written
            or removed before `clear` or `begin`.
    """

    def __init__(
        self, clips: Sequence[Clip], class_map: ClassMap, config: ConvertConfig, out_dir: str
    ):
        _check_clips(clips, class_map)
        self.folder = storage.join(out_dir, config.split)
        self.reports: dict[int, ShardReport] = {}
        self._class_map = class_map
        self._config = config
        self._out_dir = out_dir
        self._ids = {clip.id for clip in clips}
        self._progress = storage.join(self.folder, shards.PROGRESS_DIR)
        self._settings = _settings(clips, class_map, config)
        self.missing = [
            Problem.of(clip, "missing", clip.missing) for clip in clips if not clip.path
        ]
        found = sorted((clip for clip in clips if clip.path), key=_random_order)
        if not found:
            raise ValueError(
                f"not one of {len(clips)} clips has audio; the first: {clips[0].id}: {clips[0].missing}"
            )
        self._check_other_splits()
        count = config.num_shards(len(found))
        self.jobs = [
            ShardJob(
                found[index * len(found) // count : (index + 1) * len(found) // count],
                storage.join(self.folder, shards.shard_name(config.split, index, count)),
                storage.join(self._progress, f"{index:05d}.json"),
            )
            for index in range(count)
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
        for name in (shards.DATASET_JSON, *_TABLES):
            storage.remove(storage.join(self.folder, name))
        storage.remove_tree(self._progress)
        shard = re.compile(
            f"({storage.PARTIAL_PREFIX})?{re.escape(self._config.split)}"
            + r"-\d{5}-of-\d{5}\.tfrecord"
        )
        for name in storage.list_dir(self.folder):
            if shard.fullmatch(name):
                storage.remove(storage.join(self.folder, name))

    def begin(self) -> None:
        """Makes the folder and notes the settings, or checks those noted there and reads what is
        finished.

        Raises:
            ValueError: if what is there was made otherwise, or the folder can't be written to.
        """
        path = storage.join(self._progress, SETTINGS_JSON)
        if storage.exists(path):
            self._check_settings(storage.read_json(path), "is unfinished, and")
            self.read_reports()
            return
        try:
            storage.make_dirs(self._progress)
            with storage.atomic_write(storage.join(self._progress, _IDS_TXT)) as stream:
                stream.writelines(f"{clip_id}\n" for clip_id in sorted(self._ids))
            storage.write_json(path, self._settings)
        except OSError as error:
            if error.errno in storage.FULL_ERRNOS:
                raise
            raise ValueError(
                f"--out: can't write to {self.folder} ({error.strerror or error})"
            ) from error

    def read_reports(self) -> None:
        """Finds the shards that are finished, whoever wrote them."""
        found = {index: job.finished() for index, job in enumerate(self.jobs)}
        self.reports = {index: report for index, report in found.items() if report}

    def failures(self) -> list[Problem]:
        """Of all clips, those without audio too, by clip id."""
        of_shards = (report.failures for report in self.reports.values())
        return sorted(itertools.chain(self.missing, *of_shards), key=lambda problem: problem.id)

    def warnings(self) -> list[Problem]:
        """Of all clips, by clip id."""
        of_shards = (report.warnings for report in self.reports.values())
        return sorted(itertools.chain(*of_shards), key=lambda problem: problem.id)

    def finish(self) -> shards.DatasetInfo:
        """Writes the tables and, last, `dataset.json`; removes the notes of progress.

        Raises:
            ValueError: if no clip was converted.
        """
        errors = self.failures()
        failures = dict(sorted(Counter(problem.kind for problem in errors).items()))
        header = [field.name for field in dataclasses.fields(Problem)]
        for name, problems in (
            (shards.FAILURES_CSV, errors),
            (shards.WARNINGS_CSV, self.warnings()),
        ):
            storage.write_csv(
                storage.join(self.folder, name), map(dataclasses.astuple, problems), header
            )
        reports = [self.reports[index] for index in range(len(self.jobs))]
        num_frames = [frames for report in reports for _, frames in report.clips]
        if not num_frames:
            storage.remove_tree(self._progress)
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
        storage.write_csv(storage.join(self.folder, shards.CLIPS_CSV), rows, shards.CLIPS_COLUMNS)
        mean = sum(report.total for report in reports) / sum(num_frames)
        mean_square = sum(report.total_of_squares for report in reports) / sum(num_frames)
        positives = sum((report.positives for report in reports), Counter())
        info = shards.DatasetInfo(
            split=self._config.split,
            dataset=self._config.dataset,
            log_mel=self._config.log_mel,
            feature_dtype=self._config.feature_dtype,
            feature_range=self._config.feature_range,
            compression=self._config.compression,
            class_map=self._class_map,
            num_clips=len(num_frames),
            seconds=sum(report.seconds for report in reports),
            max_frames=max(num_frames),
            positives=tuple(positives[index] for index in range(len(self._class_map))),
            mean=tuple(mean.tolist()),
            variance=tuple(np.maximum(0.0, mean_square - np.square(mean)).tolist()),
            shards=tuple(
                shards.Shard(
                    shards.shard_name(self._config.split, index, len(self.jobs)),
                    len(report.clips),
                    report.bytes,
                )
                for index, report in enumerate(reports)
            ),
            failures=failures,
            settings=self._settings,
        )
        info.write(self._out_dir)
        storage.remove_tree(self._progress)
        return info

    def _check_settings(self, there: dict, state: str) -> None:
        asked = self._settings
        different = [
            f"{name}: {there.get(name)} there, {asked[name]} asked for"
            for name in asked
            if there.get(name) != asked[name]
        ]
        if different:
            raise ValueError(
                f"{self.folder} {state} was made from other settings or clips: {'; '.join(different)}"
                f"{self._different_ids()}. Give another --out, or --overwrite to replace it"
            )

    def _different_ids(self) -> str:
        """Which clips are new and which are gone, as far as that is known."""
        there = {clip_id for clip_id, *_ in self._listed_ids()}
        parts = [
            f"; {len(ids)} clips only {where}: {join_some(sorted(ids))}"
            for where, ids in (("there", there - self._ids), ("asked for", self._ids - there))
            if there and ids
        ]
        return "".join(parts)

    def _listed_ids(self) -> Iterator[Sequence[str]]:
        """Rows that begin with the id of each clip that the split in the folder was made from."""
        if storage.exists(path := storage.join(self._progress, _IDS_TXT)):
            with storage.open_file(path) as stream:
                yield from ([line.rstrip("\n")] for line in stream)
            return
        for name in (shards.CLIPS_CSV, shards.FAILURES_CSV):
            if storage.exists(path := storage.join(self.folder, name)):
                rows = (cells for _, cells in storage.read_cells(path, exact=True))
                yield from itertools.islice(rows, 1, None)

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
                raise ValueError(
                    f"{where}, with other log-mel settings (here != there): {differences}"
                )


def count_text(counts: Mapping[str, int]) -> str:
    """`kind 3, other 1`."""
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


def _check_clips(clips: Sequence[Clip], class_map: ClassMap) -> None:
    if not clips:
        raise ValueError("clips: expected at least one clip")
    repeated = [
        clip_id for clip_id, count in Counter(clip.id for clip in clips).items() if count > 1
    ]
    if repeated:
        raise ValueError(f"clips: {len(repeated)} ids occur more than once: {join_some(repeated)}")
    for clip in clips:
        if any(not 0 <= label < len(class_map) for label in clip.labels):
            raise ValueError(
                f"clip {clip.id}: labels: expected indices below {len(class_map)}, got {clip.labels}"
            )


def _settings(clips: Sequence[Clip], class_map: ClassMap, config: ConvertConfig) -> dict:
    """All that decides the result, as plain values, to compare with what stands in a folder."""
    ordered = sorted(clips, key=lambda clip: clip.id)
    listed = {
        "ids": [clip.id for clip in ordered],
        "files": [
            clip.path and os.path.basename(clip.path) for clip in ordered
        ],  # the audio folder may move
        "spans": [
            (clip.start_seconds, clip.end_seconds, clip.file_start_seconds) for clip in ordered
        ],
        "labels": [clip.labels for clip in ordered],
        "events": [clip.events for clip in ordered],
    }
    digests = {
        f"{name} of the clips": _digest(json.dumps(values)) for name, values in listed.items()
    }
    return {
        "dataset": config.dataset,
        "feature_dtype": config.feature_dtype,
        "compression": config.compression,
        "clips_per_shard": config.clips_per_shard,
        **config.log_mel.to_dict(),
        "classes": f"{len(class_map)} ({_digest(class_map.to_csv())})",
        "clips": f"{len(clips)}, {sum(1 for clip in clips if clip.path)} with audio",
        **digests,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _random_order(clip: Clip) -> tuple[bytes, str]:
    """A place drawn from the clip's id alone, so that each shard is a random sample of the split."""
    return hashlib.blake2b(clip.id.encode(), digest_size=8).digest(), clip.id
