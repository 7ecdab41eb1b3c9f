"""Maps on anything but a volume: what each subject's map is read from, and its values in the order of the elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from numbaglm.data.images.formats.freesurfer import is_mgh, open_mgh
from numbaglm.data.images.gifti import load_gifti, require_side
from numbaglm.data.images.raw import RawMap, require_single
from numbaglm.data.storage.files import require_regular
from numbaglm.errors import GridError, ImageError, InputError, MissingFileError, NumbaglmError, term
from numbaglm.spaces.space import Template

nib: Any = nibabel

Float32 = NDArray[np.float32]

_SMALL = 64 * 2**20  # bytes of a file that no memory is too little for, unless its header lies
_LONGEST = 300  # letters of what a library says


@dataclass(frozen=True, eq=False)
class Piece:
    """Where some values of a map are: the map of a hemisphere, say.

    Attributes
    ----------
    name
        What messages call it.
    read
        Gives all maps of a file, (n_maps, k), from its path; see `read_rows`.
    path
        The file; None for values in memory.
    number
        Which of the maps of a file; None where it has to have one.
    values
        (k,) of what is in memory, or of a file that was read as a whole.
    """

    name: str
    read: Callable[[Path], NDArray[Any]] | None = None
    path: Path | None = None
    number: int | None = None
    values: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class ElementSource:
    """One subject's map on surfaces, of parcels, of a network: where it is, before it is read.

    Attributes
    ----------
    name
        What messages call it.
    pieces
        What its values are read from, one after the other.
    """

    name: str
    pieces: tuple[Piece, ...]

    volume = None  # as a `MapSource` has it

    @property
    def path(self) -> Path | None:
        """Its first file; None where values are in memory."""
        return self.pieces[0].path

    @property
    def file(self) -> Path | None:
        """As `path`, where each map has files of its own."""
        return None if any(piece.number is not None for piece in self.pieces) else self.path

    @property
    def files(self) -> list[Path]:
        """All its files."""
        return [piece.path for piece in self.pieces if piece.path is not None]

    @property
    def values(self) -> list[NDArray[Any]]:
        """All its values that are in memory."""
        return [piece.values for piece in self.pieces if piece.values is not None]


def read_elements(sources: Sequence[ElementSource], template: Template) -> Iterator[RawMap]:
    """Read maps one by one, in the order of the template's elements.

    Raises
    ------
    MissingFileError, ImageError, GridError
    """
    opened: dict[int, tuple[Path, NDArray[Any]]] = {}  # the last file of each hemisphere: it may hold many maps
    n = template.n if template.columns is None else len(template.columns)
    for source in sources:
        found = []
        for number, piece in enumerate(source.pieces):
            if piece.values is not None:
                found.append(np.asarray(piece.values))
                continue
            assert piece.path is not None
            if number not in opened or opened[number][0] != piece.path:
                opened[number] = piece.path, read_rows(piece)
            rows = opened[number][1]
            if piece.number is None and len(rows) != 1:
                raise ImageError(one_map_a_file(piece.name, len(rows)))
            if piece.number is not None and piece.number >= len(rows):
                raise ImageError(f"{piece.path} holds {len(rows)} maps now: it changed. Start anew.")
            found.append(np.asarray(rows[piece.number or 0]))
        values = np.concatenate(found)
        if len(values) != n:
            raise GridError(
                f"{source.name} has {len(values):,} values, but {template.name} has {n:,}: they do not lie on the same "
                "elements. Bring all maps to one mesh, or to one list of regions, first."
            )
        yield RawMap(values if template.columns is None else values[template.columns], template.shape, name=source.name)


def one_map_a_file(name: str, n_maps: int) -> str:
    """Say that a file of a list holds more than one map."""
    return (
        f"{name} holds {n_maps} maps, but one a subject is needed. Pass the file alone if its maps are the subjects; "
        "otherwise extract the map you mean."
    )


def read_rows(piece: Piece) -> NDArray[Any]:
    """(n_maps, k) all that a file holds.

    Raises
    ------
    MissingFileError, ImageError
    """
    assert piece.path is not None
    assert piece.read is not None
    rows: NDArray[Any] = opening(piece.name, piece.path, piece.read)
    return rows


def opening(name: str, path: Path, read: Callable[[Path], Any]) -> Any:
    """Read a file, and turn what goes wrong into an error that names it.

    Raises
    ------
    MissingFileError, ImageError
    """
    if not path.exists():
        raise MissingFileError(f"{name} does not exist (looked for {path}). Check the path.")
    if path.is_dir():
        raise ImageError(f"{name} is a folder. Allowed: files.")
    try:
        require_regular(path)
        with np.errstate(all="ignore"):  # of a header's numbers: what they make is judged by who reads on
            return read(path)
    except NumbaglmError:
        raise
    except MemoryError as error:
        if path.stat().st_size > _SMALL:
            raise
        raise ImageError(f"{name} asks for more memory than there is: its header is damaged. Get it again.") from error
    except Exception as error:  # nibabel, parsers and decompressors raise a dozen kinds for what is damaged
        raise ImageError(f"{name} can't be read ({told(error)}). Get it again.") from error


def told(error: BaseException) -> str:
    """What a library says of a file, in a line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'}".rstrip(": ")


