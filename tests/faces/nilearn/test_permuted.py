"""The permutation drop-ins, without nilearn: counting, conventions, inputs, refusals."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage, stats

import numbaglm as ng
from numbaglm.errors import DesignError, InputError, NumbaglmWarning
from numbaglm.spaces.surface import Mesh, neighbour_lists
from reference.clusters import label_graph
from reference.surfaces import Surface, strip
from reference.tfce import tfce_graph

SHAPE = (6, 5, 4)
N = 12


def make_data(n_voxels=120, mean=0.5, n=N):
    return np.random.default_rng(0).normal(mean, 1, size=(n, n_voxels))


def masker():
    """All that is asked of a masker."""
    return SimpleNamespace(mask_img_=nib.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4)))


def make_maps(n=N, mean=0.5):
    volumes = make_data(120, mean, n).reshape(n, *SHAPE)
    return [nib.Nifti1Image(volume.astype(np.float32), np.eye(4)) for volume in volumes]


ONES = pd.DataFrame({"intercept": np.ones(N)})


def test_keys_in_order():
    """And sizes are whole, in arrays and images."""
    options = {"n_perm": 9, "random_state": 0, "tfce": True, "threshold": 0.1}
    names = ["t", "logp_max_t", "tfce", "logp_max_tfce", "size", "logp_max_size", "mass", "logp_max_mass"]
    out = ng.permuted_ols(np.ones(N), make_data(), masker=masker(), **options)
    assert [name for name in out if not name.startswith("h0")] == names
    assert list(out)[:6] == ["t", "logp_max_t", "h0_max_t", "tfce", "h0_max_tfce", "logp_max_tfce"]
    assert out["size"].dtype == np.int64
    images = ng.non_parametric_inference(make_maps(), design_matrix=ONES, **options)
    assert list(images) == names
    types = {name: image.get_data_dtype() for name, image in images.items()}
    assert types.pop("size") == np.int32
    assert set(types.values()) == {np.dtype(np.float64)}


def test_few_permutations():
    with pytest.warns(NumbaglmWarning, match="perform more permutations"):
        ng.permuted_ols(np.ones(N), make_data(), n_perm=2, n_jobs=2)
    with pytest.warns(NumbaglmWarning, match="perform more permutations"):
        ng.non_parametric_inference(make_maps(), design_matrix=ONES, n_perm=1)


def test_masker_that_nobody_asks():
    """Where neighbours don't count any masker will do, as in nilearn."""
    options = {"n_perm": 9, "random_state": 0}
    expected = ng.permuted_ols(np.ones(N), make_data(), **options)
    got = ng.permuted_ols(np.ones(N), make_data(), masker=SimpleNamespace(), **options)
    assert_array_equal(got["h0_max_t"], expected["h0_max_t"])


def test_zeros_among_the_confounds():
    """No intercept; to nilearn they are one."""
    age, zeros = np.arange(N), np.zeros(N)
    with_intercept = ng.permuted_ols(age, make_data(), n_perm=0)["t"]
    assert_allclose(ng.permuted_ols(age, make_data(), zeros, n_perm=0)["t"], with_intercept, rtol=1e-9)
    without = ng.permuted_ols(age, make_data(), model_intercept=False, n_perm=0)["t"]
    got = ng.permuted_ols(age, make_data(), zeros, n_perm=0, compatibility="nilearn")["t"]
    assert_allclose(got, without, rtol=1e-9)


def test_smoothing_beside_a_masker():
    """It counts; in nilearn only where the masker has some."""
    given = SimpleNamespace(inverse_transform=None, **vars(masker()))
    options = {"design_matrix": ONES, "n_perm": 0, "mask": given}
    raw = ng.non_parametric_inference(make_maps(), **options)["t"].get_fdata()
    smooth = ng.non_parametric_inference(make_maps(), smoothing_fwhm=3.0, **options)["t"].get_fdata()
    assert not np.allclose(smooth, raw)
    got = ng.non_parametric_inference(make_maps(), smoothing_fwhm=3.0, compatibility="nilearn", **options)
    assert_array_equal(got["t"].get_fdata(), raw)


