"""Pictures of filters and of what they answer: two pages of chapter 7 draw these."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["draw_grid"]


def draw_grid(
    figure: Any, images: Any, columns: int, title: str = "", *, inches: float = 1.0, cmap: str = "gray_r"
) -> None:
    """Images (count, height, width) in rows of ``columns``, each from its lowest (white) to its highest (black)."""
    images = np.asarray(images)
    rows = -(-len(images) // columns)
    figure.set_size_inches(inches * columns, inches * rows + 0.4 * bool(title))
    figure.suptitle(title)
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if i < len(images):
            axes.imshow(images[i], cmap=cmap, interpolation="nearest")
