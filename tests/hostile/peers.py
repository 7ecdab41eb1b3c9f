"""Files of other packages that commands take: SPM.mat, AFNI's data sets and tables, FreeSurfer's and PALM's texts."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.io import savemat

import numbaglm as ng
from numbaglm.data.freesurfer import read_descriptor, read_matrix
from numbaglm.data.labels import MapLabels
from numbaglm.data.own_shufflings import read_shufflings
from numbaglm.data.text_matrix import read_text_matrix
from numbaglm.faces.afni.command import mvm, ttest
from numbaglm.faces.afni.mvm import parse_mvm
from numbaglm.faces.afni.ttest import parse_ttest
from numbaglm.faces.palm.files import read_labels, read_numbers, read_sets
from numbaglm.faces.spm.contrasts import make_tests
from numbaglm.faces.spm.design import read_study
from numbaglm.faces.spm.volumes import find_images, make_cohort
from reference import spm_mat
from reference.afni import write_brik
from reference.maps import AFFINE

Arrays = dict[str, Any]
N, SHAPE, BRICKS = 6, (4, 3, 3), ("mean", "effect")
AGES = [31.0, 45, 28, 60, 52, 39]


# --- SPM ------------------------------------------------------------------------------------------------------------


def spm_study(folder: Path, packed: bool = False, hdf5: bool = False) -> None:
    """Two groups of three with a covariate, of unequal variances; masks, factors, thresholds."""
    rng = np.random.default_rng(7)
    files = spm_mat.write_images(folder / "first", rng.normal(20, 3, (N, *SHAPE)), AFFINE)
    (folder / "group").mkdir()
    nib.save(nib.Nifti1Image(np.ones(SHAPE, "u1"), AFFINE), folder / "group" / "mask.nii")
    group = np.repeat([1, 2], N // 2)
    made = spm_mat.design(
        H=spm_mat.indicators(group, "Group"),
        C=(np.array(AGES)[:, None], ["age"]),
        levels=np.column_stack([np.tile([1, 2, 3], 2), group, np.ones((N, 2))]),
        title="Two-sample t-test",
        Vi=[np.diag(group == one).astype(float) for one in (1, 2)],
    )
    con = [("A > B", "T", [1, -1, 0]), ("any", "F", [[1, -1, 0], [0, 0, 1]])]
    # As on another machine, which is the same in whatever folder the corpus is laid.
    were = [f"/study/{file.relative_to(folder).as_posix()}" for file in files]
    spm = spm_mat.whole(were, made, con=con, masks=["/study/group/mask.nii"], thresholds=np.full(N, 0.5))
    path, spm = folder / "group" / "SPM.mat", {**spm, "swd": "/study/group"}
    if hdf5:
        import h5py

        return spm_mat.write_hdf5(path, "SPM", spm, h5py)
    savemat(path, {"SPM": spm}, do_compression=packed, long_field_names=True)
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file".ljust(116))  # without the time


def use_spm(folder: Path) -> Arrays:
    study = read_study(folder / "group" / "SPM.mat")
    study.told()
    groups = study.variance_groups()
    tests = make_tests(study, (), None)
    cohort = make_cohort(study, find_images(study, None), None, None, n_workers=1)
    found = {"groups": np.zeros(0) if groups is None else groups}
    for test in tests:
        result = ng.permutation_test(
            *(cohort, test.frame, test.contrast),
            n_perm=9, cluster_forming_threshold=None, exchangeability_blocks=test.blocks, n_workers=1,
        )  # fmt: skip
        found[test.label] = result.maps[result.statistic]
    return found


# --- AFNI -----------------------------------------------------------------------------------------------------------


def bricks(folder: Path) -> None:
    rng = np.random.default_rng(8)
    for k in range(4):
        write_brik(folder / f"sub-{k}+tlrc", rng.normal(20, 5, (2, *SHAPE)), BRICKS, factors=[0.01, 0.02])
    affine = nib.load(folder / "sub-0+tlrc.HEAD").affine
    nib.save(nib.Nifti1Image(np.ones(SHAPE, "u1"), affine), folder / "mask.nii")


def read_bricks(folder: Path) -> Arrays:
    maps = [f"{folder}/sub-{k}+tlrc[{BRICKS[1]}]" for k in range(4)]
    cohort = ng.Cohort.from_maps(maps, mask=folder / "mask.nii", n_workers=1)
    return {"values": cohort.store.read(0, cohort.n_voxels)[0], "mask": cohort.store.geometry.mask}


def bricks_as_nibabel_has_them(folder: Path, found: Arrays, sound: Arrays) -> str:
    """Another reader finds the same numbers."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        image = nib.load(folder / "sub-0+tlrc.HEAD")
        number = image.header.get_volume_labels().index(BRICKS[1])
        theirs = np.asarray(image.dataobj, np.float64)[..., number][found["mask"]]
    fits = np.isclose(found["values"], theirs, rtol=1e-5, atol=1e-37)
    return "" if fits.all() else f"{found['values'][~fits][:3]} where nibabel has {theirs[~fits][:3]}"


