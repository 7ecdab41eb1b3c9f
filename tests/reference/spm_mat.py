"""SPM.mat files of second-level designs, in the layout that SPM12 gives them."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy.io
from scipy import sparse

FLOAT32 = 16  # SPM's numbers of types
_NUMBERS = count()  # of what is referred to in a v7.3 file
HEADER = {"scl": [[1.0], [0.0], [352.0]], "descrip": "spm - contrast"}


def cells(items):
    """A cell, a column of them."""
    made = np.empty((len(items), 1), object)
    made[:, 0] = items
    return made


def structs(rows):
    """An array of structs, a column of them."""
    made = np.empty((len(rows), 1), [(name, object) for name in rows[0]])
    for k, row in enumerate(rows):
        made[k, 0] = tuple(row.values())
    return made


def indicators(labels, name):
    """A column for each label, as spm_DesMtx makes them, and their names."""
    levels = np.unique(labels)
    return (np.asarray(labels)[:, None] == levels).astype(float), [f"{name}_{{{level}}}" for level in levels]


def design(H=None, C=None, B=None, G=None, levels=None, title="", Vi=None):
    """xX, xVi and xsDes of partitions, each (matrix, names)."""
    parts = {"iH": H, "iC": C, "iB": B, "iG": G}
    matrices = [part[0] for part in parts.values() if part is not None]
    X = np.hstack(matrices)
    xX = {"X": X}
    end = 0
    for name, part in parts.items():
        k = 0 if part is None else part[0].shape[1]
        xX[name] = np.arange(end + 1, end + k + 1, dtype=float)[None, :] if k else np.empty((1, 0))
        end += k
    xX["name"] = cells([name for part in parts.values() if part is not None for name in part[1]])
    n = len(X)
    xX["I"] = np.column_stack([np.arange(1, n + 1), np.ones((n, 3))]) if levels is None else np.asarray(levels, float)
    xX["sF"] = np.array([["sF1", "sF2", "sF3", "sF4"]], object)
    xVi = {"I": xX["I"]}
    if Vi is None:
        xVi["V"] = sparse.eye(n, format="csc")
    else:
        xVi["Vi"] = np.empty((1, len(Vi)), object)
        xVi["Vi"][0, :] = [sparse.csc_matrix(one) for one in Vi]
    return {"xX": xX, "xVi": xVi, "xsDes": {"Design": title, "Parameters": cells(["1 condition", "more"])}}


def contrasts(rows, X):
    """xCon of (name, "T" or "F", weights), after spm_FcUtil."""
    return structs(
        [
            {
                "name": name,
                "STAT": kind,
                "c": np.atleast_2d(np.asarray(weights, float)).T,
                "X0": {"ukX0": np.zeros((X.shape[1], 1))},
                "iX0": "c",
                "X1o": {"ukX1o": np.zeros((X.shape[1], 1))},
                "eidf": 1.0,
                "Vcon": np.empty((0, 0)),
                "Vspm": np.empty((0, 0)),
            }
            for name, kind, weights in rows
        ]
    )


def volume(file, number=1):
    """A mapped image (spm_vol)."""
    return {
        "fname": str(file),
        "dim": np.array([[6.0, 7.0, 5.0]]),
        "dt": np.array([[FLOAT32, 0.0]]),
        "pinfo": np.array([[1.0], [0.0], [352.0]]),
        "mat": np.eye(4),
        "n": np.array([[number, 1.0]]),
        "descrip": "spm_spm:beta",
        "private": HEADER,
    }


def whole(files, made, con=(), masks=(), implicit=1, thresholds=None, scaling=None, mapped=True, padded=False):
    """Everything that is in SPM, as a dict; ``files`` are paths, or (path, volume from 1)."""
    pairs = [one if isinstance(one, tuple) else (one, 1) for one in files]
    names = [f"{file},{number}" for file, number in pairs]
    n, X = len(pairs), made["xX"]["X"]
    longest = max(map(len, names))
    xY = {"P": np.array([name.ljust(longest) for name in names]) if padded else cells(names)}
    if mapped:
        xY["VY"] = structs([volume(file, number) for file, number in pairs])
    spm = {
        "xY": xY,
        "nscan": float(n),
        **made,
        "xC": np.empty((0, 0)),
        "xGX": {
            "iGXcalc": 1.0,
            "rg": np.empty((0, 0)),
            "GM": 0.0,
            "gSF": (np.ones(n) if scaling is None else np.asarray(scaling, float))[:, None],
        },
        "xM": {
            "T": -np.inf,
            "TH": (np.full(n, -np.inf) if thresholds is None else np.asarray(thresholds, float))[:, None],
            "I": float(implicit),
            "VM": structs([volume(mask) for mask in masks]) if masks else np.empty((0, 0)),
            "xs": {"Implicit_masking": "Yes: NaN's treated as missing"},
        },
        "SPMid": "SPM12: spm_spm (v7738)",
    }
    if con:
        spm["xCon"] = contrasts(con, X)
    return spm


def save(path, files, made, **options):
    """Write SPM.mat; ``swd`` is its folder unless named."""
    swd = options.pop("swd", str(Path(path).parent))
    spm = {**whole(files, made, **options), "swd": swd}
    scipy.io.savemat(path, {"SPM": spm}, do_compression=True, long_field_names=True)
    return path


def write_images(folder, values, affine, names="s{:02d}/con_0001.nii", outside=None):
    """Contrast images as SPM writes them: NaN where there is no value."""
    paths = []
    for number, one in enumerate(values, 1):
        path = Path(folder) / names.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        one = np.array(one, np.float32)
        if outside is not None:
            one[outside] = np.nan
        image = nib.Nifti1Image(one, affine)
        image.header["descrip"] = b"Contrast 1: faces > houses"
        if path.suffix == ".img":
            image = nib.Nifti1Pair(one, affine, image.header)
        nib.save(image, path)
        paths.append(path)
    return paths


def write_hdf5(path, name, value, h5py):
    """Write a variable as MATLAB's v7.3 does."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        _put(file, name, value, refs, h5py)
    with Path(path).open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))


