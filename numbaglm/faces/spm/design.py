"""SPM.mat: what a second-level design of SPM's says, as records."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from numbaglm.arrays import Doubles
from numbaglm.data.peers.matlab import read_mat
from numbaglm.errors import DesignError, InputError

ROLES = {"iH": "condition", "iC": "covariate", "iB": "block", "iG": "nuisance"}
"""Partitions of SPM's design matrix, and what a column of each is."""

# Names of columns that stand for people where the design has no blocks: spm_DesMtx writes "subject_{1}".
_PERSON = re.compile(r"(sub|subj|subject|participant|person|patient)s?_\{(\d+)\}", re.IGNORECASE)
_NAME = "SPM.mat"


@dataclass(frozen=True, eq=False)
class SpmContrast:
    """A contrast of SPM's contrast manager.

    Attributes
    ----------
    number
        As files are numbered: spmT_0001 is 1.
    kind
        "T" or "F".
    weights
        (n_rows, n_columns).
    """

    number: int
    name: str
    kind: str
    weights: Doubles


@dataclass(frozen=True, eq=False)
class Study:
    """A second-level design.

    Attributes
    ----------
    path
        The SPM.mat.
    was
        The folder it was written in.
    title
        SPM's word for the design: "Two-sample t-test" and so on; "" where it has none.
    matrix, columns, roles
        (n_scans, n_columns) design, and the name and the role of each column, a value of `ROLES`.
    levels
        (n_scans, k) levels of SPM's factors, the replications first.
    contrasts
        Those that were defined.
    volumes
        File and number of its volume, from 0, of each scan.
    masks
        Files of explicit masks.
    implicit
        Whether 0 means "no value" in images of whole numbers.
    thresholds
        (n_scans,) that values must exceed; -inf for none.
    scaling
        (n_scans,) factors of the images' values: global scaling.
    components
        Components of the errors' covariance, (n_scans, n_scans) each: one where they are independent and of one
        variance.
    """

    path: Path
    was: str
    title: str
    matrix: Doubles
    columns: tuple[str, ...]
    roles: tuple[str, ...]
    levels: NDArray[np.int64]
    contrasts: tuple[SpmContrast, ...]
    volumes: tuple[tuple[str, int], ...]
    masks: tuple[str, ...]
    implicit: bool
    thresholds: Doubles
    scaling: Doubles
    components: tuple[Any, ...]

    @property
    def n_scans(self) -> int:
        """Number of images."""
        return len(self.matrix)

    def frame(self) -> pd.DataFrame:
        """The design matrix with its names."""
        return pd.DataFrame(self.matrix, columns=list(self.columns))

    def variance_groups(self) -> NDArray[np.int64] | None:
        """Label of the group of scans that has a variance of its own; None where all have one, or scans depend."""
        if len(self.components) < 2 or self.depends:
            return None
        diagonals = np.column_stack([sparse.csr_matrix(one).diagonal() for one in self.components])
        return np.asarray(np.unique(diagonals != 0, axis=0, return_inverse=True)[1]).ravel().astype(np.int64)

    @property
    def depends(self) -> bool:
        """Whether SPM lets scans depend on each other."""
        return any(_off_diagonal(one) for one in self.components)

    def blocks(self) -> tuple[NDArray[np.int64] | None, str]:
        """Which scans are of one person, by SPM's blocks; None where each is of another.

        Returns
        -------
        (n_scans,) labels from 1, and where they come from.
        """
        of_blocks = [k for k, role in enumerate(self.roles) if role == ROLES["iB"]]
        named = [k for k, name in enumerate(self.columns) if _PERSON.fullmatch(name.strip())]
        for columns, source in ((of_blocks, "block columns (xX.iB)"), (named, "columns of subjects")):
            there = self.matrix[:, columns] != 0
            if columns and (there.sum(axis=1) == 1).all():
                return self._repeated(np.argmax(there, axis=1) + 1, source)
        if not self.depends:
            return None, ""
        # Scans that SPM lets depend on each other are joined.
        joined = sum((abs(sparse.csr_matrix(one)) for one in self.components), sparse.eye(self.n_scans, format="csr"))
        labels = sparse.csgraph.connected_components(joined, directed=False)[1]
        return self._repeated(labels.astype(np.int64) + 1, "non-sphericity (xVi.Vi)")

    def _repeated(self, labels: NDArray[Any], source: str) -> tuple[NDArray[np.int64] | None, str]:
        sizes = np.bincount(labels)
        return (labels.astype(np.int64), source) if sizes.max() > 1 else (None, "")

    def told(self) -> list[str]:
        """What the design is, in sentences."""
        groups: dict[str, list[str]] = {role: [] for role in ROLES.values()}
        for name, role in zip(self.columns, self.roles, strict=True):
            groups[role].append(name)
        parts = [f"{len(names)} {role} column(s): {_shortened(names)}" for role, names in groups.items() if names]
        title = self.title or "a design"
        return [f"{self.path}: {title}, {self.n_scans} images; " + "; ".join(parts) + "."]


