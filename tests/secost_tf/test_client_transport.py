"""Requests and responses byte for byte, retries, and errors; against canned answers and the stand-in for the server."""

import contextlib
import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from secost_tf import client_transport
from secost_tf.client_transport import (
    Patience,
    ServerError,
    connect,
    error_of,
    json_request,
    outputs_of_json,
    with_retries,
)
from secost_tf.waveforms import bytes_array

ONCE = Patience(timeout_seconds=20, retries=0)
WAVEFORM = np.array([[0.5, -0.25]], np.float32)


@pytest.fixture
def needs_requests():
    pytest.importorskip("requests", reason="the extra `serving` is not installed")


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
        b'{"signature_name": "wav_bytes", "inputs": {"wav_bytes": [{"b64": "aW1hZ2UgYnl0ZXM="}, {"b64": "UklGRgA="}]}}'
    )


def test_nan_is_sent_as_tensorflow_serving_reads_it():
    assert b"[NaN, Infinity]" in json_request("top_k", {"waveform": np.array([np.nan, np.inf], np.float32)})


def test_a_response_in_column_format():
    text = '{\n    "outputs": {\n        "labels": [["Bark", "Ząb"]],\n        "scores": [[0.75, 3e-05]]\n    }\n}'
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
        (r'{ "error": "it\'s not JSON" }', r'{ "error": "it\'s not JSON" }'),  # C escapes of older servers
        ("<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        ("[]", "[]"),
        ("", "without a word"),
    ],
)
def test_an_error_s_body(text, expected):
    assert error_of(text) == expected


# === Retries ===


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self):
        self.now, self.pauses = 100.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def failing(times: int, is_transient: bool = True):
    """An attempt that fails so many times; keeps the seconds that each was left."""

    def attempt(seconds: float) -> str:
        attempt.left.append(seconds)
        if len(attempt.left) <= times:
            raise ServerError("busy", is_transient)
        return "answer"

    attempt.left = []
    return attempt


def test_what_may_pass_is_tried_again_after_growing_pauses():
    clock, attempt = Clock(), failing(4)
    assert with_retries(attempt, Patience(60, retries=4), clock, clock.sleep) == "answer"
    assert (
        len(attempt.left) == 5
        and attempt.left[0] == 60
        and attempt.left == sorted(attempt.left, reverse=True)
    )
    for pause, longest in zip(clock.pauses, (0.25, 0.5, 1, 2), strict=True):
        assert longest / 2 <= pause <= longest


def test_pauses_stop_growing():
    clock = Clock()
    with_retries(failing(9), Patience(1e3, retries=9), clock, clock.sleep)
    assert 4 <= max(clock.pauses) <= 8


@pytest.mark.parametrize(("retries", "is_transient", "attempts"), [(2, True, 3), (0, True, 1), (5, False, 1)])
def test_it_gives_up(retries, is_transient, attempts):
    clock, attempt = Clock(), failing(99, is_transient)
    with pytest.raises(ServerError, match="busy"):
        with_retries(attempt, Patience(60, retries), clock, clock.sleep)
    assert len(attempt.left) == attempts


def test_it_gives_up_when_the_time_is_over():
    clock, attempt = Clock(), failing(99)
    with pytest.raises(ServerError, match="busy"):
        with_retries(attempt, Patience(1.0, retries=99), clock, clock.sleep)
    assert clock.now - 100 <= 1 and 3 <= len(attempt.left) <= 5


# === Addresses ===


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("localhost:8501", "http://localhost:8501"),
        ("host.example:80", "http://host.example:80"),
        ("https://host:443", "https://host:443"),
        ("https://host", "https://host:8501"),
        ("[::1]:8501", "http://[::1]:8501"),
    ],
)
def test_an_address_of_rest(server, url, needs_requests):
    assert connect(server, "secost")._url == f"{url}/v1/models/secost:predict"
    assert connect(server, "secost", 3)._url == f"{url}/v1/models/secost/versions/3:predict"


@pytest.mark.parametrize(
    ("server", "address"),
    [("localhost:8500", "localhost:8500"), ("grpc://h:8501", "h:8501"), ("grpcs://h", "h:8500")],
)
def test_an_address_of_grpc(server, address):
    pytest.importorskip("tensorflow_serving", reason="the extra `serving` is not installed")
    assert connect(server, "secost")._address == address


@pytest.mark.parametrize(
    "server", ["localhost", "host:", ":8501", "host:99999", "ftp://host:1", "http://host:1/v1", ""]
)
def test_what_is_no_address(server):
    with pytest.raises(ValueError, match=r"server: expected host:8501 \(REST\) or host:8500 \(gRPC\).*got "):
        connect(server, "secost")


@pytest.mark.parametrize(
    ("server", "package"), [("host:8501", "requests"), ("host:8500", "tensorflow_serving.apis")]
)
def test_without_the_extra(server, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"needs the extra serving .*pip install 'secost_tf\[serving\]'"):
        connect(server, "secost")


