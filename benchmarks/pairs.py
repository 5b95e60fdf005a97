"""Two sides of one piece of work, timed in turn: A B A B ... The figure is the ratio of a pair, its
median and range.

Each side is a process of its own, which prepares once and then does its work each time it is asked
to, so that the sides may live in different Python environments and neither pays for starting up.
Machines are shared and noisy: a ratio of two runs that follow each other says more than a time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class Side:
    """One side, in a process that runs `SCRIPT --serve=NAME` with `python`."""

    def __init__(
        self, script: str, name: str, python: str, threads: int | None, arguments: Sequence[str]
    ):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if threads:
            environment.update(dict.fromkeys(THREAD_SETTINGS, str(threads)))
        self.name = name
        self._process = subprocess.Popen(
            [python, script, f"--serve={name}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.versions = json.loads(self._answer())

    def seconds(self) -> float:
        """Does the work once."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with status {self._process.wait()}")
        return line

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def serve(prepare: Callable[[], Callable[[], object]], packages: Sequence[str]) -> None:
    """A side's life: prepares, then times the work once for each line on stdin. What the work
    prints goes to stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = prepare()
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps(versions), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(time.perf_counter() - start, file=answers, flush=True)


def compare(one: Side, other: Side, pairs: int, warm_up: int = 2) -> dict:
    """Times both in turn; the ratio is other / one: how many times as fast `one` is."""
    for _ in range(warm_up):
        one.seconds(), other.seconds()
    times = [(one.seconds(), other.seconds()) for _ in range(pairs)]
    ratios = [theirs / ours for ours, theirs in times]
    return {
        "one": one.name,
        "other": other.name,
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "pairs": pairs,
        "seconds_one": statistics.median(ours for ours, _ in times),
        "seconds_other": statistics.median(theirs for _, theirs in times),
        "versions_one": one.versions,
        "versions_other": other.versions,
    }


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--serve", help=argparse.SUPPRESS)
    options.add_argument("--pairs", type=int, default=9, help="pairs of runs (default 9)")
    options.add_argument(
        "--peer_python",
        default=sys.executable,
        help="the Python that has benchmarks/requirements-peers.txt",
    )
    options.add_argument("--json", help="file for the figures")
    return options


def machine() -> dict:
    """What the figures were measured on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {"processor": model, "cores": os.cpu_count(), "system": platform.platform()}


def show(title: str, rows: Sequence[Mapping[str, object]], path: str | None) -> None:
    """Prints a table of `what`, `ratio` and `bar`, and writes JSON."""
    print(f"{title} ({machine()['processor']}, {os.cpu_count()} cores)")
    print("| what | ratio: median (range) | bar |\n|---|---|---|")
    for row in rows:
        spread = f" ({row['lowest']:.2f} to {row['highest']:.2f})" if "lowest" in row else ""
        print(f"| {row['what']} | {row['ratio']:.2f}{spread} | {row.get('bar', '')} |")
    if path:
        Path(path).write_text(
            json.dumps({"title": title, "machine": machine(), "rows": list(rows)}, indent=2) + "\n"
        )
