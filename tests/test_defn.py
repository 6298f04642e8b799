"""``@defn``, ``grad`` and ``value_and_grad``: containers, static options, captured values, nesting, caches, threads."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import itertools
import sys
import threading
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import TreeError

reference = functools.partial(dp.defn, backend="reference")
cpu = functools.partial(dp.defn, backend="cpu")
X = dp.asarray([1.0, 2.0, 3.0])


@pytest.fixture(params=["reference", "cpu"])
def compiled(request):
    """``@defn`` on one of the backends."""
    return functools.partial(dp.defn, backend=request.param)


class Point(NamedTuple):
    x: Any
    y: Any


@dp.tree.register_dataclass
@dataclasses.dataclass(frozen=True)
class Affine:
    weight: Any
    bias: Any
    name: str = dp.tree.static(default="affine")
    activation: Any = dp.tree.static(default=dp.tanh)  # noqa: RUF009

    def __call__(self, x):
        return self.activation(x @ self.weight + self.bias)


def plain(value):
    """The container with NumPy's numbers in place of tensors, for comparison with ``==``."""
    return dp.tree.map(lambda v: np.asarray(v).tolist() if isinstance(v, dp.Tensor) else v, value)


# -- containers -----------------------------------------------------------------------------------------------------

CONTAINERS = [
    {"w": X, "b": dp.asarray(1.0)},
    [X, [X, X]],
    (X, (dp.asarray(2), ())),
    Point(X, {"deep": [dp.asarray(1.5)]}),
    {"a": None, "b": X},
    Affine(X, dp.asarray(0.5), name="first"),
    {"f": dp.tanh, "s": "text", "n": X},
    collections.OrderedDict(z=X, a=dp.asarray(1)),
    None,
    (),
    {},
]


@pytest.mark.parametrize("value", CONTAINERS, ids=lambda v: type(v).__name__)
def test_containers_go_in_and_come_out(value, compiled):
    got = compiled(lambda v: v)(value)
    assert type(got) is type(value) and plain(got) == plain(value)
    doubled = compiled(lambda v: dp.tree.map(lambda t: t * 2 if hasattr(t, "shape") else t, v))(value)
    assert plain(doubled) == plain(dp.tree.map(lambda t: t * 2 if isinstance(t, dp.Tensor) else t, value))


ALIKE = [
    {"z": X, "a": X + 1},
    {"z": X, "a": X + 1, "m": X},
    collections.OrderedDict(z=X, a=X + 1),
    collections.OrderedDict(a=X + 1, z=X),
    collections.defaultdict(int, z=X, a=X + 1),
    {"z": X, "a": (X + 1,)},
    {"z": X, "a": {"b": X + 1}},
    {"z": X, "a": collections.OrderedDict(b=X + 1)},
    {"z": X, "a": None},
    [X, X + 1],
    (X, X + 1),
    Point(X, X + 1),
    [{"z": X}, {"a": X + 1}],
    [{"z": X}, collections.OrderedDict(a=X + 1)],
    Affine({"z": X}, X + 1),
    Affine(collections.OrderedDict(z=X), X + 1),
    Affine({"z": X}, X + 1, name="other"),
    X,
    (),
]


def test_containers_that_are_alike_are_told_apart_in_every_order(compiled):
    def seen(v):
        text = repr(dp.tree.map(lambda t: 0, v)) + (v.name if isinstance(v, Affine) else "")
        return v, dp.tree.leaves(v)[-1] * len(text) if dp.tree.leaves(v) else text, text

    wanted = [repr(reference(seen)(value)) for value in ALIKE]
    f = compiled(seen)
    order = [i for first in range(len(ALIKE)) for second in range(len(ALIKE)) for i in (first, second, second)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dp.RecompileWarning)
        for i in order:
            assert repr(f(ALIKE[i])) == wanted[i]
    assert f.cache_info().misses == len(ALIKE)


def test_python_and_numpy_values_go_in_and_tensors_come_out(compiled):
    got = compiled(lambda v: v)({"i": 3, "f": 0.5, "b": True, "n": np.float64(2), "a": np.ones(2, np.int8)})
    assert {k: (type(v), v.dtype.name) for k, v in got.items()} == {
        "i": (dp.Tensor, "int64"),
        "f": (dp.Tensor, "float32"),
        "b": (dp.Tensor, "bool"),
        "n": (dp.Tensor, "float64"),
        "a": (dp.Tensor, "int8"),
    }


def test_constants_in_the_result(compiled):
    got = compiled(lambda x: (x, 3, 0.5, True, None, "text", np.ones(2), dp.tanh, dp.asarray(7)))(X)
    assert got[4] is None and got[5] == "text" and got[7] is dp.tanh
    assert [v.dtype.name for v in got[1:4]] == ["int64", "float32", "bool"]
    assert got[6].tolist() == [1.0, 1.0] and got[8].item() == 7


def test_functions_and_strings_are_carried(compiled):
    @compiled
    def layer(p, x):
        return p["activation"](x * p["w"]) if p["kind"] == "dense" else x

    p = {"activation": dp.relu, "w": dp.asarray(-1.0), "kind": "dense"}
    assert layer(p, X).tolist() == [0.0, 0.0, 0.0]
    assert layer({**p, "activation": dp.negative}, X).tolist() == [1.0, 2.0, 3.0]
    assert layer({**p, "kind": "none"}, X).tolist() == [1.0, 2.0, 3.0]
    assert layer(p, X).tolist() == [0.0, 0.0, 0.0]
    assert layer.cache_info()[:3] == (1, 3, 3)


