"""Values made from nothing but a counter: threefry2x32, the counter-based generator behind ``dp.random``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import shapes
from ..dtypes import uint32
from ..ir.aval import Aval
from ..ir.op import Case
from .batching import aligned
from .convert import one_dtype
from .families import special, uniform

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_words = uniform(0, 2**32 - 1, "u")


@special(
    family="elementwise",
    infer=lambda k0, k1, c0, c1, *, word: Aval(shapes.broadcast(k0.shape, k1.shape, c0.shape, c1.shape), uint32),
    vjp=None,
    not_differentiable="random bits are no function to differentiate",
    batch=lambda batched, *x, word: threefry2x32(*aligned(batched, x), word=word),
    convert=one_dtype,
    scalar="threefry2x32({k0}, {k1}, {c0}, {c1})[{word}]",
    cases=[
        Case(lambda rng, dtype: [_words.draw(rng, dtype, s) for s in ((), (), (2, 3), (3,))], {"word": 0}),
        Case(lambda rng, dtype: [_words.draw(rng, dtype, s) for s in ((), (), (), (5,))], {"word": 1}),
    ],
)
def threefry2x32(k0, k1, c0, c1, /, *, word):
    """One 32-bit word (0 or 1) of the Threefry-2x32 block cipher, 20 rounds, key (k0, k1), counter (c0, c1).

    All operands are uint32 and broadcast. Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
    1, 2, 3", SC 2011.

    >>> import numpy as np
    >>> from defnpy.ops.create import threefry2x32
    >>> hex(int(threefry2x32(*np.zeros(4, np.uint32), word=0)))
    '0x6b200159'
    """
    key0, key1, x0, x1 = (np.asarray(v, np.uint32) for v in (k0, k1, c0, c1))
    keys = (key0, key1, key0 ^ key1 ^ np.uint32(_PARITY))
    with np.errstate(over="ignore"):
        x0, x1 = x0 + keys[0], x1 + keys[1]
        for group in range(5):
            for rotation in _ROTATIONS[group % 2]:
                x0 = x0 + x1
                x1 = (x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))
                x1 = x1 ^ x0
            x0 = x0 + keys[(group + 1) % 3]
            x1 = x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    result: Any = (x0, x1)[word]
    return result
