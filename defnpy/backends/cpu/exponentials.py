"""exp, log, powers and the hyperbolic functions, in the scalar dialect (see :mod:`mathematics`).

The pattern is that of Cody and Waite, "Software manual for the elementary functions", 1980: reduce the argument by
numbers split into words, with fma so that the large part cancels exactly; a polynomial on the small rest; put together.
The coefficients are minimax (Remez) for the relative error of the whole function, highest power first, by the bits of
the dtype. The measured errors stand in docs/mathematics.md.
"""

# The names that are built in mean nothing to Python, so no checker can follow them here.
# ruff: noqa: F821
# mypy: ignore-errors

_BIAS = {32: 127, 64: 1023}
_FRACTION = {32: 23, 64: 52}
# 1.5 * 2**23 and 1.5 * 2**52: what is added to them is rounded to an integer, which stands in the low bits.
_ROUND = {32: 12582912.0, 64: 6755399441055744.0}
_ROUND_BITS = {32: 0x4B400000, 64: 0x4338000000000000}
_ROOT_HALF_BITS = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}
_TINY = {32: 1.1754943508222875e-38, 64: 2.2250738585072014e-308}  # the smallest normal number
_LIFT = {32: 8388608.0, 64: 4503599627370496.0}
_LOG2E = {32: (1.4426950216293335, 1.925963033500011e-08), 64: (1.4426950408889634, 2.0355273740931033e-17)}
_LOG10E = {32: (0.4342944920063019, -1.0103049952192578e-08), 64: (0.4342944819032518, 1.098319650216765e-17)}
_LOG10_2 = {32: (0.3010300099849701, -1.432098883924482e-08), 64: (0.3010299956639812, -2.8037281277851704e-18)}
_LN2 = {32: (0.6931471824645996, -1.9046542121259336e-09), 64: (0.6931471805599453, 2.3190468138462996e-17)}


def horner(x, coefficients):
    """The polynomial with these coefficients, highest power first."""
    p = coefficients[0]
    for c in coefficients[1:]:
        p = fma(p, x, c)
    return p


