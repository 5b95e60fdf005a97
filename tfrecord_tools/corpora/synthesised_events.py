"""The classes of the built-in corpus: AudioSet's names for the generators in `synthesis`."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfrecord_tools.corpora import synthesis
from tfrecord_tools.corpora.mixing import SAMPLES_PER_MS, whole_milliseconds
from tfrecord_tools.corpora.synthesis import SoundGenerator
from tfrecord_tools.datasets import ClassMap


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

CLASS_MAP = ClassMap(tuple(c.mid for c in CLASSES), tuple(c.display_name for c in CLASSES))


def synthesised_event(
    rng: np.random.Generator, split: str, class_index: int, clip_ms: int
) -> np.ndarray:
    """Return an event, cut to where it is within 40 dB of its peak; alike for all splits.

    It is a `mixing.MakeEvent`.
    """
    del split
    sound_class = CLASSES[class_index]
    longest_ms = 1_000 * rng.uniform(sound_class.min_seconds, sound_class.max_seconds)
    sound = sound_class.generator(rng, min(int(longest_ms), clip_ms) * SAMPLES_PER_MS)
    fade = np.linspace(1, 0, 5 * SAMPLES_PER_MS)
    sound[-fade.size :] *= fade  # what was cut off in mid sound would click
    heard = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
    return whole_milliseconds(sound[heard[0] : heard[-1] + 1])
