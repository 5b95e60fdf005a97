"""TFRecord shards and the `dataset.json` that describes a split; files appear whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator

import google_crc32c

from tfrecord_tools import storage

COMPRESSIONS = ("NONE", "GZIP")

_GZIP_LEVEL = 1  # higher ones take longer and save nothing on log-mels


def _masked_crc(data: bytes) -> bytes:
    """The TFRecord format's checksum: CRC-32C, rotated and offset, little-endian."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(data: bytes, compression: str = "NONE") -> bytes:
    """One record as it stands in a shard: length, its checksum, data, its checksum.

    A GZIP shard is a chain of gzip members, one a record, so that records can be compressed apart
    from each other; readers see one stream.
    """
    length = struct.pack("<Q", len(data))
    framed = b"".join((length, _masked_crc(length), data, _masked_crc(data)))
    return gzip.compress(framed, _GZIP_LEVEL, mtime=0) if compression == "GZIP" else framed


def write_frames(path: str, frames: Iterable[bytes]) -> int:
    """Writes a whole shard of what `frame` gave, atomically, and returns its number of records."""
    count = 0
    with storage.atomic_write(path, "wb") as stream:
        for framed in frames:
            stream.write(framed)
            count += 1
    return count


def write_records(path: str, records: Iterable[bytes], compression: str = "NONE") -> int:
    """Writes a whole shard, atomically, and returns its number of records."""
    return write_frames(path, (frame(data, compression) for data in records))


def read_records(path: str, compression: str = "NONE") -> Iterator[bytes]:
    """Yields the records of a shard.

    Raises:
        ValueError: at the first record that is cut short, can't be decompressed or whose checksum
            is wrong; names file, record and byte (before compression).
    """
    index = offset = 0
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(storage.open_file(path, "rb"))
        if compression == "GZIP":
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        try:
            while header := stream.read(12):
                where = f"{path}: record {index} (byte {offset})"
                if len(header) < 12:
                    raise ValueError(
                        f"{where} is cut short; convert the split again, or restore the file"
                    )
                length = header[:8]
                if header[8:] != _masked_crc(length):
                    raise ValueError(
                        f"{where} has a corrupt length; the file is damaged: convert the split again, or restore the "
                        "file"
                    )
                num_bytes = struct.unpack("<Q", length)[0]
                body = stream.read(num_bytes + 4)
                if len(body) < num_bytes + 4:
                    raise ValueError(
                        f"{where} is cut short; convert the split again, or restore the file"
                    )
                data = body[:-4]
                if body[-4:] != _masked_crc(data):
                    raise ValueError(
                        f"{where} is corrupt (wrong checksum): convert the split again, or restore the file"
                    )
                yield data
                index += 1
                offset += 16 + num_bytes
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path}: record {index} (byte {offset}) can't be decompressed ({error}): convert the split again, or "
                "restore the file"
            ) from error
