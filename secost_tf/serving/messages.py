"""Messages of TensorFlow Serving, made without it: tensors, requests, signatures.

On the wire they are TensorFlow's and TensorFlow Serving's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrecord_tools.messages import make_message_classes

# A map is a list of entries with a key (1) and a value (2). Lists of messages are marked by [].
_CLASSES = make_message_classes(
    "secost",
    {
        "Dim": "int64 size 1",
        "Shape": "Dim[] dim 2, bool unknown_rank 3",
        "Tensor": "int32 dtype 1, Shape tensor_shape 2, bytes tensor_content 4, "
        "float[] float_val 5, int32[] int_val 7, bytes[] string_val 8, int64[] int64_val 10",
        "TensorEntry": "string key 1, Tensor value 2",
        "ModelSpec": "string name 1, string signature_name 3",
        "PredictRequest": "ModelSpec model_spec 1, TensorEntry[] inputs 2",
        "PredictResponse": "TensorEntry[] outputs 1, ModelSpec model_spec 2",
        "PredictLog": "PredictRequest request 1, PredictResponse response 2",
        "PredictionLog": "PredictLog predict_log 6",
        "TensorInfo": "string name 1, int32 dtype 2, Shape tensor_shape 3",
        "TensorInfoEntry": "string key 1, TensorInfo value 2",
        "SignatureDef": "TensorInfoEntry[] inputs 1, TensorInfoEntry[] outputs 2, "
        "string method_name 3",
        "SignatureDefEntry": "string key 1, SignatureDef value 2",
        "MetaGraphDef": "SignatureDefEntry[] signature_def 5",
    },
)

# TensorFlow's numbers of the types that signatures use; strings are objects in NumPy.
DTYPES = {1: np.dtype("float32"), 3: np.dtype("int32"), 7: np.dtype("object"), 9: np.dtype("int64")}

NUMBERS = {dtype: number for number, dtype in DTYPES.items()}


def make(name: str, /, **fields: Any) -> Any:
    """Make a message, such as `make("ModelSpec", name="secost")`."""
    return _CLASSES[name](**fields)


def parse(name: str, data: bytes) -> Any:
    """Return the message that was serialised."""
    return make(name).FromString(data)


def tensor(array: np.ndarray) -> Any:
    """Return an array as a `Tensor`: float32, int32 or int64, or bytes as objects."""
    array = np.asarray(array)
    message = _typed(array.dtype, array.shape)
    if array.dtype.hasobject:
        message.string_val.extend(array.ravel())
    else:
        message.tensor_content = np.ascontiguousarray(array).tobytes()
    return message


def repeated_tensor(value: float, shape: tuple[int, ...]) -> Any:
    """Return a float32 `Tensor` of one number in a few bytes: readers repeat the last one."""
    message = _typed(np.dtype("float32"), shape)
    message.float_val.append(value)
    return message


def _typed(dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    sizes = [make("Dim", size=size) for size in shape]
    return make("Tensor", dtype=NUMBERS[dtype], tensor_shape=make("Shape", dim=sizes))


def array(message: Any) -> np.ndarray:
    """Return the array of a `Tensor`."""
    dtype, shape = DTYPES[message.dtype], [dim.size for dim in message.tensor_shape.dim]
    if dtype.hasobject:
        return np.array([*message.string_val, None], object)[:-1].reshape(shape)
    if message.tensor_content:
        return np.frombuffer(message.tensor_content, dtype).reshape(shape)
    fields = {"float32": message.float_val, "int32": message.int_val, "int64": message.int64_val}
    values = fields[dtype.name]
    missing = int(np.prod(shape)) - len(values)
    return np.array([*values, *[values[-1] if values else 0] * missing], dtype).reshape(shape)


def prediction_log(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    """Return a request as TensorFlow Serving logs it; inputs are `Tensor` messages by name."""
    spec = make("ModelSpec", name=model, signature_name=signature)
    entries = [make("TensorEntry", key=name, value=value) for name, value in inputs.items()]
    request = make("PredictRequest", model_spec=spec, inputs=entries)
    log = make("PredictionLog", predict_log=make("PredictLog", request=request))
    return log.SerializeToString()


def request_of(log: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """Return (signature, inputs) of a request that `prediction_log` made."""
    request = parse("PredictionLog", log).predict_log.request
    inputs = {entry.key: array(entry.value) for entry in request.inputs}
    return request.model_spec.signature_name, inputs


def response(outputs: Mapping[str, np.ndarray]) -> bytes:
    """Return a `PredictResponse` with these outputs."""
    entries = [make("TensorEntry", key=name, value=tensor(outputs[name])) for name in outputs]
    return make("PredictResponse", outputs=entries).SerializeToString()


def outputs_of(data: bytes) -> dict[str, np.ndarray]:
    """Return the outputs of a `PredictResponse`."""
    return {entry.key: array(entry.value) for entry in parse("PredictResponse", data).outputs}
