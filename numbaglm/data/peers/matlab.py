"""MATLAB's .mat files as plain Python: structs, cells, text and numbers, whatever version wrote them."""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy import sparse

from numbaglm.data.storage.files import require_regular
from numbaglm.errors import InputError, MissingExtraError, MissingFileError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK = 512  # bytes before the HDF5 of a v7.3 file, which name MATLAB
_HEADER = 128  # bytes of a v5 file before its elements; the last two tell the order of bytes
# Types of elements, and classes of the matrices that they make.
_LETTERS, _INTEGERS, _FLAGS, _MATRIX, _PACKED = 1, 5, 6, 14, 15
_NUMBERS, _CODES = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13}), frozenset({16, 17, 18})
_TYPES = _NUMBERS | _CODES | {_MATRIX, _PACKED}
_CELL, _TEXT, _OF_INDICES, _CLASSES, _OBJECTS = 1, 4, 5, range(5, 16), (16, 17)
_STRUCTS = {2: 0, 3: 1}  # and how many elements stand before their fields
_DEEPEST = 64  # matrices in matrices
_CLASS, _EMPTY, _SPARSE = "MATLAB_class", "MATLAB_empty", "MATLAB_sparse"


def read_mat(path: str | os.PathLike[str], variable: str) -> Any:
    """Read a variable of a .mat file.

    Parameters
    ----------
    path
        A file that MATLAB or Octave wrote: v5 to v7; v7.3, which is HDF5, where h5py is installed.
    variable
        Its name.

    Returns
    -------
    A struct is a dict, an array of structs a list of dicts (column by column), a cell a list; a row of letters is a
    string, a matrix of letters a list of strings without the blanks at their ends; numbers are arrays with two
    dimensions or more; a sparse matrix is scipy's. Objects are what their fields make, or None.

    Raises
    ------
    MissingFileError, InputError
        There is no such file or variable, or it can't be read; the message names the file.
    MissingExtraError
        It is v7.3, and h5py is not installed.
    """
    place = Path(path).expanduser()
    try:
        require_regular(place)
        with place.open("rb") as file:
            start = file.read(_USER_BLOCK + len(_HDF5))
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. Check the path.") from None
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}). It needs to be a .mat file.") from error
    if start.startswith(_HDF5) or start[_USER_BLOCK:] == _HDF5:
        return _read_hdf5(place, variable)
    return _read_classic(place, variable)


def _read_classic(place: Path, variable: str) -> Any:
    """Read a file of v4 to v7."""
    import scipy.io
    from scipy.io.matlab import MatReadError

    try:
        data = place.read_bytes()
        if (order := {b"IM": "<", b"MI": ">"}.get(data[_HEADER - 2 : _HEADER])) is not None:
            _check_elements(data, order, _HEADER)
        with warnings.catch_warnings():  # of what sparse matrices will be, from scipy 1.18 on: both kinds are taken
            warnings.filterwarnings("ignore", "The default value for `spmatrix`", DeprecationWarning)
            found = scipy.io.loadmat(
                cast(Any, io.BytesIO(data)), variable_names=[variable], squeeze_me=False, chars_as_strings=True
            )
        value = _plain(found[variable]) if variable in found else None
    except (
        *(MatReadError, ValueError, TypeError, LookupError, ArithmeticError, OSError, EOFError, NotImplementedError),
        *(
            zlib.error,
            struct.error,
            MemoryError,
            NameError,
        ),  # the last of scipy's reader, at types that it does not know
    ) as error:
        raise InputError(
            f"{place} is damaged, or no .mat file ({type(error).__name__}: {error}). Get it again, or save it anew in "
            "MATLAB."
        ) from error
    if variable not in found:
        raise InputError(f"{place} holds no variable {variable}. Name the file that holds it.")
    return value


def _check_elements(data: bytes, order: str, start: int, depth: int = 0) -> None:
    """Refuse elements of a v5 file that end beyond it, or are not what they should be: scipy's reader crashes at some.

    Raises
    ------
    ValueError
    """
    at, parts = start, []
    while at < len(data):
        first, size = struct.unpack_from(f"{order}II", data, at)
        kind, body, end = first, at + 8, at + 8 + size + (-size % 8 if depth else 0)
        if first >> 16:  # a few bytes, within the tag
            kind, size, body, end = first & 0xFFFF, first >> 16, at + 4, at + 8
        if kind not in _TYPES or body + size > len(data) or (first >> 16 and size > 4):
            raise ValueError(f"an element of type {kind} and {size} bytes at byte {at}")
        inner = data[body : body + size]
        if kind in (_MATRIX, _PACKED):
            if depth == _DEEPEST:
                raise ValueError("matrices in matrices without end")
            _check_elements(_unpacked(inner, order) if kind == _PACKED else inner, order, 0, depth + (kind == _MATRIX))
        parts.append((kind, inner))
        at = end
    if depth and parts and not _is_matrix(parts, order):
        raise ValueError(f"a matrix of elements of types {[kind for kind, _ in parts][:8]}")


