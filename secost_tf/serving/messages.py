"""The protobuf messages of TensorFlow Serving that are written or read without it: tensors,
requests, signatures.

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
    """A message, such as `make("ModelSpec", name="secost")`."""
    return _CLASSES[name](**fields)


def parse(name: str, data: bytes) -> Any:
    """The message that was serialised."""
    return make(name).FromString(data)


def tensor(array: np.ndarray) -> Any:
    """An array as a `Tensor`: float32, int32 or int64, or bytes as objects."""
    array = np.asarray(array)
    message = make("Tensor", dtype=NUMBERS[array.dtype])
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    if array.dtype.hasobject:
        message.string_val.extend(array.ravel())
    else:
        message.tensor_content = np.ascontiguousarray(array).tobytes()
    return message


def repeated_tensor(value: float, shape: tuple[int, ...]) -> Any:
    """A float32 `Tensor` that holds one number at all its places, in a few bytes: readers repeat
    the last one.
    """
    message = make("Tensor", dtype=NUMBERS[np.dtype("float32")], float_val=[value])
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def array(message: Any) -> np.ndarray:
    """The inverse of `tensor` and `repeated_tensor`."""
    dtype, shape = DTYPES[message.dtype], [dim.size for dim in message.tensor_shape.dim]
    if dtype.hasobject:
        return np.array([*message.string_val, None], object)[:-1].reshape(shape)
    if message.tensor_content:
        return np.frombuffer(message.tensor_content, dtype).reshape(shape)
    values = {"float32": message.float_val, "int32": message.int_val, "int64": message.int64_val}[
        dtype.name
    ]
    missing = int(np.prod(shape)) - len(values)
    return np.array([*values, *[values[-1] if values else 0] * missing], dtype).reshape(shape)


def prediction_log(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    """A request as TensorFlow Serving logs it, and reads it to warm up; inputs are `Tensor`
    messages by name.
    """
    request = make(
        "PredictRequest", model_spec=make("ModelSpec", name=model, signature_name=signature)
    )
    for name, value in inputs.items():
        request.inputs.add(key=name, value=value)
    return make(
        "PredictionLog", predict_log=make("PredictLog", request=request)
    ).SerializeToString()


def request_of(log: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """(signature, inputs) of what `prediction_log` made."""
    request = parse("PredictionLog", log).predict_log.request
    return request.model_spec.signature_name, {
        entry.key: array(entry.value) for entry in request.inputs
    }


def response(outputs: Mapping[str, np.ndarray]) -> bytes:
    """A `PredictResponse` with these outputs."""
    message = make("PredictResponse")
    for name, value in outputs.items():
        message.outputs.add(key=name, value=tensor(value))
    return message.SerializeToString()


def outputs_of(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `response`."""
    return {entry.key: array(entry.value) for entry in parse("PredictResponse", data).outputs}
