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
import csv
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from absl import flags, logging

from tfrecord_tools import schema, shards, storage
from tfrecord_tools.audio import AudioError, load_audio
from tfrecord_tools.commands import run_command
from tfrecord_tools.datasets import READERS, read_dataset
from tfrecord_tools.datasets.clips import ClassMap, Clip
from tfrecord_tools.log_mel import LogMelConfig, log_mel
from tfrecord_tools.parallel import available_cores, ordered_map
from tfrecord_tools.progress import Progress

PROGRESS_DIR = "progress"
SETTINGS_JSON = "settings.json"
ERROR, WARNING = "error", "warning"

_CLIPS_PER_SHARD = 1024  # about 130 MB of AudioSet
_FEWEST_SHARDS, _FEWEST_CLIPS_PER_SHARD = 8, 16


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """What decides the bytes that are written, besides the clips.

    Attributes:
        split: the name of the split and its folder.
        dataset: the reader that the clips came from, for the record.
        log_mel: the log-mel settings.
        feature_dtype: the stored type of the log-mel; float16 halves the size, its rounding is below 0.4 % of a nat.
        clips_per_shard: most clips in a shard; 0 takes 1024, or fewer so that small sets have up to 8 shards of at
            least 16.
    """

    split: str
    dataset: str
    log_mel: LogMelConfig = dataclasses.field(default_factory=LogMelConfig)
    feature_dtype: str = "float16"
    clips_per_shard: int = 0

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.split):
            raise ValueError(f"split: expected letters, digits, '_' and '-' only, got {self.split!r}")
        if self.feature_dtype not in schema.FEATURE_DTYPES:
            raise ValueError(
                f"feature_dtype: expected {' or '.join(schema.FEATURE_DTYPES)}, got {self.feature_dtype!r}"
            )
        if self.clips_per_shard < 0:
            raise ValueError(f"clips_per_shard: expected 0 (automatic) or more, got {self.clips_per_shard}")

    def num_shards(self, num_clips: int) -> int:
        """Number of shards for `num_clips` clips."""
        if self.clips_per_shard:
            return -(-num_clips // self.clips_per_shard)
        return max(
            -(-num_clips // _CLIPS_PER_SHARD), min(_FEWEST_SHARDS, -(-num_clips // _FEWEST_CLIPS_PER_SHARD))
        )


@dataclasses.dataclass(frozen=True)
class Problem:
    """A line of `failures.csv`: an error left its clip out, a warning did not."""

    id: str
    path: str
    severity: str
    kind: str
    detail: str


@dataclasses.dataclass(frozen=True)
class ConvertedClip:
    """What a worker makes of one clip; without a record its problems say why.

    Attributes:
        record: the serialised clip, or None.
        num_frames, seconds: its length.
        total, total_of_squares: float64 [mel_bins], over the frames as they are stored.
        problems: what was wrong.
    """

    clip: Clip
    record: bytes | None = None
    num_frames: int = 0
    seconds: float = 0.0
    total: np.ndarray | None = None
    total_of_squares: np.ndarray | None = None
    problems: tuple[Problem, ...] = ()


def convert_clip(clip: Clip, config: ConvertConfig) -> ConvertedClip:
    """Decodes, transforms and serialises one clip. Whatever is wrong with it is a problem in the result, never raised."""

    def problem(severity: str, kind: str, detail: str) -> Problem:
        return Problem(clip.id, clip.path or "", severity, kind, detail)

    try:
        if clip.path is None:
            raise AudioError("missing", clip.missing)
        audio = load_audio(
            clip.path,
            config.log_mel.sample_rate_hz,
            clip.start_seconds,
            clip.end_seconds,
            clip.file_start_seconds,
        )
        features = log_mel(audio.waveform, config.log_mel)
        if not len(features):
            raise AudioError(
                "too_short",
                f"{audio.duration_seconds:.4f} s, less than one window of {config.log_mel.window_seconds:g} s",
            )
        if not np.isfinite(features).all():
            raise AudioError("non_finite", "samples so large that their power is not finite")
        stored = features.astype(config.feature_dtype)
        record = schema.encode(
            schema.ClipRecord(
                video_id=clip.id,
                log_mel=stored,
                labels=clip.labels,
                start_time_seconds=clip.start_seconds,
                end_time_seconds=clip.start_seconds + audio.duration_seconds,
                events=clip.events,
            )
        )
    except AudioError as error:
        return ConvertedClip(clip, problems=(problem(ERROR, error.kind, error.detail),))
    except Exception as error:  # one clip, whatever is wrong with it, does not stop the others
        return ConvertedClip(
            clip, problems=(problem(ERROR, "unexpected", f"{type(error).__name__}: {error}"),)
        )
    exact = stored.astype(np.float64)
    return ConvertedClip(
        clip,
        record,
        num_frames=len(features),
        seconds=audio.duration_seconds,
        total=exact.sum(axis=0),
        total_of_squares=np.square(exact).sum(axis=0),
        problems=tuple(problem(WARNING, *warning) for warning in audio.warnings),
    )


@dataclasses.dataclass
class _ShardReport:
    """What is kept of a finished shard: enough for `dataset.json`, `clips.csv` and `failures.csv`."""

    bytes: int = 0
    seconds: float = 0.0
    positives: Counter[int] = dataclasses.field(default_factory=Counter)
    total: np.ndarray | float = 0.0
    total_of_squares: np.ndarray | float = 0.0
    clips: list[tuple[str, int]] = dataclasses.field(default_factory=list)  # id, number of frames
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def add(self, converted: ConvertedClip) -> None:
        self.problems += converted.problems
        if converted.record is not None:
            self.clips.append((converted.clip.id, converted.num_frames))
            self.positives.update(converted.clip.labels)
            self.seconds += converted.seconds
            self.total = self.total + converted.total
            self.total_of_squares = self.total_of_squares + converted.total_of_squares

    def to_dict(self) -> dict:
        return {
            **vars(self),
            "positives": sorted(self.positives.items()),
            "total": np.asarray(self.total).tolist(),
            "total_of_squares": np.asarray(self.total_of_squares).tolist(),
            "problems": [dataclasses.astuple(problem) for problem in self.problems],
        }

    @classmethod
    def from_dict(cls, values: dict) -> _ShardReport:
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
        ValueError: if there is no clip or an id occurs twice, if another split, or an unfinished or complete one of this
            name, was made with other settings (names them), if the folder can't be written to, if no clip at all could
            be converted, or if a worker process died.
    """
    _check_clips(clips, class_map)
    settings = _settings(clips, class_map, config)
    _check_other_splits(out_dir, class_map, config)
    folder = storage.join(out_dir, config.split)
    if overwrite:
        _clear(folder, config.split)
    elif shards.has_split(out_dir, config.split):
        info = shards.read_dataset_info(out_dir, config.split)
        _check_settings(info.settings, settings, f"{folder} is complete, but")
        report(f"{folder} is complete with these settings: kept (--overwrite converts it again)")
        return info
    _begin(folder, settings)
    found = sorted((clip for clip in clips if clip.path), key=_random_order)
    missing = [convert_clip(clip, config) for clip in clips if not clip.path]
    count = config.num_shards(len(found))
    plan = [found[index * len(found) // count : (index + 1) * len(found) // count] for index in range(count)]
    names = [shards.shard_name(config.split, index, count) for index in range(count)]
    reports = {index: kept for index, name in enumerate(names) if (kept := _read_report(folder, index, name))}
    if reports:
        report(f"continuing: {len(reports)} of {count} shards were finished before")
    pending = [index for index in range(count) if index not in reports]
    todo = list(itertools.chain.from_iterable(plan[index] for index in pending))
    workers = min(workers or available_cores(), max(1, len(todo)))
    with (
        Progress(len(todo), report) as progress,
        contextlib.closing(
            ordered_map(functools.partial(convert_clip, config=config), todo, workers)
        ) as results,
    ):
        try:
            for index in pending:
                converted = itertools.islice(results, len(plan[index]))
                reports[index] = _write_shard(folder, index, names[index], converted, progress)
        except BrokenProcessPool as error:
            raise ValueError(
                "a worker process died: memory ran out, or a decoder crashed on a file. Finished shards are kept; the "
                "same command continues, with fewer --workers if memory is short"
            ) from error
    info = _finish(out_dir, class_map, config, settings, names, [reports[i] for i in range(count)], missing)
    _summarise(folder, info, reports.values(), progress, report)
    return info


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


def _check_settings(there: dict, asked: dict, what: str) -> None:
    different = [
        f"{name}: {there.get(name)} there, {asked.get(name)} asked for"
        for name in asked
        if there.get(name) != asked.get(name)
    ]
    if different:
        raise ValueError(
            f"{what} was made with other settings or clips: {'; '.join(different)}. Give another --out, or --overwrite "
            "to replace it"
        )


def _check_other_splits(out_dir: str, class_map: ClassMap, config: ConvertConfig) -> None:
    for split in shards.list_splits(out_dir):
        if split == config.split:
            continue
        other = shards.read_dataset_info(out_dir, split, check_shards=False)
        where = f"--out: {out_dir} holds the split {split}"
        if differences := class_map.differences(other.class_map, "here", f"in {split}"):
            raise ValueError(
                f"{where}, whose classes are others: {differences}. Give one class list, or another --out"
            )
        if differences := config.log_mel.differences(other.log_mel):
            raise ValueError(f"{where}, with other log-mel settings (here != there): {differences}")


def _clear(folder: str, split: str) -> None:
    """Removes a split, and nothing else that may lie in its folder; `dataset.json` first."""
    for name in (shards.DATASET_JSON, shards.CLASSES_CSV, shards.CLIPS_CSV, shards.FAILURES_CSV):
        storage.remove(storage.join(folder, name))
    storage.remove_tree(storage.join(folder, PROGRESS_DIR))
    for name in storage.list_dir(folder):
        if re.fullmatch(
            f"({storage.PARTIAL_PREFIX})?{re.escape(split)}" + r"-\d{5}-of-\d{5}\.tfrecord", name
        ):
            storage.remove(storage.join(folder, name))


def _begin(folder: str, settings: dict) -> None:
    """Makes the folder and notes the settings in it, or checks those that an unfinished conversion noted there."""
    path = storage.join(folder, PROGRESS_DIR, SETTINGS_JSON)
    if storage.exists(path):
        _check_settings(storage.read_json(path), settings, f"{folder} is unfinished, and what is there")
        return
    try:
        storage.make_dirs(storage.join(folder, PROGRESS_DIR))
        storage.write_json(path, settings)
    except OSError as error:
        raise ValueError(f"--out: can't write to {folder} ({error.strerror or error})") from error


def _random_order(clip: Clip) -> tuple[bytes, str]:
    """A place drawn from the clip's id alone, so that each shard is a random sample of the split."""
    return hashlib.blake2b(clip.id.encode(), digest_size=8).digest(), clip.id


def _report_path(folder: str, index: int) -> str:
    return storage.join(folder, PROGRESS_DIR, f"{index:05d}.json")


def _read_report(folder: str, index: int, name: str) -> _ShardReport | None:
    """The report of a shard that is finished and stands there whole, else None."""
    path, shard = _report_path(folder, index), storage.join(folder, name)
    if not (storage.exists(path) and storage.exists(shard)):
        return None
    kept = _ShardReport.from_dict(storage.read_json(path))
    return kept if kept.bytes == storage.size(shard) else None


def _write_shard(
    folder: str, index: int, name: str, converted: Iterable[ConvertedClip], progress: Progress
) -> _ShardReport:
    result = _ShardReport()

    def records() -> Iterator[bytes]:
        for clip in converted:
            result.add(clip)
            progress.update(failed=clip.record is None)
            if clip.record is not None:
                yield clip.record

    path = storage.join(folder, name)
    shards.write_records(path, records())
    result.bytes = storage.size(path)
    storage.write_json(_report_path(folder, index), result.to_dict())
    return result


def _finish(
    out_dir: str,
    class_map: ClassMap,
    config: ConvertConfig,
    settings: dict,
    names: list[str],
    reports: list[_ShardReport],
    missing: list[ConvertedClip],
) -> shards.DatasetInfo:
    """Writes the tables and, last, `dataset.json`; removes the notes of progress."""
    folder = storage.join(out_dir, config.split)
    problems = [problem for done in (*missing, *reports) for problem in done.problems]
    problems.sort(key=lambda problem: (problem.severity, problem.id))
    header = [field.name for field in dataclasses.fields(Problem)]
    _write_csv(storage.join(folder, shards.FAILURES_CSV), header, map(dataclasses.astuple, problems))
    failures = dict(
        sorted(Counter(problem.kind for problem in problems if problem.severity == ERROR).items())
    )
    num_clips = sum(len(done.clips) for done in reports)
    if not num_clips:
        storage.remove_tree(storage.join(folder, PROGRESS_DIR))
        raise ValueError(
            f"not one of {sum(failures.values())} clips could be converted: {_counts(failures)}. The first: "
            f"{problems[0].id}: {problems[0].detail}. All are in {storage.join(folder, shards.FAILURES_CSV)}"
        )
    class_map.write(storage.join(folder, shards.CLASSES_CSV))
    rows = (
        (clip_id, shard, record, num_frames)
        for shard, done in enumerate(reports)
        for record, (clip_id, num_frames) in enumerate(done.clips)
    )
    _write_csv(storage.join(folder, shards.CLIPS_CSV), shards.CLIPS_COLUMNS, rows)
    frames = sum(num_frames for done in reports for _, num_frames in done.clips)
    mean = sum(done.total for done in reports) / frames
    variance = np.maximum(0.0, sum(done.total_of_squares for done in reports) / frames - np.square(mean))
    positives = sum((done.positives for done in reports), Counter())
    info = shards.DatasetInfo(
        split=config.split,
        dataset=config.dataset,
        log_mel=config.log_mel,
        feature_dtype=config.feature_dtype,
        class_map=class_map,
        num_clips=num_clips,
        seconds=sum(done.seconds for done in reports),
        max_frames=max(num_frames for done in reports for _, num_frames in done.clips),
        positives=tuple(positives[index] for index in range(len(class_map))),
        mean=tuple(mean.tolist()),
        variance=tuple(variance.tolist()),
        shards=tuple(
            shards.Shard(name, len(done.clips), done.bytes) for name, done in zip(names, reports, strict=True)
        ),
        failures=failures,
        settings=settings,
    )
    info.write(out_dir)
    storage.remove_tree(storage.join(folder, PROGRESS_DIR))
    return info


def _write_csv(path: str, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with storage.atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counter.items()))


def _summarise(
    folder: str,
    info: shards.DatasetInfo,
    reports: Iterable[_ShardReport],
    progress: Progress,
    report: Callable[[str], None],
) -> None:
    failed = sum(info.failures.values())
    warnings = Counter(p.kind for done in reports for p in done.problems if p.severity == WARNING)
    report(
        f"{folder}: {info.num_clips} of {info.num_clips + failed} clips converted, {info.seconds / 3600:.2f} h of sound, "
        f"{len(info.shards)} shards, {sum(shard.bytes for shard in info.shards) / 1e6:.1f} MB; "
        f"{progress.done} clips in {progress.seconds:.1f} s ({progress.clips_per_second:.1f} clips/s)"
    )
    if failed:
        report(f"failed: {_counts(info.failures)}; see {storage.join(folder, shards.FAILURES_CSV)}")
    if warnings:
        report(f"warnings: {_counts(warnings)}; see {storage.join(folder, shards.FAILURES_CSV)}")


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
