"""Converts labelled audio to log-mel TFRecord shards.

    python -m tfrecord_tools.convert --dataset=manifest --manifest=labels.csv --split=train \\
        --out=DATA_DIR
    python -m tfrecord_tools.convert --dataset=audioset --segments_csv=F --class_labels_csv=F \\
        --audio_dir=D --split=eval --out=DATA_DIR

What is written, each file whole or not at all:

    DATA_DIR/<split>/<split>-00000-of-00008.tfrecord ...   the clips, in a random but fixed order
    DATA_DIR/<split>/classes.csv     index, mid, display_name
    DATA_DIR/<split>/clips.csv       video_id, shard, record, num_frames: where each clip is
    DATA_DIR/<split>/failures.csv    id, path, kind, detail: the clips that were left out, and why
    DATA_DIR/<split>/warnings.csv    the same columns: clips that are short, silent or clipped
    DATA_DIR/<split>/dataset.json    settings, counts and statistics; it means that all is there
    DATA_DIR/<split>/progress/       settings and statistics of finished shards, until all are there

The same clips and settings give the same bytes for any number of workers, and also when a
conversion was stopped and started again: it continues with the shards that are not finished.

Several machines share a conversion by `--shard_range`, or through Apache Beam: `--runner=beam`,
with Beam's own options after `--`. Both need an `--out` that all of them reach.
"""

from __future__ import annotations

import dataclasses
import functools
import re

from tfrecord_tools import conversion
from tfrecord_tools.commands import WritingSettings, run_command
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.conversion import ConvertConfig, convert_dataset
from tfrecord_tools.datasets import READERS, ClassMap, Clip, read_dataset
from tfrecord_tools.log_mel import LogMelConfig


# === Command ===
@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSettings(Config):
    """The options of the readers in `READERS`."""

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
        "audioset, dcase, manifest: the classes (index, mid, display_name). By default a "
        "manifest's are its labels, sorted, and those of dcase the ten of DESED.",
    )
    weak_tsv: str | None = setting(
        None, "dcase: the clips and their labels (filename, event_labels)."
    )
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
    """The folder to write to, and how the work is shared out."""

    out: str = setting(help="Folder of all splits; this one goes to OUT/SPLIT.")
    runner: str = setting(
        "local",
        "local: processes on this machine (--workers, --clip_timeout). beam: an Apache Beam "
        "pipeline, whose own options follow after --, as in "
        "'--runner=beam -- --runner=FlinkRunner'.",
        choices=("local", "beam"),
    )
    clip_timeout: float = setting(
        60.0,
        "local: most seconds that a clip may take; one that takes more is left out and reported. "
        "0: any.",
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
        convert_shards = conversion.convert_shards_with_beam  # Beam takes seconds to import
        runner = functools.partial(convert_shards, pipeline_args=argv[1:])
    elif len(argv) > 1:
        raise ValueError(
            f"unexpected argument {argv[1]!r}: options look like --name=value (see --help)"
        )
    else:
        runner = functools.partial(
            conversion.convert_shards_locally,
            workers=settings.workers,
            clip_timeout_seconds=settings.clip_timeout or None,
        )
    config = read_flags(
        ConvertConfig, split=data.split, dataset=data.dataset, log_mel=read_flags(LogMelConfig)
    )
    clips, class_map = data.read()
    convert_dataset(
        clips,
        class_map,
        config,
        settings.out,
        runner=runner,
        shard_range=_parse_range(settings.shard_range),
        overwrite=settings.overwrite,
        report=functools.partial(print, flush=True),
    )


def _parse_range(text: str | None) -> tuple[int, int] | None:
    """Return the first and the last number of `0-99` or `7`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match:
        raise ValueError(
            f"--shard_range: expected the first and the last shard, such as 0-99, got {text!r}"
        )
    return int(match[1]), int(match[2] or match[1])


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS, takes_arguments=True)  # Beam's options


if __name__ == "__main__":
    run()
