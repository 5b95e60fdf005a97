"""A small stand-in for TensorFlow Serving: its REST and gRPC messages before a model in
TensorFlow's C++ loader.

    python serving_server.py MODELS/secost [--grpc]

Prints its ports, one JSON object, and serves until its input ends. What it answers follows
TensorFlow Serving's documentation of the REST API and `prediction_service.proto`.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np

from secost_tf.serving.cpp_loader import Servable, ServableError
from secost_tf.serving.layout import latest_version
from secost_tf.serving.waveforms import bytes_array

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict")
STATUS = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?")


class Model:
    """The latest version of a model.

    Args:
        export_dir: its folder of versions.
    """

    def __init__(self, export_dir: str):
        folder = latest_version(export_dir)
        self.name, self.version = (
            os.path.basename(os.path.dirname(folder)),
            int(os.path.basename(folder)),
        )
        self.servable = Servable(folder)

    def check(self, name: str, version: int | None) -> None:
        """Raise NOT_FOUND if another model or version is meant."""
        if name != self.name or version not in (None, self.version):
            what = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ServableError("NOT_FOUND", f"Servable not found for request: {what}")

    def inputs(self, signature: str) -> dict:
        """Return the specification of a signature's inputs."""
        if signature not in self.servable.signatures:
            raise invalid(f'Serving signature name: "{signature}" not found in signature def')
        return self.servable.signatures[signature].inputs


def invalid(message: str) -> ServableError:
    return ServableError("INVALID_ARGUMENT", message)


# === REST ===


def predict_json(model: Model, body: bytes) -> str:
    """Return the JSON answer to a predict request in row or column format."""
    try:
        request = json.loads(body)
    except ValueError as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise invalid(f"JSON Value: {body.decode()} Is not object")
    signature = request.get("signature_name", "serving_default")
    specs = model.inputs(signature)
    if ("instances" in request) == ("inputs" in request):
        raise invalid(
            "Missing 'inputs' or 'instances' key"
            if "inputs" not in request
            else "expecting only one of them"
        )
    is_row = "instances" in request
    values = _rows(request["instances"], specs) if is_row else _columns(request["inputs"], specs)
    outputs = model.servable.run(
        signature, {name: _array(name, value, specs[name].dtype) for name, value in values.items()}
    )
    columns = {name: _plain(value) for name, value in outputs.items()}
    if not is_row:
        return json.dumps(
            {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}, indent=4
        )
    sizes = {len(value) for value in columns.values()}
    if len(sizes) > 1:  # an output without the batch first cannot be given in rows
        raise invalid(f"Tensor name: {next(iter(columns))} has inconsistent batch size: {sizes}")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps(
        {
            "predictions": rows
            if len(columns) > 1
            else [value for row in rows for value in row.values()]
        },
        indent=4,
    )


def _rows(instances, specs) -> dict:
    if not isinstance(instances, list) or not instances:
        raise invalid(
            "No values in 'instances' array"
            if instances == []
            else "Expecting 'instances' to be a list/array"
        )
    if not isinstance(instances[0], dict) or set(instances[0]) == {"b64"}:
        if len(specs) > 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input "
                "tensors required as per tensorinfo_map"
            )
        return {next(iter(specs)): instances}
    for number, row in enumerate(instances):
        if not isinstance(row, dict) or set(row) != set(specs):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. keys must be equal "
                f"to: {','.join(specs)}"
            )
    return {name: [row[name] for row in instances] for name in specs}


def _columns(inputs, specs) -> dict:
    if not isinstance(inputs, dict) or set(inputs) == {"b64"}:
        if len(specs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required"
            )
        return {next(iter(specs)): inputs}
    for name in specs:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: inputs[name] for name in specs}


