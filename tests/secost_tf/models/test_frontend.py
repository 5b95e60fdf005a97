"""The Keras layer against the NumPy implementation it must equal."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from secost_tf.models.frontend import LogMel, log_mel_by_products
from secost_tf.training.devices import precision_policy
from tfrecord_tools.audio.loading import load_audio
from tfrecord_tools.log_mel import LogMelConfig, hertz_to_mel, log_mel, mel_to_hertz

CONFIG = LogMelConfig()
OTHER = LogMelConfig(
    sample_rate_hz=8000,
    window_seconds=0.032,
    fft_length=256,
    mel_bins=24,
    mel_min_hz=0.0,
    mel_max_hz=3500.0,
)
SIGNALS = {
    "silence": lambda samples: np.zeros(samples),
    "white noise": lambda samples: np.random.default_rng(0).uniform(-1, 1, samples),
    "sine": lambda samples: np.sin(2 * np.pi * 1000 * np.arange(samples) / 16000),
    "faint noise beside a loud sine": lambda samples: (
        0.9 * np.sin(2 * np.pi * 440 * np.arange(samples) / 16000)
        + 1e-5 * np.random.default_rng(0).standard_normal(samples)
    ),
}


@pytest.mark.parametrize("config", [CONFIG, OTHER])
@pytest.mark.parametrize("signal", SIGNALS)
def test_equals_the_numpy_log_mel(signal, config):
    waveform = SIGNALS[signal](12345).astype(np.float32)
    actual = LogMel(config)(np.stack([waveform, waveform[::-1]]))
    assert actual.dtype == tf.float32
    expected = np.stack([log_mel(waveform, config), log_mel(waveform[::-1], config)])
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float64, 1e-5), (tf.float32, 5e-3)])
@pytest.mark.parametrize("config", [CONFIG, OTHER])
@pytest.mark.parametrize("signal", SIGNALS)
def test_products_give_the_same(signal, config, dtype, tolerance):
    waveform = SIGNALS[signal](12345).astype(np.float32)
    actual = log_mel_by_products(np.stack([waveform, waveform[::-1]]), config, dtype)
    assert actual.dtype == tf.float32
    expected = np.stack([log_mel(waveform, config), log_mel(waveform[::-1], config)])
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def test_products_keep_their_digits_in_float16(monkeypatch):
    """As a converter does it: every matrix is rounded to float16."""
    plain = tf.matmul
    rounded = lambda x, matrix: plain(x, matrix.astype(np.float16).astype(matrix.dtype))  # noqa: E731
    waveform = SIGNALS["sine"](16000).astype(np.float32)
    expected = log_mel(waveform, CONFIG)
    monkeypatch.setattr(tf, "matmul", rounded)
    errors = [
        np.abs(
            log_mel_by_products(waveform[None], CONFIG, tf.float32, for_float16).numpy()[0]
            - expected
        ).max()
        for for_float16 in (True, False)
    ]
    assert errors[0] < 5e-3 < 0.1 < errors[1]


@pytest.mark.esc10
def test_equals_the_numpy_log_mel_on_a_recording():
    folder = os.environ.get("SECOST_SHARED_DATA")
    if not folder or not Path(folder, "esc10").is_dir():
        pytest.skip("SECOST_SHARED_DATA does not name a folder that holds esc10")
    path = min(Path(folder, "esc10").glob("*/*.ogg"))
    waveform = load_audio(str(path), CONFIG.sample_rate_hz).waveform
    expected = log_mel(waveform, CONFIG)
    assert expected.std() > 1  # a sound, not silence
    np.testing.assert_allclose(LogMel()(waveform[None])[0], expected, rtol=0, atol=1e-4)


def test_sine_of_1_khz_peaks_in_its_bin():
    centres_hz = mel_to_hertz(np.linspace(hertz_to_mel(50), hertz_to_mel(8000), 66))[1:-1]
    nearest = np.argmin(np.abs(centres_hz - 1000))
    actual = LogMel()(SIGNALS["sine"](16000)[None]).numpy()[0]
    assert actual.shape == (98, 64)
    np.testing.assert_array_equal(actual.argmax(axis=1), np.full(98, nearest))


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2)])
def test_num_frames(samples, frames):
    layer = LogMel()
    assert layer(np.zeros((2, samples), np.float32)).shape == (2, frames, 64)
    assert tuple(layer.compute_output_shape((2, samples))) == (2, frames, 64)
    assert tuple(layer.compute_output_shape((None, None))) == (None, None, 64)


def test_takes_any_length_in_a_saved_model(tmp_path):
    waveforms = keras.Input((None,))
    model = keras.Model(waveforms, LogMel(OTHER)(waveforms))
    path = str(tmp_path / "model.keras")
    model.save(path)
    restored = keras.models.load_model(path)
    for samples in (256, 4000):
        waveform = SIGNALS["white noise"](samples).astype(np.float32)
        np.testing.assert_allclose(
            restored(waveform[None])[0], log_mel(waveform, OTHER), rtol=0, atol=1e-4
        )


def test_config_round_trip():
    restored = LogMel.from_config(LogMel(OTHER, name="front").get_config())
    assert restored.config == OTHER
    assert restored.name == "front"
    assert LogMel().config == CONFIG


def test_float32_under_a_mixed_policy():
    waveform = SIGNALS["white noise"](1600).astype(np.float32)
    with precision_policy("mixed_bfloat16"):
        actual = LogMel()(waveform[None])
    assert actual.dtype == tf.float32
    np.testing.assert_allclose(actual[0], log_mel(waveform, CONFIG), rtol=0, atol=1e-4)
