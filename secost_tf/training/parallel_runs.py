"""Commands that run side by side, each in a process of its own. TensorFlow is not imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent import futures


def run_side_by_side(commands: Mapping[str, Sequence[str]]) -> None:
    """Run commands at the same time, show their lines on stderr behind their names, wait for all.

    If one fails, or this process is interrupted, the others get SIGTERM and are waited for.

    Args:
        commands: program and arguments, by the name to show.

    Raises:
        ValueError: if one fails; names it.
    """
    processes: list[subprocess.Popen] = []
    with futures.ThreadPoolExecutor(len(commands)) as relays:
        try:
            names = {}
            for name, command in commands.items():
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                )
                processes.append(process)
                names[relays.submit(_relay, name, process)] = name
            for done in futures.as_completed(names):
                if status := done.result():
                    raise ValueError(
                        f"{names[done]} ended with status {status}, see its lines above; what is "
                        "done is kept, and the same command continues"
                    )
        finally:
            for process in processes:
                process.terminate()


def _relay(name: str, process: subprocess.Popen) -> int:
    """Show the lines of a process as they come, and return its exit status."""
    for line in process.stderr or ():
        sys.stderr.write(f"{name} | {line}")
        sys.stderr.flush()
    return process.wait()
