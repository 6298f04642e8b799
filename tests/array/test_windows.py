"""The public side of windows: padding in words, pooling, the books' im2col and col2im, and what every error says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import defnpy as dp
from defnpy.errors import DTypeError, ShapeError
from defnpy.testing import check_grads

try:
    import jax
except ImportError:  # it comes with the extra defnpy[bench]
    jax = None

with_jax = pytest.mark.skipif(jax is None, reason="JAX is the oracle; it comes with the extra defnpy[bench]")


def draw(shape, seed=0, dtype=np.float64):
    """Small whole numbers: sums of products are exact in any order."""
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype(dtype)


def assert_same(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found, expected)


# -- padding in words -------------------------------------------------------------------------------------------------


def test_the_ways_to_say_one_padding():
    x, w = draw((2, 3, 6, 7)), draw((4, 3, 3, 3), 1)
    same = dp.conv(x, w, padding="same")
    assert same.shape == (2, 4, 6, 7)
    for padding in (1, (1, 1), [1, 1], ((1, 1), (1, 1)), (1, (1, 1)), np.int64(1)):
        assert_same(dp.conv(x, w, padding=padding), same)
    assert_same(dp.conv(x, w, padding="valid"), dp.conv(x, w))
    assert_same(dp.conv(x, w, strides=[2, 2], dilation=(1, 1)), dp.conv(x, w, strides=2))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2)))
    assert_same(dp.conv(x, w, padding=((1, 0), (0, 2))), dp.conv(padded, w))
    assert_same(dp.windows(x, (3, 3), padding=((1, 0), (0, 2))), dp.windows(padded, (3, 3)))


@with_jax
@pytest.mark.parametrize("size", [4, 5, 6, 7, 11])
@pytest.mark.parametrize(
    ("window", "stride", "dilation"), [(2, 1, 1), (3, 2, 1), (2, 3, 1), (3, 1, 2), (4, 2, 2), (1, 2, 1)]
)
def test_same_is_jaxs_same(size, window, stride, dilation):
    x, w = draw((1, 1, size), dtype=np.float32), draw((1, 1, window), 1, np.float32)
    found = dp.conv(x, w, strides=stride, padding="same", dilation=dilation)
    expected = jax.lax.conv_general_dilated(x, w, (stride,), "SAME", rhs_dilation=(dilation,))
    assert found.shape[2] == -(-size // stride)
    assert_same(found, expected)
    assert dp.conv_transpose(found, w, strides=stride, padding="same", dilation=dilation, size=size).shape == x.shape


# -- pooling --------------------------------------------------------------------------------------------------------


def test_the_books_pooling():
    """Chapter 7: 2 × 2 windows with stride 2, on an image of two channels."""
    image = np.array(
        [
            [
                [[1, 2, 0, 1], [3, 0, 2, 4], [1, 0, 3, 2], [4, 2, 0, 1]],
                [[4, 2, 1, 2], [3, 0, 4, 0], [1, 2, 3, 2], [4, 2, 0, 1]],
            ]
        ],
        np.float32,
    )
    expected = [[[[3, 4], [4, 3]], [[4, 4], [4, 3]]]]
    for backend in ("reference", "cpu"):
        assert dp.defn(lambda x: dp.max_pool(x, 2), backend=backend)(image).tolist() == expected
        assert dp.defn(lambda x: dp.max_pool(x, (2, 2), strides=2), backend=backend)(image).tolist() == expected
    assert dp.mean_pool(image, 2).tolist() == [[[[1.5, 1.75], [1.75, 1.5]], [[2.25, 1.75], [2.25, 1.5]]]]


def test_the_gradient_goes_to_the_first_of_equal_elements():
    x = dp.asarray([[[[1.0, 2.0, 2.0, 2.0], [2.0, 0.0, 2.0, 2.0]]]])
    found = dp.grad(lambda x: dp.sum(dp.max_pool(x, 2)))(x)
    assert found.tolist() == [[[[0, 1, 1, 0], [0, 0, 0, 0]]]]
    assert dp.grad(lambda x: dp.sum(dp.max_pool(x, 2, strides=1)))(x).tolist() == [[[[0, 2, 1, 0], [0, 0, 0, 0]]]]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("shape", "window", "options"),
    [
        ((2, 3, 4, 6), (2, 2), {}),
        ((2, 1, 7), (3,), {"strides": 2, "padding": 1}),
        ((1, 2, 5, 5), (3, 2), {"strides": 1, "padding": ((1, 0), (0, 1)), "dilation": (1, 2)}),
        ((0, 2, 4), (2,), {}),
    ],
)
def test_mean_pool_is_a_convolution_with_equal_weights(shape, window, options, backend):
    """Of each channel on its own; padding counts as zeros."""
    x = draw(shape)
    weights = np.full((shape[1], 1, *window), 1 / np.prod(window))
    found = dp.defn(lambda x: dp.mean_pool(x, window, **options), backend=backend)(x)
    expected = dp.conv(x, weights, groups=shape[1], **{"strides": window, **options})
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)
    if x.size:
        check_grads(lambda x: dp.mean_pool(x, window, **options), [x])


def test_dtypes_of_pooling():
    x = draw((1, 1, 4))
    for dtype in ("int32", "uint8", "float32", "float64", "bool"):
        assert dp.max_pool(np.abs(x).astype(dtype), 2).dtype == dtype
    assert dp.mean_pool(x.astype("int32"), 2).dtype == "float32"
    assert dp.mean_pool(x, 2).dtype == "float64"


# -- windows, and the books' matrices of them --------------------------------------------------------------------------


def test_windows_are_numpys():
    x = draw((2, 3, 6, 7))
    dense = np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(2, 3))
    assert_same(dp.windows(x, (2, 3)), dense)
    assert_same(dp.windows(x, (2, 3), strides=(2, 1)), dense[:, :, ::2])
    assert_same(dp.windows(x, 3), np.lib.stride_tricks.sliding_window_view(x, 3, axis=3))
    assert_same(dp.windows(x, 2, dilation=3)[..., 1], x[..., 3:])


def test_overlap_add_counts_the_windows():
    ones = dp.ones((3, 3, 3, 3))
    assert dp.overlap_add(ones, (5, 5))[2].tolist() == [3, 6, 9, 6, 3]
    assert dp.overlap_add(ones, (3, 3), padding=1).tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    assert dp.overlap_add(dp.ones((2, 2)), 6, strides=3).tolist() == [1, 1, 0, 1, 1, 0]
    assert dp.overlap_add(dp.asarray([[True, True]]), 2).dtype == "int64"


def im2col_of_the_book(images, height, width, stride=1, pad=0):
    """common/util.py of the book's code, by loops over the window."""
    n, c, h, w = images.shape
    out_h, out_w = (h + 2 * pad - height) // stride + 1, (w + 2 * pad - width) // stride + 1
    padded = np.pad(images, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    columns = np.zeros((n, c, height, width, out_h, out_w))
    for y in range(height):
        for x in range(width):
            columns[:, :, y, x] = padded[:, :, y : y + stride * out_h : stride, x : x + stride * out_w : stride]
    return columns.transpose(0, 4, 5, 1, 2, 3).reshape(n * out_h * out_w, -1)


def im2col(images, height, width, stride=1, pad=0):
    taken = dp.windows(images, (height, width), strides=stride, padding=pad)
    n, c, out_h, out_w = taken.shape[:4]
    return dp.reshape(dp.permute_dims(taken, (0, 2, 3, 1, 4, 5)), (n * out_h * out_w, c * height * width))


def col2im(columns, shape, height, width, stride=1, pad=0):
    n, c, h, w = shape
    out_h, out_w = (h + 2 * pad - height) // stride + 1, (w + 2 * pad - width) // stride + 1
    taken = dp.permute_dims(dp.reshape(columns, (n, out_h, out_w, c, height, width)), (0, 3, 1, 2, 4, 5))
    return dp.overlap_add(taken, (h, w), strides=stride, padding=pad)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("shape", "height", "width", "stride", "pad"),
    [((1, 3, 7, 7), 5, 5, 1, 0), ((2, 3, 7, 6), 3, 2, 2, 1), ((2, 1, 4, 4), 2, 2, 2, 0), ((2, 2, 5, 5), 2, 3, 3, 2)],
)
def test_im2col_and_col2im(shape, height, width, stride, pad, backend):
    x = draw(shape)
    options = (height, width, stride, pad)
    columns = dp.defn(lambda x: im2col(x, *options), backend=backend)(x)
    assert_same(columns, im2col_of_the_book(x, *options))
    g = draw(columns.shape, 1)
    image = dp.defn(lambda g: col2im(g, shape, *options), backend=backend)(g)
    assert image.shape == shape
    assert np.sum(np.asarray(image) * x) == np.sum(g * np.asarray(columns))  # transposes
    assert_same(dp.grad(dp.defn(lambda x, g: dp.sum(im2col(x, *options) * g), backend=backend))(x, g), image)
    check_grads(lambda x: im2col(x, *options) ** 2, [x])
    check_grads(lambda g: col2im(g, shape, *options) ** 2, [g])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_books_convolution_is_conv(backend):
    """im2col, one matrix product, and the axes back in order: the forward pass of the book's layer."""
    x, w, b = draw((2, 3, 7, 7)), draw((4, 3, 5, 5), 1), draw((4,), 2)

    def by_hand(x, w, b):
        y = im2col(x, 5, 5, stride=2, pad=1) @ dp.reshape(w, (4, -1)).T + b
        return dp.permute_dims(dp.reshape(y, (2, 3, 3, 4)), (0, 3, 1, 2))

    def by_name(x, w, b):
        return dp.conv(x, w, strides=2, padding=1) + b[:, None, None]

    g = draw((2, 4, 3, 3), 3)
    assert_same(dp.defn(by_name, backend=backend)(x, w, b), by_hand(x, w, b))
    gradients = [
        dp.grad(dp.defn(lambda x, w, b, f=f: dp.sum(f(x, w, b) * g), backend=backend), (0, 1, 2))(x, w, b)
        for f in (by_hand, by_name)
    ]
    for one, other in zip(*gradients, strict=True):
        assert_same(one, other)


