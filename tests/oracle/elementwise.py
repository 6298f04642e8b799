"""Elementwise functions, and the classical test functions of optimization, which are made of them."""

from __future__ import annotations

import math

from .table import Entry, distinct, positive, reals, together, whole

M, V = (3, 4), (4,)
INSIDE = reals(M, low=-0.9, high=0.9)


def rosenbrock(np, x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def ackley(np, x):
    wave = np.exp(np.mean(np.cos(2 * math.pi * x)))
    return -20.0 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - wave + 20.0 + math.e


def levy(np, x):
    w = 1 + (x - 1) / 4
    first = np.sin(math.pi * w[0]) ** 2
    middle = np.sum((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2))
    return first + middle + (w[-1] - 1) ** 2 * (1 + np.sin(2 * math.pi * w[-1]) ** 2)


def griewank(np, x):
    return 1 + np.sum(x**2) / 4000 - np.prod(np.cos(x / np.sqrt(np.arange(1.0, 5.0, dtype="float64"))))


def beale(np, x):
    a, b = x[0], x[1]
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def himmelblau(np, x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


ENTRIES = [
    Entry("exp", lambda np, x: np.exp(x), reals(M)),
    Entry("expm1", lambda np, x: np.expm1(x), reals(M)),
    Entry("exp2", lambda np, x: np.exp2(x), reals(M)),
    Entry("log", lambda np, x: np.log(x), positive(M)),
    Entry("log1p", lambda np, x: np.log1p(x), INSIDE),
    Entry("log2 and log10", lambda np, x: np.log2(x) * np.log10(x), positive(M)),
    Entry("sqrt", lambda np, x: np.sqrt(x), positive(M)),
    Entry("reciprocal", lambda np, x: np.reciprocal(x), positive(M)),
    Entry("square and abs", lambda np, x: np.square(x) * np.abs(x), reals(M)),
    Entry("sin and cos", lambda np, x: np.sin(x) * np.cos(2 * x), reals(M)),
    Entry("tan", lambda np, x: np.tan(x), INSIDE),
    Entry("asin", lambda np, x: np.asin(x), INSIDE),
    Entry("acos", lambda np, x: np.acos(x), INSIDE),
    Entry("atan", lambda np, x: np.atan(x), reals(M)),
    Entry("sinh and cosh", lambda np, x: np.sinh(x) / np.cosh(x), reals(M)),
    Entry("tanh", lambda np, x: np.tanh(x), reals(M)),
    Entry("asinh", lambda np, x: np.asinh(x), reals(M)),
    Entry("acosh", lambda np, x: np.acosh(x + 1.0), positive(M)),
    Entry("atanh", lambda np, x: np.atanh(x), INSIDE),
    Entry("sigmoid", lambda np, x: np.sigmoid(x), reals(M, low=-20, high=20)),
    Entry("softplus", lambda np, x: np.softplus(x), reals(M, low=-20, high=20)),
    Entry("relu", lambda np, x: np.relu(x) ** 2 + np.relu(x), reals(M)),
    Entry("erf and erfc", lambda np, x: np.erf(x) + np.erfc(x) ** 2, reals(M)),
    Entry("erfinv", lambda np, x: np.erfinv(x), INSIDE),
    Entry("rounding is flat", lambda np, x: x * (np.floor(x) + np.ceil(x) + np.round(x) + np.sign(x)), reals(M)),
    Entry("arithmetic that broadcasts", lambda np, x, y, z: (x + y) * z - x / (z + 5.0), reals(M, V, ())),
    Entry("one operand twice", lambda np, x: x * x + x / (x * x + 1.0) - x, reals(M)),
    Entry("powers of floats", lambda np, x, y: x**y, together(positive(M), reals(V))),
    Entry("powers of integers", lambda np, x: x**3 - 2 * x**2 + x ** (-1), positive(M)),
    Entry("a power of a constant", lambda np, x: 2.0**x, reals(M)),
    Entry("atan2", lambda np, x, y: np.atan2(x, y), reals(M, M)),
    Entry("hypot", lambda np, x, y: np.hypot(x, y), reals(M, V)),
    Entry("logaddexp", lambda np, x, y: np.logaddexp(x, y), reals(M, V)),
    Entry("maximum and minimum", lambda np, x: np.maximum(x[0], x[1]) * np.minimum(x[0], 2 * x[1]), distinct(2, 3, 4)),
    Entry("remainder", lambda np, x, y: np.remainder(x, y) * x, together(reals(M), positive(V))),
    Entry("clip", lambda np, x: np.clip(x, -1.0, 0.5) ** 2, reals(M)),
    Entry("where", lambda np, x, y: np.where(x > y, x * y, x - y**2), reals(M, V)),
    Entry("a masked logarithm", lambda np, x: np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), x), reals(M)),
    Entry("a comparison as a number", lambda np, x: np.astype(x > 0.1, "float64") * x**2, reals(M)),
    Entry("integers beside floats", lambda np, x, n: x * n + x**n, together(positive(M), whole(4, 3, 4))),
    Entry("stopped gradients", lambda np, x: x * np.stop_grad(x * x) + np.stop_grad(x), reals(M)),
    Entry("an unused argument", lambda np, x, y: np.sin(x), reals(M, V)),
    Entry("a constant function", lambda np, x: np.zeros((2,), dtype="float64") + 3.0, reals(M)),
    Entry("rosenbrock", rosenbrock, reals((5,))),
    Entry("rastrigin", lambda np, x: 10.0 * 5 + np.sum(x**2 - 10.0 * np.cos(2 * math.pi * x)), reals((5,))),
    Entry("ackley", ackley, reals((4,))),
    Entry("levy", levy, reals((4,))),
    Entry("griewank", griewank, reals((4,))),
    Entry("beale", beale, reals((2,))),
    Entry("himmelblau", himmelblau, reals((2,))),
    Entry("styblinski and tang", lambda np, x: np.sum(x**4 - 16 * x**2 + 5 * x) / 2, reals((5,))),
]
