"""Files under one set of names, local or in object storage; writes that appear whole or not at all;
csv and JSON.

Local paths use Python alone. A path with a scheme (`s3://bucket/key`, `gs://`, `hdfs://`) goes
through `tf.io.gfile`, which imports TensorFlow; s3, az and hdfs need tensorflow-io besides.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

PARTIAL_PREFIX = "partial-"

FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)

_TENSORFLOW_IO_SCHEMES = ("s3", "az", "hdfs", "viewfs", "har")


def is_remote(path: str) -> bool:
    """Return True if `path` names object storage rather than a local file."""
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
    """Return True if a file or folder stands at `path`."""
    return _gfile(path).exists(path) if is_remote(path) else os.path.exists(path)


def is_file(path: str) -> bool:
    """Return True if a file stands at `path`."""
    if is_remote(path):
        return _gfile(path).exists(path) and not _gfile(path).isdir(path)
    return os.path.isfile(path)


def is_dir(path: str) -> bool:
    """Return True if a folder stands at `path`."""
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


# === csv ===
def write_csv(
    path: str,
    rows: Iterable[Mapping[str, Any] | Sequence[Any]],
    header: Sequence[str] | None = None,
    delimiter: str = ",",
) -> None:
    """Write a table in UTF-8, a line feed after each row, atomically.

    Args:
        path: the file.
        rows: cells in the order of the header, or by column name; None is an empty cell.
        header: the column names. By default those of the first row if it has names, else none.
        delimiter: between cells.

    Raises:
        ValueError: if a row names a column that the header lacks.
    """
    with atomic_write(path) as stream:
        _write_rows(stream, rows, header, delimiter)


def format_csv(
    rows: Iterable[Mapping[str, Any] | Sequence[Any]], header: Sequence[str] | None = None
) -> str:
    """Return the text that `write_csv` writes."""
    stream = io.StringIO(newline="")
    _write_rows(stream, rows, header)
    return stream.getvalue()


def _write_rows(
    stream: IO[str],
    rows: Iterable[Mapping[str, Any] | Sequence[Any]],
    header: Sequence[str] | None,
    delimiter: str = ",",
) -> None:
    rows = iter(rows)
    first = next(rows, None)
    if header is None and isinstance(first, Mapping):
        header = list(first)
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    if first is not None:
        writer.writerows(_cells(row, header) for row in itertools.chain((first,), rows))


def _cells(row: Mapping[str, Any] | Sequence[Any], header: Sequence[str] | None) -> Sequence[Any]:
    if not isinstance(row, Mapping):
        return row
    header = header or ()
    if unknown := [name for name in row if name not in header]:
        raise ValueError(
            f"csv row: expected the columns {', '.join(header)}, got also {', '.join(unknown)}"
        )
    return [row.get(name) for name in header]


def read_cells(
    path: str, delimiter: str = ",", *, exact: bool = False
) -> Iterator[tuple[str, list[str]]]:
    """Yield `FILE, line N` and the cells of each row that is neither blank nor a `#` comment.

    A byte-order mark and any line ends are accepted. In a tab-separated file quotes are text.

    Args:
        path: the file.
        delimiter: between cells.
        exact: give cells as they stand, with the spaces around them; `#` begins no comment.

    Raises:
        ValueError: if the file is missing, not UTF-8, or badly quoted.
    """
    if is_dir(path) or not exists(path):
        at_path = "a folder" if is_dir(path) else "nothing"
        raise ValueError(f"{path}: expected a csv file there, found {at_path}")
    try:
        with open_file(path) as stream:
            text = stream.read().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text ({error})") from error
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
        skipinitialspace=not exact,
        strict=True,
    )
    first_line = 1
    try:
        for row in rows:
            cells = row if exact else [cell.strip() for cell in row]
            if any(cells) and (exact or not cells[0].startswith("#")):
                yield f"{path}, line {first_line}", cells
            first_line = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {first_line}: not a well-formed row ({error})") from error


def read_csv(
    path: str,
    required: Sequence[str] = (),
    optional: Sequence[str] = (),
    *,
    aliases: Mapping[str, str] | None = None,
    delimiter: str = ",",
    exact: bool = False,
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield `FILE, line N` and the named cells of each row below the first, the header.

    Args:
        path: the file.
        required, optional: the columns to give, of which the optional ones may be absent; none
            named, all of them.
        aliases: other names of columns, as {alias: name}.
        delimiter: between cells.
        exact: see `read_cells`.

    Raises:
        ValueError: if the file is bad, a required column is missing, one is named twice, or a row
            has more or fewer cells than the header; names file and line.
    """
    aliases = aliases or {}
    rows = read_cells(path, delimiter, exact=exact)
    where, header = next(rows, (f"{path}, line 1", []))
    names = [aliases.get(name, name) for name in header]
    for name in required:
        if name not in names:
            there = f"found {', '.join(header)}" if header else "the file is empty"
            other = "".join(f" (or {alias!r})" for alias, meant in aliases.items() if meant == name)
            raise ValueError(f"{where}: expected a column {name!r}{other}; {there}")
    wanted = [*required, *optional] or names
    places = {name: names.index(name) for name in wanted if name in names}
    for name in places:
        if names.count(name) > 1:
            raise ValueError(f"{where}: column {name!r} is there {names.count(name)} times")
    for where, cells in rows:
        if len(cells) != len(header):
            raise ValueError(
                f"{where}: expected {len(header)} cells, as in the header "
                f"({', '.join(header)}), got {len(cells)}"
            )
        yield where, {name: cells[place] for name, place in places.items()}


# === JSON ===
def to_plain(value: Any) -> Any:
    """Return a value as JSON can hold it.

    Mappings become dicts; tuples, lists and arrays become lists; numpy numbers become Python's;
    what is not finite becomes None.
    """
    if isinstance(value, Mapping):
        return {name: to_plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str, value: Any) -> None:
    """Write a value as readable JSON, atomically; see `to_plain` for what it may hold."""
    text = json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as stream:
        stream.write(text + "\n")


def read_json(path: str) -> Any:
    """Read a JSON file; a `ValueError` names the file if it is not JSON."""
    with open_file(path) as stream:
        try:
            return json.loads(stream.read())
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error})") from error
