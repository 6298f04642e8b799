"""From a program that fails a check to a small one that fails it, and to a file that shows it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from defnpy.backends.reference import evaluate
from defnpy.ir.aval import Aval, Avals
from defnpy.ir.expr import Expr, Graph
from defnpy.ir.op import Literal
from defnpy.ir.trace import tracing
from defnpy.testing.programs import Program
from tests.fuzz.checks import Unreliable, derive
from tests.fuzz.every import CHECKS

__all__ = ["Unprintable", "check", "closed", "fails", "program_of", "shrink", "spelled"]

LEAVES = ("parameter", "constant")


def fails(program: Program, name: str, seed: int, smooth: bool) -> str:
    """What is wrong with a program by one check; empty when nothing is."""
    try:
        CHECKS[name](derive(program, seed, smooth))
    except Unreliable:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def shrink(program: Program, wrong: Callable[[Program], bool]) -> Program:
    """A program with fewer nodes and plainer inputs that is still ``wrong``."""
    size = -1
    while size != len(program.graph.nodes()):
        size = len(program.graph.nodes())
        program = _one_output(program, wrong)
        program = _fewer_nodes(program, wrong)
    return _plainer_inputs(program, wrong)


def _one_output(program: Program, wrong: Callable[[Program], bool]) -> Program:
    """The earliest node that is wrong on its own, or the first outputs that are."""
    nodes = [n for n in program.graph.nodes() if n.op.name not in LEAVES and not isinstance(n.aval, Avals)]
    for node in nodes:
        candidate = _part(program, [node], {})
        if [*map(id, program.graph.outputs)] != [id(node)] and wrong(candidate):
            return candidate
    for output in program.graph.outputs:
        fewer = [y for y in program.graph.outputs if y is not output]
        if fewer and wrong(candidate := _part(program, fewer, {})):
            return _one_output(candidate, wrong)
    return program


def _fewer_nodes(program: Program, wrong: Callable[[Program], bool]) -> Program:
    """Inner nodes replaced by inputs of their values, the last ones first: with a node goes all that it alone needs."""
    nodes = [n for n in program.graph.nodes() if n.op.name not in LEAVES and not isinstance(n.aval, Avals)]
    outputs = set(program.graph.outputs)
    nodes = [n for n in nodes if n not in outputs]
    values = dict(zip(nodes, evaluate(Graph(program.graph.inputs, nodes), program.inputs), strict=True))
    cut: dict[Expr, np.ndarray] = {}
    for node in reversed(nodes):
        if node in _part_nodes(program, cut) and wrong(
            _part(program, program.graph.outputs, {**cut, node: values[node]})
        ):
            cut[node] = values[node]
    return _part(program, program.graph.outputs, cut)


def _part_nodes(program: Program, cut: dict[Expr, np.ndarray]) -> set[Expr]:
    """The nodes that are still computed."""
    found: set[Expr] = set()
    pending = list(program.graph.outputs)
    while pending:
        node = pending.pop()
        if node not in found and node not in cut:
            found.add(node)
            pending += node.args
    return found


def _part(program: Program, outputs: Sequence[Expr], cut: dict[Expr, np.ndarray]) -> Program:
    """The program of some outputs, with inputs in place of the nodes in ``cut``; unused inputs are gone."""
    given = {**dict(zip(program.graph.inputs, program.inputs, strict=True)), **cut}
    new: dict[Expr, Expr] = {}
    inputs: list[np.ndarray] = []
    with tracing() as trace:
        pending = list(reversed(outputs))
        while pending:
            node = pending[-1]
            missing = [] if node in given else [arg for arg in node.args if arg not in new]
            if missing:
                pending += missing
                continue
            pending.pop()
            if node in new:
                continue
            if node in given:
                new[node] = trace.parameter(Aval(node.shape, node.dtype), f"in{len(inputs)}")
                inputs.append(given[node])
            else:
                new[node] = trace.copy(node, tuple([new[arg] for arg in node.args]))
        graph = trace.graph([new[y] for y in outputs])
    return Program(graph, inputs, program.tolerance)


def _plainer_inputs(program: Program, wrong: Callable[[Program], bool]) -> Program:
    for i, x in enumerate(program.inputs):
        if x.dtype.kind != "f":
            continue
        for digits in (0, 1, 3):
            plain = [*program.inputs[:i], np.round(x, digits), *program.inputs[i + 1 :]]
            candidate = Program(program.graph, plain, program.tolerance)
            if wrong(candidate):
                program = candidate
                break
    return program


# -- files ------------------------------------------------------------------------------------------------------------


class Unprintable(Exception):
    """A static parameter that cannot be written as Python."""


def spelled(program: Program, name: str, seed: int, smooth: bool, message: str) -> str:
    """A Python file that runs the program and checks it."""
    functions: dict[str, str] = {}
    _function("program", program.graph, functions)
    arrays = [f"np.array({x.tolist()!r}, {str(x.dtype)!r}).reshape({x.shape})," for x in program.inputs]
    return f'''"""Found by tests.fuzz.

