"""Rows meet maps by label, whatever carries the labels; expected values by least squares."""

import logging

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.errors import DesignError, InputError, MaskError, NumbaglmWarning

N, SHAPE, AFFINE = 12, (4, 4, 4), np.diag([3.0, 3.0, 3.0, 1.0])
RNG = np.random.default_rng(0)
AGE = RNG.uniform(20, 60, N)
Y = RNG.normal(size=(N, *SHAPE)).astype(np.float32) + 0.08 * AGE[:, None, None, None].astype(np.float32)
QUICK = {"n_perm": 10, "cluster_forming_threshold": None}


def t_of(*columns, tested=0):
    X, y = np.column_stack(columns), Y.reshape(N, -1).astype(np.float64)
    beta = np.linalg.pinv(X) @ y
    variance = ((y - X @ beta) ** 2).sum(axis=0) / (N - X.shape[1]) * np.linalg.inv(X.T @ X)[tested, tested]
    return beta[tested] / np.sqrt(variance)


EXPECTED = t_of(AGE, np.ones(N))


def write(folder, name):
    """Maps in a layout of names."""
    paths = []
    for k, volume in enumerate(Y):
        paths.append(folder / name.format(k + 1))
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume, AFFINE), paths[-1])
    return paths


def shuffled(labels, column="participant_id"):
    frame = pd.DataFrame({column: labels, "age": AGE, "intercept": 1.0})
    return frame.sample(frac=1, random_state=0).reset_index(drop=True)


def assert_tested(result):
    np.testing.assert_allclose(result.maps["t"], EXPECTED, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("s{:02d}/con_0001.nii", "s{:02d}"),
        ("sub-{:02d}_con.nii", "sub-{:02d}"),
        ("sub-{:02d}_con.nii", "{}"),
        ("con_p{}_smooth.nii", "p{}"),
    ],
)
def test_covariates_and_designs_follow_labels(tmp_path, name, label):
    paths = write(tmp_path, name)
    table = shuffled([label.format(k + 1) for k in range(N)])
    cohort = ng.Cohort.from_maps(paths, covariates=table.drop(columns="intercept"))
    assert_tested(ng.permutation_test(cohort, "~ age", "age", **QUICK))
    assert_tested(ng.permutation_test(paths, table, "age", **QUICK))
    indexed = table.set_index("participant_id")
    assert_tested(ng.permutation_test(paths, indexed, "age", **QUICK))
    indexed.rename_axis(None).to_csv(tmp_path / "design.csv")  # its index has no name
    assert_tested(ng.permutation_test(paths, tmp_path / "design.csv", "age", **QUICK))
    with pytest.raises(DesignError, match="no row for"):
        ng.permutation_test(paths, indexed.set_axis([f"x{k}" for k in range(N)]), "age", **QUICK)


def test_blocks_and_groups_follow_an_index(tmp_path):
    paths = write(tmp_path, "s{:02d}.nii")
    labels = [f"s{k + 1:02d}" for k in range(N)]
    blocks = pd.Series(np.arange(N) % 3, index=labels)
    design = pd.DataFrame({"age": AGE, "intercept": 1.0})
    for name in ("exchangeability_blocks", "variance_groups"):
        expected, found = (
            ng.permutation_test(paths, design, "age", **QUICK, **{name: one})
            for one in (blocks.to_numpy(), blocks.sample(frac=1, random_state=1))
        )
        for null in expected.h0:
            np.testing.assert_array_equal(found.h0[null], expected.h0[null])
        assert found.provenance[name] == (np.arange(N) % 3).tolist()


