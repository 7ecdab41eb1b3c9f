"""Maps on surfaces, of parcels and of networks, in whatever form, brought into one list with their template."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.images.cifti import CIFTI, cifti_rows, cifti_template
from numbaglm.data.images.elements import (
    ElementSource,
    Piece,
    freesurfer_rows,
    gifti_rows,
    one_map_a_file,
    opening,
    read_rows,
    rows_of_gifti,
    upper_triangle,
)
from numbaglm.data.images.formats.names import SIDE_IN_NAME, SIDES, form_of, is_cifti, side_of
from numbaglm.data.images.meshes import by_side, load_areas, load_meshes, values_of_vertices, warn_of_sides
from numbaglm.data.labels import labels_of, sorted_frame
from numbaglm.data.tables import LABEL_COLUMNS, read_table
from numbaglm.errors import GridError, ImageError, InputError, MaskError, invalid, term
from numbaglm.spaces.graphs import Adjacency
from numbaglm.spaces.network import Connectome
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Part, Template
from numbaglm.spaces.surface import Surface, is_surface

nib: Any = nibabel

_ENDINGS = re.compile(r"\.((func|shape)\.gii|gii|mgh|mgz|[dp](scalar|tseries|conn)\.nii|tsv|csv|txt|npy)(\.gz)?$")
_NETWORK = "network"
_AS_NETWORK = term(f"space={_NETWORK!r}")


@dataclass(frozen=True, eq=False)
class Listed:
    """Maps of a cohort on anything but a volume.

    Attributes
    ----------
    sources, labels
        A map and a label a subject.
    template
        What each of them lists.
    """

    sources: list[ElementSource]
    labels: list[str]
    template: Template


def list_elements(
    maps: Any, *, surfaces: Any = None, areas: Any = None, space: Any = None, nodes: Any = None, minimum: int = 2
) -> Listed:
    """Bring maps on anything but a volume into one list.

    Parameters
    ----------
    maps, surfaces, areas, space, nodes
        As in `numbaglm.Cohort.create`.
    minimum
        How many subjects there must be.

    Raises
    ------
    InputError, MissingFileError, ImageError, GridError
    """
    if isinstance(space, str) and space != _NETWORK:
        allowed = f"{_NETWORK!r}, numbaglm.spaces.graph(...), or None: the format of the maps tells"
        raise InputError(invalid("space", space, allowed))
    if nodes is not None and space != _NETWORK:
        raise InputError(invalid("nodes", "names", f"None, unless {_AS_NETWORK}"))
    if space == _NETWORK:
        found = _networks(maps, nodes)
    elif isinstance(maps, pd.DataFrame) and "effects_map_path" in maps.columns:
        frame = sorted_frame(maps)
        one = list_elements(list(frame["effects_map_path"]), surfaces=surfaces, areas=areas, minimum=minimum)
        return Listed(one.sources, [str(label) for label in frame["subject_label"]], one.template)
    elif space is not None or isinstance(maps, pd.DataFrame) or _is_table(maps):
        found = _table(maps, space)
    elif is_surface(maps) or (isinstance(maps, list | tuple) and len(maps) and is_surface(maps[0])):
        found = _surface_images(maps, surfaces, areas)
        surfaces = areas = None
    elif isinstance(maps, Mapping):
        found = _sided({_side_named(side): one for side, one in maps.items()}, surfaces, areas)
        surfaces = areas = None
    else:
        found = _files(maps, surfaces, areas)
        surfaces = areas = None
    if surfaces is not None or areas is not None:
        raise InputError(invalid("surfaces", "meshes or areas", "None: these maps lie on no surface"))
    if len(found.sources) < minimum:
        received = f"{len(found.sources)} map(s)"
        raise InputError(invalid("maps", received, f"at least {minimum} maps, one a subject", "Pass all of them."))
    return found


def _is_table(maps: Any) -> bool:
    return isinstance(maps, str | os.PathLike) and str(maps).lower().endswith((".tsv", ".csv"))


def _side_named(side: Any) -> str:
    name = str(side).lower()
    name = SIDES.get(name, name)
    if name not in ("left", "right"):
        fix = "For several modalities make a Cohort of each."
        raise InputError(invalid("maps", f"a dict with {side!r}", "'left' and 'right', each with a map a subject", fix))
    return name


def _files(maps: Any, surfaces: Any, areas: Any) -> Listed:
    """Files of one list, or one file of all subjects."""
    items = [maps] if isinstance(maps, str | os.PathLike | nib.GiftiImage | nib.Cifti2Image) else list(maps)
    if _is_cifti(items[0]):
        return _cifti(items, surfaces, areas, alone=len(items) == 1)
    sides = [side_of(Path(item)) if isinstance(item, str | os.PathLike) else None for item in items]
    if len(set(sides)) == 1:
        return _sided({sides[0] or "": maps}, surfaces, areas)
    if None in sides:
        unnamed = items[sides.index(None)]
        allowed = "names that all say the hemisphere (lh/rh, hemi-L/hemi-R, .L./.R.), or none"
        raise InputError(invalid("maps", str(unnamed), allowed, "Pass {'left': [...], 'right': [...]}."))
    left, right = ([item for item, one in zip(items, sides, strict=True) if one == side] for side in ("left", "right"))
    if len(left) == len(right) == 1:  # a file of all subjects a side
        return _sided({"left": left[0], "right": right[0]}, surfaces, areas)
    return _sided({"left": left, "right": right}, surfaces, areas)


def _sided(maps: Mapping[str, Any], surfaces: Any, areas: Any) -> Listed:
    """Maps of one surface, or of two."""
    names = [side for side in ("left", "right", "") if side in maps]
    if not names:
        allowed = "maps by hemisphere, {'left': ..., 'right': ...}, or cohorts by modality"
        raise InputError(invalid("maps", "an empty dict", allowed))
    warn_of_sides({side: maps[side] for side in names}, "maps")
    pieces = {side: _pieces(maps[side], side) for side in names}
    counts = {side: len(of_side) for side, of_side in pieces.items()}
    if len(set(counts.values())) > 1:
        received = " and ".join(f"{count} maps on the {side}" for side, count in counts.items())
        raise InputError(invalid("maps", received, "as many on the left as on the right, a subject each"))
    labels = {side: _labels(of_side) for side, of_side in pieces.items()}
    first = labels[names[0]]
    for side in names[1:]:
        if labels[side] != first:
            a, b = next(pair for pair in zip(first, labels[side], strict=True) if pair[0] != pair[1])
            received = f"{a} on the {names[0]} where {b} is on the {side}"
            fix = "Bring both lists into the same order."
            raise InputError(invalid("maps", received, "the same subjects on both sides", fix))
    sizes = {side: _length(of_side[0]) for side, of_side in pieces.items()}
    meshes, of_vertices = load_meshes(surfaces, names), load_areas(areas, sizes)
    parts = tuple(
        Surface(side, sizes[side], np.arange(sizes[side]), meshes.get(side), of_vertices.get(side)) for side in names
    )
    file = pieces[names[0]][0].path
    written = "mgh" if file is not None and form_of(file) != "gifti" else "gifti"
    sources = [
        ElementSource(" and ".join(piece.name for piece in both), tuple(both))
        for both in zip(*(pieces[side] for side in names), strict=True)
    ]
    return Listed(sources, first, Template(parts, None, {"format": written}, name=sources[0].name))


def _pieces(maps: Any, side: str) -> list[Piece]:
    """Take what was given for one surface apart into a piece a subject."""
    if isinstance(maps, str | os.PathLike):
        path = _path(maps)
        piece = Piece(str(maps), _reader(path, side), path)
        rows = read_rows(piece)
        if len(rows) == 1:
            return [piece]
        # Read once: a GIFTI file can only be parsed as a whole, and .mgh is a view of the file.
        return [Piece(f"{maps} (map {k})", piece.read, path, k - 1, row) for k, row in enumerate(rows, 1)]
    if isinstance(maps, nib.GiftiImage):
        return _in_memory(rows_of_gifti(maps, f"the image of the {side} surface", side), side)
    if isinstance(maps, np.ndarray) and maps.dtype.kind in "fiub":
        if maps.ndim != 2:
            raise InputError(invalid("maps", f"shape {maps.shape}", "(n_subjects, n_vertices) values of a surface"))
        return _in_memory(maps, side)
    if not isinstance(maps, list | tuple | pd.Series | np.ndarray) or not len(maps):
        allowed = "a list of files or GIFTI images, one of several maps, or an array (n_subjects, n_vertices)"
        raise InputError(invalid("maps", type(maps).__name__, allowed))
    found = []
    for number, item in enumerate(maps, 1):
        if isinstance(item, str | os.PathLike):
            path = _path(item)
            found.append(Piece(str(item), _reader(path, side), path))
        else:
            name = f"map {number} of the {side} surface".replace("  ", " ")
            rows = (
                rows_of_gifti(item, name, side) if isinstance(item, nib.GiftiImage) else np.atleast_2d(np.asarray(item))
            )
            if len(rows) != 1 or rows.dtype.kind not in "fiub":
                raise ImageError(one_map_a_file(name, len(rows)))
            found.append(Piece(name, values=rows[0]))
    return found


def _in_memory(rows: NDArray[Any], side: str) -> list[Piece]:
    return [Piece(f"map {k} {side}".strip(), values=row) for k, row in enumerate(rows, 1)]


def _path(item: Any) -> Path:
    return Path(os.path.abspath(Path(item).expanduser()))  # noqa: PTH100 - resolve() follows links


def _reader(path: Path, side: str) -> Any:
    form = form_of(path)
    if form == "gifti":
        return partial(gifti_rows, side=side)
    if form == "mgh" or path.suffix in (".mgh", ".mgz", "") or path.name.lower().endswith((".nii", ".nii.gz")):
        return freesurfer_rows
    raise InputError(
        invalid(
            "maps",
            str(path),
            "GIFTI (.func.gii, .shape.gii), FreeSurfer (.mgh, .mgz, or lh.thickness) and CIFTI files for surfaces",
        )
    )


def _length(piece: Piece) -> int:
    if piece.values is not None:
        return int(piece.values.shape[-1])
    return int(read_rows(piece).shape[1])


def _labels(pieces: Sequence[Piece]) -> list[str]:
    """Labels of subjects by files, without what says the hemisphere: of FreeSurfer's folders, those that differ."""
    if any(piece.path is None or piece.number is not None for piece in pieces):
        return labels_of([], len(pieces))
    return file_labels([piece.path for piece in pieces if piece.path is not None])


