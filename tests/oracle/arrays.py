"""Moving elements: indexing, updates, shapes, joining, products of many axes."""

from __future__ import annotations

import numpy

from .table import Entry, distinct, reals, together, whole

M, V, T = (3, 4), (4,), (2, 3, 4)


def conv_by_hand(np, x, w):
    """A correlation as windows that an index makes."""
    places = np.arange(4)[:, None] + np.arange(3)[None, :]
    return x[places] @ w


def bilinear(np, image, at):
    """The value of an image between its pixels."""
    low = np.astype(np.floor(np.stop_grad(at)), "int64")
    dy, dx = at[0] - low[0], at[1] - low[1]
    y, x = low[0], low[1]
    top = image[y, x] * (1 - dx) + image[y, x + 1] * dx
    return top * (1 - dy) + (image[y + 1, x] * (1 - dx) + image[y + 1, x + 1] * dx) * dy


def segment_sum(np, x, owner):
    return np.zeros((3, 4), dtype="float64").at[owner].add(x**2)


def message_passing(np, nodes, w, source, target):
    """One round over the edges of a graph."""
    messages = np.tanh(nodes[source] @ w)
    return nodes + np.zeros((3, 4), dtype="float64").at[target].add(messages)


def pairwise_distances(np, x):
    difference = x[:, None, :] - x[None, :, :]
    return np.sqrt(np.sum(difference**2, axis=-1) + 1e-3)


def polynomial(np, c, x):
    return np.sum(c * x[:, None] ** np.arange(4), axis=1)


def toeplitz(np, c):
    return c[np.abs(np.arange(4)[:, None] - np.arange(4)[None, :])]


EDGES = together(reals(M), reals((4, 4)), whole(3, 5), whole(3, 5))