def test_a_sorted_table_of_maps_takes_no_rows_without_labels(tmp_path):
    paths = write(tmp_path, "sub-{}.nii")
    maps = pd.DataFrame({"subject_label": [f"sub-{k + 1}" for k in range(N)], "effects_map_path": paths})
    design = pd.DataFrame({"age": AGE, "intercept": 1.0})
    for rows in (design, design.to_numpy()):
        with pytest.raises((DesignError, InputError), match="sorted by their"):
            ng.permutation_test(maps, rows, "age", **QUICK)
    found = ng.permutation_test(maps, design.assign(subject_label=maps["subject_label"]), "age", **QUICK)
    assert_tested(found)
    with pytest.warns(NumbaglmWarning, match="sorted by subject_label"):
        ng.SecondLevelModel().fit(maps, design_matrix=design)


def test_the_drop_ins_take_rows_as_nilearn_does_and_warn(tmp_path):
    paths = write(tmp_path, "sub-{:02d}.nii")
    design = shuffled([f"sub-{k + 1:02d}" for k in range(N)]).set_index("participant_id")
    with pytest.warns(NumbaglmWarning, match="another order than the maps"):
        model = ng.SecondLevelModel().fit([str(path) for path in paths], design_matrix=design)
    np.testing.assert_array_equal(model.design_matrix_["age"], design["age"])


