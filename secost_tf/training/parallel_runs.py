"""Commands that run at the same time, each in a process of its own. TensorFlow is not imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent import futures


def run_side_by_side(commands: Mapping[str, Sequence[str]]) -> None:
    """Runs commands at the same time and waits for all; what each says on stderr is shown behind
    its name.

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
                        f"{names[done]} ended with status {status}, see its lines above; what is done is kept, and the "
                        "same command continues"
                    )
        finally:
            for process in processes:
                process.terminate()


def _relay(name: str, process: subprocess.Popen) -> int:
    """Shows the lines of a process as they come, and returns its exit status."""
    with process.stderr as lines:
        for line in lines:
            sys.stderr.write(f"{name} | {line}")
            sys.stderr.flush()
    return process.wait()
