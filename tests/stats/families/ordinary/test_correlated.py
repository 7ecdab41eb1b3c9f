"""Part correlations against their definition: a model of data that are shuffled, its share of their variance."""

import numpy as np
import pytest

import numbaglm as ng
from numbaglm.errors import InputError
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis, make_correlation

N = 14
RNG = np.random.default_rng(3)
MODEL = np.column_stack([RNG.normal(size=(N, 3)), np.ones(N)])
MODEL[:, 1] += MODEL[:, 0]
Y = RNG.normal(size=(N, 9)) + MODEL[:, 1:2]


def share(y, tested, nuisance):
    """Share of the variance about the mean that what is tested explains beyond the nuisance, and its sign."""

    def rest(M):
        return ((y - M @ np.linalg.lstsq(M, y, rcond=None)[0]) ** 2).sum(axis=0)

    both = np.column_stack([tested, nuisance])
    sign = np.sign(np.linalg.lstsq(both, y, rcond=None)[0][0])
    return (rest(nuisance) - rest(both)) / ((y - y.mean(axis=0)) ** 2).sum(axis=0), sign


@pytest.mark.parametrize(("columns", "weights"), [([0], [[1.0, 0, 0, 0]]), ([0, 1], [[1.0, 0, 0, 0], [0, 1, 0, 0]])])
def test_it_is_the_share_of_shuffled_data(as_cohort, columns, weights):
    nuisance = np.delete(MODEL, columns, axis=1)
    found = ng.permutation_test(
        as_cohort(Y), MODEL, weights[0] if len(weights) == 1 else weights, n_perm=60, correlation=True, seed=1
    )
    design = Design.parse(MODEL, N)
    contrast = Contrast.parse(weights, design)
    shuffling = {"n_perm": 60, "seed": 1, "errors": None, "blocks": None, "block_scheme": "within"}
    shufflings, _ = build_hypothesis(
        design, contrast, [contrast], "freedman-lane", shuffling, {"variance_groups": None, "v_dof_factor": 1.0}
    )
    y = Y.astype(np.float32).astype(float)
    fitted = nuisance @ np.linalg.lstsq(nuisance, y, rcond=None)[0]
    null = []
    for index in shufflings.draw(0, 61)[0]:
        part, sign = share((y - fitted)[index] + fitted, MODEL[:, columns], nuisance)
        null.append(sign * np.sqrt(part) if len(columns) == 1 else part)
    null = np.array(null)
    name = "r" if len(columns) == 1 else "r2"
    np.testing.assert_allclose(found.maps[name], null[0], rtol=1e-6)
    size = np.abs(null)
    np.testing.assert_allclose(found.maps["p_unc"], (size >= size[0] - 1e-5).mean(axis=0))
    np.testing.assert_allclose(
        found.maps["p_fwe_voxel"], (size.max(axis=1) >= size[0][:, None] - 1e-5).mean(axis=1), atol=1e-12
    )
    assert found.statistic == name
    assert "max_t" not in found.h0


def test_without_nuisance_it_is_the_correlation(as_cohort):
    found = ng.permutation_test(as_cohort(Y), MODEL[:, [0, 3]], [1, 0], n_perm=50, correlation=True)
    expected = np.corrcoef(MODEL[:, 0], Y.T)[0, 1:]
    np.testing.assert_allclose(found.maps["r"], expected, atol=1e-6)
    t = ng.permutation_test(as_cohort(Y), MODEL[:, [0, 3]], [1, 0], n_perm=50)
    for name in ("p_unc", "p_fwe_voxel", "p_parametric"):
        np.testing.assert_allclose(found.maps[name], t.maps[name], rtol=1e-6)


def test_what_has_no_correlation_is_left_at_p_1(as_cohort):
    values = Y.copy()
    values[:, 2] = MODEL[:, 2]
    found = ng.permutation_test(as_cohort(values), MODEL, [1, 0, 0, 0], n_perm=20, correlation=True)
    assert (found.maps["r"][2], found.maps["p_unc"][2]) == (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "manly"}, "correlation=True is of t or F .* does not go with method='manly'"),
        ({"errors": "ise"}, "about the mean"),
        ({"design_matrix": MODEL[:, :3], "contrast": [1, 0, 0]}, "about the mean: give the design a constant"),
        ({"correlation": "yes"}, "'correlation': got 'yes'"),
    ],
)
def test_what_it_does_not_go_with(as_cohort, options, message):
    given = {"design_matrix": MODEL, "contrast": [1, 0, 0, 0], "n_perm": 20, "correlation": True, **options}
    with pytest.raises(InputError, match=message):
        ng.permutation_test(as_cohort(Y), **given)


def test_the_record_is_made_of_t_and_f_alone():
    design = Design.parse(MODEL, N)
    contrast = Contrast.parse([[1.0, 0, 0, 0]], design)
    shuffling = {"n_perm": 20, "seed": 0, "errors": None, "blocks": None, "block_scheme": "within"}
    groups = {"variance_groups": np.arange(N) % 2, "v_dof_factor": 1.0}
    shufflings, hypothesis = build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, groups)
    with pytest.raises(InputError, match="goes with t and F"):
        make_correlation(hypothesis, shufflings)


def test_it_is_said_that_nuisance_breaks_its_level(as_cohort, caplog):
    ng.permutation_test(as_cohort(Y), MODEL[:, [0, 3]], [1, 0], n_perm=20, correlation=True)
    assert "hold their level" not in caplog.text
    ng.permutation_test(as_cohort(Y), MODEL, [1, 0, 0, 0], n_perm=20, correlation=True)
    assert "Correlations do not hold their level beside nuisance: 5.8 % were measured at 5 % with" in caplog.text


@pytest.mark.parametrize("weights", [[1, 0, 0, 0], [[1, 0, 0, 0], [0, 1, 0, 0]]])
def test_it_is_saved_and_read_back(as_cohort, tmp_path, weights):
    found = ng.permutation_test(as_cohort(Y), MODEL, weights, n_perm=20, correlation=True)
    again = ng.PermutationResult.load(found.save(tmp_path / "out"))
    np.testing.assert_array_equal(again.maps[found.statistic], found.maps[found.statistic])
    assert "p <= 0.05" in again.summary()
