import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from numbaglm import datasets
from numbaglm.data.geometry import Geometry
from numbaglm.errors import InputError, MissingExtraError, NumbaglmError, OutputError, OutputExistsError

MOTOR_RIGHT, MOTOR_LEFT = [38, -24, 58], [-38, -24, 58]
CEREBELLUM_RIGHT, CEREBELLUM_LEFT = [20, -52, -24], [-20, -52, -24]


def read(cohort):
    return np.stack([nib.load(path).get_fdata(dtype=np.float32)[cohort.geometry.mask] for path in cohort.maps])


def test_the_mask_is_a_brain_around_its_commissure():
    geometry = datasets.brain_geometry()
    assert geometry.shape == (61, 73, 61)
    assert 44_000 <= geometry.n_voxels <= 46_000
    assert np.array_equal(geometry.mask, geometry.mask[::-1])
    assert np.linalg.solve(geometry.affine, [0, 0, 0, 1])[:3].tolist() == [30, 42, 24]
    coarse = datasets.brain_geometry(6.0)
    assert coarse.n_voxels * 8 == pytest.approx(geometry.n_voxels, rel=0.05)


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
    save_image = datasets.save_image

    def disk_fills_up(image, path):
        if Path(path).name.startswith("sub-02"):
            raise OSError(28, "No space left on device")
        return save_image(image, path)

    monkeypatch.setattr(datasets, "save_image", disk_fills_up)
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


def test_noise_has_unit_variance_and_the_smoothness_asked_for():
    geometry = Geometry(np.ones((40, 40, 40), bool), np.diag([3.0, 3.0, 4.0, 1.0]))
    maps = datasets.simulate_maps(geometry, 3, seed=1, fwhm=9.0)
    assert maps.shape == (3, 64_000)
    assert maps.dtype == np.float32
    assert maps.var() == pytest.approx(1.0, abs=0.04)
    volume = maps.reshape(3, 40, 40, 40)
    # Two points d apart in noise smoothed by a Gaussian of sigma correlate exp(-d^2 / (4 sigma^2)).
    sigma = 9.0 / 2.3548
    for axis, step in ((1, 3.0), (3, 4.0)):
        correlation = (volume * np.roll(volume, 1, axis=axis)).mean()
        assert correlation == pytest.approx(np.exp(-((step / (2 * sigma)) ** 2)), abs=0.04)


def test_an_effect_is_added_to_the_noise():
    geometry = Geometry(np.ones((4, 4, 4), bool), np.eye(4))
    effect = np.arange(64.0)
    noise = datasets.simulate_maps(geometry, 2, seed=5)
    np.testing.assert_allclose(datasets.simulate_maps(geometry, 2, seed=5, effect=effect), noise + effect, rtol=1e-5)


def test_the_localizer_is_what_nilearn_fetched(monkeypatch):
    def fetch(contrasts, n_subjects, verbose):
        assert contrasts == ["left vs right button press"]
        return {"cmaps": [f"/data/S{i:02d}/cmaps.nii.gz" for i in range(1, n_subjects + 1)]}

    monkeypatch.setitem(sys.modules, "nilearn.datasets", SimpleNamespace(fetch_localizer_contrasts=fetch))
    cohort = datasets.fetch_localizer(3)
    assert cohort.subjects == ("sub-S01", "sub-S02", "sub-S03")
    assert cohort.maps[2] == Path("/data/S03/cmaps.nii.gz")
    with pytest.raises(InputError, match="'n_subjects'"):
        datasets.fetch_localizer(95)


def test_the_localizer_without_nilearn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "numbaglm\[nilearn\]"'):
        datasets.fetch_localizer(2)


def test_the_localizer_without_a_network_is_one_sentence(monkeypatch):
    def fetch(*args, **kwargs):
        raise ConnectionError("HTTPSConnectionPool(host='osf.io', port=443): Max retries exceeded")

    monkeypatch.setitem(sys.modules, "nilearn.datasets", SimpleNamespace(fetch_localizer_contrasts=fetch))
    with pytest.raises(NumbaglmError, match="could not be downloaded") as caught:
        datasets.fetch_localizer(2)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "\n" not in str(caught.value)
