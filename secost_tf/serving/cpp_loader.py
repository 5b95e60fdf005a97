"""A SavedModel run by TensorFlow's C++ loader, as TensorFlow Serving runs it, with neither
TensorFlow's Python nor Keras.

The loader is reached through TensorFlow's C API, in the libraries of the installed package. What it
cannot load can't be served: some models that Python reloads, it refuses.

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from secost_tf.serving import messages
from tfrecord_tools import shards

# TensorFlow's status codes, which are gRPC's.
CODES = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]

_STRING_BYTES = 24  # of a TF_TString


class ServableError(ValueError):
    """What the C++ loader or the graph has to say against a model or a request.

    Attributes:
        code: one of `CODES`.
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


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a signature takes and gives, by name."""

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
        """Frees the model; it can't be run any more."""
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
        """Answers one request.

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
                f"{signature}: expected the inputs {', '.join(spec.inputs)}, got {', '.join(inputs) or 'none'}",
            )
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        for name, value in arrays.items():
            if value.dtype != spec.inputs[name].dtype:
                raise ServableError(
                    "INVALID_ARGUMENT",
                    f"{name}: expected {spec.inputs[name].dtype}, got {value.dtype}",
                )
        return self._run(
            [(spec.inputs[name].tensor, value) for name, value in arrays.items()], spec.outputs
        )

    def _run(
        self, feeds: Sequence[tuple[str, np.ndarray]], fetches: Mapping[str, TensorSpec]
    ) -> dict[str, np.ndarray]:
        api, tensors = self._api, []
        results = (c_void_p * len(fetches))()
        try:
            for _, value in feeds:
                tensors.append(_make_tensor(api, value))
            with self._status() as status:
                api.TF_SessionRun(
                    self._session,
                    None,
                    (_Output * len(feeds))(*(self._output(name) for name, _ in feeds)),
                    (c_void_p * len(feeds))(*tensors),
                    len(feeds),
                    (_Output * len(fetches))(
                        *(self._output(spec.tensor) for spec in fetches.values())
                    ),
                    results,
                    len(fetches),
                    None,
                    0,
                    None,
                    status,
                )
            return {
                name: _read_tensor(api, result)
                for name, result in zip(fetches, results, strict=True)
            }
        finally:
            for tensor in (*tensors, *filter(None, results)):
                _delete_tensor(api, tensor)

    def _output(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        return _Output(
            self._api.TF_GraphOperationByName(self._graph, operation.encode()), int(index or 0)
        )

    @contextmanager
    def _status(self) -> Iterator[int]:
        """A status for one call, which is raised if it is not OK."""
        status = self._api.TF_NewStatus()
        try:
            yield status
            if code := self._api.TF_GetCode(status):
                message = self._api.TF_Message(status).decode(errors="replace")
                raise ServableError(CODES[code] if code < len(CODES) else "UNKNOWN", message)
        finally:
            self._api.TF_DeleteStatus(status)


def _read_signatures(meta_graph: bytes) -> dict[str, Signature]:
    def specs(entries: Sequence[Any]) -> dict[str, TensorSpec]:
        return {
            entry.key: TensorSpec(
                entry.value.name,
                messages.DTYPES[entry.value.dtype],
                None
                if entry.value.tensor_shape.unknown_rank
                else tuple(
                    None if dim.size < 0 else dim.size for dim in entry.value.tensor_shape.dim
                ),
            )
            for entry in sorted(entries, key=lambda entry: entry.key)
        }

    return {
        entry.key: Signature(specs(entry.value.inputs), specs(entry.value.outputs))
        for entry in messages.parse("MetaGraphDef", meta_graph).signature_def
        if entry.value.method_name  # not TensorFlow's own start-up
    }


def describe_signatures(
    signatures: Mapping[str, Signature],
) -> dict[str, dict[str, dict[str, str]]]:
    """Types and shapes for people and for `export.json`, such as `float32 [?, 10]`."""

    def described(specs: Mapping[str, TensorSpec]) -> dict[str, str]:
        return {
            name: f"{'string' if spec.dtype.hasobject else spec.dtype} "
            f"[{', '.join('?' if size is None else str(size) for size in spec.shape or ())}]"
            for name, spec in specs.items()
        }

    return {
        name: {"inputs": described(one.inputs), "outputs": described(one.outputs)}
        for name, one in sorted(signatures.items())
    }


# === TensorFlow's C API ===
class _Buffer(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


class _Output(ctypes.Structure):
    _fields_ = (("operation", c_void_p), ("index", c_int))


_FUNCTIONS = {
    "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
    "TF_CloseSession": (None, [c_void_p, c_void_p]),
    "TF_DeleteBuffer": (None, [POINTER(_Buffer)]),
    "TF_DeleteGraph": (None, [c_void_p]),
    "TF_DeleteSession": (None, [c_void_p, c_void_p]),
    "TF_DeleteSessionOptions": (None, [c_void_p]),
    "TF_DeleteStatus": (None, [c_void_p]),
    "TF_DeleteTensor": (None, [c_void_p]),
    "TF_Dim": (c_int64, [c_void_p, c_int]),
    "TF_GetCode": (c_int, [c_void_p]),
    "TF_GraphOperationByName": (c_void_p, [c_void_p, c_char_p]),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        [
            c_void_p,
            c_void_p,
            c_char_p,
            POINTER(c_char_p),
            c_int,
            c_void_p,
            POINTER(_Buffer),
            c_void_p,
        ],
    ),
    "TF_Message": (c_char_p, [c_void_p]),
    "TF_NewBuffer": (POINTER(_Buffer), []),
    "TF_NewGraph": (c_void_p, []),
    "TF_NewSessionOptions": (c_void_p, []),
    "TF_NewStatus": (c_void_p, []),
    "TF_NumDims": (c_int, [c_void_p]),
    "TF_SessionRun": (
        None,
        [
            *(c_void_p, c_void_p),
            *(POINTER(_Output), POINTER(c_void_p), c_int),
            *(POINTER(_Output), POINTER(c_void_p), c_int),
            *(c_void_p, c_int, c_void_p, c_void_p),
        ],
    ),
    "TF_StringCopy": (None, [c_void_p, c_char_p, c_size_t]),
    "TF_StringDealloc": (None, [c_void_p]),
    "TF_StringGetDataPointer": (c_void_p, [c_void_p]),
    "TF_StringGetSize": (c_size_t, [c_void_p]),
    "TF_StringInit": (None, [c_void_p]),
    "TF_TensorByteSize": (c_size_t, [c_void_p]),
    "TF_TensorData": (c_void_p, [c_void_p]),
    "TF_TensorType": (c_int, [c_void_p]),
}


@functools.lru_cache(maxsize=1)
def _load_library() -> ctypes.CDLL:
    """The C API of the installed TensorFlow. Not loaded globally, so that `import tensorflow` may
    come before or after.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found = importlib.util.find_spec("tensorflow")  # which does not import it
    folders = [Path(folder) for folder in (found.submodule_search_locations or ())] if found else []
    suffix = ".2.dylib" if sys.platform == "darwin" else ".so.2"
    paths = [
        path
        for name in ("libtensorflow_framework", "libtensorflow_cc")
        for folder in folders
        if (path := folder / (name + suffix)).is_file()
    ]
    if len(paths) != 2:
        raise ValueError(
            f"TensorFlow's C++ libraries (libtensorflow_framework{suffix}, libtensorflow_cc{suffix}) are looked for in "
            f"{', '.join(map(str, folders)) or 'the installed packages'} and not found: install the package tensorflow, "
            "on Linux or macOS"
        )
    library = [ctypes.CDLL(str(path)) for path in paths][-1]  # the second needs the first
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
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
        return np.frombuffer(ctypes.string_at(place, api.TF_TensorByteSize(tensor)), dtype).reshape(
            shape
        )
    values = np.empty(int(np.prod(shape)), object)
    for index in range(len(values)):
        text = place + _STRING_BYTES * index
        values[index] = ctypes.string_at(
            api.TF_StringGetDataPointer(text), api.TF_StringGetSize(text)
        )
    return values.reshape(shape)


def _delete_tensor(api: ctypes.CDLL, tensor: int) -> None:
    if messages.DTYPES[api.TF_TensorType(tensor)].hasobject:  # it does not free its long strings
        place = api.TF_TensorData(tensor)
        for offset in range(0, api.TF_TensorByteSize(tensor), _STRING_BYTES):
            api.TF_StringDealloc(place + offset)
    api.TF_DeleteTensor(tensor)


def main(arguments: Sequence[str]) -> int:
    """Answers a file of requests; returns the exit status."""
    if len(arguments) != 3:
        print(
            "usage: python -m secost_tf.serving.cpp_loader SAVED_MODEL REQUESTS RESPONSES",
            file=sys.stderr,
        )
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
