"""Iterations written as Python loops, which a trace unrolls, and as control flow."""

from __future__ import annotations

from .table import Entry, positive, reals


def newton_root(np, a):
    x = a
    for _ in range(5):
        x = 0.5 * (x + a / x)
    return x


def logistic_map(np, r):
    x = 0.4
    for _ in range(6):
        x = r * x * (1 - x)
    return x


def horner(np, c, x):
    total = 0.0 * x
    for i in range(4):
        total = total * x + c[i]
    return total


def euler(np, y, k):
    for _ in range(6):
        y = y + 0.1 * (k @ np.sin(y))
    return y


def runge_kutta(np, y, rates):
    """Predators and prey."""

    def slope(y):
        return np.stack([y[0] * (rates[0] - rates[1] * y[1]), y[1] * (rates[2] * y[0] - rates[3])])

    for _ in range(3):
        a = slope(y)
        b = slope(y + 0.05 * a)
        c = slope(y + 0.05 * b)
        d = slope(y + 0.1 * c)
        y = y + 0.1 / 6 * (a + 2 * b + 2 * c + d)
    return y


def heat(np, u, rate):
    for _ in range(4):
        u = u + rate * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
    return u


def continued_fraction(np, x):
    y = x
    for _ in range(6):
        y = x + 1 / (y + 2.0)
    return y


def gradient_descent(np, x, rate):
    """Three steps downhill, differentiated through them."""
    for _ in range(3):
        x = x - rate * (4 * x**3 - 2 * x)
    return x


def power_of_two_steps(np, x):
    for step in (1, 2, 4):
        x = x + np.roll(x, step) * 0.5
    return x**2


ENTRIES = [
    Entry("a root by Newton's method", newton_root, positive((3,))),
    Entry("the logistic map", logistic_map, reals((3,), low=1.0, high=3.0)),
    Entry("Horner's rule", horner, reals((4,), (3,))),
    Entry("Euler's method", euler, reals((3,), (3, 3))),
    Entry("predators and prey", runge_kutta, positive((2,), (4,))),
    Entry("heat", heat, reals((5,), ())),
    Entry("a continued fraction", continued_fraction, positive((3,))),
    Entry("through gradient descent", gradient_descent, reals((3,), (), low=0.1, high=0.5)),
    Entry("a prefix of shifts", power_of_two_steps, reals((8,))),
]
