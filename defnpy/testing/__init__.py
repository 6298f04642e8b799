"""Checking gradients and backends: numerical differences, reports that compare, strategies for properties.

Numerical work is done in float64 unless float32 is asked for: there a difference quotient has an error of some percent,
because the rounding of the function's value is divided by the step.
"""

from .agree import BackendMismatch, assert_backends_agree
from .check import GradientCheckError, VacuousCheckWarning, check_grads
from .complex_step import complex_step_gradient
from .differences import numerical_diff
from .kinks import Kink
from .numerical import numerical_gradient
from .report import GradientReport, ParameterReport, gradient_report
from .strategies import broadcastable_shapes, containers, dtypes, given_tensors, graphs, shapes, tensors
from .sweep import StepSweep, step_sweep

__all__ = [
    "BackendMismatch",
    "GradientCheckError",
    "GradientReport",
    "Kink",
    "ParameterReport",
    "StepSweep",
    "VacuousCheckWarning",
    "assert_backends_agree",
    "broadcastable_shapes",
    "check_grads",
    "complex_step_gradient",
    "containers",
    "dtypes",
    "given_tensors",
    "gradient_report",
    "graphs",
    "numerical_diff",
    "numerical_gradient",
    "shapes",
    "step_sweep",
    "tensors",
]
