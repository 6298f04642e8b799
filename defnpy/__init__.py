"""defnpy: an array compiler that people can read. ``import defnpy as dp``.

Public names are re-exported here; nothing is defined here. The two late bindings of the package are made here too:
eager calls get their evaluator, and tensors and traced values their operators.
"""

import sys as _sys
from math import e, inf, nan, pi

from . import debug, errors, random, testing, tree
from .array import operators as _operators
from .array.creation import (
    arange,
    asarray,
    empty,
    eye,
    from_dlpack,
    full,
    full_like,
    linspace,
    one_hot,
    ones,
    ones_like,
    tril,
    zeros,
    zeros_like,
)
from .array.indexing import take, take_along_axis
from .array.manipulation import (
    astype,
    broadcast_arrays,
    broadcast_to,
    concat,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    pad,
    permute_dims,
    ravel,
    reshape,
    roll,
    squeeze,
    stack,
    transpose,
)
from .array.products import dot, matmul, outer, tensordot, vecdot
from .array.statistics import clip, log_softmax, logsumexp, mean, softmax, softplus, square, std, var
from .backends.reference import Eager as _Eager
from .config import config
from .defn import CacheInfo, Compiled, Defn, RecompileWarning, defn, grad, spec, value_and_grad
from .dtypes import bool_ as bool
from .dtypes import (
    can_cast,
    finfo,
    float32,
    float64,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .ir.trace import install as _install
from .ops.contract import dot_general
from .ops.elementwise import abs_ as abs
from .ops.elementwise import (
    add,
    ceil,
    cos,
    divide,
    erfinv,
    exp,
    expm1,
    floor,
    floor_divide,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    relu,
    remainder,
    sigmoid,
    sign,
    sin,
    sqrt,
    subtract,
    tanh,
    trunc,
    where,
)
from .ops.elementwise import pow_ as pow
from .ops.elementwise import round_ as round
from .ops.linear import iota
from .ops.linear import sum_ as sum
from .ops.logic import (
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from .ops.mark import print_value, stop_grad
from .ops.reduce import all_ as all
from .ops.reduce import any_ as any
from .ops.reduce import argmax, argmin
from .ops.reduce import max_ as max
from .ops.reduce import min_ as min
from .ops.reduce import prod_ as prod
from .tensor import Tensor

__version__ = "0.1.0"
newaxis = None

_install(_Eager())
_operators.fill(_sys.modules[__name__])

__all__ = [name for name in dir() if not name.startswith("_")]
