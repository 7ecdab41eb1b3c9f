from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm import datasets
from numbaglm.cohort import Cohort
from numbaglm.datasets import simulated
from numbaglm.errors import InputError, OutputError, OutputExistsError

MOTOR_RIGHT, MOTOR_LEFT = [38, -24, 58], [-38, -24, 58]
CEREBELLUM_RIGHT, CEREBELLUM_LEFT = [20, -52, -24], [-20, -52, -24]


def read(cohort):
    return np.stack([nib.load(path).get_fdata(dtype=np.float32)[cohort.geometry.mask] for path in cohort.maps])


def test_left_minus_right_press_is_where_physiology_puts_it(tmp_path):
    cohort = datasets.simulate_button_press(tmp_path / "cohort", n_subjects=16, voxel_size=4.0)
    Y = read(cohort)
    t = Y.mean(axis=0) / Y.std(axis=0, ddof=1) * 4.0
    truth = nib.load(cohort.truth).get_fdata()[cohort.geometry.mask]
    xyz = cohort.geometry.coordinates(np.arange(cohort.geometry.n_voxels))
    for centre, sign in ((MOTOR_RIGHT, 1), (MOTOR_LEFT, -1), (CEREBELLUM_LEFT, 1), (CEREBELLUM_RIGHT, -1)):
        near = np.linalg.norm(xyz - centre, axis=1) < 6.0
        assert near.sum() >= 8
        assert np.all(sign * truth[near] > 1.0)
        assert np.all(sign * t[near] > 3.73)  # p < 0.001 at 15 degrees of freedom
    assert np.array_equal(nib.load(cohort.mask).get_fdata() > 0, cohort.geometry.mask)
    assert Y.dtype == np.float32
    assert cohort.maps[0].name == "sub-01_task-buttonpress_contrast-leftVsRight_stat.nii.gz"
    assert cohort.subjects[-1] == "sub-16"


def test_a_subject_depends_on_the_seed_and_its_number_alone(tmp_path):
    two = read(datasets.simulate_button_press(tmp_path / "two", 2, seed=3, voxel_size=8.0))
    three = read(datasets.simulate_button_press(tmp_path / "three", 3, seed=3, voxel_size=8.0))
    other = read(datasets.simulate_button_press(tmp_path / "other", 2, seed=4, voxel_size=8.0))
    assert np.array_equal(two, three[:2])
    assert not np.array_equal(two, other)
    assert not np.array_equal(three[0], three[1])


def test_a_cohort_that_is_there_is_kept_and_another_is_refused(tmp_path):
    folder = tmp_path / "cohort"
    first = datasets.simulate_button_press(folder, 2, voxel_size=8.0)
    written = first.maps[0].stat().st_mtime_ns
    again = datasets.simulate_button_press(folder, 2, voxel_size=8.0)
    assert again.maps == first.maps
    assert first.maps[0].stat().st_mtime_ns == written
    with pytest.raises(OutputExistsError, match="Name a new folder"):
        datasets.simulate_button_press(folder, 2, seed=1, voxel_size=8.0)
    first.maps[1].unlink()
    with pytest.raises(OutputExistsError):
        datasets.simulate_button_press(folder, 2, voxel_size=8.0)


def test_a_cohort_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    save_image = simulated.save_image

    def disk_fills_up(image, path):
        if Path(path).name.startswith("sub-02"):
            raise OSError(28, "No space left on device")
        return save_image(image, path)

    monkeypatch.setattr(simulated, "save_image", disk_fills_up)
    with pytest.raises(OutputError, match="No space left on device"):
        datasets.simulate_button_press(tmp_path / "cohort", 3, voxel_size=8.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [({"n_subjects": 1}, "n_subjects"), ({"seed": -1}, "seed"), ({"voxel_size": 0.0}, "voxel_size")],
)
def test_what_is_not_allowed_is_named(tmp_path, options, named):
    with pytest.raises(InputError, match=f"'{named}'"):
        datasets.simulate_button_press(tmp_path / "cohort", **options)


STUDY = pd.DataFrame(
    {
        "person": np.repeat(["ann", "ben", "cat"], 2),
        "visit": ["first", "second"] * 3,
        "age": [20.0, 22.0, 30.0, 32.0, 40.0, 42.0],
    },
    index=[f"{person}-{visit}" for person in ("ann", "ben", "cat") for visit in (1, 2)],
)
BLOB, OTHER = [((32.0, -24.0, 56.0), 1.0, 16.0)], [((-32.0, -24.0, 56.0), 2.0, 16.0)]
EFFECTS = {"1": BLOB, "visit == 'second'": OTHER, "(age - 30) / 10": [*BLOB, *OTHER]}


def test_a_study_holds_what_was_planted(tmp_path):
    study = datasets.simulate_study(tmp_path / "study", STUDY, EFFECTS, noise_sd=0.0, voxel_size=8.0)
    truth = {name: nib.load(path).get_fdata()[study.geometry.mask] for name, path in study.truth.items()}
    values = np.column_stack([np.ones(6), STUDY["visit"] == "second", (STUDY["age"] - 30) / 10])
    np.testing.assert_allclose(read(study), values @ np.stack(list(truth.values())), atol=1e-5)
    assert [image.max() for image in truth.values()] == pytest.approx([1.0, 2.0, 2.0])


