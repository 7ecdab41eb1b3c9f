"""Any set of elements of which it is known which touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy  # its sparse is loaded where it is used
from numpy.typing import ArrayLike, NDArray

from numbaglm.errors import InputError, invalid
from numbaglm.spaces.parcels import refuse_smoothing
from numbaglm.spaces.smoothing import Fwhm
from numbaglm.spaces.surface import neighbour_lists


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Elements that touch as a graph says: a part of a space.

    Attributes
    ----------
    n
        How many there are.
    edges
        (n_edges, 2) pairs that touch, the lower number first, each once.
    sizes
        (n,) what each adds to an extent; None counts them.
    xyz
        (n, 3) mm; None where they have no place in the head.
    numbers
        (n,) numbers of the elements in the graph that was given.
    """

    n: int
    edges: NDArray[np.int64]
    sizes: NDArray[np.float64] | None
    xyz: NDArray[np.float64] | None
    numbers: NDArray[np.int64]

    # As a part of a space; see `numbaglm.spaces.space.Part`.
    kind: ClassVar[str] = "graph"
    name: ClassVar[str] = ""
    noun: ClassVar[str] = "element"
    unit: ClassVar[str] = ""
    domain: ClassVar[str] = "graph"

    @property
    def measure(self) -> NDArray[np.float64]:
        """(n,) size of each element; 1 where none was given."""
        return np.ones(self.n) if self.sizes is None else self.sizes

    def topology(self, connectivity: int) -> Any:
        """Which elements touch, as the kernels have it: a `numbaglm.kernels.spatial.graph.Graph`."""
        # half a second, which who opens a cohort need not wait for
        from numbaglm.kernels.spatial.graph import new_graph

        return new_graph(*neighbour_lists(self.edges, self.n), self.sizes)

    def pairs(self) -> NDArray[np.int64]:
        """(m, 2) elements that touch, each pair once."""
        return self.edges

    def coordinates(self, elements: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """(k, 3) mm of some elements; None where none were given."""
        return None if self.xyz is None else self.xyz[elements]

    def places(self, elements: NDArray[np.intp]) -> list[str]:
        """Numbers of some elements in the graph that was given."""
        return [f"element {number}" for number in self.numbers[elements]]

    def select(self, keep: NDArray[np.bool_]) -> Adjacency:
        """Return those elements alone that are kept, (n,)."""
        number = np.where(keep, np.cumsum(keep) - 1, -1)
        edges = number[self.edges]
        return Adjacency(
            int(np.count_nonzero(keep)),
            edges[(edges >= 0).all(axis=1)],
            None if self.sizes is None else self.sizes[keep],
            None if self.xyz is None else self.xyz[keep],
            self.numbers[keep],
        )

    def same(self, other: Any) -> bool:
        """Whether another graph has these elements and edges."""
        return isinstance(other, Adjacency) and self.token() == other.token()

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Refuse.

        Raises
        ------
        InputError
        """
        raise refuse_smoothing("Elements of a graph", fwhm)

    def token(self) -> tuple[str, bytes]:
        """Return what tells it from other graphs."""
        made_of = self.edges.astype("<i8").tobytes() + self.numbers.astype("<i8").tobytes()
        for given in (self.sizes, self.xyz):
            made_of += b"" if given is None else given.astype("<f8").tobytes()
        return f"graph {self.n}", made_of

    def describe(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return its size, and edges, sizes and coordinates by name."""
        arrays: dict[str, NDArray[Any]] = {"edges": self.edges, "numbers": self.numbers}
        given = {"sizes": self.sizes, "xyz": self.xyz}
        return {"n": self.n}, arrays | {name: array for name, array in given.items() if array is not None}

    @classmethod
    def build(cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Adjacency:
        """Make a graph of what `describe` returned."""
        return cls(description["n"], arrays["edges"], arrays.get("sizes"), arrays.get("xyz"), arrays["numbers"])


def graph(adjacency: Any, measure: ArrayLike | None = None, coordinates: ArrayLike | None = None) -> Adjacency:
    """Say which elements touch, for maps that lie on nothing that numbaglm knows: ``space=`` of a cohort.

    Parameters
    ----------
    adjacency
        (n, n), sparse (scipy) or dense: not 0 where two elements touch. Symmetric; the diagonal does not count.
    measure
        (n,) what each element adds to an extent, above 0; by default elements are counted.
    coordinates
        (n, 3) mm, for tables.

    Raises
    ------
    InputError
        These are no such arrays, or the adjacency is not symmetric.

    Examples
    --------
    >>> import numpy as np, numbaglm as ng
    >>> ring = np.roll(np.eye(6), 1, axis=1)
    >>> space = ng.spaces.graph(ring + ring.T)
    >>> maps = np.random.default_rng(0).normal(size=(8, 6))
    >>> ng.Cohort.from_maps(maps, space=space).store.space.noun
    'element'
    """
    matrix = scipy.sparse.coo_array(adjacency)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.shape[0]:
        raise InputError(invalid("adjacency", f"shape {matrix.shape}", "(n, n), sparse or dense"))
    if not np.isfinite(matrix.data).all():
        raise InputError(invalid("adjacency", "NaN or infinity", "not 0 where two elements touch, 0 elsewhere"))
    n = matrix.shape[0]
    there = (matrix.data != 0) & (matrix.row != matrix.col)
    row, column = matrix.row[there].astype(np.int64), matrix.col[there].astype(np.int64)
    out, back = np.unique(row * n + column), np.unique(column * n + row)
    if not np.array_equal(out, back):
        a, b = divmod(int(np.setdiff1d(out, back)[0]), n)
        received = f"{a} touches {b}, but {b} does not touch {a}"
        raise InputError(invalid("adjacency", received, "a symmetric matrix", "Add its transpose."))
    edges = np.stack(np.divmod(out, n), axis=1)
    sizes = _checked("measure", measure, (n,))
    if sizes is not None and (sizes <= 0).any():
        raise InputError(invalid("measure", f"{sizes.min():g}", "numbers above 0"))
    xyz = _checked("coordinates", coordinates, (n, 3))
    return Adjacency(n, edges[edges[:, 0] < edges[:, 1]], sizes, xyz, np.arange(n))


def _checked(name: str, given: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    if given is None:
        return None
    array = np.asarray(given, np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(invalid(name, f"shape {array.shape}", f"finite numbers of shape {shape}, or None"))
    return array
