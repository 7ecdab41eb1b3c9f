"""The calls that `same.py` makes of two checkouts: a table of records, to which one adds a line.

`python benchmarks/same_calls.py CHECKOUT FOLDER NAME ...` makes calls with the numbaglm of that checkout, and writes
what each gave into FOLDER. Public names of numbaglm alone, so that any version runs them.
"""

from __future__ import annotations

import _thread
import contextlib
import io
import json
import logging
import os
import re
import runpy
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
from numba.core import event

import numbaglm as ng
import same_public
from checkouts import Study, check_origin, study

N_PERM = 300  # a batch of shufflings and a part of one
_SHAPE = (17, 19, 16)  # an ellipsoid of two tiles of voxels and a part of one


@dataclass(frozen=True)
class Tolerance:
    """How far the two sides of a call may be apart.

    Attributes
    ----------
    relative
        Of statistics, effects and nulls: a share of the value or, if that is larger, of the array's root mean square.
    p
        Of p, as a difference; logp are held to it as p.
    """

    relative: float
    p: float


PRODUCTS = Tolerance(relative=1e-12, p=0.0)
"""v and G, whose scores are products where they were fits of shuffled data: the last digits, and no count."""


@dataclass(frozen=True)
class Call:
    """A name, what is called, given a `Place`, and how far the sides may be apart: None for not by a bit."""

    name: str
    run: Callable[[Place], Any]
    tolerance: Tolerance | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """A folder for one side, and the study in all the forms that calls take."""

    folder: Path

    @cached_property
    def study(self) -> Study:
        """24 subjects."""
        return study(_SHAPE, 24)

    @cached_property
    def _cohorts(self) -> dict[int, Any]:
        return {}

    def cohort(self, n: int = 24) -> Any:
        """The first n subjects in memory."""
        if n not in self._cohorts:
            labels = list(self.study.subjects["subject_label"][:n])
            known = self.study.subjects[:n]
            maps, mask = self.study.images(n), self.study.mask_image
            self._cohorts[n] = ng.Cohort.from_maps(maps, mask=mask, subjects=labels, covariates=known)
        return self._cohorts[n]

    @cached_property
    def files(self) -> list[Path]:
        """Every map as a file, with mask.nii.gz, participants.tsv and FSL's 4D image beside them."""
        maps = self.folder / "maps"
        maps.mkdir()
        paths = [maps / f"{label}.nii.gz" for label in self.study.subjects["subject_label"]]
        for path, image in zip(paths, self.study.images(24), strict=True):
            nib.save(image, path)
        nib.save(self.study.mask_image, self.folder / "mask.nii.gz")
        whole = np.moveaxis(self.study.maps * self.study.mask, 0, -1)
        nib.save(nib.Nifti1Image(whole, self.study.affine), self.folder / "all.nii.gz")
        self.study.subjects.to_csv(self.folder / "participants.tsv", sep="\t", index=False)
        return paths

    @cached_property
    def mask(self) -> Path:
        """The mask as a file."""
        self.files  # noqa: B018
        return self.folder / "mask.nii.gz"

    @cached_property
    def zarr(self) -> Any:
        """12 subjects on disk."""
        known = self.study.subjects[:12]
        return ng.Cohort.create(self.folder / "cohort.zarr", self.files[:12], mask=self.mask, covariates=known)

    def new(self, name: str) -> Path:
        """A path where there is nothing."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        return path


# Designs of n subjects, by name, and blocks.


def _design(place: Place, name: str, n: int) -> Any:
    known = place.study.subjects[:n]
    age, iq = (known[name] - known[name].mean() for name in ("age", "iq"))
    columns: dict[str, Any] = {
        "mean": {"mean": np.ones(n)},
        "age": {"age": age, "iq": iq, "intercept": 1.0},
        "age alone": {"age": age},
        "mean, age": {"mean": np.ones(n), "age": age},
        "groups": {level: (known["group"] == level) * 1.0 for level in "ab"},
        "sites": {level: (known["site"] == level) * 1.0 for level in "xyz"},
    }
    columns["groups, age"] = columns["groups"] | {"age": age}
    columns["sites, age"] = columns["sites"] | {"age": age}
    return pd.DataFrame({column: np.asarray(values, float) for column, values in columns[name].items()}, range(n))


def _blocks(name: str, n: int) -> Any:
    number = np.arange(n)
    pair, four, member = number // 2, number // 4, number % 2
    return {
        "pairs": pair,
        "fours": four,
        "groups": number % 2,
        "sites": number % 3,
        # PALM's trees: families as wholes and members within; fours that stay, pairs within them that change places.
        "tree": np.column_stack([np.ones(n), pair + 1, member + 1]).astype(int),
        "deep tree": np.column_stack([-np.ones(n), four + 1, -(pair % 2) - 1, member + 1]).astype(int),
    }[name]


TWO, THREE = "a - b", ["x - y", "y - z"]


def permuted(
    name: str,
    n: int,
    design: str,
    contrast: Any = None,
    *,
    blocks: str | None = None,
    groups: str | None = None,
    tolerance: Tolerance | None = None,
    **options: Any,
) -> Call:
    """A permutation test of the first n subjects in memory, with clusters."""

    def run(place: Place) -> Any:
        given = {"n_perm": N_PERM, "seed": 1, "cluster_forming_threshold": 0.01} | options
        if blocks is not None:
            given["exchangeability_blocks"] = _blocks(blocks, n)
        if groups is not None:
            given["variance_groups"] = groups if groups == "auto" else _blocks(groups, n)
        return ng.permutation_test(place.cohort(n), _design(place, design, n), contrast, **given)

    return Call(name, run, tolerance)


# Beside the default.
METHODS = ("draper-stoneman", "dekker", "still-white", "kennedy", "manly", "ter-braak", "huh-jhun")
BY_AGE = {"diff": "a - b", "age": "age"}
JOINT: dict[str, Any] = {"fwe_across_contrasts": True}
SEVERAL = BY_AGE | {"any": ["a - b", "age"]}

TESTS = (
    # t
    permuted("t-flips", 14, "mean"),
    permuted("t-flips-all", 6, "mean", tfce=True),
    permuted("t-flips-one-sided", 14, "mean", two_sided=False, tfce=True),
    permuted("t-flips-nuisance", 14, "mean, age", "mean"),
    permuted("t-groups", 24, "groups", TWO, tfce=True),
    permuted("t-groups-all", 8, "groups", TWO, tfce=True),
    permuted("t-groups-one-sided", 24, "groups, age", TWO, two_sided=False),
    permuted("t-covariate", 24, "age", "age", tfce_uncorrected=True),
    permuted("t-covariate-alone", 24, "age alone"),
    permuted("t-vector", 24, "groups, age", [1.0, 1.0, 0.5]),
    permuted("t-flips-of-covariate", 24, "age", "age", errors="ise"),
    permuted("t-both-errors", 24, "groups, age", TWO, errors="both", tfce=True),
    permuted("t-permutations-of-means", 24, "groups", TWO, errors="ee", seed=7),
    permuted("t-no-clusters", 24, "age", "age", cluster_forming_threshold=None),
    permuted("t-threshold-in-t", 24, "age", "age", cluster_forming_threshold=("t", 2.0)),
    permuted("t-threshold-in-z", 24, "age", "age", cluster_forming_threshold=("z", 2.3)),
    permuted("t-many-shufflings", 12, "age", "age", n_perm=3000, cluster_forming_threshold=0.001),
    permuted("t-parametric", 24, "age", "age", n_perm=0),
    # F
    permuted("f-sites", 24, "sites", THREE, tfce=True),
    permuted("f-sites-nuisance", 24, "sites, age", THREE),
    permuted("f-all", 6, "sites", THREE, n_perm=1000, tfce=True),
    permuted("f-flips", 14, "mean, age", ["mean", "age"], errors="ise", cluster_forming_threshold=("f", 4.0)),
    permuted("f-both-errors", 24, "sites, age", THREE, errors="both"),
    permuted("f-one-row", 24, "groups, age", [[1.0, -1.0, 0.0]]),
    permuted("f-of-everything", 24, "groups, age", np.eye(3), errors="ise"),
    permuted("f-parametric", 24, "sites", THREE, n_perm=0),
    # v and G
    permuted("v-groups", 24, "groups", TWO, groups="groups", errors="ee", tolerance=PRODUCTS),
    permuted("v-tfce-nuisance", 24, "groups, age", TWO, groups="groups", errors="ee", tfce=True, tolerance=PRODUCTS),
    permuted("v-all", 8, "groups", TWO, groups="groups", errors="ee", tfce=True, tolerance=PRODUCTS),
    permuted("v-one-sided", 24, "groups", TWO, groups="groups", errors="ee", two_sided=False, tolerance=PRODUCTS),
    permuted("v-flips", 24, "groups", TWO, groups="groups", errors="ise", tolerance=PRODUCTS),
    permuted("v-mean-flips-all", 8, "mean", groups="groups", tolerance=PRODUCTS),
    permuted("v-auto", 24, "age", "age", blocks="fours", groups="auto", tolerance=PRODUCTS),
    permuted(
        *("v-palm", 24, "groups, age", TWO),
        groups="groups",
        errors="ee",
        conventions="palm",
        tfce=True,
        tolerance=PRODUCTS,
    ),
    permuted("v-parametric", 24, "groups", TWO, groups="groups", errors="ee", n_perm=0, tolerance=PRODUCTS),
    permuted("g-sites", 24, "sites", THREE, groups="sites", errors="ee", tfce=True, tolerance=PRODUCTS),
    permuted("g-sites-nuisance", 24, "sites, age", THREE, groups="sites", errors="ee", tolerance=PRODUCTS),
    permuted("g-flips", 24, "sites", THREE, groups="sites", errors="ise", tolerance=PRODUCTS),
    permuted("g-all", 8, "groups, age", ["a - b", "age"], groups="groups", errors="ise", tolerance=PRODUCTS),
    permuted("g-palm", 24, "sites", THREE, groups="sites", errors="ee", conventions="palm", tolerance=PRODUCTS),
    # pseudo-t
    permuted("pseudo-t-flips", 10, "mean", variance_smoothing_fwhm=8.0),
    permuted("pseudo-t-flips-all", 6, "mean", variance_smoothing_fwhm=8.0, tfce=True),
    permuted("pseudo-t-groups", 12, "groups, age", TWO, variance_smoothing_fwhm=6.0, tfce_uncorrected=True),
    permuted("pseudo-t-one-sided", 12, "groups", TWO, variance_smoothing_fwhm=8.0, two_sided=False),
    permuted("pseudo-t-nilearn", 12, "age", "age", variance_smoothing_fwhm=8.0, conventions="nilearn", tfce=True),
    # methods
    *(permuted(f"{method}-t", 24, "groups, age", TWO, method=method, tfce=True) for method in METHODS),
    *(permuted(f"{method}-f", 24, "sites, age", THREE, method=method) for method in METHODS),
    permuted("draper-stoneman-all", 8, "groups, age", TWO, method="draper-stoneman", n_perm=50_000),
    permuted("ter-braak-all", 6, "mean, age", "mean", method="ter-braak", tfce=True),
    # conventions, and their options one by one
    *(
        permuted(f"{name}-{sides}-sided", 14, "mean, age", "mean", conventions=name, two_sided=both, tfce=True)
        for name in ("nilearn", "palm", "randomise")
        for sides, both in (("one", False), ("two", True))
    ),
    *(
        permuted(f"{name}-f", 24, "sites", THREE, conventions=name, tfce=True)
        for name in ("nilearn", "palm", "randomise")
    ),
    permuted("connectivity-6-and-26", 14, "mean", cluster_connectivity=6, tfce_connectivity=26, tfce=True),
    permuted("connectivity-18", 14, "mean", cluster_connectivity=18, tfce_connectivity=18, tfce=True),
    permuted("excess-mass-strict", 14, "mean", mass="excess", strict=True),
    permuted("merged-signs-on-z", 14, "mean", merge_signs=True, statistic="z", tfce=True),
    permuted("tfce-of-skeletons", 14, "mean", tfce=True, tfce_E=1.0, tfce_H=2.0, tfce_connectivity=26),
    permuted("tfce-exponents", 14, "mean", tfce=True, tfce_E=0.7, tfce_H=1.5),
    permuted("tfce-fixed-step", 14, "mean", tfce=True, tfce_dh=0.1),
    permuted("fdr-adaptive", 14, "mean", fdr="bky"),
    # blocks
    permuted("blocks-within", 24, "groups, age", TWO, blocks="pairs"),
    permuted("blocks-within-fours", 24, "age", "age", blocks="fours", tfce=True),
    permuted("blocks-whole", 24, "age", "age", blocks="pairs", block_scheme="whole", tfce=True),
    permuted("blocks-both", 24, "age", "age", blocks="fours", block_scheme="both"),
    permuted("blocks-flipped", 14, "mean", blocks="pairs", block_scheme="whole"),
    permuted("blocks-both-errors", 24, "groups", TWO, blocks="pairs", errors="both"),
    permuted("blocks-all", 12, "groups", TWO, blocks="pairs"),
    permuted("tree", 24, "age", "age", blocks="tree", tfce=True),
    permuted("tree-of-four-levels", 24, "age", "age", blocks="deep tree"),
    permuted("tree-f", 24, "sites, age", THREE, blocks="tree"),
    permuted("tree-flipped", 24, "mean, age", "mean", blocks="tree", errors="both"),
    permuted("tree-v", 24, "groups", TWO, blocks="tree", groups="groups", tolerance=PRODUCTS),
    # several contrasts
    permuted("contrasts", 24, "groups, age", SEVERAL),
    permuted("contrasts-joint", 24, "groups, age", SEVERAL, **JOINT, tfce=True),
    permuted("contrasts-joint-one-sided", 24, "groups, age", {"up": TWO, "down": "b - a"}, **JOINT, two_sided=False),
    permuted("contrasts-joint-all", 6, "mean, age", {"m": "mean", "age": "age"}, **JOINT, errors="ise"),
    permuted("contrasts-joint-palm", 24, "sites, age", {"t": "x - y", "f": THREE}, **JOINT, conventions="palm"),
    permuted("contrasts-joint-pseudo-t", 12, "groups, age", BY_AGE, **JOINT, variance_smoothing_fwhm=8.0),
    permuted("contrasts-joint-v", 24, "groups, age", BY_AGE, **JOINT, groups="groups", tolerance=PRODUCTS),
    # tails and intervals
    permuted("tail-pareto", 24, "groups", TWO, tail="pareto", tfce=True, n_perm=600),
    permuted("tail-pareto-f", 24, "sites, age", THREE, tail="pareto", n_perm=600),
    permuted("tail-pareto-one-sided", 14, "mean", two_sided=False, tail="pareto", n_perm=600),
    permuted("tail-gamma", 24, "groups", TWO, tail="gamma", tfce=True),
    permuted("tail-gamma-pseudo-t", 12, "age", "age", tail="gamma", variance_smoothing_fwhm=8.0),
    permuted("tail-pareto-joint", 24, "groups, age", SEVERAL, tail="pareto", **JOINT, n_perm=600),
    permuted("intervals", 24, "groups", TWO, p_interval=0.95, tfce_uncorrected=True),
    permuted("intervals-joint", 24, "groups, age", SEVERAL, p_interval=0.9, **JOINT),
)  # fmt: skip


# Stores, memory, threads, cohorts.


def _durable(place: Place, interrupted: bool, tfce: bool = True, contrast: Any = SEVERAL) -> Any:
    """A test whose records are kept, stopped once some of them are there; then the same call again."""
    store = place.new("run")
    options = {"n_perm": 2000, "seed": 3, "cluster_forming_threshold": 0.01, "tfce": tfce, "store": store}
    call = partial(ng.permutation_test, place.zarr, _design(place, "groups, age", 12), contrast, **options)
    if interrupted:
        _stop_once_begun(call, store)
    first = call()
    again = call()  # of records alone
    return {"first": first, "again": again}


def _stop_once_begun(call: Callable[[], Any], store: Path) -> None:
    """Interrupt a call as Ctrl-C does, as soon as it has stored a few files more than it began with."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            if store.is_dir() and sum(path.is_file() for path in store.rglob("*.np*")) > 2:
                _thread.interrupt_main()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    with contextlib.suppress(KeyboardInterrupt):
        try:
            call()
        finally:
            ended.set()
            watcher.join()


