"""Peak memory of training as the training set grows 1x, 10x, 100x.

    python benchmarks/training_memory.py [--clips=60] [--stage=1]

Each size is a fresh `python -m secost_tf.train` of stages 0 and 1: a narrow network, clips of ten
seconds with 527 classes, a shuffle buffer that the smallest set fills, and an epoch of as many
steps whatever the size, a pass over the largest set. The figure is the process's peak of resident
memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pairs

BATCH, GROWTH = 16, (1, 10, 100)


def peak_megabytes(data_dir: Path, run_dir: Path, arguments) -> float:
    """Of a whole run; fails if it does."""
    flags = {
        "data_dir": data_dir,
        "run_dir": run_dir,
        "stage": arguments.stage,
        "width": arguments.width,
        "epochs": 1,
        "steps_per_epoch": GROWTH[-1] * arguments.clips // BATCH,
        "batch_size": BATCH,
        "shuffle_clips": min(256, arguments.clips),
        "validation_share": arguments.validation_share,
    }
    command = [
        sys.executable,
        "-m",
        "secost_tf.train",
        *(f"--{name}={value}" for name, value in flags.items()),
    ]
    environment = {**os.environ, "PYTHONPATH": str(pairs.ROOT)}
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            command, env=environment, stdout=printed, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            printed.seek(0)
            raise SystemExit(
                f"{' '.join(command)}: exit status {process.returncode}\n{printed.read()[-2000:]}"
            )
    return usage.ru_maxrss / 1024


def main() -> None:
    options = pairs.parser(__doc__)
    options.add_argument(
        "--clips", type=int, default=60, help="clips of the smallest training set (default 60)"
    )
    options.add_argument("--stage", type=int, default=1, help="the last stage (default 1)")
    options.add_argument(
        "--width", type=float, default=0.05, help="width of the network (default 0.05)"
    )
    options.add_argument(
        "--validation_share",
        type=float,
        default=0.0,
        help="share that picks the best epoch (default 0, none)",
    )
    arguments = options.parse_args()
    sys.path.insert(0, str(pairs.ROOT))
    from random_data import write_split

    peaks = []
    for times in GROWTH:
        with tempfile.TemporaryDirectory() as folder:
            data_dir = Path(folder, "data")
            write_split(data_dir, "train", times * arguments.clips)
            write_split(data_dir, "eval", arguments.clips)
            peaks.append(peak_megabytes(data_dir, Path(folder, "run"), arguments))
        print(f"{times * arguments.clips} clips: {peaks[-1]:.0f} MB", flush=True)
    rows = [
        {
            "what": f"peak memory, {times * arguments.clips} clips / {arguments.clips}",
            "ratio": peak / peaks[0],
            "megabytes": peak,
            "bar": "0.9 to 1.1",
        }
        for times, peak in zip(GROWTH[1:], peaks[1:], strict=True)
    ]
    pairs.show("memory of training", rows, arguments.json)


if __name__ == "__main__":
    main()