def test_a_dataclass_is_a_layer(compiled):
    layer = Affine(dp.eye(3), dp.ones(3))
    f = compiled(lambda layer, x: layer(x))
    np.testing.assert_allclose(f(layer, X), np.tanh([2.0, 3.0, 4.0]), rtol=1e-6)
    relu = dataclasses.replace(layer, activation=dp.relu)
    assert f(relu, X).tolist() == [2.0, 3.0, 4.0]  # a static field is part of the structure: another program
    assert f.cache_info()[:3] == (0, 2, 2)
    got = dp.grad(compiled(lambda layer, x: dp.sum(layer(x))))(relu, X)
    assert isinstance(got, Affine) and got.activation is dp.relu and got.name == "affine"
    assert got.weight.tolist() == [[1.0] * 3, [2.0] * 3, [3.0] * 3] and got.bias.tolist() == [1.0] * 3


def test_another_structure_is_another_program():
    f = reference(lambda p: sum(dp.tree.leaves(p)[1:], dp.tree.leaves(p)[0]))
    for p in ([X, X], (X, X), {"a": X, "b": X}, Point(X, X), [X, (X,)], [X, None, X]):
        assert f(p).tolist() == [2.0, 4.0, 6.0]
    assert f.cache_info()[:3] == (0, 6, 6)


# -- signatures -----------------------------------------------------------------------------------------------------


def test_arguments_by_name_and_defaults():
    f = reference(lambda x, y=2.0, *, k=1: x * y * k)
    assert f(3.0).item() == 6.0 and f(3.0, 4.0).item() == f(3.0, y=4.0).item() == f(y=4.0, x=3.0).item() == 12.0
    assert f(3.0, y=4.0, k=2).item() == 24.0
    assert f.cache_info()[:3] == (2, 3, 3)  # by name or by position is the same call


def test_variadic_signatures():
    assert reference(lambda *xs: xs[0] + xs[-1])(1, 2, 3).item() == 4
    assert reference(lambda x, **options: x * options["k"])(2, k=3).item() == 6


def test_static_options_choose_the_program():
    traces = itertools.count()

    @reference
    def f(x, *, mode="a", sizes=()):
        next(traces)
        for n in sizes:
            x = x * n
        return x + 1 if mode == "a" else x - 1

    assert f(1.0).item() == 2.0 and f(1.0, mode="b").item() == 0.0 and f(1.0, sizes=(2, 3)).item() == 7.0
    assert f(5.0).item() == 6.0 and f(5.0, sizes=(2, 3)).item() == 31.0
    assert next(traces) == 3 and f.cache_info()[:3] == (2, 3, 3)
    assert f(1.0, mode="b", sizes=(2,)).item() == f(1.0, sizes=(2,), mode="b").item() == 1.0
    assert f.cache_info().misses == 4  # their order does not matter


@pytest.mark.parametrize(("first", "second"), [(2, 2.0), (1, True), (0.0, -0.0), ((1, 2), (1, 2.0))])
def test_static_options_that_are_equal_and_not_the_same(first, second):
    def f(x, *, k):
        return x * (k[1] if isinstance(k, tuple) else k), repr(k)

    once = reference(f)
    once(dp.asarray(3), k=first)
    got, wanted = once(dp.asarray(3), k=second), reference(f)(dp.asarray(3), k=second)
    assert repr(got) == repr(wanted)


@pytest.mark.filterwarnings("ignore::defnpy.RecompileWarning")
@pytest.mark.parametrize(("first", "second"), [(2, 2.0), (1, True), (0.0, -0.0), ((1, 2), (1, 2.0))])
def test_calls_that_were_made_before_are_told_apart(first, second):
    once = reference(lambda x, n, *, k=7: (x * n, repr(k)))
    calls = [(n, {"k": k} if k != 7 else {}) for n in (2, 2.5, True, dp.asarray(3)) for k in (first, second, 7)]
    wanted = [repr(reference(lambda x, n, *, k=7: (x * n, repr(k)))(X, n, **static)) for n, static in calls]
    for _ in range(3):
        assert [repr(once(X, n, **static)) for n, static in calls] == wanted
    again = once.cache_info().hits
    assert [repr(once(X, n, **static)) for n, static in reversed(calls)] == wanted[::-1]
    assert once.cache_info().hits == again + len(calls)
    with pytest.raises(dp.errors.DTypeError):
        once(X, 2**70)  # of a type that was seen before


def test_a_donating_call_that_was_made_before_uses_up_its_arguments():
    step = dp.defn(lambda x, n: x + n, donate="x")
    x = dp.asarray([1.0, 2.0])
    for n in (1, 2, 3):
        before, x = x, step(x, n)
        with pytest.raises(dp.errors.DonatedError):
            before.tolist()
    assert x.tolist() == [7.0, 8.0]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_what_a_function_reads_from_around_it_may_change_between_calls(backend):
    x = dp.asarray([1.0, 2.0])
    table, scale = {"a": dp.asarray([1.0]), "mode": "up"}, dp.asarray(2.0)

    @dp.defn(backend=backend)
    def f(y):
        return y * scale + table["a"] if table["mode"] == "up" else y

    for _ in range(2):
        assert f(x).tolist() == [3.0, 5.0]
    table["a"] = dp.asarray([10.0])
    for _ in range(2):
        assert f(x).tolist() == [12.0, 14.0]
    scale = dp.asarray(3.0)
    for _ in range(2):
        assert f(x).tolist() == [13.0, 16.0]
    assert f.cache_info().misses == 1
    table["mode"] = "down"
    for _ in range(2):
        assert f(x).tolist() == [1.0, 2.0]
    table.clear()
    with pytest.raises(KeyError):
        f(x)


@pytest.mark.parametrize(("first", "second"), [(2, 2.0), (1, True), (0.0, -0.0)])
def test_static_fields_that_are_equal_and_not_the_same(first, second):
    once = reference(lambda layer: (layer.bias * 3, repr(layer.name)))
    once(Affine(None, dp.asarray(1), name=first))
    layer = Affine(None, dp.asarray(1), name=second)
    assert once(layer)[1] == repr(second)


def test_methods():
    class Model:
        scale = 3.0

        @dp.defn(backend="reference")
        def predict(self, x):
            return x * self.scale

    assert Model().predict(2.0).item() == 6.0
    assert isinstance(Model.predict, dp.Defn)


