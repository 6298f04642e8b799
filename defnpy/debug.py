"""Looking at a graph: re-exports what floor 1 knows of printing and checking."""

from .ir.check import InvalidGraph, verify
from .ir.show import difference, dot, show

__all__ = ["InvalidGraph", "difference", "dot", "show", "verify"]
