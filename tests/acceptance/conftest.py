"""The two ways in which most acceptance tests call a function; some files have more of their own."""

from __future__ import annotations

import pytest

import defnpy as dp

WAYS = {
    "eager": lambda f: f,
    "cpu": lambda f: dp.defn(f, backend="cpu"),
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]
