"""The making of a corpus of soundscapes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import shutil
import tempfile
import uuid
import wave
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from tfrecord_tools import storage
from tfrecord_tools.conversion import Problem
from tfrecord_tools.corpora import synthesised_events
from tfrecord_tools.corpora.folder import (
    CLASSES_FILE,
    SETTINGS_FILE,
    TRAIN_CLEAN_FILE,
    corpus_is_made,
    move_into_place,
)
from tfrecord_tools.corpora.label_noise import check_wrong_label_rates, noisy_labels
from tfrecord_tools.corpora.mixing import SPLITS, MakeEvent, SoundscapeConfig, mix_clip
from tfrecord_tools.corpora.recorded_events import RecordedEvents, prepare_sounds, recorded_event
from tfrecord_tools.corpora.synthesis import SAMPLE_RATE_HZ
from tfrecord_tools.corpora.synthesised_events import CLASSES, synthesised_event
from tfrecord_tools.datasets import ClassMap
from tfrecord_tools.parallel import ordered_map
from tfrecord_tools.progress import Progress
from tfrecord_tools.text import format_duration

GENERATOR_VERSION = 1  # raise it whenever the same settings give other bytes

_FEWEST_CLIPS_PER_WORKER = 16

Event = tuple[str, float, float]  # mid, onset in seconds, offset in seconds


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """All settings that decide a corpus's bytes.

    Attributes:
        config: how clips are mixed and labelled.
        events: recordings; None synthesises.
        wrong_label_rates: see `label_noise.noisy_labels`.
    """

    config: SoundscapeConfig
    events: RecordedEvents | None = None
    wrong_label_rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        num_classes = len(self.class_map)
        if self.config.max_events > num_classes:
            raise ValueError(
                f"max_events must be at most the number of classes, {num_classes}, "
                f"got {self.config.max_events}"
            )
        check_wrong_label_rates(self.config, self.wrong_label_rates, num_classes)

    @property
    def class_map(self) -> ClassMap:
        """The classes of the events."""
        return self.events.sources.class_map if self.events else synthesised_events.CLASS_MAP

    @property
    def classes(self) -> list[tuple[str, str]]:
        """The mid and the display name of each class."""
        return list(zip(self.class_map.mids, self.class_map.display_names, strict=True))

    @property
    def has_label_noise(self) -> bool:
        """True if train labels may be wrong or missing."""
        return max(self.config.missing_rate, self.config.wrong_rate, *self.wrong_label_rates) > 0

    @property
    def counts_noise(self) -> bool:
        """True if soundscapes.json counts the labels left out and added; at first it did not."""
        return bool(self.events or self.wrong_label_rates)

    def settings(self) -> dict[str, object]:
        """Return the settings as soundscapes.json has them."""
        settings = dataclasses.asdict(self.config)
        if self.events:
            settings |= self.events.settings()
        if self.wrong_label_rates:
            rates = zip(self.class_map.mids, self.wrong_label_rates, strict=True)
            settings["wrong_label_rates"] = dict(rates)
        return settings


def clip_id(split: str, index: int) -> str:
    """Return eleven characters: "sc", the split's letter, the index in hexadecimal."""
    return f"sc{split[0]}{index:08x}"


def make_clip(config: SoundscapeConfig, split: str, index: int) -> tuple[np.ndarray, list[Event]]:
    """Synthesise clip `index` of `split` of the built-in corpus.

    Returns:
        The waveform and its events, as `mixing.mix_clip`, but with the mid in place of the class
        index.
    """
    waveform, events = mix_clip(config, split, index, len(CLASSES), synthesised_event)
    return waveform, [(CLASSES[i].mid, onset, offset) for i, onset, offset in events]


# === The corpus ===
@dataclasses.dataclass(frozen=True)
class _Row:
    """The labels and events of one clip, for the label files."""

    clip_id: str
    seconds: float
    events: list[Event]
    true_mids: list[str]
    labels: list[str]