@pytest.mark.parametrize("two_sided", [True, False])
def test_counting(two_sided):
    n_perm = 200
    out = ng.permuted_ols(
        np.ones(N),
        make_data(),
        n_perm=n_perm,
        two_sided_test=two_sided,
        random_state=0,
        masker=masker(),
        tfce=True,
        threshold=0.05,
    )
    t = out["t"][0]
    observed = {
        "t": np.abs(t) if two_sided else t,
        "tfce": np.abs(out["tfce"][0]),
        "size": out["size"][0],
        "mass": out["mass"][0],
    }
    for name, score in observed.items():
        null = out[f"h0_max_{name}"][0]
        assert null.shape == (n_perm,)
        # Ties are equal to within the tolerance of float32: 1e-5 of the score.
        reached = (null[:, None] >= score - 1e-5 * np.abs(score)).sum(axis=0)
        p = (reached + 1) / (n_perm + 1)
        if name in ("size", "mass"):
            p = np.clip(reached / n_perm, 1 / n_perm, 1 - 1 / n_perm)
        assert_allclose(out[f"logp_max_{name}"][0], -np.log10(p), atol=1e-12, err_msg=name)
        assert np.ptp(p) > 0


def test_clusters():
    """Strictly above the threshold, 6 neighbours, signs apart, mass above the threshold."""
    Y = make_data()
    out = ng.permuted_ols(np.ones(N), Y, n_perm=10, random_state=0, masker=masker(), threshold=0.2)
    height = stats.t.isf(0.1, N - 1)
    t = (Y.mean(axis=0) / (Y.std(axis=0, ddof=1) / np.sqrt(N))).reshape(SHAPE)
    size, mass = np.zeros(SHAPE), np.zeros(SHAPE)
    for sign in (1, -1):
        label, n_clusters = ndimage.label(sign * t > height)
        for number in range(1, n_clusters + 1):
            size[label == number] = np.sum(label == number)
            mass[label == number] = np.sum(np.abs(t[label == number]) - height)
    assert_array_equal(out["size"][0], size.ravel())
    assert_allclose(out["mass"][0], mass.ravel(), rtol=1e-5)


def test_regressors_are_tested_apart():
    Y, X = make_data(), np.random.default_rng(1).normal(size=(N, 2))
    both = ng.permuted_ols(X, Y, n_perm=50, random_state=0)
    second = ng.permuted_ols(X[:, 1], Y, n_perm=50, random_state=0)
    for name, values in both.items():
        assert_array_equal(values[1:], second[name])


def test_model_intercept():
    """A constant is added once, and not beside a constant that is tested."""
    Y, x = make_data(mean=5.0), np.random.default_rng(1).normal(2, 1, size=N)
    centred = ng.permuted_ols(x, Y, n_perm=0)["t"]
    assert_allclose(ng.permuted_ols(x, Y, np.ones((N, 1)), n_perm=0)["t"], centred, rtol=1e-5)
    with pytest.warns(NumbaglmWarning, match="Multiple columns"):
        assert_allclose(ng.permuted_ols(x, Y, np.ones((N, 3)), n_perm=0)["t"], centred, rtol=1e-5)
    raw = ng.permuted_ols(x, Y, model_intercept=False, n_perm=0)["t"]
    beta = x @ Y / (x @ x)
    variance = ((Y - np.outer(x, beta)) ** 2).sum(axis=0) / (N - 1) / (x @ x)
    assert_allclose(raw[0], beta / np.sqrt(variance), rtol=1e-5)
    with pytest.warns(NumbaglmWarning, match="Multiple columns"):
        mean = ng.permuted_ols(np.ones(N), Y, np.ones((N, 1)), n_perm=0)["t"]
    assert_allclose(mean[0], stats.ttest_1samp(Y, 0).statistic, rtol=1e-5)


def test_precision_of_data_far_from_zero():
    Y, x = make_data(), np.random.default_rng(1).normal(size=N)
    moved = ng.permuted_ols(x, Y + 1e6, n_perm=0)["t"]
    assert_allclose(moved, ng.permuted_ols(x, Y, n_perm=0)["t"], rtol=1e-5, atol=1e-5)


def test_all_shufflings_where_they_are_few():
    """6 samples have 64 flips, 20 ways to form two groups of 3, and 720 orders."""
    Y = make_data(n=6)
    assert ng.permuted_ols(np.ones(6), Y, n_perm=100)["h0_max_t"].shape == (1, 63)
    groups = np.repeat([True, False], 3)
    covariate = np.arange(6.0)
    out = ng.permuted_ols(np.column_stack([groups, covariate]), Y, n_perm=100)
    assert np.isnan(out["h0_max_t"][0]).sum() == 100 - 19
    assert np.isfinite(out["h0_max_t"][1]).all()


@pytest.mark.parametrize("tfce", [True, False])
def test_no_permutations(tfce):
    out = ng.permuted_ols(np.ones(N), make_data(), n_perm=0, masker=masker(), tfce=tfce)
    assert list(out) == (["t", "tfce"] if tfce else ["t"])
    images = ng.non_parametric_inference(make_maps(), design_matrix=ONES, n_perm=0, tfce=tfce)
    assert list(images) == list(out)