def gifti_rows(path: Path, side: str = "") -> NDArray[Any]:
    """(n_maps, n_vertices) values of a GIFTI file, a data array a map."""
    return rows_of_gifti(load_gifti(path), str(path), side)


def rows_of_gifti(image: Any, name: str, side: str = "") -> NDArray[Any]:
    """(n_maps, n_vertices) values of a GIFTI image.

    Raises
    ------
    ImageError
        It holds none: it may be a mesh. Or it is of the other side.
    """
    if not isinstance(image, nib.GiftiImage):
        raise ImageError(f"{name} is a {type(image).__name__}. Allowed: GIFTI files of values (.func.gii, .shape.gii).")
    arrays = [one.data for one in image.darrays]
    if not arrays or any(one.ndim != 1 or len(one) != len(arrays[0]) for one in arrays):
        is_mesh = any(one.intent in (1008, 1009) for one in image.darrays)
        what = f"is a mesh: pass it as {term('surfaces=')}" if is_mesh else "holds no values a vertex"
        raise ImageError(f"{name} {what}. Allowed as a map: .func.gii and .shape.gii, a number a vertex.")
    require_side(image, side, name)
    return np.stack(arrays)


def freesurfer_rows(path: Path) -> NDArray[Any]:
    """(n_maps, n_vertices) values of a FreeSurfer overlay: .mgh, .mgz, NIfTI, or a file of the kind of lh.thickness."""
    if is_mgh(path):
        values = np.asarray(open_mgh(path).dataobj)
        shape = values.shape
        if len(shape) > 2 and sorted(shape[:3])[:2] != [1, 1]:
            raise ImageError(
                f"{path} is a volume {shape[:3]}. Allowed: overlays, with the vertices along one dimension. Convert "
                "volumes to NIfTI (mri_convert)."
            )
        n_maps = shape[3] if len(shape) > 3 else 1
        return values.reshape(-1, n_maps, order="F").T
    if path.name.lower().endswith((".nii", ".nii.gz")):
        values = np.asarray(nib.load(path).dataobj)
        if values.ndim > 4 or values.ndim < 1 or (values.ndim > 1 and values.shape[1] != 1):
            raise ImageError(
                f"{path} is a volume {values.shape[:3]}. Allowed: overlays, with the vertices along one dimension."
            )
        n_maps = values.shape[3] if values.ndim > 3 else 1  # FreeSurfer folds what is too long for NIfTI
        return values.reshape(-1, n_maps, order="F").T
    return np.asarray(nib.freesurfer.read_morph_data(str(path)))[None]


def upper_triangle(matrix: Any, name: str) -> NDArray[np.float32]:
    """(n_edges,) values above the diagonal of a matrix, row after row.

    Raises
    ------
    InputError
        It is not square, or not symmetric.
    """
    values = np.asarray(matrix, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 2:
        raise InputError(f"{name} has shape {values.shape}. Allowed: a square matrix, (n, n), nodes by nodes.")
    largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    unequal = np.abs(values - values.T) > 1e-5 * largest
    unequal |= np.isnan(values) != np.isnan(values.T)
    if unequal.any():
        a, b = np.argwhere(unequal)[0]
        raise InputError(
            f"{name} is not symmetric: {values[a, b]:g} from node {a + 1} to {b + 1}, {values[b, a]:g} back. Allowed: "
            "undirected networks. Average both directions first, if that is what you mean."
        )
    upper = values[np.triu_indices(len(values), 1)]
    with np.errstate(over="ignore"):
        single = upper.astype(np.float32)
    require_single(single, upper, name)
    return single
