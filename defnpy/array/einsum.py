"""Einstein's summation, as a row of products of two operands each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import shapes
from ..errors import Mismatch
from ..ir.trace import aval_of, function
from ..ops import linear
from ..ops.contract import dot_general
from ..ops.convert import one_dtype
from ..ops.elementwise import where
from ..ops.logic import equal

__all__ = ["einsum"]

# Labels are numbers: of letters the code points; of the axes behind "..." negative ones, counted from the last axis.
Labels = tuple[int, ...]


@function
def einsum(subscripts: str, /, *operands: Any) -> Any:
    """Products of the operands, summed over every label that does not stand behind ``->``.

    A letter names an axis; equal letters run together, within one operand too (its diagonal). ``...`` stands for axes
    that broadcast. Without ``->`` the result has the letters that occur once, in alphabetical order. More than two
    operands are multiplied pair by pair, in the order that NumPy's greedy search finds.

    >>> import defnpy as dp
    >>> a = dp.asarray([[1.0, 2.0], [3.0, 4.0]])
    >>> dp.einsum("ij,kj->ik", a, a)
    Tensor([[ 5., 11.],
            [11., 25.]], dtype=float32)
    >>> dp.einsum("ii", a)
    Tensor(5., dtype=float32)
    """
    if not operands:
        raise Mismatch("needs at least one tensor")
    operands = tuple(one_dtype(dot_general, operands))
    terms, result = _parse(subscripts, [len(aval_of(x).shape) for x in operands])
    sizes = _sizes(terms, operands)
    parts = [_distinct(x, labels, sizes) for x, labels in zip(operands, terms, strict=True)]
    for pair in _pairs(parts, result, sizes):
        chosen = [parts.pop(i) for i in sorted(pair, reverse=True)][::-1]
        needed = set(result).union(*[labels for _, labels in parts])
        while len(chosen) > 1:
            first, second = chosen.pop(0), chosen.pop(0)
            chosen.append(_product(first, second, needed.union(*[labels for _, labels in chosen])))
        parts.append(chosen[0])
    x, labels = _reduced(*parts[0], set(result))
    missing = [label for label in result if label not in labels]  # the axes of size 1 of a "..." that nothing stretches
    x = linear.reshape(x, shape=(1,) * len(missing) + x.shape) if missing else x
    labels = (*missing, *labels)
    order = tuple(labels.index(label) for label in result)
    return x if order == tuple(range(len(order))) else linear.permute_dims(x, axes=order)


def _parse(subscripts: str, ndims: Sequence[int]) -> tuple[list[Labels], Labels]:
    """The labels of the axes of each operand and of the result."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(ndims):
        raise Mismatch(f"{subscripts!r} is for {len(texts)} operands, and there are {len(ndims)}")
    terms = [_labels(text, ndim, subscripts) for text, ndim in zip(texts, ndims, strict=True)]
    count = max((-min(labels, default=0) for labels in terms), default=0)
    ellipsis = tuple(range(-count, 0)) if count > 0 else ()
    every = [label for labels in terms for label in labels]
    if not arrow:
        return terms, (*ellipsis, *sorted(x for x in set(every) if x >= 0 and every.count(x) == 1))
    if "..." not in right:
        ellipsis = ()
    result = _labels(right, len(right.replace("...", "")) + len(ellipsis), subscripts)
    for label in result:
        if label >= 0 and label not in every:
            raise Mismatch(f"no operand has the label {chr(label)!r} of the result of {subscripts!r}")
    if len(set(result)) != len(result):
        raise Mismatch(f"the result of {subscripts!r} names an axis twice")
    return terms, result


def _labels(text: str, ndim: int, subscripts: str) -> Labels:
    head, dots, tail = text.partition("...")
    letters = head + tail
    if not all(c.isalpha() for c in letters):
        raise Mismatch(f"{text!r} in {subscripts!r} has other characters than letters and one '...'")
    if len(letters) > ndim or (not dots and len(letters) != ndim):
        axes = "axis" if ndim == 1 else "axes"
        raise Mismatch(f"{text!r} in {subscripts!r} names {len(letters)}, and the operand has {ndim} {axes}")
    return (*map(ord, head), *range(len(letters) - ndim, 0), *map(ord, tail))


def _sizes(terms: Sequence[Labels], operands: Sequence[Any]) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for x, labels in zip(operands, terms, strict=True):
        for label, n in zip(labels, aval_of(x).shape, strict=True):
            known = sizes.setdefault(label, n)
            if known == n or (label < 0 and n == 1):
                continue
            if label >= 0 or known != 1:
                name = repr(chr(label)) if label >= 0 else "in '...'"
                raise Mismatch(f"the label {name} stands for sizes {known} and {n}")
            sizes[label] = n
    return sizes


def _distinct(x: Any, labels: Labels, sizes: dict[int, int]) -> tuple[Any, Labels]:
    """The operand with each label once: diagonals taken, and without the axes of size 1 that others stretch."""
    kept = [a for a, label in enumerate(labels) if x.shape[a] == sizes[label]]
    if len(kept) < len(labels):
        x = linear.reshape(x, shape=tuple(x.shape[a] for a in kept))
        labels = tuple(labels[a] for a in kept)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first, second = [a for a, each in enumerate(labels) if each == label][:2]
            on = equal(linear.iota(shape=x.shape, axis=first), linear.iota(shape=x.shape, axis=second))
            x = linear.sum_(where(on, x, 0), axis=second)
            labels = labels[:second] + labels[second + 1 :]
    return x, labels


def _pairs(parts: Sequence[tuple[Any, Labels]], result: Labels, sizes: dict[int, int]) -> list[tuple[int, ...]]:
    """Which operands to multiply, step by step: their places in what is left; a product goes to the end."""
    if len(parts) <= 2:
        return [tuple(range(len(parts)))]
    number = {label: i for i, label in enumerate(sizes)}
    shaped: list[Any] = []
    for x, labels in parts:
        shaped += [np.broadcast_to(np.empty(()), x.shape), [number[label] for label in labels]]
    known = [number[label] for label in result if any(label in labels for _, labels in parts)]
    return [tuple(step) for step in np.einsum_path(*shaped, known, optimize="greedy")[0][1:]]


def _reduced(x: Any, labels: Labels, needed: set[int]) -> tuple[Any, Labels]:
    """Without the axes that nothing else needs: they are summed."""
    axes = tuple(a for a, label in enumerate(labels) if label not in needed)
    if axes:
        x = linear.sum_(x, axis=axes)
    return x, tuple(label for label in labels if label in needed)


def _product(first: tuple[Any, Labels], second: tuple[Any, Labels], needed: set[int]) -> tuple[Any, Labels]:
    """The product of two operands, summed over the labels that only they have."""
    x, left = _reduced(*first, needed.union(second[1]))
    y, right = _reduced(*second, needed.union(first[1]))
    shared = [label for label in left if label in right]
    batch = [label for label in shared if label in needed]
    summed = [label for label in shared if label not in needed]

    def places(labels: Labels, chosen: list[int]) -> shapes.Axes:
        return tuple(labels.index(label) for label in chosen)

    product = dot_general(
        x, y, contract=(places(left, summed), places(right, summed)), batch=(places(left, batch), places(right, batch))
    )
    free = [label for labels in (left, right) for label in labels if label not in shared]
    return product, (*batch, *free)