def test_decoration_keeps_name_docstring_and_signature():
    import inspect

    @dp.defn
    def some_name(x, *, k=1):
        """Its words."""
        return x * k

    assert (some_name.__name__, some_name.__doc__) == ("some_name", "Its words.")
    assert str(inspect.signature(some_name)) == "(x, *, k=1)"
    assert repr(some_name) == "<defn some_name>"
    assert some_name.function(2, k=3) == 6


def test_primitives_and_partials_can_be_decorated():
    assert reference(dp.tanh)(0.0).item() == 0.0
    assert reference(dp.sum)(dp.ones((2, 3)), axis=1).tolist() == [3.0, 3.0]
    assert reference(functools.partial(lambda w, x: w * x, X))(2.0).tolist() == [2.0, 4.0, 6.0]


def test_an_array_given_by_name_behind_a_default_is_at_its_position(compiled):
    def f(x, a=2.0, b=5.0, mode=None, *, k=1):
        return (x * a + b) * k

    for g in (compiled(f), f):
        assert g(X, b=X, k=2).tolist() == (6 * X).tolist()
        assert dp.grad(lambda x, b, g=g: dp.sum(g(x, b=b)))(X, X).tolist() == [2.0] * 3
        assert dp.vmap(g, in_axes=(0, None, 0))(X, b=X).tolist() == (3 * X).tolist()
        assert dp.vmap(g, in_axes=(0, None, None))(X, b=X).shape == (3, 3)
        total = functools.partial(lambda g, x, a=2.0, b=5.0: dp.sum(g(x, b=b) * a), g)
        for n in (2, -1):
            assert dp.grad(total, argnums=n)(X, b=X).tolist() == [2.0] * 3
        pulled = dp.vjp(g, X, b=X)[1](dp.ones(3))
        assert [np.shape(part) for part in pulled[:3]] == [(3,), (), (3,)] and pulled[2].tolist() == [1.0] * 3
    with pytest.raises(dp.errors.ShapeError, match="a is f64~\\[\\] and cannot be mapped"):
        dp.vmap(f)(X, b=X)


# -- captured values ------------------------------------------------------------------------------------------------

SCALE: Any = dp.asarray(2.0)
RATE = 0.5
TABLE = {"w": dp.asarray(1.0), "n": 2}
FIRST = SECOND = dp.asarray(1.0)
ARRAY = np.array([1.0, 2.0])
ACTIVATION: Any = dp.sin


@pytest.fixture(autouse=True)
def restored():
    """The captured names of this module as they were."""
    names = ("SCALE", "RATE", "FIRST", "SECOND", "ARRAY", "ACTIVATION")
    before = {name: globals()[name] for name in names}
    table, array = dict(TABLE), ARRAY.copy()
    yield
    globals().update(before)
    TABLE.update(table)
    ARRAY[:] = array


def test_a_global_tensor_is_seen_as_it_is_now(compiled):
    global SCALE
    f = compiled(lambda x: x * SCALE)
    for value in (2.0, 5.0, -1.0):
        SCALE = dp.asarray(value)
        assert f(3.0).item() == 3 * value
    assert f.cache_info()[:3] == (2, 1, 1)


def test_a_global_tensor_of_another_shape_or_dtype_compiles_anew():
    global SCALE
    f = reference(lambda x: x * SCALE)
    for value, wanted in ((dp.asarray(2.0), 6.0), (dp.ones(2), [3.0, 3.0]), (dp.ones(2, dtype="float64"), [3.0, 3.0])):
        SCALE = value
        got = f(3.0)
        assert got.tolist() == wanted and got.dtype == value.dtype
    assert f.cache_info().misses == 3


def test_a_captured_value_that_changes_its_kind(compiled):
    global SCALE
    f = compiled(lambda x: x * SCALE)
    for value in (dp.asarray(2.0), 3, 4.0, dp.asarray(5.0), np.full((), 6.0), True):
        SCALE = value
        assert f(1.0).item() == float(value)


def test_a_global_number_is_seen_as_it_is_now():
    global RATE
    f = reference(lambda x: x * RATE)
    for RATE in (0.5, 2, 2.0, 2, -1.5):
        got = f(dp.asarray(3))
        assert got.item() == 3 * RATE and got.dtype == ("int64" if isinstance(RATE, int) else "float32")


def test_a_closed_over_tensor_and_number():
    def make():
        weight, n = dp.asarray(1.0), 2

        @dp.defn(backend="reference")
        def f(x):
            return x * weight * n

        def change(w, k):
            nonlocal weight, n
            weight, n = w, k

        return f, change

    f, change = make()
    assert f(2.0).item() == 4.0
    change(dp.asarray(5.0), 2)
    assert f(2.0).item() == 20.0 and f.cache_info()[:3] == (1, 1, 1)
    change(dp.asarray(5.0), 3)
    assert f(2.0).item() == 30.0 and f.cache_info().misses == 2


def test_a_captured_container():
    f = reference(lambda x: x * TABLE["w"] * TABLE["n"])
    assert f(1.0).item() == 2.0
    TABLE["w"] = dp.asarray(3.0)
    assert f(1.0).item() == 6.0 and f.cache_info()[:3] == (1, 1, 1)
    TABLE["n"] = 5
    assert f(1.0).item() == 15.0 and f.cache_info().misses == 2
    TABLE["extra"] = 0
    assert f(1.0).item() == 15.0
    del TABLE["extra"]


