"""The embedded corpus: short soundscapes, synthesised, with weak labels, exact event times and optional label noise.

    python -m tfrecord_tools.soundscapes --out=DIR [--num_train=600 --num_eval=200 --seed=0 --label_noise=0.3]

A clip is a background with one to three overlapping events over it. What is written looks like AudioSet:

    DIR/class_labels_indices.csv                        index, mid, display_name
    DIR/train_segments.csv     DIR/eval_segments.csv    weak labels
    DIR/train_strong.tsv       DIR/eval_strong.tsv      every event's onset and offset (never noisy)
    DIR/train_clean_segments.csv                        train's true weak labels, if label noise was asked for
    DIR/train/ID.wav ...       DIR/eval/ID.wav ...      16 kHz, mono, 16 bit
    DIR/soundscapes.json                                the settings, and how often each class occurs

Clip i of a split is drawn from a generator seeded with (seed, split, i) alone: the same settings give the same bytes with
any number of processes, a larger corpus begins with the smaller one, and label noise changes labels but not sound.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import uuid
import wave
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from absl import flags, logging
from tqdm import tqdm

from tfrecord_tools import synthesis
from tfrecord_tools.commands import run_command
from tfrecord_tools.storage import is_remote
from tfrecord_tools.synthesis import SAMPLE_RATE_HZ, SoundGenerator

GENERATOR_VERSION = 1  # raise it whenever the same settings give other bytes
SPLITS = ("train", "eval")
SETTINGS_FILE = "soundscapes.json"
CLASSES_FILE = "class_labels_indices.csv"
TRAIN_CLEAN_FILE = "train_clean_segments.csv"

_CORPUS_NAMES = {SETTINGS_FILE, CLASSES_FILE, TRAIN_CLEAN_FILE} | {
    split + end for split in SPLITS for end in ("", "_segments.csv", "_strong.tsv")
}
_SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1_000
_LEVEL_WINDOW_MS = 125  # "fast" time weighting of a sound level meter (IEC 61672)
_BACKGROUND_DBFS = (-50.0, -26.0)
_PEAK = 0.99
_CLIPS_PER_TASK = 16

Event = tuple[str, float, float]  # mid, onset in seconds, offset in seconds


@dataclasses.dataclass(frozen=True)
class SoundClass:
    """An event class: AudioSet's identity for it, its generator, and how long its events last."""

    mid: str
    display_name: str
    generator: SoundGenerator
    min_seconds: float
    max_seconds: float


# In AudioSet's order; the row is the class index.
CLASSES = (
    SoundClass("/m/05tny_", "Bark", synthesis.bark, 0.3, 2.0),
    SoundClass("/m/07pggtn", "Chirp, tweet", synthesis.chirp, 0.3, 2.0),
    SoundClass("/m/03w41f", "Church bell", synthesis.church_bell, 1.2, 3.5),
    SoundClass("/m/06mb1", "Rain", synthesis.rain, 1.2, 3.5),
    SoundClass("/m/07pb8fc", "Idling", synthesis.idling, 1.0, 3.5),
    SoundClass("/m/07r4wb8", "Knock", synthesis.knock, 0.5, 2.0),
    SoundClass("/m/07pp8cl", "Telephone bell ringing", synthesis.telephone_bell, 0.7, 2.5),
    SoundClass("/m/03kmc9", "Siren", synthesis.siren, 1.2, 3.5),
    SoundClass("/m/030rvx", "Buzzer", synthesis.buzzer, 0.3, 2.0),
    SoundClass("/m/0l156k", "Whistle", synthesis.whistle, 0.3, 1.8),
    SoundClass("/m/07qjznl", "Tick-tock", synthesis.tick_tock, 1.2, 3.5),
    SoundClass("/m/07pc8lb", "Breaking", synthesis.breaking, 0.6, 1.5),
)
BACKGROUNDS = (synthesis.white, synthesis.pink, synthesis.brown, synthesis.hum, synthesis.babble)


