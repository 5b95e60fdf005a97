"""A SavedModel run by TensorFlow's C++ loader, as TensorFlow Serving runs it.

Neither TensorFlow's Python nor Keras is needed: the loader is reached through TensorFlow's C API,
in the libraries of the installed package. A model that it refuses can't be served, also if Python
reloads it.

    python -m secost_tf.serving.cpp_loader SAVED_MODEL REQUESTS RESPONSES

answers a TFRecord file of TensorFlow Serving's PredictionLog messages by one of its PredictResponse
messages; the requests by which an exported model is warmed up are such a file.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import importlib.util
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from secost_tf.serving import messages
from tfrecord_tools import shards

# TensorFlow's status codes in their order, which are gRPC's.
_CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS "
    "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED "
    "INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
)

_STRING_BYTES = 24  # of a TF_TString


class ServableError(ValueError):
    """An error of the C++ loader with a model, or of the graph with a request.

    Attributes:
        code: one of gRPC's status codes, such as `NOT_FOUND`.
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes:
        tensor: its name in the graph.
        dtype: NumPy's, object for strings.
        shape: None for a dimension of any size; None altogether if it may have any number of them.
    """

    tensor: str
    dtype: np.dtype
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sizes = ("?" if size is None else str(size) for size in self.shape or ())
        return f"{'string' if self.dtype.hasobject else self.dtype} [{', '.join(sizes)}]"


@dataclasses.dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a signature, by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


class Servable:
    """A loaded SavedModel; may be run by several threads at once.

    Args:
        path: of the folder that holds `saved_model.pb`.

    Attributes:
        signatures: by name.

    Raises:
        ServableError: if TensorFlow's C++ loader refuses it.
    """

    def __init__(self, path: str | Path):
        self._api = api = _load_library()
        self.signatures: dict[str, Signature] = {}
        self._session = None
        self._graph = api.TF_NewGraph()
        options, meta_graph = api.TF_NewSessionOptions(), api.TF_NewBuffer()
        tags = (c_char_p * 1)(b"serve")
        try:
            with self._status() as status:
                self._session = api.TF_LoadSessionFromSavedModel(
                    options, None, os.fsencode(path), tags, 1, self._graph, meta_graph, status
                )
            content = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
            self.signatures.update(_read_signatures(content))
        except ServableError as error:
            self.close()
            raise ServableError(
                error.code, f"{path}: TensorFlow's C++ loader refuses this SavedModel: {error}"
            ) from error
        finally:
            api.TF_DeleteBuffer(meta_graph)
            api.TF_DeleteSessionOptions(options)

    def __enter__(self) -> Servable:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; it can't be run any more."""
        if self._session:
            with self._status() as status:
                self._api.TF_CloseSession(self._session, status)
            with self._status() as status:
                self._api.TF_DeleteSession(self._session, status)
            self._session = None
        if self._graph:
            self._api.TF_DeleteGraph(self._graph)
            self._graph = None

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Answer one request.

        Args:
            signature: one of `signatures`.
            inputs: an array for each of the signature's inputs; strings are bytes in an array of
                objects.

        Returns:
            The outputs by name.

        Raises:
            ServableError: if the request does not fit the signature, or the graph refuses it.
        """
        spec = self.signatures.get(signature)
        if spec is None:
            raise ServableError(
                "NOT_FOUND",
                f"no signature {signature!r}; there are {', '.join(sorted(self.signatures))}",
            )
        if set(inputs) != set(spec.inputs):
            raise ServableError(
                "INVALID_ARGUMENT",
                f"{signature}: expected the inputs {', '.join(spec.inputs)}, got "
                f"{', '.join(inputs) or 'none'}",
            )
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        for name, value in arrays.items():
            if value.dtype != spec.inputs[name].dtype:
                raise ServableError(
                    "INVALID_ARGUMENT",
                    f"{name}: expected {spec.inputs[name].dtype}, got {value.dtype}",
                )
        return self._run(spec, arrays)

    def _run(self, spec: Signature, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        api, tensors, results = self._api, [], (c_void_p * len(spec.outputs))()
        try:
            for value in arrays.values():
                tensors.append(_make_tensor(api, value))
            inputs = self._places([spec.inputs[name] for name in arrays])
            feeds = inputs, (c_void_p * len(tensors))(*tensors), len(tensors)
            fetches = self._places(spec.outputs.values()), results, len(results)
            with self._status() as status:
                api.TF_SessionRun(self._session, None, *feeds, *fetches, None, 0, None, status)
            named = zip(spec.outputs, results, strict=True)
            return {name: _read_tensor(api, result) for name, result in named}
        finally:
            for tensor in (*tensors, *filter(None, results)):
                _delete_tensor(api, tensor)

    def _places(self, specs: Collection[TensorSpec]) -> ctypes.Array[_Output]:
        """Return the places of tensors in the graph."""
        places = (_Output * len(specs))()
        for place, spec in zip(places, specs, strict=True):
            operation, _, index = spec.tensor.partition(":")
            place.operation = self._api.TF_GraphOperationByName(self._graph, operation.encode())
            place.index = int(index or 0)
        return places

    @contextmanager
    def _status(self) -> Iterator[int]:
        """Yield a status for one call; raise it as an error if it is not OK."""
        status = self._api.TF_NewStatus()
        try:
            yield status
            if code := self._api.TF_GetCode(status):
                message = self._api.TF_Message(status).decode(errors="replace")
                names = dict(enumerate(_CODES.split()))
                raise ServableError(names.get(code, "UNKNOWN"), message)
        finally:
            self._api.TF_DeleteStatus(status)


def _read_signatures(meta_graph: bytes) -> dict[str, Signature]:
    def spec(info: Any) -> TensorSpec:
        shape = info.tensor_shape
        sizes = tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
        dtype = messages.DTYPES[info.dtype]
        return TensorSpec(info.name, dtype, None if shape.unknown_rank else sizes)

    def specs(entries: Sequence[Any]) -> dict[str, TensorSpec]:
        return {entry.key: spec(entry.value) for entry in sorted(entries, key=lambda it: it.key)}

    return {
        entry.key: Signature(specs(entry.value.inputs), specs(entry.value.outputs))
        for entry in messages.parse("MetaGraphDef", meta_graph).signature_def
        if entry.value.method_name  # not TensorFlow's own start-up
    }


def describe_signatures(
    signatures: Mapping[str, Signature],
) -> dict[str, dict[str, dict[str, str]]]:
    """Return types and shapes for people and for `export.json`, such as `float32 [?, 10]`."""
    return {
        name: {
            side: {tensor: str(spec) for tensor, spec in specs.items()}
            for side, specs in vars(signature).items()
        }
        for name, signature in sorted(signatures.items())
    }


# === TensorFlow's C API ===
class _Buffer(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


class _Output(ctypes.Structure):
    _fields_ = (("operation", c_void_p), ("index", c_int))


_TYPES = {
    "none": None,
    "handle": c_void_p,
    "handles": POINTER(c_void_p),
    "int": c_int,
    "int64": c_int64,
    "int64s": POINTER(c_int64),
    "size": c_size_t,
    "text": c_char_p,
    "texts": POINTER(c_char_p),
    "buffer": POINTER(_Buffer),
    "outputs": POINTER(_Output),
}

_FUNCTIONS = {  # the type of the result, and those of the arguments
    "TF_AllocateTensor": "handle int int64s int size",
    "TF_CloseSession": "none handle handle",
    "TF_DeleteBuffer": "none buffer",
    "TF_DeleteGraph": "none handle",
    "TF_DeleteSession": "none handle handle",
    "TF_DeleteSessionOptions": "none handle",
    "TF_DeleteStatus": "none handle",
    "TF_DeleteTensor": "none handle",
    "TF_Dim": "int64 handle int",
    "TF_GetCode": "int handle",
    "TF_GraphOperationByName": "handle handle text",
    "TF_LoadSessionFromSavedModel": "handle handle handle text texts int handle buffer handle",
    "TF_Message": "text handle",
    "TF_NewBuffer": "buffer",
    "TF_NewGraph": "handle",
    "TF_NewSessionOptions": "handle",
    "TF_NewStatus": "handle",
    "TF_NumDims": "int handle",
    "TF_SessionRun": "none handle handle outputs handles int outputs handles int handle int handle "
    "handle",
    "TF_StringCopy": "none handle text size",
    "TF_StringDealloc": "none handle",
    "TF_StringGetDataPointer": "handle handle",
    "TF_StringGetSize": "size handle",
    "TF_StringInit": "none handle",
    "TF_TensorByteSize": "size handle",
    "TF_TensorData": "handle handle",
    "TF_TensorType": "int handle",
}


@functools.lru_cache(maxsize=1)
def _load_library() -> ctypes.CDLL:
    """Load the C API of the installed TensorFlow.

    Not globally, so that `import tensorflow` may come before or after.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    package = importlib.util.find_spec("tensorflow")  # which does not import it
    folders = list((package and package.submodule_search_locations) or ())
    suffix = ".2.dylib" if sys.platform == "darwin" else ".so.2"
    names = [f"libtensorflow_framework{suffix}", f"libtensorflow_cc{suffix}"]
    paths = [os.path.join(folder, name) for name in names for folder in folders]
    paths = list(filter(os.path.isfile, paths))
    if len(paths) != 2:
        raise ValueError(
            f"TensorFlow's C++ libraries ({', '.join(names)}) are looked for in "
            f"{', '.join(folders) or 'the installed packages'} and not found: install the package "
            "tensorflow, on Linux or macOS"
        )
    library = [ctypes.CDLL(path) for path in paths][-1]  # the second needs the first
    for name, types in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, *function.argtypes = map(_TYPES.__getitem__, types.split())
    return library