def _refused(place: Place) -> dict[str, str]:
    """Kinds of the errors of calls that can't be made."""
    store = place.new("refused")
    cohort, design = place.cohort(12), _design(place, "groups, age", 12)
    call = partial(ng.permutation_test, cohort, n_perm=100)
    call(design, TWO, store=store)
    calls: dict[str, Callable[[], Any]] = {
        "another call's store": lambda: call(design, TWO, store=store, seed=5),
        "another threshold's store": lambda: call(design, TWO, store=store, cluster_forming_threshold=0.02),
        "no such column": lambda: call(design, "nobody"),
        "rows too few": lambda: call(design[:5], TWO),
        "no such method": lambda: call(design, TWO, method="bootstrap"),
        "no such option": lambda: call(design, TWO, neighbours=6),
        "not estimable": lambda: call(np.column_stack([np.ones((12, 2)), np.arange(12.0)]), [1, 0, 0]),
        "blocks too short": lambda: call(design, TWO, exchangeability_blocks=[1, 2]),
        "rows that depend": lambda: call(design, [[1, -1, 0], [2, -2, 0]]),
        "a method of t alone": lambda: call(design, TWO, method="dekker", variance_groups=[0, 1] * 6),
        "nothing to shuffle": lambda: call(design, TWO, exchangeability_blocks=range(12)),
        "no such path": lambda: ng.Cohort.open(place.folder / "nowhere.zarr"),
        "a mask beside a cohort": lambda: call(design, TWO, mask=place.study.mask_image),
    }
    kinds = {}
    for name, one in calls.items():
        try:
            one()
            kinds[name] = "none"
        except Exception as error:
            kinds[name] = " < ".join(kind.__name__ for kind in type(error).__mro__[:-2])
    return kinds