def two_sum(a, b):
    """a + b exactly, as the rounded sum and what it lost (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def power_of_two(k):
    """2**k for an integer, as the float of as many bits; k from -126 to 127, or from -1022 to 1023."""
    bits = width(k)
    return as_float((k + _BIAS[bits]) << _FRACTION[bits])


def to_float(k):
    """A small integer as the float of as many bits."""
    bits = width(k)
    return as_float(k + _ROUND_BITS[bits]) - _ROUND[bits]


def scale(x, k):
    """x 2**k for an integer of as many bits, rounded once: a subnormal result is reached in the second product."""
    half = k >> 1
    return x * power_of_two(half) * power_of_two(k - half)


# -- exponentials ---------------------------------------------------------------------------------------------------


def reduced(x):
    """(k, r, tail): x = k log(2) + r + tail, k an integer of as many bits, |r| <= log(2) / 2, tail what r lost."""
    bits = width(x)
    shifted = fma(x, _LOG2E[bits][0], _ROUND[bits])
    n = shifted - _ROUND[bits]
    exact = fma(n, -_LN2[bits][0], x)
    r = fma(n, -_LN2[bits][1], exact)
    return as_int(shifted) - _ROUND_BITS[bits], r, fma(n, -_LN2[bits][1], exact - r)


# (exp(r) - 1 - r) / r**2 for |r| <= log(2) / 2: for the error relative to exp(r), and relative to expm1(r)
_EXP = {
    32: (
        0.001381431706249714, 0.00836885068565607, 0.041668400168418884, 0.1666651964187622, 0.4999999403953552,
    ),
    64: (
        2.499987744656668e-08, 2.76305245768135e-07, 2.7557588361121325e-06, 2.4801492385060843e-05,
        0.00019841269502808467, 0.001388888894425243, 0.008333333333496892, 0.04166666666652809, 0.16666666666666408,
        0.5000000000000011,
    ),
}  # fmt: skip
_EXPM1 = {
    32: (
        0.0013882503844797611, 0.00836664717644453, 0.04166720435023308, 0.16666541993618011, 0.4999999701976776,
    ),
    64: (
        2.087534756359217e-09, 2.5109195772647807e-08, 2.7557403204029096e-07, 2.7557243802324738e-06,
        2.480158717114587e-05, 0.00019841269886479077, 0.0013888888888963454, 0.008333333333321513,
        0.041666666666666505, 0.16666666666666677, 0.5,
    ),
}  # fmt: skip
_LOWEST = {32: -104.0, 64: -746.0}  # below, exp gives 0
_HIGHEST = {32: 90.0, 64: 711.0}  # above, half of exp gives inf


def exp_parts(r):
    """(a, b): exp(r) = a + b for |r| <= log(2) / 2, b smaller."""
    a = r + 1
    return a, fma(r * r, horner(r, _EXP[width(r)]), r - (a - 1))


def exp_sum(x, low):
    """(k, a, b): exp(x + low) = 2**k (a + b), for a low that may be as large as the last bit of a large x."""
    k, r, tail = reduced(x)
    tail = tail + low
    s = r + tail
    a, b = exp_parts(s)
    return k, a, b + ((r - s) + tail) * a


def exp_times(x, power):
    """exp(x) 2**power for a known power, 0 or -1. NaN goes through the arithmetic."""
    bits = width(x)
    x = _LOWEST[bits] if x < _LOWEST[bits] else x
    x = _HIGHEST[bits] if x > _HIGHEST[bits] else x
    k, r, _tail = reduced(x)
    a, b = exp_parts(r)
    return scale(a + b, k + power)


def exp_f(x):
    """e**x."""
    return exp_times(x, 0)


# (2**r - 1) / r for |r| <= 1/2
_EXP2 = {
    32: (
        1.5196161257335916e-05, 0.00015466756303794682, 0.0013333935057744384, 0.009618038311600685,
        0.055504102259874344, 0.24022650718688965, 0.6931471824645996,
    ),
    64: (
        2.5625417417581563e-11, 4.4565704495380476e-10, 7.054974479123125e-09, 1.0178051942386931e-07,
        1.321548659491478e-06, 1.525273385431719e-05, 0.00015403530393640711, 0.0013333558146392693,
        0.00961812910762833, 0.05550410866482169, 0.24022650695910072, 0.6931471805599453,
    ),
}  # fmt: skip

_EXP2_ENDS = {32: (-152.0, 130.0), 64: (-1080.0, 1026.0)}


def exp2_f(x):
    """2**x: the integer part is the exponent of the result."""
    bits = width(x)
    low, high = _EXP2_ENDS[bits]
    x = low if x < low else x
    x = high if x > high else x
    shifted = x + _ROUND[bits]
    r = x - (shifted - _ROUND[bits])
    return scale(fma(r, horner(r, _EXP2[bits]), 1.0), as_int(shifted) - _ROUND_BITS[bits])


_EXPM1_ENDS = {32: (-18.0, 89.0), 64: (-38.0, 710.0)}


def expm1_f(x):
    """2**k (1 + p) - 1 with p = expm1(r), as 2**k p + (2**k - 1)."""
    bits = width(x)
    low, high = _EXPM1_ENDS[bits]
    c = low if x < low else x
    c = high if c > high else c
    k, r, _tail = reduced(c)
    p = fma(r * r, horner(r, _EXPM1[bits]), r)
    half = power_of_two(k - 1)  # 2**k would overflow before the result does
    y = p if k == 0 else fma(half, p, half - 0.5) * 2
    return x if x == 0 else y


def sigmoid_f(x):
    """exp of a negative number only: it never overflows, and far below 0 the result is a tiny number, not 0."""
    e = exp(-abs(x))
    d = 1 + e
    y = (1 if x >= 0 else e) / d
    return fma(y, (d - 1) - e, y)  # what the rounding of d lost; d is near 1 where that shows


# -- logarithms -----------------------------------------------------------------------------------------------------


def split(x):
    """(k, n, f): x = 2**n (1 + f) for x > 0, sqrt(1/2) <= 1 + f < sqrt(2). k is n as an integer where x is normal."""
    bits = width(x)
    tiny = x < _TINY[bits]
    whole = as_int(x * _LIFT[bits] if tiny else x)
    k = (whole - _ROOT_HALF_BITS[bits]) >> _FRACTION[bits]
    f = as_float(whole - (k << _FRACTION[bits])) - 1
    return k, to_float(k) - (_FRACTION[bits] if tiny else 0), f


# (log(1 + f) - f + f**2 / 2) / f**3; and in s**2, s = f / (2 + f): (2 atanh(s) - 2s) / s**3 (Tang, ACM TOMS 16, 1990)
_LOG = {
    32: (
        0.0674668550491333, -0.11675691604614258, 0.11888162791728973, -0.12405582517385483, 0.14219552278518677,
        -0.1666799634695053, 0.2000211924314499, -0.25000009040708694, 0.3333331346511841,
    ),
    64: (
        0.14796261664541405, 0.1531402108525938, 0.1818356540788084, 0.22222198553788663, 0.2857142874256188,
        0.39999999999413965, 0.6666666666666734,
    ),
}  # fmt: skip


def log_rest_f32(f):
    """log(1 + f) - f."""
    return f * f * fma(f, horner(f, _LOG[32]), -0.5)


def log_rest_f64(f):
    """log(1 + f) - f."""
    s = f / (2 + f)
    z = s * s
    h = 0.5 * f * f
    return fma(s, fma(z, horner(z, _LOG[64]), h), -h)


def log_ends(x, y):
    """y, the logarithm of x > 0, with the other cases."""
    y = y if x < inf else x
    return y if x > 0 else (-inf if x == 0 else nan)


def log_f(x):
    """-inf at 0, NaN below."""
    ln2 = _LN2[width(x)]
    _k, n, f = split(x)
    return log_ends(x, fma(n, ln2[0], f + fma(n, ln2[1], log_rest(f))))


def log_base(x, two, e):
    """The logarithm for a base given by the logarithms of 2 and of e, each in two words."""
    _k, n, f = split(x)
    head = n * two[0]
    y = f * e[0]
    s = head + y
    low = fma(f, e[0], -y) + fma(f, e[1], log_rest(f) * e[0]) + (fma(n, two[0], -head) + n * two[1])
    return log_ends(x, s + (((head - s) + y) + low))


def log2_f(x):
    """-inf at 0, NaN below."""
    return log_base(x, (1.0, 0.0), _LOG2E[width(x)])


def log10_f(x):
    """-inf at 0, NaN below."""
    return log_base(x, _LOG10_2[width(x)], _LOG10E[width(x)])


def split_sum(u, low):
    """(n, f, rest): u + low = 2**n (1 + f + rest) for u > 0 and a low far smaller; the rest is smaller still."""
    bits = width(u)
    k, n, f = split(u)
    k = _BIAS[bits] - 1 if k >= _BIAS[bits] else k  # low is nothing to so large a number
    low = low * power_of_two(-k)
    g = f + low
    return n, g, (f - g) + low


def log_sum(u, low, twos):
    """log((u + low) 2**twos) for u > 0, a low far smaller, and a number of twos."""
    ln2 = _LN2[width(u)]
    n, f, rest = split_sum(u, low)
    n = n + twos
    return fma(n, ln2[0], f + (fma(n, ln2[1], log_rest(f)) + rest))


def one_and(a, low):
    """(u, rest): 1 + a + low, rounded, and what that loses."""
    u = 1 + a
    t = u - 1
    return u, (1 - (u - t)) + (a - t) + low


def log1p_sum(a, low):
    """log(1 + a + low)."""
    u, rest = one_and(a, low)
    return log_sum(u, rest, 0)


def log1p_f(x):
    """-inf at -1, NaN below."""
    y = log1p_sum(x, 0)
    y = y if x < inf else x
    y = y if x > -1 else (-inf if x == -1 else nan)
    return x if x == 0 else y


def logaddexp_f(x, y):
    """The larger one and log1p of what the smaller one adds, summed with what the additions lose: they may cancel."""
    ln2 = _LN2[width(x)]
    larger = maximum(x, y)
    u, low = one_and(exp(-abs(0 if x == y else x - y)), 0)
    n, f, rest = split_sum(u, low)
    s, e = two_sum(larger, n * ln2[0])
    s, d = two_sum(s, f)
    s = s + (e + d + (fma(n, ln2[1], log_rest(f)) + rest))
    return s if abs(larger) < inf else larger


# -- powers ---------------------------------------------------------------------------------------------------------


def pow_ends(x, y, size):
    """x**y, given the size |x|**y for finite |x| > 0: the sign, zeros, infinities and NaN."""
    a = abs(x)
    size = size if a > 0 else (inf if y < 0 else 0)
    size = size if a < inf else (0 if y < 0 else inf)
    half = y * 0.5
    whole = floor(y) == y
    odd = whole and floor(half) != half
    size = size if x >= 0 or whole or a == inf else nan
    size = -size if as_int(x) < 0 and odd else size
    size = size if x == x and y == y else x + y
    return 1 if x == 1 or y == 0 else size


def pow_f32(x, y):
    """2**(y log2(x)) in float64."""
    exponent = float64(y)
    exponent = 1e25 if exponent > 1e25 else (-1e25 if exponent < -1e25 else exponent)
    _k, n, f = split(float64(abs(x)))
    log = fma(f + log_rest(f), _LOG2E[64][0], n)
    return pow_ends(x, y, float32(exp2(exponent * log)))


# (2 atanh(s) - 2s - 2/3 s**3) / s**5 in s**2
_POW = {
    64: (
        0.11989172543415952, 0.11674799415791304, 0.1333631835727206, 0.15384556846667713, 0.18181818870670496,
        0.22222222217533572, 0.28571428571445123, 0.3999999999999998,
    ),
}  # fmt: skip


def pow_f64(x, y):
    """exp(y log(x)), the logarithm in two words to 2**-65: |y log(x)| may be 1000."""
    exponent = 1e25 if y > 1e25 else (-1e25 if y < -1e25 else y)
    _k, n, f = split(abs(x))
    d = 2 + f
    inverse = 1 / d
    s = f * inverse
    s_low = (fma(-s, d, f) - s * (f - (d - 2))) * inverse
    z = s * s
    z_low = fma(s, s, -z) + 2 * s * s_low
    q = z * horner(z, _POW[64])
    c = q + 0.6666666666666666
    c_low = (0.6666666666666666 - c) + q + 3.700743415417188e-17
    t = z * c
    t_low = fma(z, c, -t) + (z * c_low + z_low * c)
    u = s * t
    u_low = fma(s, t, -u) + (s * t_low + s_low * t)
    head = n * 0.6931471805598903  # 42 bits of log(2): exact
    a = head + 2 * s
    b = a + u
    low = ((head - a) + 2 * s) + ((a - b) + u) + (2 * s_low + u_low) + n * 5.497923018708371e-14
    log = b + low
    log_low = (b - log) + low
    w = exponent * log
    w_low = fma(exponent, log, -w) + exponent * log_low
    w_low = w_low if abs(w) < 760 else 0
    w = 760 if w > 760 else (-760 if w < -760 else w)
    k, a, b = exp_sum(w, w_low)
    return pow_ends(x, y, scale(a + b, k))


def hypot_f32(x, y):
    """In float64 the squares are exact and do not overflow."""
    a = float64(x)
    b = float64(y)
    r = float32(sqrt(fma(a, a, b * b)))
    return inf if abs(x) == inf or abs(y) == inf else r


def hypot_f64(x, y):
    """Scaled by a power of two, so that the squares neither overflow nor vanish."""
    a = abs(x)
    b = abs(y)
    larger = b if b > a else a
    k = (as_int(larger) >> 52) - 1023
    k = 1022 if k > 1022 else k
    down = power_of_two(-k)
    a = a * down
    b = b * down
    r = scale(sqrt(fma(a, a, b * b)), k)
    r = x + y if x != x or y != y else r
    return inf if abs(x) == inf or abs(y) == inf else r


# -- hyperbolic functions -------------------------------------------------------------------------------------------

# (tanh(x) - x) / x**3, (sinh(x) - x) / x**3 and (asinh(x) - x) / x**3, (atanh(x) - x) / x**3, in x**2, for x up to
# 0.63, 1, 0.6 and 0.5
_TANH = {
    32: (
        0.002126228529959917, -0.008159556426107883, 0.021693682298064232, -0.05394551903009415, 0.13333196938037872,
        -0.3333333134651184,
    ),
    64: (
        -2.236033485001951e-06, 1.1706890159071247e-05, -3.653054177563443e-05, 9.569133032390273e-05,
        -0.0002387466539868171, 0.0005899426487334163, -0.0014558210689821689, 0.00359212657582133,
        -0.008863235421282928, 0.021869488530951064, -0.05396825396810658, 0.13333333333333122, -0.3333333333333333,
    ),
}  # fmt: skip
_SINH = {
    32: (2.8169513370812638e-06, 0.0001983615948120132, 0.008333349600434303, 0.1666666716337204),
    64: (
        2.848233041278802e-15, 7.646482894734266e-13, 1.6059050601272985e-10, 2.5052108346508956e-08,
        2.755731922411629e-06, 0.000198412698412696, 0.008333333333333333, 0.16666666666666666,
    ),
}  # fmt: skip
_ASINH = {
    32: (
        0.007137666456401348, -0.01832740753889084, 0.029511502012610435, -0.044544197618961334, 0.074994757771492,
        -0.16666656732559204,
    ),
    64: (
        0.0005946545825712327, -0.0022682544624233235, 0.004500010684069509, -0.006515550235561786,
        0.008151432276049739, -0.009709020742872061, 0.011543325537087232, -0.013963854396033336,
        0.017352682476992103, -0.02237215443570305, 0.030381944272618745, -0.04464285713908637, 0.07499999999995809,
        -0.1666666666666665,
    ),
}  # fmt: skip
_ATANH = {
    32: (
        0.17594309151172638, 0.024521438404917717, 0.1028270572423935, 0.10967179387807846, 0.14294853806495667,
        0.19999727606773376, 0.3333333730697632,
    ),
    64: (
        0.2583828702776779, -0.24304377282134318, 0.2119975178059656, -0.02944885940219402, 0.0623272275194894,
        0.04397929933362969, 0.053140802715164186, 0.05877169781861166, 0.06667047681597141, 0.07692287844341336,
        0.09090909799655371, 0.11111111094671666, 0.1428571428594094, 0.1999999999999842, 0.33333333333333337,
    ),
}  # fmt: skip


def odd(a, coefficients):
    """a + a**3 p(a**2)."""
    z = a * a
    return fma(a * z, horner(z, coefficients), a)


def tanh_f(x):
    """A polynomial near 0, 1 - 2 / (exp(2x) + 1) further out."""
    a = abs(x)
    far = 1 - 2 / (exp(a + a) + 1)
    return copysign(odd(a, _TANH[width(x)]) if a < 0.625 else far, x)


def sinh_f(x):
    """A polynomial near 0, (exp(x) - exp(-x)) / 2 further out."""
    a = abs(x)
    h = exp_times(a, -1)
    return copysign(odd(a, _SINH[width(x)]) if a < 1 else h - 0.25 / h, x)


def cosh_f(x):
    """(exp(x) + exp(-x)) / 2."""
    h = exp_times(abs(x), -1)
    return h + 0.25 / h


_LARGE = {32: 4096.0, 64: 268435456.0}  # 1 is nothing to its square


def asinh_f(x):
    """A polynomial near 0, log(x + sqrt(x**2 + 1)) with what its roundings lose further out."""
    a = abs(x)
    q = fma(a, a, 1.0)
    root = sqrt(q)
    root_low = (fma(-root, root, q) + fma(a, a, 1 - q)) * 0.5 / root
    u = root + a
    low = ((root - u) + a) + root_low
    large = a > _LARGE[width(x)]
    far = log_sum(a if large else u, 0 if large else low, 1 if large else 0)
    far = far if a < inf else a
    return copysign(odd(a, _ASINH[width(x)]) if a < 0.5 else far, x)


def acosh_f(x):
    """log1p(t + sqrt(t**2 + 2t)) for t = x - 1, with what its roundings lose. NaN below 1."""
    t = x - 1
    q = fma(t, t, t + t)
    root = sqrt(q)
    root_low = (fma(-root, root, q) + fma(t, t, (t + t) - q)) * 0.5 / root
    a = root + t
    low = ((root - a) + t) + root_low
    near = log1p_sum(a, low)
    far = log_sum(x, 0, 1)
    y = near if x < _LARGE[width(x)] else far
    y = y if x < inf else x
    return y if x > 1 else (0 if x == 1 else nan)


def atanh_f(x):
    """A polynomial near 0, log1p(2x / (1 - x)) / 2 further out. Infinite at 1 and -1, NaN beyond."""
    a = abs(x)
    far = 0.5 * log1p((a + a) / (1 - a))
    return copysign(odd(a, _ATANH[width(x)]) if a < 0.5 else far, x)
