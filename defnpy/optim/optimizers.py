"""The six optimizers of chapter 6 of "Deep Learning from Scratch", each a pair of pure functions.

``init(params) -> state`` and ``update(params, grads, state) -> (params, state)``, where parameters, gradient and state
are containers of tensors. Nothing is kept between calls, so a step that uses an optimizer may be compiled, donated,
repeated and saved like any other function.

An optimizer is itself a container with one leaf, the learning rate: given to a ``@defn`` function as an argument it is
traced, and another rate compiles nothing. The other numbers are static. A rate may also be computed, as a schedule
does: ``dataclasses.replace(optimizer, lr=rate)``.

Parameters are floats; functions, strings and booleans among them have no gradient and are carried along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import tree
from ..array.creation import asarray, zeros_like
from ..dtypes import DEFAULT_INT, float64
from ..errors import DTypeError
from ..ir.trace import aval_of
from ..ops.convert import cast
from ..ops.elementwise import sqrt
from ..source import capture, quote
from ..transforms.stage import is_tensor

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop"]

Tree = Any  # a container of tensors
EPSILON = 1e-7  # the book's, added to a root: no division by zero


@tree.register_dataclass
@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: p - lr g.

    >>> import defnpy as dp
    >>> optimizer = dp.optim.SGD(lr=0.5)
    >>> params, grads = {"w": dp.asarray([1.0, 2.0])}, {"w": dp.asarray([1.0, -1.0])}
    >>> state = optimizer.init(params)
    >>> params, state = optimizer.update(params, grads, state)
    >>> params
    {'w': Tensor([0.5, 2.5], dtype=float32)}
    """

    lr: Any = 0.01

    def init(self, params: Tree) -> Tree:
        """An empty state."""
        _refuse_integers(params)
        return {}

    def update(self, params: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree]:
        """New parameters and the state, in the dtypes of the old ones."""
        return tree.map(lambda p, g: p - _like(self.lr, p) * g, params, grads), state


@tree.register_dataclass
@dataclass(frozen=True)
class Momentum:
    """Descent with a velocity, of which every step keeps a part (Polyak 1964): v = momentum v - lr g, p + v.

    >>> import defnpy as dp
    >>> optimizer = dp.optim.Momentum(lr=0.5)
    >>> p, state = dp.asarray(1.0), optimizer.init(dp.asarray(1.0))
    >>> for _ in range(2):
    ...     p, state = optimizer.update(p, dp.asarray(1.0), state)
    >>> round(p.item(), 4), round(state["velocity"].item(), 4)
    (-0.45, -0.95)
    """

    lr: Any = 0.01
    momentum: float = tree.static(default=0.9)

    def init(self, params: Tree) -> Tree:
        """No velocity: ``{"velocity": zeros}``."""
        return {"velocity": _zeros(params)}

    def update(self, params: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree]:
        """New parameters and velocity, in the dtypes of the old ones."""
        v = tree.map(lambda v, g: self.momentum * v - _like(self.lr, v) * g, state["velocity"], grads)
        return tree.map(lambda p, v: p + v, params, v), {"velocity": v}


@tree.register_dataclass
@dataclass(frozen=True)
class Nesterov:
    """Momentum that takes the gradient where the velocity leads, rearranged so that it is taken at the parameters.

    p + momentum² v - (1 + momentum) lr g, then v = momentum v - lr g, the form of Bengio and others,
    https://arxiv.org/abs/1212.0901. The book's code has had it since 2021; what it had before was no Nesterov step.

    >>> import defnpy as dp
    >>> optimizer = dp.optim.Nesterov(lr=0.5)
    >>> p, state = optimizer.update(dp.asarray(1.0), dp.asarray(1.0), optimizer.init(dp.asarray(1.0)))
    >>> round(p.item(), 4)
    0.05
    """

    lr: Any = 0.01
    momentum: float = tree.static(default=0.9)

    def init(self, params: Tree) -> Tree:
        """No velocity: ``{"velocity": zeros}``."""
        return {"velocity": _zeros(params)}

    def update(self, params: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree]:
        """New parameters and velocity, in the dtypes of the old ones."""
        mu, v = self.momentum, state["velocity"]
        params = tree.map(lambda p, g, v: p + mu * mu * v - (1 + mu) * _like(self.lr, p) * g, params, grads, v)
        return params, {"velocity": tree.map(lambda v, g: mu * v - _like(self.lr, v) * g, v, grads)}


@tree.register_dataclass
@dataclass(frozen=True)
class AdaGrad:
    """Steps that shrink where gradients have been large (Duchi and others 2011): h + g², p - lr g / (sqrt(h) + eps).

    >>> import defnpy as dp
    >>> optimizer = dp.optim.AdaGrad(lr=0.5)
    >>> p, state = dp.asarray(1.0), optimizer.init(dp.asarray(1.0))
    >>> p, state = optimizer.update(p, dp.asarray(-4.0), state)
    >>> round(p.item(), 4), state["squares"].item()
    (1.5, 16.0)
    """

    lr: Any = 0.01
    eps: float = tree.static(default=EPSILON)

    def init(self, params: Tree) -> Tree:
        """``{"squares": zeros}``, the sum of squared gradients."""
        return {"squares": _zeros(params)}

    def update(self, params: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree]:
        """New parameters and sums, in the dtypes of the old ones."""
        h = tree.map(lambda h, g: h + g * g, state["squares"], grads)
        return _scaled(params, grads, h, self.lr, self.eps), {"squares": h}


