"""From a graph to a program: kernels and library calls in order, over buffers whose places are planned."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from ..dtypes import DType
from ..ir.expr import Expr, Graph
from ..ir.show import names as printed_names
from ..shapes import size
from .donate import in_place
from .emit import Emitted, emit
from .expand import expand
from .fuse import Call, Schedule
from .memory import Request, aligned, plan
from .partial import in_parts
from .products import Product, product
from .recompute import scheduled
from .scalars import loop_kernel
from .scatter import scatter_kernel
from .stream import Stream, stream
from .threads import crew, share
from .views import VIEWS, viewed

__all__ = ["CallStep", "GuardStep", "KernelStep", "ProductStep", "Program", "Temporary", "lower"]


@dataclass
class KernelStep:
    """Launch a kernel.

    scratch: names of the temporaries behind those of its buffers that hold no node, in order. extent: the size of its
    parallel loops, which ``threads`` threads share in parts of whole ``grain``s; 1 for a kernel that one thread runs.
    stream: how it writes past the caches, if it does.
    """

    emitted: Emitted
    scratch: list[str]
    extent: int
    threads: int
    grain: int
    stream: Stream | None


@dataclass
class ProductStep:
    """A matrix product by BLAS, whose rows, columns or pairs ``threads`` threads share."""

    product: Product
    threads: int


@dataclass
class CallStep:
    """Compute a node by a library, from buffers seen through views.

    results: the nodes of its values: itself, or of an op with several results the ``item`` nodes that are used.
    """

    node: Expr
    results: list[Expr]


@dataclass
class GuardStep:
    """Go on if the index of ``node``, a ``cond``, says so; else write its results over their operands.

    results: the ``item`` nodes that are used. operands: in whose memory these are.
    """

    node: Expr
    results: list[Expr]
    operands: list[Expr]


@dataclass
class Temporary:
    """A buffer of the program's own: elements, dtype, and where it lies in the arena (bytes)."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    offset: int = 0


@dataclass
class Program:
    """A flat list of steps.

    names: what to call the value of a node; two have one name if they lie in the same memory. placed: nodes that a step
    computes. made: outputs that kernels and products compute. donated: those of them that take the memory of an input,
    and which. temporaries: buffers in the arena, ``arena`` bytes in all; library calls return arrays of their own.
    """

    graph: Graph
    names: dict[Expr, str]
    steps: list[KernelStep | ProductStep | CallStep | GuardStep] = field(default_factory=list)
    placed: set[Expr] = field(default_factory=set)
    made: list[Expr] = field(default_factory=list)
    donated: dict[Expr, Expr] = field(default_factory=dict)
    temporaries: list[Temporary] = field(default_factory=list)
    arena: int = 0


_TAKEN = re.compile(r"[ijmnp]\d+$|n_")
_RESERVED = {"failed_index", "first", "last", "np", "range", "math", "empty", "matmul", "abs", "exp"}


def identifiers(graph: Graph) -> dict[Expr, str]:
    """A Python identifier for every node: its printed name, changed where Python or the kernels mean something else."""
    result: dict[Expr, str] = {}
    used: set[str] = set()
    for node, name in printed_names(graph).items():
        if not name.isidentifier():
            name = "number"
        if keyword.iskeyword(name) or name in _RESERVED or _TAKEN.match(name):
            name += "_"
        base, number = name, 1
        while name in used:
            number += 1
            name = f"{base}_{number}"
        used.add(name)
        result[node] = name
    return result


