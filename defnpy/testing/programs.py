"""Random programs: what they compute is known, so that answers can be compared tightly.

A :class:`Program` is a closed graph with inputs for it. It is drawn from a stream of choices (``below(n)`` gives a
number from 0 to n - 1, the simplest being 0), which is Hypothesis in tests; for a long campaign a seeded generator does
as well (``random.Random(seed).randrange``).

Most values are small whole numbers, so the answers are exact in any order of summation. A value that is not (``exact``
is false) is never handed to a step with jumps, where a rounding error would show as a large one; ``bound`` limits the
size of its elements, so that errors stay small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.aval import Avals
from ..ir.expr import Graph
from ..ir.show import show
from ..ir.trace import tracing
from ..transforms.grad import backward
from .choices import Below
from .steps import Maker

__all__ = ["Program", "draw_program"]


@dataclass
class Program:
    """A graph and inputs for it. It prints as both.

    differentiated: of a gradient program, whose outputs are a loss and gradients, the inputs that these belong to.
    """

    graph: Graph
    inputs: list[np.ndarray]
    tolerance: float
    differentiated: tuple[int, ...] = ()

    def __repr__(self) -> str:
        values = [
            f"{name} = np.array({x.tolist()!r}, {str(x.dtype)!r}).reshape({x.shape})"
            for name, x in zip(self.graph.names, self.inputs, strict=True)
        ]
        return "\n".join(["", show(self.graph), *values])


def draw_program(
    below: Below, *, steps: int = 10, gradient: bool = False, smooth: bool = False, table: bool = False
) -> Program:
    """A random program of up to ``steps`` steps.

    smooth: one number, differentiable everywhere. gradient: a loss and its gradients with respect to the float inputs.
    table: with steps that are any op of the registry on operands of its own cases, linear algebra and loops too.
    """
    differentiated: tuple[int, ...] = ()
    with tracing() as trace:
        floats = "float64" if smooth or below(3) < 2 else "float32"
        maker = Maker(below, trace, floats, smooth, table, whole_gradient=smooth and not gradient)
        maker.inputs()
        for _ in range(1 + below(steps)):
            maker.step()
        if gradient:
            loss = maker.loss()
            wrt = [i for i, x in enumerate(trace.inputs) if x.dtype.kind == "f"]
            found = backward(trace, [loss], [trace.constant(loss.dtype.type(1))], [trace.inputs[i] for i in wrt])
            outputs = [loss, *[trace.lift(part) for part in found if part is not None]]
            differentiated = tuple(i for i, part in zip(wrt, found, strict=True) if part is not None)
        elif smooth:
            outputs = [maker.loss()]
        else:
            outputs = maker.outputs()
        graph = trace.graph(outputs)
    avals = [part for n in graph.nodes() for part in (n.aval.parts if isinstance(n.aval, Avals) else (n.aval,))]
    single = any(aval.dtype == np.float32 for aval in avals)
    return Program(graph, maker.values, 2e-3 if single else 1e-7, differentiated)
