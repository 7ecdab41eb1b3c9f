"""MATLAB's .mat files as plain Python: structs, cells, text and numbers, whatever version wrote them."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from numbaglm.data.storage.files import require_regular
from numbaglm.errors import InputError, MissingExtraError, MissingFileError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK = 512  # bytes before the HDF5 of a v7.3 file, which name MATLAB
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
        found = scipy.io.loadmat(place, variable_names=[variable], squeeze_me=False, chars_as_strings=True)
    except (
        *(MatReadError, ValueError, TypeError, LookupError, ArithmeticError, OSError, EOFError, NotImplementedError),
        *(zlib.error, struct.error, MemoryError),
    ) as error:
        raise InputError(
            f"{place} is damaged, or no .mat file ({type(error).__name__}: {error}). Get it again, or save it anew in "
            "MATLAB."
        ) from error
    if variable not in found:
        raise InputError(f"{place} holds no variable {variable}. Name the file that holds it.")
    return _plain(found[variable])


def _plain(value: Any) -> Any:
    """What scipy made of a variable, as plain Python."""
    if sparse.issparse(value) or not isinstance(value, np.ndarray):
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
    return sparse.csc_matrix((values, rows.astype(np.int64), ends), shape=(n_rows, len(ends) - 1))
