"""The disk cache of machine code: one file per kernel, named by a hash of everything that it depends on.

Entries are written to a temporary name and renamed, so concurrent writers cannot hurt each other; an entry that is not
what it should be (cut short, changed, of another version) is treated as absent and written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LIMIT", "Entry", "bound", "clear", "digest", "read", "write"]

LIMIT = 256 * 2**20  # bytes in a folder

_MAGIC = b"defnpy kernel 1\n"
_bounded: set[str] = set()  # folders looked after by this process


@dataclass(frozen=True)
class Entry:
    """Compiled code. symbol: the function's name in it. needs_numba: whether it calls functions that Numba provides."""

    symbol: str
    code: bytes
    needs_numba: bool


def digest(*parts: str) -> str:
    """The name of an entry: a hash of all that it depends on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _path(folder: str, name: str) -> Path:
    return Path(folder) / "kernels" / name[:2] / f"{name[2:]}.bin"


def read(folder: str, name: str) -> Entry | None:
    """The entry of that name, or None when there is none that is whole."""
    if not folder:
        return None
    path = _path(folder, name)
    try:
        content = path.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now: the oldest go first when there are too many
    checksum, payload = content[len(_MAGIC) : len(_MAGIC) + 32], content[len(_MAGIC) + 32 :]
    if not content.startswith(_MAGIC) or hashlib.sha256(payload).digest() != checksum:
        return None
    symbol, flag, code = payload.split(b"\n", 2)
    return Entry(symbol.decode(), code, flag == b"1")


def write(folder: str, name: str, entry: Entry) -> None:
    """Keep an entry. A folder that cannot be written to is no error: the kernel is compiled again next time."""
    if not folder:
        return
    payload = b"\n".join([entry.symbol.encode(), b"1" if entry.needs_numba else b"0", entry.code])
    path = _path(folder, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    if folder not in _bounded:
        _bounded.add(folder)
        bound(folder)


def bound(folder: str, limit: int = LIMIT) -> int:
    """Remove the entries that were not used for longest until the rest take ``limit`` bytes; returns how many went.

    Done once per process and folder, by a process that writes.
    """
    entries = []
    for path in (Path(folder) / "kernels").glob("*/*.bin"):
        with contextlib.suppress(OSError):  # another process may remove it meanwhile
            stat = path.stat()
            entries.append((stat.st_mtime_ns, stat.st_size, path))
    total = sum(size for _, size, _ in entries)
    removed = 0
    for _, size, path in sorted(entries, key=lambda entry: entry[:2]):
        if total <= limit:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
        total -= size
    return removed


def clear(folder: str) -> int:
    """Remove all entries; returns how many there were."""
    removed = 0
    for path in (Path(folder) / "kernels").glob("*/*"):
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    return removed