def _put(parent, name, value, refs, h5py):
    def refer(one):
        _put(refs, label := f"r{next(_NUMBERS)}", one, refs, h5py)
        return refs[label].ref

    if isinstance(value, dict):
        made = parent.create_group(name)
        for key, one in value.items():
            _put(made, key, one, refs, h5py)
        kind = "struct"
    elif sparse.issparse(value):
        value = sparse.csc_matrix(value)
        made = parent.create_group(name)
        made.attrs["MATLAB_sparse"] = np.uint64(value.shape[0])
        for key, data in (("data", value.data), ("ir", value.indices), ("jc", value.indptr)):
            made.create_dataset(key, data=data)
        kind = "double"
    elif isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype.kind == "U"):
        rows = np.atleast_1d(value)
        made = parent.create_dataset(name, data=np.array([[ord(c) for c in row] for row in rows], "u2").T)
        kind = "char"
    elif isinstance(value, np.ndarray) and value.dtype.names:
        made = parent.create_group(name)
        for key in value.dtype.names:
            data = np.array([refer(one[key]) for one in value.ravel(order="F")], h5py.ref_dtype)
            made.create_dataset(key, data=data[None, :], dtype=h5py.ref_dtype)
        kind = "struct"
    elif isinstance(value, np.ndarray) and value.dtype == object:
        data = np.array([refer(one) for one in value.ravel(order="F")], h5py.ref_dtype)
        made = parent.create_dataset(name, data=data.reshape(value.shape[::-1]), dtype=h5py.ref_dtype)
        kind = "cell"
    elif np.size(value) == 0:
        made = parent.create_dataset(name, data=np.array(np.shape(value), "u8"))
        made.attrs["MATLAB_empty"] = np.uint8(1)
        kind = "double"
    else:
        made = parent.create_dataset(name, data=np.atleast_2d(value).T)
        kind = "double"
    made.attrs["MATLAB_class"] = np.bytes_(kind)
