"""Shows the splits in a folder, checks every record of them, and draws them.

python -m tfrecord_tools.inspect DATA_DIR [--split=train] [--verify] [--plot=FILE.png] [--all]
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tfrecord_tools import shards, storage
from tfrecord_tools.commands import run_command
from tfrecord_tools.config import Config, setting
from tfrecord_tools.config_flags import read_flags
from tfrecord_tools.datasets import read_class_map
from tfrecord_tools.shards import ClipRecord, DatasetInfo, decode, dequantize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LINES = 20  # of classes, unless all are asked for

_MOST_PLOTS = 60

_MOST_RECORDS_SEARCHED = 4096  # for clips to draw


def describe(data_dir: str, info: DatasetInfo, all_classes: bool = False) -> str:
    """Return lines on what a split holds: size, settings, clips per class, failures."""
    settings = info.log_mel
    size = sum(shard.bytes for shard in info.shards)
    per_shard = sorted(shard.clips for shard in info.shards)
    compressed = f" ({info.compression})" * (info.compression != "NONE")
    names, counts = info.class_map.display_names, info.positives
    deviation = np.sqrt(np.mean(info.variance))
    order = _frequent_first(info)
    num_shown = len(order) if all_classes else _MOST_LINES
    lines = [
        f"{_title(data_dir, info)}, from {info.dataset}",
        f"  {len(info.shards)} shards of {per_shard[0]} to {per_shard[-1]} clips, "
        f"{size / 1e6:.1f} MB ({size / info.num_clips / 1e3:.1f} kB a clip)",
        f"  log-mel {info.feature_dtype}{compressed}: {settings.mel_bins} bins "
        f"from {settings.mel_min_hz:g} to {settings.mel_max_hz:g} Hz, "
        f"window {1e3 * settings.window_seconds:g} ms, hop {1e3 * settings.hop_seconds:g} ms, "
        f"at {settings.sample_rate_hz} Hz; longest clip {info.max_frames} frames",
        f"  mean {np.mean(info.mean):.2f}, standard deviation {deviation:.2f} "
        "(averages of the bins)",
        f"  {len(names)} classes, {sum(counts) / info.num_clips:.2f} labels a clip; "
        "clips per class:",
        *(f"  {counts[i]:>9}  {names[i]}" for i in order[:num_shown]),
    ]
    if rest := [counts[i] for i in order[num_shown:]]:
        lines.append(
            f"        ...  {len(rest)} more classes of {rest[0]} to {rest[-1]} clips "
            "(--all shows them)"
        )
    failures = ", ".join(f"{kind} {count}" for kind, count in info.failures.items())
    lines.append(f"  failed: {failures or 'none'}")
    return "\n".join(lines)


def _frequent_first(info: DatasetInfo) -> list[int]:
    """Return the classes, those with the most clips first."""
    return sorted(range(len(info.class_map)), key=lambda index: (-info.positives[index], index))


def _title(data_dir: str, info: DatasetInfo) -> str:
    """Return a split's folder and size."""
    folder = storage.join(data_dir, info.split)
    return f"{folder}: {info.num_clips} clips, {info.seconds / 3600:.2f} h"


