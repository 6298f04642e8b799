"""Exact messages, built from where the test's own source stands instead of from numbers that move."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType

import pytest

Place = Callable[..., str]


def _place(function: Callable[..., object], line: str, marked: str = "", *, last: bool = False) -> str:
    """How a message quotes ``line`` of ``function``, with carets under ``marked`` (the last such text on demand)."""
    function = inspect.unwrap(function)
    assert isinstance(function, FunctionType)
    lines, first = inspect.getsourcelines(function)
    found = [first + i for i, text in enumerate(lines) if text.strip() == line]
    assert len(found) == 1, f"{line!r} stands {len(found)} times in {function.__name__}"
    code = function.__code__
    text = f'  File "{code.co_filename}", line {found[0]}, in {code.co_name}\n    {line}'
    if not marked:
        return text
    assert marked in line
    at = line.rindex(marked) if last else line.index(marked)
    return f"{text}\n    {' ' * at}{'^' * len(marked)}"


@pytest.fixture
def place() -> Place:
    """``place(function, line, marked)``: the quotation of a line of that function, as messages show it."""
    return _place
