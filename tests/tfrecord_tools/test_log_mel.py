import numpy as np
import pytest

from tfrecord_tools.log_mel import (
    LogMelConfig,
    hann_window,
    hertz_to_mel,
    log_mel,
    mel_matrix,
    mel_to_hertz,
)

CONFIG = LogMelConfig()


def reference(waveform: np.ndarray, config: LogMelConfig) -> np.ndarray:
    """Compute the definition, frame by frame in float64, with the Fourier transform written out."""
    window_samples, hop_samples = config.window_samples, config.hop_samples
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_samples) / window_samples)
    bins = np.arange(config.fft_length // 2 + 1)
    transform = np.exp(-2j * np.pi * np.outer(np.arange(window_samples), bins) / config.fft_length)
    edges_hz = mel_to_hertz(
        np.linspace(
            hertz_to_mel(config.mel_min_hz), hertz_to_mel(config.mel_max_hz), config.mel_bins + 2
        )
    )
    rows = []
    for start in range(0, len(waveform) - window_samples + 1, hop_samples):
        power = np.abs((waveform[start : start + window_samples] * window) @ transform) ** 2
        row = []
        for lower, centre, upper in zip(edges_hz[:-2], edges_hz[1:-1], edges_hz[2:], strict=True):
            weights = np.interp(
                bins * config.sample_rate_hz / config.fft_length, [lower, centre, upper], [0, 1, 0]
            )
            row.append(np.log(power @ weights + config.log_offset))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        LogMelConfig(
            sample_rate_hz=32000, fft_length=1024, mel_bins=40, mel_min_hz=0.0, mel_max_hz=14000.0
        ),
        LogMelConfig(mel_bins=128, hop_seconds=0.0125),  # its lowest bands hold no FFT bin
    ],
)
def test_equals_the_definition_in_float64(config):
    waveform = 0.1 * np.random.default_rng(0).standard_normal(config.sample_rate_hz // 2)
    actual = log_mel(waveform, config)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, reference(waveform, config), atol=1e-4)


def test_ten_seconds_give_998_frames():
    assert log_mel(np.zeros(160000, np.float32), CONFIG).shape == (998, 64)


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2)])
def test_num_frames(samples, frames):
    assert CONFIG.num_frames(samples) == frames
    assert log_mel(np.zeros(samples, np.float32), CONFIG).shape == (frames, 64)


def test_silence_is_the_logarithm_of_the_offset():
    np.testing.assert_allclose(log_mel(np.zeros(1600, np.float32), CONFIG), np.log(1e-6), rtol=1e-6)


def test_sine_of_1_khz_peaks_in_its_bin():
    sine = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    centres_hz = mel_to_hertz(np.linspace(hertz_to_mel(50), hertz_to_mel(8000), 66))[1:-1]
    assert (log_mel(sine, CONFIG).argmax(axis=1) == np.abs(centres_hz - 1000).argmin()).all()


def test_a_frame_does_not_depend_on_the_others():
    waveform = np.random.default_rng(0).standard_normal(160 * 300).astype(np.float32)
    whole = log_mel(waveform, CONFIG)
    np.testing.assert_allclose(log_mel(waveform[160 * 200 :], CONFIG), whole[200:], atol=1e-6)


def test_window_and_mel_matrix():
    window = hann_window(CONFIG)
    assert (
        window.shape == (400,) and window[0] == 0 and window[200] == 1
    )  # periodic: its last sample is not 0
    assert window[399] > 0
    matrix = mel_matrix(CONFIG)
    assert matrix.shape == (257, 64) and matrix.min() == 0 and matrix.max() <= 1
    assert not matrix[0].any()  # 0 Hz is below the lowest band
    # Between the first and the last centre the triangles add up to 1.
    inner = (matrix.argmax(axis=1) > 0) & (matrix.argmax(axis=1) < 63)
    np.testing.assert_allclose(matrix[inner].sum(axis=1), 1, rtol=1e-5)
    assert hann_window(CONFIG) is window and mel_matrix(LogMelConfig()) is matrix


def test_mel_scale():
    assert hertz_to_mel(0) == 0 and hertz_to_mel(700) == pytest.approx(2595 * np.log10(2))
    assert mel_to_hertz(hertz_to_mel(1234.5)) == pytest.approx(1234.5)


@pytest.mark.parametrize("waveform", [np.zeros((2, 800), np.float32), np.zeros(800, np.int16)])
def test_bad_waveform(waveform):
    with pytest.raises(ValueError, match=r"waveform: expected floats of shape \[samples\]"):
        log_mel(waveform, CONFIG)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_rate_hz": 0}, "sample_rate_hz: expected a whole number, at least 1, got 0"),
        (
            {"sample_rate_hz": "16k"},
            "sample_rate_hz: expected a whole number, at least 1, got '16k'",
        ),
        ({"mel_bins": True}, "mel_bins: expected a whole number, at least 1, got True"),
        ({"window_seconds": 0.00005}, "window_seconds: expected at least two samples"),
        ({"hop_seconds": 0.0}, "hop_seconds: expected a positive number, got 0.0"),
        ({"hop_seconds": 0.00002}, "hop_seconds: expected at least one sample"),
        ({"fft_length": 256}, "fft_length: expected at least the window, 400 samples"),
        ({"mel_bins": 0}, "mel_bins: expected a whole number, at least 1, got 0"),
        ({"mel_min_hz": 8000.0}, "mel_min_hz: expected 0 to below mel_max_hz"),
        ({"mel_max_hz": 9000.0}, "mel_max_hz: expected at most half the sample rate, 8000 Hz"),
        ({"log_offset": 0.0}, "log_offset: expected a positive number"),
        ({"log_offset": float("nan")}, "log_offset: expected a positive number, got nan"),
    ],
)
def test_bad_config(settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        LogMelConfig(**settings)


def test_config_round_trip_and_differences():
    config = LogMelConfig(mel_bins=40)
    assert LogMelConfig.from_dict(config.to_dict()) == config
    assert config.differences(CONFIG) == "mel_bins: 40 != 64"
    assert config.differences(config) == ""
    with pytest.raises(ValueError, match="LogMelConfig has no bands"):
        LogMelConfig.from_dict({"bands": 3})
