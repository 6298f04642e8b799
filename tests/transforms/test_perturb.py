"""Perturbations of single elements: every form a value can take, against a loop that changes the element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import defnpy as dp
from defnpy.transforms.perturb import at_elements

RNG = np.random.default_rng(2)
A, B = RNG.standard_normal((4, 3)), RNG.standard_normal((3, 5))
C, D = RNG.standard_normal((2, 4, 3)), RNG.standard_normal((2, 3, 4))
IMAGE, KERNEL = RNG.standard_normal((2, 2, 5, 4)), RNG.standard_normal((3, 2, 2, 3))


def net(p: Any, x: Any, t: Any) -> Any:
    z = dp.relu(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    return dp.mean(dp.logsumexp(z, axis=-1) - dp.sum(z * dp.one_hot(t, 5, dtype=z.dtype), axis=-1))


PARAMS = {
    "W1": RNG.standard_normal((3, 4)),
    "b1": RNG.standard_normal(4),
    "W2": RNG.standard_normal((4, 5)),
    "b2": RNG.standard_normal(5),
}

CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "products": (lambda a, b: (a @ b, dp.tanh(a @ b) @ b.T, dp.tensordot(a, b, axes=0)), [A, B]),
    "both operands of a product": (lambda a: (a @ a.T, dp.exp(a).T @ a), [A]),
    "stacks of products": (
        lambda c, d: (c @ d, dp.einsum("bij,bji->bi", c, d), c[:, :, :1] * d[:, :1, :]),
        [C, D],
    ),
    "stacks along other axes": (
        lambda c, d: dp.dot_general(c, d, contract=((1,), (2,)), batch=((2, 0), (1, 0))),
        [C, D],
    ),
    "elementwise": (lambda a, b: (a * b[:, 0] + b[None, :, 1], dp.where(a > 0, a, -a), a.astype("int64")), [A, B]),
    "meeting again": (lambda a: a * dp.sum(a, axis=0) + a[:1] - a.T[0][:, None], [A]),
    "sums": (lambda a: (dp.sum(a, axis=0), dp.sum(a, axis=1, keepdims=True), dp.sum(a * a), dp.std(a, axis=0)), [A]),
    "sums of integers": (lambda a: (dp.sum(a > 0), dp.sum((a > 0).astype("int32"), axis=0)), [A]),
    "reductions": (lambda a: (dp.max(a, axis=0), dp.max(a, axis=1, keepdims=True), dp.argmax(a), dp.prod(a)), [A]),
    "reductions of a stack": (lambda c: (dp.max(c, axis=(0, 2)), dp.sum(c, axis=(0, 2)), dp.any(c > 1, axis=1)), [C]),
    "softmax": (lambda a, b: (dp.softmax(a, axis=1), dp.log_softmax(a @ b, axis=0)), [A, B]),
    "reshape": (
        lambda a: (a.reshape(2, 6), a.reshape(2, 2, 3), a.reshape(-1) * 2, a.T.reshape(3, 2, 2), a[:, None], a[:0]),
        [A],
    ),
    "permute and broadcast": (lambda c: (c.transpose(2, 0, 1), dp.broadcast_to(c[:, :1], (3, 2, 4, 3))), [C]),
    "what has no rule": (lambda a: (dp.sort(a), dp.concat([a, a]), a[::-1], a[dp.asarray([0, 2])]), [A]),
    "convolution": (
        lambda x, w: dp.sum(dp.max_pool(dp.relu(dp.conv(x, w)), 2, strides=1).reshape(2, -1), axis=1),
        [IMAGE, KERNEL],
    ),
    "a number": (lambda s, a: s * a + dp.sum(a, axis=0) ** s, [np.float64(2.5), np.abs(A)]),
    "one row": (lambda a: dp.tanh(a @ dp.asarray(B)) + a[:, :1], [A[:1]]),
    "a net": (net, [PARAMS, A, np.array([0, 4, 2, 2])]),
    "a result that stays": (lambda a, b: (a + 1, b + 1), [A, B]),
}


def compare(function: Callable[..., Any], args: Sequence[Any], number: int, backend: str) -> Any:
    """Every element of a leaf replaced by another number: all at once, and one by one."""
    leaves, structure = dp.tree.flatten(list(args))
    leaf = np.asarray(leaves[number])
    elements = np.random.default_rng(3).standard_normal(leaf.size) + (3 if leaf.shape == () else 0)
    places = np.indices(leaf.shape).reshape(leaf.ndim, leaf.size)
    program = dp.defn(at_elements(function, number), backend=backend)
    found = dp.tree.leaves(program(tuple(dp.tree.map(dp.asarray, list(args))), tuple(places), elements)[0])
    loop = []
    for k, element in enumerate(elements):
        moved = leaf.copy()
        moved.reshape(-1)[k] = element
        changed = [moved if i == number else other for i, other in enumerate(leaves)]
        loop.append(dp.tree.leaves(function(*dp.tree.unflatten(structure, [dp.asarray(x) for x in changed]))))
    for f, e in zip(found, zip(*loop, strict=True), strict=True):
        expected = np.stack([np.asarray(x) for x in e])
        assert (f.shape, f.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(f, expected, rtol=1e-12, atol=1e-13)
    return program, (tuple(dp.tree.map(dp.asarray, list(args))), tuple(places), elements)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", CASES)
def test_against_a_loop(name: str, backend: str) -> None:
    function, args = CASES[name]
    for number, leaf in enumerate(dp.tree.leaves(args)):
        if np.asarray(leaf).dtype.kind == "f":
            compare(function, args, number, backend)


def test_a_net_computes_only_what_an_element_reaches() -> None:
    """No array of the graph holds the hidden layer, or a product with x, for every perturbation."""
    params = {"W1": RNG.standard_normal((30, 20)), "b1": np.zeros(20), "W2": np.ones((20, 5)), "b2": np.zeros(5)}
    x, t = RNG.standard_normal((50, 30)), np.zeros(50, int)
    program, call = compare(net, [params, x, t], 0, "reference")  # W1
    perturbations = len(call[2])
    graph = program.compile(*call).graph
    assert max(node.size for node in graph.nodes()) == perturbations * 50 * 5
    products = [node for node in graph.nodes() if node.op.name == "dot_general"]
    assert all(perturbations not in node.shape for node in products)