class _Verifier:
    """The check of a split: its problems, and the counts of the records read so far."""

    def __init__(self, data_dir: str, info: DatasetInfo):
        self._info = info
        self.problems = list(shards.shard_problems(data_dir, info))
        self.is_damaged = bool(self.problems)
        self.rows: list[tuple[str, int, int, int]] = []  # as in `clips.csv`
        self.positives: Counter[int] = Counter()
        self._seen: dict[str, str] = {}
        self._total = np.zeros(info.log_mel.mel_bins)

    @property
    def frames(self) -> list[int]:
        """Number of frames of each record."""
        return [num_frames for *_, num_frames in self.rows]

    @property
    def mean(self) -> np.ndarray:
        """Mean of the log-mel over all frames, [mel_bins]."""
        return self._total / max(sum(self.frames), 1)

    def read_shard(self, index: int, path: str) -> None:
        """Read and check the records of a shard."""
        count = 0
        try:
            for count, data in enumerate(shards.read_records(path, self._info.compression), 1):
                self._check_record(data, index, count - 1, f"{path}: record {count - 1}")
        except ValueError as error:  # names file and record; what follows can't be found
            self.problems.append(str(error))
            self.is_damaged = True
            return
        expected = self._info.shards[index].clips
        if count != expected:
            self.problems.append(f"{path}: {count} records, {shards.DATASET_JSON} says {expected}")

    def _check_record(self, data: bytes, shard: int, place: int, where: str) -> None:
        info = self._info
        try:
            record = decode(data, info.feature_dtype, info.log_mel.mel_bins)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return
        self.problems += [f"{where}: {problem}" for problem in _record_problems(record, info)]
        if (first := self._seen.setdefault(record.video_id, where)) != where:
            self.problems.append(
                f"{where}: clip id {record.video_id!r} was there before, at {first}"
            )
        self.rows.append((record.video_id, shard, place, len(record.log_mel)))
        self.positives.update(record.labels)
        values = dequantize(record.log_mel, info.feature_range)
        self._total += values.astype(np.float64).sum(axis=0)


def verify(data_dir: str, info: DatasetInfo) -> list[str]:
    """Read every record of a split; return a sentence for each thing that is wrong.

    Checked are each shard's presence, size and checksums; each record's form, number of frames,
    finite values, labels and id; that ids are unique; and that `clips.csv`, `classes.csv` and the
    counts and statistics in `dataset.json` agree.
    """
    verifier = _Verifier(data_dir, info)
    for index, path in enumerate(info.shard_paths(data_dir)):
        if storage.exists(path):
            verifier.read_shard(index, path)
    problems = verifier.problems
    if not verifier.is_damaged:  # else the counts can't be right
        problems += _count_problems(data_dir, info, verifier)
    return [*problems, *_table_problems(data_dir, info, verifier)]


