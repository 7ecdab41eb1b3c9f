"""Files and folders of results: written whole or not at all, each folder with a page on what is what."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from numbaglm.errors import NumbaglmError, OutputError, OutputExistsError

PARTIAL = ".partial"
"""Ending of files that are being written, ours and Zarr's: who was killed leaves them, nobody reads them."""

README = "README.md"
UNKNOWN = "not described"

_P = {
    "p_parametric": "uncorrected parametric p: of one tail, or of both if the test has two sides",
    "p_unc": "p of each voxel by shuffling, uncorrected",
    "p_unc_counted": "p_unc by counts alone, before tails refined it",
    "p_unc_tfce": "p of threshold-free cluster enhancement at each voxel by shuffling, uncorrected",
    "p_fdr_tfce": "p_unc_tfce adjusted to control the false discovery rate",
    "p_fdr": "p_unc adjusted to control the false discovery rate",
    "p_fdr_parametric": "parametric p adjusted to control the false discovery rate",
    "p_bonferroni": "parametric p, Bonferroni-corrected for the number of voxels",
    "p_fwe_voxel": "p corrected for family-wise error by the maximum statistic",
    "p_fwe_size": "p of the voxel's cluster by extent, corrected for family-wise error; 1 outside clusters",
    "p_fwe_mass": "p of the voxel's cluster by mass, corrected for family-wise error; 1 outside clusters",
    "p_fwe_tfce": "p of threshold-free cluster enhancement, corrected for family-wise error",
}
_P |= {f"{name}_contrasts": f"{text}, over all contrasts too" for name, text in _P.items() if "_fwe_" in name}
_SOURCE = "0 counts, 1 the tail of its null, 2 counts as no fit of the tail passed"
_END = "end of the interval of {} by counts: what random shufflings leave open"

CONTENTS = {
    README: "this page",
    "demo.json": "what was found, in a form for programs",
    "fit.json": "what was asked, and the extremes of the maps",
    "provenance.json": "what was asked, of which data, with which seed and versions",
    "report.html": "everything on one page, with a viewer of the maps; it needs no network",
    "result.npz": "the whole result at full precision: `numbaglm.PermutationResult.load(folder)`",
    "cohort.zarr": "the maps as they are analysed, smoothed and masked: `numbaglm.Cohort.open(folder)`",
    "clusters.tsv": "a row a cluster: sign, peak in mm and its statistic, extent, mass, corrected p",
    "nulls.tsv": "a row a shuffling, the observed data first: the maximum of each statistic over the map",
    "design.tsv": "design matrix, a row a subject",
    "quality.tsv": "a row a subject: what its map holds, how like the others it is, whether and by what it stands out",
    "mask.nii.gz": "the voxels that are analysed",
    "truth.nii.gz": "the effect that was planted, in standard deviations of the noise",
    "sub-*.nii.gz": "a map for each subject",
    "dataset_description.json": "how the maps were simulated",
    "t.nii.gz": "t statistic",
    "f.nii.gz": "F statistic",
    "v.nii.gz": "Aspin-Welch v statistic, t with a variance for each group",
    "g.nii.gz": "G statistic, F with a variance for each group",
    "z.nii.gz": "z of the same parametric p as the statistic",
    "effect.nii.gz": "contrast of the parameter estimates; for F one volume a row",
    "effect_se.nii.gz": "standard error of the effect",
    "effect_lower.nii.gz": "lower end of the effect's 95 % confidence interval (parametric, uncorrected)",
    "effect_upper.nii.gz": "upper end of the effect's 95 % confidence interval (parametric, uncorrected)",
    "cohens_d.nii.gz": "Cohen's d: the effect in residual standard deviations",
    "hedges_g.nii.gz": "Hedges' g: Cohen's d without its bias in small samples",
    "partial_r2.nii.gz": "partial R^2: the effect's share of the variance that the nuisance leaves",
    "variance.nii.gz": "variance of the contrast; for F that of the residuals",
    "tfce.nii.gz": "threshold-free cluster enhancement of the statistic",
    "size.nii.gz": "extent of the voxel's cluster in voxels; 0 outside clusters",
    "mass.nii.gz": "mass of the voxel's cluster; 0 outside clusters",
    **{
        f"source_{name[2:]}.nii.gz": f"where {name} comes from: {_SOURCE}" for name in _P if name[2:5] in ("unc", "fwe")
    },
    **{f"{name}.nii.gz": text for name, text in _P.items()},
    **{f"{name}_lower.nii.gz": f"lower {_END.format(name)}" for name in _P},
    **{f"{name}_upper.nii.gz": f"upper {_END.format(name)}" for name in _P},
    **{f"log{name}.nii.gz": f"-log10 of {name}: {text}" for name, text in _P.items()},
    "subjects.png": "each subject's map from above, as it came, at a threshold of 2",
    "z.png": "z on a glass brain, uncorrected p < 0.001",
    "statistic.png": "the statistic on a glass brain, at the cluster-forming threshold",
    "corrected.png": "-log10 of the corrected p side by side",
    "nulls.png": "the null of each maximum with its critical value, and what was observed",
    "design.png": "design matrix",
    "quality.png": "every map as a row, with the numbers by which it may stand out",
}
"""What each file that numbaglm writes into a folder holds, by name or pattern."""


