"""An hour of audio (44.1 kHz, stereo, flac) through `secost_tf.localize`: times as fast as real
time, peak memory, and joins.

    python benchmarks/localize.py [--recordings=ESC-10] [--minutes=60] [--width=0.25]
    [--hop_scale=1] [--runs=5]

Each run is a process of its own, whose start and import of TensorFlow count as well. The network
has random weights, which costs as much as one that has learnt. `--recordings` is a folder whose
recordings are joined until the hour is full; without, it is made of noise. Joins: the largest
difference between the scores of overlapping windows and those of the network that sees ten minutes
at once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pairs

RATE = 44100
CLASSES = 527


def write_recording(path: Path, minutes: float, folder: str | None) -> None:
    """Joins the recordings of a folder, or noise, until they fill as many minutes; both channels,
    16 bits.
    """
    import numpy as np
    import soundfile

    from tfrecord_tools.audio.decoders import EXTENSIONS
    from tfrecord_tools.audio.loading import load_audio

    found = (
        sorted(one for one in Path(folder).rglob("*") if one.name.lower().endswith(EXTENSIONS))
        if folder
        else []
    )
    rng, left, number = np.random.default_rng(0), round(60 * minutes * RATE), 0
    with soundfile.SoundFile(path, "w", RATE, 2, subtype="PCM_16") as file:
        while left > 0:
            if found:
                clip = load_audio(str(found[number % len(found)]), RATE).waveform
            else:
                clip = rng.normal(0, 0.1 * rng.uniform(), 5 * RATE).astype(np.float32)
            clip = clip[:left]
            file.write(np.stack([clip, 0.9 * clip], axis=1))
            left, number = left - len(clip), number + 1


def make_detector(width: float):
    """A network of random weights, as a run would give it."""
    import keras

    from secost_tf.detection import Detector
    from secost_tf.models.config import WelsNetConfig
    from secost_tf.models.network import wels_net
    from tfrecord_tools.datasets.clips import ClassMap
    from tfrecord_tools.log_mel import LogMelConfig

    keras.utils.set_random_seed(0)
    config = WelsNetConfig(CLASSES, width=width)
    names = tuple(f"class {index}" for index in range(CLASSES))
    return Detector.from_student(
        wels_net(config), config, LogMelConfig(), ClassMap(names, names), "random weights"
    )


def run_once(arguments: argparse.Namespace) -> None:
    """One localization, with all its files, in this process."""
    from secost_tf.detection import PostProcessing, localize_recordings

    results = localize_recordings(
        [arguments.once],
        make_detector(arguments.width),
        arguments.out,
        thresholds=0.99,
        post_processing=PostProcessing(hop_scale=arguments.hop_scale),
    )
    if results.failures:
        raise SystemExit(f"failed: {results.failures}")


def timed(script_arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of a run in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(pairs.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, *script_arguments], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def difference_at_joins(path: str, width: float, hop_scale: int) -> float:
    """Between windows and the network that sees all at once, or, at finer hops, three minutes of
    it.
    """
    import numpy as np

    from secost_tf.detection.windows import fine_network, segment_scores
    from tfrecord_tools.audio.streaming import LongRecording

    detector = make_detector(width)
    log_mel = np.concatenate(list(LongRecording(path, detector.log_mel)))[:60_000]
    joined = detector.segment_scores([log_mel], hop_scale)
    if hop_scale == 1:
        return float(np.abs(joined - detector.network(log_mel)).max())
    log_mel = log_mel[:20_000]
    network = fine_network(detector.every_frame, detector.config, hop_scale)
    whole = segment_scores([log_mel], network, detector.config, hop_scale, len(log_mel))
    inside = slice(len(whole) - 100)  # what has been cut off came after
    return float(np.abs(joined[: len(whole)] - whole)[inside].max())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--recordings", help="folder of recordings to join")
    options.add_argument("--minutes", type=float, default=60.0, help="of sound (default 60)")
    options.add_argument("--width", type=float, default=0.25, help="of the network (default 0.25)")
    options.add_argument(
        "--hop_scale", type=int, default=1, help="see secost_tf.localize (default 1)"
    )
    options.add_argument("--runs", type=int, default=5, help="after one to warm up (default 5)")
    options.add_argument("--json", help="file for the figures")
    options.add_argument("--once", help=argparse.SUPPRESS)
    options.add_argument("--out", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    sys.path.insert(0, str(pairs.ROOT))
    if arguments.once:
        run_once(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hour.flac")
        write_recording(path, arguments.minutes, arguments.recordings)
        given = [f"--once={path}", f"--out={folder}/out", f"--width={arguments.width}"]
        given.append(f"--hop_scale={arguments.hop_scale}")
        runs = [timed(given) for _ in range(arguments.runs + 1)][1:]
        joins = difference_at_joins(str(path), arguments.width, arguments.hop_scale)
    speeds = [60 * arguments.minutes / seconds for seconds, _ in runs]
    peak = max(megabytes for _, megabytes in runs)
    what = (
        f"{arguments.minutes:g} minutes, width {arguments.width:g}, hop scale {arguments.hop_scale}"
    )
    print(f"{what} ({pairs.machine()['processor']}, {os.cpu_count()} cores)")
    print("| what | median (range) | bar |\n|---|---|---|")
    print(
        f"| times as fast as real time | {statistics.median(speeds):.0f} ({min(speeds):.0f} to "
        f"{max(speeds):.0f}) | 150 |"
    )
    print(f"| peak memory, MB | {peak:.0f} | 1500 |")
    print(f"| largest difference at joins | {joins:.1e} | 1e-4 |")
    if arguments.json:
        figures = {
            "title": what,
            "machine": pairs.machine(),
            "real_time": speeds,
            "peak_megabytes": peak,
            "joins": joins,
        }
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
