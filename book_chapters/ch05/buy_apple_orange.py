"""Section 5.4.2: two apples and three oranges with tax.

    price = (apple * apples + orange * oranges) * tax        (100 * 2 + 150 * 3) * 1.1 = 715

Five derivatives from one walk backwards, which costs about as much as one forwards. Numerical differences would take
ten evaluations.

In defnpy all five come from one call, ``grad(price, (0, 1, 2, 3, 4))``; the compiler makes a single loop of it.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from book_chapters.acceptance import near
from book_chapters.ch05.layer_naive import add, add_backward, multiply, multiply_backward
from book_chapters.runner import Run, study

APPLE, APPLES, ORANGE, ORANGES, TAX = 100.0, 2.0, 150.0, 3.0, 1.1
NAMES = ("dApple", "dApple_num", "dOrange", "dOrange_num", "dTax")
ACCEPTANCE = (
    near("price", 715, 1e-12),
    near("dApple", 2.2, 1e-12),
    near("dApple_num", 110, 1e-12),
    near("dOrange", 3.3, 1e-12),
    near("dOrange_num", 165, 1e-12),
    near("dTax", 650, 1e-12),
    near("by hand against grad", 0, 1e-12),
    near("numerical against grad", 0, 1e-6, "not compared"),
)


@dp.defn
def price(apple: Any, apples: Any, orange: Any, oranges: Any, tax: Any) -> Any:
    """What the fruit costs."""
    return multiply(add(multiply(apple, apples), multiply(orange, oranges)), tax)


def by_hand(apple: Any, apples: Any, orange: Any, oranges: Any, tax: Any) -> tuple[Any, ...]:
    """The book's way: forward through four layers, backward through the same four."""
    apple_price, orange_price = multiply(apple, apples), multiply(orange, oranges)
    d_all, d_tax = multiply_backward(1.0, add(apple_price, orange_price), tax)
    d_apple_price, d_orange_price = add_backward(d_all, apple_price, orange_price)
    d_orange, d_oranges = multiply_backward(d_orange_price, orange, oranges)
    d_apple, d_apples = multiply_backward(d_apple_price, apple, apples)
    return d_apple, d_apples, d_orange, d_oranges, d_tax


def main(run: Run) -> None:
    values = [dp.asarray(value, dtype=run.dtype_or(dp.float64)) for value in (APPLE, APPLES, ORANGE, ORANGES, TAX)]
    arguments = (0, 1, 2, 3, 4)
    run.say(price.expr(*values))
    total = price(*values).item()
    found = [d.item() for d in dp.grad(price, arguments)(*values)]
    hand = [d.item() for d in by_hand(*values)]
    numerical = [float(d) for d in dp.testing.numerical_gradient(price, *values, argnums=arguments)]
    run.say(f"price: {int(total + 0.5)}")
    for name, automatic, by_differences in zip(NAMES, found, numerical, strict=True):
        run.say(f"{name}: {automatic:.12g}  (numerical {by_differences:.12g})")
        run.figure(name, automatic)
    run.figure("price", total)
    run.figure("by hand against grad", max(abs(a - b) for a, b in zip(found, hand, strict=True)))
    run.figure("numerical against grad", max(abs(a - b) for a, b in zip(found, numerical, strict=True)))


if __name__ == "__main__":
    study(main)