# === REST ===


@contextlib.contextmanager
def canned(*answers):
    """A server that gives these answers, (status, body) each, in turn; yields its port and the bodies it was sent."""
    bodies, left, hold = [], list(answers), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = left.pop(0)
            if status is None:  # never
                hold.wait()
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
    b'{\n    "outputs": {\n        "labels": [["Bark"\n        ]\n        ],\n        "scores": [[0.5\n        ]\n        ]\n    }\n}',
)


@pytest.mark.usefixtures("needs_requests")
class TestRest:
    def test_an_answer(self):
        with canned(GOOD) as (port, bodies):
            answer = connect(f"127.0.0.1:{port}", "secost", patience=ONCE).predict(
                "top_k", {"waveform": WAVEFORM}
            )
        assert answer["labels"].tolist() == [[b"Bark"]] and answer["scores"].tolist() == [[0.5]]
        assert bodies == [json_request("top_k", {"waveform": WAVEFORM})]

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_server_that_is_busy_is_asked_again(self, status, monkeypatch):
        monkeypatch.setattr(client_transport, "_FIRST_PAUSE_SECONDS", 1e-3)
        with canned((status, b'{"error": "busy"}'), GOOD) as (port, bodies):
            transport = connect(f"127.0.0.1:{port}", "secost", patience=Patience(20, retries=1))
            assert transport.predict("top_k", {"waveform": WAVEFORM})["scores"].tolist() == [[0.5]]
        assert len(bodies) == 2 and bodies[0] == bodies[1]

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
    def test_a_refusal_is_final(self, answer, message):
        with canned(answer) as (port, bodies), pytest.raises(ServerError, match=message):
            connect(f"127.0.0.1:{port}", "secost").predict("top_k", {"waveform": WAVEFORM})
        assert len(bodies) == 1

    def test_no_answer_in_time(self):
        with canned((None, b"")) as (port, _), pytest.raises(ServerError, match=r"no answer within 0\.2 s"):
            connect(f"127.0.0.1:{port}", "secost", patience=Patience(0.2)).predict(
                "top_k", {"waveform": WAVEFORM}
            )

    def test_nobody_there(self):
        with pytest.raises(
            ServerError, match=r"http://127.0.0.1:\d+ cannot be reached \(Connection refused\)"
        ) as raised:
            connect(f"127.0.0.1:{closed_port()}", "secost", patience=ONCE).predict(
                "top_k", {"waveform": WAVEFORM}
            )
        assert raised.value.is_transient


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# === gRPC ===


class TestGrpc:
    @pytest.fixture
    def transport(self, kept_server):
        if not kept_server.grpc:
            pytest.skip("the extra `serving` is not installed")
        return lambda *arguments: connect(f"grpc://127.0.0.1:{kept_server.grpc}", *arguments, patience=ONCE)

    def test_an_answer(self, transport, kept_servable):
        waveform = np.random.default_rng(0).uniform(-1, 1, (2, 1600)).astype(np.float32)
        answer = transport("secost").predict("top_k", {"waveform": waveform})
        expected = kept_servable.run("top_k", {"waveform": waveform})
        np.testing.assert_allclose(answer["scores"], expected["scores"], rtol=0, atol=1e-6)
        assert answer["labels"].tolist() == expected["labels"].tolist()

    def test_a_version(self, transport):
        assert "scores" in transport("secost", 1).predict(
            "top_k", {"waveform": np.zeros((1, 400), np.float32)}
        )
        with pytest.raises(ServerError, match=r"refuses the request \(NOT_FOUND\): .*Specific\(secost, 2\)"):
            transport("secost", 2).predict("top_k", {"waveform": WAVEFORM})

    def test_a_refusal(self, transport):
        message = r"127.0.0.1:\d+, model secost, refuses the request \(INVALID_ARGUMENT\): .*expected 400 samples or more"
        with pytest.raises(ServerError, match=message) as raised:
            transport("secost").predict("serving_default", {"waveform": WAVEFORM})
        assert not raised.value.is_transient

    def test_a_request_of_more_than_four_megabytes(self, transport):
        answer = transport("secost").predict(
            "serving_default", {"waveform": np.zeros((17, 60 * 16000), np.float32)}
        )
        assert answer["segment_scores"].shape == (17, 186, 4)

    def test_nobody_there(self):
        pytest.importorskip("tensorflow_serving", reason="the extra `serving` is not installed")
        with pytest.raises(
            ServerError, match=r"127.0.0.1:\d+ cannot be reached \(.*Connection refused"
        ) as raised:
            transport = connect(f"grpc://127.0.0.1:{closed_port()}", "secost", patience=ONCE)
            transport.predict("top_k", {"waveform": WAVEFORM})
        assert raised.value.is_transient