def test_a_captured_container_of_another_kind_may_be_changed_too(compiled):
    @dp.tree.register_dataclass
    @dataclasses.dataclass
    class Layer:
        weight: Any
        power: int = dp.tree.static(default=1)

    layer, queue, nested = Layer(X), collections.deque([X]), Layer({"a": [X]})
    f = compiled(lambda x: x * layer.weight**layer.power + queue[0] + nested.weight["a"][0])
    for value in (1.0, 2.0, 3.0):
        layer.weight, queue[0], nested.weight["a"][0] = X + value, X * value, X - value
        assert f(2.0).tolist() == (2 * (X + value) + X * value + X - value).tolist()
    assert f.cache_info().misses == 1
    layer.power = 2
    assert f(1.0).tolist() == ((X + 3.0) ** 2 + X * 3.0 + X - 3.0).tolist() and f.cache_info().misses == 2


class Layer:
    bias = 0.0

    def __init__(self, weight):
        self.weight = weight
        self._power = 1
        self.after = lambda x: x

    @property
    def power(self):
        return self._power

    def __call__(self, x):
        return self.after(self.scaled(x)) + self.bias

    def scaled(self, x):
        return x * self.weight**self.power

    @dp.defn
    def compiled(self, x):
        return self(x)


class Slots:
    __slots__ = ("layer", "rate")

    def __init__(self, layer, rate):
        self.layer, self.rate = layer, rate


LAYER = Layer(X)
NET = Slots(LAYER, 1.0)
apply = dp.defn(lambda layer, x: layer(x))
apply_static = dp.defn(lambda x, *, layer: layer(x))


@pytest.mark.parametrize(
    "call",
    [
        dp.defn(lambda x: NET.rate * NET.layer(x)),
        dp.defn(LAYER),
        dp.defn(LAYER.__call__),
        dp.defn(functools.partial(lambda layer, x: layer(x), LAYER)),
        lambda x: apply(LAYER, x),
        lambda x: apply_static(x, layer=LAYER),
        LAYER.compiled,
        dp.grad(dp.defn(lambda x: dp.sum(LAYER(x) * x))),
    ],
    ids=["global", "callable", "bound method", "partial", "argument", "static", "method", "grad"],
)
def test_attributes_of_objects_are_seen_as_they_are_now(call):
    """What a method reads of ``self`` is captured like a global: arrays are inputs, the rest is compiled in."""
    before = vars(LAYER).copy()
    x = dp.asarray([2.0, 3.0, 4.0])
    factor = 1 if call(x).tolist() == LAYER(x).tolist() else 2  # the gradient of w x² is 2 w x
    try:
        programs = dp.compilations().programs
        for value in (4.0, 5.0):
            LAYER.weight = X * value
            assert call(x).tolist() == (factor * x * X * value).tolist()
        assert dp.compilations().programs == programs  # new arrays compile nothing
        LAYER._power = 2
        assert call(x).tolist() == (factor * x * (X * value) ** 2).tolist()
        LAYER.after = lambda x: 3 * x
        assert call(x).tolist() == (factor * 3 * x * (X * value) ** 2).tolist()
        Layer.bias = X
        assert call(x).tolist() == (factor * 3 * x * (X * value) ** 2 + X).tolist()
    finally:
        vars(LAYER).update(before)
        Layer.bias = 0.0


def test_an_attribute_that_appears_where_there_was_none(compiled):
    net = Slots(None, 2.0)
    f = compiled(lambda x: x * net.rate if net.layer is None else net.layer(x))
    assert f(3.0).item() == 6.0
    net.layer = Layer(dp.asarray(5.0))
    assert f(3.0).item() == 15.0


def test_a_captured_array_that_is_written_or_replaced(compiled):
    global ARRAY
    f = compiled(lambda x: x + ARRAY)
    assert f(1.0).tolist() == [2.0, 3.0]
    ARRAY[0] = 9.0
    assert f(1.0).tolist() == [10.0, 3.0]
    ARRAY = np.array([-1.0, -2.0])
    assert f(1.0).tolist() == [0.0, -1.0]
    assert f.cache_info()[:3] == (2, 1, 1)


def test_gradients_see_captured_values_too(compiled):
    global SCALE
    f = dp.grad(compiled(lambda x: x * SCALE))
    g = compiled(dp.value_and_grad(lambda x: x * SCALE))
    for value in (2.0, 7.0):
        SCALE = dp.asarray(value)
        assert f(3.0).item() == g(3.0).grad.item() == value and g(3.0).value.item() == 3 * value
    assert f.cache_info().misses == g.cache_info().misses == 1


def test_a_gradient_with_respect_to_a_captured_value_needs_an_argument():
    """What is captured is a constant to the derivative."""
    assert dp.grad(lambda x: x * SCALE * SCALE)(3.0).item() == 4.0


def helper(x):
    return x * SCALE


inner_defn = dp.defn(helper)


@dp.tree.register_dataclass
@dataclasses.dataclass
class Holder:
    w: Any

    @dp.defn(backend="reference")
    def apply(self, x):
        return x * self.w


def use_helper(x):
    return helper(x)


def use_inner_defn(x):
    return inner_defn(x)


def use_lambda(x):
    return (lambda y: y * SCALE)(x)


def use_comprehension(x):
    return dp.sum(dp.stack([x * SCALE for _ in range(2)])) / 2


def use_tree_map(x):
    return dp.tree.map(lambda v: v * SCALE, [x])[0]


INDIRECT = [use_helper, use_inner_defn, use_lambda, use_comprehension, use_tree_map]


@pytest.mark.parametrize("function", INDIRECT, ids=lambda f: f.__name__)
def test_a_global_tensor_read_by_what_the_function_calls(function):
    global SCALE
    f = reference(function)
    assert f(3.0).item() == 6.0
    SCALE = dp.asarray(5.0)
    assert f(3.0).item() == 15.0


