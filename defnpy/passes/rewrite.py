"""The rewrite driver: rules replace nodes by better ones until none fires, in one walk over the graph.

A rule is a named function of the trace in which the new graph is made and a node of it, whose operands no rule can
improve any more; it returns a value in place of the node, or None. It builds that with ops, like a user; what it builds
is rewritten in its turn. A rule says by ``@rule(...)`` which ops it looks at, so that a node meets only the rules that
may concern it, and the work grows with the size of the graph alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..ir.expr import Expr, Graph, is_open, with_subgraphs
from ..ir.op import Op
from ..ir.trace import Trace, tracing

__all__ = ["LIMIT", "LoopingRules", "Rule", "WrongRule", "rewrite", "rule"]

LIMIT = 1000  # rewrites that one node of the graph may set off; reaching it means that rules undo each other

Rule = Callable[[Trace, Expr], Any]


class LoopingRules(AssertionError):
    """Rules undo each other's work, or one goes on for ever."""


class WrongRule(AssertionError):
    """A rule puts a value of another shape or dtype in place of a node."""


class Declared:
    """A rule that says what it looks at: the names of ops, or of families of ops. Of other nodes it makes nothing."""

    __name__: str

    def __init__(self, body: Rule, heads: frozenset[str]) -> None:
        functools.update_wrapper(self, body)
        self.body = body
        self.heads = heads

    def __call__(self, trace: Trace, node: Expr) -> Any:
        return self.body(trace, node) if self.takes(node.op) else None

    def takes(self, op: Op) -> bool:
        """Whether the rule looks at nodes of ``op``."""
        return op.name in self.heads or op.family in self.heads


def rule(*heads: str) -> Callable[[Rule], Rule]:
    """Make a function a rule for the ops, or families of ops, of these names. One that is not marked takes every op."""
    return lambda body: Declared(body, frozenset(heads))


def _for_op(rules: Sequence[Rule], op: Op) -> list[Rule]:
    """The rules that look at nodes of ``op``, ready to be called with one."""
    declared = [rule for rule in rules if not isinstance(rule, Declared) or rule.takes(op)]
    return [rule.body if isinstance(rule, Declared) else rule for rule in declared]


def rewrite(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """The graph with ``rules`` applied until none fires; of two that could, the earlier one does.

    Nodes that nobody needs any more are gone, equal ones are one. The inputs stay, and so do the effects, in their
    order. Graphs that a node runs are rewritten in the same way.
    """
    with tracing() as trace:
        inputs = [trace.parameter(node.aval, name) for node, name in zip(graph.inputs, graph.names, strict=True)]
        outputs = graph.rebuild(inputs, _Walk(trace, rules, inputs).visit)
        return trace.graph(outputs)


class _Walk:
    """One walk over a graph: ``final`` has for every node met so far what it has become, itself most of the time."""

    def __init__(self, trace: Trace, rules: Sequence[Rule], inputs: Sequence[Expr]) -> None:
        self._trace = trace
        self._rules = rules
        self._by_op: dict[Op, list[Rule]] = {}
        self._final: dict[Expr, Expr] = {node: node for node in inputs}
        self._graphs: dict[Graph, Graph] = {}
        self._sizes_may_be_open = False

    def visit(self, node: Expr, args: tuple[Expr, ...]) -> Expr:
        """What becomes of ``node`` over ``args``, which are final."""
        self._trace.place = node.loc
        params = node.params
        if node.op.graphs:
            self._sizes_may_be_open = True
            params = with_subgraphs(node, self._inner)
        new = self._trace.copy(node, args, params)
        found = self._final.get(new)
        if found is not None:
            return found
        fired: list[str] = []
        better = self._improved(new, fired)
        if better is not new:
            return self._settled(new, better, fired)
        self._final[new] = new
        return new

    def _inner(self, graph: Graph) -> Graph:
        """A graph that a node runs, rewritten; once, so that equal nodes stay equal."""
        if graph not in self._graphs:
            self._graphs[graph] = rewrite(graph, self._rules)
        return self._graphs[graph]

    def _improved(self, node: Expr, fired: list[str]) -> Expr:
        """What the first rule that fires on ``node`` makes of it, or ``node``; ``fired`` gets the rule's name."""
        op = node.op
        if self._sizes_may_be_open and is_open(node):
            return node  # rules count elements
        rules = self._by_op.get(op)
        if rules is None:
            rules = self._by_op[op] = _for_op(self._rules, op)
        for rule in rules:
            value = rule(self._trace, node)
            if value is None or value is node:
                continue
            better = self._trace.lift(value)
            if better.aval != node.aval:
                raise WrongRule(f"{rule.__name__} makes {better.aval} of {op.name} {node.aval}")
            fired.append(rule.__name__)
            if len(fired) > LIMIT:
                raise LoopingRules(f"the rules do not end: {', '.join(fired[-6:])} fire in turn on {op.name}")
            return better
        return node

    def _settled(self, node: Expr, better: Expr, fired: list[str]) -> Expr:
        """What becomes of ``node``, of which a rule has made ``better``: that may be improved, and so may its operands.

        ``pending`` holds pairs: a node that somebody waits for, and what it has become so far.
        """
        final = self._final
        pending = [(node, better)]
        while pending:
            asked, now = pending.pop()
            result = final.get(now)
            if result is None:
                fresh = [arg for arg in now.args if arg not in final]
                if fresh:
                    pending.append((asked, now))
                    pending += [(arg, arg) for arg in reversed(fresh)]
                    continue
                if all(final[arg] is arg for arg in now.args):
                    better = self._improved(now, fired)
                else:
                    better = self._trace.copy(now, tuple([final[arg] for arg in now.args]))
                if better is not now:
                    pending.append((asked, better))
                    continue
                result = final[now] = now
            final[asked] = result
        return final[node]
