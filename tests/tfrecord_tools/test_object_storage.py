"""Commands on s3:// paths, against an S3 server on this machine; TensorFlow I/O brings the file
system.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys

import pytest

from tfrecord_tools import storage

if importlib.util.find_spec("tensorflow_io") is None:
    pytest.skip(
        "needs TensorFlow I/O: Python 3.10 and 3.11 on Linux x86_64", allow_module_level=True
    )
boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")

KILLED_AT = """
import os, signal, sys
from {module} import {owner} as owner
method = owner.{method}
def method_or_die(*args, **kwargs):
    method_or_die.calls += 1
    if method_or_die.calls == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return method(*args, **kwargs)
method_or_die.calls = 0
owner.{method} = method_or_die
if __name__ == "__main__":
    from {command} import run
    run()
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The variables that lead AWS clients to a fresh server with one empty bucket, `bucket`."""
    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port()).replace("0.0.0.0", "127.0.0.1")
    names = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    client = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bucket")
    yield {**os.environ, **names, "S3_ENDPOINT": url, "S3_USE_HTTPS": "0", "S3_VERIFY_SSL": "0"}
    server.stop()


@pytest.fixture
def run(environment):
    """Runs a command in a process of its own: what it printed. Its exit status must be `status`."""

    def run_command(*command: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr[-3000:]
        return done.stdout

    return run_command


def script(tmp_path, **names) -> str:
    """A program that is a command, but is killed at some call of a method."""
    path = tmp_path / f"{names['method']}.py"
    path.write_text(KILLED_AT.format(**names))
    return str(path)


@pytest.fixture
def data(tmp_path, write_noise, write_table) -> tuple[str, ...]:
    """The converter's flags for 24 clips of noise, a third of them of the split eval."""
    rows = []
    for index in range(24):
        write_noise(tmp_path / f"{index}.wav", 0.5, seed=index)
        rows.append([f"{index}.wav", "ab"[index % 2], "eval" if index % 3 == 2 else "train"])
    manifest = write_table(tmp_path / "labels.csv", ["path", "labels", "split"], rows)
    return ("--dataset=manifest", f"--manifest={manifest}", "--clips_per_shard=4")


def test_a_split_is_converted_to_object_storage_and_inspected(run, data):
    run("-m", "tfrecord_tools.convert", *data, "--split=eval", "--out=s3://bucket/quick")
    printed = run("-m", "tfrecord_tools.inspect", "s3://bucket/quick", "--verify")
    assert "verified: all 8 records are sound" in printed


@pytest.mark.slow
def test_the_whole_path_on_object_storage(run, tmp_path, data):

    killed = script(
        tmp_path,
        module="tfrecord_tools.conversion.shard",
        owner="ShardJob",
        method="write",
        call=3,
        command="tfrecord_tools.convert",
    )
    run(killed, *data, "--out=s3://bucket/data", status=-signal.SIGKILL)
    printed = run("-m", "tfrecord_tools.convert", *data, "--out=s3://bucket/data")
    assert "continuing: 2 of 4 shards were finished before" in printed
    run("-m", "tfrecord_tools.convert", *data, "--split=eval", "--out=s3://bucket/data")
    printed = run(
        "-m",
        "tfrecord_tools.inspect",
        "s3://bucket/data",
        "--verify",
        "--plot=s3://bucket/plot.png",
    )
    assert (
        "verified: all 16 records are sound" in printed
        and "verified: all 8 records are sound" in printed
    )

    local = str(tmp_path / "local")
    run("-m", "tfrecord_tools.convert", *data, f"--out={local}")
    compare = """
import sys
from tfrecord_tools import storage
here, there = (storage.join(folder, "train") for folder in sys.argv[1:])
mine, theirs = storage.list_dir(here), storage.list_dir(there)
assert mine == theirs, (mine, theirs)
for name in mine:
    paths = (f"{here}/{name}", f"{there}/{name}")
    with storage.open_file(paths[0], "rb") as a, storage.open_file(paths[1], "rb") as b:
        assert a.read() == b.read(), name
import os; os._exit(0)
"""
    run("-c", compare, local, "s3://bucket/data")

    train = ("--data_dir=s3://bucket/data", "--run_dir=s3://bucket/run", "--alpha=0.3", "--stage=1")
    train += ("--width=0.02", "--block_channels=400", "--block_pools=32", "--block_convolutions=1")
    train += ("--batch_size=8", "--epochs=2", "--validation_share=0")
    killed = script(
        tmp_path,
        module="secost_tf.training.callbacks",
        owner="Progress",
        method="on_train_batch_end",
        call=3,  # in the second epoch of stage 0
        command="secost_tf.train",
    )
    run(killed, *train, status=-signal.SIGKILL)
    run("-m", "secost_tf.train", *train)
    printed = run(
        "-m", "secost_tf.evaluate", "--run_dir=s3://bucket/run", "--data_dir=s3://bucket/data"
    )
    assert len(printed.splitlines()) >= 4


def test_writing_is_whole_or_not_at_all(environment):
    code = """
from tfrecord_tools import storage
try:
    with storage.atomic_write("s3://bucket/x/a.txt") as stream:
        stream.write("half")
        raise RuntimeError
except RuntimeError:
    assert not storage.exists("s3://bucket/x/a.txt")
with storage.atomic_write("s3://bucket/x/a.txt") as stream:
    stream.write("whole")
assert storage.list_dir("s3://bucket/x") == ["a.txt"] and storage.is_file("s3://bucket/x/a.txt")
assert storage.is_dir("s3://bucket/x") and not storage.is_file("s3://bucket/x")
storage.remove_tree("s3://bucket/x")
assert not storage.exists("s3://bucket/x") and storage.list_dir("s3://bucket/x") == []
storage.remove_tree("s3://bucket/x")
import os; os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_names_of_object_storage():
    assert (
        storage.is_remote("s3://bucket/a")
        and storage.join("s3://bucket/a/", "b") == "s3://bucket/a/b"
    )
