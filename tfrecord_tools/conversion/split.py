"""The folder of a split while it is converted: settings, finished shards, tables at the end."""

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
from tfrecord_tools.config import check_same_settings
from tfrecord_tools.conversion.clip import ConvertConfig, Problem
from tfrecord_tools.conversion.shard import ShardJob, ShardReport
from tfrecord_tools.datasets import ClassMap, Clip
from tfrecord_tools.text import join_some

SETTINGS_JSON = "settings.json"

_IDS_TXT = "ids.txt"

_PROBLEM_TABLES = (shards.FAILURES_CSV, shards.WARNINGS_CSV)

_TABLES = (shards.CLASSES_CSV, shards.CLIPS_CSV, *_PROBLEM_TABLES)


class SplitWriter:
    """The shards of one split and, when all are there, its tables; what was finished is kept.

    Attributes:
        folder: `out_dir/<split>`.
        class_map, log_mel: what the splits of a folder have in common.
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
        self.class_map = class_map
        self.log_mel = config.log_mel
        self._config = config
        self._out_dir = out_dir
        self._ids = {clip.id for clip in clips}
        self._progress = storage.join(self.folder, shards.PROGRESS_DIR)
        self._settings = _settings(clips, class_map, config)
        missing = [clip for clip in clips if not clip.path]
        self.missing = [Problem.of(clip, "missing", clip.missing) for clip in missing]
        audible = sorted((clip for clip in clips if clip.path), key=_random_order)
        if not audible:
            raise ValueError(
                f"not one of {len(clips)} clips has audio; the first: {clips[0].id}: "
                f"{clips[0].missing}"
            )
        self._check_other_splits()
        count = config.num_shards(len(audible))
        self.jobs = [
            ShardJob(
                audible[index * len(audible) // count : (index + 1) * len(audible) // count],
                storage.join(self.folder, shards.shard_name(config.split, index, count)),
                storage.join(self._progress, f"{index:05d}.json"),
            )
            for index in range(count)
        ]

    def complete(self) -> shards.DatasetInfo | None:
        """Return the split if it is complete; a `ValueError` if it was made otherwise."""
        if not shards.has_split(self._out_dir, self._config.split):
            return None
        info = shards.read_dataset_info(self._out_dir, self._config.split)
        self._check_settings(info.settings, "is complete, and")
        return info

    def clear(self) -> None:
        """Remove the split, `dataset.json` first, and nothing else that may lie in its folder."""
        for name in (shards.DATASET_JSON, *_TABLES):
            storage.remove(storage.join(self.folder, name))
        storage.remove_tree(self._progress)
        split = re.escape(self._config.split)
        shard = rf"({storage.PARTIAL_PREFIX})?{split}-\d{{5}}-of-\d{{5}}\.tfrecord"
        for name in storage.list_dir(self.folder):
            if re.fullmatch(shard, name):
                storage.remove(storage.join(self.folder, name))

    def begin(self) -> None:
        """Make the folder and note the settings, or check those there and read what is finished.

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
        """Read the reports of the shards that are finished, whoever wrote them."""
        reports = {index: job.finished() for index, job in enumerate(self.jobs)}
        self.reports = {index: report for index, report in reports.items() if report}

    def failures(self) -> list[Problem]:
        """Return those of all clips, also those without audio, by clip id."""
        of_shards = (report.failures for report in self.reports.values())
        return sorted(itertools.chain(self.missing, *of_shards), key=lambda problem: problem.id)

    def warnings(self) -> list[Problem]:
        """Return those of all clips, by clip id."""
        of_shards = (report.warnings for report in self.reports.values())
        return sorted(itertools.chain(*of_shards), key=lambda problem: problem.id)

    def finish(self) -> shards.DatasetInfo:
        """Write the tables and, last, `dataset.json`; remove the notes of progress.

        Raises:
            ValueError: if no clip was converted.
        """
        failures = self.failures()
        header = [field.name for field in dataclasses.fields(Problem)]
        for name, problems in zip(_PROBLEM_TABLES, (failures, self.warnings()), strict=True):
            cells = map(dataclasses.astuple, problems)
            storage.write_csv(storage.join(self.folder, name), cells, header)
        reports = [self.reports[index] for index in range(len(self.jobs))]
        if not any(report.clips for report in reports):
            storage.remove_tree(self._progress)
            kinds = count_text(Counter(problem.kind for problem in failures))
            raise ValueError(
                f"not one of {len(failures)} clips could be converted: {kinds}. "
                f"The first: {failures[0].id}: {failures[0].detail}. "
                f"All are in {storage.join(self.folder, shards.FAILURES_CSV)}"
            )
        self.class_map.write(storage.join(self.folder, shards.CLASSES_CSV))
        rows = (
            (clip_id, shard, record, frames)
            for shard, report in enumerate(reports)
            for record, (clip_id, frames) in enumerate(report.clips)
        )
        storage.write_csv(storage.join(self.folder, shards.CLIPS_CSV), rows, shards.CLIPS_COLUMNS)
        info = self._describe(reports, failures)
        info.write(self._out_dir)
        storage.remove_tree(self._progress)
        return info

    def _describe(
        self, reports: Sequence[ShardReport], failures: Sequence[Problem]
    ) -> shards.DatasetInfo:
        """Return the description of the whole split."""
        config = self._config
        num_frames = [frames for report in reports for _, frames in report.clips]
        mean = np.asarray(sum(report.total for report in reports)) / sum(num_frames)
        squares = sum(report.total_of_squares for report in reports)
        variance = np.maximum(0.0, squares / sum(num_frames) - np.square(mean))
        positives = sum((report.positives for report in reports), Counter())
        names = [os.path.basename(job.shard_path) for job in self.jobs]
        return shards.DatasetInfo(
            split=config.split,
            dataset=config.dataset,
            log_mel=config.log_mel,
            feature_dtype=config.feature_dtype,
            feature_range=config.feature_range,
            compression=config.compression,
            class_map=self.class_map,
            num_clips=len(num_frames),
            seconds=sum(report.seconds for report in reports),
            max_frames=max(num_frames),
            positives=tuple(positives[index] for index in range(len(self.class_map))),
            mean=tuple(mean.tolist()),
            variance=tuple(variance.tolist()),
            shards=tuple(
                shards.Shard(name, len(report.clips), report.bytes)
                for name, report in zip(names, reports, strict=True)
            ),
            failures=dict(sorted(Counter(problem.kind for problem in failures).items())),
            settings=self._settings,
        )

    def _check_settings(self, there: dict, state: str) -> None:
        """Raise a `ValueError` if the settings noted there are not those asked for."""
        asked = self._settings
        there = {name: there.get(name) for name in asked}
        if there != asked:
            advice = f"{self._different_ids()}Give another --out, or --overwrite to replace it"
            check_same_settings(f"{self.folder} {state} was made", there, asked, advice)

    def _different_ids(self) -> str:
        """Return in words which clips are new and which are gone, as far as that is known."""
        there = {clip_id for clip_id, *_ in self._listed_ids()}
        parts = [
            f"{len(ids)} clips are only {where}: {join_some(sorted(ids))}. "
            for where, ids in (("there", there - self._ids), ("asked for", self._ids - there))
            if there and ids
        ]
        return "".join(parts)

    def _listed_ids(self) -> Iterator[Sequence[str]]:
        """Yield rows that begin with the ids of the clips that the split there was made from."""
        if storage.exists(path := storage.join(self._progress, _IDS_TXT)):
            with storage.open_file(path) as stream:
                yield from ([line.rstrip("\n")] for line in stream)
            return
        for name in (shards.CLIPS_CSV, shards.FAILURES_CSV):
            if storage.exists(path := storage.join(self.folder, name)):
                rows = (cells for _, cells in storage.read_cells(path, exact=True))
                yield from itertools.islice(rows, 1, None)

    def _check_other_splits(self) -> None:
        """Raise a `ValueError` if another split has other classes or log-mel settings."""
        for split in shards.list_splits(self._out_dir):
            if split == self._config.split:
                continue
            other = shards.read_dataset_info(self._out_dir, split, check_shards=False)
            path = storage.join(self._out_dir, split)
            advice = ". Give one class list and the same log-mel settings, or another --out"
            shards.check_same_input(self, self.folder, other, path, advice)


