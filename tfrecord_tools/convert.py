"""Converts labelled audio to log-mel TFRecord shards.

    python -m tfrecord_tools.convert --dataset=manifest --manifest=labels.csv --split=train --out=DATA_DIR
    python -m tfrecord_tools.convert --dataset=audioset --segments_csv=F --class_labels_csv=F --audio_dir=D --split=eval --out=DATA_DIR

What is written, each file whole or not at all:

    DATA_DIR/<split>/<split>-00000-of-00008.tfrecord ...   the clips, in an order drawn from a hash of their ids
    DATA_DIR/<split>/classes.csv     index, mid, display_name
    DATA_DIR/<split>/clips.csv       video_id, shard, record, num_frames: where each clip is
    DATA_DIR/<split>/failures.csv    id, path, kind, detail: the clips that were left out, and why
    DATA_DIR/<split>/warnings.csv    the same columns: clips that are short, silent or clipped
    DATA_DIR/<split>/dataset.json    settings, counts and statistics; written last, its presence means complete
    DATA_DIR/<split>/progress/       the settings and statistics of finished shards, until the split is complete

The same clips and settings give the same bytes for any number of workers, and also when a conversion was stopped and
started again: it continues with the shards that are not finished.

Several machines share a conversion by `--shard_range`, or through Apache Beam: `--runner=beam`, with Beam's own options
after `--`. Both need an `--out` that all of them reach.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence

from absl import logging

from tfrecord_tools import local_runner, shards, storage
from tfrecord_tools.clip_conversion import ConvertConfig
from tfrecord_tools.commands import WritingSettings, run_command
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.datasets import READERS, read_dataset
from tfrecord_tools.datasets.clips import ClassMap, Clip
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.shard_job import ShardJob
from tfrecord_tools.split_writer import SplitWriter, count_text

Runner = Callable[[Sequence[ShardJob], ConvertConfig, Callable[[str], None]], None]


def convert(
    clips: Sequence[Clip],
    class_map: ClassMap,
    config: ConvertConfig,
    out_dir: str,
    *,
    runner: Runner = local_runner.convert_shards,
    shard_range: tuple[int, int] | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = logging.info,
) -> shards.DatasetInfo | None:
    """Converts one split into `out_dir/<split>`, or finishes or keeps what stands there with the same settings.

    Args:
        clips: the clips; those without a path are counted and listed as missing.
        class_map: the classes that the labels index.
        config: the settings.
        out_dir: the folder of all splits, which share the classes and the log-mel settings.
        runner: writes the shards that it is given (jobs, config, report); `local_runner.convert_shards` or
            `beam_runner.convert_shards`, with their options bound. It changes the speed, never the result.
        shard_range: the first and the last shard to write; others are left to other machines.
        overwrite: replace what stands there.
        report: gets a line now and then, and the summary.

    Returns:
        What `dataset.json` says; None while shards that are not in the range are missing.

    Raises:
        ValueError: if there is no clip, none with audio or none that could be converted, if an id occurs twice, if
            another split, or an unfinished or complete one of this name, was made with other settings (names them), if
            the folder can't be written to, if there is no such shard, or if the runner fails.
    """
    writer = SplitWriter(clips, class_map, config, out_dir)
    first, last = shard_range or (0, len(writer.jobs) - 1)
    if not 0 <= first <= last < len(writer.jobs):
        raise ValueError(f"shard_range: expected shards of 0-{len(writer.jobs) - 1}, got {first}-{last}")
    if overwrite and shard_range:
        raise ValueError("shard_range: does not go with overwrite, which would remove other machines' shards")
    if overwrite:
        writer.clear()
    elif info := writer.complete():
        report(f"{writer.folder} is complete with these settings: kept (--overwrite converts it again)")
        return info
    writer.begin()
    if writer.reports:
        report(f"continuing: {len(writer.reports)} of {len(writer.jobs)} shards were finished before")
    pending = [writer.jobs[index] for index in range(first, last + 1) if index not in writer.reports]
    if pending:
        runner(pending, config, report)
        writer.read_reports()
    unfinished = [index for index in range(len(writer.jobs)) if index not in writer.reports]
    if any(first <= index <= last for index in unfinished):
        raise ValueError(f"{writer.folder}: shards {_ranges(unfinished)} were not written; try again")
    if unfinished:
        report(
            f"{writer.folder}: shards {first}-{last} are finished, {_ranges(unfinished)} are not. When all are, the same "
            "command without --shard_range writes the tables"
        )
        return None
    info = writer.finish()
    _summarise(writer, info, report)
    return info


def _summarise(writer: SplitWriter, info: shards.DatasetInfo, report: Callable[[str], None]) -> None:
    failed = sum(info.failures.values())
    warnings = Counter(problem.kind for problem in writer.warnings())
    report(
        f"{writer.folder}: {info.num_clips} of {info.num_clips + failed} clips converted, "
        f"{info.seconds / 3600:.2f} h of sound, {len(info.shards)} shards, "
        f"{sum(shard.bytes for shard in info.shards) / 1e6:.1f} MB"
    )
    for what, counts, name in (
        ("failed", info.failures, shards.FAILURES_CSV),
        ("warnings", warnings, shards.WARNINGS_CSV),
    ):
        if counts:
            report(f"{what}: {count_text(counts)}; see {storage.join(writer.folder, name)}")


def _ranges(numbers: Sequence[int]) -> str:
    """`0-3, 7, 9-10`, of ascending numbers."""
    groups = itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in run] for _, run in groups]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


# === Command ===


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSettings(Config):
    """What is converted: the options of the readers in `READERS`."""

    dataset: str = setting(help="The reader of audio and labels.", choices=tuple(READERS))
    split: str = setting(
        "train",
        "Split to write: train, eval or validation. manifest and fsd50k read the clips of that "
        "split; for the others, which clips are in it is what the other flags say.",
    )
    audio_dir: str | None = setting(
        None, "Folder of the audio; for a manifest, by default the manifest's own."
    )
    segments_csv: str | None = setting(None, "audioset: the segment list, as Google publishes it.")
    class_labels_csv: str | None = setting(
        None,
        "audioset, dcase, manifest: the classes (index, mid, display_name). By default a manifest's "
        "are its labels, sorted, and those of dcase the ten of DESED.",
    )
    weak_tsv: str | None = setting(None, "dcase: the clips and their labels (filename, event_labels).")
    strong_tsv: str | None = setting(
        None,
        "audioset, dcase: events with onset and offset, stored with the clips. Of dcase without "
        "--weak_tsv, also the clips and their labels.",
    )
    manifest: str | None = setting(None, "manifest: csv of path,labels[,id,start,end,split,fold].")
    folds: tuple[int, ...] = setting(
        (), "esc50, manifest, urbansound8k: folds to take, such as 1,2,3,4. Default: all."
    )
    esc10_only: bool = setting(False, "esc50: only the ten classes of ESC-10.")

    def read(self) -> tuple[list[Clip], ClassMap]:
        """Read the clips and the classes."""
        options = self.to_dict()
        return read_dataset(options.pop("dataset"), options.pop("split"), options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertSettings(WritingSettings):
    """Where to, and how the work is shared out."""

    out: str = setting(help="Folder of all splits; this one goes to OUT/SPLIT.")
    runner: str = setting(
        "local",
        "local: processes on this machine (--workers, --clip_timeout). beam: an Apache Beam pipeline, "
        "whose own options follow after --, as in '--runner=beam -- --runner=FlinkRunner'.",
        choices=("local", "beam"),
    )
    clip_timeout: float = setting(
        60.0,
        "local: most seconds that a clip may take; one that takes more is left out and reported. 0: any.",
        minimum=0,
    )
    shard_range: str | None = setting(
        None,
        "First and last shard to write, such as 0-99, to share the work between machines by hand. "
        "When all are written, the command without it writes the tables. Default: all.",
    )


SETTINGS = (DatasetSettings, ConvertSettings, ConvertConfig, LogMelConfig)


def main(argv: list[str]) -> None:
    """Convert what the flags describe."""
    settings, data = read_flags(ConvertSettings), read_flags(DatasetSettings)
    if settings.runner == "beam":
        from tfrecord_tools import beam_runner  # Beam takes seconds to import

        runner = functools.partial(beam_runner.convert_shards, pipeline_args=argv[1:])
    elif len(argv) > 1:
        raise ValueError(f"unexpected argument {argv[1]!r}: options look like --name=value (see --help)")
    else:
        runner = functools.partial(
            local_runner.convert_shards,
            workers=settings.workers,
            clip_timeout_seconds=settings.clip_timeout or None,
        )
    config = read_flags(
        ConvertConfig, split=data.split, dataset=data.dataset, log_mel=read_flags(LogMelConfig)
    )
    clips, class_map = data.read()
    convert(
        clips,
        class_map,
        config,
        settings.out,
        runner=runner,
        shard_range=_parse_range(settings.shard_range),
        overwrite=settings.overwrite,
        report=functools.partial(print, flush=True),
    )


main.takes_arguments = True  # Beam's options


def _parse_range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match:
        raise ValueError(f"--shard_range: expected the first and the last shard, such as 0-99, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS)


if __name__ == "__main__":
    run()
