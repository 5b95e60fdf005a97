"""Log-mels of sixteen clips of ten seconds, one core: this project's NumPy implementation against
three peers.

    python benchmarks/log_mel.py --peer_python=PEERS/bin/python

All compute the same: 16 kHz, 25 ms Hann window, 10 ms hop, FFT of 512, 64 HTK mel bands from 50 to
8000 Hz, no centring, natural logarithm. The peers compute in single precision, this project in
double (see `tfrecord_tools/log_mel.py`).
"""

from __future__ import annotations

import sys

import numpy as np
import pairs

CLIPS, SAMPLES = 16, 160_000
SETTINGS = {"sr": 16000, "n_fft": 512, "n_mels": 64, "fmin": 50, "fmax": 8000}


def waveforms() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((CLIPS, SAMPLES))).astype(np.float32)


def ours():
    from tfrecord_tools.log_mel import LogMelConfig, log_mel

    batch, config = waveforms(), LogMelConfig()
    return lambda: [log_mel(waveform, config) for waveform in batch]


def librosa():
    import librosa

    batch = waveforms()
    options = {
        **SETTINGS,
        "win_length": 400,
        "hop_length": 160,
        "center": False,
        "htk": True,
        "norm": None,
    }
    return lambda: np.log(librosa.feature.melspectrogram(y=batch, **options) + 1e-6)


def torchlibrosa():
    import torch
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram

    torch.set_num_threads(1)
    batch = torch.tensor(waveforms())
    spectrogram = Spectrogram(512, 160, 400, center=False)
    bank = LogmelFilterBank(**SETTINGS)
    return torch.no_grad()(lambda: bank(spectrogram(batch)))


def torchaudio():
    import torch
    import torchaudio

    torch.set_num_threads(1)
    batch = torch.tensor(waveforms())
    transform = torchaudio.transforms.MelSpectrogram(
        16000, 512, 400, 160, f_min=50, f_max=8000, n_mels=64, center=False
    )
    return torch.no_grad()(lambda: torch.log(transform(batch) + 1e-6))


SIDES = {
    "secost_tf": (ours, ("numpy",)),
    "librosa": (librosa, ("numpy", "librosa")),
    "torchlibrosa": (torchlibrosa, ("torch", "torchlibrosa")),
    "torchaudio": (torchaudio, ("torch", "torchaudio")),
}
BARS = {"librosa": "1.8", "torchlibrosa": "5", "torchaudio": ""}


def main() -> None:
    arguments = pairs.parser(__doc__).parse_args()
    if arguments.serve:
        pairs.serve(*SIDES[arguments.serve])
        return
    rows = []
    for name, bar in BARS.items():
        one = pairs.Side(__file__, "secost_tf", sys.executable, 1, ())
        other = pairs.Side(__file__, name, arguments.peer_python, 1, ())
        rows.append(
            {
                "what": f"log-mel, times as fast as {name}",
                "bar": bar,
                **pairs.compare(one, other, arguments.pairs),
            }
        )
        one.close(), other.close()
    pairs.show("log-mel", rows, arguments.json)


if __name__ == "__main__":
    main()