def make_corpus(
    config: SoundscapeConfig,
    out_dir: str | os.PathLike,
    workers: int | None = None,
    overwrite: bool = False,
    *,
    events: RecordedEvents | None = None,
    wrong_label_rates: Sequence[float] = (),
) -> bool:
    """Write the corpus to `out_dir`, or keep it if it stands there already.

    Everything is written to a folder beside `out_dir`, named `<out_dir>.partial-...`, and renamed
    when whole.

    Args:
        config: how clips are mixed and labelled.
        out_dir: the corpus's folder; missing or empty, or a corpus.
        workers: processes; the number of cores if not given. One works in this process.
        overwrite: replace a corpus made with other settings, where it would be an error otherwise.
        events: the recordings that events are cut from; None synthesises them.
        wrong_label_rates: for each class, the probability that a train clip without it gets its
            label.

    Returns:
        True if it was made, False if a corpus with the same settings was kept.

    Raises:
        ValueError: the settings do not fit the classes, no recording of a class can be used, or
            `out_dir` holds something else: another or a damaged corpus and `overwrite` is not set,
            or what overwriting would delete though this module did not write it.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if storage.is_remote(str(out_dir)):
        raise ValueError(f"out_dir must be a local folder, got {out_dir}")
    recipe = _Recipe(config, events, tuple(wrong_label_rates))
    out_dir = Path(out_dir).absolute()
    made_as = {"generator_version": GENERATOR_VERSION, **recipe.settings()}
    num_clips = {split: config.num_clips(split) for split in SPLITS}
    if corpus_is_made(out_dir, made_as, num_clips, overwrite):
        return False
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial_dir = out_dir.with_name(f"{out_dir.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    try:
        _write_corpus(recipe, partial_dir, workers)
        return move_into_place(partial_dir, out_dir, made_as, num_clips, overwrite)
    finally:
        shutil.rmtree(partial_dir, ignore_errors=True)


def _write_corpus(recipe: _Recipe, out_dir: Path, workers: int) -> None:
    """Write all files of a corpus."""
    for split in SPLITS:
        (out_dir / split).mkdir(parents=True)
    skipped: list[Problem] = []
    if recipe.events:
        with tempfile.TemporaryDirectory(dir=out_dir) as folder:
            sounds, skipped = prepare_sounds(recipe.events, Path(folder), workers)
            make_event = functools.partial(recorded_event, sounds, recipe.events.max_event_seconds)
            rows = _write_clips(recipe, make_event, out_dir, workers)
    else:
        rows = _write_clips(recipe, synthesised_event, out_dir, workers)

    class_rows = [
        f'{index},{mid},"{name.replace(chr(34), 2 * chr(34))}"'
        for index, (mid, name) in enumerate(recipe.classes)
    ]
    _write_lines(out_dir / CLASSES_FILE, ["index,mid,display_name", *class_rows])
    for split, split_rows in rows.items():
        _write_weak(out_dir / f"{split}_segments.csv", split_rows)
        _write_strong(out_dir / f"{split}_strong.tsv", split_rows)
    if recipe.has_label_noise:
        clean = [dataclasses.replace(row, labels=row.true_mids) for row in rows["train"]]
        _write_weak(out_dir / TRAIN_CLEAN_FILE, clean)
    description = {
        "generator_version": GENERATOR_VERSION,
        "settings": recipe.settings(),
        "splits": {split: _describe(recipe, split_rows) for split, split_rows in rows.items()},
    }
    if recipe.events:
        description |= _describe_recordings(recipe.events, skipped)
    storage.write_json(str(out_dir / SETTINGS_FILE), description)


def _write_clips(
    recipe: _Recipe, make_event: MakeEvent, out_dir: Path, workers: int
) -> dict[str, list[_Row]]:
    """Write the sound of all clips; return what the label files say of them, by split."""
    config = recipe.config
    clips = [(split, index) for split in SPLITS for index in range(config.num_clips(split))]
    write_clip = functools.partial(_write_clip, recipe, make_event, out_dir)
    workers = min(workers, -(-len(clips) // _FEWEST_CLIPS_PER_WORKER))
    rows = ordered_map(write_clip, clips, workers, _lost_clip)
    made, written = "mixed" if recipe.events else "synthesised", []
    with Progress(len(clips), logging.info, label=made) as progress:
        for row in rows:
            written.append(row)
            progress.update()
    logging.info("%s %d clips in %s", made, len(clips), format_duration(progress.seconds))
    return {"train": written[: config.num_train], "eval": written[config.num_train :]}


def _lost_clip(clip: tuple[str, int], kind: str, detail: str) -> _Row:
    """Raise a `ValueError` for a clip that a worker died over."""
    raise ValueError(f"clip {clip_id(*clip)}: {kind}, {detail}")


def _write_clip(
    recipe: _Recipe, make_event: MakeEvent, out_dir: Path, clip: tuple[str, int]
) -> _Row:
    """Mix a clip, and write its sound."""
    split, index = clip
    mids = recipe.class_map.mids
    waveform, events = mix_clip(recipe.config, split, index, len(mids), make_event)
    name = clip_id(split, index)
    with wave.open(str(out_dir / split / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.round(waveform * 32_767).astype("<i2").tobytes())
    heard = {class_index for class_index, _, _ in events}
    true_mids = [mid for class_index, mid in enumerate(mids) if class_index in heard]
    return _Row(
        clip_id=name,
        seconds=len(waveform) / SAMPLE_RATE_HZ,
        events=[(mids[class_index], onset, offset) for class_index, onset, offset in events],
        true_mids=true_mids,
        labels=noisy_labels(recipe.config, split, index, true_mids, mids, recipe.wrong_label_rates),
    )


def _write_weak(path: Path, rows: list[_Row]) -> None:
    """Write AudioSet's segments csv: three lines of comment, the label list in quotes."""
    labels = list(itertools.chain(*(row.labels for row in rows)))
    lines = [
        "# Segments csv created by tfrecord_tools.soundscapes",
        f"# num_ytids={len(rows)}, num_segs={len(rows)}, "
        f"num_unique_labels={len(set(labels))}, num_positive_labels={len(labels)}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    for row in rows:
        lines.append(f'{row.clip_id}, 0.000, {row.seconds:.3f}, "{",".join(row.labels)}"')
    _write_lines(path, lines)


def _write_strong(path: Path, rows: list[_Row]) -> None:
    """Write AudioSet's strong tsv: a line an event; a segment's id ends in its start in ms."""
    lines = ["segment_id\tstart_time_seconds\tend_time_seconds\tlabel"]
    for row in rows:
        lines += [
            f"{row.clip_id}_0\t{onset:.3f}\t{offset:.3f}\t{mid}"
            for mid, onset, offset in row.events
        ]
    _write_lines(path, lines)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _describe(recipe: _Recipe, rows: list[_Row]) -> dict[str, object]:
    """Return the counts of a split for soundscapes.json."""

    def per_class(labels: Iterable[Iterable[str]]) -> dict[str, int]:
        counts = Counter(itertools.chain(*labels))
        return {name: counts[mid] for mid, name in recipe.classes}

    description = {
        "num_clips": len(rows),
        "seconds": round(sum(row.seconds for row in rows), 3),
        "true_clips_per_class": per_class(row.true_mids for row in rows),
        "labelled_clips_per_class": per_class(row.labels for row in rows),
    }
    if recipe.counts_noise:
        left_out = (set(row.true_mids) - set(row.labels) for row in rows)
        added = (set(row.labels) - set(row.true_mids) for row in rows)
        description |= {
            "clips_without_labels": sum(not row.labels for row in rows),
            "labels_left_out_per_class": per_class(left_out),
            "labels_added_per_class": per_class(added),
        }
    return description


def _describe_recordings(events: RecordedEvents, skipped: list[Problem]) -> dict[str, object]:
    """Return the recordings per class, with those that were skipped, and a list of these."""
    names = events.sources.class_map.display_names
    recordings = {}
    for split in SPLITS:
        counts = Counter(clip.labels[0] for clip in events.sources.clips[split])
        recordings[split] = {name: counts[label] for label, name in enumerate(names)}
    return {
        "recordings_per_class": recordings,
        "recordings_skipped": [{"id": p.id, "kind": p.kind, "detail": p.detail} for p in skipped],
    }
