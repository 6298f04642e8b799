"""Einstein's summation, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import defnpy as dp
from defnpy.errors import ShapeError
from defnpy.testing import check_grads

RNG = np.random.default_rng(0)
CASES = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ji,kj->ik", (3, 2), (4, 3)),
    ("i,i", (3,), (3,)),
    ("i,j->ij", (3,), (4,)),
    ("i,j->ji", (3,), (4,)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("ij->j", (2, 3)),
    ("ij->", (2, 3)),
    ("ba", (2, 3)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
    ("...ij,...jk", (2, 1, 3, 4), (5, 4, 2)),
    ("...,...", (3,), ()),
    ("i...->...", (2, 3, 4)),
    ("...i,...i->...", (1, 3), (1, 3)),
    ("...i->i...", (2, 3)),
    ("...ij,ji->...", (2, 3, 4), (4, 3)),
    ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,k->i", (2, 3), (4,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("ij,ij,ij->i", (2, 3), (2, 3), (2, 3)),
    ("ab,bc,cd,de->ae", (2, 3), (3, 4), (4, 2), (2, 3)),
    ("n,na,nb->ab", (5,), (5, 2), (5, 3)),
    ("i,ij,j->", (2,), (2, 3), (3,)),
    ("ij, jk -> ki", (2, 0), (0, 3)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_values_and_gradients(case):
    subscripts, *shapes = case
    operands = [RNG.standard_normal(shape) for shape in shapes]
    wanted = np.einsum(subscripts, *operands)
    got = dp.einsum(subscripts, *operands)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)
    if all(0 not in shape for shape in shapes):
        check_grads(lambda *xs: dp.einsum(subscripts, *xs), operands, order=2)


def test_compiled():
    operands = [RNG.standard_normal(shape) for shape in ((2, 3), (3, 4), (4, 5))]
    got = dp.defn(lambda *xs: dp.einsum("ij,jk,kl->il", *xs), backend="cpu")(*operands)
    np.testing.assert_allclose(got, np.einsum("ij,jk,kl->il", *operands), rtol=1e-12)


def test_operands_are_brought_to_one_dtype():
    assert dp.einsum("i,i", np.ones(3, "float32"), np.ones(3)).dtype == "float64"
    assert dp.einsum("i,i", dp.arange(3), dp.arange(3)).tolist() == 5


@pytest.mark.parametrize(
    ("subscripts", "shapes", "text"),
    [
        ("ij", [(2, 3), (3,)], "'ij' is for 1 operands, and there are 2"),
        ("ij->i", [(2,)], "'ij' in 'ij->i' names 2, and the operand has 1 axis"),
        ("i...->i", [()], "'i...' in 'i...->i' names 1, and the operand has 0 axes"),
        ("i,i", [(2,), (3,)], "the label 'i' stands for sizes 2 and 3"),
        ("...,...", [(2,), (3,)], "the label in '...' stands for sizes 2 and 3"),
        ("i->ij", [(2,)], "no operand has the label 'j' of the result of 'i->ij'"),
        ("i->ii", [(2,)], "the result of 'i->ii' names an axis twice"),
        ("i1->i", [(2,)], "'i1' in 'i1->i' has other characters than letters and one '...'"),
    ],
)
def test_errors(subscripts, shapes, text):
    with pytest.raises(ShapeError) as caught:
        dp.einsum(subscripts, *[np.ones(shape) for shape in shapes])
    assert text in str(caught.value)
