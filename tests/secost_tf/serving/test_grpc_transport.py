"""gRPC: answers, retries, and errors; against the stand-in for the server, and one that is busy."""

import contextlib
import socket
from concurrent import futures

import numpy as np
import pytest

pytest.importorskip("tensorflow_serving", reason="the extra `serving` is not installed")

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from secost_tf.serving.retries import RetryPolicy, ServerError
from secost_tf.serving.transport import connect

ONCE = RetryPolicy(timeout_seconds=20, retries=0)
WAVEFORM = np.array([[0.5, -0.25]], np.float32)


# === The stand-in ===


@pytest.fixture
def transport(kept_server):
    return lambda *arguments: connect(
        f"grpc://127.0.0.1:{kept_server.grpc}", *arguments, policy=ONCE
    )


def test_an_answer(transport, kept_servable):
    waveform = np.random.default_rng(0).uniform(-1, 1, (2, 1600)).astype(np.float32)
    answer = transport("secost").predict("top_k", {"waveform": waveform})
    expected = kept_servable.run("top_k", {"waveform": waveform})
    np.testing.assert_allclose(answer["scores"], expected["scores"], rtol=0, atol=1e-6)
    assert answer["labels"].tolist() == expected["labels"].tolist()


def test_a_version(transport):
    silence = {"waveform": np.zeros((1, 400), np.float32)}
    assert "scores" in transport("secost", 1).predict("top_k", silence)
    with pytest.raises(
        ServerError, match=r"refuses the request \(NOT_FOUND\): .*Specific\(secost, 2\)"
    ):
        transport("secost", 2).predict("top_k", silence)


def test_a_refusal(transport):
    message = (
        r"127.0.0.1:\d+, model secost, refuses the request \(INVALID_ARGUMENT\): "
        ".*expected 400 samples or more"
    )
    with pytest.raises(ServerError, match=message) as raised:
        transport("secost").predict("serving_default", {"waveform": WAVEFORM})
    assert not raised.value.is_transient


def test_a_request_of_more_than_four_megabytes(transport):
    waveforms = np.zeros((17, 60 * 16000), np.float32)
    answer = transport("secost").predict("serving_default", {"waveform": waveforms})
    assert answer["segment_scores"].shape == (17, 186, 4)


def test_nobody_there():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    message = r"127.0.0.1:\d+ cannot be reached \(.*Connection refused"
    with pytest.raises(ServerError, match=message) as raised:
        connect(f"grpc://127.0.0.1:{port}", "secost", policy=ONCE).predict(
            "top_k", {"waveform": WAVEFORM}
        )
    assert raised.value.is_transient


# === Retries ===


class BusyServer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """A server that refuses so many requests before it answers."""

    def __init__(self, refusals: int, code: grpc.StatusCode):
        self.refusals, self.code, self.requests = refusals, code, []

    def Predict(self, request, context):
        self.requests.append(request)
        if len(self.requests) <= self.refusals:
            context.abort(self.code, "busy")
        response = predict_pb2.PredictResponse()
        response.outputs["scores"].CopyFrom(tf.make_tensor_proto([[0.5]], tf.float32))
        return response


@contextlib.contextmanager
def busy_server(refusals: int, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE):
    """Run a `BusyServer`; yield its address and itself."""
    options = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(2), options=options)
    servicer = BusyServer(refusals, code)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}", servicer
    finally:
        server.stop(None)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_server_that_is_busy_is_asked_again(code):
    waveform = np.ones((1, 500_000), np.float32)  # more than gRPC keeps for a retry unless told
    with busy_server(2, code) as (address, server):
        transport = connect(address, "secost", policy=RetryPolicy(20, 2, pause_seconds=0.01))
        assert transport.predict("top_k", {"waveform": waveform})["scores"].tolist() == [[0.5]]
    assert len(server.requests) == 3 and server.requests[0] == server.requests[2]


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (2, 3), (9, 5)])
def test_it_gives_up_after_so_many_attempts(retries, attempts):
    with busy_server(99) as (address, server):
        transport = connect(address, "secost", policy=RetryPolicy(20, retries, pause_seconds=0.01))
        with pytest.raises(ServerError, match="busy") as raised:
            transport.predict("top_k", {"waveform": WAVEFORM})
    assert len(server.requests) == attempts and raised.value.is_transient


def test_it_gives_up_when_the_time_is_over():
    with busy_server(99) as (address, server):
        transport = connect(address, "secost", policy=RetryPolicy(0.3, 4, pause_seconds=0.2))
        with pytest.raises(ServerError, match=r"127.0.0.1:\d+: no answer within 0\.3 s"):
            transport.predict("top_k", {"waveform": WAVEFORM})
    assert 1 <= len(server.requests) <= 3


def test_a_refusal_is_not_tried_again():
    with busy_server(1, grpc.StatusCode.INTERNAL) as (address, server):
        transport = connect(address, "secost", policy=RetryPolicy(20, 4, pause_seconds=0.01))
        with pytest.raises(ServerError, match=r"refuses the request \(INTERNAL\): busy"):
            transport.predict("top_k", {"waveform": WAVEFORM})
    assert len(server.requests) == 1
