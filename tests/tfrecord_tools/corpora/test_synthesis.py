import inspect

import numpy as np
import pytest

from tfrecord_tools.corpora import synthesis
from tfrecord_tools.corpora.synthesis import SAMPLE_RATE_HZ

BUILDING_BLOCKS = {
    "noise",
    "harmonics",
    "damped_modes",
    "strike",
    "shape_spectrum",
    "resonances",
    "unit_rms",
}
GENERATORS = [
    function
    for name, function in inspect.getmembers(synthesis, inspect.isfunction)
    if not name.startswith("_") and name not in BUILDING_BLOCKS
]


def test_all_generators_are_found():
    assert len(GENERATORS) == 12 + 5


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda g: g.__name__)
@pytest.mark.parametrize("num_samples", [800, 20_001])
def test_generator_fills_its_length_with_sound_from_its_seed_alone(generator, num_samples):
    sounds = [generator(np.random.default_rng(seed), num_samples) for seed in (1, 1, 2)]
    for sound in sounds:
        assert sound.shape == (num_samples,)
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() > 0
    assert np.array_equal(sounds[0], sounds[1])
    assert not np.array_equal(sounds[0], sounds[2])


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda g: g.__name__)
def test_generator_sounds_from_the_start(generator):
    for seed in range(10):
        sound = generator(np.random.default_rng(seed), SAMPLE_RATE_HZ)
        assert np.isfinite(sound).all()
        assert np.abs(sound[:800]).max() > 0


def test_harmonics_sum_sines():
    seconds = np.arange(500) / SAMPLE_RATE_HZ
    expected = np.sin(2 * np.pi * 440 * seconds) + 0.5 * np.sin(2 * np.pi * 880 * seconds)
    assert np.allclose(synthesis.harmonics(440 * seconds, [1, 0.5]), expected, atol=0.01)


def test_damped_modes_equal_the_formula():
    seconds = np.arange(1_000) / SAMPLE_RATE_HZ
    expected = sum(
        a * np.exp(-seconds / decay) * np.sin(2 * np.pi * f * seconds)
        for f, decay, a in ((300, 0.01, 1.0), (1_234.5, 0.2, -0.3))
    )
    sound = synthesis.damped_modes([300, 1_234.5], [0.01, 0.2], [1.0, -0.3], 1_000)
    assert np.allclose(sound, expected, atol=1e-9)


def test_strike_adds_responses_and_cuts_them():
    times = np.array([0, 2, 3, 9]) / SAMPLE_RATE_HZ + 1e-9
    sound = synthesis.strike(times, np.array([1, 2, -1, 5]), np.array([1.0, 0.5]), 5)
    assert sound.tolist() == [1, 0.5, 2, 0, -0.5]  # at 3: 2·0.5 − 1


def test_resonance_has_half_power_at_half_its_width():
    gain = synthesis.resonances([1_000], [200])(np.array([1_000, 1_100, 900]))
    assert np.allclose(gain, [1, 0.5**0.5, 0.5**0.5])


def test_shape_spectrum_with_a_flat_gain_scales():
    sound = np.random.default_rng(0).standard_normal(777)
    assert np.allclose(synthesis.shape_spectrum(sound, lambda f: np.full_like(f, 3)), 3 * sound)


@pytest.mark.parametrize(
    ("background", "db_per_octave"), [("white", 0), ("pink", -3), ("brown", -6)]
)
def test_noise_falls_as_its_colour_says(background, db_per_octave):
    sound = getattr(synthesis, background)(np.random.default_rng(0), 2**16)
    power = np.abs(np.fft.rfft(sound)) ** 2
    octaves = [
        power[start : 2 * start].mean() for start in 2 ** np.arange(9, 15)
    ]  # from 125 Hz to 8 kHz
    slopes = np.diff(10 * np.log10(octaves))
    assert np.allclose(slopes, db_per_octave, atol=1)


def test_unit_rms():
    assert np.mean(synthesis.unit_rms(np.array([3.0, -4.0])) ** 2) == pytest.approx(1)