def file_labels(files: Sequence[Path]) -> list[str]:
    """Labels of subjects by their files; see `labels_of`."""
    plain = [file.with_name(_ENDINGS.sub("", SIDE_IN_NAME.sub("", file.name)) or file.name) for file in files]
    return labels_of(list(plain), len(plain))


def _surface_images(images: Any, surfaces: Any, areas: Any) -> Listed:
    """Images as nilearn's SurfaceImage, known by what they have."""
    several = [images] if is_surface(images) else list(images)
    mesh = several[0].mesh.parts
    names = list(mesh)
    rows: dict[str, list[NDArray[Any]]] = {side: [] for side in names}
    for number, image in enumerate(several, 1):
        if list(image.data.parts) != names:
            raise GridError(f"Surface image {number} has the parts {list(image.data.parts)}, the first one {names}.")
        for side in names:
            values = np.asarray(image.data.parts[side])
            values = values[None] if values.ndim == 1 else values.T
            if len(several) > 1 and len(values) != 1:
                raise ImageError(one_map_a_file(f"Surface image {number}", len(values)))
            if len(rows[side]) and values.shape[1] != rows[side][0].shape[1]:
                raise GridError(f"Surface image {number} and the first one lie on different meshes.")
            rows[side].append(values)
    stacked = {side: np.concatenate(of_side) for side, of_side in rows.items()}
    return _sided(stacked, mesh if surfaces is None else surfaces, areas)


