"""Reading IDX files, the format of MNIST and of the data sets made in its image.

A file is four bytes of magic (two zeros, a code for the dtype, the number of axes), one big-endian 32-bit
length per axis, and the items themselves, big-endian, the last axis varying fastest.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ["read_idx"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS  # what zlib calls a gzip header and trailer
_MOST = 1032  # bytes that one byte of it can stand for


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, plain or compressed with gzip (told by its first bytes, not by its name).

    Returns an array with the shape and the dtype (uint8, int8, int16, int32, float32 or float64) that the file
    states, in the machine's byte order. Single-byte arrays are read-only views of the bytes read.

    Raises ``DataError``, naming the file and what was expected, for a file that is missing, unreadable, damaged, of
    another format, too short or too long.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "pair-idx1-ubyte"
    >>> _ = path.write_bytes(bytes([0, 0, 0x08, 1, 0, 0, 0, 2, 7, 9]))
    >>> read_idx(path)
    array([7, 9], dtype=uint8)
    """
    path = Path(path)
    content = _content(path)
    dtype, shape = _header(path, content)
    start = 4 + 4 * len(shape)
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        fault = "truncated" if len(content) < expected else "too long"
        raise DataError(
            f"{path}: {fault}",
            hint=f"its header states {dtype.name} of shape {shape}: expected {expected} bytes, found {len(content)}",
        )
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(path: Path, content: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """dtype and shape."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        raise DataError(
            f"{path}: not an IDX file",
            hint=f"expected two zero bytes, a dtype code and a number of axes; the file starts with "
            f"{content[:4].hex(' ') or 'nothing, it is empty'}",
        )
    axes = content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise DataError(f"{path}: truncated", hint=f"expected {start} bytes of header, found {len(content)} in all")
    return np.dtype(_DTYPES[content[2]]), struct.unpack(f">{axes}I", content[4:start])


def _content(path: Path) -> bytes:
    """The bytes of a file, decompressed if they are gzip's."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", hint="expected an IDX file, plain or compressed with gzip") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not raw.startswith(_GZIP_MAGIC):
        return raw
    try:
        return _inflated(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: damaged gzip data ({error})", hint="the file is incomplete or corrupt: fetch it again"
        ) from error


def _inflated(raw: bytes) -> bytes:
    """What gzip packed. Its last four bytes say how much that is: where zlib knows, a sixth of the time is saved."""
    size = int.from_bytes(raw[-4:], "little")
    with contextlib.suppress(zlib.error):
        content = zlib.decompress(raw, _GZIP, min(size, _MOST * len(raw)))
        if len(content) == size:
            return content
    return gzip.decompress(raw)  # several files in one, or a damaged one, of which this knows what is wrong
