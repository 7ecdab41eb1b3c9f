"""Networks: the edges between named nodes, as a connectome has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from numbaglm.spaces.parcels import refuse_smoothing
from numbaglm.spaces.smoothing import Fwhm


@dataclass(frozen=True, eq=False)
class Connectome:
    """Edges between nodes: a part of a space. Edges touch where they share a node.

    Attributes
    ----------
    nodes
        Names of all nodes.
    ends
        (n, 2) numbers of the nodes that each edge joins.
    """

    nodes: tuple[str, ...]
    ends: NDArray[np.int32]

    # As a part of a space; see `numbaglm.spaces.space.Part`.
    kind: ClassVar[str] = "network"
    name: ClassVar[str] = ""
    noun: ClassVar[str] = "edge"
    unit: ClassVar[str] = ""
    domain: ClassVar[str] = "network"

    @classmethod
    def of_matrix(cls, nodes: tuple[str, ...]) -> Connectome:
        """Make the edges above the diagonal of a matrix, row after row."""
        ends = np.stack(np.triu_indices(len(nodes), 1), axis=1)
        return cls(nodes, ends.astype(np.int32))

    @property
    def n(self) -> int:
        """Number of edges."""
        return len(self.ends)

    @property
    def measure(self) -> NDArray[np.float64]:
        """(n,) ones: edges are counted."""
        return np.ones(self.n)

    def topology(self, connectivity: int) -> Any:
        """Which edges share a node, as the kernels have it: a `numbaglm.kernels.spatial.network.Network`."""
        # half a second, which who opens a cohort need not wait for
        from numbaglm.kernels.spatial.network import new_network

        return new_network(self.ends, len(self.nodes))

    def pairs(self) -> NDArray[np.int64] | None:
        """Return None: edges join nodes, and lie beside none."""
        return None

    def coordinates(self, elements: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Return None: an edge has two places."""
        return None

    def places(self, elements: NDArray[np.intp]) -> list[str]:
        """Names of the two nodes of some edges."""
        return [f"{self.nodes[a]} - {self.nodes[b]}" for a, b in self.ends[elements]]

    def select(self, keep: NDArray[np.bool_]) -> Connectome:
        """Return those edges alone that are kept, (n,), among the same nodes."""
        return replace(self, ends=self.ends[keep])

    def same(self, other: Any) -> bool:
        """Whether another network has these nodes and edges."""
        return (
            isinstance(other, Connectome) and self.nodes == other.nodes and bool(np.array_equal(self.ends, other.ends))
        )

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Refuse.

        Raises
        ------
        InputError
        """
        raise refuse_smoothing("Networks", fwhm)

    def token(self) -> tuple[str, bytes]:
        """Return what tells it from other networks."""
        return f"network {len(self.nodes)}", "\0".join(self.nodes).encode() + self.ends.astype("<i4").tobytes()

    def describe(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the names of its nodes, and its edges."""
        return {"nodes": list(self.nodes)}, {"ends": self.ends}

    @classmethod
    def build(cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Connectome:
        """Make a network of what `describe` returned."""
        return cls(tuple(description["nodes"]), arrays["ends"])
