"""Sounds from NumPy alone: a dozen event generators and five backgrounds for `soundscapes`.

Each is a small physical model with random pitch, rate and timbre: harmonic sources are periodic
waveforms read at a moving phase, struck objects are impulses exciting damped resonances, and the
rest is noise of a given spectrum.

A generator is `generator(rng, num_samples) -> [num_samples]` float64 at `SAMPLE_RATE_HZ`, at any
level: whoever mixes it sets the level. It draws from `rng` alone, so one seed gives one sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike

SAMPLE_RATE_HZ = 16_000

SoundGenerator = Callable[[np.random.Generator, int], np.ndarray]

Gain = Callable[[np.ndarray], np.ndarray]  # frequencies in Hz -> amplitude gain

_MAX_HARMONIC_HZ = 7_600.0

_TABLE_SIZE = 2_048  # a power of two


# === Building blocks ===
def noise(rng: np.random.Generator, num_samples: int, gain: Gain) -> np.ndarray:
    """Return Gaussian noise whose amplitude spectrum, in which it is drawn, follows `gain`."""
    size = _fast_size(num_samples)
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    spectrum = rng.standard_normal(2 * frequencies.size).view(np.complex128)
    return np.fft.irfft(spectrum * gain(frequencies), size)[:num_samples]


def harmonics(phase_cycles: np.ndarray, amplitudes: ArrayLike) -> np.ndarray:
    """Return a periodic waveform read at a phase: `amplitudes[k]` is that of harmonic k + 1.

    One period is tabulated and looked up, which costs the same for one harmonic as for forty.
    """
    positions = np.arange(_TABLE_SIZE) / _TABLE_SIZE
    amplitudes = np.asarray(amplitudes)[:, None]
    orders = np.arange(1, len(amplitudes) + 1)[:, None]
    table = (amplitudes * np.sin(2 * np.pi * orders * positions)).sum(axis=0)
    return table[(phase_cycles * _TABLE_SIZE).astype(np.int64) & (_TABLE_SIZE - 1)]


def damped_modes(
    frequencies_hz: ArrayLike, decays_seconds: ArrayLike, amplitudes: ArrayLike, num_samples: int
) -> np.ndarray:
    """Return the ring of a struck object: the sum of a·exp(−t/decay)·sin(2πft) over its modes.

    Sample t = block·m + n uses exp(r·t) = exp(r·block·m)·exp(r·n): a few hundred exponentials
    instead of one a sample.
    """
    block = 256
    num_blocks = -(-num_samples // block)
    frequencies_hz, decays_seconds = np.asarray(frequencies_hz), np.asarray(decays_seconds)
    rates = (2j * np.pi * frequencies_hz - 1 / decays_seconds)[:, None] / SAMPLE_RATE_HZ
    coarse = np.asarray(amplitudes)[:, None] * np.exp(rates * block * np.arange(num_blocks))
    fine = np.exp(rates * np.arange(block))
    # The imaginary part of the product, summed over the modes.
    left, right = np.concatenate([coarse.real, coarse.imag]), np.concatenate([fine.imag, fine.real])
    return np.einsum("km,kn->mn", left, right).ravel()[:num_samples]


def strike(
    times_seconds: np.ndarray, gains: np.ndarray, response: np.ndarray, num_samples: int
) -> np.ndarray:
    """Return `response` set off at each time with each gain, added up, cut at `num_samples`."""
    sound = np.zeros(num_samples)
    for start, gain in zip((times_seconds * SAMPLE_RATE_HZ).astype(np.int64), gains, strict=True):
        if start < num_samples:
            part = sound[start : start + len(response)]
            part += gain * response[: len(part)]
    return sound


def shape_spectrum(sound: np.ndarray, gain: Gain) -> np.ndarray:
    """Return `sound` with its spectrum multiplied by `gain` (zero phase)."""
    size = _fast_size(len(sound) + 1_024)
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(np.fft.rfft(sound, size) * gain(frequencies), size)[: len(sound)]


def resonances(centres_hz: Iterable[float], widths_hz: Iterable[float]) -> Gain:
    """Return the gain of resonances side by side: 1 at a centre, half power half a width away."""
    peaks = list(zip(centres_hz, widths_hz, strict=True))

    def gain(frequencies: np.ndarray) -> np.ndarray:
        offsets = (2 * (frequencies - centre) / width for centre, width in peaks)
        return np.asarray(sum(1 / np.sqrt(1 + offset**2) for offset in offsets))

    return gain


def unit_rms(sound: np.ndarray) -> np.ndarray:
    """Return `sound` scaled to a root mean square of 1."""
    return sound / np.sqrt(np.mean(sound**2))


def _fast_size(num_samples: int) -> int:
    """Return a length of whole blocks, which keep the prime factors of an FFT small."""
    return -(-num_samples // 4_096) * 4_096


def _seconds(num_samples: int) -> np.ndarray:
    """Return the times of samples, in seconds."""
    return np.arange(num_samples) / SAMPLE_RATE_HZ


def _phase(frequency_hz: np.ndarray) -> np.ndarray:
    """Return the phase, in cycles, of a moving frequency."""
    return np.cumsum(frequency_hz) / SAMPLE_RATE_HZ


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _rolled_off(pitch_hz: float, exponent: float) -> np.ndarray:
    """Return amplitudes 1 / k**exponent of the harmonics below the Nyquist frequency."""
    count = max(1, min(60, int(_MAX_HARMONIC_HZ / pitch_hz)))
    return np.arange(1, count + 1) ** -exponent


def _bursts(
    rng: np.random.Generator,
    sound: np.ndarray,
    on_seconds: tuple[float, float],
    off_seconds: tuple[float, float],
) -> Iterator[np.ndarray]:
    """Yield parts of `sound` to be written to, with silences between them; the last may be cut."""
    start = 0
    while start < len(sound):
        stop = min(start + max(1, int(rng.uniform(*on_seconds) * SAMPLE_RATE_HZ)), len(sound))
        yield sound[start:stop]
        start = stop + int(rng.uniform(*off_seconds) * SAMPLE_RATE_HZ)


def _beats(
    rng: np.random.Generator, num_samples: int, interval_seconds: float, jitter: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the times of near-regular strokes, the first at 0, and a loudness for each."""
    count = int(num_samples / SAMPLE_RATE_HZ / interval_seconds) + 1
    times = interval_seconds * (np.arange(count) + jitter * rng.uniform(-1, 1, count))
    times[0] = 0.0
    return times, rng.uniform(0.7, 1.0, count)