def test_a_study_goes_into_a_cohort_with_its_table(tmp_path):
    study = datasets.simulate_study(tmp_path / "study", STUDY, EFFECTS, voxel_size=10.0)
    cohort = Cohort.from_maps(study.maps, mask=study.mask, covariates=study.participants)
    assert tuple(cohort.subjects) == study.subjects == tuple(STUDY.index)
    assert cohort.covariates["age"].tolist() == STUDY["age"].tolist()
    numbered = datasets.simulate_study(tmp_path / "numbered", STUDY.reset_index(drop=True), {}, voxel_size=10.0)
    assert numbered.subjects[0] == "sub-01"


def test_noise_is_shared_as_asked_for_and_as_large(tmp_path):
    folder, options = tmp_path / "study", {"shared": {"person": 2.0}, "voxel_size": 6.0}
    Y = read(datasets.simulate_study(folder, STUDY, {}, noise_sd="1 + 2 * (visit == 'second')", **options))
    covariance = np.cov(Y)
    np.testing.assert_allclose(np.diag(covariance), [5.0, 13.0] * 3, rtol=0.15)
    same, other = covariance[[0, 2, 4], [1, 3, 5]], covariance[[0, 0, 2], [2, 4, 4]]
    np.testing.assert_allclose(same, 4.0, rtol=0.25)
    np.testing.assert_allclose(other, 0.0, atol=0.6)


def test_a_map_of_a_study_depends_on_the_seed_and_its_label_alone(tmp_path):
    maps = {}
    for name, table, seed in (("a", STUDY, 1), ("b", STUDY[::-1].iloc[:3], 1), ("c", STUDY, 2)):
        study = datasets.simulate_study(tmp_path / name, table, {}, shared={"person": 1.0}, seed=seed, voxel_size=10.0)
        maps[name] = dict(zip(study.subjects, read(study), strict=True))
    for label, values in maps["b"].items():
        assert np.array_equal(values, maps["a"][label])
        assert not np.array_equal(values, maps["c"][label])


def test_a_study_that_is_there_is_kept_and_another_is_refused(tmp_path):
    first = datasets.simulate_study(tmp_path / "study", STUDY, EFFECTS, voxel_size=10.0)
    written = first.maps[0].stat().st_mtime_ns
    datasets.simulate_study(tmp_path / "study", STUDY, EFFECTS, voxel_size=10.0)
    assert first.maps[0].stat().st_mtime_ns == written
    with pytest.raises(OutputExistsError, match="Name a new folder"):
        datasets.simulate_study(tmp_path / "study", STUDY.assign(age=1.0), EFFECTS, voxel_size=10.0)


@pytest.mark.parametrize(
    ("table", "options", "named"),
    [
        (STUDY, {"effects": {"weight": BLOB}}, "effects"),
        (STUDY, {"effects": {"person": BLOB}}, "effects"),
        (STUDY, {"effects": {"1 / (age - 20)": BLOB}}, "effects"),
        (STUDY, {"noise_sd": "sex"}, "noise_sd"),
        (STUDY, {"noise_sd": -1.0}, "noise_sd"),
        (STUDY, {"shared": {"family": 1.0}}, "shared"),
        (STUDY, {"shared": {"person": -1.0}}, "shared"),
        (STUDY.iloc[:1], {}, "participants"),
        (STUDY.set_index("person"), {}, "participants"),
        (STUDY.set_axis([*"abcde", "mask"]), {}, "participants"),
        (STUDY.set_axis([*"abcde", "../f"]), {}, "participants"),
        (STUDY, {"seed": -1}, "seed"),
        (STUDY, {"voxel_size": 0.0}, "voxel_size"),
    ],
)
def test_what_a_study_can_not_be_made_of_is_named(tmp_path, table, options, named):
    with pytest.raises(InputError, match=f"'{named}'"):
        datasets.simulate_study(tmp_path / "study", table, **{"effects": {}, **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1", np.ones(6)),
        ("-age ** 2 / 100", -(STUDY["age"] ** 2) / 100),
        ("1 + 2 * (visit == 'second')", 1.0 + 2 * (STUDY["visit"] == "second")),
        ("(age > 20) & (visit == 'first') | (age < 21)", [1, 0, 1, 0, 1, 0]),
        ("age > 20 and not visit == 'first'", [0, 1, 0, 1, 0, 1]),
        ("`age` - +20.5", STUDY["age"] - 20.5),
    ],
)
def test_expressions_over_the_columns(expression, expected):
    np.testing.assert_allclose(simulated._value(STUDY, expression, "effects"), np.asarray(expected, float))


@pytest.mark.parametrize(
    "expression",
    [
        "age.sum()",
        "@pd.io",
        "__import__('os')",
        "age[0]",
        "'a' * 10**9",
        "lambda: 1",
        "age if age else 1",
        "(" * 500,
        "",
        "[age]",
    ],
)
def test_expressions_are_no_code(expression):
    with pytest.raises(InputError, match=r"'effects'.*sums, products, powers and comparisons"):
        simulated._value(STUDY, expression, "effects")