@given(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 4))
def test_any_windows_and_their_sum(lead, window, stride, low, high, more):
    """Taken from an array and added back, every element is counted as often as windows see it."""
    size = max(window - low - high, 1) + more
    x = draw((2,) * lead + (size,))
    options = {"strides": stride, "padding": ((low, high),)}
    taken = dp.windows(x, window, **options)
    padded = np.pad(x, ((0, 0),) * lead + ((low, high),))
    assert_same(taken, np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1)[..., ::stride, :])
    seen = np.zeros(low + size + high)
    for at in range(taken.shape[-2]):
        seen[at * stride : at * stride + window] += 1
    assert_same(dp.overlap_add(taken, size, **options), x * seen[low : low + size])


# -- a small net ----------------------------------------------------------------------------------------------------


def net(params, x):
    hidden = dp.relu(dp.conv(x, params["W1"], padding="same") + params["b1"][:, None, None])
    pooled = dp.max_pool(hidden, 2)
    return dp.reshape(pooled, (x.shape[0], -1)) @ params["W2"]


def test_a_net_has_the_same_gradient_on_every_backend():
    rng = np.random.default_rng(8)
    params = {
        "W1": rng.standard_normal((4, 1, 3, 3)),
        "b1": rng.standard_normal(4),
        "W2": rng.standard_normal((4 * 3 * 3, 5)),
    }
    x = rng.standard_normal((2, 1, 6, 6))

    def loss(params, x):
        return dp.mean(dp.logsumexp(net(params, x), axis=1))

    check_grads(loss, [params, x])
    eager = dp.grad(loss)(params, x)
    for backend in ("reference", "cpu"):
        found = dp.grad(dp.defn(loss, backend=backend))(params, x)
        for name, part in eager.items():
            np.testing.assert_allclose(found[name], part, rtol=1e-12, atol=1e-14)