# === Events ===
def bark(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return a dog's bark: bursts of a rough voice, whose pitch rises and falls, and formants."""
    # From a big dog to a small one, whose vocal tract is smaller too.
    pitch_hz = _log_uniform(rng, 180, 700)
    tract = (pitch_hz / 350) ** 0.35 * rng.uniform(0.85, 1.15)
    formants = resonances(np.array([700, 1_500, 2_800]) * tract, np.array([250, 400, 700]))
    arch, skew, roughness = rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.9), rng.uniform(0.15, 0.6)
    sound = np.zeros(num_samples)
    for burst in _bursts(rng, sound, (0.1, 0.28), (0.08, 0.45)):
        progress = np.arange(burst.size) / burst.size
        rise = 0.75 + arch * np.sin(np.pi * progress**skew)
        contour = pitch_hz * rng.uniform(0.93, 1.07) * rise
        voice = harmonics(_phase(contour), _rolled_off(pitch_hz * (0.75 + arch), 0.7))
        voice += roughness * rng.standard_normal(burst.size)
        swell = np.sin(np.pi * progress**0.5)
        burst[:] = shape_spectrum(voice, formants) * swell * rng.uniform(0.6, 1)
    return sound


def chirp(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return a bird's call: a short whistled sweep with vibrato, repeated with small changes."""
    low_hz = _log_uniform(rng, 2_000, 4_200)
    start_hz, stop_hz = rng.permutation([low_hz, min(low_hz * rng.uniform(1.15, 1.8), 6_500)])
    trill_hz, trill_depth = rng.uniform(15, 60), rng.uniform(0, 0.06)
    syllable = rng.uniform(0.04, 0.2)
    gap = rng.uniform(0.03, 0.25)
    sound = np.zeros(num_samples)
    on, off = (0.8 * syllable, 1.2 * syllable), (0.7 * gap, 1.5 * gap)
    for burst in _bursts(rng, sound, on, off):
        progress = np.arange(burst.size) / burst.size
        sweep = start_hz * (stop_hz / start_hz) ** (progress ** rng.uniform(0.6, 1.6))
        trill = 1 + trill_depth * np.sin(2 * np.pi * trill_hz * _seconds(burst.size))
        sweep *= rng.uniform(0.95, 1.05) * trill
        tone = harmonics(_phase(sweep), [1.0]) * np.sin(np.pi * progress)
        burst[:] = tone * rng.uniform(0.5, 1)
    return sound


def church_bell(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return a church bell: slow strokes on inharmonic partials (hum, prime, tierce, quint ...)."""
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.51, 3.01, 4.1, 5.4])
    partials_hz = _log_uniform(rng, 180, 620) * ratios
    partials_hz *= rng.normal(1, 0.008, partials_hz.size)
    decays = rng.uniform(0.7, 1.8) * (partials_hz / partials_hz[0]) ** -0.7
    amplitudes = rng.uniform(0.3, 1, partials_hz.size) * partials_hz ** rng.uniform(-0.6, 0)
    # The casting is never quite round: the low partials are pairs that beat.
    pairs = [*range(partials_hz.size), 0, 1, 2, 3]
    detuning_hz = rng.uniform(0.5, 3, len(pairs))
    detuning_hz[: partials_hz.size] = 0
    modes_hz = partials_hz[pairs] + detuning_hz
    ring = damped_modes(modes_hz, decays[pairs], amplitudes[pairs], num_samples)
    return strike(*_beats(rng, num_samples, rng.uniform(0.7, 2.0), 0.05), ring, num_samples)


def rain(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return rain: a bright hiss and many single drops, swelling and fading slowly."""
    centre_hz = _log_uniform(rng, 2_000, 6_000)
    hiss = noise(rng, num_samples, resonances([centre_hz], [rng.uniform(3_000, 8_000)]))
    drops_per_second = _log_uniform(rng, 40, 300)
    count = max(1, int(drops_per_second * num_samples / SAMPLE_RATE_HZ))
    drop = damped_modes(
        rng.uniform(1_000, 6_500, 4), rng.uniform(0.0002, 0.001, 4), rng.uniform(0.3, 1, 4), 160
    )
    times = rng.uniform(0, num_samples / SAMPLE_RATE_HZ, count)
    drops = strike(times, rng.lognormal(0, 0.7, count), drop, num_samples)
    cycles = rng.uniform(0.1, 0.5) * _seconds(num_samples) + rng.uniform()
    swell = 1 + 0.4 * np.sin(2 * np.pi * cycles)
    mixture = unit_rms(hiss) * rng.uniform(0.5, 1.2) + unit_rms(drops)
    places = np.arange(num_samples)
    return mixture * swell * np.minimum(1, np.minimum(places, places[::-1]) / 2_400)


def idling(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return an idling engine: uneven firings through the resonances of a body, and gas noise."""
    interval = 1 / _log_uniform(rng, 16, 48)
    times, gains = _beats(rng, num_samples, interval, rng.uniform(0.02, 0.12))
    cylinders = rng.uniform(0.5, 1, rng.integers(2, 7))
    gains = gains * np.resize(cylinders, gains.size)
    centres_hz = np.array([rng.uniform(60, 130), rng.uniform(180, 420), rng.uniform(600, 1_300)])
    decays = rng.uniform(0.006, 0.02, 3)
    amplitudes = [1, rng.uniform(0.4, 1), rng.uniform(0.1, 0.5)]
    body = damped_modes(centres_hz, decays, amplitudes, 2_000)
    firing = strike(times, gains, body, num_samples)
    gas = noise(rng, num_samples, resonances([rng.uniform(300, 900)], [1_200]))
    puffs = strike(times, gains, np.exp(-_seconds(1_000) / 0.008), num_samples)
    return unit_rms(firing) + rng.uniform(0.1, 0.5) * unit_rms(gas * puffs)


def knock(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return knuckles on a door: groups of a few thumps of short, low wood resonances."""
    modes_hz = _log_uniform(rng, 110, 420) * np.array([1, 2.1, 3.4, 5.6]) * rng.normal(1, 0.06, 4)
    decays = rng.uniform(0.015, 0.04) * np.array([1, 0.7, 0.5, 0.3])
    amplitudes = [1, rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.4)]
    thump = damped_modes(modes_hz, decays, amplitudes, 3_000)
    interval = rng.uniform(0.14, 0.38)
    group = interval * rng.integers(2, 6)
    sound = np.zeros(num_samples)
    for burst in _bursts(rng, sound, (group, group), (0.4, 0.9)):
        burst[:] = strike(*_beats(rng, burst.size, interval, 0.1), thump, burst.size)
    return sound


def telephone_bell(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return an old telephone: a clapper between two gongs, some twenty strokes a second."""
    first_hz = _log_uniform(rng, 900, 1_900)
    gong_hz = np.array([first_hz, first_hz * rng.uniform(1.1, 1.35)])
    stroke_interval = 1 / rng.uniform(18, 28)
    overtones, decay = np.array([1, 2.0, 2.72, 4.1]), rng.uniform(0.08, 0.3)
    amplitudes = rng.uniform(0.3, 1, overtones.size)
    sound = np.zeros(num_samples)
    on, off = rng.uniform(0.5, 1.8), rng.uniform(0.2, 0.8)
    for burst in _bursts(rng, sound, (on, on), (off, off)):
        times, gains = _beats(rng, burst.size, stroke_interval, 0.04)
        for gong, fundamental_hz in enumerate(gong_hz):
            modes_hz = fundamental_hz * overtones
            kept = modes_hz < _MAX_HARMONIC_HZ
            ring = damped_modes(modes_hz[kept], (decay / overtones)[kept], amplitudes[kept], 6_000)
            burst += strike(times[gong::2], gains[gong::2], ring, burst.size)
    return sound


def siren(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return a siren: a horn swept slowly (wail), fast (yelp), or of two tones in turn (hi-lo)."""
    low_hz = rng.uniform(450, 850)
    ratio = rng.uniform(1.4, 2.2)
    kind = rng.integers(3)
    seconds, start = _seconds(num_samples), rng.uniform()
    if kind == 0:
        sweep = 0.5 - 0.5 * np.cos(2 * np.pi * (rng.uniform(0.2, 0.6) * seconds + start))
    elif kind == 1:
        sweep = 1 - np.abs(2 * ((rng.uniform(2, 5) * seconds + start) % 1) - 1)
    else:
        sweep = ((rng.uniform(0.6, 1.6) * seconds + start) % 1 < 0.5).astype(float)
        ratio = rng.uniform(1.2, 1.45)
    amplitudes = _rolled_off(low_hz * ratio, rng.uniform(0.8, 2))
    return harmonics(_phase(low_hz * ratio**sweep), amplitudes)


def buzzer(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return an electric buzzer: bursts of a steady, harsh, low tone, rich in odd harmonics."""
    pitch_hz = rng.choice([100, 120, _log_uniform(rng, 90, 380)])  # mains driven, or any pitch
    amplitudes = _rolled_off(pitch_hz, rng.uniform(0.3, 0.9))
    amplitudes[1::2] *= rng.uniform(0, 0.8)
    case = resonances(rng.uniform(400, 4_500, 3), rng.uniform(300, 1_200, 3))
    drift = 1 + 0.01 * np.cumsum(rng.standard_normal(num_samples)) / np.sqrt(SAMPLE_RATE_HZ)
    tone = harmonics(_phase(pitch_hz * drift), amplitudes)
    is_on = np.zeros(num_samples)
    for burst in _bursts(rng, is_on, (0.25, 1.6), (0.1, 0.4)):
        burst[:] = 1
    return shape_spectrum(tone, lambda f: 0.15 + case(f)) * is_on


def whistle(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return a referee's whistle: a high tone that the pea makes flutter, and breath noise."""
    pitch_hz = _log_uniform(rng, 2_000, 3_900)
    flutter_hz, depth, bend = rng.uniform(18, 48), rng.uniform(0.25, 0.95), rng.uniform(0.005, 0.04)
    breath_gain = rng.uniform(0.1, 0.5)
    sound = np.zeros(num_samples)
    for burst in _bursts(rng, sound, (0.25, 1.2), (0.1, 0.4)):
        seconds = _seconds(burst.size)
        flutter = np.sin(2 * np.pi * flutter_hz * seconds + rng.uniform(0, 6))
        contour = pitch_hz * (1 + bend * flutter - 0.15 * np.exp(-seconds / 0.02))
        breath = unit_rms(noise(rng, burst.size, resonances([pitch_hz], [900])))
        tone = harmonics(_phase(contour), [1, 0.15]) * (1 + depth * flutter)
        fade = np.minimum(1, np.minimum(seconds, seconds[::-1]) / 0.02)
        burst[:] = (tone + breath_gain * breath) * fade
    return sound


def tick_tock(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return a clock: even clicks of two kinds in turn, each a few very short, high resonances."""
    interval = rng.choice([1 / 2, 1 / 4, 1 / 5, rng.uniform(0.2, 0.6)])
    times, gains = _beats(rng, num_samples, interval, 0.01)
    low_hz = _log_uniform(rng, 1_100, 3_500)
    sound = np.zeros(num_samples)
    for first, scale in ((0, 1.0), (1, rng.uniform(0.7, 0.95))):
        modes_hz = scale * low_hz * np.array([1, 1.55, 2.1])
        click = damped_modes(modes_hz, rng.uniform(0.002, 0.012, 3), rng.uniform(0.4, 1, 3), 1_600)
        sound += strike(times[first::2], gains[first::2], click, num_samples)
    return sound


def breaking(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return breaking glass: a crack of noise, then fragments that ring high and die out."""
    crack = np.exp(-_seconds(num_samples) / rng.uniform(0.01, 0.05)) * rng.uniform(0.5, 1.5)
    sound = crack * rng.standard_normal(num_samples)
    spread = rng.uniform(0.15, 0.5) * num_samples
    for start in rng.exponential(spread, rng.integers(15, 45)).astype(np.int64):
        part = sound[start : start + 4_000]
        if part.size:
            modes_hz, decays = rng.uniform(1_800, 7_400, 3), rng.uniform(0.008, 0.06, 3)
            ring = damped_modes(modes_hz, decays, rng.uniform(0.1, 0.7, 3), part.size)
            part += ring * np.exp(-start / (1.5 * spread))
    return sound


# === Backgrounds ===
def white(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return white noise: equal power at all frequencies."""
    return rng.standard_normal(num_samples)


def pink(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return pink noise: 3 dB less an octave."""
    return noise(rng, num_samples, lambda f: 1 / np.sqrt(np.maximum(f, 20)))


def brown(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return brown noise: 6 dB less an octave, flat below 60 Hz."""
    return noise(rng, num_samples, lambda f: 1 / np.maximum(f, 60))


def hum(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return mains hum of 50 or 60 Hz with its overtones over some pink noise."""
    mains_hz = rng.choice([50.0, 60.0])
    amplitudes = rng.uniform(0, 1, 12) / np.arange(1, 13)
    tone = harmonics(mains_hz * _seconds(num_samples), amplitudes)
    return unit_rms(tone) + rng.uniform(0.3, 1) * unit_rms(pink(rng, num_samples))


def babble(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Return babble: noise through a voice's formants, swelling at the rate of syllables."""
    centres_hz = np.array([400, 1_100, 2_500]) * rng.uniform(0.75, 1.25, 3)
    formants = resonances(centres_hz, [250, 250, 400])
    seconds = _seconds(num_samples)
    syllables = np.arange(0, seconds[-1] + 0.4, rng.uniform(0.1, 0.2))
    loudness = np.interp(seconds, syllables, 0.2 + rng.rayleigh(1, syllables.size))
    voices = unit_rms(noise(rng, num_samples, formants)) * loudness
    return voices + 0.1 * rng.standard_normal(num_samples)