def _with_little_memory(place: Place) -> Any:
    options = {"cluster_forming_threshold": 0.01, "tfce": True}
    call = partial(ng.permutation_test, place.zarr, _design(place, "groups, age", 12), TWO, **options)
    call(n_perm=20)  # has all that is needed imported, which counts
    for room in range(32, 512, 16):  # the least that is not refused
        with contextlib.suppress(ValueError):
            return call(n_perm=3000, memory_limit=psutil.Process().memory_info().rss + room * 2**20)
    raise RuntimeError("512 MB were refused")


def _on_zarr(place: Place, contrast: Any, **options: Any) -> Any:
    return ng.permutation_test(place.zarr, "~ group + age", contrast, n_perm=N_PERM, **options)


def _threads(place: Place) -> Any:
    options = {"n_perm": 600, "tfce": True, "cluster_forming_threshold": 0.01}
    return [ng.permutation_test(place.cohort(14), n_workers=n, **options) for n in (1, 3)]


def _on_a_cluster(place: Place) -> Any:
    from distributed import Client

    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client:
        return ng.permutation_test(place.zarr, "~ group + age", "age", n_perm=N_PERM, tfce=True, client=client)


def _told(cohort: Any) -> dict[str, Any]:
    """What a cohort holds, and says of itself."""
    info = {name: value for name, value in cohort.info().items() if name not in ("location", "bytes_on_disk")}
    cohort.verify()
    maps = np.stack([np.asarray(cohort.to_nifti(number).dataobj) for number in range(cohort.n_subjects)])
    named = {"info": json.dumps(info, default=str), "maps": maps, "mask": cohort.mask_img}
    return named | {"covariates": cohort.covariates.reset_index(), "quality": cohort.quality().reset_index()}


