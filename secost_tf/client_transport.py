"""Requests to TensorFlow Serving over REST or gRPC: retries with back-off, a time limit, errors that say what happened.

Needs the extra `serving`. Documented at https://www.tensorflow.org/tfx/serving/api_rest and in `prediction_service.proto`.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
from absl import logging

T = TypeVar("T")
Arrays = dict[str, np.ndarray]

REST_PORT, GRPC_PORT = 8501, 8500  # TensorFlow Serving's own
_ADDRESS = re.compile(r"(?:(https?|grpcs?)://)?([^/:\[\]]+|\[[0-9a-fA-F:]+\])(?::(\d{1,5}))?")
_TRANSIENT_HTTP = (429, 502, 503, 504)  # what a server that is starting, full or gone answers
_TRANSIENT_GRPC = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 8.0


class ServerError(ValueError):
    """A server that cannot be reached, or that refuses a request.

    Attributes:
        is_transient: whether the same request may succeed later.
    """

    def __init__(self, message: str, is_transient: bool = False):
        super().__init__(message)
        self.is_transient = is_transient


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long a request is tried.

    Attributes:
        timeout_seconds: for the answer, all attempts and pauses together.
        retries: attempts after the first one, where the error may pass.
    """

    timeout_seconds: float = 60.0
    retries: int = 4


class Transport(Protocol):
    """A way to a model on a server."""

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """The signature's outputs for these inputs; strings are bytes in arrays of objects.

        Raises:
            ServerError: if there is no answer in time, or the server refuses the request.
        """


