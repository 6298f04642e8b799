"""The program as Python source over arrays: which kernel or library call comes next, on which memory.

The native entry does the same with addresses (see ``link``); this print is for people, and runs with NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ... import shapes
from ...ir.aval import Avals
from ...ir.expr import Expr
from ...lower.fuse import VIEWS
from ...lower.program import CallStep, GuardStep, KernelStep, Program
from ...ops.contract import free_axes
from .dialect import number

__all__ = ["readable"]


def readable(program: Program) -> str:
    """The program as a Python function of its arguments, by name."""
    return _Printer(program).text()


@dataclass
class _Printer:
    program: Program
    lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        program = self.program
        graph = program.graph
        for t in program.temporaries:
            self.lines.append(f"{t.name} = np.empty({t.shape}, np.{t.dtype})")
        for node in program.made:
            taken = program.donated.get(node)
            make = (
                f"np.empty({node.shape}, np.{node.dtype})" if taken is None else f"{self.name(taken)}.copy()  # donated"
            )
            self.lines.append(f"{self.name(node)} = {make}")
        for step in program.steps:
            if isinstance(step, KernelStep):
                self._launch(step)
            elif isinstance(step, CallStep):
                self._call(step)
            elif isinstance(step, GuardStep):
                self._guard(step)
            else:
                self._product(step.product.node)
        returned: list[str] = []
        seen: set[str] = set()
        for node in graph.outputs:
            name = self.name(node)
            returned.append(f"np.array({name})" if node.op.name == "parameter" or name in seen else name)
            seen.add(name)
        self.lines.append(f"return [{', '.join(returned)}]")
        names = [program.names[node] for node in graph.inputs]
        return "\n".join([f"def program({', '.join(names)}):", *[f"    {line}" for line in self.lines], ""])

    def name(self, node: Expr) -> str:
        return self.program.names[node]

    # -- steps -----------------------------------------------------------------------------------------------------

    def _launch(self, step: KernelStep) -> None:
        emitted = step.emitted
        scratch = iter(step.scratch)
        names = [self.name(s) if isinstance(s, Expr) else next(scratch) for s in emitted.buffers]
        arguments = [f"{name}.reshape(-1)" for name in names] + [str(n) for n in emitted.sizes]
        if emitted.kernel.parallel:
            arguments += ["0", str(step.extent)]
        call = f"{emitted.kernel.name}({', '.join(arguments)})"
        self.lines.append(f"assert {call} == 0, 'an index is out of bounds'" if emitted.kernel.checks else call)

    def _guard(self, step: GuardStep) -> None:
        self.lines.append(f"if np.any({self._view(step.node.args[0])} > 0):  # mostly not")
        self.lines.append(f"    found = {self._called(step.node)}  # of defnpy's reference")
        for item, operand in zip(step.results, step.operands, strict=True):
            self.lines.append(f"    {self.name(operand)}[...] = found[{item.kwargs['index']}]")

    def _called(self, node: Expr) -> str:
        arguments = ", ".join(self._view(arg) for arg in node.args)
        params = "".join(f", {k}={v!r}" for k, v in node.params if k not in node.op.graphs)
        return f"{node.op.name}({arguments}{params})"

    def _call(self, step: CallStep) -> None:
        node, call = step.node, self._called(step.node)
        if not isinstance(node.aval, Avals):
            self.lines.append(f"{self.name(node)} = np.array({call}, order='C')  # of defnpy's reference")
            return
        self.lines.append(f"{self.name(node)} = {call}  # of defnpy's reference")
        for item in step.results:
            self.lines.append(f"{self.name(item)} = np.array({self.name(node)}[{item.kwargs['index']}], order='C')")

    def _product(self, node: Expr) -> None:
        left, right = node.args
        contract, batch = node.kwargs["contract"], node.kwargs["batch"]
        rows = free_axes(left.ndim, contract[0], batch[0])
        columns = free_axes(right.ndim, contract[1], batch[1])
        stack = tuple(left.shape[a] for a in batch[0])
        inner = shapes.size(tuple(left.shape[a] for a in contract[0]))
        m = shapes.size(tuple(left.shape[a] for a in rows))
        n = shapes.size(tuple(right.shape[a] for a in columns))
        a = self._matrix(left, batch[0] + rows + contract[0], (*stack, m, inner))
        b = self._matrix(right, batch[1] + contract[1] + columns, (*stack, inner, n))
        out = self._reshaped(self.name(node), node.shape, (*stack, m, n))
        if (m, inner) == (1, 1) or (inner, n) == (1, 1):
            # np.dot takes a matrix of one element for a number, and then 0 times NaN for 0.
            self.lines.append(f"np.matmul({a}, {b}, out={out})")
            return
        self.lines.append(f"np.matmul({a}, {b}, out={out})" if stack else f"np.dot({a}, {b}, {out})")

    def _matrix(self, operand: Expr, order: shapes.Axes, shape: shapes.Shape) -> str:
        text = self._view(operand)
        if order != tuple(range(len(order))):
            text += ".T" if order == (1, 0) else f".transpose{order}"
        return self._reshaped(text, tuple(operand.shape[a] for a in order), shape)

    @staticmethod
    def _reshaped(text: str, old: shapes.Shape, new: shapes.Shape) -> str:
        return text if old == new else f"{text}.reshape({', '.join(map(str, new))})"

    def _view(self, node: Expr) -> str:
        """A node's memory as NumPy sees it through views."""
        if node.op.name == "constant":
            return f"np.asarray({number(node.kwargs['value'].value, node.dtype)})"
        if node in self.program.placed or node.op.name not in VIEWS:
            return self.name(node)
        inner = self._view(node.args[0])
        params = node.kwargs
        if node.op.name == "reshape":
            return f"{inner}.reshape({params['shape']})"
        if node.op.name == "permute_dims":
            return f"{inner}.T" if params["axes"] == (1, 0) else f"{inner}.transpose({params['axes']})"
        if node.op.name == "broadcast_to":
            return f"np.broadcast_to({inner}, {params['shape']})"
        if node.op.name == "slice":
            parts = zip(params["starts"], params["stops"], params["steps"], strict=True)
            return f"{inner}[{', '.join(f'{a}:{b}:{s}' for a, b, s in parts) or '...'}]"
        if node.op.name == "windows":
            given = "".join(f", {k}={v!r}" for k, v in node.params)
            return f"windows({inner}{given})"  # of defnpy's reference
        if node.op.name == "flip":
            steps = [slice(None, None, -1) if a in params["axis"] else slice(None) for a in range(node.ndim)]
            return f"{inner}[{', '.join('::-1' if s.step else ':' for s in steps) or '...'}]"
        return inner
