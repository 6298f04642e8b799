"""Loops and branches that do no more than is asked of them.

``share``: equal loops over the same operands are one. The rule backwards of a loop runs it once more, to have its
carries recorded; that is the loop that gives the value then.

``prune``: results that nobody reads are gone, and with them whatever only they needed: carries, rows, operands, down to
the inner loops. A carry that never changes is an operand like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..ir.aval import Avals
from ..ir.expr import Expr, Graph, has_effect, with_subgraphs
from ..ir.op import ITEM
from ..ir.trace import tracing
from ..ops.subgraphs import needed, parameters
from ..shapes import DYNAMIC

__all__ = ["prune", "share"]


def _loops(graph: Graph) -> list[Expr]:
    return [node for node in graph.nodes() if node.op.graphs]


# -- share ------------------------------------------------------------------------------------------------------------


def share(graph: Graph) -> Graph:
    """The graph with loops of equal operands and bodies made one, which records for all of them."""
    nodes = _loops(graph)
    if not nodes:
        return graph
    known: dict[Graph, Graph] = {}

    def inner(part: Graph) -> Graph:
        if part not in known:
            known[part] = share(part)
        return known[part]

    record: dict[Any, set[int]] = {}
    keys = {node: _key(node) for node in nodes if "record" in node.kwargs and not has_effect(node)}
    for node, key in keys.items():
        record.setdefault(key, set()).update(node.kwargs["record"])
    made: dict[Expr, tuple[Expr, ...]] = {}
    with tracing() as trace:

        def visit(node: Expr, args: tuple[Expr, ...]) -> Expr:
            if node.op is ITEM and node.args[0] in made:
                return made[node.args[0]][node.kwargs["index"]]
            params = with_subgraphs(node, inner)
            if node not in keys:
                return trace.copy(node, args, params)
            own, every = node.kwargs["record"], tuple(sorted(record[keys[node]]))
            trace.place = node.loc
            found = node.op(*args, **{**dict(params), "record": every})
            assert isinstance(node.aval, Avals)
            plain = len(node.aval.parts) - len(own) - (node.op.name == "while_loop" and bool(own))
            tapes = [found[plain + every.index(j)] for j in own]
            made[node] = (*found[:plain], *tapes, found[-1])
            return found[0].args[0]

        return trace.graph(graph.rebuild(parameters(trace, graph), visit))


def _key(node: Expr) -> Any:
    return (node.op, node.args, tuple([pair for pair in node.params if pair[0] != "record"]))


# -- prune ------------------------------------------------------------------------------------------------------------


@dataclass
class _Plan:
    """What is left of a node: the numbers of its operands and its parameters.

    place: for every result that is read its new number. kept: results that are operands as they came, and which.
    """

    args: list[int]
    params: dict[str, Any]
    place: dict[int, int]
    kept: dict[int, int]


def prune(graph: Graph) -> Graph:
    """The graph with its loops and branches reduced to what is read of them."""
    if not _loops(graph):
        return graph
    plans, alive = _plans(graph)
    effects = set(graph.effects)
    with tracing() as trace:
        new: dict[Expr, Any] = dict(zip(graph.inputs, parameters(trace, graph), strict=True))
        for node in graph.nodes():
            if node in new or node not in alive:
                continue
            trace.place = node.loc
            plan = plans.get(node)
            if plan is not None:
                args = [new[node.args[i]] for i in plan.args]
                new[node] = node.op(*args, **plan.params) if plan.place or node in effects else ()
            elif node.op is ITEM and node.args[0] in plans:
                source, index = node.args[0], node.kwargs["index"]
                plan = plans[source]
                new[node] = new[source.args[plan.kept[index]]] if index in plan.kept else new[source][plan.place[index]]
            else:
                new[node] = trace.copy(node, tuple([new[arg] for arg in node.args]))
        return trace.graph([new[node] for node in graph.outputs])


def _plans(graph: Graph) -> tuple[dict[Expr, _Plan], set[Expr]]:
    """What is left of every loop, and which nodes are needed."""
    read: dict[Expr, set[int]] = {}
    plans: dict[Expr, _Plan] = {}
    alive = {*graph.outputs, *graph.effects}
    for node in reversed(graph.nodes()):
        if node not in alive:
            continue
        if node.op is ITEM:
            read.setdefault(node.args[0], set()).add(node.kwargs["index"])
        if node.op.graphs and node.op.name in _PLANNERS:
            plan = plans[node] = _PLANNERS[node.op.name](node, read.get(node, set()))
            alive.update(node.args[i] for i in (*plan.args, *plan.kept.values()))
        else:
            alive.update(node.args)
    return plans, alive


def _restricted(graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    part = Graph(
        [graph.inputs[i] for i in inputs],
        [graph.outputs[i] for i in outputs],
        graph.effects,
        [graph.names[i] for i in inputs],
    )
    return prune(part)


def _needed(graph: Graph, outputs: Sequence[int]) -> set[int]:
    """The inputs that outputs or effects of a graph depend on."""
    return needed(prune(Graph(graph.inputs, [graph.outputs[i] for i in outputs], graph.effects, graph.names)))


def _cond_plan(node: Expr, read: set[int]) -> _Plan:
    branches = node.kwargs["branches"]
    outputs = sorted(read)
    inputs = sorted(set().union(*[_needed(graph, outputs) for graph in branches]))
    params = {"branches": tuple([_restricted(graph, inputs, outputs) for graph in branches])}
    return _Plan([0, *[i + 1 for i in inputs]], params, {i: n for n, i in enumerate(outputs)}, {})


def _loop_plan(node: Expr, read: set[int]) -> _Plan:
    params = node.kwargs
    body, k, record = params["body"], params["carries"], params["record"]
    m, test = params.get("sequences", 0), params.get("test")
    counted = int(params.get("length") == DYNAMIC)
    results = len(body.outputs)
    tapes = {results + i: j for i, j in enumerate(record)}
    fixed = {j for j in range(k) if body.outputs[j] is body.inputs[j] and j not in record}
    wanted = [j for i, j in tapes.items() if i in read]
    rows = [i for i in range(k, results) if i in read]
    count = results + len(record)
    if test is not None and not wanted and count in read:
        wanted = [min(record)]
    live = {*wanted, *[j for j in range(k) if j in read and j not in fixed]}
    while True:
        inputs = _needed(body, [*live, *rows]) | (_needed(test, [0]) if test is not None else set())
        more = {j for j in inputs if j < k and j not in fixed} - live
        if not more:
            break
        live |= more
    carry = sorted(live)
    xs = [i for i in sorted(inputs) if k <= i < k + m]
    outer = [i for i in sorted(inputs) if i >= k + m or i in fixed]
    order = [*carry, *xs, *outer]
    left = {"body": _restricted(body, order, [*carry, *rows]), "carries": len(carry)}
    if test is not None:
        left["test"] = _restricted(test, order, [0])
    else:
        left |= {"sequences": len(xs), "length": params["length"], "reverse": params["reverse"]}
    kept = [j for j in record if j in wanted]
    left["record"] = tuple([carry.index(j) for j in kept])
    place = {j: n for n, j in enumerate(carry) if j in read}
    place |= {i: len(carry) + n for n, i in enumerate(rows)}
    ends = len(carry) + len(rows)
    place |= {i: ends + kept.index(j) for i, j in tapes.items() if i in read}
    if count in read:
        place[count] = ends + len(kept)
    return _Plan(
        [*range(counted), *[i + counted for i in order]], left, place, {j: j + counted for j in fixed if j in read}
    )


_PLANNERS: dict[str, Callable[[Expr, set[int]], _Plan]] = {
    "cond": _cond_plan,
    "while_loop": _loop_plan,
    "scan": _loop_plan,
}
