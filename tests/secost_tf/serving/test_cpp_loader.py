"""TensorFlow's C++ loader on a SavedModel of a few operations, in this process beside TensorFlow,
and in one of its own.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from secost_tf.serving import messages
from secost_tf.serving.cpp_loader import Servable, ServableError
from secost_tf.serving.waveforms import bytes_array
from secost_tf.training.devices import peak_memory
from tfrecord_tools.shards import files

REPOSITORY = Path(__file__).parents[3]


class Toy(tf.Module):
    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(2.0)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, "x"),
            tf.TensorSpec([], tf.int32, "n"),
        ]
    )
    def multiply(self, x, n):
        with tf.control_dependencies(
            [tf.debugging.Assert(n > 0, ["n: expected more than 0, got", n])]
        ):
            return {"product": self.factor * x * tf.cast(n, tf.float32), "n": tf.cast(n, tf.int64)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def echo(self, text):
        return {"twice": tf.strings.join([text, text]), "length": tf.strings.length(text)}


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory) -> str:
    folder, toy = str(tmp_path_factory.mktemp("toy") / "1"), Toy()
    signatures = {name: getattr(toy, name).get_concrete_function() for name in ("multiply", "echo")}
    tf.saved_model.save(toy, folder, signatures)
    return folder


@pytest.fixture(scope="module")
def toy(toy_folder):
    with Servable(toy_folder) as servable:
        yield servable


def test_signatures(toy):
    assert set(toy.signatures) == {"multiply", "echo"}  # and not TensorFlow's own
    inputs, outputs = toy.signatures["multiply"].inputs, toy.signatures["multiply"].outputs
    assert {name: (spec.dtype, spec.shape) for name, spec in inputs.items()} == {
        "n": (np.dtype("int32"), ()),
        "x": (np.dtype("float32"), (None, 2)),
    }
    assert {name: spec.dtype for name, spec in outputs.items()} == {
        "n": np.dtype("int64"),
        "product": np.dtype("float32"),
    }
    assert toy.signatures["echo"].inputs["text"].dtype.hasobject


def test_numbers(toy):
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    for values in (x, np.asfortranarray(x), x[::2], x[:0]):
        answer = toy.run("multiply", {"x": values, "n": np.int32(3)})
        np.testing.assert_array_equal(answer["product"], 6 * values)
        assert answer["n"] == 3 and answer["n"].shape == () and answer["n"].dtype == np.int64


def test_strings(toy):
    texts = bytes_array(
        [b"", b"bell\0\0", b"x" * 1000]
    )  # short ones lie in the tensor, long ones beside it
    answer = toy.run("echo", {"text": texts})
    assert answer["twice"].tolist() == [2 * text for text in texts]
    assert answer["length"].tolist() == [0, 6, 1000]


@pytest.mark.parametrize(
    ("signature", "inputs", "code", "message"),
    [
        ("divide", {}, "NOT_FOUND", "no signature 'divide'; there are echo, multiply"),
        ("multiply", {"x": 1}, "INVALID_ARGUMENT", "expected the inputs n, x, got x"),
        (
            "multiply",
            {"x": np.ones((1, 2)), "n": np.int32(1)},
            "INVALID_ARGUMENT",
            "x: .*float32, got float64",
        ),
        (
            "multiply",
            {"x": np.ones((1, 2), np.float32), "n": np.int32(0)},
            "INVALID_ARGUMENT",
            "expected more than 0, got. .0",
        ),
    ],
)
def test_what_is_wrong_with_a_request(toy, signature, inputs, code, message):
    with pytest.raises(ServableError, match=message) as raised:
        toy.run(signature, inputs)
    assert raised.value.code == code
    toy.run("echo", {"text": bytes_array([b"the next one"])})


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(
        ServableError, match=rf"{tmp_path}: TensorFlow's C\+\+ loader refuses this SavedModel: "
    ):
        Servable(tmp_path)


def test_many_threads_at_once(toy):
    def answer(number: int) -> bool:
        x = np.full((3, 2), number, np.float32)
        return np.array_equal(toy.run("multiply", {"x": x, "n": np.int32(1)})["product"], 2 * x)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(answer, range(400)))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_freed(toy):
    def answer(times: int) -> None:
        for _ in range(times):
            toy.run("echo", {"text": bytes_array([b"x" * 1_000_000])})
            toy.run("multiply", {"x": np.ones((100_000, 2), np.float32), "n": np.int32(1)})

    answer(10)
    before = peak_memory()
    answer(100)  # 0.5 GB of strings and numbers
    assert peak_memory() - before < 50e6


def test_as_a_command_without_tensorflow_s_python(toy_folder, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "secost_tf.serving.cpp_loader", *map(str, arguments)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)

    tensor = messages.tensor(bytes_array([b"ab"]))
    log = messages.prediction_log("toy", "echo", {"text": tensor})
    files.write_records(str(tmp_path / "requests"), [log, log])
    ended = run(toy_folder, tmp_path / "requests", tmp_path / "responses")
    assert ended.returncode == 0, ended.stderr
    answers = [
        messages.outputs_of(data) for data in files.read_records(str(tmp_path / "responses"))
    ]
    assert [answer["twice"].tolist() for answer in answers] == [[b"abab"]] * 2

    ended = run(tmp_path, tmp_path / "requests", tmp_path / "none")
    assert (
        ended.returncode == 1
        and f"error: {tmp_path}: TensorFlow's C++ loader refuses" in ended.stderr
    )
    assert not (tmp_path / "none").exists()
    assert run().returncode == 2


def test_libraries_that_are_not_there(monkeypatch):
    from secost_tf.serving import cpp_loader

    monkeypatch.setattr(cpp_loader.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError,
        match=r"C\+\+ libraries .*the installed packages.*install the package tensorflow",
    ):
        cpp_loader._load_library.__wrapped__()
