"""Shards written by an Apache Beam pipeline: on this machine, on Dataflow, Flink, Spark, others.

An element is a shard, not a clip: a worker reads the list of its clips, converts them with the
function that the local runner calls too, and writes the shard and its report. So nothing but file
names goes through Beam, log-mels are not shuffled between machines, and a pipeline that was stopped
continues with the shards that are missing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

from tfrecord_tools import storage
from tfrecord_tools.conversion.clip import ConvertConfig, convert_clip
from tfrecord_tools.conversion.shard import ShardJob
from tfrecord_tools.datasets import Clip

NAMESPACE = "tfrecord_tools"  # of the counters


def convert_shards_with_beam(
    jobs: Sequence[ShardJob],
    config: ConvertConfig,
    report: Callable[[str], None],
    *,
    pipeline_args: Sequence[str] = (),
) -> None:
    """Write the shards of `jobs`; all paths in them must be reachable from Beam's workers.

    Args:
        jobs: the shards.
        config: the settings.
        report: gets the counters at the end.
        pipeline_args: Beam's own options, such as `--runner=DataflowRunner`.

    Raises:
        ValueError: if Beam is not installed, or the pipeline fails.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ValueError(
            "--runner=beam needs Apache Beam: pip install 'secost_tf[beam]', or apache-beam"
        ) from error
    elements = []
    for job in jobs:  # a job graph has room for some megabytes, the clips of two million do not fit
        clips_path = f"{job.report_path}.clips"
        storage.write_json(clips_path, [dataclasses.astuple(clip) for clip in job.clips])
        elements.append((clips_path, job.shard_path, job.report_path))
    pipeline = beam.Pipeline(options=PipelineOptions(list(pipeline_args)))
    _ = (
        pipeline
        | "shards" >> beam.Create(elements)
        | "spread" >> beam.Reshuffle()
        | "convert" >> beam.Map(functools.partial(_convert_shard, config=config))
    )
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except Exception as error:  # each runner has its own
        raise ValueError(
            f"the Beam pipeline failed ({type(error).__name__}: {error}); "
            "finished shards are kept, the same command continues"
        ) from error
    of_ours = beam.metrics.MetricsFilter().with_namespace(NAMESPACE)
    counters = result.metrics().query(of_ours)["counters"]
    counts = ", ".join(f"{counter.key.metric.name} {counter.result}" for counter in counters)
    report(f"Beam pipeline {state}: {counts}")


def _convert_shard(paths: tuple[str, str, str], config: ConvertConfig) -> None:
    """Convert the clips that a file lists to a shard: what a worker does with an element."""
    from apache_beam.metrics import Metrics

    clips_path, shard_path, report_path = paths
    clips = [_restore_clip(values) for values in storage.read_json(clips_path)]
    job = ShardJob(clips, shard_path, report_path)
    if job.finished():  # Beam repeats a whole bundle where one of its elements failed
        return
    job.write(
        (convert_clip(clip, config) for clip in clips),
        lambda clip: Metrics.counter(NAMESPACE, "failed" if clip.failure else "converted").inc(),
    )


def _restore_clip(values: list) -> Clip:
    """Return the clip that `dataclasses.astuple` and JSON made lists of."""
    clip = Clip(*values)
    events = tuple((label, onset, offset) for label, onset, offset in clip.events)
    return dataclasses.replace(clip, labels=tuple(clip.labels), events=events)
