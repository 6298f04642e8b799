"""Section 5.1 and 5.4.1: two apples with tax, and what the price depends on.

    price = apple * number * tax        100 * 2 * 1.1 = 220

If an apple cost one more, the price would rise by 2.2; one apple more would cost 110; a tax rate higher by 1 (by 100 %)
would cost 200. These are the derivatives, found by going backwards through the graph.

In defnpy the graph of the book is what tracing records: ``price.expr`` prints it, a line for each node. ``grad`` walks
it from the last line to the first; the graph of that walk is printed too.
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from book_chapters.acceptance import near
from book_chapters.ch05.layer_naive import multiply, multiply_backward
from book_chapters.runner import Run, study

APPLE, NUMBER, TAX = 100.0, 2.0, 1.1
ACCEPTANCE = (
    near("price", 220, 1e-12),
    near("dApple", 2.2, 1e-12),
    near("dApple_num", 110, 1e-12),
    near("dTax", 200, 1e-12),
    near("by hand against grad", 0, 1e-12),
)


@dp.defn
def price(apple: Any, number: Any, tax: Any) -> Any:
    """What ``number`` apples cost."""
    return multiply(multiply(apple, number), tax)


def by_hand(apple: Any, number: Any, tax: Any) -> tuple[Any, Any, Any]:
    """The book's way: forward through two layers, backward through the same two."""
    apple_price = multiply(apple, number)
    d_apple_price, d_tax = multiply_backward(1.0, apple_price, tax)
    d_apple, d_number = multiply_backward(d_apple_price, apple, number)
    return d_apple, d_number, d_tax


def main(run: Run) -> None:
    values = [dp.asarray(value, dtype=run.dtype_or(dp.float64)) for value in (APPLE, NUMBER, TAX)]
    run.say(price.expr(*values))
    gradient = dp.grad(price, (0, 1, 2))
    run.say(gradient.expr(*values))
    total = price(*values).item()
    found = [d.item() for d in gradient(*values)]
    hand = [d.item() for d in by_hand(*values)]
    run.say(f"price: {int(total + 0.5)}")
    for name, value in zip(("dApple", "dApple_num", "dTax"), found, strict=True):
        run.say(f"{name}: {value:.12g}")
        run.figure(name, value)
    run.figure("price", total)
    run.figure("by hand against grad", max(abs(a - b) for a, b in zip(found, hand, strict=True)))


if __name__ == "__main__":
    study(main)
