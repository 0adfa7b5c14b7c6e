"""Records of TensorFlow's TFRecord files, without TensorFlow: framing, and the Example message."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_records(path: str | Path) -> Iterator[dict[str, bytes]]:
    """Walk over the records of a file; each is a dict of its features' bytes.

    Parameters
    ----------
    path
        A file, packed with zlib or gzip, or not packed.

    Yields
    ------
    Name -> bytes, of features that hold bytes.

    Raises
    ------
    ValueError
        A file that ends early or is no such file.
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        if data[:1] == b"\x78" or data[:2] == b"\x1f\x8b":
            # 47: zlib or gzip, whichever the header says.
            data = zlib.decompress(data, wbits=47)
    except zlib.error as error:
        msg = f"{path} is truncated or damaged ({error})."
        raise ValueError(msg) from error
    at = 0
    while at < len(data):
        # Length (8 bytes), its checksum (4), the record, its checksum (4).
        if at + 12 > len(data):
            raise _damaged(path)
        (length,) = struct.unpack_from("<Q", data, at)
        end = at + 12 + length
        if end + 4 > len(data):
            raise _damaged(path)
        try:
            yield dict(_features(memoryview(data)[at + 12 : end]))
        except (IndexError, UnicodeDecodeError) as error:
            raise _damaged(path) from error
        at = end + 4


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is truncated or damaged, or is no TFRecord file.")


def _features(example: memoryview) -> Iterator[tuple[str, bytes]]:
    """Features of an Example: Example.1 Features.1 (map entry: 1 name, 2 Feature.1 bytes.1)."""
    for features in _fields(example, 1):
        for entry in _fields(features, 1):
            name = bytes(next(iter(_fields(entry, 1)), b"")).decode()
            for feature in _fields(entry, 2):
                for values in _fields(feature, 1):
                    for value in _fields(values, 1):
                        yield name, bytes(value)


def _fields(message: memoryview, number: int) -> Iterator[memoryview]:
    """Length-delimited fields of a number in a protocol buffer message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise IndexError
            if key >> 3 == number:
                yield message[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise IndexError


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at += 1
        shift += 7
        if byte < 128:
            return value, at