@tree.register_dataclass
@dataclass(frozen=True)
class RMSprop:
    """AdaGrad that forgets (Tieleman and Hinton 2012): h = decay h + (1 - decay) g², p - lr g / (sqrt(h) + eps).

    The first average is not corrected for its start at 0, so that the first step is lr / sqrt(1 - decay) long.

    >>> import defnpy as dp
    >>> optimizer = dp.optim.RMSprop(lr=0.1)
    >>> p, state = optimizer.update(dp.asarray(0.0), dp.asarray(-4.0), optimizer.init(dp.asarray(0.0)))
    >>> round(p.item(), 4)
    1.0
    """

    lr: Any = 0.01
    decay: float = tree.static(default=0.99)
    eps: float = tree.static(default=EPSILON)

    def init(self, params: Tree) -> Tree:
        """``{"squares": zeros}``, the moving average of squared gradients."""
        return {"squares": _zeros(params)}

    def update(self, params: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree]:
        """New parameters and averages, in the dtypes of the old ones."""
        h = tree.map(lambda h, g: self.decay * h + (1 - self.decay) * (g * g), state["squares"], grads)
        return _scaled(params, grads, h, self.lr, self.eps), {"squares": h}


@tree.register_dataclass
@dataclass(frozen=True)
class Adam:
    """Steps along the mean gradient, measured in its own size: Kingma and Ba, https://arxiv.org/abs/1412.6980.

    m += (1 - beta1) (g - m), v += (1 - beta2) (g² - v), and p - lr c m / (sqrt(v) + eps), where the correction
    c = sqrt(1 - beta2ᵗ) / (1 - beta1ᵗ) makes up for averages that start at 0: the form of the article's section 2, and
    the book's. Its eps is compared with sqrt(v) as it is, not with the corrected one as in algorithm 1.

    >>> import defnpy as dp
    >>> optimizer = dp.optim.Adam(lr=0.1)
    >>> p, state = optimizer.update(dp.asarray(1.0), dp.asarray(-4.0), optimizer.init(dp.asarray(1.0)))
    >>> round(p.item(), 4), state["count"].item()
    (1.1, 1)
    """

    lr: Any = 0.001
    beta1: float = tree.static(default=0.9)
    beta2: float = tree.static(default=0.999)
    eps: float = tree.static(default=EPSILON)

    def init(self, params: Tree) -> Tree:
        """``{"count": 0, "first": zeros, "second": zeros}``: updates made, averages of the gradient and its square."""
        return {"count": asarray(0, dtype=DEFAULT_INT), "first": _zeros(params), "second": _zeros(params)}

    def update(self, params: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree]:
        """New parameters and averages, in the dtypes of the old ones."""
        beta1, beta2, count = self.beta1, self.beta2, state["count"] + 1
        m = tree.map(lambda m, g: m + (1 - beta1) * (g - m), state["first"], grads)
        v = tree.map(lambda v, g: v + (1 - beta2) * (g * g - v), state["second"], grads)
        # In float32 0.999 is rounded by 1e-8, which is 1e-5 of its distance from 1.
        t = cast(count, float64)
        rate = cast(self.lr, float64) * sqrt(1 - beta2**t) / (1 - beta1**t)
        return _scaled(params, m, v, rate, self.eps), {"count": count, "first": m, "second": v}


def _scaled(params: Tree, grads: Tree, squares: Tree, rate: Any, eps: float) -> Tree:
    return tree.map(lambda p, g, h: p - _like(rate, p) * g / (sqrt(h) + eps), params, grads, squares)


def _like(number: Any, x: Any) -> Any:
    """A number in the dtype of x: it must not widen what it is multiplied with, whatever it was made of."""
    return cast(number, aval_of(x).dtype)


def _refuse_integers(params: Tree) -> None:
    for path, leaf in zip(tree.paths(params, "params"), tree.leaves(params), strict=True):
        if is_tensor(leaf) and aval_of(leaf).dtype.kind in "iu":
            raise DTypeError(
                f"{path} is {aval_of(leaf)}: an optimizer moves floats",
                where=quote(capture()),
                hint="make it a float, with dp.astype(x, 'float32'), or keep it out of the parameters",
            )


def _zeros(params: Tree) -> Tree:
    """Zeros in the form of the parameters; None for functions, strings and booleans, as in a gradient."""
    _refuse_integers(params)
    return tree.map(lambda p: zeros_like(p) if is_tensor(p) and aval_of(p).dtype.kind == "f" else None, params)
