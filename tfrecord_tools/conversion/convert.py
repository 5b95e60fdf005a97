"""The conversion of a split: plan, shards, tables."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

from absl import logging

from tfrecord_tools import shards, storage
from tfrecord_tools.conversion import local_runner
from tfrecord_tools.conversion.clip import ConvertConfig
from tfrecord_tools.conversion.shard import ShardJob
from tfrecord_tools.conversion.split import SplitWriter, count_text
from tfrecord_tools.datasets import ClassMap, Clip
from tfrecord_tools.text import format_size

Runner = Callable[[Sequence[ShardJob], ConvertConfig, Callable[[str], None]], None]


def convert_dataset(
    clips: Sequence[Clip],
    class_map: ClassMap,
    config: ConvertConfig,
    out_dir: str,
    *,
    runner: Runner = local_runner.convert_shards_locally,
    shard_range: tuple[int, int] | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = logging.info,
) -> shards.DatasetInfo | None:
    """Convert a split into `out_dir/<split>`, or finish or keep what has the same settings there.

    Args:
        clips: the clips; those without a path are counted and listed as missing.
        class_map: the classes that the labels index.
        config: the settings.
        out_dir: the folder of all splits, which share the classes and the log-mel settings.
        runner: writes the shards that it is given (jobs, config, report);
            `local_runner.convert_shards` or `beam_runner.convert_shards`, with their options bound.
            It changes the speed, never the result.
        shard_range: the first and the last shard to write; others are left to other machines.
        overwrite: replace what stands there.
        report: gets a line now and then, and the summary.

    Returns:
        What `dataset.json` says; None while shards that are not in the range are missing.

    Raises:
        ValueError: if there is no clip, none with audio or none that could be converted, if an id
            occurs twice, if another split, or an unfinished or complete one of this name, was made
            with other settings (names them), if the folder can't be written to, if there is no such
            shard, or if the runner fails.
    """
    writer = SplitWriter(clips, class_map, config, out_dir)
    count = len(writer.jobs)
    first, last = shard_range or (0, count - 1)
    if not 0 <= first <= last < count:
        raise ValueError(f"shard_range: expected shards of 0-{count - 1}, got {first}-{last}")
    if overwrite and shard_range:
        raise ValueError(
            "shard_range: does not go with overwrite, which would remove other machines' shards"
        )
    if overwrite:
        writer.clear()
    elif info := writer.complete():
        report(
            f"{writer.folder} is complete with these settings: kept (--overwrite converts it again)"
        )
        return info
    writer.begin()
    if writer.reports:
        report(f"continuing: {len(writer.reports)} of {count} shards were finished before")
    jobs = [writer.jobs[i] for i in range(first, last + 1) if i not in writer.reports]
    if jobs:
        runner(jobs, config, report)
        writer.read_reports()
    if unfinished := [index for index in range(count) if index not in writer.reports]:
        numbers = _format_ranges(unfinished)
        if any(first <= index <= last for index in unfinished):
            raise ValueError(f"{writer.folder}: shards {numbers} were not written; try again")
        report(
            f"{writer.folder}: shards {first}-{last} are finished, {numbers} are not. "
            "When all are, the same command without --shard_range writes the tables"
        )
        return None
    info = writer.finish()
    _summarise(writer, info, report)
    return info


def _summarise(
    writer: SplitWriter, info: shards.DatasetInfo, report: Callable[[str], None]
) -> None:
    """Report the size of a split and what went wrong."""
    failed = sum(info.failures.values())
    report(
        f"{writer.folder}: {info.num_clips} of {info.num_clips + failed} clips converted, "
        f"{info.seconds / 3600:.2f} h of sound, {len(info.shards)} shards, "
        f"{format_size(sum(shard.bytes for shard in info.shards))}"
    )
    warnings = Counter(problem.kind for problem in writer.warnings())
    tables = {shards.FAILURES_CSV: info.failures, shards.WARNINGS_CSV: warnings}
    for title, (name, counts) in zip(("failed", "warnings"), tables.items(), strict=True):
        if counts:
            report(f"{title}: {count_text(counts)}; see {storage.join(writer.folder, name)}")


def _format_ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as `0-3, 7, 9-10`."""
    groups = itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in run] for _, run in groups]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
