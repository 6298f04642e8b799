"""im2col and col2im as differentiable functions (book: ``common/util.py``).

    im2col: images (N, C, H, W) -> rows (N OH OW, C FH FW)
        row (n, oy, ox) holds what the filter sees at that place, in the order (c, fy, fx)

so that a convolution is one matrix product, ``im2col(x) @ W.reshape(FN, -1).T``. It is a correlation: the filter is not
turned around.

    col2im: rows -> images, adding up what lands on one pixel

is its transpose, not its inverse: <im2col(x), y> = <x, col2im(y)>. So each is the other's gradient, which is all that
backpropagation through a convolution needs. Both keep the dtype (the book's make float64 of everything) and say when
the filter does not fit a whole number of times (the book's cut it off silently).
"""

from __future__ import annotations

from typing import Any

import defnpy as dp
from defnpy.errors import ShapeError

__all__ = ["col2im", "conv_output_size", "im2col"]

Shape = tuple[int, ...]


def conv_output_size(size: int, window: int, stride: int = 1, pad: int = 0) -> int:
    """How many places a window has along an axis: (size + 2 pad - window) / stride + 1.

    Raises ``ShapeError`` where that is no whole number, or below 1.

    >>> conv_output_size(28, 5), conv_output_size(7, 3, stride=2, pad=1)
    (24, 4)
    """
    steps, rest = divmod(size + 2 * pad - window, stride)
    if rest or steps < 0:
        raise ShapeError(
            f"a window of {window} with stride {stride} does not fit a size of {size} with padding {pad}: "
            f"({size} + 2*{pad} - {window}) / {stride} + 1 = {(size + 2 * pad - window) / stride + 1:g} places",
            hint="choose the padding or the stride so that it is a whole number from 1",
        )
    return steps + 1


def im2col(x: Any, window_h: int, window_w: int, stride: int = 1, pad: int = 0) -> Any:
    """Images (N, C, H, W) as rows (N OH OW, C window_h window_w).

    >>> im2col(dp.ones((10, 3, 7, 7)), 5, 5).shape
    (90, 75)
    >>> im2col(dp.reshape(dp.arange(16), (1, 1, 4, 4)), 2, 2, stride=2).tolist()[1]
    [2, 3, 6, 7]
    """
    n, c, h, w = x.shape
    out_h, out_w = conv_output_size(h, window_h, stride, pad), conv_output_size(w, window_w, stride, pad)
    seen = dp.windows(x, (window_h, window_w), strides=stride, padding=(pad, pad))
    rows = dp.permute_dims(seen, (0, 2, 3, 1, 4, 5))
    return dp.reshape(rows, (n * out_h * out_w, c * window_h * window_w))


def col2im(rows: Any, shape: Shape, window_h: int, window_w: int, stride: int = 1, pad: int = 0) -> Any:
    """Rows (N OH OW, C window_h window_w) added up to images of ``shape`` (N, C, H, W).

    >>> ones = dp.ones((1, 1, 4, 4))
    >>> col2im(im2col(ones, 2, 2), (1, 1, 4, 4), 2, 2)[0, 0].tolist()[0]
    [1.0, 2.0, 2.0, 1.0]
    """
    n, c, h, w = shape
    out_h, out_w = conv_output_size(h, window_h, stride, pad), conv_output_size(w, window_w, stride, pad)
    seen = dp.permute_dims(dp.reshape(rows, (n, out_h, out_w, c, window_h, window_w)), (0, 3, 1, 2, 4, 5))
    return dp.overlap_add(seen, (h, w), strides=stride, padding=(pad, pad))