def test_a_registered_class_is_a_container_also_as_self():
    holder = Holder(dp.asarray(2.0))
    assert holder.apply(3.0).item() == 6.0
    holder.w = dp.asarray(5.0)
    assert holder.apply(3.0).item() == 15.0
    assert Holder(dp.asarray(7.0)).apply(3.0).item() == 21.0
    assert Holder.apply.cache_info()[:3] == holder.apply.cache_info()[:3] == (2, 1, 1)
    assert holder.apply.__name__ == "apply" and "multiply" in holder.apply.source(3.0)
    assert holder.apply.compile(3.0)(holder, 2.0).item() == holder.apply(2.0).item() == 10.0
    assert str(holder.apply.expr(3.0)) == str(Holder.apply.expr(holder, 3.0))
    with pytest.raises(AttributeError, match="no attribute 'sorce'"):
        holder.apply.sorce(3.0)


class Mode(enum.Enum):
    PLUS = 1
    MINUS = 2


KINDS = [
    (None, dp.asarray(2.0), lambda x: x if SCALE is None else x * SCALE),
    (Mode.PLUS, Mode.MINUS, lambda x: x + 1 if SCALE is Mode.PLUS else x - 1),
    (Holder(dp.asarray(1.0)), Holder(dp.asarray(2.0)), lambda x: x * SCALE.w),
    (functools.partial(dp.multiply, 1.0), functools.partial(dp.multiply, 2.0), lambda x: SCALE(x)),
    (frozenset([1]), frozenset([1, 2]), lambda x: x * len(SCALE)),
    (range(1), range(3), lambda x: x * len(SCALE)),
]


@pytest.mark.parametrize(("before", "after", "function"), KINDS, ids=lambda v: type(v).__name__)
def test_a_captured_value_of_another_kind_that_is_replaced(before, after, function):
    global SCALE
    SCALE = before
    f = reference(function)
    f(3.0)
    SCALE = after
    assert f(3.0).item() == reference(function)(3.0).item()


@pytest.mark.parametrize("name", ["FIRST", "SECOND"])
def test_two_names_that_held_the_same_tensor(name):
    f = reference(lambda x: FIRST * x + 10 * SECOND * x)
    assert f(1.0).item() == 11.0
    globals()[name] = dp.asarray(2.0)
    assert f(1.0).item() == (12.0 if name == "FIRST" else 21.0)


def test_a_captured_numpy_scalar():
    global SCALE
    SCALE = np.float32(2.0)
    f = reference(lambda x: x * SCALE)
    assert f(3.0).item() == 6.0
    SCALE = np.float32(5.0)
    assert f(3.0).item() == 15.0


def test_a_captured_function_that_is_replaced():
    global ACTIVATION
    f = reference(lambda x: ACTIVATION(x))
    assert f(0.0).item() == 0.0
    ACTIVATION = dp.cos
    assert f(0.0).item() == 1.0


READING = [lambda x: x * float(SCALE), lambda x: x * SCALE.item(), lambda x: x * np.asarray(SCALE).sum()]


@pytest.mark.parametrize("function", READING)
def test_a_captured_tensor_that_python_reads_while_tracing(function):
    global SCALE
    f = reference(function)
    assert f(3.0).item() == 6.0
    SCALE = dp.asarray(5.0)
    assert f(3.0).item() == 15.0


# -- nesting --------------------------------------------------------------------------------------------------------


def test_a_nested_defn_is_inlined():
    inner = cpu(lambda x, *, k=1: dp.exp(x) * k)

    def outer(x):
        return inner(x, k=2) + 1

    graph = reference(outer).expr(X)
    assert [n.op.name for n in graph.nodes()] == ["parameter", "exp", "constant", "multiply", "constant", "add"]
    np.testing.assert_allclose(reference(outer)(X), 2 * np.exp([1, 2, 3]) + 1, rtol=1e-6)
    assert inner.cache_info()[:3] == (0, 0, 0)
    assert dp.grad(lambda x: dp.sum(inner(x)))(dp.zeros(2)).tolist() == [1.0, 1.0]


def test_grad_of_defn_is_compiled_and_grad_of_a_function_is_not():
    g = dp.grad(cpu(lambda x: dp.sum(dp.tanh(x))))
    assert isinstance(g, dp.Defn)
    for _ in range(3):
        np.testing.assert_allclose(g(X), 1 - np.tanh([1, 2, 3]) ** 2, rtol=1e-5)
    assert g.cache_info()[:3] == (2, 1, 1)
    assert g.compile(X).kernels() and "tanh" in g.source(X)
    eager = dp.grad(lambda x: dp.sum(dp.tanh(x)))
    assert not isinstance(eager, dp.Defn)
    np.testing.assert_allclose(eager(X), g(X), rtol=1e-6)


def test_grad_of_defn_keeps_its_backend_and_its_options():
    f = reference(lambda x, *, n: dp.sum(x**n))
    g = dp.grad(f)
    assert g(X, n=2).tolist() == [2.0, 4.0, 6.0] and g(X, n=3).tolist() == [3.0, 12.0, 27.0]
    assert g.compile(X, n=2).kernels() == [] and g.cache_info().misses == 2


def test_higher_order(compiled):
    def f(x):
        return x**5

    g, wanted = compiled(f), [32.0, 80.0, 160.0, 240.0, 240.0, 120.0, 0.0]
    eager = f
    for value in wanted:
        assert g(2.0).item() == value and float(np.asarray(eager(2.0))) == value
        g, eager = dp.grad(g), dp.grad(eager)
    mixed = dp.grad(compiled(dp.grad(lambda x: compiled(dp.grad(f))(x))))
    assert mixed(2.0).item() == 240.0


def test_a_derivative_inside_a_function_that_is_differentiated(compiled):
    """The gradient penalty: the inner derivative depends on what the outer one differentiates."""

    def penalty(w, x):
        slope = dp.grad(lambda x: dp.sum(dp.tanh(w * x)))(x)
        return dp.sum(slope**2)

    dp.testing.check_grads(penalty, [dp.asarray(0.7), X], order=1)
    np.testing.assert_allclose(
        dp.grad(compiled(penalty))(dp.asarray(0.7), X), dp.grad(penalty)(dp.asarray(0.7), X), rtol=1e-5
    )