def _record_problems(record: ClipRecord, info: DatasetInfo) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with a record."""
    if not len(record.log_mel):
        yield "no frames"
    if not np.isfinite(record.log_mel).all():
        yield "log-mel values that are not finite"
    wrong = [label for label in record.labels if not 0 <= label < len(info.class_map)]
    if wrong:
        yield f"labels {wrong} are not among the {len(info.class_map)} classes"


def _count_problems(data_dir: str, info: DatasetInfo, verifier: _Verifier) -> Iterator[str]:
    """Yield a sentence for each figure in `dataset.json` that is not that of the records."""
    path = storage.join(data_dir, info.split, shards.DATASET_JSON)
    num_clips, max_frames = (
        sum(shard.clips for shard in info.shards),
        max(verifier.frames, default=0),
    )
    if num_clips != info.num_clips:
        yield f"{path}: num_clips is {info.num_clips}, its shards have {num_clips}"
    for index, name in enumerate(info.class_map.display_names):
        said, counted = info.positives[index], verifier.positives[index]
        if counted != said:
            yield f"{path}: {said} positive clips of {name}, the records have {counted}"
    if max_frames != info.max_frames:
        yield f"{path}: max_frames is {info.max_frames}, the longest record has {max_frames}"
    if not np.allclose(verifier.mean, info.mean, atol=1e-6):
        error = np.abs(verifier.mean - info.mean).max()
        yield f"{path}: the mean is not that of the records (off by up to {error:.2g})"


def _table_problems(data_dir: str, info: DatasetInfo, verifier: _Verifier) -> Iterator[str]:
    """Yield a sentence for each way in which the tables differ from the records."""
    folder = storage.join(data_dir, info.split)
    try:
        class_map = read_class_map(storage.join(folder, shards.CLASSES_CSV))
        names = shards.DATASET_JSON, shards.CLASSES_CSV
        if differences := info.class_map.differences(class_map, *names):
            yield f"{folder}: {differences}"
        listed = shards.read_clips_csv(data_dir, info.split)
    except ValueError as error:
        yield str(error)
        return
    path = storage.join(folder, shards.CLIPS_CSV)
    records = {(shard, place): (clip_id, frames) for clip_id, shard, place, frames in verifier.rows}
    for clip_id, shard, record, num_frames in listed:
        there = records.pop((shard, record), None)
        if there != (clip_id, num_frames) and not (verifier.is_damaged and there is None):
            is_there = f"{there[0]!r} with {there[1]} frames" if there else "no readable record"
            yield (
                f"{path}: shard {shard}, record {record}: {clip_id!r} with {num_frames} frames "
                f"is listed, there is {is_there}"
            )
    for (shard, record), (clip_id, _) in records.items():
        yield f"{path}: shard {shard}, record {record}: {clip_id!r} is not listed"


# === Picture ===
def plot(data_dir: str, info: DatasetInfo, path: str) -> None:
    """Draw a log-mel of each class, of the 60 most frequent at most, and the clips per class.

    Args:
        data_dir: the folder of all splits.
        info: the split.
        path: the PNG file to write.

    Raises:
        ValueError: if no clip has a label.
    """
    from matplotlib.figure import Figure

    from tfrecord_tools.plots import draw_log_mel  # imports Matplotlib

    order = _frequent_first(info)
    chosen = [index for index in order[:_MOST_PLOTS] if info.positives[index]]
    examples = _examples(data_dir, info, chosen)
    chosen = [index for index in chosen if index in examples]
    if not chosen:
        raise ValueError(
            f"{storage.join(data_dir, info.split)}: no clip has a label, "
            "so that there is nothing to draw"
        )
    columns = min(4 if len(chosen) <= 16 else 6, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(14, 2.4 * rows + 3.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.4 * rows, 3.2]).flat
    upper.suptitle(_title(data_dir, info), fontsize=12)
    axes = upper.subplots(rows, columns, squeeze=False)
    # One scale for all: the range of what is drawn, without the floor of digital silence.
    values = np.concatenate([examples[index].log_mel.ravel() for index in chosen])
    low, high = np.percentile(values, (2, 99.8))
    for axis, index in zip(axes.flat, chosen, strict=False):
        record = examples[index]
        image = draw_log_mel(axis, record.log_mel, info.log_mel, low, high)
        others = f" (+{len(record.labels) - 1} more)" * (len(record.labels) > 1)
        axis.set_title(f"{info.class_map.display_names[index]}{others}", fontsize=10)
    for axis in axes.flat[len(chosen) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("frequency (Hz)")
    for axis in axes.flat[max(0, len(chosen) - columns) : len(chosen)]:
        axis.set_xlabel("time (s)")
    upper.colorbar(image, ax=axes, label="log mel power (nat)", shrink=0.8, pad=0.01)
    _draw_histogram(lower.subplots(), info, order)
    with storage.atomic_write(path, "wb") as stream:
        figure.savefig(stream, dpi=110, format="png")


def _examples(data_dir: str, info: DatasetInfo, classes: list[int]) -> dict[int, ClipRecord]:
    """Return the first clip with the fewest labels of each class, of the first few thousand."""
    examples: dict[int, ClipRecord] = {}
    searched = 0
    for path in info.shard_paths(data_dir):
        for data in shards.read_records(path, info.compression):
            record = decode(data, info.feature_dtype, info.log_mel.mel_bins)
            exact = dequantize(record.log_mel, info.feature_range)
            record = dataclasses.replace(record, log_mel=exact)
            for index in set(record.labels).intersection(classes):
                if index not in examples or len(record.labels) < len(examples[index].labels):
                    examples[index] = record
            searched += 1
            alone = sum(len(record.labels) == 1 for record in examples.values())
            if searched >= _MOST_RECORDS_SEARCHED or alone == len(classes):
                return examples
    return examples


def _draw_histogram(axis: Axes, info: DatasetInfo, order: list[int]) -> None:
    """Draw the clips per class as bars."""
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
    """The things to show."""

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
            for problem in problems:
                print(f"  wrong: {problem}")
            sound = f"verified: all {info.num_clips} records are sound"
            print(f"  {len(problems)} problems" if problems else f"  {sound}")
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