def _holed(place: Place, n: int) -> list[Any]:
    """Maps of which some lack voxels."""
    maps = place.study.maps[:n].copy()
    maps[1, :6, 5:9] = np.nan
    maps[3, 8:, 5:9, :7] = 0.0
    maps[4, 8, 8, 8] = np.inf
    return [nib.Nifti1Image(one, place.study.affine) for one in maps]


def _created(place: Place, holes: bool = False, **options: Any) -> Any:
    path = place.new("made.zarr")
    maps: Any = _holed(place, 10) if holes else place.files[:10]
    return _told(ng.Cohort.create(path, maps, **options))


def _appended(place: Place) -> Any:
    path = place.new("grown.zarr")
    ng.Cohort.create(path, place.files[:6], smoothing_fwhm=6.0).append(place.files[6:11])
    return _told(ng.Cohort.open(path))


def _resampled(place: Place) -> Any:
    maps = place.study.images(8)
    coarse = np.diag([6.0, 6.0, 6.0, 1.0])
    other = [nib.Nifti1Image(place.study.maps[8 + k, ::2, ::2, ::2], np.diag([8.0, 8.0, 8.0, 1.0])) for k in range(2)]
    mask = nib.Nifti1Image(np.ones((10, 11, 9), np.uint8), coarse)
    return _told(ng.Cohort.from_maps([*maps, *other], mask=mask, resample=True, min_coverage=0.5))