@dataclasses.dataclass(frozen=True)
class SoundscapeConfig:
    """Everything that decides the corpus's bytes.

    Attributes:
        num_train, num_eval: clips in each split.
        seed: all randomness follows from it.
        min_seconds, max_seconds: clip lengths are uniform between them, in whole milliseconds.
        max_events: a clip has 1 to this many events, each of another class.
        min_snr_db, max_snr_db: an event's loudest 125 ms over the background's mean level, uniform between them.
        missing_rate: probability that a true label of a train clip is left out.
        wrong_rate: probability that a train clip gets one label more, of a class that it does not hold.
    """

    num_train: int = 600
    num_eval: int = 200
    seed: int = 0
    min_seconds: float = 4.0
    max_seconds: float = 6.0
    max_events: int = 3
    min_snr_db: float = 3.0
    max_snr_db: float = 20.0
    missing_rate: float = 0.0
    wrong_rate: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("num_train", 1, 16**8),
            ("num_eval", 1, 16**8),
            ("seed", 0, 2**32 - 1),
            ("min_seconds", 1, 3_600),
            ("max_seconds", 1, 3_600),
            ("max_events", 1, len(CLASSES)),
            ("min_snr_db", -60, 90),
            ("max_snr_db", -60, 90),
            ("missing_rate", 0, 1),
            ("wrong_rate", 0, 1),
        ):
            value = getattr(self, name)
            whole = isinstance(getattr(type(self), name), int)  # as the default is
            if not low <= value <= high or (whole and not isinstance(value, int)):
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"{name} must be {kind} from {low} to {high}, got {value}")
        for unit in ("seconds", "snr_db"):
            low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if low > high:
                raise ValueError(f"min_{unit} must not be above max_{unit}, got {low} and {high}")

    @property
    def has_label_noise(self) -> bool:
        return self.missing_rate > 0 or self.wrong_rate > 0

    def num_clips(self, split: str) -> int:
        """Clips in `split`, "train" or "eval"."""
        return {"train": self.num_train, "eval": self.num_eval}[split]


# === One clip ===


def clip_id(split: str, index: int) -> str:
    """Eleven characters, as AudioSet's ids have: "sc", the split's letter, the index in hexadecimal."""
    return f"sc{split[0]}{index:08x}"


def make_clip(config: SoundscapeConfig, split: str, index: int) -> tuple[np.ndarray, list[Event]]:
    """Synthesises clip `index` of `split`.

    Its first class is number `index` modulo the number of classes, so that any 12 clips in a row hold every class.

    Returns:
        The waveform, float32 [samples] at 16 kHz within ±0.99, and its events (mid, onset, offset), by onset. Times
        are whole milliseconds, in seconds.
    """
    rng = np.random.default_rng([config.seed, SPLITS.index(split), index])
    clip_ms = int(rng.integers(round(1_000 * config.min_seconds), round(1_000 * config.max_seconds) + 1))
    background_level = 10 ** (rng.uniform(*_BACKGROUND_DBFS) / 20)
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))](rng, clip_ms * _SAMPLES_PER_MS)
    waveform = background_level * synthesis.unit_rms(background)

    first = index % len(CLASSES)
    others = np.delete(np.arange(len(CLASSES)), first)
    others = rng.choice(others, rng.integers(config.max_events), replace=False)
    events = []
    for sound_class in (CLASSES[i] for i in (first, *others)):
        sound = _make_event(rng, sound_class, clip_ms)
        event_ms = len(sound) // _SAMPLES_PER_MS
        onset_ms = int(rng.integers(clip_ms - event_ms + 1))
        snr_db = rng.uniform(config.min_snr_db, config.max_snr_db)
        span = slice(onset_ms * _SAMPLES_PER_MS, (onset_ms + event_ms) * _SAMPLES_PER_MS)
        waveform[span] += sound * (background_level * 10 ** (snr_db / 20) / _loudest_rms(sound))
        events.append((sound_class.mid, onset_ms / 1_000, (onset_ms + event_ms) / 1_000))

    waveform *= min(1.0, _PEAK / np.abs(waveform).max())
    return waveform.astype(np.float32), sorted(events, key=lambda event: event[1])


def _make_event(rng: np.random.Generator, sound_class: SoundClass, clip_ms: int) -> np.ndarray:
    """One event, cut to where it is within 40 dB of its peak and padded to whole milliseconds."""
    longest_ms = 1_000 * rng.uniform(sound_class.min_seconds, sound_class.max_seconds)
    sound = sound_class.generator(rng, min(int(longest_ms), clip_ms) * _SAMPLES_PER_MS)
    fade = np.linspace(1, 0, 5 * _SAMPLES_PER_MS)
    sound[-fade.size :] *= fade  # what was cut off in mid sound would click
    heard = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
    sound = sound[heard[0] : heard[-1] + 1]
    return np.pad(sound, (0, -len(sound) % _SAMPLES_PER_MS))