def check_free(target: str | os.PathLike[str], marker: str, overwrite: bool = False) -> Path:
    """Refuse early what a folder can't be written to; touches nothing.

    Parameters
    ----------
    target
        Folder to be written.
    marker
        A file that is in every folder of its kind: what holds none is never replaced.
    overwrite
        Whether a folder of that kind may be replaced. An empty folder always may.

    Returns
    -------
    The absolute path, links followed.

    Raises
    ------
    OutputExistsError, OutputError
        Something is there, or the place can't be written to.
    """
    place = Path(target).expanduser().resolve()
    if place.exists() and not place.is_dir():
        raise OutputExistsError(f"The output folder {target} is a file. Choose another.")
    if place.exists() and any(place.iterdir()):
        if not (place / marker).is_file():
            raise OutputExistsError(
                f"The output folder {target} exists and holds something else (no {marker} is in it): it is "
                "left alone. Choose another."
            )
        if not overwrite:
            raise OutputExistsError(
                f"The output folder {target} exists: choose another, or overwrite=True to replace it."
            )
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"Can't write the output folder {target}: {above} is not a folder to write to.")
    return place


@contextmanager
def whole_folder(target: str | os.PathLike[str], marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write to, which takes its place as ``target`` when everything is in it.

    If the body fails, nothing is left behind, and what was there before stays.

    Parameters
    ----------
    target, marker, overwrite
        As in `check_free`.

    Raises
    ------
    OutputExistsError, OutputError
        As `check_free`, or writing failed.
    """
    place = check_free(target, marker, overwrite)
    new_parents = [folder for folder in place.parents if not folder.exists()]
    part, done = None, False
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        part.chmod(0o777 & ~_umask())
        yield part
        _take_place(part, place)
        done = True
    except NumbaglmError:
        raise
    except OSError as error:
        raise OutputError(f"Can't write the output folder {target}: {error}. Nothing was left there.") from error
    finally:
        if not done:
            if part is not None:
                shutil.rmtree(part, ignore_errors=True)
            for folder in new_parents:
                with suppress(OSError):
                    folder.rmdir()


def write_file(target: Path, data: bytes, what: str) -> Path:
    """Write a file, whole or not at all, in place of what has that name. It is on the disk itself then.

    Parameters
    ----------
    target, data
        Its path, and what it shall hold.
    what
        What the file is, for the error.

    Raises
    ------
    OutputError
    """
    try:
        with staged(target, data) as part:
            part.replace(target)
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"Can't write the {what} {target}: {why}. Check folder, permissions and disk.") from error
    return target


@contextmanager
def staged(target: Path, data: bytes, sync: bool = True) -> Iterator[Path]:
    """Write a file beside its target, which the body moves to its name; what the body leaves of it is deleted.

    Parameters
    ----------
    target, data
        As in `write_file`. The folder is made.
    sync
        Whether it is on the disk itself before the body begins.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with part.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)


def _take_place(part: Path, place: Path) -> None:
    if not place.exists():
        part.rename(place)
        return
    old = part.with_name(f"{part.name}.old")
    place.rename(old)
    try:
        part.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_readme(folder: Path, title: str, text: str) -> None:
    """Write README.md: a summary, then what each file in the folder holds, after `CONTENTS`.

    Parameters
    ----------
    folder
        Holds everything else already.
    title, text
        Heading, and what comes before the list of files.
    """
    (folder / README).touch()
    lines = [f"# {title}", "", text, "", "## What is what", ""]
    listed: dict[str, str] = {}
    for path in sorted(_leaves(folder), key=lambda path: (len(path.parts), path)):
        pattern = next((pattern for pattern in CONTENTS if fnmatch(path.name, pattern)), path.name)
        listed[path.relative_to(folder).with_name(pattern).as_posix()] = CONTENTS.get(pattern, UNKNOWN)
    lines += [f"- `{name}`: {what}" for name, what in listed.items()]
    (folder / README).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _leaves(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and path.suffix != ".zarr":
            yield from _leaves(path)
        else:
            yield path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