def with_retries(
    attempt: Callable[[float], T],
    patience: Patience,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Calls `attempt(seconds left)` until it succeeds, fails for good, or `patience` ends.

    Pauses double, and are drawn at random up to their length, so that clients which a server lost together do not come
    back together.
    """
    end = clock() + patience.timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    for number in range(patience.retries + 1):
        try:
            return attempt(max(end - clock(), 1e-3))
        except ServerError as error:
            wait = random.uniform(pause / 2, pause)
            if not error.is_transient or number == patience.retries or clock() + wait >= end:
                raise
            logging.info("%s; trying again in %.1f s", error, wait)
            sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    raise AssertionError("a loop that returns or raises")


def connect(
    server: str, model: str, version: int | None = None, patience: Patience = Patience()
) -> Transport:
    """The transport for an address.

    Args:
        server: `host:port`, of which port 8500 means gRPC and others REST; or with a scheme, which decides: `http://`,
            `https://`, `grpc://`, `grpcs://`. Without a port it is TensorFlow Serving's own for the scheme.
        model: its name on the server.
        version: one of its versions; None: the one that the server takes.
        patience: how long requests are tried.

    Raises:
        ValueError: if the address is not one, or the extra `serving` is not installed.
    """
    match = _ADDRESS.fullmatch(server)
    scheme, host, port = match.groups() if match else (None, None, None)
    if not match or not (scheme or port) or (port and not 0 < int(port) < 65536):
        raise ValueError(
            f"server: expected host:{REST_PORT} (REST) or host:{GRPC_PORT} (gRPC), or either with http://, https://, "
            f"grpc:// or grpcs:// before it, got {server!r}"
        )
    scheme = scheme or ("grpc" if int(port) == GRPC_PORT else "http")
    is_grpc = scheme.startswith("grpc")
    address = f"{host}:{port or (GRPC_PORT if is_grpc else REST_PORT)}"
    try:
        if is_grpc:
            return GrpcTransport(address, model, version, patience, is_secure=scheme == "grpcs")
        return RestTransport(f"{scheme}://{address}", model, version, patience)
    except ImportError as error:
        raise ValueError(
            f"the client needs the extra serving ({error}): pip install 'secost_tf[serving]'"
        ) from error


class RestTransport:
    """TensorFlow Serving's REST API, in its column format; see `connect`."""

    def __init__(self, url: str, model: str, version: int | None, patience: Patience):
        import requests

        self._requests, self._session, self._patience = requests, requests.Session(), patience
        self._server = url
        of_version = f"/versions/{version}" if version is not None else ""
        self._url = f"{url}/v1/models/{model}{of_version}:predict"

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """See `Transport`."""
        body = json_request(signature, inputs)
        return with_retries(lambda seconds: self._attempt(body, seconds), self._patience)

    def _attempt(self, body: bytes, seconds: float) -> Arrays:
        errors = self._requests.exceptions
        try:
            response = self._session.post(
                self._url, data=body, headers={"Content-Type": "application/json"}, timeout=seconds
            )
        except errors.Timeout as error:
            raise ServerError(f"{self._server}: no answer within {seconds:.3g} s") from error
        except errors.ConnectionError as error:
            raise ServerError(
                f"{self._server} cannot be reached ({_reason(error)})", is_transient=True
            ) from error
        except errors.RequestException as error:
            raise ServerError(f"{self._server}: {error}") from error
        if response.status_code != 200:
            raise ServerError(
                f"{self._url} refuses the request (HTTP {response.status_code}): {error_of(response.text)}",
                is_transient=response.status_code in _TRANSIENT_HTTP,
            )
        try:
            return outputs_of_json(response.json()["outputs"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            start = response.text[:200]
            raise ServerError(
                f"{self._url}: not an answer of TensorFlow Serving ({error!r}): {start}"
            ) from error


def json_request(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """The body of a predict request in column format; bytes as base64."""
    return json.dumps(
        {
            "signature_name": signature,
            "inputs": {name: _json_values(value) for name, value in inputs.items()},
        },
        allow_nan=True,  # which TensorFlow Serving reads
    ).encode()


def _json_values(value: np.ndarray) -> Any:
    if not value.dtype.hasobject:
        return value.tolist()
    return [{"b64": base64.b64encode(data).decode()} for data in value]


def outputs_of_json(outputs: Mapping[str, Any]) -> Arrays:
    """The arrays of a response's column format; text becomes bytes, as it comes over gRPC."""
    arrays = {}
    for name, values in outputs.items():
        array = np.array(values)
        if array.dtype.kind == "U":
            arrays[name] = np.array([text.encode() for text in array.ravel().tolist()], object).reshape(
                array.shape
            )
        else:
            arrays[name] = array.astype(np.float32)
    return arrays


def error_of(text: str) -> str:
    """What an error body says: the JSON object's `error`, or all of it where it is none."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:1000] or "without a word"


def _reason(error: BaseException) -> str:
    """The first cause of a failed connection, such as `Connection refused`."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)


class GrpcTransport:
    """TensorFlow Serving's gRPC API; see `connect`."""

    def __init__(
        self, address: str, model: str, version: int | None, patience: Patience, is_secure: bool = False
    ):
        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        self._grpc, self._predict_pb2, self._patience, self._address = grpc, predict_pb2, patience, address
        self._model, self._version = model, version
        # Long clips, and the segment scores of many classes, are more than the 4 MB that is the limit otherwise.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
            if is_secure
            else grpc.insecure_channel(address, options)
        )
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """See `Transport`."""
        import tensorflow as tf

        request = self._predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model, signature
        if self._version is not None:
            request.model_spec.version.value = self._version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, tf.as_dtype(value.dtype), value.shape))
        response = with_retries(lambda seconds: self._attempt(request, seconds), self._patience)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def _attempt(self, request: Any, seconds: float) -> Any:
        try:
            return self._stub.Predict(request, timeout=seconds)
        except self._grpc.RpcError as error:
            code = error.code().name
            if code == "UNAVAILABLE":
                raise ServerError(
                    f"{self._address} cannot be reached ({error.details()})", is_transient=True
                ) from error
            if code == "DEADLINE_EXCEEDED":
                raise ServerError(f"{self._address}: no answer within {seconds:.3g} s") from error
            raise ServerError(
                f"{self._address}, model {self._model}, refuses the request ({code}): {error.details()}",
                is_transient=code in _TRANSIENT_GRPC,
            ) from error