def _missing_tested(place: Place) -> Any:
    cohort = ng.Cohort.from_maps(_holed(place, 14), mask=place.study.mask_image, min_coverage=0.8)
    return ng.permutation_test(cohort, n_perm=N_PERM, tfce=True, cluster_forming_threshold=0.01)


def _paths_and_tables(place: Place) -> Any:
    table = pd.DataFrame({"subject_label": place.study.subjects["subject_label"], "effects_map_path": place.files})
    design = place.folder / "design.csv"
    named = _design(place, "groups, age", 24).assign(subject_label=place.study.subjects["subject_label"])
    named[::-1].to_csv(design, index=False)
    options = {"mask": place.mask, "smoothing_fwhm": 6.0, "n_perm": N_PERM}
    return ng.permutation_test(table, design, TWO, **options)


PLACES = (
    Call("store", partial(_durable, interrupted=False)),
    Call("store-resumed", partial(_durable, interrupted=True)),
    Call("store-resumed-pareto", lambda place: _durable(place, True, False, {"age": "age"})),
    Call("refusals", _refused),
    Call("little-memory", _with_little_memory),
    Call("threads", _threads),
    Call("dask-cluster", _on_a_cluster),
    Call("zarr-formula", partial(_on_zarr, contrast="age", tfce=True)),
    Call("zarr-pseudo-t", partial(_on_zarr, contrast="age", variance_smoothing_fwhm=8.0)),
    Call("zarr-v", partial(_on_zarr, contrast="age", variance_groups=[0, 1] * 6, errors="ee"), PRODUCTS),
    Call("zarr-huh-jhun", partial(_on_zarr, contrast="age", method="huh-jhun")),
    Call("cohort-created", partial(_created, min_coverage=1.0)),
    Call("cohort-smoothed-masked", lambda place: _created(place, mask=place.mask, smoothing_fwhm=(6.0, 8.0, 4.0))),
    Call("cohort-with-holes", partial(_created, holes=True, min_coverage=0.75)),
    Call("cohort-appended", _appended),
    Call("cohort-resampled", _resampled),
    Call("missing-values-tested", _missing_tested),
    Call("paths-and-tables", _paths_and_tables),
)


# Drop-ins for nilearn.


def _inference(place: Place, contrast: Any, design: str, n: int = 14, **options: Any) -> Any:
    maps, X = place.study.images(n), _design(place, design, n)
    given = {"n_perm": N_PERM, "random_state": 4, "mask": place.study.mask_image} | options
    return ng.non_parametric_inference(maps, design_matrix=X, second_level_contrast=contrast, **given)


def _ols(place: Place, masked: bool = True, **options: Any) -> Any:
    inside = place.study.maps[:, place.study.mask]
    known = place.study.subjects
    tested = np.column_stack([known["age"], known["group"] == "b"]).astype(float)
    masker = SimpleNamespace(mask_img_=place.study.mask_image) if masked else None
    given = {"n_perm": N_PERM, "random_state": 4, "masker": masker} | options
    return ng.permuted_ols(tested, inside, known[["iq"]].to_numpy(float), **given)


def _model(place: Place, contrast: Any, design: str, stat: str | None = None) -> Any:
    model = ng.SecondLevelModel(mask_img=place.study.mask_image, smoothing_fwhm=6.0, minimize_memory=False)
    model.fit(place.study.images(14), design_matrix=_design(place, design, 14))
    maps = model.compute_contrast(contrast, second_level_stat_type=stat, output_type="all")
    return {**maps, "residuals": model.residuals_, "predicted": model.predicted_, "r_square": model.r_square_}


def _model_report(place: Place) -> Any:
    design = _design(place, "mean, age", 14)
    model = ng.SecondLevelModel(mask_img=place.mask).fit(place.files[:14], design_matrix=design)
    path = place.new("model.html")
    model.generate_report(["mean", "age"], alpha=0.01).save_as_html(path)
    return path


def _table_model(place: Place) -> Any:
    known = place.study.subjects
    table = known[["subject_label"]].assign(effects_map_path=[str(path) for path in place.files], map_name="one")
    model = ng.SecondLevelModel(mask_img=place.mask).fit(table, confounds=known[["subject_label", "age", "iq"]])
    return {"z": model.compute_contrast("age"), "design": model.design_matrix_.reset_index(drop=True)}


def _z_map(place: Place) -> Any:
    design = _design(place, "mean, age", 14)
    model = ng.SecondLevelModel(mask_img=place.study.mask_image)
    return model.fit(place.study.images(14), design_matrix=design).compute_contrast("mean")