def read_study(path: str | os.PathLike[str]) -> Study:
    """Read a second-level SPM.mat.

    Parameters
    ----------
    path
        The file, or the folder that holds it.

    Raises
    ------
    MissingFileError, InputError, DesignError, MissingExtraError
        There is none, it can't be read, or it is of a first level; the message names the file.
    """
    place = Path(path).expanduser()
    place = place / _NAME if place.is_dir() else place
    spm = read_mat(place, "SPM")
    if not isinstance(spm, dict) or not isinstance(spm.get("xX"), dict):
        raise InputError(f"{place} holds no design (SPM.xX). It needs to be the SPM.mat of a specified design.")
    _refuse_first_level(spm, place)
    xX = spm["xX"]
    matrix = _dense(xX.get("X"))
    if matrix.size == 0 or not np.isfinite(matrix).all():
        what = "is empty" if matrix.size == 0 else "holds NaN or infinite values"
        raise DesignError(f"{place}: the design matrix (SPM.xX.X) {what}. Specify the design again in SPM.")
    n, p = matrix.shape
    volumes = _volumes(spm, place)
    if len(volumes) != n:
        raise DesignError(
            f"{place}: the design has {n} rows, but {len(volumes)} images are named (SPM.xY.VY). Specify it again in "
            "SPM."
        )
    xM, xVi = (spm[name] if isinstance(spm.get(name), dict) else {} for name in ("xM", "xVi"))
    thresholds = _vector(xM.get("TH", spm.get("xM")), n, -np.inf, f"{place}: analysis thresholds (SPM.xM.TH)")
    scale = (spm["xGX"] if isinstance(spm.get("xGX"), dict) else {}).get("gSF")
    levels = _dense(xX.get("I", xVi.get("I")))
    described = spm.get("xsDes") if isinstance(spm.get("xsDes"), dict) else {}
    title = (described or {}).get("Design", "")
    return Study(
        path=place,
        was=spm["swd"] if isinstance(spm.get("swd"), str) else "",
        title=title if isinstance(title, str) else " ".join(map(str, title)),
        matrix=matrix,
        columns=_names(xX, p),
        roles=_roles(xX, p),
        levels=_whole(levels, f"{place}: levels of factors (SPM.xX.I)") if len(levels) == n else np.empty((n, 0), int),
        contrasts=_contrasts(spm.get("xCon"), p, place),
        volumes=volumes,
        masks=tuple(_frame(str(one["fname"]))[0] for one in _listed(xM.get("VM")) if _has_name(one)),
        implicit=bool(_dense(xM.get("I")).any()),
        thresholds=thresholds,
        scaling=_vector(scale, n, 1.0, f"{place}: global scaling (SPM.xGX.gSF)"),
        components=_components(xVi, n),
    )


def _whole(values: Doubles, what: str) -> NDArray[np.int64]:
    """Refuse what are no numbers of anything."""
    if not (np.isfinite(values) & (np.abs(values) < 2**53)).all():
        raise InputError(f"{what} are damaged: they are no whole numbers. Get the file again, or save it anew in SPM.")
    return np.asarray(values, np.int64)


def _refuse_first_level(spm: dict[str, Any], place: Path) -> None:
    filtered = isinstance(spm["xX"].get("K"), dict | list)
    if spm.get("Sess") or spm.get("xBF") or filtered:
        raise InputError(
            f"{place} is of a first level: it has sessions of one person (SPM.Sess). Allowed: the SPM.mat of a group "
            "design. Name that; or test a contrast of all subjects' first levels: numbaglm permute --spm-dir FOLDER "
            "--con 1, where FOLDER holds a folder a subject."
        )


