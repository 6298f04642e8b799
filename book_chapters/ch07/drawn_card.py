"""A picture to try filters on, drawn by formulas: the book's own is a photograph that is not free to use."""

from __future__ import annotations

from typing import Any

import defnpy as dp

__all__ = ["SIDE", "drawn_card"]

SIDE = 256


def drawn_card(dtype: Any = "float32") -> dp.Tensor:
    """256x256, from 0 (black) to 1: what filters answer to, one kind beside the other.

    A slow gradient as the ground; a checkerboard; strokes of four directions; a disc with a hole; rings that grow finer
    towards the right lower corner.

    >>> card = drawn_card()
    >>> card.shape, dp.min(card).item() >= 0, dp.max(card).item() <= 1
    ((256, 256), True, True)
    """
    y = dp.reshape(dp.arange(SIDE, dtype=dtype), (SIDE, 1))
    x = dp.reshape(dp.arange(SIDE, dtype=dtype), (1, SIDE))
    card = 0.25 + 0.5 * (x + y) / (2 * SIDE)

    board = (x // 8 + y // 8) % 2
    card = dp.where((x < 96) & (y < 96), board, card)

    directions = (x, y, (x + y) / 2**0.5, (x - y) / 2**0.5)
    for i, along in enumerate(directions):
        left = 104 + 38 * i
        inside = (x >= left) & (x < left + 34) & (y >= 8) & (y < 88)
        card = dp.where(inside, ((along % 12) < 4).astype(dtype), card)

    radius = dp.sqrt((x - 64) ** 2 + (y - 176) ** 2)
    card = dp.where((radius < 52) & (radius > 24), 0.95, card)

    rings = dp.sqrt((x - 128) ** 2 + (y - 104) ** 2)
    inside = (x >= 136) & (y >= 112)
    return dp.where(inside, 0.5 + 0.5 * dp.sin(rings**2 / 180), card)
