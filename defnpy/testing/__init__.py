"""Checking gradients: numerical differences, and reports that compare them with automatic ones.

All numerical work is done in float64: in float32 a difference quotient has an error of some percent, because the
rounding of the function's value is divided by the step.
"""

from .check import GradientCheckError, VacuousCheckWarning, check_grads
from .differences import numerical_diff
from .kinks import Kink
from .numerical import numerical_gradient
from .report import GradientReport, ParameterReport, gradient_report

__all__ = [
    "GradientCheckError",
    "GradientReport",
    "Kink",
    "ParameterReport",
    "VacuousCheckWarning",
    "check_grads",
    "gradient_report",
    "numerical_diff",
    "numerical_gradient",
]