ENTRIES = [
    Entry("slices", lambda np, x: x[1:, ::2] * x[:-1, 1::2], reals(M)),
    Entry("slices backwards", lambda np, x: x[::-1, ::-2] * x[:, :2], reals(M)),
    Entry("an element", lambda np, x: x[1, -1] ** 3 * x[0, 0], reals(M)),
    Entry("new axes", lambda np, x: x[:, None, :] * x[None, :, :], reals(M)),
    Entry("dots", lambda np, x: x[..., 1] * x[:, 0, ..., 2:3], reals(T)),
    Entry("rows by number", lambda np, x, i: x[i] ** 2, together(reals(M), whole(3, 5))),
    Entry("pairs of numbers", lambda np, x, i, j: x[i, j] ** 3, together(reals(M), whole(3, 5), whole(4, 5))),
    Entry("numbers from the end", lambda np, x: x[np.asarray([-1, 0, -1])] ** 2, reals(M)),
    Entry("a table of numbers", lambda np, x, i: x[:, i] ** 2, together(reals(M), whole(4, 2, 2))),
    Entry("take", lambda np, x, i: np.take(x, i, axis=1) ** 2, together(reals(M), whole(4, 3))),
    Entry(
        "take_along_axis",
        lambda np, x, i: np.take_along_axis(x, i, axis=1) ** 2,
        together(reals(M), whole(4, 3, 2)),
    ),
    Entry("set a row", lambda np, x, v: x.at[1].set(v**2) * x, reals(M, V)),
    Entry("set by number", lambda np, x, v: x.at[:, np.asarray([2, 0])].set(v) ** 2, reals(M, (3, 2))),
    Entry("add a block", lambda np, x, v: x.at[1:, :2].add(v * x[1:, :2]) ** 2, reals(M, (2, 2))),
    Entry("add where numbers repeat", lambda np, x, v, i: x.at[i].add(v) ** 2, together(reals(M, (5, 4)), whole(3, 5))),
    Entry("segment sums", segment_sum, together(reals((5, 4)), whole(3, 5))),
    Entry("message passing", message_passing, EDGES),
    Entry("an embedding", lambda np, w, i: np.mean(w[i], axis=0) ** 2, together(reals((5, 3)), whole(5, 4))),
    Entry("one_hot", lambda np, w, i: np.one_hot(i, 5, dtype="float64") @ w**2, together(reals((5, 3)), whole(5, 4))),
    Entry("reshape and transpose", lambda np, x: np.reshape(x.T, (2, 6)) ** 2, reals(M)),
    Entry("permute_dims", lambda np, x: np.permute_dims(x, (2, 0, 1)) ** 3, reals(T)),
    Entry("moveaxis", lambda np, x: np.moveaxis(x, 0, -1) * np.arange(2.0), reals(T)),
    Entry("swapaxes", lambda np, x: np.swapaxes(x, 0, 1) ** 2, reals(M)),
    Entry("expand and squeeze", lambda np, x: np.squeeze(np.expand_dims(x, 1) ** 2, 1) * x, reals(M)),
    Entry("broadcast_to", lambda np, x: np.broadcast_to(x, (3, 4)) * np.arange(3.0)[:, None], reals(V)),
    Entry("concat", lambda np, x, y: np.concat([x, y * x[:1], x**2], axis=0) ** 2, reals(M, (2, 4))),
    Entry("stack", lambda np, x, y: np.stack([x * y, y, x], axis=1) ** 2, reals(V, V)),
    Entry("split", lambda np, x: tuple(part**2 for part in np.split(x, 2, axis=1)), reals(M)),
    Entry("unstack", lambda np, x: np.unstack(x, axis=0)[0] * np.unstack(x, axis=0)[2], reals(M)),
    Entry("tile", lambda np, x: np.tile(x, (2, 3)) ** 2, reals((2, 2))),
    Entry("repeat", lambda np, x: np.repeat(x, 3, axis=1) ** 2, reals((2, 2))),
    Entry("roll", lambda np, x: np.roll(x, 1, axis=0) * np.roll(x, (1, -2), axis=(0, 1)), reals(M)),
    Entry("flip", lambda np, x: np.flip(x, axis=1) * x, reals(M)),
    Entry("pad", lambda np, x: np.pad(x, low=1, high=(0, 2), interior=1, value=2.0) ** 2, reals((2, 3))),
    Entry("tril and triu", lambda np, x: np.tril(x, k=-1) @ np.triu(x, k=1), reals((4, 4))),
    Entry("diag", lambda np, x: np.diag(x, k=1) ** 2, reals((3,))),
    Entry("the diagonal", lambda np, x: np.diag(x, k=-1) ** 2, reals((4, 3))),
    Entry("meshgrid", lambda np, x, y: np.meshgrid(x, y)[0] ** 2 * np.meshgrid(x, y)[1], reals((3,), V)),
    Entry("arange times a value", lambda np, x: np.sin(np.arange(4.0) * x), reals(())),
    Entry("windows by number", conv_by_hand, reals((6,), (3,))),
    Entry("bilinear interpolation", bilinear, lambda rng: [rng.uniform(-1, 1, M), rng.uniform(0.1, 1.9, 2)]),
    Entry("pairwise distances", pairwise_distances, distinct(4, 3)),
    Entry("a polynomial", polynomial, reals((4,), (3,))),
    Entry("a Toeplitz matrix", toeplitz, reals((4,))),
    Entry("a finite difference", lambda np, x: (np.roll(x, -1) - 2 * x + np.roll(x, 1)) * x, reals((6,))),
    Entry("dot", lambda np, x, y: np.dot(x, y) ** 2, reals(V, V)),
    Entry("matmul", lambda np, x, y: np.matmul(x, y) ** 2, reals(M, (4, 2))),
    Entry("matmul of stacks", lambda np, x, y: x @ y, reals(T, (4, 2))),
    Entry("a vector from the left", lambda np, x, y: (x @ y) ** 2, reals((3,), T)),
    Entry("outer", lambda np, x, y: np.outer(x, y) ** 2, reals((3,), V)),
    Entry("vecdot", lambda np, x, y: np.vecdot(x, y) ** 2, reals(M, V)),
    Entry("tensordot", lambda np, x, y: np.tensordot(x, y, axes=((1, 2), (1, 0))) ** 2, reals(T, (4, 3))),
    Entry("einsum of two", lambda np, x, y: np.einsum("bij,bkj->bik", x, y), reals(T, (2, 2, 4))),
    Entry("einsum of three", lambda np, x, a, y: np.einsum("ni,ij,nj->n", x, a, y), reals((2, 3), M, (2, 4))),
    Entry("einsum on the diagonal", lambda np, x: np.einsum("ii->i", x) * np.einsum("ii", x), reals((3, 3))),
    Entry(
        "masks",
        lambda np, x: x * np.asarray(numpy.tri(3, 4)) + np.where(np.asarray(numpy.eye(3, 4) > 0), x**2, 0.0),
        reals(M),
    ),
]
