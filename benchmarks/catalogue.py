"""Every work, in the order of the table of goals, then the curves."""

from __future__ import annotations

from .harness.work import Work
from .peers import convnet, deep_mlp, elementwise, numerical_gradient, optimizers, regularised, rows, two_layer

ORDER = (
    "two_layer two_layer_wide optimizers regularised convnet chain_costly chain_cheap transposed softmax layer_norm "
    "sum_of_squares sum_axis_0 deep_mlp call first_step compile_time numerical_gradient memory batch_curve "
    "depth_curve elements_curve"
).split()
_MODULES = (two_layer, optimizers, regularised, convnet, elementwise, rows, deep_mlp, numerical_gradient)

WORKS: dict[str, Work] = {
    work.name: work
    for work in sorted((w for module in _MODULES for w in module.WORKS), key=lambda work: ORDER.index(work.name))
}