def _thresholds(place: Place) -> Any:
    z = _z_map(place)
    choices: dict[str, dict[str, Any]] = {
        "fpr": {"alpha": 0.01},
        "fdr": {"height_control": "fdr", "alpha": 0.05},
        "bonferroni": {"height_control": "bonferroni", "alpha": 0.05, "two_sided": False},
        "given": {"height_control": None, "threshold": 2.5, "cluster_threshold": 10},
    }
    return {name: ng.threshold_stats_img(z, **options) for name, options in choices.items()}


def _tables(place: Place) -> Any:
    z = _z_map(place)
    return {
        "two-sided": ng.get_clusters_table(z, 2.0, two_sided=True, return_label_maps=True),
        "large": ng.get_clusters_table(z, 2.0, cluster_threshold=20, min_distance=12.0),
        "nilearn": ng.get_clusters_table(z, 1.5, two_sided=True, compatibility="nilearn"),
    }


def _second_level_design(place: Place) -> Any:
    known = place.study.subjects[["subject_label", "age", "iq"]]
    return ng.make_second_level_design_matrix(list(known["subject_label"])[::-1], known).reset_index(drop=True)


BOTH: dict[str, Any] = {"threshold": 0.01, "tfce": True}
AS_NILEARN: dict[str, Any] = {"compatibility": "nilearn"}

DROP_INS = (
    Call("inference", partial(_inference, contrast=None, design="mean")),
    Call("inference-clusters-tfce", partial(_inference, contrast="age", design="age", two_sided_test=True, **BOTH)),
    Call("inference-f", partial(_inference, contrast=np.eye(4)[1:3], design="sites, age", n=24, threshold=0.01)),
    Call("inference-as-nilearn", partial(_inference, contrast="mean", design="mean, age", **AS_NILEARN, **BOTH)),
    Call("permuted-ols", partial(_ols, **BOTH)),
    Call("permuted-ols-alone", partial(_ols, masked=False, two_sided_test=False, model_intercept=False)),
    Call("permuted-ols-as-nilearn", partial(_ols, n_perm=100, **AS_NILEARN)),
    Call("model-t", partial(_model, contrast="age", design="mean, age")),
    Call("model-f", partial(_model, contrast=np.eye(2), design="mean, age")),
    Call("model-table", _table_model),
    Call("model-report", _model_report),
    Call("threshold-stats-img", _thresholds),
    Call("clusters-table", _tables),
    Call("second-level-design", _second_level_design),
)  # fmt: skip


# Files and commands.


def _result(place: Place, **options: Any) -> Any:
    given = {"n_perm": N_PERM, "cluster_forming_threshold": 0.01, "tfce": True} | options
    return ng.permutation_test(place.cohort(14), _design(place, "mean, age", 14), "mean", **given)


def _saved(place: Place) -> Any:
    folder = _result(place, p_interval=0.95).save(place.new("saved"))
    return {"files": folder, "loaded": ng.PermutationResult.load(folder)}


def _saved_v(place: Place) -> Any:
    options = {"variance_groups": _blocks("groups", 14), "errors": "ee", "conventions": "palm"}
    return _result(place, **options).save(place.new("saved-v"))


def _reported(place: Place) -> Any:
    result = _result(place)
    report = result.report(place.new("report.html"), overwrite=True, cohort=place.cohort(14))
    figure = place.new("result.png")
    result.plot(save=figure)
    return {"report": report, "figure": figure, "summary": result.summary(), "markdown": result.markdown()}


def _words(place: Place) -> Any:
    """Summaries and what nulls say, of several kinds of results."""
    both = ng.permutation_test(
        place.cohort(24), _design(place, "groups, age", 24), SEVERAL, n_perm=N_PERM, fwe_across_contrasts=True
    )
    critical = {name: [one.critical(null) for null in one.h0] for name, one in both.items()}
    return {name: one.summary() for name, one in both.items()} | {"critical": critical}