def _loudest_rms(sound: np.ndarray) -> float:
    window = min(_LEVEL_WINDOW_MS * _SAMPLES_PER_MS, len(sound))
    energy = np.concatenate([[0.0], np.cumsum(sound**2)])
    return float(np.sqrt((energy[window:] - energy[:-window]).max() / window))


def noisy_labels(config: SoundscapeConfig, split: str, index: int, true_mids: Sequence[str]) -> list[str]:
    """The weak labels of a clip, in class order: the true ones for eval, with the config's noise for train."""
    labels = set(true_mids)
    if split == "train":
        # A stream apart from the sound's: label noise leaves the sound as it is.
        rng = np.random.default_rng([config.seed, SPLITS.index(split), index, 1])
        absent = [c.mid for c in CLASSES if c.mid not in labels]
        labels = {c.mid for c in CLASSES if c.mid in labels and rng.random() >= config.missing_rate}
        if absent and rng.random() < config.wrong_rate:
            labels.add(absent[rng.integers(len(absent))])
    return [c.mid for c in CLASSES if c.mid in labels]


# === The corpus ===


@dataclasses.dataclass(frozen=True)
class _Row:
    """What the label files say of one clip."""

    clip_id: str
    seconds: float
    events: list[Event]
    true_mids: list[str]
    labels: list[str]


