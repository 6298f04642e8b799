"""The circular functions and their inverses, in the scalar dialect (see :mod:`mathematics`).

Large arguments are reduced after Payne and Hanek, "Radian reduction for trigonometric functions", SIGNUM 18, 1983: of
1 / pi only those bits matter that begin where the exponent of x says. The coefficients are minimax (Remez) for the
relative error of the whole function, highest power first, by the bits of the dtype.
"""

# The names that are built in mean nothing to Python, so no checker can follow them here.
# ruff: noqa: F821
# mypy: ignore-errors

_ROUND_F32 = 12582912.0  # 1.5 * 2**23: what is added to it is rounded to an integer, which stands in the low bits
_ROUND_F64 = 6755399441055744.0
_TWO_OVER_PI = 0.6366197723675814
_HALF_PI = {
    32: (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    64: (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
_HALF_PI_UNITS = (1.462918119976564e-09, -4.070940267922164e-17)  # pi / 2 * 2**-30
_TWO_PI = (6.283185307179586, 2.4492935982947064e-16)

# The bits of 2 / pi after 8 zeros, in words of 32.
_TWO_OVER_PI_WORDS = (0x00A2F983, 0x6E4E4415, 0x29FC2757, 0xD1F534DD, 0xC0DB6295, 0x993C4390, 0x41FE5163)

# The bits of 1 / (2 pi) after 96 zeros, in words of 48.
_TURN_WORDS = (
    0, 0, 0x28BE60DB9391, 0x054A7F09D5F4, 0x7D4D377036D8, 0xA5664F10E410, 0x7F9458EAF7AE, 0xF1586DC91B8E,
    0x909374B80192, 0x4BBA82746487, 0x3F877AC72C4A, 0x69CFBA208D7D, 0x4BAED1213A67, 0x1C09AD17DF90, 0x4E64758E60D4,
    0xCE7D272117E2, 0xEF7E4A0EC7FE, 0x25FFF7816603, 0xFBCBC462D682, 0x9B47DB4D9FB3, 0xC9F2C26DD3D1, 0x8FD9A797FA8B,
    0x5D49EEB1FAF9, 0x7C5ECF41CE7D, 0xE294A4BA9AFE, 0xD7EC47E35742, 0x1580CC11BF1E,
)  # fmt: skip


def word_u32(at, i):
    """Word at // 32 + i of 2 / pi, for at < 128."""
    two = at & 64 != 0
    odd = _TWO_OVER_PI_WORDS[i + 3] if two else _TWO_OVER_PI_WORDS[i + 1]
    even = _TWO_OVER_PI_WORDS[i + 2] if two else _TWO_OVER_PI_WORDS[i]
    return odd if at & 32 != 0 else even


def quarters_near(x, half_pi, shifter):
    """(shifted, r, tail): x = n pi / 2 + r + tail for 0 <= x < 2**17, by a pi / 2 of three words; n in the low bits of
    the first."""
    shifted = fma(x, _TWO_OVER_PI, shifter)
    n = shifted - shifter
    r0 = fma(n, -half_pi[0], x)
    p = n * half_pi[1]
    r, e = two_sum(r0, -p)
    return shifted, r, fma(n, -half_pi[2], e - fma(n, half_pi[1], -p))


def quarters_f32(x):
    """(n, r, tail): x = n pi / 2 + r + tail for x >= 0, n an int32 to be taken modulo 4, |r| <= pi / 4.

    Below 2**17 with a pi / 2 of three words; above, the product of the 24 bits of x and 96 bits of 2 / pi, modulo 4.
    """
    shifted, near, near_low = quarters_near(x, _HALF_PI[32], _ROUND_F32)
    bits = as_int(x)
    at = uint32((bits >> 23) - 144)
    w0, w1, w2, w3 = word(at, 0), word(at, 1), word(at, 2), word(at, 3)
    left = at & 31
    right = 31 - left
    w0 = (w0 << left) | ((w1 >> 1) >> right)
    w1 = (w1 << left) | ((w2 >> 1) >> right)
    w2 = (w2 << left) | ((w3 >> 1) >> right)
    m = uint32((bits & 0x7FFFFF) | 0x800000)
    product = (uint64(m * w0) << 32) + uint64(m) * uint64(w1) + ((uint64(m) * uint64(w2)) >> 32)
    high = int32(product >> 32)
    turns = (high + 0x20000000) >> 30
    rest = high - (turns << 30)
    # In units of 2**-30: a head of 23 bits, and the 31 bits after it.
    head = float32(rest & -64)
    tail = float32(((rest & 63) << 25) | int32((product & 0xFFFFFFFF) >> 7)) * 2.9802322387695312e-08
    far = head * _HALF_PI_UNITS[0]
    far_low = fma(head, _HALF_PI_UNITS[0], -far) + fma(head, _HALF_PI_UNITS[1], tail * _HALF_PI_UNITS[0])
    small = likely(x < 131072.0)
    r = near if small else far
    low = near_low if small else far_low
    s = r + low
    return (as_int(shifted) if small else turns), s, (r - s) + low


def turn_words(b):
    """Words b to b + 4 of 1 / (2 pi) for 0 <= b < 23, as float64: a barrel shifter."""
    words = _TURN_WORDS
    for shift, count in ((16, 20), (8, 12), (4, 8), (2, 6), (1, 5)):
        moved = ()
        for i in range(count):
            word = float64(words[i])
            if i + shift < len(words):
                word = float64(words[i + shift]) if b & shift != 0 else word
            moved = moved + (word,)
        words = moved
    return words


def quarters_f64(x):
    """(n, r, tail): x = n pi / 2 + r + tail for x >= 0, n an int64 to be taken modulo 4, |r| <= pi / 4.

    Below 2**17 with a pi / 2 of three words, of which n times the first leaves an exact rest. Above, with
    x = x0 2**(48 j), 60 <= log2(x0) < 108, the words of 1 / (2 pi) before word j give whole turns, and so do the upper
    halves of the products with it. The five words from there on are multiplied exactly, by fma, and summed without
    error as far as it can show: down to 2**-117 turns, as x can be within 2**-62 of a multiple of pi / 2.
    """
    shifted, near, near_low = quarters_near(x, _HALF_PI[64], _ROUND_F64)
    bits = as_int(x)
    b = (((bits >> 52) - 987) * 1366) >> 16  # (exponent + 36) // 48
    w0, w1, w2, w3, w4 = turn_words(b)
    x0 = as_float(bits - ((b * 48 - 96) << 52)) * 3.552713678800501e-15  # 2**-48
    x1 = x0 * 3.552713678800501e-15
    x2 = x1 * 3.552713678800501e-15
    x3 = x2 * 3.552713678800501e-15
    x4 = x3 * 3.552713678800501e-15
    p0 = fma(x0, w0, -(x0 * w0))
    p1 = x1 * w1
    p1_low = fma(x1, w1, -p1)
    p2 = x2 * w2
    p2_low = fma(x2, w2, -p2)
    p3 = x3 * w3
    p3_low = fma(x3, w3, -p3)
    first = (p0 - rint(p0)) + (p1 - rint(p1))  # exact: the last bits of both are far above 2**-53
    second, e0 = two_sum(p1_low, p2 - rint(p2))
    n = rint(4 * (first + second))
    a, e1 = two_sum(fma(n, -0.25, first), second)
    a, e2 = two_sum(a, p3)
    a, e3 = two_sum(a, p2_low)
    low = ((e1 + e2) + e3) + (e0 + fma(x4, w4, p3_low))
    turn = a + low
    turn_low = low - (turn - a)
    far = turn * _TWO_PI[0]
    far_low = fma(turn, _TWO_PI[0], -far) + fma(turn, _TWO_PI[1], turn_low * _TWO_PI[0])
    small = likely(x < 131072.0)
    r = near if small else far
    low = near_low if small else far_low
    s = r + low
    return as_int(shifted if small else n + _ROUND_F64), s, (r - s) + low


# (sin(r) - r) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4 in r**2, for |r| <= pi / 4
_SIN = {
    32: (2.717366669457988e-06, -0.00019839232845697552, 0.008333329111337662, -0.1666666716337204),
    64: (
        -7.578526740878705e-13, 1.6058362895639714e-10, -2.5052104879769902e-08, 2.7557319214056972e-06,
        -0.00019841269841254784, 0.008333333333333323, -0.16666666666666666,
    ),
}  # fmt: skip
_COS = {
    32: (2.4425680749118328e-05, -0.0013887251261621714, 0.04166664555668831),
    64: (
        -1.1358513823316926e-11, 2.087570041343263e-09, -2.755731417621918e-07, 2.4801587288841323e-05,
        -0.001388888888887304, 0.041666666666666595,
    ),
}  # fmt: skip


def sin_rest(r, tail):
    """sin(r + tail) - r for |r| <= pi / 4."""
    z = r * r
    return fma(r * z, horner(z, _SIN[width(r)]), fma(-0.5 * z, tail, tail))


def cos_rest(r, tail):
    """(c, d): cos(r + tail) = c + d for |r| <= pi / 4, d small."""
    z = r * r
    c = fma(z, -0.5, 1.0)
    return c, fma(z * z, horner(z, _COS[width(r)]), fma(z, -0.5, 1 - c) - r * tail)


def wave(r, tail, n):
    """sin(n pi / 2 + r + tail)."""
    c, d = cos_rest(r, tail)
    y = r + sin_rest(r, tail) if n & 1 == 0 else c + d
    return as_float(as_int(y) ^ (n >> 1 << (width(n) - 1)))


def sin_f(x):
    """NaN at infinity."""
    n, r, tail = quarters(abs(x))
    y = wave(r, tail, n)
    y = y * copysign(1.0, x)
    return y if abs(x) < inf else x - x


def cos_f(x):
    """NaN at infinity."""
    n, r, tail = quarters(abs(x))
    y = wave(r, tail, n + 1)
    return y if abs(x) < inf else x - x


def tan_f(x):
    """The quotient of sine and cosine, both in two words. NaN at infinity."""
    n, r, tail = quarters(abs(x))
    s_rest = sin_rest(r, tail)
    s = r + s_rest
    s_low = (r - s) + s_rest
    c0, d = cos_rest(r, tail)
    c = c0 + d
    c_low = (c0 - c) + d
    even = n & 1 == 0
    over = s if even else -c
    over_low = s_low if even else -c_low
    under = c if even else s
    under_low = c_low if even else s_low
    inverse = 1 / under
    q = over * inverse
    y = fma(fma(-q, under, over) + fma(-q, under_low, over_low), inverse, q) * copysign(1.0, x)
    return y if abs(x) < inf else x - x


# -- inverses -------------------------------------------------------------------------------------------------------

# (atan(q) - q) / q**3 in q**2 for |q| <= 1, (asin(t) - t) / t**3 in t**2 for |t| <= 1/2
_ATAN = {
    32: (
        -0.0017936144722625613, 0.0109145762398839, -0.03117779828608036, 0.05795755237340927, -0.08403448760509491,
        0.10952185094356537, -0.14264242351055145, 0.19998548924922943, -0.33333298563957214,
    ),
    64: (
        1.322466825705877e-05, -0.00015215674127702278, 0.0008313025306935949, -0.002884862931764226,
        0.007196393635528345, -0.01390040284695528, 0.021984683570244863, -0.02990371783344551, 0.03664182050411832,
        -0.042191744266965814, 0.04722320450702916, -0.052535180202224585, 0.058805276918671615, -0.06666404036365266,
        0.07692279836617626, -0.09090907002754649, 0.11111111007012309, -0.14285714282574624, 0.1999999999995145,
        -0.3333333333333307,
    ),
}  # fmt: skip
_ASIN = {
    32: (
        0.042166322469711304, 0.024179507046937943, 0.04547037556767464, 0.07495297491550446, 0.16666752099990845,
    ),
    64: (
        0.03262876591227676, -0.020999307365646674, 0.021707634184789087, 0.0037063251292691933, 0.010780277051979942,
        0.011398907424043061, 0.013980821206445662, 0.01735161195139324, 0.02237221499157022, 0.030381942707627597,
        0.044642857174615413, 0.07499999999970797, 0.1666666666666676,
    ),
}  # fmt: skip


def atan_f(x):
    """pi / 2 - atan(1 / x) beyond 1."""
    half_pi = _HALF_PI[width(x)]
    a = abs(x)
    q = 1 / a if a > 1 else a
    p = q * q * q * horner(q * q, _ATAN[width(x)])
    far = half_pi[0] - q
    y = far + (((half_pi[0] - far) - q) + (half_pi[1] - p)) if a > 1 else q + p
    return copysign(y, x)


def atan2_f(y, x):
    """The angle of the point (x, y), from -pi to pi; zeros and infinities as C has them."""
    half_pi = _HALF_PI[width(x)]
    a = abs(y)
    b = abs(x)
    steep = a > b
    q = (b if steep else a) / (a if steep else b)
    q = (0 if a == 0 else 1) if a == b else q
    u = fma(q * q * q, horner(q * q, _ATAN[width(x)]), q)
    left = as_int(x) < 0
    u = -u if left != steep else u
    turns = 1 if steep else (2 if left else 0)
    return copysign(fma(turns, half_pi[0], fma(turns, half_pi[1], u)), y)


def asin_rest(a):
    """(t, w): asin(a) = t + w for 0 <= a < 1/2, pi / 2 - 2 (t + w) for 1/2 <= a <= 1, by the sine of half the angle."""
    far = a >= 0.5
    z = (1 - a) * 0.5 if far else a * a
    root = sqrt(z)
    t = root if far else a
    low = fma(-root, root, z) * 0.5 / root
    low = low if far and z > 0 else 0
    return t, fma(t * z, horner(z, _ASIN[width(a)]), low)


def asin_f(x):
    """NaN beyond -1 and 1."""
    half_pi = _HALF_PI[width(x)]
    a = abs(x)
    t, w = asin_rest(a)
    h = half_pi[0] - 2 * t
    far = h + (((half_pi[0] - h) - 2 * t) + (half_pi[1] - 2 * w))
    return copysign(far if a >= 0.5 else t + w, x)


def acos_f(x):
    """NaN beyond -1 and 1."""
    half_pi = _HALF_PI[width(x)]
    a = abs(x)
    t, w = asin_rest(a)
    sign = copysign(1.0, x)
    h = half_pi[0] - t * sign
    middle = h + (((half_pi[0] - h) - t * sign) + (half_pi[1] - w * sign))
    g = half_pi[0] - t
    below = 2 * (g + (((half_pi[0] - g) - t) + (half_pi[1] - w)))
    return (2 * (t + w) if x > 0 else below) if a >= 0.5 else middle
