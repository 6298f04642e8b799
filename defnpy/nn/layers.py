"""The layers: descriptions of pure functions, as ``layer.py`` says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import random, shapes
from ..array.statistics import mean
from ..array.windows import max_pool, mean_pool
from ..dtypes import float32
from ..errors import ConfigError, DefnpyError, ShapeError, TraceError
from ..ir.trace import aval_of
from ..ops.conv import conv
from ..ops.elementwise import sqrt, where
from ..ops.linear import reshape
from ..source import capture, quote
from .activations import identity
from .initializers import Initializer, glorot_uniform, ones, zeros
from .layer import Layer, described

__all__ = ["BatchNorm", "Conv", "Dense", "Dropout", "Flatten", "GlobalMeanPool", "MaxPool", "MeanPool"]

Activation = Callable[[Any], Any]
PerAxis = int | Sequence[int]


class Described(Layer):
    """A layer that prints as what makes it."""

    def __repr__(self) -> str:
        return described(self)

    def _freeze(self, *names: str) -> None:
        """Make tuples of the lists in these fields, so that the layer is hashable however it was written."""
        for name in names:
            object.__setattr__(self, name, _frozen(getattr(self, name)))

    def _fault(self, what: str, hint: str = "", error: type[DefnpyError] = ShapeError) -> DefnpyError:
        return error(f"{self!r}: {what}", where=quote(capture()), hint=hint)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, repr=False)
class Dense(Described):
    """activation(x @ weight + bias) for x of shape (..., inputs): (..., outputs).

    weight, bias: how they begin, see ``dp.nn.initializers``; ``bias=None`` leaves it out.
    params: ``{"weight": (inputs, outputs), "bias": (outputs,)}`` of ``dtype``.

    >>> import defnpy as dp
    >>> layer = dp.nn.Dense(3, 1, bias=None, weight=dp.nn.ones)
    >>> params, state = layer.init(dp.random.key(0))
    >>> params
    {'weight': Tensor([[1.],
            [1.],
            [1.]], dtype=float32)}
    >>> layer.apply(params, state, dp.asarray([1.0, 2.0, 3.0]))[0]
    Tensor([6.], dtype=float32)
    """

    inputs: int
    outputs: int
    activation: Activation = identity
    weight: Initializer = glorot_uniform
    bias: Initializer | None = zeros
    dtype: Any = float32

    def init(self, key: Any) -> tuple[Any, Any]:
        return _parameters(self, key, (self.inputs, self.outputs), self.outputs), ()

    def apply(self, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        aval = aval_of(x)
        if not aval.shape or aval.shape[-1] != self.inputs:
            flat = len(aval.shape) > 2 and math.prod(aval.shape[1:]) == self.inputs
            hint = "put dp.nn.Flatten() before it" if flat else ""
            raise self._fault(f"the last axis of x has {self.inputs} elements, and x is {aval}", hint)
        y = x @ params["weight"]
        return self.activation(y + params["bias"] if self.bias else y), state


@dataclass(frozen=True, repr=False)
class Conv(Described):
    """activation(conv(x, weight) + bias) for x of shape (N, inputs, *spatial): (N, outputs, *counts). See ``dp.conv``.

    window: the size of the kernel along every spatial axis; an int is a square, of two axes.
    params: ``{"weight": (outputs, inputs / groups, *window), "bias": (outputs,)}`` of ``dtype``.

    >>> import defnpy as dp
    >>> layer = dp.nn.Conv(1, 8, (5, 5), dp.relu, strides=2, padding=2)
    >>> params, state = layer.init(dp.random.key(0))
    >>> layer.apply(params, state, dp.ones((10, 1, 28, 28)))[0].shape
    (10, 8, 14, 14)
    """

    inputs: int
    outputs: int
    window: PerAxis
    activation: Activation = identity
    strides: PerAxis = 1
    padding: Any = 0
    dilation: PerAxis = 1
    groups: int = 1
    weight: Initializer = glorot_uniform
    bias: Initializer | None = zeros
    dtype: Any = float32

    def __post_init__(self) -> None:
        self._freeze("window", "strides", "padding", "dilation")
        if self.inputs % self.groups or self.outputs % self.groups:
            raise self._fault(f"{self.groups} groups share neither {self.inputs} nor {self.outputs} channels evenly")

    @property
    def _spatial(self) -> int:
        return 2 if isinstance(self.window, int) else len(self.window)

    def init(self, key: Any) -> tuple[Any, Any]:
        window = shapes.per_axis("window", self.window, self._spatial)
        return _parameters(self, key, (self.outputs, self.inputs // self.groups, *window), self.outputs), ()

    def apply(self, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        aval, count = aval_of(x), self._spatial
        if len(aval.shape) != 2 + count or aval.shape[1] != self.inputs:
            wanted = f"(batch, {self.inputs}, {', '.join(['size'] * count)})"
            hint = ""
            if len(aval.shape) == 1 + count:
                missing = "the batch: x[None]" if aval.shape[0] == self.inputs else "channels: x[:, None]"
                hint = f"add the axis of {missing}"
            elif len(aval.shape) == 2:
                hint = f"give the rows their form: dp.reshape(x, {wanted.replace('batch', '-1')})"
            raise self._fault(f"x has the shape {wanted}, and is {aval}", hint)
        y = conv(
            x,
            params["weight"],
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        if self.bias:
            y = y + reshape(params["bias"], shape=(1, self.outputs) + (1,) * count)
        return self.activation(y), state


def _parameters(layer: Dense | Conv, key: Any, shape: tuple[int, ...], outputs: int) -> dict[str, Any]:
    keys = random.split(key)
    params = {"weight": layer.weight(keys[0], shape, layer.dtype)}
    return {**params, "bias": layer.bias(keys[1], (outputs,), layer.dtype)} if layer.bias else params


@dataclass(frozen=True, repr=False)
class BatchNorm(Described):
    """Every feature with mean 0 and variance 1 over the batch, then times gamma, plus beta: Ioffe and Szegedy 2015.

    features: the size of ``axis``, along which features lie: 1 is that of (N, features) and of the channels of
    (N, features, *spatial). Mean and variance are taken over all other axes.
    train=True: those of the batch, and the running ones go on: momentum times the old plus (1 - momentum) times the
    new. train=False: the running ones. The variance is that of the examples, divided by their number, in both.
    eps is added to the variance.

    params: ``{"gamma": ones, "beta": zeros}``. state: ``{"mean": zeros, "var": ones}``.

    >>> import defnpy as dp
    >>> layer = dp.nn.BatchNorm(1, eps=0.0)
    >>> params, state = layer.init(None)
    >>> y, state = layer.apply(params, state, dp.asarray([[3.0], [7.0]]), train=True)
    >>> y.tolist(), state["mean"].tolist(), [round(v, 4) for v in state["var"].tolist()]
    ([[-1.0], [1.0]], [0.5], [1.3])
    """

    features: int
    axis: int = 1
    eps: float = 1e-5
    momentum: float = 0.9
    dtype: Any = float32

    def init(self, key: Any) -> tuple[Any, Any]:
        shape = (self.features,)
        params = {"gamma": ones(None, shape, self.dtype), "beta": zeros(None, shape, self.dtype)}
        return params, {"mean": zeros(None, shape, self.dtype), "var": ones(None, shape, self.dtype)}

    def apply(self, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        aval = aval_of(x)
        rank = len(aval.shape)
        axis = self.axis + rank if self.axis < 0 else self.axis
        if axis >= rank or aval.shape[axis] != self.features:
            raise self._fault(f"axis {self.axis} of x has {self.features} elements, and x is {aval}")
        shape = tuple(n if a == axis else 1 for a, n in enumerate(aval.shape))
        if train:
            axes = tuple(a for a in range(rank) if a != axis)
            if math.prod(aval.shape[a] for a in axes) == 1:
                raise self._fault(
                    f"one value per feature has no variance, and x is {aval}",
                    "train on batches of several examples; train=False for a single one",
                )
            centre = mean(x, axis=axes, keepdims=True)
            distance = x - centre
            spread = mean(distance * distance, axis=axes, keepdims=True)
            now = {"mean": reshape(centre, shape=(self.features,)), "var": reshape(spread, shape=(self.features,))}
            state = {name: self.momentum * state[name] + (1 - self.momentum) * now[name] for name in ("mean", "var")}
        else:
            distance, spread = x - reshape(state["mean"], shape=shape), reshape(state["var"], shape=shape)
        gamma, beta = reshape(params["gamma"], shape=shape), reshape(params["beta"], shape=shape)
        return distance * (gamma / sqrt(spread + self.eps)) + beta, state


@dataclass(frozen=True, repr=False)
class Dropout(Described):
    """train=True: every element is 0 with probability ``ratio`` and else divided by 1 - ratio; train=False: x itself.

    So the mean stays, and a trained net is used as it is. (The book's divides nothing while training and multiplies by
    1 - ratio afterwards.) The same key drops the same elements, so that a numerical gradient can be taken.

    >>> import defnpy as dp
    >>> y, _ = dp.nn.Dropout(0.5).apply((), (), dp.ones(8), key=dp.random.key(0), train=True)
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """

    ratio: float

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise self._fault("the ratio is from 0 to below 1", error=ConfigError)

    def apply(self, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        if not train or self.ratio == 0:
            return x, state
        if key is None:
            raise self._fault(
                "no key to draw from", "give apply a key: apply(params, state, x, key=key, train=True)", TraceError
            )
        aval = aval_of(x)
        kept = random.uniform(key, aval.shape, dtype=aval.dtype) >= self.ratio
        return where(kept, x * (1 / (1 - self.ratio)), 0), state

    def __call__(self, x: Any) -> Any:
        return x


@dataclass(frozen=True, repr=False)
class Flatten(Described):
    """All axes but the first become one: (N, ...) to (N, product).

    >>> import defnpy as dp
    >>> dp.nn.Flatten()(dp.ones((10, 3, 4, 4))).shape
    (10, 48)
    """

    def __call__(self, x: Any) -> Any:
        shape = aval_of(x).shape
        if not shape:
            raise self._fault(f"x has no axis of examples: it is {aval_of(x)}")
        return reshape(x, shape=(shape[0], math.prod(shape[1:])))


@dataclass(frozen=True, repr=False)
class _Pool(Described):
    """Windows over the spatial axes of (N, C, *spatial)."""

    window: PerAxis
    strides: PerAxis | None = None
    padding: Any = 0

    def __post_init__(self) -> None:
        self._freeze("window", "strides", "padding")


@dataclass(frozen=True, repr=False)
class MaxPool(_Pool):
    """The largest element of each window of (N, C, *spatial); windows lie side by side by default. See ``dp.max_pool``.

    >>> import defnpy as dp
    >>> dp.nn.MaxPool(2)(dp.ones((10, 3, 28, 28))).shape
    (10, 3, 14, 14)
    """

    def __call__(self, x: Any) -> Any:
        return max_pool(x, self.window, strides=self.strides, padding=self.padding)


@dataclass(frozen=True, repr=False)
class MeanPool(_Pool):
    """The average of each window of (N, C, *spatial); windows lie side by side by default. See ``dp.mean_pool``.

    >>> import defnpy as dp
    >>> dp.nn.MeanPool(2)(dp.ones((10, 3, 28, 28))).shape
    (10, 3, 14, 14)
    """

    def __call__(self, x: Any) -> Any:
        return mean_pool(x, self.window, strides=self.strides, padding=self.padding)


@dataclass(frozen=True, repr=False)
class GlobalMeanPool(Described):
    """The average over all spatial axes, which stay with size 1: (N, C, *spatial) to (N, C, 1, ...).

    >>> import defnpy as dp
    >>> dp.nn.GlobalMeanPool()(dp.ones((10, 32, 2, 2))).shape
    (10, 32, 1, 1)
    """

    def __call__(self, x: Any) -> Any:
        aval = aval_of(x)
        if len(aval.shape) < 3:
            raise self._fault(f"x has the shape (batch, channels, *spatial), and is {aval}")
        return mean(x, axis=tuple(range(2, len(aval.shape))), keepdims=True)
