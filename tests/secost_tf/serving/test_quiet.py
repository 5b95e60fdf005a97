import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys, warnings
from secost_tf.serving.quiet import quietly
print("before", file=sys.stderr)
try:
    with quietly():
        print("python", file=sys.stderr)
        os.write(2, b"c++")
        warnings.warn("warning")
        raise ValueError("an error")
except ValueError as error:
    print(error, file=sys.stderr)
os.write(2, b"after")
"""


def test_what_a_block_writes_is_not_shown_and_errors_are():
    cwd = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=cwd, capture_output=True, text=True, env=os.environ
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "before\nan error\nafter")
