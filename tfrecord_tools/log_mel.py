"""The log-mel input: its settings, and the NumPy implementation.

The window and the mel matrix made here are shared with the Keras layer in
`secost_tf.models.frontend`.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import ArrayLike

from tfrecord_tools.config import Config, setting

# Work is done in blocks of frames that stay in the processor's cache: spectra in small ones, in
# double precision, since single precision is off by 1e-3 nat between loud tones; mel bands and
# logarithms in larger ones.
_FFT_FRAMES = 64

_BLOCK_FRAMES = 1024


@dataclasses.dataclass(frozen=True)
class LogMelConfig(Config):
    """Settings of the log-mel spectrogram; ten seconds at the defaults give 998 frames of 64 bins.

    Frames are not centred: frame t covers samples [t * hop, t * hop + window), and no sample is
    made up.
    """

    sample_rate_hz: int = setting(
        16000,
        "Sample rate, in Hz, that sound is resampled to; a higher one keeps higher frequencies.",
        minimum=1,
    )
    window_seconds: float = setting(
        0.025,
        "Length of an analysis window, in seconds; longer resolves frequency better, time worse.",
        above=0,
    )
    hop_seconds: float = setting(
        0.010, "Distance between windows, in seconds; smaller gives more frames.", above=0
    )
    fft_length: int = setting(
        512,
        "Points of the Fourier transform, at least the window's samples; more gives finer bins.",
        minimum=1,
    )
    mel_bins: int = setting(64, "Mel bands of a frame.", minimum=1)
    mel_min_hz: float = setting(50.0, "Lower edge of the lowest mel band, in Hz.", minimum=0)
    mel_max_hz: float = setting(
        8000.0, "Upper edge of the highest mel band, in Hz; at most half the sample rate.", above=0
    )
    log_offset: float = setting(
        1e-6, "Added to the mel power before the logarithm; the floor that silence has.", above=0
    )

    def __post_init__(self):
        super().__post_init__()
        self._require(self.window_samples >= 2, "window_seconds", "at least two samples")
        self._require(self.hop_samples >= 1, "hop_seconds", "at least one sample")
        window, high, nyquist = self.window_samples, self.mel_max_hz, self.sample_rate_hz / 2
        at_least = f"at least the window, {window} samples"
        self._require(self.fft_length >= window, "fft_length", at_least)
        self._require(self.mel_min_hz < high, "mel_min_hz", f"0 to below mel_max_hz ({high:g})")
        at_most = f"at most half the sample rate, {nyquist:g} Hz"
        self._require(high <= nyquist, "mel_max_hz", at_most)

    @property
    def window_samples(self) -> int:
        """Length of a frame in samples."""
        return round(self.window_seconds * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """Distance between the starts of two frames, in samples."""
        return round(self.hop_seconds * self.sample_rate_hz)

    def num_frames(self, num_samples: int) -> int:
        """Return the number of whole frames in `num_samples` samples; 0 if they fill no window."""
        return max(0, 1 + (num_samples - self.window_samples) // self.hop_samples)

    def seconds(self, num_frames: int) -> float:
        """Return the length of the sound that one or more frames cover."""
        samples = (num_frames - 1) * self.hop_samples + self.window_samples
        return samples / self.sample_rate_hz


def hertz_to_mel(hertz: ArrayLike) -> np.ndarray:
    """Return frequencies on the HTK mel scale: 2595 log10(1 + f / 700)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz, np.float64) / 700.0)


def mel_to_hertz(mel: ArrayLike) -> np.ndarray:
    """Return the inverse of `hertz_to_mel`."""
    return 700.0 * (10.0 ** (np.asarray(mel, np.float64) / 2595.0) - 1.0)


@functools.lru_cache(maxsize=8)
def hann_window(config: LogMelConfig) -> np.ndarray:
    """Return the periodic Hann window, float32 [window_samples]."""
    phase = 2.0 * np.pi * np.arange(config.window_samples) / config.window_samples
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