def test_columns_with_nothing_to_test():
    Y, x = make_data(), np.arange(N, dtype=float)
    Y[:, 0], Y[:, 1] = 0.0, 7.0  # the second is the intercept's
    with pytest.warns(NumbaglmWarning, match="2 columns"):
        out = ng.permuted_ols(x, Y, n_perm=20, random_state=0)
    assert_array_equal(out["t"][0, :2], 0)
    assert_array_equal(out["logp_max_t"][0, :2], 0)
    without = ng.permuted_ols(x, Y[:, 2:], n_perm=20, random_state=0)
    assert_allclose(out["h0_max_t"], without["h0_max_t"], rtol=1e-6)


def test_random_state():
    def null(random_state, n_jobs=1):
        return ng.permuted_ols(np.ones(N), make_data(), n_perm=30, random_state=random_state, n_jobs=n_jobs)["h0_max_t"]

    assert_array_equal(null(3), null(np.int64(3), n_jobs=2))
    assert_array_equal(null(np.random.RandomState(3)), null(np.random.RandomState(3)))
    assert_array_equal(null(np.random.default_rng(3)), null(np.random.default_rng(3)))
    np.random.seed(4)  # noqa: NPY002 - the global state is what is tested
    first = null(None)
    assert not np.array_equal(first, null(None))
    np.random.seed(4)  # noqa: NPY002
    assert_array_equal(first, null(None))
    with pytest.raises(InputError, match="random_state"):
        null(-1)


def test_legacy_output():
    with pytest.warns(FutureWarning, match="legacy|deprecated"):
        logp, t, null = ng.permuted_ols(np.ones(N), make_data(), n_perm=9, random_state=0, output_type="legacy")
    assert (logp.shape, t.shape, null.shape) == ((1, 120), (1, 120), (1, 9))
    with pytest.warns(NumbaglmWarning, match="Overriding"):
        out = ng.permuted_ols(np.ones(N), make_data(), n_perm=9, masker=masker(), threshold=0.1, output_type="legacy")
    assert "size" in out


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target_vars": np.ones(N)}, InputError, "2D array"),
        ({"target_vars": np.full((N, 3), np.nan)}, InputError, "NaN"),
        ({"tested_vars": np.resize(["face", "house"], N)}, TypeError, "numerical or boolean"),
        ({"tested_vars": np.ones(N + 1)}, InputError, "12 rows"),
        ({"confounding_vars": np.full(N, np.nan)}, InputError, "confounding_vars"),
        ({"tested_vars": np.arange(N), "confounding_vars": np.arange(N)}, DesignError, "rank deficient"),
        ({"n_perm": 0.1}, TypeError, "n_perm"),
        ({"n_jobs": 0}, InputError, "n_jobs"),
        ({"tfce": True}, InputError, "masker must be provided"),
        ({"threshold": 0.01}, InputError, "masker must be provided"),
        ({"threshold": 3.1, "masker": masker()}, InputError, r"write it as \('t', 3.1\)"),
        ({"masker": SimpleNamespace(), "tfce": True}, InputError, "fit"),
        ({"tfce": "no"}, TypeError, "tfce"),
        ({"two_sided_test": None}, TypeError, "two_sided_test"),
        ({"random_state": "a"}, TypeError, "random_state"),
        ({"threshold": "a", "masker": masker()}, TypeError, "threshold"),
        ({"masker": masker(), "target_vars": np.ones((N, 3))}, InputError, "120 columns"),
        ({"output_type": "list"}, InputError, "output_type"),
        ({"compatibility": "fsl"}, InputError, "compatibility"),
    ],
)
def test_refusals(changes, error, message):
    arguments = {"tested_vars": np.ones(N), "target_vars": make_data(), "n_perm": 5, **changes}
    with pytest.raises(error, match=message):
        ng.permuted_ols(**arguments)


