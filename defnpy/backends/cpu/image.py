"""Object files in memory, ready to be called: what a linker and a loader do, for the code that LLVM makes of kernels.

A process whose kernels all lie in the disk cache needs no LLVM then: importing it takes 40 MB and 30 ms. The code is
simple: constants and functions, which call one another and the C library. What is not understood (another kind of
processor, of section, of relocation) raises ``Unsupported``, and LLVM loads it.

The format is that of the "System V Application Binary Interface" and its supplement for AMD64: a section has bytes, a
symbol a place in a section, a relocation says where in a section the distance to a symbol is to be written.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Unsupported", "load"]

_HEADER = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian
_RELOCATABLE, _AMD64 = 1, 62
_PROGRAM, _SYMBOLS, _RELOCATIONS = 1, 2, 4  # kinds of sections
_WRITABLE, _ALLOCATED = 1, 2  # flags of sections
_READ, _WRITE, _EXECUTE = 1, 2, 4  # of memory
_PRIVATE_ANONYMOUS, _FAILED = 0x22, 2**64 - 1
_DIRECT, _CALLS, _BY_ADDRESS = {2}, {4}, {9, 41, 42}  # PC32; PLT32; GOTPCREL, GOTPCRELX, REX_GOTPCRELX
_RELAXABLE, _MOVE, _ADDRESS_OF = 42, 0x8B, 0x8D  # instructions: mov, lea
_JUMP = b"\xff\x25\x02\x00\x00\x00\x90\x90"  # to the address in the 8 bytes behind
_SLOT = 16  # bytes of both


class Unsupported(Exception):
    """There is more in an object file than this loader understands."""


@dataclass
class _Image:
    """The bytes to be, and the slots of functions outside, by name."""

    code: bytearray = field(default_factory=bytearray)
    slots: dict[str, int] = field(default_factory=dict)

    def add(self, content: bytes, alignment: int) -> int:
        """Put ``content`` behind what there is; returns where."""
        self.code += bytes(-len(self.code) % max(alignment, 1))
        self.code += content
        return len(self.code) - len(content)


def load(objects: Sequence[bytes], symbols: Sequence[str]) -> list[int]:
    """The addresses of ``symbols`` in some object files, which stay in memory for good: threads may still be there when
    Python ends."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unsupported(f"{sys.platform} on {platform.machine()}")
    image, places = _Image(), {}
    for content in objects:
        places.update(_add(image, content))
    missing = [symbol for symbol in symbols if symbol not in places]
    if missing:
        raise Unsupported(f"no symbol {missing[0]}")
    start = _mapped(bytes(image.code))
    return [start + places[symbol] for symbol in symbols]


def _add(image: _Image, content: bytes) -> dict[str, int]:
    """Put an object file into the image; returns where its functions are."""
    kind, machine = struct.unpack_from("<HH", content, 16)
    if not content.startswith(_HEADER) or (kind, machine) != (_RELOCATABLE, _AMD64):
        raise Unsupported("no object file of this machine")
    (table,) = struct.unpack_from("<Q", content, 40)
    size, count, _ = struct.unpack_from("<HHH", content, 58)
    # name, kind, flags, address, offset, size, link, info, alignment, entry size
    sections = [struct.unpack_from("<IIQQQQIIQQ", content, table + i * size) for i in range(count)]
    where: dict[int, int] = {}
    for number, (_, kind, flags, _, offset, length, _, _, alignment, _) in enumerate(sections):
        if flags & _ALLOCATED and kind == _PROGRAM:
            if flags & _WRITABLE:
                raise Unsupported("data that can be written to")
            where[number] = image.add(content[offset : offset + length], alignment)
    places: list[int | str] = []  # of symbols: where they are, or the name of one that is elsewhere
    found: dict[str, int] = {}
    for _, kind, _, _, offset, length, link, _, _, _ in sections:
        if kind != _SYMBOLS:
            continue
        names = sections[link][4]
        for entry in range(offset, offset + length, 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", content, entry)
            text = content[names + name : content.index(b"\0", names + name)].decode()
            if section in where:
                found[text] = where[section] + value
            places.append(where[section] + value if section in where else text)
    for _, kind, _, _, offset, length, _, target, _, _ in sections:
        if kind == _RELOCATIONS and target in where:
            for entry in range(offset, offset + length, 24):
                at, info, addend = struct.unpack_from("<QQq", content, entry)
                _relocate(image, where[target] + at, info & 0xFFFFFFFF, places[info >> 32], addend)
    return found


def _relocate(image: _Image, at: int, kind: int, place: int | str, addend: int) -> None:
    """Write the distance from ``at`` to a symbol, or for what lies outside to its slot."""
    if isinstance(place, str):
        if kind not in _CALLS | _BY_ADDRESS:
            raise Unsupported(f"relocation {kind} of {place}")
        place = _slot(image, place) + (len(_JUMP) if kind in _BY_ADDRESS else 0)
    elif kind == _RELAXABLE and image.code[at - 2] == _MOVE:
        image.code[at - 2] = _ADDRESS_OF  # it is near: no word that holds its address need be read
    elif kind not in _DIRECT | _CALLS:
        raise Unsupported(f"relocation {kind}")
    struct.pack_into("<i", image.code, at, place + addend - at)


def _slot(image: _Image, name: str) -> int:
    """Where a function of the C library is jumped to: it may lie too far away for a call."""
    if name not in image.slots:
        try:
            address = ctypes.cast(getattr(_library(), name), ctypes.c_void_p).value
        except AttributeError:
            raise Unsupported(f"no function {name}") from None
        image.slots[name] = image.add(_JUMP + struct.pack("<Q", address), _SLOT)
    return image.slots[name]


@functools.cache
def _library() -> ctypes.CDLL:
    """What the process has loaded."""
    library = ctypes.CDLL(None)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def _mapped(code: bytes) -> int:
    """The address of the code in memory of its own, written first and then made executable."""
    start = _library().mmap(None, len(code), _READ | _WRITE, _PRIVATE_ANONYMOUS, -1, 0)
    if start in (None, _FAILED):
        raise Unsupported("no memory")
    ctypes.memmove(start, code, len(code))
    if _library().mprotect(start, len(code), _READ | _EXECUTE) != 0:
        raise Unsupported("no executable memory")
    return int(start)
