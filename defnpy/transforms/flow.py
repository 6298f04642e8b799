"""What Python's control flow becomes under ``@defn(control_flow="python")``: see :mod:`defnpy.transforms.python`.

The rewritten function hands over its branches and bodies as functions that share its variables. Where a condition is a
plain Python value they are called as Python would have run them; where it is traced, they become those of ``cond``,
``while_loop`` and ``fori_loop``, and the variables that they assign become results and carries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CellType
from typing import Any, NamedTuple

from ..errors import TraceError
from ..ir.expr import Expr
from ..ir.trace import aval_of
from .branches import cond
from .closed import truth, wrong
from .loops import fori_loop, while_loop

__all__ = ["Flow"]

_ONE_BRANCH = "has no value at the end of one branch of the if", "give it a value before the if, or in both branches"
_NO_ROUND = "has no value before the loop, which may end before its first iteration", "give it a value before the loop"
_NO_RANGE = "for: what is called range returns no range, which a traced break cannot leave", "use Python's own range"
_LOST = "loses its value in the loop", "do not delete what a loop carries"


class _Variables:
    """The variables of the rewritten function that ``function``, a part of it, assigns."""

    def __init__(self, function: Callable[..., Any], names: Sequence[str]) -> None:
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        self._cells: dict[str, CellType] = {name: cells[name] for name in names}

    def bound(self) -> dict[str, Any]:
        """The values of those that have one."""
        values = {}
        for name, cell in self._cells.items():
            try:
                values[name] = cell.cell_contents
            except ValueError:
                continue
        return values

    def take(self, live: Sequence[str], what: str, hint: str) -> dict[str, Any]:
        """The values of those that are read later; an error for one that has none."""
        values = self.bound()
        for name in live:
            if name not in values:
                raise wrong(TraceError, f"{name} {what}", hint)
        return {name: values[name] for name in live}

    def become(self, values: dict[str, Any]) -> None:
        """Exactly these have a value."""
        for name, cell in self._cells.items():
            if name in values:
                cell.cell_contents = values[name]
            elif name in self.bound():
                del cell.cell_contents


class _Range(NamedTuple):
    """A ``range`` with a traced bound."""

    lower: Any
    upper: Any
    step: int


def _traced(value: Any) -> bool:
    return isinstance(value, Expr)


class Flow:
    """The names that rewritten functions call. assigned: the variables that a part assigns; live: those read later."""

    @staticmethod
    def if_(
        test: Any,
        then: Callable[[], Any],
        otherwise: Callable[[], Any],
        assigned: Sequence[str] = (),
        live: Sequence[str] | None = None,
    ) -> Any:
        """An ``if``. live: None where it is the results of the branches that count (``return``, ``a if c else b``)."""
        if not _traced(test):
            return then() if test else otherwise()
        variables = _Variables(then, assigned)
        before = variables.bound()

        def branch(part: Callable[[], Any]) -> Callable[[], Any]:
            def run() -> Any:
                variables.become(before)
                result = part()
                return result if live is None else variables.take(live, *_ONE_BRANCH)

            return run

        result = cond(test, branch(then), branch(otherwise))
        variables.become(before if live is None else result)
        return result

    @staticmethod
    def while_(test: Callable[[], Any], body: Callable[[], Any], assigned: Sequence[str], live: Sequence[str]) -> None:
        """A ``while``: iterations that Python can decide come first."""
        while not _traced(value := test()):
            if not value:
                return
            body()
        variables = _Variables(body, assigned)

        def again(carry: dict[str, Any]) -> Any:
            variables.become(carry)
            return test()

        def step(carry: dict[str, Any]) -> dict[str, Any]:
            variables.become(carry)
            body()
            return variables.take(live, *_LOST)

        variables.become(while_loop(again, step, variables.take(live, *_NO_ROUND)))

    @staticmethod
    def for_(
        numbers: Any,
        body: Callable[[], Any],
        target: str,
        assigned: Sequence[str],
        live: Sequence[str],
        running: str | None,
    ) -> None:
        """A ``for target in range(...)``. running: the variable that tells, after an iteration, whether to go on."""
        variables = _Variables(body, assigned)
        if not isinstance(numbers, _Range):
            for number in numbers:
                variables.become({**variables.bound(), target: number})
                body()
                if running is not None and _traced(variables.bound()[running]):
                    if not isinstance(numbers, range):
                        raise wrong(TraceError, *_NO_RANGE)
                    numbers = _Range(number + numbers.step, numbers.stop, numbers.step)
                    break
                if running is not None and not variables.bound()[running]:
                    return
            else:
                return
        lower, upper, step = numbers

        def again(carry: tuple[Any, dict[str, Any]]) -> Any:
            number, values = carry
            return values[running or ""] & (number < upper if step > 0 else number > upper)

        def next_(carry: tuple[Any, dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
            number, values = carry
            variables.become({**values, target: number})
            body()
            return number + step, variables.take(live, *_LOST)

        if running is not None:
            variables.become(while_loop(again, next_, (lower, variables.take(live, *_NO_ROUND)))[1])
            return

        def iteration(number: Any, carry: dict[str, Any]) -> dict[str, Any]:
            variables.become({**carry, target: number if step == 1 else lower + number * step})
            body()
            return variables.take(live, *_LOST)

        first, last = (lower, upper) if step == 1 else (0, (upper - lower + step - (1 if step > 0 else -1)) // step)
        variables.become(fori_loop(first, last, iteration, variables.take(live, *_NO_ROUND)))

    @staticmethod
    def range_(function: Callable[..., Any], *bounds: Any) -> Any:
        """What ``function``, which the user calls ``range``, returns; of traced bounds something that for_ knows."""
        if function is not range or not any(map(_traced, bounds)) or len(bounds) > 3:
            return function(*bounds)
        lower, upper = (0, *bounds) if len(bounds) == 1 else bounds[:2]
        step = bounds[2] if len(bounds) == 3 else 1
        if not isinstance(step, int) or step == 0:
            raise wrong(
                TraceError,
                "range: the step of a traced range must be an integer that is known while tracing, and not 0",
                "pass it as a keyword-only argument",
            )
        return _Range(lower, upper, step)

    @staticmethod
    def number(value: Any) -> bool:
        """Whether ``value += 1`` means ``value = value + 1``, as for Python's numbers: traced values without axes."""
        return isinstance(value, Expr) and not value.aval.shape

    @staticmethod
    def plain(value: Any, statement: str, reason: str, hint: str) -> Any:
        """A condition or a range that only Python can decide, for what the statement holds."""
        if _traced(value) or isinstance(value, _Range):
            what = f"condition {aval_of(value)}" if _traced(value) else "range"
            raise wrong(TraceError, f"{statement}: with a traced {what}, it cannot hold {reason}", hint)
        return value

    @staticmethod
    def and_(left: Any, right: Callable[[], Any]) -> Any:
        """``left and right()`` as a condition: a traced left side computes both."""
        if not _traced(left):
            return left and right()
        return truth("and", "its left side", left) & truth("and", "its right side", right())

    @staticmethod
    def or_(left: Any, right: Callable[[], Any]) -> Any:
        """``left or right()`` as a condition: a traced left side computes both."""
        if not _traced(left):
            return left or right()
        return truth("or", "its left side", left) | truth("or", "its right side", right())

    @staticmethod
    def not_(value: Any) -> Any:
        """``not value`` as a condition."""
        return ~truth("not", "its operand", value) if _traced(value) else not value