def test_a_captured_traced_value_of_an_enclosing_derivative():
    """d/dx (x * d/dy (x * y)) = d/dx x**2: the inner function captures the outer variable."""
    assert dp.grad(lambda x: x * dp.grad(lambda y: x * y)(3.0))(5.0).item() == 10.0
    assert dp.grad(reference(lambda x: x * dp.grad(lambda y: x * y**2)(3.0)))(5.0).item() == 60.0


# -- grad and value_and_grad ----------------------------------------------------------------------------------------


def test_argnums(compiled):
    f = compiled(lambda a, b, c: a * b**2 * c["d"])
    args = (2.0, 3.0, {"d": 5.0})
    assert dp.grad(f)(*args).item() == 45.0 and dp.grad(f, 1)(*args).item() == 60.0
    assert plain(dp.grad(f, 2)(*args)) == plain(dp.grad(f, -1)(*args)) == {"d": 18.0}
    assert plain(dp.grad(f, (2, 0))(*args)) == ({"d": 18.0}, 45.0)
    assert plain(dp.grad(f, (1,))(*args)) == (60.0,)
    value, grads = dp.value_and_grad(f, (0, 1))(*args)
    assert value.item() == 90.0 and plain(grads) == (45.0, 60.0)


def test_has_aux(compiled):
    @compiled
    def loss(p, x):
        y = p["w"] * x
        return dp.sum(y**2), {"y": y, "n": 3, "f": dp.tanh}

    p = {"w": dp.asarray(2.0)}
    (value, aux), g = dp.value_and_grad(loss, has_aux=True)(p, X)
    assert value.item() == 56.0 and aux["y"].tolist() == [2.0, 4.0, 6.0] and aux["n"].item() == 3
    assert aux["f"] is dp.tanh and g["w"].item() == 56.0
    gradient, again = dp.grad(loss, has_aux=True)(p, X)
    assert gradient["w"].item() == 56.0 and again["y"].tolist() == [2.0, 4.0, 6.0]


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "uint64"])
def test_integer_arguments_have_float_gradients(dtype, compiled):
    g = dp.grad(compiled(lambda n, x: dp.sum(n * x)))(dp.asarray([1, 2, 3], dtype=dtype), X)
    assert g.tolist() == [1.0, 2.0, 3.0] and g.dtype == "float32"


def test_gradients_have_the_dtype_and_shape_of_the_argument(compiled):
    def f(p):
        return dp.sum(p["a"] * p["b"]) + dp.sum(p["c"])

    p = {"a": dp.ones((2, 1), dtype="float64"), "b": dp.ones((1, 3)), "c": dp.ones((0, 2))}
    g = dp.grad(compiled(f))(p)
    assert {k: (v.shape, v.dtype.name) for k, v in g.items()} == {
        "a": ((2, 1), "float64"),
        "b": ((1, 3), "float32"),
        "c": ((0, 2), "float32"),
    }
    assert g["a"].tolist() == [[3.0], [3.0]] and g["b"].tolist() == [[2.0, 2.0, 2.0]]


def test_leaves_without_a_derivative_get_none_and_unused_floats_get_zero(compiled):
    def f(p):
        return p["w"] * 2.0 if p["name"] == "twice" else p["w"]

    p = {"w": 1.5, "flag": True, "mask": np.array([True]), "name": "twice", "act": dp.tanh, "none": None}
    p |= {"unused": dp.ones(2), "index": 3}
    g = dp.grad(compiled(f))(p)
    assert list(g) == list(p)
    assert g["w"].item() == 2.0 and g["unused"].tolist() == [0.0, 0.0] and g["index"].item() == 0.0
    assert all(g[name] is None for name in ("flag", "mask", "name", "act", "none"))


def test_the_value_comes_from_the_gradients_own_forward_pass():
    traces = itertools.count()

    def loss(x):
        next(traces)
        return dp.sum(dp.exp(x))

    step = cpu(dp.value_and_grad(loss))
    value, g = step(X)
    step(X)
    assert next(traces) == 1  # traced once, for the value and for the gradient
    np.testing.assert_allclose(value, np.exp([1, 2, 3]).sum(), rtol=1e-6)
    code = [line.split("#")[0] for line in step.source(X).splitlines()]
    assert sum("exp(" in line for line in code) == 1
    np.testing.assert_allclose(g, np.exp([1, 2, 3]), rtol=1e-6)


def test_stop_grad(compiled):
    g = dp.grad(compiled(lambda x: x * dp.stop_grad(x) + dp.stop_grad(x**3)))
    assert g(3.0).item() == 3.0


def test_print_value_prints_on_every_call_in_order(compiled, capsys):
    @compiled
    def f(x):
        dp.print_value(x + 1, label="first")
        y = dp.print_value(x * 2, label="second")
        return y

    assert f(X[:2]).tolist() == [2.0, 4.0] and f(X[1:]).tolist() == [4.0, 6.0]
    assert capsys.readouterr().out == ("first = [2., 3.]\nsecond = [2., 4.]\nfirst = [3., 4.]\nsecond = [4., 6.]\n")


# -- looking inside -------------------------------------------------------------------------------------------------


def test_expr_prints_as_aligned_lines():
    graph = reference(lambda p, x: dp.tanh(p["W"] @ x)).expr({"W": dp.spec((2, 3))}, dp.spec(3))
    assert str(graph) == (
        "inputs:\n"
        "  p_W                                                       f32[2,3]\n"
        "  x                                                         f32[3]\n"
        "let:\n"
        "  a = dot_general p_W x batch=((),()) contract=((1,),(0,))  f32[2]\n"
        "  b = tanh a                                                f32[2]\n"
        "return b"
    )


def test_expr_of_values_and_of_specs_is_the_same():
    f = reference(lambda x, *, k: dp.sum(x * k))
    assert str(f.expr(X, k=2)) == str(f.expr(dp.spec(3), k=2)) == str(f.expr(x=dp.spec(3), k=2))
    assert str(f.expr(X, k=2)) != str(f.expr(X, k=3))
    assert f.cache_info()[:3] == (0, 0, 0)