def _is_cifti(item: Any) -> bool:
    return isinstance(item, nib.Cifti2Image) or (isinstance(item, str | os.PathLike) and is_cifti(Path(item)))


def _cifti(items: Sequence[Any], surfaces: Any, areas: Any, *, alone: bool) -> Listed:
    """CIFTI files, one a subject, or one of all."""
    first: CIFTI | None = None  # of the others nothing is kept: what each says of its columns takes megabytes
    pieces: list[Piece] = []
    for number, item in enumerate(items, 1):
        image = CIFTI.of(item, f"image {number} (in memory)")
        first = first or image
        if image.key != first.key and not image.lists_the_same(first):
            unlike = image.differences(first)
            raise GridError(
                f"{image.name} and {first.name} list different grayordinates or parcels{unlike and f' ({unlike})'}. "
                "Bring all maps to one space first (wb_command -cifti-create-dense-from-template, which writes 0 where "
                f"a file has nothing: {term('zero_is_missing=True')} then leaves that out)."
            )
        if image.n_maps != 1 and not alone:
            raise ImageError(one_map_a_file(image.name, image.n_maps))
        read = partial(_connectome_rows, image.name) if image.is_matrix else cifti_rows
        for k in range(image.n_maps):
            name = f"{image.name} (map {k + 1})" if image.n_maps > 1 else image.name
            row = k if image.n_maps > 1 else None
            if image.path is not None:
                pieces.append(Piece(name, read, image.path, row))
            else:
                values = image.values()
                pieces.append(Piece(name, values=upper_triangle(values, name) if image.is_matrix else values[k]))
    assert first is not None
    template = cifti_template(first, surfaces, areas)
    sources = [ElementSource(piece.name, (piece,)) for piece in pieces]
    return Listed(sources, _labels(pieces), template)


