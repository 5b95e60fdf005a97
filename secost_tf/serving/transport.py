"""The way to a model on TensorFlow Serving, over REST or gRPC: its address, retries and errors.

Needs the extra `serving`. Retries are the libraries' own: urllib3's over REST, gRPC's over gRPC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from secost_tf.serving.retries import Arrays, RetryPolicy

REST_PORT, GRPC_PORT = 8501, 8500  # TensorFlow Serving's own

_ADDRESS = re.compile(r"(?:(https?|grpcs?)://)?([^/:\[\]]+|\[[0-9a-fA-F:]+\])(?::(\d{1,5}))?")


class Transport(Protocol):
    """A way to a model on a server."""

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Return the signature's outputs for these inputs; strings are bytes in arrays of objects.

        Raises:
            ServerError: if there is no answer in time, or the server refuses the request.
        """


def connect(
    server: str, model: str, version: int | None = None, policy: RetryPolicy | None = None
) -> Transport:
    """Return the transport for an address; the connection is made by the first request.

    Args:
        server: `host:port`, of which port 8500 means gRPC and others REST; or with a scheme, which
            decides: `http://`, `https://`, `grpc://`, `grpcs://`. Without a port it is TensorFlow
            Serving's own for the scheme.
        model: its name on the server.
        version: one of its versions; None: the one that the server takes.
        policy: the time and the attempts that each request is given; None: the defaults.

    Raises:
        ValueError: if the address is not one, or the extra `serving` is not installed.

    Example:
        >>> transport = connect("localhost:8501", "secost")  # doctest: +SKIP
        >>> transport.predict("top_k", {"waveform": waveform[None]})  # doctest: +SKIP
    """
    policy = policy or RetryPolicy()
    match = _ADDRESS.fullmatch(server)
    scheme, host, port = match.groups() if match else (None, None, None)
    if not match or not (scheme or port) or (port and not 0 < int(port) < 65536):
        raise ValueError(
            f"server: expected host:{REST_PORT} (REST) or host:{GRPC_PORT} (gRPC), or either with "
            f"http://, https://, grpc:// or grpcs:// before it, got {server!r}"
        )
    scheme = scheme or ("grpc" if int(port or 0) == GRPC_PORT else "http")
    is_grpc = scheme.startswith("grpc")
    address = f"{host}:{port or (GRPC_PORT if is_grpc else REST_PORT)}"
    try:
        if is_grpc:
            from secost_tf.serving.grpc_transport import GrpcTransport

            return GrpcTransport(address, model, version, policy, is_secure=scheme == "grpcs")
        from secost_tf.serving.rest_transport import RestTransport

        return RestTransport(f"{scheme}://{address}", model, version, policy)
    except ImportError as error:
        raise ValueError(
            f"the client needs the extra serving ({error}): pip install 'secost_tf[serving]'"
        ) from error