def _array(name: str, values, dtype: np.dtype) -> np.ndarray:
    """Return nested lists as a tensor of the type that the signature has."""
    if dtype.hasobject:
        if not isinstance(values, list):
            values = [values]
        return bytes_array([_bytes_of(value) for value in values])
    flat, shape = [], []

    def fill(value, level: int) -> None:
        if isinstance(value, list):
            if level == len(shape) and not flat:
                shape.append(len(value))
            if level >= len(shape) or len(value) != shape[level]:
                raise invalid(
                    f"Encountered list at unexpected size: {len(value)} at level: {level}"
                )
            for item in value:
                fill(item, level + 1)
        elif isinstance(value, bool) or not isinstance(
            value, int if dtype.kind == "i" else (int, float)
        ):
            raise invalid(f"JSON Value: {json.dumps(value)} is not of expected type: {dtype}")
        elif level != len(shape):
            raise invalid(
                f"JSON Value: {value} found at incorrect level: {level + 1} in the JSON DOM"
            )
        else:
            flat.append(value)

    fill(values, 0)
    return np.array(flat, dtype).reshape(shape)


def _bytes_of(value) -> bytes:
    if isinstance(value, dict) and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (ValueError, TypeError) as error:
            raise invalid("Unable to base64 decode") from error
    if not isinstance(value, str):
        raise invalid(f"JSON Value: {json.dumps(value)} is not of expected type: string")
    return value.encode()


def _plain(value: np.ndarray):
    """Return nested lists; numbers with the digits that float32 has."""
    if value.dtype.hasobject:
        return (
            np.array([text.decode() for text in value.ravel()], object)
            .reshape(value.shape)
            .tolist()
        )
    return (
        np.array([float(str(number)) for number in value.ravel()], object)
        .reshape(value.shape)
        .tolist()
    )


class RestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(PREDICT, lambda: predict_json(self.model, body))

    def do_GET(self):
        self._answer(STATUS, self._status)

    def _answer(self, path: re.Pattern, answer) -> None:
        try:
            match = path.fullmatch(self.path)
            if not match:
                raise invalid(f"Malformed request: {self.command} {self.path}")
            self.model.check(match[1], match[2] and int(match[2]))
            status, text = 200, answer()
        except ServableError as error:
            status, text = (
                HTTP_STATUS.get(error.code, 500),
                json.dumps({"error": str(error)}, indent=4),
            )
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _status(self) -> str:
        state = {"error_code": "OK", "error_message": ""}
        version = {"version": str(self.model.version), "state": "AVAILABLE", "status": state}
        return json.dumps({"model_version_status": [version]}, indent=1)

    def log_message(self, *arguments):
        pass


def serve_rest(model: Model) -> int:
    """Serve in threads on a free port; return the port."""
    handler = type("Handler", (RestHandler,), {"model": model})
    server = type(
        "Server", (ThreadingHTTPServer,), {"request_queue_size": 128, "daemon_threads": True}
    )(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


# === gRPC ===


def serve_grpc(model: Model) -> tuple[int, object]:
    """Serve on a free port; return it and the server."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            spec = request.model_spec
            signature = spec.signature_name or "serving_default"
            try:
                model.check(spec.name, spec.version.value if spec.HasField("version") else None)
                if signature not in model.servable.signatures:
                    raise ServableError(
                        "FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.'
                    )
                inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
                outputs = model.servable.run(signature, inputs)
            except ServableError as error:
                context.abort(getattr(grpc.StatusCode, error.code), str(error))
            response = predict_pb2.PredictResponse()
            response.model_spec.name, response.model_spec.signature_name = model.name, signature
            response.model_spec.version.value = model.version
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(
                    tf.make_tensor_proto(value, tf.as_dtype(value.dtype), value.shape)
                )
            return response

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(16), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return port, server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("export_dir")
    parser.add_argument("--grpc", action="store_true")
    arguments = parser.parse_args()
    model = Model(arguments.export_dir)
    ports, server = {"rest": serve_rest(model)}, None
    if arguments.grpc:
        ports["grpc"], server = serve_grpc(model)
    print(json.dumps(ports), flush=True)
    sys.stdin.read()
    if server:
        server.stop(None).wait()


if __name__ == "__main__":
    main()