def _connectome_rows(name: str, path: Path) -> NDArray[Any]:
    return upper_triangle(cifti_rows(path), name)[None]


def _table(maps: Any, space: Any) -> Listed:
    """A table: a row a subject, a column a parcel, or an element of a graph."""
    if space is not None and not isinstance(space, Adjacency):
        allowed = f"{_NETWORK!r}, numbaglm.spaces.graph(...), or None"
        raise InputError(invalid("space", type(space).__name__, allowed))
    what = "the table"
    if isinstance(maps, np.ndarray) and maps.ndim == 2 and maps.dtype.kind in "fiub":
        names, frame = None, pd.DataFrame(maps)
    elif isinstance(maps, pd.DataFrame):
        names, frame = _labelled(maps)
    else:
        what = str(maps)
        names, frame = _labelled(read_table(maps, "maps"))
    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column].dtype):
            allowed = "a column of labels, then numbers alone: a row a subject, a column a parcel"
            raise InputError(invalid("maps", f"a table whose column {column!r} is no number", allowed))
    columns = [str(column) for column in frame.columns]
    if len(set(columns)) < len(columns) or not columns:
        twice = next((column for column in columns if columns.count(column) > 1), "none")
        raise InputError(invalid("maps", f"a table with the columns {twice!r} twice", "a name for each parcel"))
    part: Part = Parcels(tuple(columns)) if space is None else space
    if part.n != len(columns):
        raise GridError(
            f"{what} has {len(columns):,} columns, but the graph given as {term('space=')} has {part.n:,} elements. "
            "Pass a column for each element."
        )
    rows = frame.to_numpy(np.float64)
    labels = list(names) if names is not None else labels_of([], len(rows))
    sources = [
        ElementSource(f"{what} (row {k})", (Piece(f"{what} (row {k})", values=row),)) for k, row in enumerate(rows, 1)
    ]
    return Listed(sources, labels, Template((part,), None, {"format": "table", "columns": columns}, name=what))