def _bids(place: Place) -> Any:
    dataset = place.new("derivatives")
    for label, path in zip(place.study.subjects["subject_label"], place.files, strict=True):
        (dataset / label).mkdir(parents=True)
        shutil.copy(path, dataset / label / f"{label}_task-press_contrast-lVsR_stat-effect_statmap.nii.gz")
    (dataset / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    place.study.subjects.rename(columns={"subject_label": "participant_id"}).to_csv(
        dataset / "participants.tsv", sep="\t", index=False
    )
    maps = ng.bids_maps(dataset, task="press", contrast="lVsR")
    results = ng.permutation_test(maps, _design(place, "groups, age", 24), SEVERAL, mask=place.mask, n_perm=N_PERM)
    folder = ng.save_bids(results, place.new("bids"), entities={"task": "press"})
    return {"maps": maps.astype(str).replace(str(dataset), "<dataset>", regex=True), "files": folder}


def _command(place: Place, line: str, output: str | None = None) -> Any:
    """What `python -m numbaglm` prints on stdout, and the files that it writes, run in this process.

    Words of the line are split at blanks; ``MASK`` and so on are those of `Place`, and OUT is a folder.
    """
    out = place.new("out")
    place.files  # noqa: B018
    known = {"OUT": str(out), "MASK": str(place.mask), "MAPS": None}
    arguments: list[str] = []
    for word in line.split():
        arguments += [str(path) for path in place.files[:14]] if word == "MAPS" else [known.get(word) or word]
    printed, kept = io.StringIO(), {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    argv, here, code = sys.argv, Path.cwd(), 0
    sys.argv = ["numbaglm", *arguments]
    os.chdir(place.folder)
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_module("numbaglm", run_name="__main__", alter_sys=True)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        sys.argv = argv
        os.chdir(here)
        for number, handler in kept.items():
            signal.signal(number, handler)
    if code:
        raise RuntimeError(f"numbaglm {line} ended with {code}: {printed.getvalue()}")
    return {"stdout": printed.getvalue(), "files": out if output is None else sorted(place.folder.glob(output))}


def _fsl(place: Place, line: str, design: str = "groups, age", n: int = 24) -> Any:
    """`randomise` of FSL's files, with all that it writes."""
    for old in place.folder.glob("fsl_*"):
        old.unlink()
    whole = np.moveaxis(place.study.maps[:n] * place.study.mask, 0, -1)
    nib.save(nib.Nifti1Image(whole, place.study.affine), place.folder / "fsl.nii.gz")
    tables = {
        "mat": _design(place, design, n).to_numpy(),
        "con": np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]),
        "fts": np.array([[1.0, 1.0]]),
        "grp": _blocks("pairs", n)[:, None] + 1.0,
    }
    for kind, rows in tables.items():
        height = {"con": "NumContrasts", "fts": "NumContrasts"}.get(kind, "NumPoints")
        lines = [f"/NumWaves {rows.shape[1]}", f"/{height} {len(rows)}", "/Matrix"]
        lines += [" ".join(f"{value:.6g}" for value in row) for row in rows]
        (place.folder / f"design.{kind}").write_text("\n".join(lines) + "\n")
    return _command(place, f"randomise -i fsl -m mask -o fsl_out {line} -n {N_PERM} --quiet", "fsl_out*")


DESIGNED = "-d design.mat -t design.con"
PEOPLE = "--covariates people.tsv"
V = "--model group --contrast b-a --variance-groups groups.csv"
FITTED = "--design ~age+group --contrast age --smoothing-fwhm 6"
PERM = f"--n-perm {N_PERM}"
JOINED = "--design ~age+iq --contrast age --contrast any=age;iq --fwe-across-contrasts"
PAIRED = "--model group --contrast b-a --blocks pairs.csv --one-sided --conventions palm"


def _permute(place: Place, line: str, command: str = "permute") -> Any:
    place.study.subjects[:14].to_csv(place.folder / "people.tsv", sep="\t", index=False)
    pd.DataFrame({"block": _blocks("pairs", 14)}).to_csv(place.folder / "pairs.csv", index=False)
    pd.DataFrame({"group": _blocks("groups", 14)}).to_csv(place.folder / "groups.csv", index=False)
    return _command(place, f"{command} MAPS --mask MASK --output OUT --quiet {line}")


def _convert_and_ask(place: Place) -> Any:
    made = _command(place, "convert MAPS --mask MASK --output OUT --smoothing-fwhm 6 --quiet", "no files")
    shutil.move(place.folder / "out", place.new("asked.zarr"))
    told = {name: _command(place, f"{name} asked.zarr --quiet", "no files") for name in ("info", "verify", "quality")}
    return {"convert": made, "cohort": _told(ng.Cohort.open(place.folder / "asked.zarr")), **told}


def _report_command(place: Place) -> Any:
    _result(place).save(place.new("for-report"))
    return _command(place, "report for-report --output page.html --overwrite --quiet", "page.html")


FILES = (
    Call("saved-and-loaded", _saved),
    Call("saved-v", _saved_v, PRODUCTS),
    Call("report-and-figure", _reported),
    Call("summaries", _words),
    Call("bids", _bids),
    Call("randomise-mean", partial(_fsl, line="-1 -x -T -c 2.3 -R -N --uncorrp")),
    Call("randomise-contrasts", partial(_fsl, line=f"{DESIGNED} -f design.fts -x -T -C 2 -F 4 -R")),
    Call("randomise-blocks", partial(_fsl, line=f"{DESIGNED} -e design.grp -x -c 2")),
    Call("randomise-whole-blocks", partial(_fsl, line=f"{DESIGNED} -e design.grp --permuteBlocks -x", design="age")),
    Call("randomise-smoothed-variance", partial(_fsl, line=f"{DESIGNED} -v 6 -x -c 2", n=12)),
    Call("randomise-skeleton-demeaned", partial(_fsl, line=f"{DESIGNED} -D --T2 -x -N")),
    Call("randomise-f-alone", partial(_fsl, line=f"{DESIGNED} -f design.fts --fonly -x -S 4 --uncorrp")),
    Call("permute", partial(_permute, line=f"{PERM} --tfce --cluster-forming-threshold 0.01")),
    Call("permute-contrasts", partial(_permute, line=f"{PEOPLE} {JOINED} {PERM}")),
    Call("permute-blocks-json", partial(_permute, line=f"{PEOPLE} {PAIRED} {PERM} --json")),
    Call("permute-v", partial(_permute, line=f"{PEOPLE} {V} {PERM} --json"), PRODUCTS),
    Call("permute-tail", partial(_permute, line=f"{PEOPLE} --model age --tail pareto --p-interval 0.95 --n-perm 600")),
    Call("permute-bids", partial(_permute, line=f"{PEOPLE} --model age --method kennedy --bids {PERM}")),
    Call("fit", partial(_permute, line="", command="fit")),
    Call("fit-bids", partial(_permute, line=f"{PEOPLE} {FITTED} --bids", command="fit")),
    Call("convert-info-verify-quality", _convert_and_ask),
    Call("report-command", _report_command),
    Call("demo", partial(_command, line="demo --output OUT --n-perm 100 --quiet")),
)  # fmt: skip