def lower(graph: Graph, threads: int = 1, donated: Collection[int] = ()) -> Program:
    """Fuse, emit and plan the memory of a graph, for so many threads; ``donated`` inputs may be written to."""
    graph = expand(graph)
    names = identifiers(graph)
    planned = scheduled(graph)
    program = Program(graph, names, placed=set(planned.place))
    requests: list[Request] = []
    first: dict[Expr, int] = {}
    last: dict[Expr, int] = {}
    native: set[Expr] = set()  # results of calls that are steps of the program
    memory: dict[Expr, Expr] = {}  # results of guards, and the nodes in whose memory they are
    outputs = set(graph.outputs)
    given = {graph.inputs[i] for i in donated} - outputs
    last_read = _last_reads(planned) if given else {}
    given &= last_read.keys()
    for number, item in enumerate(planned.items):
        if isinstance(item, Call) and item.node in planned.facts.guards:
            kept = planned.facts.guards[item.node]
            operands = [kept[result.kwargs["index"]] for result in item.results]
            for result, operand in zip(item.results, operands, strict=True):
                memory[result] = memory.get(operand, operand)
                names[result] = names[operand]
            program.steps.append(GuardStep(item.node, item.results, operands))
            written, read = [], [viewed(arg, VIEWS, planned.place) for arg in item.node.args]
        elif isinstance(item, Call) and item.node not in planned.facts.own:
            found = product(item.node, planned.place) if item.node.op.family == "contraction" else None
            program.steps.append(
                CallStep(item.node, item.results) if found is None else ProductStep(found, crew(found, threads))
            )
            if found is not None:
                native.add(item.node)
            written, read = item.results, [viewed(arg, VIEWS, planned.place) for arg in item.node.args]
        else:
            title = f"kernel_{len(program.steps)}"
            if isinstance(item, Call):
                own = set(item.results)
                native |= own
                if item.node.op.graphs:
                    whole = loop_kernel(item.node, item.results, names, title)
                else:
                    whole = scatter_kernel(item.node, names, title)
            else:
                own = set(item.depth)
                whole = emit(item, planned, {n for n in item.depth if n in planned.stored}, names, title)
                if not any(isinstance(source, Expr) and source in own for source in whole.buffers):
                    continue  # nobody reads it: ``after`` names what comes before, and that was not needed otherwise
                free = {node for node in given if last_read[node] == number}
                whole, taken = in_place(whole, free, {n for n in item.depth if n in outputs})
                program.donated |= taken
            known = len(program.temporaries)
            for emitted in in_parts(whole) or (whole,):
                extent, team, grain = share(emitted, threads)
                scratch = []
                for buffer, source in zip(emitted.kernel.buffers, emitted.buffers, strict=True):
                    if isinstance(source, Expr):
                        continue
                    name = f"{whole.kernel.name}_{buffer.name}"
                    scratch.append(name)
                    if buffer.role == "in" or any(t.name == name for t in program.temporaries[known:]):
                        continue  # made or used by the kernel before, on as many threads
                    # A scratch row lies once for every thread, on cache lines of its own.
                    count, size_of = (team, source) if isinstance(source, int) else (1, source.count)
                    each = aligned(size_of * buffer.dtype.itemsize)
                    program.temporaries.append(Temporary(name, (count, each // buffer.dtype.itemsize), buffer.dtype))
                    requests.append(Request(count * each, number, number))
                program.steps.append(KernelStep(emitted, scratch, extent, team, grain, stream(emitted)))
            nodes = [source for source in whole.buffers if isinstance(source, Expr)]
            written, read = [n for n in nodes if n in own], [n for n in nodes if n not in own]
        for node in written:
            first.setdefault(node, number)
            last[node] = number
        for node in read:
            last[memory.get(node, node)] = number
    outputs = {memory.get(node, node) for node in outputs}
    for node in first:
        calls = isinstance(planned.place[node], Call) and node not in native
        if calls:
            continue
        if node in outputs:
            program.made.append(node)
        else:
            program.temporaries.append(Temporary(names[node], node.shape, node.dtype))
            requests.append(Request(size(node.shape) * node.dtype.itemsize, first[node], last[node]))
    offsets, program.arena = plan(requests)
    for temporary, offset in zip(program.temporaries, offsets, strict=True):
        temporary.offset = offset
    return program


def _last_reads(planned: Schedule) -> dict[Expr, int]:
    """The number of the last item that reads each input, through whatever views."""
    last: dict[Expr, int] = {}
    for number, item in enumerate(planned.items):
        members = [item.node] if isinstance(item, Call) else list(item.depth)
        pending = [arg for node in members for arg in node.args]
        seen: set[Expr] = set()
        while pending:
            node = pending.pop()
            if node in seen or node in planned.place:
                continue
            seen.add(node)
            if node.op.name == "parameter":
                last[node] = number
            pending += node.args
    return last
