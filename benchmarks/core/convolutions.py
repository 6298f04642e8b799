"""Convolutions of many shapes and their two gradients beside PyTorch's: what ``lower/expand.py`` chooses by.

Each figure is the median of the fastest of some blocks of calls, the two libraries' blocks in turns; results are
compared first.

python -m benchmarks.core.convolutions [--quick] [--threads N] [--only WORD]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import defnpy as dp
from defnpy.ops.conv import conv_weight


@dataclass(frozen=True)
class Shape:
    """A convolution of ``batch`` square images of ``size`` pixels with ``channels``, into ``filters``."""

    batch: int
    channels: int
    size: int
    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    def __str__(self) -> str:
        extra = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
        words = [f"{name} {n}" for name, n in extra.items() if n != 1]
        of = f"{self.batch} x {self.channels} x {self.size}² to {self.filters}, {self.kernel} x {self.kernel}"
        return ", ".join([of, *words])

    @property
    def geometry(self) -> dict[str, int]:
        """The parameters of ``dp.conv``."""
        return {"strides": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}


SHAPES = [
    Shape(100, 1, 28, 30, 5),  # chapter 7
    Shape(1, 1, 28, 30, 5),
    *[Shape(n, 16, 28, 16, 3, padding=1) for n in (1, 8, 32, 100)],
    *[Shape(n, 32, 14, 64, 3, padding=1) for n in (1, 8, 32)],
    Shape(8, 64, 56, 64, 3, padding=1),
    *[Shape(n, 128, 8, 128, 3, padding=1) for n in (1, 8, 32)],
    Shape(8, 3, 56, 32, 3, stride=2, padding=1),
    Shape(32, 32, 28, 64, 3, stride=2, padding=1),
    Shape(8, 3, 56, 64, 7, stride=2, padding=3),
    Shape(32, 32, 28, 32, 3, padding=2, dilation=2),
    *[Shape(n, 64, 28, 64, 1) for n in (1, 32)],
    Shape(32, 128, 14, 32, 1),
    *[Shape(n, 64, 28, 64, 3, padding=1, groups=64) for n in (1, 32)],
    Shape(32, 64, 28, 64, 3, stride=2, padding=1, groups=64),
    Shape(32, 32, 14, 64, 3, padding=1, groups=4),
]  # fmt: skip
DIRECTIONS = ("forward", "input", "weight")


def ours(shape: Shape, direction: str, x: Any, w: Any, g: Any) -> Callable[[], Any]:
    """A call of the compiled function."""
    geometry = shape.geometry
    if direction == "forward":
        compiled = dp.defn(lambda x, w: dp.conv(x, w, **geometry)).compile(x, w)
        return lambda: compiled(x, w)
    if direction == "input":
        size = shape.size
        compiled = dp.defn(lambda g, w: dp.conv_transpose(g, w, size=size, **geometry)).compile(g, w)
        return lambda: compiled(g, w)
    compiled = dp.defn(lambda x, g: conv_weight(x, g, size=shape.kernel, **geometry)).compile(x, g)
    return lambda: compiled(x, g)


def torches(shape: Shape, direction: str, x: Any, w: Any, g: Any) -> Callable[[], Any]:
    """The same by PyTorch."""
    import torch

    x, w, g = (torch.from_numpy(np.array(z)) for z in (x, w, g))
    pairs = [[n, n] for n in (shape.stride, shape.padding, shape.dilation)]
    if direction == "forward":
        return lambda: torch.conv2d(x, w, None, *pairs, shape.groups)
    mask = [direction == "input", direction == "weight", False]
    which = mask.index(True)
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(g, x, w, None, *pairs, False, [0, 0], shape.groups, mask)[which]


def microseconds(calls: list[Callable[[], Any]], seconds: float, rounds: int) -> list[float]:
    """For each call the median of its blocks' times."""
    blocks: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for times, call in zip(blocks, calls, strict=True):
            time.sleep(0.005)  # the other library's threads stop spinning
            call()
            taken: list[float] = []
            end = time.perf_counter() + seconds
            while not taken or time.perf_counter() < end:
                start = time.perf_counter()
                call()
                taken.append(time.perf_counter() - start)
            times.append(statistics.median(taken))
    return [min(times) * 1e6 for times in blocks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three shapes, short blocks")
    parser.add_argument("--threads", type=int, default=2, help="threads of either library (2)")
    parser.add_argument("--only", default="", help="only the shapes whose description has this word")
    options = parser.parse_args()
    os.environ.pop("OPENBLAS_CORETYPE", None)  # read when the library is loaded, which is later
    chosen = [shape for shape in (SHAPES[:1] + SHAPES[-2:] if options.quick else SHAPES) if options.only in str(shape)]
    seconds, rounds = (0.002, 1) if options.quick else (0.02, 3)
    peer = importlib.util.find_spec("torch") is not None
    if peer:
        import torch

        torch.set_num_threads(options.threads)
    print("| convolution | direction | defnpy us | torch us | ratio | GFLOP/s |\n|---|---|---:|---:|---:|---:|")
    rng = np.random.default_rng(0)
    with dp.config(threads=options.threads, backend="cpu"):
        for shape in chosen:
            x = rng.standard_normal((shape.batch, shape.channels, shape.size, shape.size)).astype(np.float32)
            w = rng.standard_normal((shape.filters, shape.channels // shape.groups, *[shape.kernel] * 2)).astype("f")
            x, w = dp.asarray(x), dp.asarray(w)
            g = dp.asarray(rng.standard_normal(dp.conv(x, w, **shape.geometry).shape).astype(np.float32))
            flops = 2 * g.size * w[0].size
            for direction in DIRECTIONS:
                calls = [ours(shape, direction, x, w, g)]
                if peer:
                    calls.append(torches(shape, direction, x, w, g))
                    one, other = (np.asarray(call()) for call in calls)
                    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(other).max())
                own, *others = microseconds(calls, seconds, rounds)
                beside = f"{others[0]:.0f} | {own / others[0]:.2f}" if others else " | "
                print(f"| {shape} | {direction} | {own:.0f} | {beside} | {flops / own / 1e3:.0f} |", flush=True)


if __name__ == "__main__":
    main()