@functools.lru_cache(maxsize=8)
def mel_matrix(config: LogMelConfig) -> np.ndarray:
    """Return triangular mel filters with peak 1, float32 [fft_length // 2 + 1, mel_bins].

    They are not normalised by area. Edges are equally spaced on the HTK mel scale, slopes are
    straight in Hz (as in librosa with `htk=True, norm=None` and torchaudio's `melscale_fbanks`).
    """
    bins_hz = np.linspace(0.0, config.sample_rate_hz / 2, config.fft_length // 2 + 1)[:, None]
    lowest, highest = hertz_to_mel(config.mel_min_hz), hertz_to_mel(config.mel_max_hz)
    edges_hz = mel_to_hertz(np.linspace(lowest, highest, config.mel_bins + 2))
    lower, centre, upper = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz - lower) / (centre - lower)
    falling = (upper - bins_hz) / (upper - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(waveform: np.ndarray, config: LogMelConfig) -> np.ndarray:
    """Compute log(mel power + log_offset) of a mono waveform.

    Args:
        waveform: float [samples] at `config.sample_rate_hz`, full scale -1..1.
        config: the settings.

    Returns:
        float32 [frames, mel_bins]; no frame if the waveform is shorter than one window.

    Raises:
        ValueError: if the waveform is not one-dimensional and floating.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(
            "waveform: expected floats of shape [samples], "
            f"got {waveform.dtype} of shape {list(waveform.shape)}"
        )
    num_frames = config.num_frames(len(waveform))
    result = np.empty((num_frames, config.mel_bins), np.float32)
    for start in range(0, num_frames, _BLOCK_FRAMES):
        block = result[start : start + _BLOCK_FRAMES]
        first_sample = start * config.hop_samples
        last_sample = first_sample + (len(block) - 1) * config.hop_samples + config.window_samples
        # [mel_bins, frames]: each step below works along the frames, which lie side by side.
        mel = _mel_power(waveform[first_sample:last_sample], len(block), config)
        mel += np.float32(config.log_offset)
        block[:] = np.log(mel, out=mel).T
    return result


def _mel_power(samples: np.ndarray, num_frames: int, config: LogMelConfig) -> np.ndarray:
    """Return the mel power of the frames that `samples` holds; float32 [mel_bins, frames]."""
    window = hann_window(config).astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), len(window))
    frames = frames[:: config.hop_samples]
    power = np.empty((config.fft_length // 2 + 1, num_frames), np.float32)
    windowed = np.zeros((_FFT_FRAMES, config.fft_length))
    for start in range(0, num_frames, _FFT_FRAMES):
        part = frames[start : start + _FFT_FRAMES]
        np.multiply(part, window, out=windowed[: len(part), : len(window)])
        parts = np.fft.rfft(windowed[: len(part)]).view(np.float64)  # real, imaginary in turn
        np.square(parts, out=parts)
        power[:, start : start + len(part)] = (parts[:, ::2] + parts[:, 1::2]).T
    mel = np.empty((config.mel_bins, num_frames), np.float32)
    # Not mel_matrix.T @ power: the last bits of a matrix product depend on the number of threads,
    # shards must not.
    for index, (first_bin, weights) in enumerate(_bands(config)):
        np.einsum("k,kf->f", weights, power[first_bin : first_bin + len(weights)], out=mel[index])
    return mel


@functools.lru_cache(maxsize=8)
def _bands(config: LogMelConfig) -> tuple[tuple[int, np.ndarray], ...]:
    """Return each mel filter as its first FFT bin and its weights from there to its last one."""
    bands = []
    for column in mel_matrix(config).T:
        used = np.flatnonzero(column)
        first, last = (used[0], used[-1] + 1) if len(used) else (0, 0)
        bands.append((int(first), np.ascontiguousarray(column[first:last])))
    return tuple(bands)
