"""TFRecord shards: files of records, which appear whole or not at all."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

import google_crc32c

from tfrecord_tools import storage

COMPRESSIONS = ("NONE", "GZIP")

_GZIP_LEVEL = 1  # higher ones take longer and save nothing on log-mels


def _masked_crc(data: bytes) -> bytes:
    """Return the TFRecord format's checksum: CRC-32C, rotated and offset, little-endian."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(data: bytes, compression: str = "NONE") -> bytes:
    """Return a record as it stands in a shard: length, its checksum, data, its checksum.

    A GZIP shard is a chain of gzip members, one a record, so that records can be compressed apart
    from each other; readers see one stream.
    """
    length = struct.pack("<Q", len(data))
    framed = b"".join((length, _masked_crc(length), data, _masked_crc(data)))
    return gzip.compress(framed, _GZIP_LEVEL, mtime=0) if compression == "GZIP" else framed


def write_frames(path: str, frames: Iterable[bytes]) -> int:
    """Write a whole shard of what `frame` gave, atomically; return its number of records."""
    count = 0
    with storage.atomic_write(path, "wb") as stream:
        for framed in frames:
            stream.write(framed)
            count += 1
    return count


def write_records(path: str, records: Iterable[bytes], compression: str = "NONE") -> int:
    """Write a whole shard, atomically; return its number of records."""
    return write_frames(path, (frame(data, compression) for data in records))


def read_records(path: str, compression: str = "NONE") -> Iterator[bytes]:
    """Yield the records of a shard.

    Raises:
        ValueError: at the first record that is cut short, can't be decompressed or whose checksum
            is wrong; names file, record and byte (before compression).
    """
    index = offset = 0
    with storage.open_file(path, "rb") as file:
        read = gzip.GzipFile(fileobj=file).read if compression == "GZIP" else file.read
        try:
            while (data := _read_record(read)) is not None:
                yield data
                index += 1
                offset += 16 + len(data)
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            is_record = isinstance(error, ValueError)
            fault = str(error) if is_record else f"can't be decompressed ({error}):"
            raise ValueError(
                f"{path}: record {index} (byte {offset}) {fault} convert the split again, or "
                "restore the file"
            ) from error


def _read_record(read: Callable[[int], bytes]) -> bytes | None:
    """Return the next record, or None at the end; raise a `ValueError` that says what is wrong."""
    header = read(12)
    if not header:
        return None
    if len(header) < 12:
        raise ValueError("is cut short;")
    length = header[:8]
    if header[8:] != _masked_crc(length):
        raise ValueError("has a corrupt length; the file is damaged:")
    num_bytes = struct.unpack("<Q", length)[0]
    body = read(num_bytes + 4)
    if len(body) < num_bytes + 4:
        raise ValueError("is cut short;")
    data = body[:-4]
    if body[-4:] != _masked_crc(data):
        raise ValueError("is corrupt (wrong checksum):")
    return data
