"""What a layer is, and how layers are put together.

A layer is a description: sizes and functions, no tensors. Two pure functions belong to it,

    init(key) -> (params, state)
    apply(params, state, x, *, key=None, train=False) -> (y, state)

where ``params`` is what training moves and ``state`` what a pass through the net may change (running statistics); both
are containers of tensors, often empty. ``train`` is a Python bool; ``key`` is for layers that draw random numbers.

Any callable is a layer too, of a function ``x -> y``. One that is a container of tensors, a dataclass made known with
``dp.tree.register_dataclass`` for one, is its own parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from .. import random, tree
from ..errors import DefnpyError, TreeError
from ..source import capture, quote

__all__ = ["Bound", "Chain", "Layer"]


class Layer:
    """The base of all layers, and whole for those without parameters: they need ``__call__`` alone.

    >>> import defnpy as dp
    >>> class Double(dp.nn.Layer):
    ...     def __call__(self, x):
    ...         return 2 * x
    >>> Double().apply((), (), 4)
    (8, ())
    """

    def init(self, key: Any) -> tuple[Any, Any]:
        """``(params, state)``; the key decides the random ones."""
        return (), ()

    def apply(self, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        """``(y, state)``: the output for an input, and the new state."""
        return self(x), state

    def bind(self, params: Any, state: Any = ()) -> Bound:
        """The layer with its parameters, as a function of x."""
        return Bound(self, params, state)

    def __call__(self, x: Any) -> Any:
        raise TreeError(
            f"{self!r} is called without its parameters",
            where=quote(capture()),
            hint="y, state = layer.apply(params, state, x), or layer.bind(params, state)(x)",
        )


@tree.register_dataclass
@dataclass(frozen=True)
class Bound:
    """A layer with its parameters and its state: a function of x, as the net is used after training.

    It is a container, so that it can be an argument of a ``@defn`` function, be differentiated and be a layer itself.

    >>> import defnpy as dp
    >>> layer = dp.nn.Dense(3, 2, weight=dp.nn.ones)
    >>> model = layer.bind(*layer.init(dp.random.key(0)))
    >>> model(dp.ones(3))
    Tensor([3., 3.], dtype=float32)
    """

    layer: Any = tree.static()  # noqa: RUF009 (it makes a field)
    params: Any = ()
    state: Any = ()

    def __call__(self, x: Any) -> Any:
        return self.layer.apply(self.params, self.state, x)[0]


class Function(Layer):
    """Any callable as a layer. A container of tensors is its own parameters."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        leaves = tree.leaves(function)
        self._own = not (len(leaves) == 1 and leaves[0] is function)

    def init(self, key: Any) -> tuple[Any, Any]:
        return (self.function if self._own else ()), ()

    def apply(self, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        return (params if self._own else self.function)(x), state

    def __call__(self, x: Any) -> Any:
        return self.function(x)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Function) and self.function is other.function

    def __hash__(self) -> int:
        return id(self.function)

    def __repr__(self) -> str:
        return name_of(self.function)


class Chain(Layer):
    """Layers one after the other, any callable among them. Parameters and state are tuples with an entry per layer.

    A chain of functions alone may be called as it is.

    >>> import defnpy as dp
    >>> dp.nn.Chain(lambda x: x**2, lambda x: x + 1)(5)
    26
    >>> net = dp.nn.Chain(dp.nn.Dense(4, 3, dp.tanh), dp.nn.Dense(3, 2), dp.softmax)
    >>> params, state = net.init(dp.random.key(0))
    >>> y, state = net.apply(params, state, dp.ones((5, 4)))
    >>> y.shape, [round(p, 4) for p in dp.sum(y, axis=1).tolist()]
    ((5, 2), [1.0, 1.0, 1.0, 1.0, 1.0])

    Errors tell which layer they come from; layers are counted from 0.
    """

    def __init__(self, *layers: Any) -> None:
        for number, layer in enumerate(layers):
            if not callable(layer):
                raise TreeError(f"Chain: layer {number} is no layer: {layer!r}", where=quote(capture()))
        self.layers = tuple(layer if isinstance(layer, Layer) else Function(layer) for layer in layers)

    def init(self, key: Any) -> tuple[Any, Any]:
        keys = random.split(key, len(self.layers))
        made = [layer.init(keys[number]) for number, layer in enumerate(self.layers)]
        return tuple(params for params, _ in made), tuple(state for _, state in made)

    def apply(self, params: Any, state: Any, x: Any, *, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        for name, given in (("params", params), ("state", state)):
            if not isinstance(given, (tuple, list)) or len(given) != len(self.layers):
                raise TreeError(
                    f"{name} is no container of the {len(self.layers)} layers of this chain",
                    where=quote(capture()),
                    hint="params, state = chain.init(key)",
                )
        after = []
        for number, layer in enumerate(self.layers):
            own = None if key is None else random.fold_in(key, number)
            try:
                x, new = layer.apply(params[number], state[number], x, key=own, train=train)
            except DefnpyError as error:
                raise type(error)(f"layer {number}: {error.what}", where=error.where, hint=error.hint) from None
            after.append(new)
        return x, tuple(after)

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        return Chain(*self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chain) and self.layers == other.layers

    def __hash__(self) -> int:
        return hash(self.layers)

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.layers))})"


def name_of(value: Any) -> str:
    """A function by its name, everything else as it prints."""
    return getattr(value, "__name__", None) or repr(value)


def described(layer: Any) -> str:
    """``Dense(784, 50, relu)``: a dataclass's fields in order up to those with defaults, the others by name where they
    are not what they are by default."""
    shown = []
    for field in fields(layer):
        value = getattr(layer, field.name)
        if field.default is field.default_factory:  # both MISSING: no default
            shown.append(name_of(value))
        elif value != field.default:
            shown.append(name_of(value) if field.name == "activation" else f"{field.name}={name_of(value)}")
    return f"{type(layer).__name__}({', '.join(shown)})"
