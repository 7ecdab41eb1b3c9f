"""What is asked of `numbaglm glmfit`: flags checked against each other, and the model of FreeSurfer's files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.data.freesurfer import METHODS, GroupDescriptor, read_descriptor, read_matrix
from numbaglm.errors import ContrastError, InputError, MissingFileError
from numbaglm.faces.flags import Given

SIDES = {"lh": "left", "rh": "right"}
SIGNS = ("abs", "pos", "neg")
LOG = "mri_glmfit.log"

_ENDINGS = (".mtx", ".mat", ".dat", ".con")
_FILES = frozenset(
    {
        *("maps", "surface_file", "subjects_dir", "mask", "label", "fsgd", "design_matrix", "contrast"),
        *("regressors", "weights", "glmdir"),
    }
)
"""Flags whose first word is a file."""


@dataclass(frozen=True)
class Surface:
    """The mesh that maps lie on.

    Attributes
    ----------
    subject
        Its name; "" for a mesh that was named by its file.
    hemi
        "lh" or "rh".
    name
        Such as "white".
    file
        The mesh.
    folder
        Of the subject; None for a mesh that was named by its file.
    """

    subject: str
    hemi: str
    name: str
    file: Path
    folder: Path | None

    @property
    def side(self) -> str:
        """As spaces call it."""
        return SIDES[self.hemi]

    @property
    def areas(self) -> Path | None:
        """Areas of vertices, averaged over the group that the mesh is of, where FreeSurfer has them beside it."""
        beside = self.file.with_name(f"{self.hemi}.{self.name}.avg.area.mgh")
        return beside if beside.is_file() else None

    def label(self, name: str) -> Path | None:
        """A file of the subject's labels, such as "cortex.label"; None where there is none."""
        if self.folder is None:
            return None
        found = self.folder / "label" / f"{self.hemi}.{name}"
        return found if found.is_file() else None


@dataclass(frozen=True)
class Permutations:
    """What is permuted, and how clusters are formed and reported.

    Attributes
    ----------
    n
        How often, beside the observed data.
    threshold
        Cluster-forming -log10 p, of both sides.
    sign
        "abs", "pos" or "neg".
    base
        What names of results begin with.
    cwp
        Largest p of clusters that are reported.
    n_spaces
        How many spaces p are corrected for.
    flips
        Whether signs are flipped, whatever the contrast tests.
    """

    n: int
    threshold: float
    sign: str
    base: str
    cwp: float
    n_spaces: int
    flips: bool

    @property
    def p(self) -> float:
        """Cluster-forming p: of both sides under "abs", of one otherwise."""
        return float(10**-self.threshold)

    def over_spaces(self, p: Doubles) -> Doubles:
        """Correct p for the spaces, as if these were independent."""
        return np.asarray(1 - (1 - p) ** self.n_spaces)


@dataclass(frozen=True, eq=False)
class Model:
    """Design and contrasts.

    Attributes
    ----------
    matrix
        (n, n_columns); None for the mean of all maps, however many these are.
    columns
        Their names.
    contrasts
        Name -> (n_rows, n_terms): columns first, then the regressors of each vertex.
    descriptor
        Where the design was made of one.
    """

    matrix: Doubles | None
    columns: tuple[str, ...]
    contrasts: Mapping[str, Doubles]
    descriptor: GroupDescriptor | None = None


@dataclass(frozen=True, eq=False)
class Request:
    """The flags of a call, checked against each other, and the model; see `numbaglm.faces.glmfit.command`."""

    maps: str
    glmdir: Path
    model: Model
    regressors: tuple[str, ...]
    weights: str | None
    surface: Surface | None
    mask: str | None
    label: str | None
    mask_inv: bool
    prune: bool
    smoothing_fwhm: float | None
    variance_smoothing_fwhm: float | None
    permutations: Permutations | None
    seed: int
    ending: str
    eres: bool
    yhat: bool
    annot: str
    out_annot: bool
    cluster_means: bool
    command: str

    @classmethod
    def parse(cls, given: Given, before: Given | None = None, cwd: str = "") -> Request:
        """Check what was typed, and read the model.

        Parameters
        ----------
        given
            What was typed.
        before
            What was typed for the fit, where this is its simulation; ``given`` goes over it.
        cwd
            Folder in which that was typed.

        Raises
        ------
        InputError, ContrastError, MissingFileError
            Flags exclude or need each other, or a file can't be used.
        """
        line = given.line
        if before is not None:
            line = before.line
            given = Given((*_moved(before, cwd).typed, *given.typed), line)
        _check(given)
        maps, glmdir = given.word("maps"), given.word("glmdir")
        surface = _surface(given)
        which = given.last_of("mask", "label", "cortex", "no_mask")
        label = given.word("label") if which == "label" else None
        if surface is not None and which in (None, "cortex"):
            cortex = surface.label("cortex.label")
            if cortex is None and (which == "cortex" or surface.folder is not None):
                raise MissingFileError(
                    f"There is no {surface.hemi}.cortex.label of {surface.subject or 'this mesh'}. Give --label FILE "
                    "or --mask FILE, or --no-mask to test at all vertices."
                )
            label = None if cortex is None else str(cortex)
        formats = {"format_mgh": "mgh", "format_mgz": "mgz", "format_nii": "nii", "format_nii_gz": "nii.gz"}
        return cls(
            maps=maps,
            glmdir=Path(glmdir).expanduser(),
            model=_model(given),
            regressors=tuple(words[0] for words in given.all("regressors")),
            weights=given.word("weights"),
            surface=surface,
            mask=given.word("mask") if which == "mask" else None,
            label=label,
            mask_inv="mask_inv" in given,
            prune=given.last_of("prune", "no_prune") != "no_prune",
            smoothing_fwhm=_width(given, "smoothing_fwhm", surface),
            variance_smoothing_fwhm=_width(given, "variance_smoothing_fwhm", surface),
            permutations=_permutations(given),
            seed=_whole(given, "seed", 0, 0),
            ending=formats[given.last_of(*formats) or "format_mgh"],
            eres="eres" in given,
            yhat="yhat" in given,
            annot="aparc.a2009s" if "a2009s" in given else given.word("annot", "aparc"),
            out_annot="no_out_annot" not in given,
            cluster_means="no_cluster_mean" not in given,
            command=shlex.join(["mri_glmfit", *line]),
        )


