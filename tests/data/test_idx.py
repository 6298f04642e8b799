"""The IDX reader: every dtype, plain and compressed, and the exact text for every kind of bad file."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from defnpy.data import read_idx
from defnpy.errors import DataError

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def encode(array: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_idx(path)
    return str(caught.value)


@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    ),
    compressed=st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, compressed: bool) -> None:
    content = gzip.compress(encode(array)) if compressed else encode(array)
    found = read_idx(written(tmp_path_factory.mktemp("idx") / "array", content))
    assert found.dtype == array.dtype and found.dtype.isnative
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_compression_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(read_idx(written(tmp_path / "plain.gz", encode(array))), array)
    np.testing.assert_array_equal(read_idx(str(written(tmp_path / "packed", gzip.compress(encode(array))))), array)


def test_gzip_members_in_a_row(tmp_path: Path) -> None:
    content = encode(np.arange(200, dtype=np.uint8))
    parts = gzip.compress(content[:50]) + gzip.compress(content[50:])
    np.testing.assert_array_equal(read_idx(written(tmp_path / "two", parts)), np.arange(200))


def test_missing(tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    assert refusal(path) == f"{path}: no such file\nHint: expected an IDX file, plain or compressed with gzip"


def test_unreadable(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read (Is a directory)"


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (b"", "nothing, it is empty"),
        (b"\0\0\x08", "00 00 08"),
        (b"PK\x03\x04 a zip file", "50 4b 03 04"),
        (b"\0\0\x0a\x01\0\0\0\0", "00 00 0a 01"),
    ],
)
def test_wrong_magic(tmp_path: Path, content: bytes, start: str) -> None:
    path = written(tmp_path / "file", content)
    assert refusal(path) == (
        f"{path}: not an IDX file\n"
        f"Hint: expected two zero bytes, a dtype code and a number of axes; the file starts with {start}"
    )


def test_header_cut_short(tmp_path: Path) -> None:
    path = written(tmp_path / "file", encode(np.zeros((2, 3, 4), np.uint8))[:10])
    assert refusal(path) == f"{path}: truncated\nHint: expected 16 bytes of header, found 10 in all"


@pytest.mark.parametrize(("change", "fault", "found"), [(-1, "truncated", 63), (1, "too long", 65)])
def test_wrong_length(tmp_path: Path, change: int, fault: str, found: int) -> None:
    content = encode(np.zeros((2, 3, 4), np.int16)) + b"\0"
    path = written(tmp_path / "file", content[: 64 + change])
    assert refusal(path) == (
        f"{path}: {fault}\nHint: its header states int16 of shape (2, 3, 4): expected 64 bytes, found {found}"
    )


def test_header_that_promises_more_than_any_memory_holds(tmp_path: Path) -> None:
    path = written(tmp_path / "file", struct.pack(">HBB4I", 0, 0x0E, 4, *[2**32 - 1] * 4))
    assert "truncated" in refusal(path)


@pytest.mark.parametrize("cut", [5, 12, 40, -9, -1])
def test_gzip_cut_short(tmp_path: Path, cut: int) -> None:
    packed = gzip.compress(encode(np.random.default_rng(0).integers(0, 256, 500).astype(np.uint8)))
    path = written(tmp_path / "file.gz", packed[:cut])
    assert refusal(path) == (
        f"{path}: damaged gzip data (Compressed file ended before the end-of-stream marker was reached)\n"
        "Hint: the file is incomplete or corrupt: fetch it again"
    )


@pytest.mark.parametrize("place", [15, 100, -8, -3])
def test_gzip_with_a_wrong_byte(tmp_path: Path, place: int) -> None:
    packed = bytearray(gzip.compress(encode(np.random.default_rng(0).integers(0, 256, 500).astype(np.uint8))))
    packed[place] ^= 0x55
    path = written(tmp_path / "file.gz", bytes(packed))
    message = refusal(path)
    assert message.startswith(f"{path}: damaged gzip data (")
    assert message.endswith("Hint: the file is incomplete or corrupt: fetch it again")
