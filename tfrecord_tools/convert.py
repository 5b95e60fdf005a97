"""Converts labelled audio to log-mel TFRecord shards.

    python -m tfrecord_tools.convert --dataset=manifest --manifest=labels.csv --split=train --out=DATA_DIR
    python -m tfrecord_tools.convert --dataset=audioset --segments_csv=F --class_labels_csv=F --audio_dir=D --split=eval --out=DATA_DIR

What is written, each file whole or not at all:

    DATA_DIR/<split>/<split>-00000-of-00008.tfrecord ...   the clips, in an order drawn from a hash of their ids
    DATA_DIR/<split>/classes.csv     index, mid, display_name
    DATA_DIR/<split>/clips.csv       video_id, shard, record, num_frames: where each clip is
    DATA_DIR/<split>/failures.csv    id, path, severity, kind, detail: an error left the clip out, a warning did not
    DATA_DIR/<split>/dataset.json    settings, counts and statistics; written last, its presence means complete
    DATA_DIR/<split>/progress/       the settings and statistics of finished shards, until the split is complete

The same clips and settings give the same bytes for any number of workers, and also when a conversion was stopped and
started again: it continues with the first shard that is not finished.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool

from absl import flags, logging

from tfrecord_tools import schema, shards, storage
from tfrecord_tools.clip_conversion import WARNING, ConvertConfig, convert_clip
from tfrecord_tools.commands import run_command
from tfrecord_tools.datasets import READERS, read_dataset
from tfrecord_tools.datasets.clips import ClassMap, Clip
from tfrecord_tools.log_mel import LogMelConfig
from tfrecord_tools.parallel import available_cores, ordered_map
from tfrecord_tools.progress import Progress
from tfrecord_tools.split_writer import SplitWriter, count_text

_FEWEST_CLIPS_PER_WORKER = 8  # to start another process takes as long as a few dozen clips


def convert(
    clips: Sequence[Clip],
    class_map: ClassMap,
    config: ConvertConfig,
    out_dir: str,
    *,
    workers: int = 0,
    overwrite: bool = False,
    report: Callable[[str], None] = logging.info,
) -> shards.DatasetInfo:
    """Converts one split into `out_dir/<split>`, or finishes or keeps what stands there with the same settings.

    Args:
        clips: the clips; those without a path are counted and listed as missing.
        class_map: the classes that the labels index.
        config: the settings.
        out_dir: the folder of all splits, which share the classes and the log-mel settings.
        workers: processes; 0 takes one a core. They change the speed, never the result.
        overwrite: replace what stands there.
        report: gets a line now and then, and the summary.

    Raises:
        ValueError: if there is no clip, none with audio or none that could be converted, if an id occurs twice, if
            another split, or an unfinished or complete one of this name, was made with other settings (names them), if
            the folder can't be written to, or if a worker process died.
    """
    writer = SplitWriter(clips, class_map, config, out_dir)
    if overwrite:
        writer.clear()
    elif info := writer.complete():
        report(f"{writer.folder} is complete with these settings: kept (--overwrite converts it again)")
        return info
    writer.begin()
    pending = [index for index in range(len(writer.plan)) if index not in writer.reports]
    if writer.reports:
        report(f"continuing: {len(writer.reports)} of {len(writer.plan)} shards were finished before")
    todo = list(itertools.chain.from_iterable(writer.plan[index] for index in pending))
    workers = min(workers or available_cores(), max(1, len(todo) // _FEWEST_CLIPS_PER_WORKER))
    convert_one = functools.partial(convert_clip, config=config)
    with (
        Progress(len(todo), report) as progress,
        contextlib.closing(ordered_map(convert_one, todo, workers)) as results,
    ):
        try:
            for index in pending:
                writer.write_shard(
                    index,
                    itertools.islice(results, len(writer.plan[index])),
                    on_clip=lambda clip: progress.update(failed=clip.record is None),
                )
        except BrokenProcessPool as error:
            raise ValueError(
                "a worker process died: memory ran out, or a decoder crashed on a file. Finished shards are kept; the "
                "same command continues, with fewer --workers if memory is short"
            ) from error
    info = writer.finish()
    _summarise(writer, info, progress, report)
    return info


def _summarise(
    writer: SplitWriter, info: shards.DatasetInfo, progress: Progress, report: Callable[[str], None]
) -> None:
    failed = sum(info.failures.values())
    warnings = Counter(problem.kind for problem in writer.problems(WARNING))
    report(
        f"{writer.folder}: {info.num_clips} of {info.num_clips + failed} clips converted, "
        f"{info.seconds / 3600:.2f} h of sound, {len(info.shards)} shards, "
        f"{sum(shard.bytes for shard in info.shards) / 1e6:.1f} MB; "
        f"{progress.done} clips in {progress.seconds:.1f} s ({progress.clips_per_second:.1f} clips/s)"
    )
    for what, counts in (("failed", info.failures), ("warnings", warnings)):
        if counts:
            report(f"{what}: {count_text(counts)}; see {storage.join(writer.folder, shards.FAILURES_CSV)}")


# === Command ===

_LOG_MEL_HELP = {
    "sample_rate_hz": "Sample rate, in Hz, that sound is resampled to; a higher one keeps higher frequencies.",
    "window_seconds": "Length of an analysis window, in seconds; longer resolves frequency better, time worse.",
    "hop_seconds": "Distance between windows, in seconds; smaller gives more frames.",
    "fft_length": "Points of the Fourier transform, at least the window's samples; more gives finer bins.",
    "mel_bins": "Mel bands of a frame.",
    "mel_min_hz": "Lower edge of the lowest mel band, in Hz.",
    "mel_max_hz": "Upper edge of the highest mel band, in Hz; at most half the sample rate.",
    "log_offset": "Added to the mel power before the logarithm; the floor that silence has.",
}


def define_log_mel_flags() -> None:
    """One flag a field of `LogMelConfig`, with its default."""
    for field in dataclasses.fields(LogMelConfig):
        define = flags.DEFINE_integer if isinstance(field.default, int) else flags.DEFINE_float
        define(field.name, field.default, _LOG_MEL_HELP[field.name])


def define_dataset_flags() -> None:
    """The flags of the readers in `READERS`."""
    flags.DEFINE_enum("dataset", None, list(READERS), "The reader of audio and labels.", required=True)
    flags.DEFINE_string(
        "split", "train", "Split to write: train, eval or validation; a manifest's rows of it."
    )
    flags.DEFINE_string(
        "audio_dir", None, "Folder of the audio; for a manifest, by default the manifest's own."
    )
    flags.DEFINE_string("segments_csv", None, "audioset: the segment list, as Google publishes it.")
    flags.DEFINE_string(
        "class_labels_csv",
        None,
        "audioset, manifest: the classes (index, mid, display_name). A manifest's are by default its labels, sorted.",
    )
    flags.DEFINE_string(
        "strong_tsv", None, "audioset: events with onset and offset, optional; stored with the clips."
    )
    flags.DEFINE_string("manifest", None, "manifest: csv of path,labels[,id,start,end,split,fold].")
    flags.DEFINE_list("folds", [], "esc50, manifest: folds to take, such as 1,2,3,4. Default: all.")
    flags.DEFINE_boolean("esc10_only", False, "esc50: only the ten classes of ESC-10.")


def define_convert_flags() -> None:
    """The flags of the conversion itself."""
    flags.DEFINE_string("out", None, "Folder of all splits; this one goes to OUT/SPLIT.", required=True)
    flags.DEFINE_integer(
        "workers", 0, "Processes; changes the speed, never the result. 0: one a core.", lower_bound=0
    )
    flags.DEFINE_integer(
        "clips_per_shard",
        0,
        "Most clips in a shard file. 0: 1024, fewer in a small set so that it has up to 8 shards.",
        lower_bound=0,
    )
    flags.DEFINE_enum(
        "feature_dtype",
        "float16",
        schema.FEATURE_DTYPES,
        "Stored type of the log-mel; float32 doubles the size.",
    )
    flags.DEFINE_boolean(
        "overwrite",
        False,
        "Replace the split in --out. Default: keep it, or an error if its settings differ.",
    )


def main(argv: list[str]) -> None:
    """Converts what the flags describe."""
    del argv
    args = flags.FLAGS
    config = ConvertConfig(
        split=args.split,
        dataset=args.dataset,
        log_mel=LogMelConfig(
            **{field.name: args[field.name].value for field in dataclasses.fields(LogMelConfig)}
        ),
        feature_dtype=args.feature_dtype,
        clips_per_shard=args.clips_per_shard,
    )
    options = {
        name: args[name].value
        for reader in READERS.values()
        for name in (*reader.required, *reader.optional)
        if name != "split"
    }
    options["folds"] = _parse_folds(args.folds)
    clips, class_map = read_dataset(args.dataset, args.split, options)
    convert(
        clips,
        class_map,
        config,
        args.out,
        workers=args.workers,
        overwrite=args.overwrite,
        report=functools.partial(print, flush=True),
    )


def _parse_folds(texts: list[str]) -> tuple[int, ...]:
    try:
        return tuple(int(text) for text in texts)
    except ValueError:
        raise ValueError(
            f"--folds: expected whole numbers, such as 1,2,3,4, got {','.join(texts)!r}"
        ) from None


def run() -> None:
    """The console script."""
    run_command(main, define_dataset_flags, define_convert_flags, define_log_mel_flags)


if __name__ == "__main__":
    run()