def covariates(folder: Path) -> None:
    bricks(folder)
    rows = [f"sub-{k} {age:g} {9 - k}" for k, age in enumerate(AGES[:4])]
    (folder / "covariates.1D").write_text("\n".join(["subject age iq", *rows, ""]))


def use_covariates(folder: Path) -> Arrays:
    words = ["-setA", "all"]
    for k in range(4):
        words += [f"sub-{k}", f"{folder}/sub-{k}+tlrc[{BRICKS[0]}]"]
    words += ["-covariates", str(folder / "covariates.1D"), "-prefix", str(folder / "out")]
    asked = parse_ttest(ttest.make_context("3dttest++", words).params["given"])
    return {one.statistic: one.matrix for one in asked.tests}


def data_table(folder: Path) -> None:
    rows = [f"s{k}\t{'mf'[k % 2]}\t{age:g}\ts{k}.nii \\" for k, age in enumerate(AGES)]
    (folder / "table.txt").write_text("\n".join(["Subj\tsex\tage\tInputFile \\", *rows]).removesuffix(" \\"))


def use_data_table(folder: Path) -> Arrays:
    words = ["-prefix", str(folder / "out"), "-bsVars", "sex+age", "-qVars", "age", "-dataTable"]
    asked = parse_mvm(mvm.make_context("3dMVM", [*words, f"@{folder / 'table.txt'}"]).params["given"])
    return {one.statistic: one.matrix for one in asked.tests}


# --- FreeSurfer -----------------------------------------------------------------------------------------------------


def descriptor(folder: Path) -> None:
    rows = [f"Input s{k} {('Main', 'Other')[k % 2]} {age:g} {k}.5" for k, age in enumerate(AGES)]
    text = [
        "GroupDescriptorFile 1",
        "Title study",
        "Class Main plus blue",
        "Class Other circle red",
        "Variables age iq",
    ]
    text += [*rows, "DeMeanFlag 1", "ReScaleFlag 1", "Contrast a 1 -1 0 0 0 0", "Contrast b 0 0 1 -1 0 0"]
    (folder / "g.fsgd").write_text("\n".join([*text, "FContrast both a b", "DefaultVariable age", ""]))


def use_descriptor(folder: Path) -> Arrays:
    found = read_descriptor(str(folder / "g.fsgd"))
    return {"design": found.design()[0], "doss": found.design("doss")[0], **found.contrasts}


def matrix(folder: Path) -> None:
    (folder / "group.mtx").write_text("# of age\n0 0 1.5 -1.5\n1 -1 0 0\n")


def use_matrix(folder: Path) -> Arrays:
    return {"values": read_matrix(str(folder / "group.mtx"))}


# --- FSL and PALM ---------------------------------------------------------------------------------------------------


def text_matrix(folder: Path) -> None:
    (folder / "design.con").write_text(
        "/ContrastName1\tpatients\n/ContrastName2\tcontrols\n/NumWaves\t2\n/NumContrasts\t2\n/PPheights\t1 1\n"
        "\n/Matrix\n1.000000e+00 -1.000000e+00\n-1.000000e+00 1.000000e+00\n"
    )


def use_text_matrix(folder: Path) -> Arrays:
    return {"values": read_text_matrix(folder / "design.con").values}


def sets(folder: Path) -> None:
    (folder / "c.mset").write_text("Matrix 1 2\n1 -1\n\nMatrix 2 2\n1 0\n0 1.5\n")


def use_sets(folder: Path) -> Arrays:
    return {str(k): one for k, one in enumerate(read_sets(str(folder / "c.mset")))}


def blocks(folder: Path) -> None:
    (folder / "blocks.csv").write_text("".join(f"-1,{1 + k // 3},{k}\n" for k in range(N)))


def use_blocks(folder: Path) -> Arrays:
    path = str(folder / "blocks.csv")
    return {"values": read_numbers(path), "labels": read_labels(path)}


def shufflings(folder: Path, ending: str) -> None:
    rows = np.array([np.random.default_rng(k).permutation(N) + 1 for k in range(5)])
    rows[0] = np.arange(N) + 1
    if ending == ".csv":
        np.savetxt(folder / "set.csv", rows, fmt="%d", delimiter=",")
    elif ending == ".npy":
        np.save(folder / "set.npy", rows)
    else:
        np.savez_compressed(folder / "set.npz", shufflings=rows)


def use_shufflings(folder: Path) -> Arrays:
    path = next(iter(folder.iterdir()))
    return {"rows": read_shufflings(path, MapLabels([f"sub-{k}" for k in range(N)], known=True))}
