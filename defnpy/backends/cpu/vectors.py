"""Vectors in LLVM's text: their type, and how they are loaded, stored and filled, whole or under a mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Vector"]


@dataclass(frozen=True)
class Vector:
    """``lanes`` elements of ``kind`` (LLVM's name), of ``itemsize`` bytes each."""

    kind: str
    itemsize: int
    lanes: int

    @property
    def type(self) -> str:
        return f"<{self.lanes} x {self.kind}>"

    @property
    def mask(self) -> str:
        return f"<{self.lanes} x i1>"

    @property
    def suffix(self) -> str:
        """By which functions of LLVM name the type."""
        return f"v{self.lanes}f{8 * self.itemsize}"

    def declarations(self) -> Iterator[str]:
        """Of the functions that the other methods call."""
        v, mask, suffix = self.type, self.mask, self.suffix
        yield f"declare {v} @llvm.masked.load.{suffix}.p0(ptr, i32, {mask}, {v})"
        yield f"declare void @llvm.masked.store.{suffix}.p0({v}, ptr, i32, {mask})"
        yield f"declare {v} @llvm.fma.{suffix}({v}, {v}, {v})"

    def below(self, bound: str, name: str) -> Iterator[str]:
        """The mask of the lanes whose numbers are below ``bound``."""
        numbers = ", ".join(f"i64 {i}" for i in range(self.lanes))
        lanes = f"<{self.lanes} x i64>"
        yield f"  %{name}_one = insertelement {lanes} poison, i64 {bound}, i64 0"
        yield f"  %{name}_all = shufflevector {lanes} %{name}_one, {lanes} poison, <{self.lanes} x i32> zeroinitializer"
        yield f"  %{name} = icmp slt {lanes} <{numbers}>, %{name}_all"

    def load(self, name: str, pointer: str, mask: str = "") -> str:
        """Lanes outside the mask are zeros."""
        if not mask:
            return f"  %{name} = load {self.type}, ptr %{pointer}, align {self.itemsize}"
        return (
            f"  %{name} = call {self.type} @llvm.masked.load.{self.suffix}.p0(ptr %{pointer}, i32 {self.itemsize}, "
            f"{self.mask} %{mask}, {self.type} zeroinitializer)"
        )

    def store(self, value: str, pointer: str, mask: str = "") -> str:
        if not mask:
            return f"  store {self.type} %{value}, ptr %{pointer}, align {self.itemsize}"
        return (
            f"  call void @llvm.masked.store.{self.suffix}.p0({self.type} %{value}, ptr %{pointer}, "
            f"i32 {self.itemsize}, {self.mask} %{mask})"
        )

    def fill(self, name: str, pointer: str) -> Iterator[str]:
        """All lanes are the element at ``pointer``."""
        v = self.type
        yield f"  %{name}_x = load {self.kind}, ptr %{pointer}"
        yield f"  %{name}_one = insertelement {v} poison, {self.kind} %{name}_x, i64 0"
        yield f"  %{name} = shufflevector {v} %{name}_one, {v} poison, <{self.lanes} x i32> zeroinitializer"

    def multiply_add(self, name: str, x: str, y: str, z: str) -> str:
        """x * y + z, rounded once."""
        v = self.type
        return f"  %{name} = call {v} @llvm.fma.{self.suffix}({v} %{x}, {v} %{y}, {v} %{z})"