{message}
"""

import numpy as np
from numpy import inf, nan

from defnpy.ir.op import REGISTRY as op
from tests.fuzz.shrink import check, closed

{"".join(chr(10) + text + chr(10) for text in functions.values())}
INPUTS = [
{textwrap.indent(chr(10).join(arrays), "    ")}
]

if __name__ == "__main__":
    check(program, INPUTS, {name!r}, seed={seed}, smooth={smooth}, tolerance={program.tolerance})
'''


def _function(name: str, graph: Graph, functions: dict[str, str]) -> None:
    """A graph as a Python function of its inputs, after those of the graphs that it runs."""
    names: dict[Expr, str] = {node: f"in{i}" for i, node in enumerate(graph.inputs)}
    lines = []
    for node in graph.nodes():
        if node in names:
            continue
        if node.op.name == "constant":
            names[node] = _value(node.kwargs["value"], functions)
            continue
        names[node] = f"x{len(lines)}"
        arguments = [names[arg] for arg in node.args] + [f"{k}={_value(v, functions)}" for k, v in node.params]
        call = f'op["{node.op.name}"]({", ".join(arguments)})'
        if node.op.name == "item":
            call = f"{names[node.args[0]]}[{node.kwargs['index']}]"
        lines.append(f"{names[node]} = {call}")
    body = "\n".join([*lines, f"return [{', '.join(names[y] for y in graph.outputs)}]"])
    functions[name] = f"def {name}({', '.join(names[x] for x in graph.inputs)}):\n{textwrap.indent(body, '    ')}\n"


def _value(value: Any, functions: dict[str, str]) -> str:
    if isinstance(value, Literal):
        return f"np.{value.value.dtype.name.replace('bool', 'bool_')}({value.value!s})"
    if isinstance(value, np.dtype):
        return f"np.dtype({value.name!r})"
    if isinstance(value, tuple):
        return f"({', '.join(_value(v, functions) for v in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, Graph):
        name = f"graph{len(functions)}"
        functions[name] = ""  # taken, while the graph may hold others
        _function(name, value, functions)
        return f"closed({name}, {[(x.shape, x.dtype.name) for x in value.inputs]})"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    raise Unprintable(f"{type(value).__name__} {value!r}")


def closed(function: Callable[..., Sequence[Any]], avals: Sequence[tuple[tuple[int, ...], str]]) -> Graph:
    """The graph of a function of inputs of these shapes and dtypes."""
    with tracing() as trace:
        inputs = [trace.parameter(Aval(shape, np.dtype(dtype)), f"x{i}") for i, (shape, dtype) in enumerate(avals)]
        return trace.graph([trace.lift(y) for y in function(*inputs)])


def program_of(function: Callable[..., Sequence[Any]], inputs: Sequence[np.ndarray], tolerance: float) -> Program:
    """A function of the inputs as a program."""
    return Program(closed(function, [(x.shape, x.dtype.name) for x in inputs]), list(inputs), tolerance)


def check(
    function: Callable[..., Sequence[Any]],
    inputs: Sequence[np.ndarray],
    name: str,
    *,
    seed: int = 0,
    smooth: bool = False,
    tolerance: float = 1e-7,
) -> None:
    """Run one check on a function of some inputs; raises what it finds."""
    CHECKS[name](derive(program_of(function, inputs, tolerance), seed, smooth))
    print(f"{name}: all is well")
