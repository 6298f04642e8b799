"""Iterations written as Python loops, which a trace unrolls, and as control flow."""

from __future__ import annotations

from .table import Entry, positive, reals, together, whole


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

    for _ in range(2):
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


def scanned_recurrent(np, xs, w, u):
    def step(h, x):
        h = np.tanh(x @ w + h @ u)
        return h, np.sum(h**2)

    return np.scan(step, np.zeros((3,), dtype="float64"), xs)


def filtered(np, xs, rate):
    """An exponential average, from the end."""

    def step(mean, x):
        mean = rate * mean + (1 - rate) * x
        return mean, mean

    return np.scan(step, 0.0 * xs[0], xs, reverse=True)[1]


def scan_of_pairs(np, xs, ys):
    def step(carry, pair):
        a, b = carry
        x, y = pair
        return (a * np.cos(x), b + a * y), (a - b, a * b)

    return np.scan(step, (xs[0], ys[0]), (xs, ys))[1]


def scan_in_scan(np, x, w):
    """A net of several layers, again and again."""

    def layer(h, w):
        return np.tanh(w @ h), None

    def round(h, _):
        h, _ = np.scan(layer, h, w)
        return h, h[0]

    return np.scan(round, x, np.arange(3))


def fori_power(np, x):
    return np.fori_loop(0, 5, lambda i, y: y * x + np.sin(y), x)


def fori_with_index(np, x):
    return np.fori_loop(1, 5, lambda i, y: y + x**2 / i, 0.0 * x)


def while_newton(np, a):
    """The steps that an accuracy takes: how many depends on the values."""

    def far(state):
        return np.max(np.abs(state**2 - a)) > 1e-9

    return np.while_loop(far, lambda x: 0.5 * (x + a / x), a)


def while_count(np, x):
    """Doubled until it is large, with the number of doublings."""

    def go(state):
        return np.sum(state[0] ** 2) < 200.0

    value, count = np.while_loop(go, lambda s: (s[0] * 2.0, s[1] + 1), (x, 0))
    return value, value * count


def while_fixed_point(np, a):
    """cos(a x) = x, by iteration."""

    def step(state):
        x, _ = state
        return np.cos(a * x), x

    return np.while_loop(lambda s: np.max(np.abs(s[0] - s[1])) > 1e-9, step, (np.cos(a), 0.0 * a))[0]


def branches(np, x):
    return np.cond(np.sum(x) > 0, lambda x: np.sin(x) * x, lambda x: x**3, x)


def captured_branches(np, x, y):
    """The branches use what stands outside."""
    return np.cond(x[0] > y[0], lambda v: v * y, lambda v: v + np.exp(x), x)


def nested_branches(np, x):
    def positive(x):
        return np.cond(x[0] > 1, lambda x: x**2, lambda x: np.log(1 + x**2), x)

    return np.cond(x[0] > 0, positive, lambda x: -x, x)


def switched(np, x, i):
    return np.switch(i, [lambda x: np.sin(x), lambda x: x**2, lambda x: np.exp(-x)], x)


def mapped(np, xs, w):
    return np.map(lambda x: np.sum(np.tanh(w @ x)) * x, xs)


def branch_in_scan(np, xs):
    def step(total, x):
        total = np.cond(x > 0, lambda t: t * x, lambda t: t - x**2, total)
        return total, total

    return np.scan(step, xs[0] ** 2, xs)


def scan_gradient(np, xs):
    """The gradient of a loop is a loop: its third derivative is the Hessian of this."""

    def step(y, x):
        return np.sin(y) * x, y

    return np.scan(step, xs[0], xs)[0] ** 3


def scanned_ode(np, y, k):
    """A pendulum by the symplectic Euler method."""

    def step(state, _):
        angle, speed = state
        speed = speed - 0.1 * k * np.sin(angle)
        return (angle + 0.1 * speed, speed), angle

    return np.scan(step, (y[0], y[1]), np.arange(8))[1]


def viterbi_like(np, scores, moves):
    """The logarithm of a sum over paths: the forward algorithm."""

    def step(alpha, score):
        return np.logsumexp(alpha[:, None] + moves, axis=0) + score, None

    return np.logsumexp(np.scan(step, scores[0], scores[1:])[0])


def associative_products(np, xs):
    """All leading products of matrices."""
    return np.associative_scan(lambda a, b: a @ b, xs)


def associative_recurrence(np, a, b):
    """h[k] = a[k] h[k-1] + b[k], from the end, of pairs."""

    def both(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    return np.associative_scan(both, (a, b), reverse=True)[1]


def checkpointed(np, x, w):
    """A layer whose inner values are computed again on the way back, in a scan."""
    layer = np.checkpoint(lambda h, w: np.tanh(w @ np.sin(h)))
    return np.scan(lambda h, w: (layer(h, w), None), x, w)[0]


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
    Entry("a scanned recurrent net", scanned_recurrent, reals((4, 2), (2, 3), (3, 3))),
    Entry("a scan from the end", filtered, together(reals((5, 2)), reals((), low=0.2, high=0.8))),
    Entry("a scan of pairs", scan_of_pairs, reals((4,), (4,))),
    Entry("a scan in a scan", scan_in_scan, reals((2,), (2, 2, 2))),
    Entry("a fori_loop", fori_power, reals((3,), low=-1, high=1)),
    Entry("a fori_loop that counts", fori_with_index, reals((3,))),
    Entry("a while_loop to an accuracy", while_newton, positive((3,))),
    Entry("a while_loop that counts", while_count, positive((2,))),
    Entry("a fixed point", while_fixed_point, reals((3,), low=0.2, high=0.6)),
    Entry("branches", branches, reals((3,))),
    Entry("branches that capture", captured_branches, reals((3,), (3,))),
    Entry("branches in branches", nested_branches, reals((3,))),
    Entry("a switch", switched, together(reals((3,)), whole(3))),
    Entry("a map", mapped, reals((3, 2), (4, 2))),
    Entry("a branch in a scan", branch_in_scan, reals((5,))),
    Entry("high derivatives of a scan", scan_gradient, reals((4,))),
    Entry("a pendulum", scanned_ode, reals((2,), ())),
    Entry("a sum over paths", viterbi_like, reals((4, 3), (3, 3))),
    Entry("leading products", associative_products, reals((4, 2, 2))),
    Entry("a recurrence by pairs", associative_recurrence, reals((5,), (5,))),
    Entry("a checkpoint in a scan", checkpointed, reals((2,), (3, 2, 2))),
]