def test_what_is_odd_is_told(tmp_path, caplog):
    paths = write(tmp_path, "sub-{:02d}.nii")
    with caplog.at_level(logging.WARNING, logger="numbaglm"):
        ng.permutation_test(paths, pd.DataFrame({"group": np.tile([1.0, -1.0], N // 2)}), "group", **QUICK)
    assert "the data keep theirs" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="numbaglm"):
        ng.permutation_test(paths, pd.DataFrame({"age": AGE, "intercept": 1.0}), "age", **QUICK)
    assert "the data keep theirs" not in caplog.text
    with caplog.at_level(logging.WARNING, logger="numbaglm"):
        ng.Cohort.from_maps([*paths, paths[3]])
    assert "The same file is there more than once" in caplog.text


def test_a_mask_elsewhere_is_refused():
    maps = [nib.Nifti1Image(volume, AFFINE) for volume in Y]
    mask = nib.Nifti1Image(np.ones(SHAPE, np.uint8), np.diag([3.0, 3, 3, 1]) + np.eye(4, k=3) * 500)
    design = pd.DataFrame({"intercept": np.ones(N)})
    with pytest.raises(MaskError, match="do not overlap: the mask's grid spans x 500 to 509"):
        ng.SecondLevelModel(mask_img=mask).fit(maps, design_matrix=design)


@pytest.mark.parametrize("name", [None, "eid", "participant_id"])
def test_numbers_that_maps_are_called_by_are_labels_of_rows_too(tmp_path, name):
    """People whose labels are whole numbers: an index of these is met as one of text is."""
    number = 1_000_000 + 7 * np.arange(N)
    paths = write(tmp_path, "x{:02d}.nii")
    labels = [f"sub-{one}" for one in number]
    cohort = ng.Cohort.from_maps(paths, subjects=labels)
    order = np.random.default_rng(1).permutation(N)
    index = pd.Index(number, name=name)
    design = pd.DataFrame({"age": AGE, "intercept": 1.0}, index=index)
    assert_tested(ng.permutation_test(cohort, design.iloc[order], "age", **QUICK))
    weights = np.linspace(0.5, 2, N)
    values = {
        "exchangeability_blocks": np.arange(N) % 3,
        "variance_groups": np.arange(N) // 6,
        "weights": weights,
        "shufflings": np.stack([np.random.default_rng(k).permutation(N) + 1 for k in range(9)]),
    }
    for option, value in values.items():
        quick = {key: QUICK[key] for key in QUICK if option != "shufflings" or key != "n_perm"}
        given = pd.Series(value, index=index).iloc[order] if option != "shufflings" else None
        if given is None:  # numbers count the columns of the table
            place = np.empty(N, int)
            place[order] = np.arange(1, N + 1)
            given = pd.DataFrame(place[value[:, order] - 1], columns=index[order])
        one, other = (ng.permutation_test(cohort, design, "age", **{option: one}, **quick) for one in (value, given))
        for key in one.maps:
            np.testing.assert_array_equal(one.maps[key], other.maps[key], err_msg=f"{option}: {key}")
    rows = pd.Series(values["exchangeability_blocks"], index=np.roll(np.arange(N), 1))  # numbers of rows
    by_order = ng.permutation_test(cohort, design, "age", exchangeability_blocks=rows.to_numpy(), **QUICK)
    again = ng.permutation_test(cohort, design, "age", exchangeability_blocks=rows, **QUICK)
    np.testing.assert_array_equal(by_order.maps["p_unc"], again.maps["p_unc"])


def test_columns_of_the_table_of_covariates_in_its_own_order_are_refused(tmp_path):
    """The table was matched to the maps by label; its columns by row are of other maps."""
    paths = write(tmp_path, "s{:02d}.nii")
    table = shuffled([f"s{k + 1:02d}" for k in range(N)]).assign(site=np.arange(N) % 3, w=np.linspace(1, 2, N))
    cohort = ng.Cohort.from_maps(paths, covariates=table)
    with pytest.raises(DesignError, match="'age' in another order than that of the cohort's covariates"):
        ng.permutation_test(cohort, table[["age", "intercept"]], "age", **QUICK)
    for option, column in (("exchangeability_blocks", "site"), ("variance_groups", "site"), ("weights", "w")):
        with pytest.raises(InputError, match=f"'{column}' in another order"):
            ng.permutation_test(cohort, "~ age", "age", **{option: table[column]}, **QUICK)
        ng.permutation_test(cohort, "~ age", "age", **{option: cohort.covariates[column]}, **QUICK)
    assert_tested(ng.permutation_test(cohort, cohort.covariates[["age", "intercept"]], "age", **QUICK))


@pytest.mark.parametrize(
    ("maps", "layer"),
    [("con_{}.nii", "gm_{}.nii"), ("con{:02d}.nii", "gm{}.nii"), ("p{}/con.nii", "gm/{}.nii")],
)
def test_layers_that_are_alike_in_another_order_are_refused(tmp_path, maps, layer):
    """Lists that a shell sorts, 1, 10, 11, 2, beside others."""
    paths, layers = write(tmp_path / "a", maps), write(tmp_path / "b", layer)
    with pytest.raises(InputError, match="alike in another order"):
        ng.Cohort.from_maps(paths, layers={"gm": sorted(map(str, layers), key=len)[::-1]})
    ng.Cohort.from_maps(paths, layers={"gm": layers})
    ng.Cohort.from_maps(paths[::-1], layers={"gm": layers[::-1]})


@pytest.mark.parametrize("named", [False, True], ids=["by their files", "by name"])
def test_a_wave_of_visits_is_added_to_those_before(tmp_path, named):
    """Each person is once in it, so that people alone would tell its maps apart."""
    visits = [(person, visit) for person in range(1, 5) for visit in (1, 2)] + [(person, 3) for person in range(1, 5)]
    paths = [tmp_path / f"sub-{person:02d}_ses-{visit}_con.nii" for person, visit in visits]
    for volume, path in zip(Y, paths, strict=True):
        nib.save(nib.Nifti1Image(volume, AFFINE), path)
    table = pd.DataFrame(visits, columns=["participant_id", "session_id"]).assign(age=AGE)
    first, wave = table[:8], table[8:].iloc[::-1]
    cohort = ng.Cohort.create(tmp_path / "c.zarr", paths[:8], covariates=first)
    cohort.append(paths[8:], wave, subjects=[f"sub-0{person}_ses-3" for person in range(1, 5)] if named else None)
    assert list(cohort.subjects[8:]) == [f"sub-0{person}_ses-3" for person in range(1, 5)]
    assert list(cohort.covariates["participant_id"]) == list(table["participant_id"])
    assert_tested(ng.permutation_test(cohort, "~ age", "age", **QUICK))