def _labelled(table: pd.DataFrame) -> tuple[list[str] | None, pd.DataFrame]:
    """Part a table into labels, if it has them, and numbers."""
    named = next((name for name in LABEL_COLUMNS if name in table.columns), None)
    if named is None and len(table.columns) and not pd.api.types.is_numeric_dtype(table.dtypes.iloc[0]):
        named = table.columns[0]
    if named is not None:
        return [str(label) for label in table[named]], table.drop(columns=named)
    is_text = not pd.api.types.is_numeric_dtype(table.index.dtype)
    return [str(label) for label in table.index] if is_text else None, table


def _networks(maps: Any, nodes: Any) -> Listed:
    """Matrices or lists of edges, one a subject."""
    if isinstance(maps, np.ndarray) and maps.ndim == 3:
        maps = list(maps)
    if not isinstance(maps, list | tuple | pd.Series):
        allowed = "a list of matrices (n, n) or their files, or an array (n_subjects, n, n)"
        raise InputError(invalid("maps", type(maps).__name__, f"{allowed}, for {_AS_NETWORK}"))
    names = None if nodes is None else tuple(map(str, nodes))
    pieces, files = [], []
    for number, item in enumerate(maps, 1):
        name = str(item) if isinstance(item, str | os.PathLike) else f"matrix {number}"
        if isinstance(item, str | os.PathLike):
            path = _path(item)
            files.append(path)
            found = opening(name, path, _read_matrix)
        else:
            found = item
        matrix, own = _matrix(found, names, name)
        if names is None:
            names = own or tuple(str(k) for k in range(1, len(matrix) + 1))
        elif own is not None and own != names:
            raise GridError(
                f"{name} has the nodes {', '.join(own[:3])}, ..., but {', '.join(names[:3])}, ... are needed."
            )
        if len(matrix) != len(names):
            raise GridError(
                f"{name} has {len(matrix)} nodes, but {len(names)} are needed. Bring all to one parcellation."
            )
        pieces.append(Piece(name, values=upper_triangle(matrix, name)))
    assert names is not None
    if len(set(names)) < len(names):
        raise InputError(invalid("nodes", "a name twice", "a name for each node"))
    labels = file_labels(files) if len(files) == len(pieces) else labels_of([], len(pieces))
    template = Template((Connectome.of_matrix(names),), None, {"format": "matrix"}, name=pieces[0].name)
    return Listed([ElementSource(piece.name, (piece,)) for piece in pieces], labels, template)


def _read_matrix(path: Path) -> Any:
    if path.suffix == ".npy":
        # Mapped: a header may promise more than there is.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    if is_cifti(path):
        return CIFTI.of(path, str(path)).named_matrix()
    separator = {".csv": ",", ".tsv": "\t"}.get(path.suffix, r"\s+")
    with path.open() as file:
        first = file.readline()
    if re.search(r"[A-Za-z_]", re.sub(r"[eE][+-]?\d|nan|inf", "", first)):
        table = pd.read_csv(path, sep=separator)
        return table if {"weight", "source", "target"} & set(table.columns) else table.set_index(table.columns[0])
    return pd.read_csv(path, sep=separator, header=None).to_numpy(np.float64)