def test_captured_values_are_inputs_of_the_graph():
    graph = reference(lambda x: x * SCALE).expr(X)
    assert graph.names == ("x", "captured0") and [i.shape for i in graph.inputs] == [(3,), ()]


def test_source_is_python_that_runs_alone():
    f = cpu(lambda x, y: dp.softmax(x @ y) + 1)
    text = f.source(dp.spec((2, 3)), dp.spec((3, 4)))
    assert "defnpy" not in text and "numba" not in text
    names: dict[str, Any] = {}
    exec(text, names)
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3) / 6, np.arange(12, dtype=np.float32).reshape(3, 4) / 12
    (got,) = names["program"](x, y)
    np.testing.assert_allclose(got, f(x, y), rtol=1e-5)


def test_source_shows_the_users_line():
    def affine(x):
        return 3.0 * x + 1.0

    assert "# return 3.0 * x + 1.0" in cpu(affine).source(X)
    assert "multiply" in reference(affine).source(X)  # the reference runs the graph


def test_compile(compiled):
    global SCALE
    f = compiled(lambda p, x: p["w"] * x * SCALE)
    program = f.compile({"w": dp.spec(3)}, dp.spec(()))
    assert isinstance(program, dp.Compiled) and f.cache_info()[:3] == (0, 0, 0)
    assert program({"w": X}, dp.asarray(2.0)).tolist() == [4.0, 8.0, 12.0]
    assert program({"w": np.ones(3, np.float32)}, np.float32(1)).tolist() == [2.0, 2.0, 2.0]
    assert [i.shape for i in program.graph.inputs] == [(3,), (), ()]
    assert program.source() == f.source({"w": X}, dp.ones(()))
    with pytest.raises(TreeError):
        program({"w": dp.ones(4)}, dp.ones(()))


def test_kernels_report():
    (report,) = cpu(lambda x: dp.exp(x) * 2).compile(dp.spec(3)).kernels()
    assert report.name in report.source and "exp" in report.source
    assert any("dp.exp(x) * 2" in line for line in report.lines)
    assert report.seconds >= 0 and report.cached in (True, False)


def test_cache_info_and_cache_clear():
    f = reference(lambda x: x + 1)
    assert f.cache_info() == dp.CacheInfo(0, 0, 0, 0.0)
    for n in (2, 3, 2):
        f(dp.ones(n))
    info = f.cache_info()
    assert (info.hits, info.misses, info.size) == (1, 2, 2) and info.seconds > 0
    f.cache_clear()
    assert f.cache_info().size == 0
    assert f(dp.ones(2)).tolist() == [2.0, 2.0] and f.cache_info().misses == 3


def test_compilations_are_counted_over_all_functions():
    f, g = reference(lambda x: x + 1), reference(lambda x: x + 2)
    before = dp.compilations()
    for call in (f, g, f):
        call(dp.ones(2))
    after = dp.compilations()
    assert after.programs - before.programs == 2
    spent = f.cache_info().seconds + g.cache_info().seconds
    assert after.seconds - before.seconds == pytest.approx(spent)


def test_new_values_compile_nothing_and_new_dtypes_do():
    f = reference(lambda x: x * 2)
    for value in (np.zeros(3), np.ones(3), dp.asarray([1.0, 2.0, 3.0], dtype="float64"), np.arange(6.0)[::2]):
        f(value)
    assert f.cache_info()[:3] == (3, 1, 1)
    f(np.zeros(3, np.float32))
    assert f.cache_info().misses == 2


def test_strided_and_big_inputs(compiled):
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    f = compiled(lambda x: x * 2 + 1)
    for view in (x[::2, 1:4], x.T, x[::-1], np.broadcast_to(x[0], (3, 6)), np.asfortranarray(x)):
        np.testing.assert_array_equal(f(view), view * 2 + 1)


def test_results_are_fresh(compiled):
    f = compiled(lambda x: x + 1)
    first = f(X)
    before = first.tolist()
    second = f(X * 5)
    assert first.tolist() == before and not np.shares_memory(np.asarray(first), np.asarray(second))


# -- backends -------------------------------------------------------------------------------------------------------


def backend_of(f, *args):
    """Which backend a call compiles for: only the CPU's has kernels."""
    return "cpu" if f.compile(*args).kernels() else "reference"


def test_the_backend_by_decorator_by_block_and_by_default():
    free, fixed = dp.defn(lambda x: dp.exp(x)), reference(lambda x: dp.exp(x))
    assert backend_of(free, X) == "cpu" and backend_of(fixed, X) == "reference"
    with dp.config(backend="reference") as options:
        assert options.backend == "reference" and backend_of(free, X) == "reference"
        assert backend_of(cpu(lambda x: dp.exp(x)), X) == "cpu"  # the decorator decides
        with dp.config(backend="cpu"):
            assert backend_of(free, X) == "cpu"
        assert backend_of(free, X) == "reference"
    assert backend_of(free, X) == "cpu"


def test_each_backend_has_a_program_of_its_own():
    f = dp.defn(lambda x: dp.exp(x) + 1)
    results = [f(X)]
    with dp.config(backend="reference"):
        results.append(f(X))
    assert f.cache_info()[:3] == (0, 2, 2)
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_the_backend_by_environment(run_python):
    program = (
        "import sys, defnpy as dp\n"
        "print(dp.defn(lambda x: x + 1)(1.0).item(), 'llvmlite' in sys.modules)\n"
        "with dp.config(backend='cpu'):\n"
        "    print(dp.defn(lambda x: x + 1)(1.0).item(), 'llvmlite' in sys.modules)\n"
    )
    done = run_python("-c", program, env={"DEFNPY_BACKEND": "reference", "DEFNPY_CACHE_DIR": ""})
    assert done.stderr == "" and done.stdout == "2.0 False\n2.0 True\n"


