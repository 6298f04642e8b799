"""Calls of compiled functions, options and the environment: what is refused, and the warning about recompilation."""

from __future__ import annotations

import types
import warnings

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import ConfigError, TraceError, TreeError

X = dp.asarray([1.0, 2.0, 3.0])

BY_POSITION = "Hint: pass it by position: those arguments are traced, and new values compile nothing"


@dp.defn(backend="reference")
def scaled(x, *, k=1):
    return x * (k if isinstance(k, int) else 1)


# -- static arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("array", [np.ones(3), dp.ones(3), np.array(1.0), [dp.ones(3)], {"a": np.ones(2)}])
def test_an_array_by_keyword(array, place):
    def call():
        scaled(X, k=array)

    with pytest.raises(TraceError) as caught:
        call()
    assert str(caught.value) == (
        "scaled: the keyword-only argument k is an array, but keyword-only arguments are static\n"
        + place(call, "scaled(X, k=array)", "scaled(X, k=array)")
        + f"\n{BY_POSITION}"
    )


def test_a_tensor_in_a_tuple_by_keyword():
    with pytest.raises(TraceError):
        scaled(X, k=(1, dp.ones(3)))


@pytest.mark.parametrize(("value", "kind"), [([1, 2], "list"), ({"a": 1}, "dict"), ({1}, "set")])
def test_an_unhashable_static_argument(value, kind, place):
    def call():
        scaled(X, k=value)

    with pytest.raises(TraceError) as caught:
        call()
    assert str(caught.value) == (
        f"scaled: the static argument k is an unhashable {kind}\n"
        + place(call, "scaled(X, k=value)", "scaled(X, k=value)")
        + "\nHint: pass a tuple instead of a list, or pass it by position to have it traced"
    )


@pytest.mark.parametrize("leaf", [{3}, bytearray(b"a")])
def test_a_leaf_that_is_neither_a_tensor_nor_hashable(leaf, place):
    def call():
        scaled([X, leaf])

    with pytest.raises(TraceError) as caught:
        call()
    assert str(caught.value) == (
        f"scaled: {type(leaf).__name__} is neither a tensor nor hashable\n"
        + place(call, "scaled([X, leaf])", "scaled([X, leaf])")
        + "\nHint: pass something hashable: a tuple, a frozenset"
    )


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: scaled(X, kk=3), r"scaled\(\) got an unexpected keyword argument 'kk'"),
        (lambda: scaled(X, 2), r"scaled\(\) takes 1 positional argument but 2"),
        (lambda: scaled(), r"scaled\(\) missing 1 required positional argument: 'x'"),
    ],
)
def test_a_wrong_signature_is_pythons_own_error(call, text):
    with pytest.raises(TypeError, match=text):
        call()


def test_a_call_with_a_spec():
    with pytest.raises((TraceError, TreeError)):
        scaled(dp.spec(3))


def test_a_number_beyond_64_bits_as_an_argument():
    with pytest.raises(dp.errors.DefnpyError):
        scaled(2**70)


# -- programs compiled for fixed arguments --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program():
    @dp.defn(backend="reference")
    def affine(params, x, f):
        return f(params["w"] * x)

    return affine.compile({"w": X}, dp.spec(()), dp.sin)


OTHER = "call the function itself, which compiles for new shapes, or compile it for these"


@pytest.mark.parametrize(
    ("args", "what", "hint"),
    [
        (({"w": dp.ones(2)}, dp.ones(()), dp.sin), "affine was compiled for args[0]['w']: f32[3], not f32[2]", OTHER),
        (
            ({"w": X.astype("float64")}, dp.ones(()), dp.sin),
            "affine was compiled for args[0]['w']: f32[3], not f64[3]",
            OTHER,
        ),
        (({"w": X}, 2.0, dp.sin), "affine was compiled for args[1]: f32[], not f64~[]", OTHER),
        (({"w": X}, dp.ones(()), dp.cos), "affine was compiled for args[2]: <op sin>, not <op cos>", OTHER),
        (
            ({"v": X}, dp.ones(()), dp.sin),
            "affine was compiled for other containers: "
            "args[0]['w'] is only in the first, args[0]['v'] only in the second",
            "",
        ),
        (
            ({"w": X, "b": X}, dp.ones(()), dp.sin),
            "affine was compiled for other containers: args[0]['b'] is only in the second",
            "",
        ),
        (({"w": X}, dp.ones(())), "affine was compiled for other containers: args[2] is only in the first", ""),
    ],
)
def test_a_program_refuses_other_arguments(program, args, what, hint):
    with pytest.raises(TreeError) as caught:
        program(*args)
    assert caught.value.what == what
    assert caught.value.hint == hint
    assert "program(*args)" in caught.value.where


def test_a_program_takes_what_it_was_compiled_for(program):
    got = program({"w": np.array([1, 2, 3], np.float32)}, dp.asarray(2.0), dp.sin)
    np.testing.assert_allclose(got, np.sin([2, 4, 6]), rtol=1e-6)