def _is_matrix(parts: list[tuple[int, bytes]], order: str) -> bool:
    """Whether elements make a matrix of the class and the size that the first of them say."""
    if parts[0][0] != _FLAGS or len(parts[0][1]) != 8:
        return False
    flags = struct.unpack_from(f"{order}I", parts[0][1])[0]
    kind, is_complex = flags & 0xFF, flags >> 11 & 1
    if kind in _OBJECTS:
        return True
    if len(parts) < 3 or parts[1][0] not in (_INTEGERS, _FLAGS) or len(parts[1][1]) % 4 or len(parts[1][1]) < 8:
        return False
    n = math.prod(struct.unpack(f"{order}{len(parts[1][1]) // 4}i", parts[1][1]))
    rest = [one for one, _ in parts[3:]]
    if kind in _STRUCTS:
        skipped = 3 + _STRUCTS[kind]
        if [one for one, _ in parts[skipped : skipped + 2]] != [_INTEGERS, _LETTERS]:
            return False
        length = struct.unpack(f"{order}i", parts[skipped][1])[0]
        rest, n = rest[_STRUCTS[kind] + 2 :], n * (len(parts[skipped + 1][1]) // max(length, 1))
    if kind == _CELL or kind in _STRUCTS:
        return len(rest) == n and set(rest) <= {_MATRIX}
    if kind == _TEXT:
        return len(rest) == 1 and rest[0] in _NUMBERS | _CODES
    n_parts = 3 if kind == _OF_INDICES else 1
    return kind in _CLASSES and len(rest) == n_parts + is_complex and set(rest) <= _NUMBERS


def _unpacked(data: bytes, order: str) -> bytes:
    """What an element is packed from, no more of it than it says at its begin."""
    stream = zlib.decompressobj()
    tag = stream.decompress(data, 8)
    return tag + stream.decompress(stream.unconsumed_tail, struct.unpack(f"{order}II", tag)[1] or 1)


def _plain(value: Any) -> Any:
    """What scipy made of a variable, as plain Python."""
    if sparse.issparse(value):
        return _whole(value)
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.names:
        rows = [{name: _plain(one[name]) for name in value.dtype.names} for one in value.ravel(order="F")]
        return rows[0] if value.size == 1 else rows
    if value.dtype.kind == "O":
        return [_plain(one) for one in value.ravel(order="F")]
    if value.dtype.kind == "U":
        return _text([str(one) for one in value.ravel(order="F")])
    return value if value.dtype.kind in "biufc" else None


def _text(rows: list[str]) -> str | list[str]:
    rows = [row.rstrip(" \0") for row in rows]
    return rows if len(rows) > 1 else "".join(rows)


def _read_hdf5(place: Path, variable: str) -> Any:
    """Read a file of v7.3."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError(
            f"{place} is a .mat file of version 7.3, which h5py reads. Install it (pip install h5py), or save the file "
            f"in another version: save('{place.name}', '{variable}', '-v7') in MATLAB."
        ) from None
    try:
        hdf5: Any = h5py
        with hdf5.File(place, "r") as file:
            if variable not in file:
                raise InputError(f"{place} holds no variable {variable}. Name the file that holds it.")
            return _of_hdf5(file[variable], file, hdf5)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise InputError(
            f"{place} is damaged ({type(error).__name__}: {error}). Get it again, or save it anew in MATLAB."
        ) from error


def _of_hdf5(item: Any, file: Any, h5py: Any) -> Any:
    """What a group or a dataset of HDF5 stands for. Datasets have MATLAB's dimensions in turned order."""
    kind = item.attrs.get(_CLASS, b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if isinstance(item, h5py.Group):
        if _SPARSE in item.attrs:
            return _sparse(item)
        fields = {name: item[name] for name in item}
        arrays = [one for one in fields.values() if _is_array_of_structs(one, h5py)]
        if not arrays:
            return {name: _of_hdf5(one, file, h5py) for name, one in fields.items()}
        columns = {name: [_of_hdf5(file[to], file, h5py) for to in one[()].ravel()] for name, one in fields.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if item.attrs.get(_EMPTY, 0):
        return {"char": "", "cell": [], "struct": []}.get(kind, np.empty((0, 0)))
    if kind == "cell":
        return [_of_hdf5(file[to], file, h5py) for to in item[()].ravel()]
    if kind == "char":
        return _text(["".join(map(chr, row)) for row in np.atleast_2d(item[()]).T])
    values = np.asarray(item[()])
    return np.atleast_2d(values).T if values.dtype.kind in "biufc" else None


def _is_array_of_structs(item: Any, h5py: Any) -> bool:
    """Whether a field of a struct holds a reference for each struct of an array of them."""
    is_data = isinstance(item, h5py.Dataset)
    return is_data and h5py.check_ref_dtype(item.dtype) is not None and _CLASS not in item.attrs


def _sparse(item: Any) -> Any:
    n_rows, ends = int(item.attrs[_SPARSE]), np.asarray(item["jc"][()])
    values, rows = (np.asarray(item[name][()]) if name in item else np.empty(0) for name in ("data", "ir"))
    return _whole(sparse.csc_matrix((values, rows.astype(np.int64), ends), shape=(n_rows, len(ends) - 1)))


def _whole(matrix: Any) -> Any:
    """Refuse a sparse matrix whose indices lead out of it: scipy would follow them."""
    found = sparse.csc_matrix(matrix)
    found.check_format(full_check=True)
    return found