def _public(place: Place) -> dict[str, str]:
    """What users may have written."""
    checkout = Path(str(ng.__file__)).parents[1]
    given = {"names.json": same_public.names(), "commands.json": same_public.commands(checkout)}
    return {name: json.dumps(told) for name, told in given.items()}


CALLS = {call.name: call for call in (*TESTS, *PLACES, *DROP_INS, *FILES, Call("public", _public))}


# What a call gave, as named arrays.


def flattened(value: Any, name: str, folder: Path) -> Iterator[tuple[str, Any]]:
    """Take what a call gave apart into arrays by name; texts are arrays of one string."""
    inner = partial(flattened, folder=folder)
    if isinstance(value, ng.PermutationResult):
        yield from inner(dict(value.maps), f"{name}maps/")
        yield from inner(dict(value.h0), f"{name}h0/")
        yield from inner(value.clusters, f"{name}clusters/")
        yield from inner(value.to_nifti(next(iter(value.maps))), f"{name}image/")
        yield f"{name}provenance.json", _text(json.dumps(dict(value.provenance), indent=1), folder)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from inner(one, f"{name}{key}/" if not isinstance(one, str) else f"{name}{key}")
    elif isinstance(value, nib.Nifti1Image):
        yield f"{name}data", np.asarray(value.dataobj)
        yield f"{name}affine", value.affine
    elif isinstance(value, pd.DataFrame):
        yield f"{name}columns", np.array([f"{column} {kind}" for column, kind in value.dtypes.items()], dtype=str)
        for column in value:
            yield f"{name}{column}", _column(value[column])
    elif isinstance(value, Path):
        yield from _files(value, name, folder)
    elif isinstance(value, str):
        yield name, _text(value, folder)
    elif isinstance(value, Sequence) and not all(isinstance(one, int | float) for one in value):
        for number, one in enumerate(value):
            yield from inner(one, f"{name}{number}/")
    else:
        yield name.rstrip("/"), np.asarray(value)


def _column(column: Any) -> Any:
    values = column.to_numpy()
    return values if values.dtype.kind in "biuf" else values.astype(str)


def _files(path: Path, name: str, folder: Path) -> Iterator[tuple[str, Any]]:
    """Contents of a file, or of all files of a folder."""
    if path.is_dir():
        for one in sorted(path.rglob("*")):
            if one.is_file():
                yield from _files(one, f"{name}{one.relative_to(path)}", folder)
        return
    name = f"{name}{path.name}" if name.endswith("/") else name
    if path.name.endswith((".nii", ".nii.gz")):
        image: Any = nib.load(path)
        yield f"{name}/data", np.asarray(image.dataobj)
        yield f"{name}/header.json", np.array(json.dumps(_header(image.header)))
    elif path.suffix in (".npz", ".zip") or ".zarr" in str(path.relative_to(folder)):
        yield name, np.array("there")  # of a form of its own: what it holds is compared where it is read back
    elif path.suffix == ".png":
        yield name, np.frombuffer(path.read_bytes(), np.uint8)
    else:
        yield name, _text(path.read_text(), folder)


def _header(header: Any) -> dict[str, str]:
    """Fields of a header, by name."""
    return {name: str(header[name].tolist()) for name in header}


def _text(text: str, folder: Path) -> Any:
    """A text without the place, the version, and what the machine has left."""
    text = re.sub(r"[\d,]+ MB of memory are left", "<some> MB of memory are left", text)
    return np.array(text.replace(str(folder), "<folder>").replace(ng.__version__, "<version>"))


def main(checkout: str, folder: str, *names: str) -> None:
    """Make calls; write NAME.npz of each and say how long it took, and lastly how many kernels were compiled."""
    check_origin(checkout)
    with event.install_recorder("numba:compile") as recorder:
        _make(Path(folder).resolve(), names)
    print(f"compiled {len(recorder.buffer)}", flush=True)


def _make(out: Path, names: Sequence[str]) -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    place = Place(out / "work")
    place.folder.mkdir(parents=True)
    for name in names:
        began = time.perf_counter()
        try:
            arrays = dict(flattened(CALLS[name].run(place), "", place.folder))
        except Exception as error:
            traceback.print_exc()
            arrays = {"FAILED": np.array(f"{type(error).__name__}: {error}")}
        np.savez(out / f"{name}.npz", **arrays)
        print(f"{name} {time.perf_counter() - began:.2f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
