"""How long a command takes to say what its flags are, against importing TensorFlow.

python benchmarks/start.py
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pairs

SIDES = {
    "import": ["-c", "import tensorflow; print('tensorflow')"],
    "help": ["-m", "secost_tf.train", "--help"],
}
PRINTED = {"import": "tensorflow", "help": "--stage"}


def starts(name: str) -> Callable[[], object]:
    """Each call is a whole process."""

    def work() -> None:
        done = subprocess.run([sys.executable, *SIDES[name]], capture_output=True, text=True)
        if PRINTED[name] not in done.stdout:
            raise SystemExit(
                f"{name}: expected {PRINTED[name]!r}, got {done.stdout!r} {done.stderr!r}"
            )

    return work


def main() -> None:
    arguments = pairs.parser(__doc__).parse_args()
    if arguments.serve:
        pairs.serve(lambda: starts(arguments.serve), ("tensorflow",))
        return
    one, other = (pairs.Side(__file__, name, sys.executable, None, ()) for name in SIDES)
    figures = pairs.compare(one, other, arguments.pairs)
    what = "python -m secost_tf.train --help, time / that of importing TensorFlow"
    one.close(), other.close()
    pairs.show("start", [{"what": what, "bar": "at most 0.5", **figures}], arguments.json)


if __name__ == "__main__":
    main()
