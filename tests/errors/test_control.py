"""Control flow: what is refused, where it stands, and the way out."""

from __future__ import annotations

import pytest

import defnpy as dp
from defnpy.errors import DTypeError, ShapeError, TreeError

X = dp.ones(3)
CHOOSE = "ask for all or any of its elements: dp.all(...), dp.any(...); to choose by element use dp.where"
SHAPES = "return the same shapes from every branch: dp.broadcast_to(...), dp.reshape(...)"
DTYPES = "return the same dtypes from every branch: convert one with x.astype(...)"

CASES = [
    (lambda: dp.cond(X > 0, lambda: 1, lambda: 2), ShapeError,
     "cond: the predicate must be one boolean, not bool[3]", CHOOSE),
    (lambda: dp.cond("yes", lambda: 1, lambda: 2), DTypeError,
     "cond: the predicate must be a boolean or a number, not str", "compare something: x > 0"),
    (lambda: dp.cond(True, lambda: 1), TreeError,
     "cond: takes a predicate and two functions, or pairs of both and a default",
     "dp.cond(pred, true_fun, false_fun, *operands) or dp.cond([(pred, function), ...], default, *operands)"),
    (lambda: dp.cond(True, lambda: {"a": X}, lambda: {"b": X}), TreeError,
     "cond: branch 1 returns another structure than branch 0: "
     "result['a'] is only in the first, result['b'] only in the second",
     "return the same containers from every branch"),
    (lambda: dp.cond(True, lambda: {"a": (X, X)}, lambda: {"a": [X, X]}), TreeError,
     "cond: branch 1 returns another structure than branch 0: "
     "result['a'] is a tuple in the first, a list in the second",
     "return the same containers from every branch"),
    (lambda: dp.cond(True, lambda: (X, None), lambda: (X, ())), TreeError,
     "cond: branch 1 returns another structure than branch 0: "
     "result[1] is None in the first, a tuple in the second",
     "return the same containers from every branch"),
    (lambda: dp.cond(True, lambda: X, lambda: dp.ones(4)), ShapeError,
     "cond: result is f32[3] in branch 0 and f32[4] in branch 1", SHAPES),
    (lambda: dp.cond(True, lambda: X, lambda: dp.ones(3, dtype="float64")), DTypeError,
     "cond: result is f32[3] in branch 0 and f64[3] in branch 1", DTYPES),
    (lambda: dp.cond(True, lambda: 2.5, lambda: dp.asarray(1)), DTypeError,
     "cond: result is i64[] in branch 1 and f64~[] in branch 0", DTYPES),
    (lambda: dp.cond(True, lambda: (X, "a"), lambda: (X, "b")), TreeError,
     "cond: result[1] is 'a' in branch 0 and 'b' in branch 1", "only tensors may differ between the branches"),
    (lambda: dp.cond(True, lambda: X, lambda: "b"), TreeError,
     "cond: result is a tensor in branch 0 and 'b' in branch 1", "return a tensor from every branch"),
    (lambda: dp.switch(1.5, [lambda: 1, lambda: 2]), DTypeError,
     "switch: the index must be one integer, not f64~[]", "of two branches choose by cond"),
    (lambda: dp.switch(dp.asarray([1, 2]), [lambda: 1]), ShapeError,
     "switch: the index must be one integer, not i64[2]", "choose by element with dp.where"),
    (lambda: dp.cond(True, X, X), TreeError,
     "cond: a branch is f32[3], not a function",
     "write lambda: value; to choose between values that are computed anyway use dp.where"),
    (lambda: dp.associative_scan(lambda a, b: a[:1], dp.ones((4, 3))), ShapeError,
     "associative_scan: of pairs of elems f32[2,3] fn makes f32[1,3]",
     "it combines many pairs at once, and keeps the shape"),
    (lambda: dp.switch(0, []), TreeError,
     "switch: there is no branch to choose", "dp.switch(index, [function, ...], *operands)"),
    (lambda: dp.while_loop(lambda c: c > 0, lambda c: c - 1, X), ShapeError,
     "while_loop: what cond_fun returns must be one boolean, not bool[3]", CHOOSE),
    (lambda: dp.while_loop(lambda c: None, lambda c: c, X), DTypeError,
     "while_loop: what cond_fun returns must be a boolean or a number, not NoneType", "compare something: x > 0"),
    (lambda: dp.while_loop(lambda c: True, lambda c: c, "text"), TreeError,
     "while_loop: carries no tensor", "start with what cond_fun looks at"),
    (lambda: dp.while_loop(lambda c: c[0] > 0, lambda c: (c[0],), (1, 2)), TreeError,
     "while_loop: the body returns another structure than it got: init[1] is only in the first",
     "a loop carries the same containers through all its iterations"),
    (lambda: dp.while_loop(lambda c: dp.sum(c) < 10, lambda c: dp.concat([c, c]), X), ShapeError,
     "while_loop: the shape of init changes: it starts as f32[3] and becomes f32[6]",
     "start with the shape that the body returns"),
    (lambda: dp.while_loop(lambda c: dp.sum(c) < 10, lambda c: c * 1.5, dp.asarray([1, 2])), DTypeError,
     "while_loop: the dtype of init changes: it starts as i64[2] and becomes f32[2]",
     "start with float32, or convert what the body returns with x.astype('int64')"),
    (lambda: dp.fori_loop(0.5, 3, lambda i, c: c, X), DTypeError,
     "fori_loop: the bounds must be integers, not f64~[]", "convert: n.astype(int)"),
    (lambda: dp.fori_loop(0, 3, lambda i, c: {"w": c["w"][:2]}, {"w": X}), ShapeError,
     "fori_loop: the shape of init['w'] changes: it starts as f32[3] and becomes f32[2]",
     "start with the shape that the body returns"),
    (lambda: dp.fori_loop(0, 3, lambda i, c: (c[0], "b"), (X, "a")), TreeError,
     "fori_loop: init[1] starts as 'a' and becomes 'b'", "only tensors may change"),
    (lambda: dp.scan(lambda c, x: c, 0.0, X), TreeError,
     "scan: the function must return (carry, y), not f64~[]", "return carry, None"),
    (lambda: dp.scan(lambda c, x: (c, x), 0.0), ShapeError,
     "scan: neither xs nor length says how often", "scan(f, init, length=n)"),
    (lambda: dp.scan(lambda c, x: (c, x), 0.0, (X, dp.ones(4))), ShapeError,
     "scan: the lengths differ: 3, 4", "xs have one row for each iteration"),
    (lambda: dp.scan(lambda c, x: (c, x), 0.0, dp.asarray(1.0)), ShapeError,
     "scan: f32[] in xs has no axis to go along", "capture it: f may use values of its surroundings"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "what", "hint"), CASES)
def test_the_message_has_three_parts(call, error, what, hint):
    for run in (call, lambda: dp.defn(lambda x: call())(1.0)):
        with pytest.raises(error) as caught:
            run()
        assert (caught.value.what, caught.value.hint) == (what, hint)
        assert __file__ in caught.value.where and "^" in caught.value.where


def test_the_place_is_that_of_the_value(place):
    def body(x):
        return dp.concat([x, x])

    with pytest.raises(ShapeError) as caught:
        dp.fori_loop(0, 2, lambda i, x: body(x), X)
    assert caught.value.where == place(body, "return dp.concat([x, x])", "dp.concat([x, x])")


def test_a_leaked_value_of_a_body():
    kept = []
    dp.fori_loop(0, 2, lambda i, x: kept.append(x) or x * 2, X)
    with pytest.raises(dp.errors.LeakError):
        kept[0] + 1