def model_of_log(given: Given) -> tuple[list[str], str]:
    """Words of the command that made a folder of results, and the folder in which it was typed.

    Raises
    ------
    InputError, MissingFileError
    """
    if "glmdir" not in given:
        raise InputError("--glmdir is needed: the folder that mri_glmfit, or 'numbaglm glmfit', wrote.")
    log = Path(given.word("glmdir")).expanduser() / LOG
    if not log.is_file():
        raise MissingFileError(f"{log} does not exist. --glmdir is the folder that mri_glmfit wrote.")
    told: dict[str, str] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, rest = line.partition(" ")
        told.setdefault(key, rest.strip())
    words = shlex.split(told.get("cmdline", ""))[1:]
    if not words:
        raise InputError(f"{log} has no line 'cmdline', which tells how the model was fitted. Fit it again.")
    return words, told.get("cwd", "")


def _moved(given: Given, cwd: str) -> Given:
    """Take paths from the folder in which they were typed."""
    typed = [
        (name, (os.path.join(cwd, words[0]), *words[1:]) if name in _FILES and words else words)  # noqa: PTH118
        for name, words in given.typed
    ]
    return Given(tuple(typed), given.line)


def _check(given: Given) -> None:
    designs = [
        flag for flag, name in (("--fsgd", "fsgd"), ("--X", "design_matrix"), ("--osgm", "osgm")) if name in given
    ]
    signs = {words[-1] for words in given.all("perm")} | set(given.word("sim_sign", ()) and [given.word("sim_sign")])
    refusals = (
        ("maps" not in given, "--y is needed: the maps"),
        ("glmdir" not in given, "--glmdir is needed: the folder of the results"),
        (not designs, "a design is needed: --fsgd FILE, --X FILE or --osgm"),
        (len(designs) > 1, f"{' and '.join(designs)} exclude each other: keep one"),
        ("osgm" in given and "contrast" in given, "--osgm tests the mean: leave --C out"),
        (
            "osgm" in given and "regressors" in given,
            "--pvr goes with --X or --fsgd, whose contrasts have a column for it",
        ),
        (any(len(words) > 1 for words in given.all("contrast")), "a second file after --C, gamma0, is not supported"),
        (
            "label" in given and not {"surfaces", "surface_file"} & {name for name, _ in given.typed},
            "--label needs the surface that it is of: --surf or --surf-file",
        ),
        ("surfaces" in given and "surface_file" in given, "--surf and --surf-file exclude each other: keep one"),
        ("perm" in given and "sim" in given, "--perm and --sim are the same: keep one"),
        ("sim" in given and given.word("sim") != "perm", f"--sim {given.word('sim')}: only perm is supported"),
        (bool(signs - set(SIGNS)), f"the sign is one of {', '.join(SIGNS)}"),
        (
            "weights" in given and "regressors" in given,
            "--wls does not go with --pvr here, as it does in mri_glmfit: weights beside regressors of each element's "
            "own have no test. Leave one of them out",
        ),
        (
            ("eres" in given or "yhat" in given) and ("weights" in given or "regressors" in given),
            "--eres-save and --yhat-save don't go with --wls and --pvr",
        ),
    )
    for refused, why in refusals:
        if refused:
            raise InputError(f"{why[0].upper() if why[0] != '-' else '-'}{why[1:]}.")