def test_the_graph_of_the_gradient_uses_only_what_it_needs():
    """With respect to the weights alone, nothing is convolved back to the image."""
    params = {"W1": dp.ones((4, 1, 3, 3)), "b1": dp.ones(4), "W2": dp.ones((36, 5))}
    gradient = dp.defn(lambda params, x: dp.grad(lambda params, x: dp.sum(net(params, x)))(params, x))
    names = [node.op.name for node in gradient.expr(params, dp.ones((2, 1, 6, 6))).nodes()]
    assert names.count("conv") == names.count("conv_weight") == names.count("max_unpool") == 1
    assert "conv_transpose" not in names and "max_pool" in names


# -- errors ---------------------------------------------------------------------------------------------------------

X, W = dp.ones((1, 3, 8, 8)), dp.ones((4, 3, 3, 3))
Y = dp.ones((1, 4, 3, 3))
LAYOUT = "x is (batch, channels, *spatial), and w is (output channels, input channels / groups, *kernel)"
LAYOUT_OF_W = "w has the shape (output channels, input channels / groups, *kernel)"
PAD = 'pad the input, or say padding="same"'

ERRORS = [
    (lambda: dp.conv(X[0], W), "conv(f32[3,8,8], f32[4,3,3,3]): x has 3 axes and w has 4: " + LAYOUT,
     "add the batch axis of a single example: x[None]"),
    (lambda: dp.conv(X, W[0]), "conv(f32[1,3,8,8], f32[3,3,3]): x has 4 axes and w has 3: " + LAYOUT, ""),
    (lambda: dp.conv(X[0, 0], W[0, 0]), "conv(f32[8,8], f32[3,3]): x has 2 axes and w has 2: " + LAYOUT, ""),
    (lambda: dp.conv(X, W[:, :2]), "conv(f32[1,3,8,8], f32[4,2,3,3]): x has 3 channels, and w takes 2", LAYOUT_OF_W),
    (lambda: dp.conv(X, W, groups=3),
     "conv(f32[1,3,8,8], f32[4,3,3,3]): x has 3 channels, and w takes 3 × 3 groups = 9", LAYOUT_OF_W),
    (lambda: dp.conv(X, W[:, :1], groups=3),
     "conv(f32[1,3,8,8], f32[4,1,3,3]): 4 output channels do not split into 3 groups",
     "w.shape[0] is a multiple of groups"),
    (lambda: dp.conv(X, W, groups=0), "conv(f32[1,3,8,8], f32[4,3,3,3]): groups must be at least 1, not 0", ""),
    (lambda: dp.conv(X, dp.ones((4, 3, 9, 3))),
     "conv(f32[1,3,8,8], f32[4,3,9,3]): a window of 9 does not fit axis -2, which has size 8", PAD),
    (lambda: dp.conv(X, W, padding=1, dilation=(1, 5)),
     "conv(f32[1,3,8,8], f32[4,3,3,3]): a window of 11 (3 with dilation 5) does not fit axis -1, which has size 10 "
     "with its padding", PAD),
    (lambda: dp.conv(X, W, strides=0), "conv(f32[1,3,8,8], f32[4,3,3,3]): strides must be at least 1, not 0", ""),
    (lambda: dp.conv(X, W, strides=1.5),
     "conv(f32[1,3,8,8], f32[4,3,3,3]): strides must be an int, or ints, not 1.5", ""),
    (lambda: dp.conv(X, W, dilation=(1, 1, 1)),
     "conv(f32[1,3,8,8], f32[4,3,3,3]): dilation has 3 entries for 2 spatial axes", ""),
    (lambda: dp.conv(X, W, padding=(1, 2, 3)),
     "conv(f32[1,3,8,8], f32[4,3,3,3]): padding has 3 entries for 2 spatial axes", "give an int or a pair per axis"),
    (lambda: dp.conv(X, W, padding=((1, 2, 3), 1)),
     "conv(f32[1,3,8,8], f32[4,3,3,3]): the padding of an axis is an int or a pair of ints, not (1, 2, 3)", ""),
    (lambda: dp.conv(X, W, padding=-1),
     "conv(f32[1,3,8,8], f32[4,3,3,3]): padding is not negative: -1", "crop with a slice: x[..., 1:-1]"),
    (lambda: dp.conv(X, W, padding="full"),
     "conv(f32[1,3,8,8], f32[4,3,3,3]): padding 'full' is not known", 'say "same", "valid", or how many elements'),
    (lambda: dp.conv_transpose(X, W),
     "conv_transpose(f32[1,3,8,8], f32[4,3,3,3]): y has 3 channels, and w takes 4",
     "w has the shape (channels of y, channels of the result / groups, *kernel)"),
    (lambda: dp.conv_transpose(Y, W, size=9),
     "conv_transpose(f32[1,4,3,3], f32[4,3,3,3]): a result of size (9, 9) has (7, 7) windows, and y has (3, 3)",
     "without size it is the smallest that fits"),
    (lambda: dp.conv_transpose(Y[0], W),
     "conv_transpose(f32[4,3,3], f32[4,3,3,3]): y has 3 axes and w has 4: y" + LAYOUT[1:],
     "add the batch axis of a single example: y[None]"),
    (lambda: dp.max_pool(X[0, 0], 2),
     "max_pool(f32[8,8]): pooling takes (batch, channels, *spatial), and the shape is (8, 8)",
     "add the axes that are missing: x[None]"),
    (lambda: dp.max_pool(X, (2, 2, 2)), "max_pool(f32[1,3,8,8]): window has 3 entries for 2 spatial axes", ""),
    (lambda: dp.max_pool(X, 9), "max_pool(f32[1,3,8,8]): a window of 9 does not fit axis -2, which has size 8", PAD),
    (lambda: dp.max_pool(X, 2, padding=2),
     "max_pool(f32[1,3,8,8]): a window lies in the padding alone, and nothing has no maximum",
     "pad by less than a window"),
    (lambda: dp.mean_pool(X, 9),
     "mean_pool(f32[1,3,8,8], 9): a window of 9 does not fit axis -2, which has size 8", PAD),
    (lambda: dp.windows(X[0, 0, 0], 9), "windows(f32[8]): a window of 9 does not fit axis -1, which has size 8", PAD),
    (lambda: dp.windows(X[0, 0, 0], (2, 2)),
     "windows(f32[8], tuple): a window with 2 axes does not slide over 1", ""),
    (lambda: dp.overlap_add(dp.ones((3, 3)), 6),
     "overlap_add(f32[3,3]): an array of size (6,) has (4,) windows of (3,), not (3,)", ""),
    (lambda: dp.overlap_add(dp.ones(3), (6, 6)),
     "overlap_add(f32[3], tuple): windows over 2 take 4 axes, their places and what is in them, not 1", ""),
    (lambda: dp.conv(X, W[:, :, :0]), "conv(f32[1,3,8,8], f32[4,3,0,3]): a window without elements: (0, 3)", ""),
    (lambda: dp.overlap_add(dp.ones(3), 6),
     "overlap_add(f32[3], 6): windows over 1 take 2 axes, their places and what is in them, not 1", ""),
]  # fmt: skip


@pytest.mark.parametrize(("call", "what", "hint"), ERRORS)
def test_errors_say_what_and_the_way_out(call, what, hint):
    with pytest.raises(ShapeError) as caught:
        call()
    assert caught.value.what == what
    assert caught.value.hint == hint
    assert "test_windows.py" in caught.value.where


def test_a_traced_error_is_the_same():
    with pytest.raises(ShapeError, match="x has 3 channels, and w takes 2"):
        dp.defn(lambda x, w: dp.conv(x, w)).expr(X, W[:, :2])


def test_lists_are_no_tensors():
    with pytest.raises(DTypeError, match="is not a tensor"):
        dp.conv([[[1.0]]], W)
