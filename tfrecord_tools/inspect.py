"""Shows what a folder of converted splits holds, checks every record of it, and draws it.

python -m tfrecord_tools.inspect DATA_DIR [--split=train] [--verify] [--plot=FILE.png] [--all]
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

import numpy as np

from tfrecord_tools import shards, storage
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.datasets import read_class_map
from tfrecord_tools.shards import ClipRecord, DatasetInfo, decode, dequantize
from tfrecord_tools.text import format_size

_MOST_LINES = 20  # of classes, unless all are asked for

_MOST_PLOTS = 60

_MOST_RECORDS_SEARCHED = 4096  # for clips to draw


def describe(data_dir: str, info: DatasetInfo, all_classes: bool = False) -> str:
    """Lines that say what a split holds: size, settings, clips per class, failures."""
    settings = info.log_mel
    size = sum(shard.bytes for shard in info.shards)
    per_shard = sorted(shard.clips for shard in info.shards)
    compressed = f" ({info.compression})" * (info.compression != "NONE")
    lines = [
        f"{storage.join(data_dir, info.split)}: {info.num_clips} clips, {info.seconds / 3600:.2f} h, from {info.dataset}",
        f"  {len(info.shards)} shards of {per_shard[0]} to {per_shard[-1]} clips, {format_size(size)} "
        f"({format_size(size / info.num_clips)} a clip)",
        f"  log-mel {info.feature_dtype}{compressed}: {settings.mel_bins} bins from {settings.mel_min_hz:g} to "
        f"{settings.mel_max_hz:g} Hz, window {1e3 * settings.window_seconds:g} ms, hop {1e3 * settings.hop_seconds:g} ms, "
        f"at {settings.sample_rate_hz} Hz; longest clip {info.max_frames} frames",
        f"  mean {np.mean(info.mean):.2f}, standard deviation {np.sqrt(np.mean(info.variance)):.2f} (averages of the bins)",
        f"  {len(info.class_map)} classes, {sum(info.positives) / info.num_clips:.2f} labels a clip; clips per class:",
    ]
    order = sorted(range(len(info.class_map)), key=lambda i: (-info.positives[i], i))
    shown = order if all_classes else order[:_MOST_LINES]
    lines += [f"  {info.positives[i]:>9}  {info.class_map.display_names[i]}" for i in shown]
    if len(shown) < len(order):
        rest = [info.positives[i] for i in order[len(shown) :]]
        lines.append(
            f"        ...  {len(rest)} more classes of {rest[0]} to {rest[-1]} clips (--all shows them)"
        )
    failures = ", ".join(f"{kind} {count}" for kind, count in info.failures.items())
    lines.append(f"  failed: {failures or 'none'}")
    return "\n".join(lines)


def verify(data_dir: str, info: DatasetInfo) -> list[str]:
    """Reads every record of a split; returns a sentence for each thing that is wrong, empty if
    nothing is.

    Checked are each shard's presence, size and checksums; each record's form, number of frames,
    finite values, labels and id; that ids are unique; and that `clips.csv`, `classes.csv` and the
    counts and statistics in `dataset.json` agree.
    """
    problems = list(shards.shard_problems(data_dir, info))
    damaged = bool(problems)
    seen: dict[str, str] = {}
    positives: Counter[int] = Counter()
    rows, total, frames, max_frames = [], np.zeros(info.log_mel.mel_bins), 0, 0
    for index, (shard, path) in enumerate(
        zip(info.shards, info.shard_paths(data_dir), strict=True)
    ):
        if not storage.exists(path):
            continue
        count = 0
        try:
            for count, data in enumerate(shards.read_records(path, info.compression), start=1):
                where = f"{path}: record {count - 1}"
                try:
                    record = decode(data, info.feature_dtype, info.log_mel.mel_bins)
                except ValueError as error:
                    problems.append(f"{where}: {error}")
                    continue
                problems += [f"{where}: {problem}" for problem in _record_problems(record, info)]
                if (first := seen.setdefault(record.video_id, where)) != where:
                    problems.append(
                        f"{where}: clip id {record.video_id!r} was there before, at {first}"
                    )
                rows.append((record.video_id, index, count - 1, len(record.log_mel)))
                positives.update(record.labels)
                total += (
                    dequantize(record.log_mel, info.feature_range).astype(np.float64).sum(axis=0)
                )
                frames += len(record.log_mel)
                max_frames = max(max_frames, len(record.log_mel))
        except (
            ValueError
        ) as error:  # names file and record; what follows in the file can't be found
            problems.append(str(error))
            damaged = True
        else:
            if count != shard.clips:
                problems.append(
                    f"{path}: {count} records, {shards.DATASET_JSON} says {shard.clips}"
                )
    if not damaged:  # else the counts can't be right
        problems += _count_problems(data_dir, info, positives, total / max(frames, 1), max_frames)
    problems += _table_problems(data_dir, info, rows, damaged)
    return problems


def _record_problems(record: ClipRecord, info: DatasetInfo) -> Iterator[str]:
    if not len(record.log_mel):
        yield "no frames"
    if not np.isfinite(record.log_mel).all():
        yield "log-mel values that are not finite"
    wrong = [label for label in record.labels if not 0 <= label < len(info.class_map)]
    if wrong:
        yield f"labels {wrong} are not among the {len(info.class_map)} classes"


def _count_problems(
    data_dir: str, info: DatasetInfo, positives: Counter[int], mean: np.ndarray, max_frames: int
) -> Iterator[str]:
    path = storage.join(data_dir, info.split, shards.DATASET_JSON)
    if sum(shard.clips for shard in info.shards) != info.num_clips:
        yield f"{path}: num_clips is {info.num_clips}, its shards have {sum(shard.clips for shard in info.shards)}"
    for index, said in enumerate(info.positives):
        if positives[index] != said:
            name = info.class_map.display_names[index]
            yield f"{path}: {said} positive clips of {name}, the records have {positives[index]}"
    if max_frames != info.max_frames:
        yield f"{path}: max_frames is {info.max_frames}, the longest record has {max_frames}"
    if not np.allclose(mean, info.mean, atol=1e-6):
        yield f"{path}: the mean is not that of the records (off by up to {np.abs(mean - info.mean).max():.2g})"


def _table_problems(
    data_dir: str, info: DatasetInfo, rows: list[tuple[str, int, int, int]], damaged: bool
) -> Iterator[str]:
    folder = storage.join(data_dir, info.split)
    try:
        if differences := info.class_map.differences(
            read_class_map(storage.join(folder, shards.CLASSES_CSV)),
            shards.DATASET_JSON,
            shards.CLASSES_CSV,
        ):
            yield f"{folder}: {differences}"
        listed = shards.read_clips_csv(data_dir, info.split)
    except ValueError as error:
        yield str(error)
        return
    path = storage.join(folder, shards.CLIPS_CSV)
    found = {(shard, record): (clip_id, num_frames) for clip_id, shard, record, num_frames in rows}
    for clip_id, shard, record, num_frames in listed:
        there = found.pop((shard, record), None)
        if there != (clip_id, num_frames) and not (damaged and there is None):
            is_there = f"{there[0]!r} with {there[1]} frames" if there else "no readable record"
            yield (
                f"{path}: shard {shard}, record {record}: {clip_id!r} with {num_frames} frames is listed, there is {is_there}"
            )
    for (shard, record), (clip_id, _) in found.items():
        yield f"{path}: shard {shard}, record {record}: {clip_id!r} is not listed"


# === Picture ===
def plot(data_dir: str, info: DatasetInfo, path: str) -> None:
    """Draws the log-mel of one clip of each class, for the 60 most frequent at most, and the clips
    per class; a PNG.
    """
    from matplotlib.figure import Figure

    from tfrecord_tools.plots import draw_log_mel  # imports Matplotlib

    order = sorted(range(len(info.class_map)), key=lambda i: (-info.positives[i], i))
    chosen = [index for index in order[:_MOST_PLOTS] if info.positives[index]]
    examples = _examples(data_dir, info, chosen)
    chosen = [index for index in chosen if index in examples]
    if not chosen:
        raise ValueError(
            f"{storage.join(data_dir, info.split)}: no clip has a label, so that there is nothing to draw"
        )
    columns = min(4 if len(chosen) <= 16 else 6, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(14, 2.4 * rows + 3.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[2.4 * rows, 3.2])
    upper.suptitle(
        f"{storage.join(data_dir, info.split)}: {info.num_clips} clips, {info.seconds / 3600:.2f} h",
        fontsize=12,
    )
    axes = upper.subplots(rows, columns, squeeze=False)
    # One scale for all: the range of what is drawn, without the floor of digital silence.
    values = np.concatenate([examples[index].log_mel.ravel() for index in chosen])
    low, high = np.percentile(values, (2, 99.8))
    for axis, index in zip(axes.flat, chosen, strict=False):
        record = examples[index]
        image = draw_log_mel(axis, record.log_mel, info.log_mel, low, high)
        others = len(record.labels) - 1
        axis.set_title(
            info.class_map.display_names[index] + (f" (+{others} more)" if others else ""),
            fontsize=10,
        )
    for axis in axes.flat[len(chosen) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("frequency (Hz)")
    for place, axis in enumerate(axes.flat[: len(chosen)]):
        if place + columns >= len(chosen):
            axis.set_xlabel("time (s)")
    upper.colorbar(image, ax=axes, label="log mel power (nat)", shrink=0.8, pad=0.01)
    _draw_histogram(lower.subplots(), info, order)
    with storage.atomic_write(path, "wb") as stream:
        figure.savefig(stream, dpi=110, format="png")


def _examples(data_dir: str, info: DatasetInfo, classes: list[int]) -> dict[int, ClipRecord]:
    """For each class the first clip with the fewest labels besides it, among the first few
    thousand.
    """
    examples: dict[int, ClipRecord] = {}
    searched = 0
    for path in info.shard_paths(data_dir):
        for data in shards.read_records(path, info.compression):
            record = decode(data, info.feature_dtype, info.log_mel.mel_bins)
            record = dataclasses.replace(
                record, log_mel=dequantize(record.log_mel, info.feature_range)
            )
            for index in set(record.labels).intersection(classes):
                if index not in examples or len(record.labels) < len(examples[index].labels):
                    examples[index] = record
            searched += 1
            alone = sum(len(record.labels) == 1 for record in examples.values())
            if searched >= _MOST_RECORDS_SEARCHED or alone == len(classes):
                return examples
    return examples


def _draw_histogram(axis, info: DatasetInfo, order: list[int]) -> None:
    counts = [info.positives[index] for index in order]
    axis.bar(range(len(order)), counts, width=0.8 if len(order) <= 40 else 1.0, color="#31688e")
    if len(order) <= 40:
        names = [info.class_map.display_names[index] for index in order]
        axis.set_xticks(range(len(order)), names, rotation=30, ha="right", fontsize=9)
    else:
        axis.set_xlabel("class, by number of clips")
    if min(counts) and max(counts) > 50 * min(counts):
        axis.set_yscale("log")
    axis.margins(x=0.01)
    axis.set_ylabel("clips")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(
        f"clips per class: {min(counts)} to {max(counts)}, {len(order)} classes", fontsize=10
    )


# === Command ===
@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectSettings(Config):
    """What to show."""

    split: str | None = setting(
        None, "Split to show. Default: all; drawn is train, or else the first."
    )
    verify: bool = setting(
        False, "Read and check every record; the exit status is 1 if anything is wrong."
    )
    plot: str | None = setting(
        None,
        f"PNG file to draw a log-mel of each class ({_MOST_PLOTS} at most) and a histogram to.",
    )
    all: bool = setting(False, f"List every class. Default: the {_MOST_LINES} with the most clips.")


SETTINGS = (InspectSettings,)


def main(argv: list[str]) -> int:
    """Print, check and draw what the flags ask for; return the exit status."""
    settings = read_flags(InspectSettings)
    if len(argv) != 2:
        raise ValueError(f"expected one folder, as in: inspect DATA_DIR; got {len(argv) - 1}")
    data_dir = argv[1]
    splits = [settings.split] if settings.split else shards.list_splits(data_dir) or ["train"]
    status = 0
    for split in splits:
        info = shards.read_dataset_info(data_dir, split, check_shards=not settings.verify)
        print(describe(data_dir, info, settings.all))
        if settings.verify:
            problems = verify(data_dir, info)
            print(
                *(f"  wrong: {problem}" for problem in problems),
                sep="\n",
                end="\n" * bool(problems),
            )
            print(
                f"  {len(problems)} problems"
                if problems
                else f"  verified: all {info.num_clips} records are sound"
            )
            status = 1 if problems else status
    if settings.plot:
        split = "train" if "train" in splits else splits[0]
        plot(data_dir, shards.read_dataset_info(data_dir, split), settings.plot)
        print(f"drawn to {settings.plot}")
    return status


def run() -> None:
    """The console script."""
    run_command(main, *SETTINGS, takes_arguments=True)


if __name__ == "__main__":
    run()