def _make_tensor(api: ctypes.CDLL, value: np.ndarray) -> int:
    is_string = value.dtype.hasobject
    data = np.ascontiguousarray(value)
    size = _STRING_BYTES * data.size if is_string else data.nbytes
    number = messages.NUMBERS[data.dtype]
    tensor = api.TF_AllocateTensor(number, (c_int64 * value.ndim)(*value.shape), value.ndim, size)
    place = api.TF_TensorData(tensor)
    if is_string:
        for index, text in enumerate(data.ravel()):
            api.TF_StringInit(place + _STRING_BYTES * index)
            api.TF_StringCopy(place + _STRING_BYTES * index, text, len(text))
    elif size:
        ctypes.memmove(place, data.ctypes.data, size)
    return tensor


def _read_tensor(api: ctypes.CDLL, tensor: int) -> np.ndarray:
    shape = [api.TF_Dim(tensor, axis) for axis in range(api.TF_NumDims(tensor))]
    dtype, place = messages.DTYPES[api.TF_TensorType(tensor)], api.TF_TensorData(tensor)
    if not dtype.hasobject:
        content = ctypes.string_at(place, api.TF_TensorByteSize(tensor))
        return np.frombuffer(content, dtype).reshape(shape)
    values = np.empty(int(np.prod(shape)), object)
    for index in range(len(values)):
        text = place + _STRING_BYTES * index
        start, size = api.TF_StringGetDataPointer(text), api.TF_StringGetSize(text)
        values[index] = ctypes.string_at(start, size)
    return values.reshape(shape)


def _delete_tensor(api: ctypes.CDLL, tensor: int) -> None:
    if messages.DTYPES[api.TF_TensorType(tensor)].hasobject:  # it does not free its long strings
        place = api.TF_TensorData(tensor)
        for offset in range(0, api.TF_TensorByteSize(tensor), _STRING_BYTES):
            api.TF_StringDealloc(place + offset)
    api.TF_DeleteTensor(tensor)


def main(arguments: Sequence[str]) -> int:
    """Answer a file of requests; return the exit status."""
    if len(arguments) != 3:
        usage = "usage: python -m secost_tf.serving.cpp_loader SAVED_MODEL REQUESTS RESPONSES"
        print(usage, file=sys.stderr)
        return 2
    path, requests, responses = arguments
    try:
        with Servable(path) as servable:
            answers = [
                messages.response(servable.run(*messages.request_of(log)))
                for log in shards.read_records(requests)
            ]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    shards.write_records(responses, answers)
    loaded = [name for name in ("tensorflow", "keras") if name in sys.modules]
    assert not loaded, f"{loaded} were imported: this was no test of the C++ loader alone"
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
