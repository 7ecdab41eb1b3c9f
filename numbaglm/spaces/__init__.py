"""Where the elements of maps lie; `graph` says it of maps that lie on nothing that numbaglm knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numbaglm.spaces.graphs import graph

__all__ = ["graph"]


def __getattr__(name: str) -> Any:
    if name != "graph":
        raise AttributeError(f"module 'numbaglm.spaces' has no attribute {name!r}")
    from numbaglm.spaces.graphs import graph  # when it is asked for: others need not load NumPy

    return graph