def count_text(counts: Mapping[str, int]) -> str:
    """Return counts as `kind 3, other 1`."""
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


def _check_clips(clips: Sequence[Clip], class_map: ClassMap) -> None:
    """Raise a `ValueError` if there is no clip, an id occurs twice, or a label is no class."""
    if not clips:
        raise ValueError("clips: expected at least one clip")
    counts = Counter(clip.id for clip in clips)
    if repeated := [clip_id for clip_id, count in counts.items() if count > 1]:
        raise ValueError(f"clips: {len(repeated)} ids occur more than once: {join_some(repeated)}")
    for clip in clips:
        if any(not 0 <= label < len(class_map) for label in clip.labels):
            raise ValueError(
                f"clip {clip.id}: labels: expected indices below {len(class_map)}, "
                f"got {clip.labels}"
            )


def _settings(clips: Sequence[Clip], class_map: ClassMap, config: ConvertConfig) -> dict:
    """Return all that decides the result, to compare with what stands in a folder."""
    ordered = sorted(clips, key=lambda clip: clip.id)
    listed = {
        "ids": [clip.id for clip in ordered],
        # The audio folder may move.
        "files": [clip.path and os.path.basename(clip.path) for clip in ordered],
        "spans": [
            (clip.start_seconds, clip.end_seconds, clip.file_start_seconds) for clip in ordered
        ],
        "labels": [clip.labels for clip in ordered],
        "events": [clip.events for clip in ordered],
    }
    digests = {f"{name} of the clips": _digest(json.dumps(listed[name])) for name in listed}
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
    """Return twelve digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _random_order(clip: Clip) -> tuple[bytes, str]:
    """Return a place drawn from a clip's id, so that each shard is a random sample of the split."""
    return hashlib.blake2b(clip.id.encode(), digest_size=8).digest(), clip.id
