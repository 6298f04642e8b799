"""Where the user wrote it: captured cheaply on every node, resolved to text only for a message.

A :class:`Location` is the code object and instruction offset of the innermost frame that is not the
library's own; that costs a fraction of a microsecond. File, line and columns are looked up when somebody asks.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import sys
from functools import lru_cache
from types import CodeType, FrameType
from typing import NamedTuple

__all__ = ["Location", "Position", "capture", "definition", "is_own", "quote", "variable"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_EXAMPLES = os.path.join(_PACKAGE, "train") + os.sep  # floor 9 is written as a user would write it
# Methods that dataclasses write, __init__ for one: their file is "<string>", as that of ``python -c``.
_OF_DATACLASSES = "__create_fn__."
_own: dict[CodeType, bool] = {}


class Location(NamedTuple):
    """A place in the user's code: ``code`` object and ``lasti``, the offset of the running instruction."""

    code: CodeType
    lasti: int

    @property
    def position(self) -> Position:
        """The file, line and columns behind this location."""
        return _resolve(self.code, self.lasti)


class Position(NamedTuple):
    """A resolved place. Lines count from 1, columns from 0; columns are -1 where Python kept none."""

    filename: str
    function: str
    line: int
    end_line: int
    column: int
    end_column: int

    @property
    def text(self) -> str:
        """The source line, stripped, or an empty string when the source is not at hand."""
        return linecache.getline(self.filename, self.line).strip()

    @property
    def expression(self) -> str:
        """The source of the expression, or an empty string where Python kept no columns or it takes several lines."""
        if not 0 <= self.column < self.end_column or self.line != self.end_line:
            return ""
        return linecache.getline(self.filename, self.line).encode()[self.column : self.end_column].decode()


def capture() -> Location | None:
    """The location of the innermost frame outside the library, or None when there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        own = _own.get(code)
        if own is None:
            own = _own[code] = is_own(code.co_filename) or code.co_qualname.startswith(_OF_DATACLASSES)
        if not own:
            return Location(code, frame.f_lasti)
        frame = frame.f_back
    return None


def variable(name: str) -> object:
    """What a name stands for in the user's frame, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_own(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return None
    return frame.f_locals.get(name, frame.f_globals.get(name))


def definition(code: CodeType) -> ast.FunctionDef | None:
    """The ``def`` of a function in its source, with the lines and columns of the file, or None if another stands there.

    Raises ``OSError`` where the source is not at hand.
    """
    lines, first = inspect.getsourcelines(code)
    indented = lines[0][:1].isspace()
    try:
        tree = ast.parse("if 1:\n" * indented + "".join(lines))
    except SyntaxError:
        raise OSError("what stands there is no function") from None
    ast.increment_lineno(tree, first - 1 - indented)
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == code.co_name)
    return next(found, None)


def is_own(filename: str) -> bool:
    """Whether a file belongs to the library, or to no file a user wrote."""
    if filename.startswith("<") and not filename.startswith(("<stdin", "<ipython", "<doctest", "<string")):
        return True  # frozen importlib, generated kernels
    path = os.path.abspath(filename)
    return path.startswith(_PACKAGE) and not path.startswith(_EXAMPLES)


@lru_cache(maxsize=4096)
def _resolve(code: CodeType, lasti: int) -> Position:
    line = end = code.co_firstlineno
    column = end_column = -1
    for index, (a, b, c, d) in enumerate(code.co_positions()):
        if index * 2 == lasti:
            line = a if a is not None else line
            end = b if b is not None else line
            column = c if c is not None else -1
            end_column = d if d is not None else -1
            break
    return Position(code.co_filename, code.co_name, line, end, column, end_column)


def quote(location: Location | None) -> str:
    """The place as Python's tracebacks show it, with carets under the expression; empty when unknown."""
    if location is None:
        return ""
    at = location.position
    head = f'  File "{at.filename}", line {at.line}, in {at.function}'
    raw = linecache.getline(at.filename, at.line).rstrip("\n")
    text = raw.strip()
    if not text:
        return head
    lines = [head, f"    {text}"]
    if at.column >= 0 and at.end_column > at.column and at.end_line == at.line:
        # Columns are byte offsets; count characters so that the carets stand under the right ones.
        encoded = raw.encode()
        start = len(encoded[: at.column].decode(errors="replace"))
        width = len(encoded[at.column : at.end_column].decode(errors="replace"))
        indent = start - (len(raw) - len(raw.lstrip()))
        lines.append("    " + " " * indent + "^" * width)
    return "\n".join(lines)