# -- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: dp.config(backend="gpu"), "unknown backend 'gpu'\nHint: choose one of 'cpu', 'reference'"),
        (lambda: dp.defn(lambda x: x, backend="gpu"), "unknown backend 'gpu'\nHint: choose 'cpu' or 'reference'"),
        (
            lambda: dp.config(bakend="cpu"),
            "unknown option 'bakend'\nHint: the options are backend, cache_dir, verify, renderer, threads, "
            "reproducible",
        ),
        (lambda: dp.config(verify=3), "verify must be True or False, not 3"),
        (lambda: dp.config(reproducible=1), "reproducible must be True or False, not 1"),
        (lambda: dp.config(renderer="gcc"), "unknown renderer 'gcc'\nHint: choose one of 'llvm', 'numba'"),
        (lambda: dp.config(threads=0), "threads must be a positive integer, not 0"),
        (lambda: dp.config(threads=2.0), "threads must be a positive integer, not 2.0"),
        (lambda: dp.config(threads=True), "threads must be a positive integer, not True"),
    ],
)
def test_options_that_do_not_exist(call, text):
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "DEFNPY_BACKEND",
            "gpu",
            "DEFNPY_BACKEND='gpu' names no backend\nHint: set it to one of cpu, reference, or unset it",
        ),
        (
            "DEFNPY_REPRODUCIBLE",
            "",
            "DEFNPY_REPRODUCIBLE='' is neither 0 nor 1\nHint: set DEFNPY_REPRODUCIBLE=1 or unset it",
        ),
        ("DEFNPY_VERIFY", "yes", "DEFNPY_VERIFY='yes' is neither 0 nor 1\nHint: set DEFNPY_VERIFY=1 or unset it"),
    ],
)
def test_environment_variables_that_mean_nothing(name, value, text, run_python):
    program = (
        "import defnpy as dp\n"
        "try:\n"
        "    dp.defn(lambda x: x)(1.0)\n"
        "except dp.errors.ConfigError as error:\n"
        "    print(error)\n"
    )
    done = run_python("-c", program, env={name: value})
    assert done.stderr == ""
    assert done.stdout == text + "\n"


# -- the warning at the 8th compilation -----------------------------------------------------------------------------


def calls(function, arguments):
    """Call once for each (args, static) and return the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for args, static in arguments:
            function(*args, **static)
    return [w for w in caught if w.category is dp.RecompileWarning]


def fresh():
    @dp.defn(backend="reference")
    def step(params, x, *, rate=0.1):
        return params["w"] * x.sum() * rate

    return step


W = dp.asarray(1.0)
KEYS = [chr(ord("a") + i) for i in range(8)]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            [(({"w": W}, dp.ones(n)), {}) for n in range(1, 9)],
            "the argument x changed from f32[7] to f32[8]",
        ),
        (
            [(({"w": dp.ones(n)}, W), {}) for n in range(1, 9)],
            "the argument params['w'] changed from f32[7] to f32[8]",
        ),
        (
            [(({"w": W}, dp.ones(2)), {"rate": n / 8}) for n in range(8)],
            "the static argument rate changed from 0.75 to 0.875",
        ),
        (
            [(({"w": W, KEYS[n]: W}, W), {}) for n in range(8)],
            "the arguments now have params['h']",
        ),
        (
            [(({"w": W, **dict.fromkeys(KEYS[n:], W)}, W), {}) for n in range(8)],
            "the arguments lack params['g']",
        ),
        (
            [(({"w": W, "all": [W] * n}, W), {}) for n in range(7)] + [(({"w": W, "all": (W,) * 6}, W), {})],
            "the arguments are containers of another kind",
        ),
        (
            [(({"w": W}, dp.ones(2, dtype=d)), {}) for d in ("int8", "int16", "int32", "int64", "uint8", "uint16")]
            + [(({"w": W}, dp.ones(2, dtype=d)), {}) for d in ("float32", "float64")],
            "the argument x changed from f32[2] to f64[2]",
        ),
        (
            [(({"w": W}, dp.ones(2)), {"rate": n}) for n in range(7)] + [(({"w": W}, 1.5 * W), {"rate": 6})],
            "the argument x changed from f32[2] to f32[]",
        ),
    ],
    ids=["shape", "path", "static", "more", "fewer", "kind", "dtype", "mixed"],
)
def test_the_eighth_compilation_warns_and_names_what_changed(arguments, why):
    step = fresh()
    assert calls(step, arguments[:7]) == []
    (warning,) = calls(step, arguments[7:])
    assert str(warning.message) == f"step was compiled 8 times; last because {why}"
    assert step.cache_info().misses == 8


def test_an_option_that_changes_is_named():
    step = fresh()
    assert calls(step, [(({"w": W}, dp.ones(n)), {}) for n in range(1, 8)]) == []
    with dp.config(reproducible=True):
        (warning,) = calls(step, [(({"w": W}, dp.ones(7)), {})])
    why = "the option reproducible changed from False to True"
    assert str(warning.message) == f"step was compiled 8 times; last because {why}"


def test_the_warning_points_at_the_users_call():
    step = fresh()
    (warning,) = calls(step, [(({"w": W}, dp.ones(n)), {}) for n in range(1, 9)])
    assert warning.filename == __file__
    with open(__file__, encoding="utf-8") as file:
        assert file.readlines()[warning.lineno - 1].strip() == "function(*args, **static)"


def test_one_function_warns_once():
    step = fresh()
    assert len(calls(step, [(({"w": W}, dp.ones(n)), {}) for n in range(1, 20)])) == 1


def test_captured_numbers_that_change_are_named():
    rate = 0.0

    @dp.defn(backend="reference")
    def step(x):
        return x * rate

    found = []
    for n in range(8):
        rate = float(n)
        found += calls(step, [((X,), {})])
    assert [str(w.message) for w in found] == [
        "step was compiled 8 times; last because rate, which it reads from around it, changed"
    ]
    holder = types.SimpleNamespace(rate=0)
    other = dp.defn(lambda x: x * holder.rate, backend="reference")
    found = []
    for holder.rate in range(8):
        found += calls(other, [((X,), {})])
    assert str(found[0].message).endswith("because SimpleNamespace.rate, which it reads from around it, changed")


def test_equal_calls_never_warn():
    step = fresh()
    assert calls(step, [(({"w": dp.asarray(float(n))}, dp.ones(3) * n), {"rate": 0.5}) for n in range(20)]) == []
    assert step.cache_info()[:3] == (19, 1, 1)