def test_images_and_arrays_agree():
    """The images are the arrays' maps, whatever holds the maps and the mask."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:, :4] = 1
    image = nib.Nifti1Image(mask, np.eye(4))
    X = ONES.assign(age=np.linspace(20, 60, N))
    options = {"n_perm": 30, "two_sided_test": True, "random_state": 0, "threshold": 0.1}
    maps = make_maps()
    arrays = ng.permuted_ols(
        X["age"],
        np.stack([one.get_fdata()[mask > 0] for one in maps]),
        masker=SimpleNamespace(mask_img_=image),
        **options,
    )
    volume4d = nib.Nifti1Image(np.stack([one.get_fdata() for one in maps], axis=-1), np.eye(4))
    fitted = ng.SecondLevelModel(mask_img=image).fit(maps, design_matrix=X).masker_
    for given, where in ((maps, image), (pd.Series(maps), fitted), (volume4d, image)):
        images = ng.non_parametric_inference(given, design_matrix=X, second_level_contrast="age", mask=where, **options)
        for name, one in images.items():
            assert_allclose(one.get_fdata()[mask > 0], arrays[name][0], rtol=1e-4, atol=1e-4, err_msg=name)
            assert not one.get_fdata()[mask == 0].any()


def test_intercept_of_images():
    """It is added where no combination of columns is constant, under a name of its own."""
    maps, group = make_maps(mean=3.0), np.repeat([1.0, 0.0], N // 2)
    options = {"n_perm": 0}
    with_intercept = ng.non_parametric_inference(
        maps, design_matrix=pd.DataFrame({"intercept": group}), **options, second_level_contrast="intercept"
    )
    dummies = ng.non_parametric_inference(
        maps,
        design_matrix=pd.DataFrame({"a": group, "b": 1 - group}),
        second_level_contrast="a - b",
        **options,
    )
    assert_allclose(with_intercept["t"].get_fdata(), dummies["t"].get_fdata(), rtol=1e-9)


def test_f_contrast():
    X = ONES.assign(age=np.linspace(-1, 1, N))
    maps = make_maps()
    out = ng.non_parametric_inference(
        maps, design_matrix=X, second_level_contrast=np.eye(2), n_perm=20, threshold=0.2, random_state=0
    )
    assert list(out) == ["f", "logp_max_f", "size", "logp_max_size", "mass", "logp_max_mass"]
    model = ng.SecondLevelModel().fit(maps, design_matrix=X)
    assert_allclose(out["f"].get_fdata(), model.compute_contrast(np.eye(2), output_type="stat").get_fdata(), rtol=1e-9)
    with pytest.raises(DesignError, match="compatibility"):
        ng.non_parametric_inference(maps, design_matrix=X, second_level_contrast=np.eye(2), compatibility="nilearn")


def test_table_of_maps(tmp_path):
    """The contrast's rows are taken, in the order of the labels; the design may come from confounds."""
    rng = np.random.default_rng(0)
    order = rng.permutation(N)
    labels = [f"sub-{number:02d}" for number in range(N)]
    rows = []
    for name, mean in (("faces", 0.0), ("houses", 2.0)):
        for number, one in enumerate(make_maps(mean=mean)):
            path = tmp_path / f"{name}_{number}.nii.gz"
            nib.save(one, path)
            rows.append((labels[number], name, str(path)))
    table = pd.DataFrame(rows, columns=["subject_label", "map_name", "effects_map_path"])
    confounds = pd.DataFrame({"subject_label": labels, "age": np.linspace(20, 60, N)})
    options = {"second_level_contrast": "age", "n_perm": 0}
    X = pd.DataFrame({"age": confounds["age"], "intercept": 1.0})
    expected = ng.non_parametric_inference(make_maps(mean=2.0), design_matrix=X, **options)["t"].get_fdata()
    shuffled = table.iloc[np.concatenate([order, N + order])]
    got = ng.non_parametric_inference(shuffled, confounds.iloc[order], first_level_contrast="houses", **options)
    assert_allclose(got["t"].get_fdata(), expected, rtol=1e-9)


@pytest.mark.parametrize("compatibility", [None, "nilearn"])
def test_nothing_left_to_test(compatibility):
    """Without degrees of freedom, the added intercept's among them: p is 1, with a warning."""
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(3, 2)), columns=["a", "b"])
    options = {"second_level_contrast": "a - b", "n_perm": 10, "threshold": 0.01, "compatibility": compatibility}
    with pytest.warns(NumbaglmWarning, match="no degrees of freedom"):
        out = ng.non_parametric_inference(make_maps(3), design_matrix=X.assign(c=[1, 2, 4]), **options)
    assert list(out) == ["t", "logp_max_t", "size", "logp_max_size", "mass", "logp_max_mass"]
    assert not out["t"].get_fdata().any()
    assert not out["logp_max_t"].get_fdata().any()
    if compatibility is None:
        with pytest.warns(NumbaglmWarning, match="intercept that is added"):
            ng.non_parametric_inference(make_maps(3), design_matrix=X, **options)
        with pytest.raises(DesignError, match="degrees of freedom"):
            ng.non_parametric_inference(
                make_maps(3), design_matrix=pd.DataFrame(np.eye(3)), second_level_contrast=np.eye(3)[:2]
            )


