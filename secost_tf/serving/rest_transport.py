"""Requests over TensorFlow Serving's REST API, in its column format.

Documented at https://www.tensorflow.org/tfx/serving/api_rest.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import requests
from absl import logging
from requests import exceptions
from requests.adapters import HTTPAdapter
from urllib3 import Retry, Timeout
from urllib3.exceptions import MaxRetryError, ReadTimeoutError

from secost_tf.serving.retries import LONGEST_PAUSE_SECONDS, Arrays, RetryPolicy, ServerError

_TRANSIENT = (429, 502, 503, 504)  # what a server that is starting, full or gone answers


class RestTransport:
    """TensorFlow Serving's REST API; see `connect`."""

    def __init__(self, url: str, model: str, version: int | None, policy: RetryPolicy):
        self._server, self._policy = url, policy
        self._session, self._adapter = requests.Session(), HTTPAdapter()
        self._session.mount(url, self._adapter)
        of_version = f"/versions/{version}" if version is not None else ""
        self._url = f"{url}/v1/models/{model}{of_version}:predict"

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """See `Transport`."""
        response = self._post(json_request(signature, inputs))
        if response.status_code != 200:
            raise ServerError(
                f"{self._url} refuses the request (HTTP {response.status_code}): "
                f"{error_of(response.text)}",
                is_transient=response.status_code in _TRANSIENT,
            )
        try:
            return outputs_of_json(response.json()["outputs"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            start = response.text[:200]
            raise ServerError(
                f"{self._url}: not an answer of TensorFlow Serving ({error!r}): {start}"
            ) from error

    def _post(self, body: bytes) -> requests.Response:
        seconds = self._policy.timeout_seconds
        limit: Any = _TimeLimit(seconds)  # requests takes urllib3's, which its types do not tell
        self._adapter.max_retries = _Retry(
            total=self._policy.retries,
            allowed_methods=["POST"],
            status_forcelist=_TRANSIENT,
            raise_on_status=False,
            respect_retry_after_header=False,
            backoff_factor=self._policy.pause_seconds,
            backoff_jitter=self._policy.pause_seconds,
            backoff_max=LONGEST_PAUSE_SECONDS,
            limit=limit,
        )
        headers = {"Content-Type": "application/json"}
        try:
            return self._session.post(self._url, data=body, headers=headers, timeout=limit)
        except exceptions.Timeout as error:
            raise ServerError(f"{self._server}: no answer within {seconds:.3g} s") from error
        except exceptions.ConnectionError as error:
            raise ServerError(
                f"{self._server} cannot be reached ({_reason(error)})", is_transient=True
            ) from error
        except exceptions.RequestException as error:
            raise ServerError(f"{self._server}: {error}") from error


class _TimeLimit(Timeout):
    """A time limit for all attempts of a request together; each is given what is left of it."""

    def __init__(self, seconds: float):
        super().__init__(total=seconds)
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()

    def clone(self) -> Timeout:
        return Timeout(total=max(self.left(), 1e-3))


class _Retry(Retry):
    """urllib3's retries, within a time limit."""

    def __init__(self, *, limit: _TimeLimit, **options):
        super().__init__(**options)
        self._limit = limit

    def new(self, **options) -> _Retry:
        return super().new(limit=self._limit, **options)

    def increment(
        self, method=None, url=None, response=None, error=None, _pool=None, _stacktrace=None
    ) -> _Retry:
        """Return the retries of the next attempt; raise the error if there is to be none."""
        if isinstance(error, ReadTimeoutError):
            raise error
        retry = super().increment(method, url, response, error, _pool, _stacktrace)
        if retry.get_backoff_time() >= self._limit.left():
            raise MaxRetryError(_pool, url, error)
        problem = _reason(error) if error else f"HTTP {response.status}"
        logging.info("the request failed (%s); trying again", problem)
        return retry


def json_request(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Return the body of a predict request in column format; bytes as base64."""
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
    """Return the arrays of a response in column format; text as bytes, as it comes over gRPC."""
    arrays = {}
    for name, values in outputs.items():
        array = np.array(values)
        if array.dtype.kind == "U":
            texts = [text.encode() for text in array.ravel().tolist()]
            arrays[name] = np.array(texts, object).reshape(array.shape)
        else:
            arrays[name] = array.astype(np.float32)
    return arrays


def error_of(text: str) -> str:
    """Return the message of an error body: the JSON object's `error`, or else all of the text."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:1000] or "without a word"


def _reason(error: BaseException) -> str:
    """Return the first cause of a failed connection, such as `Connection refused`."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)
