"""Audio files to shards: speed against librosa, the share of decoding alone, the gain from a second
core, memory.

    python benchmarks/conversion.py --peer_python=PEERS/bin/python [--clips=300] [--cores |
    --memory]

The clips are ten seconds of synthesised sound, 44.1 kHz stereo, as wav, flac, mp3 (libsndfile) and
m4a (FFmpeg).
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pairs

RATE_HZ, SECONDS, DISTINCT = 44100, 10, 10
ALONE = ("decode", "load", "librosa")
FORMATS = ("wav", "flac", "mp3", "m4a")
CACHE = Path(tempfile.gettempdir()) / "secost-benchmark-conversion"


def sound(seed: int) -> np.ndarray:
    """Events of rising and falling tones and bursts over pink-like noise; float32 [samples, 2]."""
    generator = np.random.default_rng(seed)
    time = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    noise = generator.standard_normal((len(time), 2))
    slow = np.repeat(generator.standard_normal((len(time) // 63 + 1, 2)), 63, axis=0)[: len(time)]
    result = 0.02 * noise + 0.05 * slow
    for _ in range(6):
        start, length = generator.uniform(0, 9), generator.uniform(0.2, 2.0)
        inside = (time >= start) & (time < start + length)
        hz = generator.uniform(200, 6000) * (
            1 + generator.uniform(-0.2, 0.2) * (time[inside] - start)
        )
        tone = np.sin(2 * np.pi * hz * time[inside]) * np.hanning(inside.sum())
        result[inside] += (
            generator.uniform(0.05, 0.3) * tone[:, None] * generator.uniform(0.3, 1, 2)
        )
    return np.clip(result, -0.99, 0.99).astype(np.float32)


def make_files() -> None:
    """Ten files of each format, once."""
    import soundfile

    CACHE.mkdir(exist_ok=True)
    for seed in range(DISTINCT):
        for extension in FORMATS:
            path = CACHE / f"{seed}.{extension}"
            if path.exists():
                continue
            if extension == "m4a":
                encode_aac(path, sound(seed))
            else:
                soundfile.write(path, sound(seed), RATE_HZ)


def encode_aac(path: Path, samples: np.ndarray) -> None:
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("aac", rate=RATE_HZ, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(1024, partial=True):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def paths(extension: str, count: int) -> list[str]:
    return [str(CACHE / f"{index % DISTINCT}.{extension}") for index in range(count)]


def convert(extension: str, count: int, workers: int):
    """The whole conversion, worker processes and all, to a folder in memory if there is one."""
    from tfrecord_tools.conversion.clip import ConvertConfig
    from tfrecord_tools.conversion.convert import convert_dataset as run
    from tfrecord_tools.conversion.local_runner import convert_shards_locally
    from tfrecord_tools.datasets.clips import ClassMap, Clip

    clips = [
        Clip(f"{index:06d}", path, labels=(0,))
        for index, path in enumerate(paths(extension, count))
    ]
    runner = functools.partial(convert_shards_locally, workers=workers, clip_timeout_seconds=60.0)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            config = ConvertConfig("train", "benchmark", clips_per_shard=100)
            run(
                clips,
                ClassMap(("a",), ("a",)),
                config,
                folder,
                runner=runner,
                report=lambda line: None,
            )

    return work


def decode_alone(extension: str, count: int):
    """libsndfile's decoding, or FFmpeg's of m4a, and nothing else, one core."""
    if extension == "m4a":
        import av

        def decode(path: str) -> None:
            with av.open(path) as container:
                for _ in container.decode(audio=0):
                    pass
    else:
        import soundfile

        def decode(path: str) -> None:
            soundfile.read(path, dtype="float32")

    return lambda: [decode(path) for path in paths(extension, count)]


def load_alone(extension: str, count: int):
    """Decoding, mean of the channels and resampling to 16 kHz (soxr HQ), one core."""
    from tfrecord_tools.audio.loading import load_audio

    return lambda: [load_audio(path, 16000) for path in paths(extension, count)]


def librosa_alone(extension: str, count: int):
    """What a script would do: librosa.load, mel spectrogram, logarithm, a TFRecord of float32; one
    process.
    """
    import librosa

    from tfrecord_tools.shards import files as shards
    from tfrecord_tools.shards import records

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            shards.write_records(f"{folder}/a.tfrecord", map(record, paths(extension, count)))

    def record(path: str) -> bytes:
        waveform, _ = librosa.load(path, sr=16000)
        mel = librosa.feature.melspectrogram(
            y=waveform,
            sr=16000,
            n_fft=512,
            win_length=400,
            hop_length=160,
            center=False,
            n_mels=64,
            fmin=50,
        )
        log_mel = np.ascontiguousarray(np.log(mel + 1e-6).T, np.float32)
        return records.encode(records.ClipRecord("a", log_mel, (0,)))

    return work


def apart(extension: str, count: int, processes: int):
    """The same work on each clip in processes that share nothing and send nothing: what the machine
    allows.
    """
    from tfrecord_tools.parallel import _one_thread_per_child

    with _one_thread_per_child():
        pool = multiprocessing.get_context("spawn").Pool(processes)
        pool.map(convert_all, [paths(extension, 1)] * processes, chunksize=1)  # all have started
    each = paths(extension, count // processes)
    return lambda: pool.map(convert_all, [each] * processes, chunksize=1)


def convert_all(files: list[str]) -> None:
    from tfrecord_tools.conversion.clip import ConvertConfig, convert_clip
    from tfrecord_tools.datasets.clips import Clip

    config = ConvertConfig("train", "benchmark")
    for path in files:
        assert convert_clip(Clip("a", path, labels=(0,)), config).record


def side(name: str, arguments) -> None:
    kind, _, extension = name.partition("-")
    count = arguments.clips
    prepare = {
        "one": lambda: convert(extension, count, 1),
        "two": lambda: convert(extension, count, 2),
        "apart1": lambda: apart(extension, count, 1),
        "apart2": lambda: apart(extension, count, 2),
        "decode": lambda: decode_alone(extension, count),
        "load": lambda: load_alone(extension, count),
        "librosa": lambda: librosa_alone(extension, count),
    }[kind]
    pairs.serve(prepare, ("numpy", "soundfile"))


def peak_megabytes(count: int) -> tuple[float, float]:
    """Of a conversion of so many clips with two workers: the parent's peak, and that of its largest
    child.
    """
    code = (
        f"import sys; sys.path[:0] = [{str(pairs.ROOT)!r}, {str(pairs.ROOT / 'benchmarks')!r}]\n"
        "import conversion, resource\n"
        "if __name__ == '__main__':\n"
        f"    conversion.convert('wav', {count}, 2)()\n"
        "    print(*(resource.getrusage(who).ru_maxrss / 1024\n"
        "            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(code)
        script.flush()
        printed = subprocess.run(
            [sys.executable, script.name], check=True, capture_output=True, text=True
        ).stdout
    parent, child = map(float, printed.split())
    return parent, child


def main() -> None:
    options = pairs.parser(__doc__)
    options.add_argument("--clips", type=int, default=300, help="clips a run (default 300)")
    options.add_argument(
        "--cores", action="store_true", help="the gain from a second core, nothing else"
    )
    options.add_argument(
        "--memory", action="store_true", help="peak memory of 500 and 5,000 clips, nothing else"
    )
    arguments = options.parse_args()
    if arguments.serve:
        side(arguments.serve, arguments)
        return
    make_files()
    rows = []
    if arguments.memory:
        few, many = peak_megabytes(500), peak_megabytes(5000)
        for who, a, b in zip(("parent process", "worker process"), few, many, strict=True):
            print(f"{who}: {a:.0f} MB with 500 clips, {b:.0f} MB with 5,000")
            rows.append(
                {
                    "what": f"peak memory, {who}, 5,000 clips / 500",
                    "ratio": b / a,
                    "bar": "0.9 to 1.1",
                }
            )
    else:
        clips = (f"--clips={arguments.clips}",)
        comparisons = [
            ("two", "one", "two workers, times as fast as one", "1.8"),
            ("apart2", "apart1", "two processes that share nothing, times as fast as one", ""),
        ]
        if not arguments.cores:
            comparisons[:0] = [
                ("one", "decode", "one worker, share of decoding alone", "0.8"),
                ("one", "load", "one worker, share of decoding and resampling alone", ""),
                ("two", "librosa", "two workers, times as fast as librosa in one process", ""),
            ]
        for extension in FORMATS:
            for one, other, what, bar in comparisons:
                if other == "librosa" and extension == "m4a":  # which it can't read
                    continue
                python = arguments.peer_python if other == "librosa" else sys.executable
                sides = [
                    pairs.Side(__file__, f"{one}-{extension}", sys.executable, None, clips),
                    pairs.Side(
                        __file__,
                        f"{other}-{extension}",
                        python,
                        1 if other in ALONE else None,
                        clips,
                    ),
                ]
                rows.append(
                    {
                        "what": f"{extension}: {what}",
                        "bar": bar,
                        **pairs.compare(*sides, arguments.pairs, 1),
                    }
                )
                for each in sides:
                    each.close()
    pairs.show("conversion", rows, arguments.json)


if __name__ == "__main__":
    main()
