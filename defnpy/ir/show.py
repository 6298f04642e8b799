"""Graph to text: aligned let-lines, names, dtypes and shapes in a right-hand column, the user's line on request."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator

from .expr import Expr, Graph, subgraphs

__all__ = ["difference", "dot", "names", "show"]


def letters() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    prefixes: Iterator[str] = iter([""])
    while True:
        produced = []
        for prefix in prefixes:
            for letter in alphabet:
                yield prefix + letter
                produced.append(prefix + letter)
        prefixes = iter(produced)


def names(graph: Graph) -> dict[Expr, str]:
    """A name for every node: the inputs' own, the digits of numbers, letters for the rest, in order of printing."""
    taken = set(graph.names)
    result = dict(zip(graph.inputs, graph.names, strict=True))
    fresh = (name for name in letters() if name not in taken)
    for node in graph.nodes():
        if node in result:
            continue
        result[node] = str(node.kwargs["value"]) if node.op.name == "constant" else next(fresh)
    return result


def show(graph: Graph, *, source: bool = False) -> str:
    """The graph as text.

    source: add the file and line of the user's code behind each node.

    >>> import defnpy as dp
    >>> @dp.defn
    ... def f(x, y):
    ...     return dp.exp(x) * y + 1.0
    >>> print(f.expr(dp.ones((3,)), dp.ones((2, 3))))
    inputs:
      x                      f32[3]
      y                      f32[2,3]
    let:
      a = exp x              f32[3]
      b = multiply a y       f32[2,3]
      c = add b 1.0          f32[2,3]
    return c
    """
    rows, returned = _rows(graph, source)
    width = max((len(left) for left, aval, _ in rows if aval), default=0) + 2
    width = max(width, 25)
    right = max((len(aval) for _, aval, _ in rows), default=0) + 2
    printed = [f"{left:{width}}{aval:{right}}{place}".rstrip() for left, aval, place in rows]
    return "\n".join([*printed, returned])


def _rows(graph: Graph, source: bool) -> tuple[list[tuple[str, str, str]], str]:
    """The lines in columns, and the last one; the graphs that a node runs stand below it, further to the right."""
    name = names(graph)
    rows: list[tuple[str, str, str]] = []
    if graph.inputs:
        rows.append(("inputs:", "", ""))
        rows += [(f"  {name[node]}", str(node.aval), "") for node in graph.inputs]
    lines = [node for node in graph.nodes() if node.op.family != "leaf"]
    if lines:
        rows.append(("let:", "", ""))
    for node in lines:
        inner = list(subgraphs(node))
        params = " ".join(f"{key}={_value(value)}" for key, value in node.params if key not in node.op.graphs)
        text = " ".join([node.op.name, *[name[arg] for arg in node.args], *([params] if params else [])])
        rows.append((f"  {name[node]} = {text}", str(node.aval), _place(node) if source else ""))
        for label, part in inner:
            below, returned = _rows(part, source)
            rows.append((f"    {label}:", "", ""))
            rows += [(f"      {left}", aval, place) for left, aval, place in (*below, (returned, "", ""))]
    return rows, f"return {', '.join(name[node] for node in graph.outputs)}"


def _value(value: object) -> str:
    return repr(value).replace(" ", "") if isinstance(value, tuple) else str(value)


def _place(node: Expr) -> str:
    if node.loc is None:
        return ""
    at = node.loc.position
    return f"# {os.path.basename(at.filename)}:{at.line}  {at.text}"


def difference(before: Graph, after: Graph) -> str:
    """A unified diff of two printed graphs; empty when they print alike.

    >>> import defnpy as dp
    >>> graph = dp.defn(lambda x: dp.exp(x)).expr(dp.ones(3))
    >>> dp.debug.difference(graph, graph)
    ''
    """
    lines = difflib.unified_diff(show(before).splitlines(), show(after).splitlines(), "before", "after", lineterm="")
    return "\n".join(lines)


def dot(graph: Graph) -> str:
    """The graph in Graphviz's language.

    >>> import defnpy as dp
    >>> print(dp.debug.dot(dp.defn(lambda x: dp.exp(x)).expr(dp.ones(3))))
    digraph {
      node [shape=box, fontname=monospace];
      n0 [label="x\\nf32[3]"];
      n1 [label="a = exp\\nf32[3]"];
      n0 -> n1;
      n1 -> out0; out0 [label="output 0"];
    }
    """
    name = names(graph)
    number = {node: f"n{i}" for i, node in enumerate(dict.fromkeys((*graph.inputs, *graph.nodes())))}
    lines = ["digraph {", "  node [shape=box, fontname=monospace];"]
    for node, key in number.items():
        label = name[node] if node.op.family == "leaf" else f"{name[node]} = {node.op.name}"
        lines.append(f'  {key} [label="{label}\\n{node.aval}"];')
        lines += [f"  {number[arg]} -> {key};" for arg in node.args]
    lines += [f'  {number[node]} -> out{i}; out{i} [label="output {i}"];' for i, node in enumerate(graph.outputs)]
    return "\n".join([*lines, "}"])


def _text(graph: Graph) -> str:
    return show(graph)


Graph.__repr__ = _text  # type: ignore[method-assign, assignment]  # a graph prints as its listing
