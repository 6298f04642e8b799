"""The nets that ``python -m defnpy.train`` knows. A new one is a module like ``two_layer_net`` and a line here."""

from __future__ import annotations

from . import multi_layer_net, simple_convnet, two_layer_net
from .net import Net

__all__ = ["NETS"]

NETS: dict[str, Net] = {net.name: net for net in (two_layer_net.NET, multi_layer_net.NET, simple_convnet.NET)}