def _volumes(spm: dict[str, Any], place: Path) -> tuple[tuple[str, int], ...]:
    """File and volume of each scan: of the mapped images, else of the names."""
    xY = spm["xY"] if isinstance(spm.get("xY"), dict) else {}
    mapped = [one for one in _listed(xY.get("VY")) if _has_name(one)]
    if mapped:
        return tuple((_frame(str(one["fname"]))[0], _number(one)) for one in mapped)
    names = xY.get("P", [])
    names = [names] if isinstance(names, str) and names else names
    if not len(names):
        raise DesignError(f"{place} names no images (SPM.xY). Specify the design in SPM with its scans.")
    return tuple(_frame(str(name).strip()) for name in names)


def _frame(name: str) -> tuple[str, int]:
    """File and volume, from 0, of a name as SPM writes it: con_0001.nii,1."""
    file, comma, number = name.rpartition(",")
    return (file.strip(), max(int(number), 1) - 1) if comma and number.strip().isdecimal() else (name.strip(), 0)


def _number(volume: dict[str, Any]) -> int:
    n = _dense(volume.get("n"))
    return max(int(n.flat[0]), 1) - 1 if n.size else _frame(str(volume["fname"]))[1]


def _has_name(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("fname"), str) and bool(one["fname"].strip())


def _names(xX: dict[str, Any], p: int) -> tuple[str, ...]:
    names = xX.get("name", [])
    names = [names] if isinstance(names, str) else [str(one) for one in _flat(names)]
    return tuple(names) if len(names) == p else tuple(f"column {k + 1}" for k in range(p))


def _roles(xX: dict[str, Any], p: int) -> tuple[str, ...]:
    roles = [ROLES["iC"]] * p
    for part, role in ROLES.items():
        for number in _whole(_dense(xX.get(part)).ravel(), f"columns (SPM.xX.{part})"):
            if 1 <= number <= p:
                roles[number - 1] = role
    return tuple(roles)


def _contrasts(xCon: Any, p: int, place: Path) -> tuple[SpmContrast, ...]:
    made = []
    for number, one in enumerate(_listed(xCon), 1):
        if not isinstance(one, dict) or one.get("STAT") not in ("T", "F"):
            continue  # of Bayesian estimation
        weights = _dense(one.get("c")).T
        name = one.get("name") or f"contrast {number}"
        if weights.ndim != 2 or weights.shape[1] != p or not weights.any():
            raise DesignError(
                f"{place}: contrast {number} ({name}) has weights of shape {weights.T.shape} for {p} columns, or none "
                "but 0. Define it again in SPM."
            )
        made.append(SpmContrast(number, str(name), str(one["STAT"]), weights))
    return tuple(made)


def _components(xVi: dict[str, Any], n: int) -> tuple[Any, ...]:
    found = xVi.get("Vi")
    components = found if isinstance(found, list) else [] if found is None else [found]
    components = components or ([xVi["V"]] if xVi.get("V") is not None else [])
    return tuple(one for one in components if getattr(one, "shape", ()) == (n, n))


def _off_diagonal(component: Any) -> bool:
    pairs = sparse.coo_matrix(component)
    return bool(((pairs.row != pairs.col) & (pairs.data != 0)).any())


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []


def _flat(value: Any) -> list[Any]:
    """Entries of a cell, whose entries may be cells."""
    return [item for one in value for item in (_flat(one) if isinstance(one, list) else [one])]


def _dense(value: Any) -> Doubles:
    """Numbers as an array of two dimensions; empty where there are none."""
    if sparse.issparse(value):
        whole: Any = value
        value = whole.toarray()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
        return np.empty((0, 0))
    return np.atleast_2d(np.asarray(value.real, dtype=np.float64))


def _vector(value: Any, n: int, default: float, what: str) -> Doubles:
    values = _dense(value).ravel()
    if values.size == 0:
        return np.full(n, default)
    if values.size == 1:
        return np.full(n, values[0])
    if values.size != n:
        raise InputError(f"{what} are {values.size} numbers for {n} images. Specify the design again in SPM.")
    return values


def _shortened(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:4])}, ... {names[-1]}"
