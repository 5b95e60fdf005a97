"""REST byte for byte, retries, and errors; against a server of canned answers."""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

pytest.importorskip("requests", reason="the extra `serving` is not installed")

from secost_tf.serving.rest_transport import error_of, json_request, outputs_of_json
from secost_tf.serving.retries import RetryPolicy, ServerError
from secost_tf.serving.transport import connect
from secost_tf.serving.waveforms import bytes_array

ONCE = RetryPolicy(timeout_seconds=20, retries=0)
QUICK = RetryPolicy(timeout_seconds=20, pause_seconds=1e-3)
WAVEFORM = np.array([[0.5, -0.25]], np.float32)


def ask(port: int, policy: RetryPolicy = QUICK) -> dict:
    transport = connect(f"127.0.0.1:{port}", "secost", policy=policy)
    return transport.predict("top_k", {"waveform": WAVEFORM})


# === Bytes, as TensorFlow Serving's documentation has them ===


def test_a_request_in_column_format():
    assert json_request("top_k", {"waveform": WAVEFORM}) == (
        b'{"signature_name": "top_k", "inputs": {"waveform": [[0.5, -0.25]]}}'
    )
    lengths = {"waveform": WAVEFORM, "lengths": np.array([2], np.int32)}
    assert json_request("padded", lengths) == (
        b'{"signature_name": "padded", "inputs": {"waveform": [[0.5, -0.25]], "lengths": [2]}}'
    )


def test_bytes_are_base64_under_b64():
    body = json_request("wav_bytes", {"wav_bytes": bytes_array([b"image bytes", b"RIFF\0"])})
    assert body == (
        b'{"signature_name": "wav_bytes", "inputs": {"wav_bytes": '
        b'[{"b64": "aW1hZ2UgYnl0ZXM="}, {"b64": "UklGRgA="}]}}'
    )


def test_nan_is_sent_as_tensorflow_serving_reads_it():
    assert b"[NaN, Infinity]" in json_request(
        "top_k", {"waveform": np.array([np.nan, np.inf], np.float32)}
    )


def test_a_response_in_column_format():
    text = (
        '{\n    "outputs": {\n        "labels": [["Bark", "Ząb"]],\n'
        '        "scores": [[0.75, 3e-05]]\n    }\n}'
    )
    arrays = outputs_of_json(json.loads(text)["outputs"])
    assert arrays["labels"].tolist() == [[b"Bark", "Ząb".encode()]]
    np.testing.assert_array_equal(arrays["scores"], np.array([[0.75, 3e-5]], np.float32))
    assert arrays["scores"].dtype == np.float32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{ "error": "Servable not found for request: Latest(half)" }',
            "Servable not found for request: Latest(half)",
        ),
        ('{\n    "error": "two\\nlines"\n}', "two\nlines"),
        (
            r'{ "error": "it\'s not JSON" }',
            r'{ "error": "it\'s not JSON" }',
        ),  # C escapes of older servers
        ("<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        ("[]", "[]"),
        ("", "without a word"),
    ],
)
def test_an_error_s_body(text, expected):
    assert error_of(text) == expected


# === A server ===


@contextlib.contextmanager
def canned(*answers):
    """Serve these answers, (status, body), in turn; yield the port and the bodies received."""
    bodies, left, hold = [], list(answers), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = left.pop(0)
            if status is None:  # no answer, ever
                hold.wait()
                return
            if status == "closed":
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], bodies
    finally:
        hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


GOOD = (
    200,
    b'{\n    "outputs": {\n        "labels": [["Bark"\n        ]\n        ],\n'
    b'        "scores": [[0.5\n        ]\n        ]\n    }\n}',
)
BUSY = (503, b'{"error": "busy"}')


def test_an_answer():
    with canned(GOOD) as (port, bodies):
        answer = ask(port)
    assert answer["labels"].tolist() == [[b"Bark"]] and answer["scores"].tolist() == [[0.5]]
    assert bodies == [json_request("top_k", {"waveform": WAVEFORM})]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (400, b'{"error": "waveform: expected"}'),
            r"secost:predict refuses the request \(HTTP 400\): waveform: exp",
        ),
        (
            (404, b'{ "error": "Servable not found" }'),
            r"refuses the request \(HTTP 404\): Servable not found",
        ),
        ((500, b""), r"refuses the request \(HTTP 500\): without a word"),
        ((200, b"<html>"), "not an answer of TensorFlow Serving .*<html>"),
        ((200, b'{"predictions": []}'), "not an answer of TensorFlow Serving .*'outputs'"),
    ],
)
def test_a_refusal_is_final(answer, message):
    with canned(answer) as (port, bodies), pytest.raises(ServerError, match=message) as raised:
        ask(port)
    assert len(bodies) == 1 and not raised.value.is_transient


def test_no_answer_in_time():
    policy = RetryPolicy(0.2, retries=4)
    with canned((None, b"")) as (port, bodies):
        with pytest.raises(ServerError, match=r"127.0.0.1:\d+: no answer within 0\.2 s"):
            ask(port, policy)
        assert len(bodies) <= 1  # a server that is slow is not given more to do


def test_nobody_there():
    message = r"http://127.0.0.1:\d+ cannot be reached \(Connection refused\)"
    with pytest.raises(ServerError, match=message) as raised:
        ask(closed_port(), ONCE)
    assert raised.value.is_transient


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# === Retries ===


@pytest.mark.parametrize("answer", [BUSY, (429, b""), (502, b""), (504, b""), ("closed", b"")])
def test_a_server_that_is_busy_or_gone_is_asked_again(answer, caplog):
    caplog.set_level("INFO", logger="absl")
    with canned(answer, answer, GOOD) as (port, bodies):
        assert ask(port)["scores"].tolist() == [[0.5]]
    assert len(bodies) == 3 and len(set(bodies)) == 1
    assert caplog.text.count("trying again") == 2


@pytest.fixture
def pauses(monkeypatch):
    """The lengths of the pauses in seconds; nobody waits for them, but a clock adds them up."""
    passed = []
    monkeypatch.setattr(time, "sleep", passed.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(passed))
    return passed


def test_pauses_grow_up_to_eight_seconds(pauses):
    with canned(*[BUSY] * 9, GOOD) as (port, bodies):
        ask(port, RetryPolicy(1e3, retries=9))
    assert len(bodies) == 10
    for pause, shortest in zip(pauses, (0.5, 1, 2, 4, 8, 8, 8, 8), strict=True):  # the first is 0
        assert shortest <= pause <= min(shortest + 0.25, 8)


@pytest.mark.parametrize("retries", [0, 2])
def test_it_gives_up_after_so_many_attempts(retries):
    busy = pytest.raises(ServerError, match=r"refuses the request \(HTTP 503\): busy")
    with canned(*[BUSY] * 3) as (port, bodies), busy as raised:
        ask(port, RetryPolicy(20, retries, pause_seconds=1e-3))
    assert len(bodies) == retries + 1 and raised.value.is_transient


def test_it_gives_up_when_the_time_is_over(pauses):
    with canned(*[BUSY] * 99) as (port, bodies), pytest.raises(ServerError, match="busy"):
        ask(port, RetryPolicy(2.0, retries=99))
    assert 3 <= len(bodies) <= 4 and sum(pauses) < 2
    pauses.clear()
    with pytest.raises(ServerError, match="cannot be reached"):
        ask(closed_port(), RetryPolicy(2.0, retries=99))
    assert 1 <= len(pauses) <= 2 and sum(pauses) < 2