def make_corpus(
    config: SoundscapeConfig, out_dir: str | os.PathLike, workers: int | None = None, overwrite: bool = False
) -> bool:
    """Writes the corpus to `out_dir`, or keeps it if it stands there already.

    Everything is written to a folder beside `out_dir`, named `<out_dir>.partial-...`, and renamed when whole.

    Args:
        config: what to make.
        out_dir: the corpus's folder; missing or empty, or a corpus.
        workers: processes; the number of cores if not given. One works in this process.
        overwrite: replace a corpus made with other settings, where it would be an error otherwise.

    Returns:
        True if it was made, False if a corpus with the same settings was kept.

    Raises:
        ValueError: `out_dir` holds something else, as `corpus_is_made` tells.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if is_remote(str(out_dir)):
        raise ValueError(f"out_dir must be a local folder, got {out_dir}")
    out_dir = Path(out_dir).absolute()
    if corpus_is_made(config, out_dir, overwrite):
        return False
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial_dir = out_dir.with_name(f"{out_dir.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    try:
        _write_corpus(config, partial_dir, workers)
        return _move_into_place(config, partial_dir, out_dir, overwrite)
    finally:
        shutil.rmtree(partial_dir, ignore_errors=True)


def corpus_is_made(config: SoundscapeConfig, out_dir: str | os.PathLike, overwrite: bool = False) -> bool:
    """Whether `out_dir` holds the whole corpus of `config`; False if it may be made there.

    Raises:
        ValueError: it may not: `out_dir` holds a damaged corpus or one with other settings and `overwrite` is not set,
            or overwriting would delete what this module did not write.
    """
    out_dir = Path(out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise ValueError(f"{out_dir} is a file, not a folder")
    found = {path.name for path in out_dir.iterdir()} if out_dir.is_dir() else set()
    if not found:
        return False
    if SETTINGS_FILE not in found:
        raise ValueError(f"{out_dir} is not empty and no soundscape corpus: name another folder")
    try:
        problem = _difference(config, out_dir)
    except (ValueError, KeyError, TypeError):
        problem = f"its {SETTINGS_FILE} is damaged"
    if not problem:
        return True
    if not overwrite:
        raise ValueError(f"{out_dir} holds another corpus: {problem}. Name another folder, or set overwrite")
    if foreign := sorted(found - _CORPUS_NAMES):
        raise ValueError(
            f"{out_dir} is not overwritten: it also holds {', '.join(foreign[:3])}, which is not its own"
        )
    return False


def _difference(config: SoundscapeConfig, corpus_dir: Path) -> str:
    """How the corpus in `corpus_dir` differs from what `config` would make; empty if it does not."""
    made = json.loads((corpus_dir / SETTINGS_FILE).read_text(encoding="utf-8"))
    then = {"generator_version": made["generator_version"], **made["settings"]}
    now = {"generator_version": GENERATOR_VERSION, **dataclasses.asdict(config)}
    differing = [name for name in now if then.get(name) != now[name]]
    if differing:
        return ", ".join(f"{name} is {then.get(name)} there, {now[name]} asked for" for name in differing)
    for name in sorted(_CORPUS_NAMES - {TRAIN_CLEAN_FILE}):
        if not (corpus_dir / name).exists():
            return f"its {name} is missing"
    for split in SPLITS:
        count = sum(1 for _ in (corpus_dir / split).glob("*.wav"))
        if count != config.num_clips(split):
            return f"{split}/ holds {count} wav files instead of {config.num_clips(split)}"
    return ""


def _move_into_place(config: SoundscapeConfig, partial_dir: Path, out_dir: Path, overwrite: bool) -> bool:
    replaced_dir = partial_dir.with_name(partial_dir.name.replace(".partial-", ".replaced-"))
    if overwrite and out_dir.exists():
        out_dir.rename(replaced_dir)
    try:
        partial_dir.rename(out_dir)
    except OSError:
        if replaced_dir.exists() and not out_dir.exists():
            replaced_dir.rename(out_dir)
        if corpus_is_made(config, out_dir):  # another process was faster
            return False
        raise
    shutil.rmtree(replaced_dir, ignore_errors=True)
    return True


def _write_corpus(config: SoundscapeConfig, out_dir: Path, workers: int) -> None:
    for split in SPLITS:
        (out_dir / split).mkdir(parents=True)
    clips = [(split, index) for split in SPLITS for index in range(config.num_clips(split))]
    write_clip = functools.partial(_write_clip, config, out_dir)
    workers = min(workers, -(-len(clips) // _CLIPS_PER_TASK))
    with contextlib.ExitStack() as stack:
        if workers > 1:
            # Spawned, not forked: the caller may run threads, as TensorFlow does.
            context = multiprocessing.get_context("spawn")
            ignore_ctrl_c = (signal.SIGINT, signal.SIG_IGN)  # the parent handles it for all
            pool = stack.enter_context(
                ProcessPoolExecutor(workers, context, initializer=signal.signal, initargs=ignore_ctrl_c)
            )
            rows = pool.map(write_clip, clips, chunksize=_CLIPS_PER_TASK)
        else:
            rows = map(write_clip, clips)
        rows = list(_with_progress(rows, len(clips)))
    class_rows = [f'{index},{c.mid},"{c.display_name}"' for index, c in enumerate(CLASSES)]
    _write_lines(out_dir / CLASSES_FILE, ["index,mid,display_name", *class_rows])
    by_split = {"train": rows[: config.num_train], "eval": rows[config.num_train :]}
    for split, split_rows in by_split.items():
        _write_weak(out_dir / f"{split}_segments.csv", split_rows, [row.labels for row in split_rows])
        _write_strong(out_dir / f"{split}_strong.tsv", split_rows)
    if config.has_label_noise:
        train = by_split["train"]
        _write_weak(out_dir / TRAIN_CLEAN_FILE, train, [row.true_mids for row in train])
    description = {
        "generator_version": GENERATOR_VERSION,
        "settings": dataclasses.asdict(config),
        "splits": {split: _describe(split_rows) for split, split_rows in by_split.items()},
    }
    _write_lines(out_dir / SETTINGS_FILE, [json.dumps(description, indent=2)])


def _write_clip(config: SoundscapeConfig, out_dir: Path, clip: tuple[str, int]) -> _Row:
    split, index = clip
    waveform, events = make_clip(config, split, index)
    name = clip_id(split, index)
    with wave.open(str(out_dir / split / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.round(waveform * 32_767).astype("<i2").tobytes())
    heard = {mid for mid, _, _ in events}
    true_mids = [c.mid for c in CLASSES if c.mid in heard]
    return _Row(
        clip_id=name,
        seconds=len(waveform) / SAMPLE_RATE_HZ,
        events=events,
        true_mids=true_mids,
        labels=noisy_labels(config, split, index, true_mids),
    )


def _with_progress(rows: Iterable[_Row], total: int) -> Iterator[_Row]:
    """A progress bar on a terminal, a line each quarter elsewhere."""
    on_terminal = sys.stderr.isatty()
    for done, row in enumerate(tqdm(rows, total=total, unit="clip", disable=not on_terminal), start=1):
        yield row
        if not on_terminal and (4 * done) // total > (4 * (done - 1)) // total:
            logging.info("synthesised %d of %d clips", done, total)


def _write_weak(path: Path, rows: list[_Row], labels: list[list[str]]) -> None:
    """AudioSet's segments csv: three comment lines, spaces after commas, the label list in quotes."""
    num_unique, num_positive = len({mid for mids in labels for mid in mids}), sum(map(len, labels))
    lines = [
        "# Segments csv created by tfrecord_tools.soundscapes",
        f"# num_ytids={len(rows)}, num_segs={len(rows)}, num_unique_labels={num_unique}, num_positive_labels={num_positive}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    for row, mids in zip(rows, labels, strict=True):
        lines.append(f'{row.clip_id}, 0.000, {row.seconds:.3f}, "{",".join(mids)}"')
    _write_lines(path, lines)


def _write_strong(path: Path, rows: list[_Row]) -> None:
    """AudioSet's strong tsv: one event a line; a segment's id ends in its start in milliseconds."""
    lines = ["segment_id\tstart_time_seconds\tend_time_seconds\tlabel"]
    for row in rows:
        lines += [f"{row.clip_id}_0\t{onset:.3f}\t{offset:.3f}\t{mid}" for mid, onset, offset in row.events]
    _write_lines(path, lines)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _describe(rows: list[_Row]) -> dict:
    true = Counter(mid for row in rows for mid in row.true_mids)
    labelled = Counter(mid for row in rows for mid in row.labels)
    return {
        "num_clips": len(rows),
        "seconds": round(sum(row.seconds for row in rows), 3),
        "true_clips_per_class": {c.display_name: true[c.mid] for c in CLASSES},
        "labelled_clips_per_class": {c.display_name: labelled[c.mid] for c in CLASSES},
    }


# === Command ===


def define_soundscape_flags() -> None:
    """Defines this command's flags; their defaults are `SoundscapeConfig`'s."""
    default = SoundscapeConfig()
    flags.DEFINE_string("out", None, "Folder to write the corpus to; made if missing.", required=True)
    flags.DEFINE_integer("num_train", default.num_train, "Clips in the train split.")
    flags.DEFINE_integer("num_eval", default.num_eval, "Clips in the eval split; its labels are always true.")
    flags.DEFINE_integer("seed", default.seed, "Seed of all randomness; another seed gives other clips.")
    flags.DEFINE_float("min_seconds", default.min_seconds, "Shortest clip, in seconds; lengths are uniform.")
    flags.DEFINE_float("max_seconds", default.max_seconds, "Longest clip, in seconds.")
    flags.DEFINE_integer("max_events", default.max_events, "Most events in a clip, each of another class.")
    flags.DEFINE_float(
        "min_snr_db", default.min_snr_db, "Faintest event, in dB over the background; lower is harder."
    )
    flags.DEFINE_float("max_snr_db", default.max_snr_db, "Loudest event, in dB over the background.")
    flags.DEFINE_float(
        "label_noise",
        0.0,
        "Noise of the train labels, 0 to 1: sets --missing_rate and --wrong_rate together.",
    )
    flags.DEFINE_float(
        "missing_rate",
        None,
        "Probability, 0 to 1, that a true train label is left out. Default: --label_noise.",
    )
    flags.DEFINE_float(
        "wrong_rate",
        None,
        "Probability, 0 to 1, that a train clip gets one wrong label more. Default: --label_noise.",
    )
    flags.DEFINE_integer(
        "workers", None, "Processes; changes the speed, never the result. Default: the number of cores."
    )
    flags.DEFINE_boolean(
        "overwrite", False, "Replace a corpus in --out that was made with other settings. Default: an error."
    )


def main(argv: list[str]) -> None:
    """Makes the corpus that the flags describe, or says that it stands there already."""
    del argv
    args = flags.FLAGS
    config = SoundscapeConfig(
        num_train=args.num_train,
        num_eval=args.num_eval,
        seed=args.seed,
        min_seconds=args.min_seconds,
        max_seconds=args.max_seconds,
        max_events=args.max_events,
        min_snr_db=args.min_snr_db,
        max_snr_db=args.max_snr_db,
        missing_rate=args.label_noise if args.missing_rate is None else args.missing_rate,
        wrong_rate=args.label_noise if args.wrong_rate is None else args.wrong_rate,
    )
    made = make_corpus(config, args.out, args.workers, args.overwrite)
    clips = f"{config.num_train} train and {config.num_eval} eval clips of {len(CLASSES)} classes"
    print(f"wrote {clips} to {args.out}" if made else f"kept {args.out}: it holds these {clips} already")


def run() -> None:
    """The console script."""
    run_command(main, define_soundscape_flags)


if __name__ == "__main__":
    run()
