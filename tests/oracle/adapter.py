"""JAX behind defnpy's names, where the two differ: thin, and the only place of the collection that knows JAX."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

BOUND = 40  # of the iterations of a while_loop


def _linalg() -> SimpleNamespace:
    from_jax = {name: getattr(jnp.linalg, name) for name in dir(jnp.linalg) if not name.startswith("_")}

    def triangular_solve(a: Any, b: Any, /, *, lower: bool) -> Any:
        return jax.scipy.linalg.solve_triangular(a, b, lower=lower)

    def lstsq(a: Any, b: Any, /) -> Any:
        return SimpleNamespace(x=jnp.linalg.lstsq(a, b)[0])

    def eigvalsh(x: Any, /) -> Any:
        return jnp.linalg.eigvalsh(x)

    return SimpleNamespace(
        **{**from_jax, "triangular_solve": triangular_solve, "lstsq": lstsq, "eigvalsh": eigvalsh},
        lu=jax.scipy.linalg.lu,
    )


def cumulative_sum(x: Any, /, *, axis: int = -1, reverse: bool = False) -> Any:
    return lax.cumsum(x, axis % x.ndim, reverse)


def cumulative_prod(x: Any, /, *, axis: int = -1, reverse: bool = False) -> Any:
    return lax.cumprod(x, axis % x.ndim, reverse)


def cumulative_max(x: Any, /, *, axis: int = -1, reverse: bool = False) -> Any:
    return lax.cummax(x, axis % x.ndim, reverse)


def cumulative_min(x: Any, /, *, axis: int = -1, reverse: bool = False) -> Any:
    return lax.cummin(x, axis % x.ndim, reverse)


def pad(x: Any, /, *, low: Any = 0, high: Any = 0, interior: Any = 0, value: float = 0.0) -> Any:
    each = [(v,) * x.ndim if isinstance(v, int) else v for v in (low, high, interior)]
    return lax.pad(x, jnp.asarray(value, x.dtype), list(zip(*each, strict=True)))


def conv(x: Any, w: Any, /, *, strides: int = 1, padding: int = 0) -> Any:
    spatial = x.ndim - 2
    return lax.conv_general_dilated(x, w, (strides,) * spatial, [(padding, padding)] * spatial)


def max_pool(x: Any, window: int, /) -> Any:
    shape = (1, 1, *(window,) * (x.ndim - 2))
    return lax.reduce_window(x, -jnp.inf, lax.max, shape, shape, "VALID")


def mean_pool(x: Any, window: int, /) -> Any:
    shape = (1, 1, *(window,) * (x.ndim - 2))
    return lax.reduce_window(x, 0.0, lax.add, shape, shape, "VALID") / float(window ** (x.ndim - 2))


def top_k(x: Any, k: int, /) -> Any:
    return lax.top_k(x, k)


def while_loop(condition: Callable[..., Any], body: Callable[..., Any], init: Any) -> Any:
    """A scan that stands still once the condition fails: JAX has no reverse mode through its own while_loop."""

    def step(carry: Any, _: Any) -> Any:
        go = condition(carry)
        return jax.tree.map(lambda new, old: jnp.where(go, new, old), body(carry), carry), None

    return lax.scan(step, init, None, length=BOUND)[0]


NAMES = {name: getattr(jnp, name) for name in dir(jnp) if not name.startswith("_")}
NAMES |= {
    "linalg": _linalg(),
    "random": None,
    "stop_grad": lax.stop_gradient,
    "logsumexp": jax.scipy.special.logsumexp,
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "erfinv": jax.scipy.special.erfinv,
    "one_hot": lambda labels, classes, dtype: jax.nn.one_hot(labels, classes, dtype=dtype),
    "cond": lax.cond,
    "switch": lax.switch,
    "scan": lax.scan,
    "fori_loop": lax.fori_loop,
    "map": lax.map,
    "associative_scan": lax.associative_scan,
    "checkpoint": jax.checkpoint,
    "iota": lambda *, shape, axis=0: lax.broadcasted_iota("int64", shape, axis),
}
NAMES |= {
    f.__name__: f
    for f in (
        cumulative_sum, cumulative_prod, cumulative_max, cumulative_min,
        pad, conv, max_pool, mean_pool, top_k, while_loop,
    )
}  # fmt: skip
np = SimpleNamespace(**NAMES)