def _matrix(found: Any, nodes: tuple[str, ...] | None, name: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """(n, n) values, and the names that they have of their own."""
    if isinstance(found, pd.DataFrame):
        if len(found.columns) == 3 and len(found) != 3:
            return _of_edges(found, nodes, name), nodes
        own = tuple(map(str, found.columns))
        named = not all(re.fullmatch(r"\d+", one) for one in own)
        return found.to_numpy(np.float64), own if named else None
    matrix = np.asarray(found)
    if matrix.ndim == 2 and matrix.shape[1] == 3 and len(matrix) != 3:
        return _of_edges(pd.DataFrame(matrix), nodes, name), nodes
    return matrix, None


def _of_edges(edges: pd.DataFrame, nodes: tuple[str, ...] | None, name: str) -> NDArray[np.float64]:
    """Make a matrix of a list of edges, a row each: two nodes, and a number; those not listed are 0."""
    if nodes is None:
        raise InputError(
            f"{name} is a list of edges, which does not say what all nodes are: pass {term('nodes=')} with their names."
        )
    number = {node: k for k, node in enumerate(nodes)}
    matrix, seen = np.zeros((len(nodes), len(nodes))), set()
    for a, b, weight in edges.itertuples(index=False):
        ends = [str(int(end)) if isinstance(end, float) and end.is_integer() else str(end) for end in (a, b)]
        unknown = [end for end in ends if end not in number]
        if unknown:
            raise InputError(invalid("nodes", f"no {unknown[0]!r}, which {name} has", "the names of all nodes"))
        pair = tuple(sorted(number[end] for end in ends))
        if pair in seen:
            raise InputError(f"{name} lists the edge {ends[0]} - {ends[1]} twice. Allowed: each edge once.")
        seen.add(pair)
        matrix[pair] = matrix[pair[::-1]] = float(weight)
    return matrix


def load_element_mask(mask: Any, template: Template) -> NDArray[np.bool_] | None:
    """Read which elements may stay: those that are finite and not 0. None stays None.

    Parameters
    ----------
    mask
        See `element_values`.
    template
        What the maps list.

    Returns
    -------
    (template.n,).

    Raises
    ------
    InputError, MissingFileError, ImageError, MaskError
    """
    if mask is None:
        return None
    values = element_values(mask, template, "mask")
    inside: NDArray[np.bool_] = np.isfinite(values) & (values != 0)
    if not inside.any():
        raise MaskError("The mask holds nothing that is finite and not 0. Pass another mask.")
    return inside


def element_values(given: Any, template: Template, parameter: str) -> NDArray[Any]:
    """Read one map of the elements that the maps list: a mask, or labels.

    Parameters
    ----------
    given
        By surface, label, shape and overlay files, FreeSurfer's .label, and arrays; a CIFTI file with the axes of the
        maps; an image as nilearn's SurfaceImage; an array, one number an element, in the order of the files.
    template
        What the maps list.
    parameter
        What messages call it.

    Returns
    -------
    (template.n,) numbers or booleans.

    Raises
    ------
    InputError, MissingFileError, ImageError
    """
    if is_surface(given):
        given = {side: np.asarray(values) for side, values in given.data.parts.items()}
    of_files = template.files["format"] in ("gifti", "mgh")
    if _is_cifti(given):
        image = CIFTI.of(given, f"the {parameter} (in memory)")
        if image.n_maps != 1 or not cifti_template(image, None, None).lists_the_same(template):
            raise GridError(
                f"{image.name} given as {parameter} lists other grayordinates than the maps. Pass one that fits."
            )
        values = image.values().ravel()
    elif of_files:
        sizes = {part.name: part.n_vertices for part in template.parts if isinstance(part, Surface)}
        by = by_side(given, list(sizes), parameter)
        values = np.concatenate([side_values(by[side], n, side, parameter) for side, n in sizes.items()])
    else:
        values = np.asarray(given).ravel()
    n = template.n if template.columns is None else len(template.columns)
    if values.shape != (n,) or values.dtype.kind not in "fiub":
        raise InputError(invalid(parameter, f"{values.dtype} of shape {values.shape}", f"({n},), a number an element"))
    return values if template.columns is None else values[template.columns]


def side_values(given: Any, n: int, side: str, parameter: str) -> NDArray[Any]:
    """(n,) values at the vertices of one surface: a file, FreeSurfer's .label (1 inside, 0 outside), or an array.

    Raises
    ------
    InputError, MissingFileError, ImageError
    """
    if isinstance(given, str | os.PathLike) and str(given).endswith(".label"):
        inside = np.zeros(n)
        inside[opening(str(given), Path(given).expanduser(), lambda path: nib.freesurfer.read_label(str(path)))] = 1
        return inside
    values = values_of_vertices(given, parameter, side)
    if len(values) != n:
        label = f"{side} surface".strip()
        raise GridError(f"The {parameter} of the {label} has {len(values):,} vertices, but the maps have {n:,}.")
    return values
