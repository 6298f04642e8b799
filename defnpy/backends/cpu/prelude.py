"""Functions that generated kernels call, as plain Python: Numba compiles them, and people may run them."""

from __future__ import annotations

__all__ = ["SOURCE"]

# fold_sum is an addition that may be reordered: the one liberty that sums take, so that they vectorize.
SOURCE = """
def fold_sum(total, value):
    return total + value


def sigmoid(x):
    e = np.exp(-abs(x))
    return (e * 0 + 1 if x >= 0 else e) / (e * 0 + 1 + e)


def erfinv(x):
    # M. Giles, "Approximating the erfinv function", GPU Computing Gems 2, 2011; then one Newton step in float64.
    x = np.float64(x)
    if x != x or abs(x) > 1.0:
        return np.nan
    if abs(x) == 1.0:
        return x * np.inf
    if abs(x) < 1e-10:
        return x * 0.88622692545275801365
    w = -math.log1p(-x * x)
    if w < 5.0:
        w = w - 2.5
        p = 2.81022636e-08
        p = 3.43273939e-07 + p * w
        p = -3.5233877e-06 + p * w
        p = -4.39150654e-06 + p * w
        p = 0.00021858087 + p * w
        p = -0.00125372503 + p * w
        p = -0.00417768164 + p * w
        p = 0.246640727 + p * w
        p = 1.50140941 + p * w
    else:
        w = math.sqrt(w) - 3.0
        p = -0.000200214257
        p = 0.000100950558 + p * w
        p = 0.00134934322 + p * w
        p = -0.00367342844 + p * w
        p = 0.00573950773 + p * w
        p = -0.0076224613 + p * w
        p = 0.00943887047 + p * w
        p = 1.00167406 + p * w
        p = 2.83297682 + p * w
    y = p * x
    for _ in range(2):
        # Far out erf(y) - x cancels; the complement does not.
        if abs(x) < 0.5:
            error = math.erf(y) - x
        else:
            error = (1.0 - abs(x)) - math.erfc(abs(y))
            error = error if x > 0.0 else -error
        slope = 1.1283791670955126 * math.exp(-y * y)
        y = y - error / (slope - y * error)
    return y


def threefry2x32(k0, k1, c0, c1):
    k2 = np.uint32(k0 ^ k1 ^ np.uint32(0x1BD11BDA))
    x0 = np.uint32(c0 + k0)
    x1 = np.uint32(c1 + k1)
    for group in range(5):
        for turn in range(4):
            if group % 2 == 0:
                turns = (13, 15, 26, 6)
            else:
                turns = (17, 29, 16, 24)
            r = np.uint32(turns[turn])
            x0 = np.uint32(x0 + x1)
            x1 = np.uint32((x1 << r) | (x1 >> np.uint32(np.uint32(32) - r)))
            x1 = np.uint32(x1 ^ x0)
        first, second = (k1, k2) if group % 3 == 0 else (k2, k0) if group % 3 == 1 else (k0, k1)
        x0 = np.uint32(x0 + first)
        x1 = np.uint32(x1 + second + np.uint32(group + 1))
    return x0, x1
"""
