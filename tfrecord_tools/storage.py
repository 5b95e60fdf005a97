"""Files under one set of names, local or in object storage, and writes that appear whole or not at
all.

Local paths use Python alone. A path with a scheme (`s3://bucket/key`, `gs://`, `hdfs://`) goes
through `tf.io.gfile`, which imports TensorFlow; s3, az and hdfs need tensorflow-io besides.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PARTIAL_PREFIX = "partial-"

FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)

_TENSORFLOW_IO_SCHEMES = ("s3", "az", "hdfs", "viewfs", "har")


def is_remote(path: str) -> bool:
    """Whether `path` names object storage rather than a local file."""
    return "://" in str(path)


def _gfile(path: str) -> Any:
    scheme = str(path).split("://", 1)[0]
    import tensorflow as tf

    if scheme in _TENSORFLOW_IO_SCHEMES:
        try:
            import tensorflow_io  # noqa: F401  (registers the file systems)
        except ImportError as error:
            raise ValueError(
                f"{path}: {scheme}:// needs tensorflow-io, which exists for Python 3.10 and 3.11 "
                "(TensorFlow 2.15) on Linux x86_64 only; use that stack, or a local folder"
            ) from error
    return tf.io.gfile


def join(folder: str, *names: str) -> str:
    """`folder/name...` for local and remote paths alike."""
    return (
        "/".join([str(folder).rstrip("/") or "/", *names])
        if is_remote(folder)
        else str(Path(folder, *names))
    )


def absolute(path: str) -> str:
    """The path as it can be found from any working folder."""
    return path if is_remote(path) else os.path.abspath(path)


def exists(path: str) -> bool:
    """Whether a file or folder stands at `path`."""
    return _gfile(path).exists(path) if is_remote(path) else os.path.exists(path)


def is_file(path: str) -> bool:
    """Whether a file stands at `path`."""
    if is_remote(path):
        return _gfile(path).exists(path) and not _gfile(path).isdir(path)
    return os.path.isfile(path)


def is_dir(path: str) -> bool:
    """Whether a folder stands at `path`."""
    return _gfile(path).isdir(path) if is_remote(path) else os.path.isdir(path)


def list_dir(path: str) -> list[str]:
    """Sorted names in a folder; empty if there is no such folder."""
    if is_remote(path):
        names = _gfile(path).listdir(path) if _gfile(path).isdir(path) else []
        return sorted(name.rstrip("/") for name in names)
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def size(path: str) -> int:
    """Bytes of a file."""
    return _gfile(path).stat(path).length if is_remote(path) else os.path.getsize(path)


def make_dirs(path: str) -> None:
    """Makes a folder and its parents; an `OSError` names the folder that could not be made."""
    if is_remote(path):
        _gfile(path).makedirs(path)
    else:
        os.makedirs(path, exist_ok=True)


def remove_tree(path: str) -> None:
    """Removes a folder with all in it, if it exists."""
    if exists(path):
        if is_remote(path):
            _gfile(path).rmtree(path)
        else:
            import shutil

            shutil.rmtree(path)


def remove(path: str) -> None:
    """Removes a file, if it exists."""
    if exists(path):
        (_gfile(path).remove if is_remote(path) else os.remove)(path)


def open_file(path: str, mode: str = "r") -> IO:
    """Opens a file; text is UTF-8, with a byte-order mark skipped on reading and line ends kept as
    they are.
    """
    if is_remote(path):
        return _gfile(path).GFile(path, mode)
    if "b" in mode:
        return open(path, mode)
    return open(path, mode, encoding="utf-8-sig" if "r" in mode else "utf-8", newline="")


@contextlib.contextmanager
def atomic_path(path: str) -> Iterator[str]:
    """Yields a local name to write to; what stands there at the end of the block becomes `path`,
    whole.

    The name is that of a temporary file beside `path` (for object storage, in a local temporary
    folder) and keeps its extension. An error removes it; a process killed in between leaves only
    the temporary, which the next attempt writes over.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, path.rsplit("/", 1)[-1])
            yield local
            _gfile(path).copy(local, path, overwrite=True)
        return
    temporary = os.path.join(os.path.dirname(path), PARTIAL_PREFIX + os.path.basename(path))
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            error.filename = path  # a failed write, such as to a full disk, does not say where
        raise


@contextlib.contextmanager
def atomic_write(path: str, mode: str = "w") -> Iterator[IO]:
    """Opens a file for writing that appears under its final name only when the block ends without
    an error.
    """
    with atomic_path(path) as temporary, open_file(temporary, mode) as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yields a local name for a file, for libraries that open nothing else: itself, or a temporary
    copy.
    """
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, path.rsplit("/", 1)[-1])
        _gfile(path).copy(path, local)
        yield local


def write_json(path: str, value: Any) -> None:
    """Writes `value` as readable JSON, atomically; NaN and infinity are refused (`ValueError`)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as stream:
        stream.write(text + "\n")


def read_json(path: str) -> Any:
    """Reads a JSON file; a `ValueError` names the file if it is not JSON."""
    with open_file(path) as stream:
        try:
            return json.loads(stream.read())
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error})") from error
