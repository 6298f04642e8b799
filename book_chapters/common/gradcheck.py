"""Numerical gradients, and what their difference from other gradients means (book: ``common/gradient.py``).

    (f(p + h e_k) - f(p - h e_k)) / 2h        for every element k of every parameter

The book's ``numerical_gradient`` writes into the parameters and puts them back, and its ``loss_W`` ignores the argument
it is given: the check works because the net holds the same arrays. Here the loss is a function of the parameters, and
the moved parameters are new ones, so there is nothing to put back.

A numerical gradient is wrong by

    rounding    eps |f| / h     eps = 1e-16 in float64; in float32, 1e-7, it hides most gradients of a net
    truncation  h^2 |f'''| / 6
    kinks       of the size of the gradient itself, where a ReLU or a maximum changes its mind between p - h and p + h

and it shows nothing where all gradients are 0. :func:`compare` tells these apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import defnpy as dp
from defnpy.errors import GradientError

__all__ = ["Comparison", "Row", "chosen_places", "compare", "numerical_grad"]

Params = Mapping[str, Any]
Places = Mapping[str, np.ndarray]


def chosen_places(params: Params, samples: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """For every parameter the flat indices to check: all, or ``samples`` of them drawn at random.

    >>> {name: len(places) for name, places in chosen_places({"W": dp.ones((9, 9)), "b": dp.ones(9)}, 20).items()}
    {'W': 20, 'b': 9}
    """
    generator = np.random.default_rng(seed)
    return {
        name: np.arange(size) if samples in (0, size) or samples > size else generator.choice(size, samples, False)
        for name, size in ((name, dp.asarray(value).size) for name, value in params.items())
    }


def numerical_grad(
    loss: Callable[..., Any], params: Params, *args: Any, h: float = 1e-4, places: Places | None = None
) -> dict[str, np.ndarray]:
    """Central differences of ``loss(params, *args)`` at flat places of each parameter: one flat array per parameter.

    Both sides are one compiled call. The dtype is that of the parameters. Raises ``GradientError`` for integers: a step
    of 1e-4 would be rounded away.

    >>> numerical_grad(lambda p: dp.sum(p["x"] ** 2), {"x": dp.asarray([3.0, 4.0], dtype="float64")})["x"].round(6)
    array([6., 8.])
    """
    places = chosen_places(params) if places is None else places
    sides = {name: _both_sides(loss, params, args, name, h, places[name]) for name in params}
    return {name: (above - below) / above.dtype.type(2 * h) for name, (above, below) in sides.items()}


def _both_sides(
    loss: Callable[..., Any], params: Params, args: Sequence[Any], name: str, h: float, places: np.ndarray
) -> np.ndarray:
    """The loss with each of the places moved up, and down, by h: (2, places)."""
    value = dp.asarray(params[name])
    if value.dtype.kind != "f":
        raise GradientError(
            f"{name} is {value.dtype}: a step of {h:g} would be rounded away", hint="convert it: astype(dp.float64)"
        )

    @dp.defn
    def both(params: Params, place: Any, h: Any, *args: Any) -> Any:
        e = dp.reshape(dp.one_hot(place, value.size, dtype=value.dtype), value.shape)
        moved = [{**params, name: params[name] + step * e} for step in (h, -h)]
        return dp.stack([loss(one, *args) for one in moved])

    step = dp.asarray(h, dtype=value.dtype)
    tensors = {other: dp.asarray(held) for other, held in params.items()}
    found = [np.asarray(both(tensors, dp.asarray(int(place)), step, *args)) for place in places]
    return np.stack(found, axis=1) if found else np.empty((2, 0), value.dtype)


class Row(NamedTuple):
    """One parameter. Means and maxima are of absolute differences over the checked places.

    numerical - automatic, numerical - formula (the book's backward pass, NaN without one), automatic - formula.
    gradient: the mean of the absolute automatic gradient. kinks: places with a kink in reach of h.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    gradient: float
    automatic_mean: float
    automatic_max: float
    formula_mean: float
    formula_max: float
    apart_mean: float
    kinks: int

    @property
    def degenerate(self) -> bool:
        """All gradients are 0, up to rounding, numerical ones too: nothing was checked."""
        return self.gradient < 1e-14 and self.automatic_max < 1e-9


class Comparison(NamedTuple):
    """Three gradients of one loss, parameter by parameter; prints as a table with what the differences are."""

    rows: tuple[Row, ...]
    h: float
    dtype: str
    value: float

    def row(self, name: str) -> Row:
        """The parameter of that name."""
        return next(row for row in self.rows if row.name == name)

    @property
    def max_automatic(self) -> float:
        """The largest numerical - automatic of all."""
        return max(row.automatic_max for row in self.rows)

    @property
    def kinks(self) -> int:
        """Places at kinks, of all parameters."""
        return sum(row.kinks for row in self.rows)

    @property
    def rounding(self) -> float:
        """How far the rounding of the loss alone throws a difference quotient off."""
        return float(np.finfo(self.dtype).eps) * abs(self.value) / self.h

    def meaning(self, row: Row) -> str:
        """Why numerical and other gradients of a parameter differ, in words."""
        if row.degenerate:
            return f"degenerate: every gradient is 0{' up to rounding' * (row.gradient > 0)}, so this checks nothing"
        if self.dtype == "float32":
            return f"float32: rounding alone is {self.rounding:.0e}, the gradient {row.gradient:.0e}"
        words = []
        if row.kinks:
            words.append(f"{row.kinks} with a kink between p - h and p + h")
        if row.apart_mean > 3 * max(row.automatic_mean, 1e-13):
            words.append("the formula leaves out the 1e-7 in the logarithm")
        return "; ".join(words) or "rounding and truncation"

    def __str__(self) -> str:
        heads = ("", "shape", "checked", "num-auto", "max", "num-book", "auto-book", "|gradient|", "what the rest is")
        cells = [
            (
                row.name,
                str(row.shape),
                str(row.checked),
                *(
                    f"{x:.2e}" if x == x else "-"
                    for x in (row.automatic_mean, row.automatic_max, row.formula_mean, row.apart_mean, row.gradient)
                ),
                self.meaning(row),
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in (heads, *cells)) for i in range(len(heads))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in (heads, *cells)]
        return "\n".join([f"mean absolute differences, {self.dtype}, h = {self.h:g}", *lines])


def compare(
    loss: Callable[..., Any],
    params: Params,
    *args: Any,
    formula: Callable[..., Params] | None = None,
    h: float = 1e-4,
    samples: int = 0,
    seed: int = 0,
    force: bool = False,
) -> Comparison:
    """Numerical, automatic and (``formula(params, *args)``) hand-written gradients of ``loss(params, *args)``.

    samples: so many places of each parameter, 0 for all. Raises ``GradientError`` for float32 parameters, of which a
    difference quotient shows noise, unless ``force`` asks to see it.

    >>> check = compare(lambda p: dp.sum(dp.sin(p["x"])), {"x": dp.asarray([1.0, 2.0], dtype="float64")})
    >>> check.max_automatic < 1e-8, check.kinks, check.rows[0].degenerate
    (True, 0, False)
    """
    dtypes = {str(dp.asarray(value).dtype) for value in params.values()}
    if "float32" in dtypes and not force:
        raise GradientError(
            "numerical gradients in float32 are noise: a rounding error of 1e-7 is divided by h",
            hint="compute in float64 (--dtype f64), or force it to see the noise",
        )
    places = chosen_places(params, samples, seed)
    at_params, gradient = dp.value_and_grad(dp.defn(loss))(dict(params), *args)
    automatic = _at(gradient, places)
    by_hand = None if formula is None else _at(formula(params, *args), places)
    numerical = numerical_grad(loss, params, *args, h=h, places=places)
    comparison = Comparison((), h, min(dtypes), float(at_params))
    rows = []
    for name, n in numerical.items():
        a = automatic[name]
        error, b = np.abs(n - a), np.full_like(a, np.nan) if by_hand is None else by_hand[name]
        truncation = h * h * max(1.0, float(np.abs(a).max(initial=0)))
        suspects = np.flatnonzero(error > 20 * (truncation + comparison.rounding))
        kinks = 0
        if suspects.size and comparison.dtype == "float64":
            slopes = [
                _slopes(loss, params, args, name, step, places[name][suspects], comparison.value)
                for step in (h, h / 100)
            ]
            kinks = int(np.sum(_at_kink(a[suspects], *slopes)))
        shape = tuple(dp.asarray(params[name]).shape)
        from_hand, apart = np.abs(n - b), np.abs(a - b)
        means = (error.mean(), error.max(), from_hand.mean(), from_hand.max(), apart.mean())
        rows.append(Row(name, shape, len(n), float(np.abs(a).mean()), *map(float, means), kinks))
    return comparison._replace(rows=tuple(rows))


def _slopes(
    loss: Callable[..., Any],
    params: Params,
    args: Sequence[Any],
    name: str,
    h: float,
    places: np.ndarray,
    value: float,
) -> np.ndarray:
    """The slopes to the right and to the left: (2, places)."""
    above, below = _both_sides(loss, params, args, name, h, places)
    return np.stack([above - value, value - below]) / h


def _at_kink(automatic: np.ndarray, wide: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    """Which places have a kink within the wide step: it is out of reach of the narrow one, or lies at the place itself.

    Out of reach: the error goes away. At the place: left and right slope stay apart however small the step, which those
    of a curve do not, and the automatic derivative is one of them or between.
    """
    gone = np.abs(narrow.mean(axis=0) - automatic) < np.abs(wide.mean(axis=0) - automatic) / 10
    apart = np.abs(narrow[0] - narrow[1])
    stays = apart > np.abs(wide[0] - wide[1]) / 10
    between = (narrow.min(axis=0) - apart / 100 <= automatic) & (automatic <= narrow.max(axis=0) + apart / 100)
    return gone | (stays & between)


def _at(gradient: Params, places: Places) -> dict[str, np.ndarray]:
    return {name: np.asarray(gradient[name], np.float64).reshape(-1)[places[name]] for name in places}
