"""The families of primitives: one decorator each, which gives a declaration its defaults.

A family decides how the result's Aval follows from the operands', how operands are converted, and how the op is
lowered. The body under the decorator is the NumPy reference; ``scalar`` is the same function for one element, in the
scalar dialect, and the two are written independently on purpose: each is the other's oracle.

The scalar dialect is one Python expression over ``{operand}`` holes: arithmetic, comparison, ``a if c else b``, and
named functions (``exp``, ``floor`` ...). Numbers in it take the dtype of the operands; the renderer spells them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import DEFAULT_INT, DType
from ..ir.aval import Aval
from ..ir.op import Case, Op
from ..ir.trace import call
from .batching import by_alignment, by_axes
from .convert import one_dtype

__all__ = [
    "Domain",
    "bilinear",
    "contraction",
    "elementwise",
    "movement",
    "reduced_shape",
    "reduction",
    "special",
    "total",
    "uniform",
    "widened",
]

Body = Callable[..., Any]
Rule = Callable[..., Sequence[Any]]
Forward = Callable[..., Any]
Batch = Callable[..., Any]  # see batching.py


@dataclass(frozen=True)
class Domain:
    """Where the test values of one operand lie: uniform in [low, high), integers for the dtypes "iu"."""

    low: float
    high: float
    kind: str = "f"
    smooth: bool = True

    def draw(self, rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Random values of this domain."""
        if self.kind == "b":
            return rng.integers(0, 2, shape).astype(bool)
        if self.kind in "iu":
            kind = {"i": np.int32, "u": np.uint32}[self.kind]
            return rng.integers(int(self.low), int(self.high), shape, dtype=kind)
        return rng.uniform(self.low, self.high, shape).astype(dtype)


def uniform(low: float, high: float, kind: str = "f", smooth: bool = True) -> Domain:
    """A :class:`Domain`, in the words a declaration uses."""
    return Domain(low, high, kind, smooth)


def _elementwise_cases(arity: int, cases: Sequence[Domain | tuple[Domain, ...]]) -> list[Case]:
    """Each domain on equal shapes, on broadcast ones, on 0-d and on empty ones."""
    layouts: list[list[tuple[int, ...]]] = [[(2, 3)] * arity, [()] * arity, [(0, 3)] * arity]
    if arity > 1:
        layouts += [[(4, 1), (3,), (2, 1, 3)][:arity], [(2, 3), (), ()][:arity]]
    result = []
    for case in cases:
        domains = case if isinstance(case, tuple) else (case,) * arity
        for layout in layouts:

            def arrays(
                rng: np.random.Generator,
                dtype: DType,
                pairs: tuple[Any, ...] = tuple(zip(domains, layout, strict=True)),
            ) -> list[np.ndarray[Any, Any]]:
                return [domain.draw(rng, dtype, shape) for domain, shape in pairs]

            result.append(Case(arrays, {}, all(d.smooth for d in domains)))
    return result


def total(parts: Iterable[Any]) -> Any:
    """The sum of those that are not None; None if all are."""
    result = None
    for part in parts:
        if part is not None:
            result = part if result is None else result + part
    return result


def _by_operand(vjp: Rule) -> Forward:
    """The forward rule of an elementwise op: each element depends on one element of each operand, so that sending a
    tangent forwards and a cotangent backwards multiplies both by the same number."""

    def jvp(tangents: Sequence[Any], y: Any, *x: Any, **params: Any) -> Any:
        return total(vjp(t, y, *x, **params)[i] for i, t in enumerate(tangents) if t is not None)

    return jvp


def bilinear(op: Op, tangents: Sequence[Any], x: Sequence[Any], params: dict[str, Any]) -> Any:
    """The tangent of a product: linear in each of two operands."""
    (dl, dr), (left, right) = tangents, x
    return total(
        (None if dl is None else op(dl, right, **params), None if dr is None else op(left, dr, **params)),
    )


def elementwise(
    *,
    scalar: str,
    vjp: Rule | None,
    cases: Sequence[Domain | tuple[Domain, ...]],
    kinds: str = "iuf",
    out: DType | None = None,
    cheap: bool = True,
    convert: Callable[[Op, Sequence[Any]], Sequence[Any]] = one_dtype,
    not_differentiable: str = "",
    tame: bool = False,
) -> Callable[[Body], Op]:
    """An op that computes each element of the result from one element of each operand; shapes broadcast.

    out: the dtype of the result; by default the operands'.
    tame: whether its value and its derivatives are finite wherever its operands are, but for overflow of a product.
    """

    def infer(*avals: Aval, **params: Hashable) -> Aval:
        shape = shapes.broadcast(*[a.shape for a in avals])
        if out is not None:
            return Aval(shape, out)
        # The condition of where is neither weak nor strong.
        return Aval(shape, avals[-1].dtype, all(a.weak for a in avals if a.dtype == avals[-1].dtype))

    def declare(body: Body) -> Op:
        arity: int = body.__code__.co_posonlyargcount
        op = Op(
            body,
            "elementwise",
            infer,
            call,
            convert,
            None,
            vjp,
            not_differentiable,
            scalar,
            kinds,
            cheap=cheap,
            tame=tame,
            cases=_elementwise_cases(arity, cases),
            jvp=None if vjp is None else _by_operand(vjp),
        )
        op.batch = by_alignment(op)
        return op

    return declare


def _keep(op: Op, args: Sequence[Any]) -> Sequence[Any]:
    return args