def _surface(given: Given) -> Surface | None:
    if "surface_file" in given:
        file = Path(given.word("surface_file")).expanduser()
        hemi = next((one for one in SIDES if file.name.startswith(f"{one}.")), "lh")
        if not file.is_file():
            raise MissingFileError(f"{file} given with --surf-file does not exist. Check the path.")
        return Surface("", hemi, file.name.removeprefix(f"{hemi}."), file, None)
    if "surfaces" not in given:
        return None
    subject, hemi, *more = given.words("surfaces")
    name = more[0] if more else "white"
    if hemi not in SIDES:
        raise InputError(f"--surf {subject} {hemi}: the hemisphere is lh or rh.")
    subjects = given.word("subjects_dir", os.environ.get("SUBJECTS_DIR", ""))
    if not subjects:
        raise InputError(
            "--surf looks in SUBJECTS_DIR, which is not set. Export it, or give --sd FOLDER or --surf-file FILE."
        )
    folder = Path(subjects).expanduser() / subject
    file = folder / "surf" / f"{hemi}.{name}"
    if not file.is_file():
        raise MissingFileError(
            f"--surf {subject} {hemi} {name}: {file} does not exist. Check SUBJECTS_DIR, or give --sd."
        )
    return Surface(subject, hemi, name, file, folder)


def _model(given: Given) -> Model:
    """Design and contrasts, as the files have them."""
    n_own = len(given.all("regressors"))
    if "osgm" in given:
        return Model(None, ("osgm",), {"osgm": np.ones((1, 1))})
    descriptor = None
    if "fsgd" in given:
        path, *method = given.words("fsgd")
        descriptor = read_descriptor(path, repeats="repeats" in given)
        if method and method[0].lower() not in METHODS:
            raise InputError(f"--fsgd {path} {method[0]}: Allowed after the file: {' or '.join(METHODS)}.")
        matrix, columns = descriptor.design(method[0].lower() if method else None)
    else:
        matrix = read_matrix(given.word("design_matrix"))
        columns = tuple(f"x{k}" for k in range(1, matrix.shape[1] + 1))
    contrasts = dict(descriptor.contrasts) if descriptor is not None else {}
    named = {contrast_name(words[0]): words[0] for words in given.all("contrast")}
    if len(named) < len(given.all("contrast")):
        raise InputError("Two contrasts have the same name: each has a folder of its own. Rename one of the files.")
    if named:
        contrasts = {name: read_matrix(path) for name, path in named.items()}
    if not contrasts and "no_contrasts_ok" not in given:
        raise InputError("No contrast is given: --C FILE, or --no-contrasts-ok.")
    for name, C in contrasts.items():
        if C.shape[1] != matrix.shape[1] + n_own:
            own = f" and {n_own} of --pvr" if n_own else ""
            raise ContrastError(
                f"The contrast {name} has {C.shape[1]} columns, but the design has {matrix.shape[1]}{own}: "
                f"{', '.join(columns)}. Give it one for each."
            )
    return Model(matrix, columns, contrasts, descriptor)


def contrast_name(path: str) -> str:
    """What the folder of a contrast is called: its file, without an ending that FreeSurfer knows."""
    name = Path(path).name
    return next((name.removesuffix(one) for one in _ENDINGS if name.endswith(one)), name) or name


def _width(given: Given, field: str, surface: Surface | None) -> float | None:
    width = float(given.number(field, 0.0))
    if width < 0:
        raise InputError(f"A width of {width:g} mm is below 0.")
    if width and surface is not None:
        what = "--fwhm smooths" if field == "smoothing_fwhm" else "--var-fwhm smooths variances of"
        how = "Smooth them before: mri_surf2surf --fwhm." if field == "smoothing_fwhm" else "Leave it out."
        raise InputError(f"{what} maps of volumes, and these lie on a surface. {how}")
    return width or None


def _whole(given: Given, field: str, otherwise: int, least: int) -> int:
    value = float(given.number(field, otherwise))
    if value != round(value) or value < least:
        raise InputError(f"{field.replace('_', ' ')} {value:g}: a whole number from {least} is needed.")
    return int(value)


def _permutations(given: Given) -> Permutations | None:
    named: Any = None
    if "perm" in given:
        n, threshold, sign = given.words("perm")
    elif "sim" in given:
        _, n, threshold, named = given.words("sim")
        sign = given.word("sim_sign", "abs")
    else:
        return None
    try:
        number, height = int(n), float(threshold.replace(",", "."))
    except ValueError:
        number, height = 0, np.nan
    if number < 1 or not 0 < height < 300:
        raise InputError(
            f"--perm {n} {threshold} {sign}: how often, -log10 of a p (2 is 0.01), and {', '.join(SIGNS)}."
        )
    spaces = _whole(given, "bonferroni", 3 if "three_spaces" in given else 2 if "two_spaces" in given else 1, 1)
    cwp = float(given.number("cwp", 0.05))
    if not 0 < cwp <= 1:
        raise InputError(f"--cwp {cwp:g}: a p above 0, 1 at most.")
    base = given.word("base", Path(named).name if named else f"perm.th{round(10 * height, 6):g}.{sign}")
    return Permutations(number, height, sign, base, cwp, spaces, "sign_flip" in given)