def test_dependent_columns():
    """As the design without them."""
    groups = pd.DataFrame({"a": np.arange(N) % 2, "b": 1 - np.arange(N) % 2})
    options = {"second_level_contrast": "a - b", "n_perm": 50, "threshold": 0.1, "random_state": 0}
    expected = ng.non_parametric_inference(make_maps(), design_matrix=groups, **options)
    with pytest.warns(NumbaglmWarning, match="rank deficient"):
        out = ng.non_parametric_inference(make_maps(), design_matrix=groups.assign(mean=1.0), **options)
    for name, image in out.items():
        assert_allclose(image.get_fdata(), expected[name].get_fdata(), rtol=1e-6, err_msg=name)


def on_surfaces(n=N):
    """Images on two strips of triangles, whose vertices differ in area, and a mask of all vertices but the first."""
    mesh = SimpleNamespace(parts={"left": strip(40), "right": strip(30)})
    for part in mesh.parts.values():
        part.coordinates[:, 0] *= 1 + 0.01 * np.arange(len(part.coordinates))
    rows = np.random.default_rng(3).normal(0.6, 1, (n, 70))
    images = [Surface(mesh, {"left": row[:40], "right": row[40:]}) for row in rows]
    inside = np.arange(70) > 0
    return images, rows[:, 1:], Surface(mesh, {"left": inside[:40], "right": inside[40:]})


def test_clusters_and_tfce_on_surfaces():
    """In mm2, along the edges of the mesh, with nilearn's conventions; both drop-ins give the same."""
    images, Y, mask = on_surfaces()
    options = {"n_perm": 50, "random_state": 0, "threshold": 0.1, "tfce": True, "two_sided_test": True}
    with pytest.warns(NumbaglmWarning, match="nilearn leaves threshold and tfce out"):
        found = ng.non_parametric_inference(images, design_matrix=ONES, mask=mask, **options)
    given = SimpleNamespace(mask_img_=mask)
    arrays = ng.permuted_ols(np.ones(N), Y, masker=given, **options)
    for name, image in found.items():
        assert image.values()[0] == 0  # outside the mask
        assert_allclose(image.values()[1:], arrays[name][0], rtol=1e-4, err_msg=name)
    t, sizes, enhanced = arrays["t"][0], np.zeros(69), np.zeros(69)
    for side, where in (("left", slice(0, 39)), ("right", slice(39, 69))):
        part, first = images[0].mesh.parts[side], 1 if side == "left" else 0
        mesh = Mesh(part.coordinates, part.faces)
        inside = np.arange(first, mesh.n)
        edges = mesh.edges[(mesh.edges >= first).all(axis=1)] - first
        indptr, indices = neighbour_lists(edges, inside.size)
        values, areas = t[where], mesh.areas[inside]
        above = np.abs(values) > stats.t.isf(0.05, N - 1)
        labels, n_clusters = label_graph(above, np.sign(values), indptr, indices)
        for number in range(1, n_clusters + 1):
            sizes[where][labels == number] = areas[labels == number].sum()
        enhanced[where] = tfce_graph(values, indptr, indices, areas, E=1, H=2, n_steps=100, times_step=False)
    assert_allclose(arrays["size"][0], sizes, rtol=1e-6)
    assert np.count_nonzero(sizes)
    assert_allclose(arrays["tfce"][0], enhanced, rtol=1e-4)
    with pytest.raises(InputError, match="69 columns, one for each vertex"):
        ng.permuted_ols(np.ones(N), Y[:, 1:], masker=given, n_perm=9, tfce=True)


def test_what_is_told_is_as_much_as_nilearn_tells(capsys):
    maps, options = make_maps(), {"n_perm": 20, "random_state": 0}
    for verbose in (0, 1, 2):
        ng.non_parametric_inference(maps, design_matrix=ONES, verbose=verbose, **options)
        out, err = capsys.readouterr()
        told = out.splitlines()
        assert len(told) == (0, 2, 2)[verbose]
        assert verbose == 0 or told[0] == "[non_parametric_inference] Fitting second level model..."
        assert verbose == 0 or "second level model done in" in told[1]
        assert ("%" in err) == (verbose > 1)
    tested = np.random.default_rng(0).normal(size=(N, 2))
    ng.permuted_ols(tested, make_data(), verbose=1, **options)
    err = capsys.readouterr().err
    assert err.count("100%") == 1, "one bar of both regressors"