def movement(
    *,
    infer: Callable[..., Aval],
    vjp: Rule | None,
    cases: Sequence[Case],
    batch: Batch,
    normalize: Callable[..., dict[str, Any]] | None = None,
    convert: Callable[[Op, Sequence[Any]], Sequence[Any]] = _keep,
    not_differentiable: str = "",
    jvp: Forward | None = None,
) -> Callable[[Body], Op]:
    """An op that moves elements without computing with them: each element of the result is one of the operands'.

    jvp: by default the op moves the tangent of its first operand in the same way.
    """

    def declare(body: Body) -> Op:
        op = Op(body, "movement", infer, call, convert, normalize, vjp, not_differentiable, kinds="biuf", cases=cases)
        op.batch = batch
        if vjp is not None:
            op.jvp = jvp or (lambda tangents, y, x, *others, **params: op(tangents[0], *others, **params))
        return op

    return declare


def _reduction_cases(domains: Sequence[Domain], empty: bool) -> list[Case]:
    choices: list[tuple[tuple[int, ...], dict[str, Hashable]]] = [
        ((2, 3), {}),
        ((2, 3), {"axis": 0}),
        ((2, 3), {"axis": -1, "keepdims": True}),
        ((2, 3, 4), {"axis": (0, 2)}),
        ((), {}),
        ((0, 3), {"axis": 1}),
    ]
    if empty:
        choices += [((0, 3), {"axis": 0}), ((0,), {})]
    return [
        Case(partial(_draw_one, domain=domain, shape=shape), params, domain.smooth)
        for domain in domains
        for shape, params in choices
    ]


def _draw_one(rng: np.random.Generator, dtype: DType, domain: Domain, shape: shapes.Shape) -> list[Any]:
    return [domain.draw(rng, dtype, shape)]


def _axes(x: Aval, *, axis: Any = None, keepdims: bool = False, **others: Any) -> dict[str, Any]:
    return {"axis": shapes.normalize_axes(axis, len(x.shape)), "keepdims": bool(keepdims), **others}


def reduced_shape(shape: shapes.Shape, axis: shapes.Axes, keepdims: bool) -> shapes.Shape:
    """The shape after a reduction over ``axis``."""
    if keepdims:
        return tuple(1 if a in axis else n for a, n in enumerate(shape))
    return shapes.reduce(shape, axis)


def reduction(
    *,
    vjp: Rule | None,
    domains: Sequence[Domain],
    kinds: str = "iuf",
    out: Callable[[DType], DType] = lambda dtype: dtype,
    check: Callable[[Aval, shapes.Axes], None] = lambda x, axis: None,
    empty: bool = True,
    not_differentiable: str = "",
    jvp: Forward | None = None,
    convert: Callable[[Op, Sequence[Any]], Sequence[Any]] = one_dtype,
) -> Callable[[Body], Op]:
    """An op that folds whole axes: ``axis`` (int, tuple or None for all) and ``keepdims``.

    out: the result's dtype from the operand's. check: refuses operands without a result (the maximum of nothing).
    empty: whether reducing no elements at all is defined.
    """

    def infer(x: Aval, *, axis: shapes.Axes, keepdims: bool) -> Aval:
        check(x, axis)
        dtype = out(x.dtype)
        return Aval(reduced_shape(x.shape, axis, keepdims), dtype, x.weak and dtype == x.dtype)

    def declare(body: Body) -> Op:
        cases = _reduction_cases(domains, empty)
        op = Op(
            body,
            "reduction",
            infer,
            call,
            convert,
            _axes,
            vjp,
            not_differentiable,
            None,
            kinds,
            cases=cases,
            jvp=jvp,
        )
        op.batch = by_axes(op)
        return op

    return declare


def contraction(
    *,
    infer: Callable[..., Aval],
    normalize: Callable[..., dict[str, Any]],
    vjp: Rule,
    batch: Batch,
    cases: Sequence[Case],
) -> Callable[[Body], Op]:
    """An op that multiplies two operands and sums over shared axes: matrix products."""

    def declare(body: Body) -> Op:
        op = Op(body, "contraction", infer, call, one_dtype, normalize, vjp, kinds="iuf", cases=cases, cheap=False)
        op.batch = batch
        op.jvp = lambda tangents, y, *x, **params: bilinear(op, tangents, x, params)
        return op

    return declare


def special(
    *,
    family: str,
    infer: Callable[..., Aval | tuple[Aval, ...]],
    vjp: Rule | None,
    cases: Sequence[Case],
    normalize: Callable[..., dict[str, Any]] | None = None,
    convert: Callable[[Op, Sequence[Any]], Sequence[Any]] = _keep,
    effect: bool = False,
    scalar: str | None = None,
    not_differentiable: str = "",
    graphs: Sequence[str] = (),
    jvp: Forward | None = None,
    batch: Batch | None = None,
    loops: str = "",
    kinds: str = "biuf",
) -> Callable[[Body], Op]:
    """An op that fits no family: everything is said in the declaration.

    loops: why there is no ``batch`` rule, and examples are computed one after the other.
    """

    def declare(body: Body) -> Op:
        return Op(
            body,
            family,
            infer,
            call,
            convert,
            normalize,
            vjp,
            not_differentiable,
            scalar,
            kinds,
            effect,
            cases=cases,
            graphs=frozenset(graphs),
            jvp=jvp,
            batch=batch,
            loops=loops,
        )

    return declare


def widened(dtype: DType) -> DType:
    """The dtype of a sum or product: small integers and booleans are summed in the default integer."""
    if dtype.kind in "bi":
        return DEFAULT_INT
    return np.dtype("uint64") if dtype.kind == "u" else dtype
