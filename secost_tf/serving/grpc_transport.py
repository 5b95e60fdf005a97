"""Requests over TensorFlow Serving's gRPC API, described in its `prediction_service.proto`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from secost_tf.serving.retries import LONGEST_PAUSE_SECONDS, Arrays, RetryPolicy, ServerError

_TRANSIENT = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")

_MOST_RETRIES = 4  # gRPC takes no more


class GrpcTransport:
    """TensorFlow Serving's gRPC API; see `connect`."""

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None,
        policy: RetryPolicy,
        is_secure: bool = False,
    ):
        self._address, self._model, self._version = address, model, version
        self._policy = policy
        options = channel_options(policy)
        if is_secure:
            self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """See `Transport`."""
        import tensorflow as tf

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model, signature
        if self._version is not None:
            request.model_spec.version.value = self._version
        for name, value in inputs.items():
            tensor = tf.make_tensor_proto(value, tf.as_dtype(value.dtype), value.shape)
            request.inputs[name].CopyFrom(tensor)
        try:
            response = self._stub.Predict(request, timeout=self._policy.timeout_seconds)
        except grpc.RpcError as error:
            raise self._describe(error) from error
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def _describe(self, error: Any) -> ServerError:
        code, details = error.code().name, error.details()
        if code == "DEADLINE_EXCEEDED":
            return ServerError(
                f"{self._address}: no answer within {self._policy.timeout_seconds:.3g} s"
            )
        problem = (
            f"{self._address} cannot be reached ({details})"
            if code == "UNAVAILABLE"
            else f"{self._address}, model {self._model}, refuses the request ({code}): {details}"
        )
        return ServerError(problem, is_transient=code in _TRANSIENT)


def channel_options(policy: RetryPolicy) -> list[tuple[str, Any]]:
    """Return the options of a channel whose messages may be long and are sent again by `policy`."""
    options = [
        # Long clips, and the segment scores of many classes, are more than the usual limit, 4 MB.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    if not policy.retries:
        return [*options, ("grpc.enable_retries", 0)]
    retries = {
        "maxAttempts": 1 + min(policy.retries, _MOST_RETRIES),
        "initialBackoff": f"{policy.pause_seconds:.3f}s",
        "maxBackoff": f"{LONGEST_PAUSE_SECONDS}s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": _TRANSIENT,
    }
    service = {"service": "tensorflow.serving.PredictionService"}
    config = {"methodConfig": [{"name": [service], "retryPolicy": retries}]}
    reconnect_ms = max(100, round(1000 * policy.pause_seconds))
    return [
        *options,
        ("grpc.service_config", json.dumps(config)),
        ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),  # a longer request would be sent once only
        ("grpc.initial_reconnect_backoff_ms", reconnect_ms),
        ("grpc.min_reconnect_backoff_ms", reconnect_ms),
    ]
