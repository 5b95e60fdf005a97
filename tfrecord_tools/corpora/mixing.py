"""The mixing of a soundscape: a synthesised background with overlapping events over it.

Where the events come from, a function decides: `synthesised_events.synthesised_event` makes them,
and `recorded_events.recorded_event` cuts them from recordings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfrecord_tools.config import Config, setting
from tfrecord_tools.corpora import synthesis
from tfrecord_tools.corpora.synthesis import SAMPLE_RATE_HZ

SPLITS = ("train", "eval")

SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1_000

LEVEL_WINDOW_MS = 125  # "fast" time weighting of a sound level meter (IEC 61672)

BACKGROUNDS = (synthesis.white, synthesis.pink, synthesis.brown, synthesis.hum, synthesis.babble)

_BACKGROUND_DBFS = (-50.0, -26.0)

_PEAK = 0.99

_MOST_EVENTS = 12

# (rng, split, class index, milliseconds of the clip) -> one event, float64 [samples] at any level:
# whole milliseconds, no more than those of the clip.
MakeEvent = Callable[[np.random.Generator, str, int, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class SoundscapeConfig(Config):
    """The settings of clips and labels; all that decides a synthesised corpus's bytes.

    Lengths, and events' loudest 125 ms over the background's mean level, are drawn uniformly.
    """

    num_train: int = setting(600, "Clips in the train split.", minimum=1, maximum=16**8)
    num_eval: int = setting(
        200, "Clips in the eval split; its labels are always true.", minimum=1, maximum=16**8
    )
    seed: int = setting(
        0, "Seed of all randomness; another seed gives other clips.", minimum=0, maximum=2**32 - 1
    )
    min_seconds: float = setting(
        4.0, "Shortest clip, in seconds; lengths are uniform.", minimum=1, maximum=3600
    )
    max_seconds: float = setting(6.0, "Longest clip, in seconds.", minimum=1, maximum=3600)
    max_events: int = setting(
        3, "Most events in a clip, each of another class.", minimum=1, maximum=_MOST_EVENTS
    )
    min_snr_db: float = setting(
        3.0, "Faintest event, in dB over the background; lower is harder.", minimum=-60, maximum=90
    )
    max_snr_db: float = setting(
        20.0, "Loudest event, in dB over the background.", minimum=-60, maximum=90
    )
    missing_rate: float = setting(
        0.0,
        "Probability that a true label of a train clip is left out.",
        minimum=0,
        maximum=1,
        flag=False,
    )
    wrong_rate: float = setting(
        0.0,
        "Probability that a train clip gets one label more, of a class that it does not hold.",
        minimum=0,
        maximum=1,
        flag=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for unit in ("seconds", "snr_db"):
            name, high = f"min_{unit}", getattr(self, f"max_{unit}")
            self._require(getattr(self, name) <= high, name, f"at most max_{unit}, {high}")

    def num_clips(self, split: str) -> int:
        """Return the number of clips in `split`, "train" or "eval"."""
        return {"train": self.num_train, "eval": self.num_eval}[split]

    def prevalence(self, num_classes: int) -> float:
        """Return the expected share of clips that hold a class, the same for each class."""
        mean_events = (1 + self.max_events) / 2  # in a clip; they are of distinct classes
        return mean_events / num_classes


def mix_clip(
    config: SoundscapeConfig, split: str, index: int, num_classes: int, make_event: MakeEvent
) -> tuple[np.ndarray, list[tuple[int, float, float]]]:
    """Mix clip `index` of `split`, from a generator seeded with (seed, split, index) alone.

    Its first class is number `index` modulo `num_classes`, so that as many clips in a row hold
    every class.

    Returns:
        The waveform, float32 [samples] at 16 kHz within ±0.99, and its events (class index, onset,
        offset), by onset. Times are whole milliseconds, in seconds.
    """
    rng = np.random.default_rng([config.seed, SPLITS.index(split), index])
    shortest_ms, longest_ms = round(1_000 * config.min_seconds), round(1_000 * config.max_seconds)
    clip_ms = int(rng.integers(shortest_ms, longest_ms + 1))
    background_level = 10 ** (rng.uniform(*_BACKGROUND_DBFS) / 20)
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))](rng, clip_ms * SAMPLES_PER_MS)
    waveform = background_level * synthesis.unit_rms(background)

    first = index % num_classes
    others = np.delete(np.arange(num_classes), first)
    others = rng.choice(others, rng.integers(config.max_events), replace=False)
    events = []
    for class_index in (first, *map(int, others)):
        sound = make_event(rng, split, class_index, clip_ms)
        event_ms = len(sound) // SAMPLES_PER_MS
        onset_ms = int(rng.integers(clip_ms - event_ms + 1))
        snr_db = rng.uniform(config.min_snr_db, config.max_snr_db)
        span = slice(onset_ms * SAMPLES_PER_MS, (onset_ms + event_ms) * SAMPLES_PER_MS)
        level = background_level * 10 ** (snr_db / 20)
        waveform[span] += sound * (level / loudest_window(sound)[1])
        events.append((class_index, onset_ms / 1_000, (onset_ms + event_ms) / 1_000))

    waveform *= min(1.0, _PEAK / np.abs(waveform).max())
    return waveform.astype(np.float32), sorted(events, key=lambda event: event[1])


def loudest_window(sound: np.ndarray) -> tuple[slice, float]:
    """Return the loudest 125 ms of a sound, or all of a shorter one, and their root mean square.

    The sound is float64 [samples].
    """
    window = min(LEVEL_WINDOW_MS * SAMPLES_PER_MS, len(sound))
    energy = np.concatenate([[0.0], np.cumsum(sound**2)])
    powers = energy[window:] - energy[:-window]
    start = int(np.argmax(powers))
    return slice(start, start + window), float(np.sqrt(powers[start] / window))


def whole_milliseconds(sound: np.ndarray) -> np.ndarray:
    """Return `sound` with silence behind it up to a whole millisecond."""
    return np.pad(sound, (0, -len(sound) % SAMPLES_PER_MS))
