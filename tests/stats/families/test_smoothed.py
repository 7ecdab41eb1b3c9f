"""Pseudo-t against its definition, written out."""

import numpy as np
import pytest
from scipy import ndimage

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.permutation.plan import make_plan
from numbaglm.errors import InputError
from numbaglm.inference import running as runs
from numbaglm.spaces.volume import Geometry

FWHM = 5.0


@pytest.fixture
def cohort():
    rng = np.random.default_rng(3)
    mask = ndimage.binary_dilation(rng.random((9, 10, 11)) > 0.7)
    geometry = Geometry(mask, np.diag([2.0, 3.0, 2.5, 1.0]))
    return Cohort(CohortStore.from_array(rng.normal(0.4, 1, (7, geometry.n_voxels)).astype("f4"), geometry))


def pseudo_t(Y, X, geometry):
    beta = np.linalg.pinv(X) @ Y
    variance = ((Y - X @ beta) ** 2).sum(axis=0) / (len(Y) - X.shape[1])
    sigma = FWHM / np.sqrt(8 * np.log(2)) / geometry.voxel_sizes
    blur = [
        ndimage.gaussian_filter(geometry.unmask(values), sigma, mode="constant")[geometry.mask]
        for values in (variance, np.ones(geometry.n_voxels))
    ]
    return beta[0] / np.sqrt(blur[0] / blur[1] * np.linalg.inv(X.T @ X)[0, 0])


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("resident", [True, False])
def test_equals_its_definition(cohort, two_sided, resident, monkeypatch):
    if not resident:  # the residuals read anew, the maps on disk
        monkeypatch.setattr(runs, "make_plan", lambda *limits, **_: make_plan(*limits, keep=False))
    X = np.c_[np.ones(7), np.arange(7.0) - 3]
    result = ng.permutation_test(
        cohort,
        X,
        "x0",
        n_perm=200,
        two_sided=two_sided,
        cluster_forming_threshold=("t", 1.5),
        variance_smoothing_fwhm=FWHM,
        tfce=True,
    )
    Y = cohort.store.read(0, cohort.n_voxels).astype(float)
    Z = X[:, 1:] / np.linalg.norm(X[:, 1:])
    E = Y - Z @ (Z.T @ Y)
    signs = 1 - 2 * ((np.arange(128)[:, None] >> np.arange(7)) & 1)
    maps = np.array([pseudo_t(sign[:, None] * E, X, cohort.geometry) for sign in signs])
    sizes = np.abs(maps) if two_sided else maps
    observed = np.abs(result.maps["t"]) if two_sided else result.maps["t"]
    np.testing.assert_allclose(result.maps["t"], maps[0], rtol=1e-9)
    np.testing.assert_allclose(np.sort(result.h0["max_t"]), np.sort(sizes.max(axis=1)), rtol=1e-9)
    np.testing.assert_array_equal(
        np.rint(result.maps["p_unc"] * 128), (sizes >= observed - 1e-9 * np.maximum(1, observed)).sum(axis=0)
    )
    assert result.h0["max_size"].max() > 1
    assert result.h0["max_tfce"][0] == pytest.approx(np.abs(result.maps["tfce"]).max())


@pytest.mark.parametrize(
    "options", [{"contrast": np.eye(2)}, {"variance_groups": [0, 0, 0, 1, 1, 1, 1]}, {"variance_smoothing_fwhm": -1}]
)
def test_refusals(cohort, options):
    X = np.c_[np.ones(7), np.arange(7.0) - 3]
    with pytest.raises(InputError, match="variance_smoothing_fwhm"):
        ng.permutation_test(cohort, X, **{"contrast": "x0", "variance_smoothing_fwhm": 4.0, **options})