def test_an_exception_leaves_the_block_and_its_options():
    with pytest.raises(ZeroDivisionError), dp.config(backend="reference"):
        raise ZeroDivisionError
    assert backend_of(dp.defn(lambda x: dp.exp(x)), X) == "cpu"


def test_import_is_light(run_python):
    """Neither compiler is loaded by the import, by eager calls, by gradients, nor by the reference backend."""
    program = (
        "import sys\n"
        "import defnpy as dp\n"
        "dp.grad(lambda x: dp.sum(dp.tanh(x)))(dp.ones(3))\n"
        "dp.defn(lambda x: dp.exp(x), backend='reference')(dp.ones(3))\n"
        "dp.random.normal(dp.random.key(0), (3,))\n"
        "heavy = ('jax', 'llvmlite', 'matplotlib', 'numba', 'rich', 'scipy')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "dp.defn(lambda x: dp.exp(x), backend='cpu')(dp.ones(3))\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "with dp.config(renderer='numba'):\n"
        "    dp.defn(lambda x: dp.exp(x), backend='cpu')(dp.ones(3))\n"
        "print('numba' in sys.modules)\n"
    )
    done = run_python("-c", program, env={"DEFNPY_CACHE_DIR": ""})  # a cached kernel would not need a compiler
    assert done.stderr == "" and done.stdout == "[]\n['llvmlite']\nTrue\n"


# -- threads --------------------------------------------------------------------------------------------------------


def in_threads(work, count=6):
    """Start ``work(n)`` in several threads at one moment; the first exception is raised here."""
    start, failures = threading.Barrier(count), []

    def run(n):
        try:
            start.wait()
            work(n)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_threads_share_a_compiled_function(compiled):
    """Temporaries belong to one call each, also while the program is being compiled by several threads at once."""
    weight = dp.asarray(np.arange(2500, dtype=np.float32).reshape(50, 50) / 2500)

    @compiled
    def f(x):
        h = dp.tanh(x @ weight)
        return dp.sum(dp.softmax(h @ weight.T) * x, axis=1)

    def numpy(x):
        w = np.asarray(weight, np.float64)
        z = np.tanh(x @ w) @ w.T
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return (e / e.sum(axis=1, keepdims=True) * x).sum(axis=1)

    def work(n):
        for i in range(20):
            x = np.full((40, 50), (n * 20 + i) / 100) + np.arange(50) / 50
            np.testing.assert_allclose(f(x.astype(np.float32)), numpy(x), rtol=1e-4)

    in_threads(work)
    assert f.cache_info().size == 1


def test_two_calls_at_once_have_memory_of_their_own(compiled, monkeypatch):
    """Both calls are held in the middle of the program, after the product and before it is used."""
    both_are_inside = threading.Barrier(2)

    class Waiting:
        def write(self, text):
            both_are_inside.wait(30)

        def flush(self):
            pass

    weight = dp.asarray(np.eye(20, dtype=np.float32))

    @compiled
    def f(x):
        product = x @ weight
        seen = dp.print_value(dp.sum(product))
        return dp.exp(product) + 0 * seen

    inputs = [np.full((10, 20), n / 2, np.float32) for n in range(2)]
    results = {}
    f(inputs[0])  # leaves memory behind, which only one of them may take
    monkeypatch.setattr(sys, "stdout", Waiting())
    in_threads(lambda n: results.update({n: f(inputs[n])}), count=2)
    for n in range(2):
        np.testing.assert_allclose(results[n], np.exp(inputs[n]), rtol=1e-6)


def test_a_call_between_two_steps_of_another_is_no_mistake():
    """Where threads change places at the worst moment: when a call has become the last one."""

    class Interrupted(dp.Defn):
        interrupt: Any = None

        @property
        def _recent(self):
            return self.recent

        @_recent.setter
        def _recent(self, value):
            self.recent = value
            other, self.interrupt = self.interrupt, None
            if other is not None:
                other()

    f = Interrupted(lambda p: p["a"] * 10 + p["b"] if isinstance(p, dict) else p[0] - p[1], "reference")
    one, two = dp.asarray(1.0), dp.asarray(2.0)
    f.interrupt = lambda: f((one, two))
    assert f({"a": one, "b": two}).item() == 12.0
    assert f((one, two)).item() == -1.0
    assert f({"a": one, "b": two}).item() == 12.0


def test_threads_trace_independently():
    """A trace is local to its thread: one thread tracing does not turn another one's eager calls into nodes."""
    inside, leave = threading.Event(), threading.Event()

    def slow(x):
        inside.set()
        assert leave.wait(30)
        return x + 1

    results = []
    thread = threading.Thread(target=lambda: results.append(reference(slow)(1.0).item()))
    thread.start()
    assert inside.wait(30)
    try:
        assert isinstance(dp.ones(2) + 1, dp.Tensor)
        assert reference(lambda x: x * 2)(3.0).item() == 6.0
    finally:
        leave.set()
        thread.join()
    assert results == [2.0]


def test_options_are_local_to_their_thread():
    seen = {}

    def work(n):
        with dp.config(backend="reference" if n % 2 else "cpu") as options:
            seen[n] = options.backend, backend_of(dp.defn(lambda x: dp.exp(x)), X)

    in_threads(work, count=4)
    assert seen == {n: ("reference",) * 2 if n % 2 else ("cpu",) * 2 for n in range(4)}


def test_an_argument_is_laid_out_in_order_once():
    x = dp.broadcast_to(dp.asarray([1.0, 2.0]), (3, 2)).T
    before = np.asarray(x)
    f = dp.defn(lambda x: x * 2, backend="cpu")
    np.testing.assert_array_equal(f(x), before * 2)
    assert np.asarray(x).flags.c_contiguous and not np.asarray(x).flags.writeable
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(f(x), before * 2)
    assert f.cache_info().misses == 1
