"""Shards written by processes of this machine."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence

from tfrecord_tools.conversion.clip import ConvertConfig, ConvertedClip, convert_clip, failed_clip
from tfrecord_tools.conversion.shard import ShardJob
from tfrecord_tools.parallel import available_cores, ordered_map
from tfrecord_tools.progress import ClipProgress

_FEWEST_CLIPS_PER_WORKER = 8  # to start another process takes as long as a few dozen clips


def convert_shards_locally(
    jobs: Sequence[ShardJob],
    config: ConvertConfig,
    report: Callable[[str], None],
    *,
    workers: int = 0,
    clip_timeout_seconds: float | None = None,
) -> None:
    """Write the shards of `jobs`, in order.

    Args:
        jobs: the shards.
        config: the settings.
        report: gets a line now and then.
        workers: processes; 0 takes one a core. They change the speed, never the result.
        clip_timeout_seconds: most time that a clip may take; one that takes more fails as
            `timeout`. None: any.

    Raises:
        ValueError: if worker processes can't be started.
    """
    clips = list(itertools.chain.from_iterable(job.clips for job in jobs))
    workers = min(workers or available_cores(), max(1, len(clips) // _FEWEST_CLIPS_PER_WORKER))
    convert = functools.partial(convert_clip, config=config)

    def on_clip(clip: ConvertedClip) -> None:
        progress.add(None if clip.failure else clip.seconds)

    results = ordered_map(convert, clips, workers, failed_clip, clip_timeout_seconds)
    with ClipProgress(len(clips), report) as progress, contextlib.closing(results):
        for job in jobs:
            job.write(itertools.islice(results, len(job.clips)), on_clip)
    report(
        f"{progress.done} clips in {progress.seconds:.1f} s with {workers} processes "
        f"({progress.speed:.1f} clips/s)"
    )
