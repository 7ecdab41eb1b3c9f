from __future__ import annotations

import dataclasses
import os
import pickle

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm import PermutationResult, permutation_test
from numbaglm.cohort import Cohort
from numbaglm.errors import InputError, MissingFileError, OutputError, OutputExistsError, UnknownNameError


@pytest.fixture(scope="module")
def result(as_cohort):
    rng = np.random.default_rng(0)
    mask = rng.random((6, 5, 7)) < 0.8
    Y = rng.normal(size=(9, mask.sum())) + 0.5
    design = pd.DataFrame({"x": rng.normal(size=9), "intercept": 1.0})
    return permutation_test(
        as_cohort(Y, mask, report=["a sentence"]),
        design,
        "intercept",
        n_perm=np.int64(99),
        seed=np.int32(3),
        cluster_forming_threshold=("t", np.float32(2.0)),
        tfce=True,
    )


@pytest.fixture(scope="module")
def f_result(as_cohort):
    Y = np.random.default_rng(0).normal(size=(6, 8))
    design = pd.DataFrame({"x": np.arange(6.0), "intercept": 1.0})
    return permutation_test(
        as_cohort(Y), design, np.eye(2), n_perm=20, errors="ise", cluster_forming_threshold=("f", 1e6)
    )


def assert_equal(one, other):
    assert list(one.maps) == list(other.maps)
    for mine, theirs in ((one.maps, other.maps), (one.h0, other.h0)):
        assert list(mine) == list(theirs)
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(mine[name], theirs[name], strict=True)
    assert list(one.clusters.columns) == list(other.clusters.columns)
    pd.testing.assert_frame_equal(one.clusters, other.clusters, check_exact=True)
    np.testing.assert_array_equal(one.geometry.mask, other.geometry.mask)
    np.testing.assert_array_equal(one.geometry.affine, other.geometry.affine)
    assert one.provenance == other.provenance


def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path, result):
    folder = result.save(tmp_path / "deep" / "out")
    assert folder == tmp_path / "deep" / "out"
    assert_equal(PermutationResult.load(folder), result)
    assert len(result.clusters) > 1
    assert sorted(folder.parent.iterdir()) == [folder], "nothing is left beside it"


def test_an_f_test_without_clusters_is_loaded_too(tmp_path, f_result):
    assert len(f_result.clusters) == 0
    loaded = PermutationResult.load(f_result.save(tmp_path / "out"))
    pd.testing.assert_frame_equal(loaded.clusters, f_result.clusters)
    assert (loaded.clusters["size_voxels"].dtype, loaded.clusters["p_fwe_size"].dtype) == (np.int64, np.float64)
    assert loaded.maps["effect"].shape == (2, 8)
    np.testing.assert_array_equal(loaded.h0["max_f"], f_result.h0["max_f"])
    assert f_result.statistic == loaded.statistic == "f"
    assert f_result.to_nifti("effect").shape == (8, 1, 1, 2)


def test_parametric_results_are_saved_too(tmp_path, as_cohort):
    result = permutation_test(as_cohort(np.random.default_rng(0).normal(size=(6, 4))), n_perm=0)
    assert dict(result.h0) == {}
    assert_equal(PermutationResult.load(result.save(tmp_path / "out")), result)


def test_results_can_be_pickled(result):
    assert_equal(pickle.loads(pickle.dumps(result)), result)


def test_maps_on_disk_are_those_in_memory(tmp_path, result):
    folder = result.save(tmp_path / "out")
    mask = result.geometry.mask
    for name in result.maps:
        image = nib.load(folder / f"{name}.nii.gz")
        np.testing.assert_array_equal(image.affine, result.geometry.affine)
        values = image.get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(values[mask], result.maps[name].astype(np.float32))
        assert np.unique(values[~mask]).tolist() == [1.0 if name.startswith("p_") else 0.0]
    table = pd.read_csv(folder / "clusters.tsv", sep="\t")
    pd.testing.assert_frame_equal(table, result.clusters)
    nulls = pd.read_csv(folder / "nulls.tsv", sep="\t")
    for name, null in result.h0.items():
        np.testing.assert_allclose(nulls[name], null, rtol=1e-14)
    np.testing.assert_array_equal(nib.load(folder / "mask.nii.gz").get_fdata() > 0, mask)


def test_logp_maps(result):
    names = [name for name in result.maps if name.startswith("p_")]
    by_shuffling = {"p_unc", "p_fdr", "p_fwe_voxel", "p_fwe_size", "p_fwe_mass", "p_fwe_tfce"}
    assert by_shuffling | {"p_parametric", "p_fdr_parametric", "p_bonferroni"} == set(names)
    for name in names:
        p, logp = result.maps[name], result.maps[f"log{name}"]
        assert (p > 0).all()
        assert (p <= 1).all()
        np.testing.assert_allclose(logp, -np.log10(p), atol=1e-15)
        assert np.isfinite(logp).all()
    assert len(result.maps) == len(list(result.maps))
    with pytest.raises(KeyError, match=r"^There is no map 'logp_x'.*'p_unc'"):
        result.maps["logp_x"]
    with pytest.raises(UnknownNameError, match=r"^There is no map 'T'. There are \['t'"):
        result.to_nifti("T")
    with pytest.raises(UnknownNameError, match=r"^There is no null 'max_x'. There are \['max_t'"):
        result.critical("max_x")


def test_the_parts_fit_together(result):
    n = result.provenance["n_shufflings"]
    assert (n, result.provenance["n_perm"], result.provenance["seed"]) == (100, 99, 3)
    nulls = ("max_t", "max_size", "max_mass", "max_tfce")
    assert {name: null.shape for name, null in result.h0.items()} == dict.fromkeys(nulls, (n,))
    maps, clusters = result.maps, result.clusters
    assert result.h0["max_t"][0] == np.abs(maps["t"]).max()
    assert result.h0["max_tfce"][0] == pytest.approx(np.abs(maps["tfce"]).max(), rel=1e-5)
    assert result.h0["max_size"][0] == clusters["size_voxels"].max()
    assert result.h0["max_mass"][0] == pytest.approx(clusters["mass"].max())
    assert clusters["cluster"].tolist() == list(range(1, len(clusters) + 1))
    assert (clusters["size_voxels"].diff().dropna() <= 0).all()
    np.testing.assert_allclose(clusters["size_mm3"], 27.0 * clusters["size_voxels"])
    np.testing.assert_array_equal(np.sign(maps["tfce"]), np.sign(maps["t"]))
    np.testing.assert_array_equal(np.sign(maps["z"]), np.sign(maps["t"]))
    assert (maps["p_fwe_voxel"] >= maps["p_unc"]).all()
    assert result.provenance["left_out"] == ["a sentence"]
    volume = result.geometry.unmask(maps["t"])
    for row in clusters.itertuples():
        i, j, k = np.round(np.array([row.peak_x, row.peak_y, row.peak_z]) / 3).astype(int)
        assert volume[i, j, k] == row.peak_stat
        assert (row.sign == "-") == (row.peak_stat < 0)
        assert result.geometry.unmask(maps["p_fwe_size"], 1)[i, j, k] == row.p_fwe_size
        assert result.geometry.unmask(maps["p_fwe_mass"], 1)[i, j, k] == row.p_fwe_mass
        assert result.geometry.unmask(maps["p_fwe_voxel"], 1)[i, j, k] == row.p_fwe_voxel


def with_nulls(result, **nulls):
    return dataclasses.replace(result, h0={name: np.asarray(null) for name, null in nulls.items()})


def test_critical_values(result):
    twenty = with_nulls(result, max_t=np.arange(20.0)[::-1])
    assert twenty.critical("max_t") == 18.0
    assert twenty.critical("max_t", 0.1) == 17.0
    assert twenty.critical("max_t", 0.04) == np.inf
    # Equal values pass it together or not at all: extents tie, flips of all signs tie under |t|.
    assert with_nulls(result, max_size=[5, 5, 5, 4]).critical("max_size", 0.5) == 5
    assert with_nulls(result, max_size=[7, 5, 5, 4]).critical("max_size", 0.5) == 5
    assert with_nulls(result, max_t=[3.0, 2.0, 2.0, 1.0]).critical("max_t", 0.25) == 2.0
    for alpha in (0.05, 0.2, 0.5):
        expected = np.abs(result.maps["t"]) > result.critical("max_t", alpha)
        np.testing.assert_array_equal(result.maps["p_fwe_voxel"] <= alpha, expected)


def test_the_critical_value_of_a_least_p_is_small(result):
    least = with_nulls(result, min_p_size=np.arange(1, 101) / 100)  # 0.01 to 1
    assert least.critical("min_p_size", 0.05) == 0.06, "5 of 100 are below"
    assert least.critical("min_p_size", 0.001) == 0, "no p is"


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 5, "0.05", None])
def test_bad_alpha(result, alpha):
    with pytest.raises(InputError, match="'alpha'"):
        result.critical("max_t", alpha)


def test_what_is_no_name_is_told_by_what_it_is(result):
    values = np.zeros(result.geometry.n_voxels)
    calls = {
        "A map is asked for by its name, not by a ndarray": (result.to_nifti, result.to_image, result.maps.__getitem__),
        "A null is asked for by its name, not by a ndarray": (result.critical,),
        "'kind': got 'a ndarray'": (result.sequential_p,),
        "'save': got 'a ndarray'.*by name=": (result.plot,),
        "'folder': got 'a ndarray'": (PermutationResult.load,),
    }
    for message, methods in calls.items():
        for method in methods:
            with pytest.raises((InputError, UnknownNameError), match=message):
                method(values)


def test_results_are_frozen(result):
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.maps = {}
    with pytest.raises(TypeError):
        result.maps["t"] = np.zeros(3)
    with pytest.raises(TypeError):
        result.h0["max_t"] = np.zeros(3)
    with pytest.raises(TypeError):
        result.provenance["seed"] = 4
    for values in (*result.maps.stored.values(), *result.h0.values()):
        with pytest.raises(ValueError, match="read-only"):
            values[..., 0] = 1


def test_summaries(result, f_result):
    for text in (result.summary(), repr(result)):
        assert "intercept" in text
        assert "9 subjects" in text
        assert "100 shufflings" in text
        assert "voxels with FWE p <= 0.05" in text
        assert "by TFCE" in text
    assert "(f > " in f_result.summary()


def test_an_existing_folder_is_left_alone(tmp_path, result):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="mine"):
            result.save(tmp_path / "mine", overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_result_is_replaced_only_if_asked_to(tmp_path, result, f_result):
    result.save(tmp_path / "out")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        f_result.save(tmp_path / "out")
    assert_equal(PermutationResult.load(tmp_path / "out"), result)
    f_result.save(tmp_path / "out", overwrite=True)
    assert PermutationResult.load(tmp_path / "out").statistic == "f"
    assert not (tmp_path / "out" / "tfce.nii.gz").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_place_below_a_file(tmp_path, result):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/out"):
        result.save(tmp_path / "file" / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_fills_leaves_what_was_there(tmp_path, monkeypatch, result, f_result, overwrite):
    if overwrite:
        f_result.save(tmp_path / "out")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match=r"(?s)out.*No space left"):
        result.save(tmp_path / "out", overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == (["out"] if overwrite else [])
    if overwrite:
        assert PermutationResult.load(tmp_path / "out").statistic == "f"


def test_an_image_that_cannot_be_written(tmp_path, monkeypatch, result):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        result.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_load(tmp_path):
    with pytest.raises(MissingFileError, match="no result in"):
        PermutationResult.load(tmp_path)


def test_the_map_of_clusters_is_the_table(tmp_path, result):
    labels, clusters = result.maps["clusters"], result.clusters
    assert np.unique(labels).tolist() == [0, *clusters["cluster"]]
    assert np.bincount(labels)[1:].tolist() == clusters["size_voxels"].tolist()
    np.testing.assert_array_equal(labels > 0, result.maps["size"] > 0)
    for row in clusters.itertuples():
        inside = labels == row.cluster
        assert set(result.maps["p_fwe_size"][inside]) == {row.p_fwe_size}
        assert np.abs(result.maps["t"][inside]).max() == abs(row.peak_stat)
    volume = nib.load(result.save(tmp_path / "out") / "clusters.nii.gz").get_fdata()
    np.testing.assert_array_equal(volume, result.geometry.unmask(labels))


def test_a_map_that_has_no_name_is_not_written(tmp_path, result):
    odd = dataclasses.replace(result, maps={**result.maps.stored, "../../x": result.maps["t"]})
    with pytest.raises(UnknownNameError, match=r"'../../x'"):
        odd.save(tmp_path / "deep" / "out")
    assert list(tmp_path.iterdir()) == []


def test_two_that_save_to_one_new_folder_are_told_apart(tmp_path, monkeypatch, result, f_result):
    """One result is whole there; the other save is refused, though the place was free when it began."""
    write = type(result).write

    def slowly(one, folder):
        write(one, folder)
        if not (tmp_path / "out").exists():
            monkeypatch.setattr(type(result), "write", write)
            f_result.save(tmp_path / "out")

    monkeypatch.setattr(type(result), "write", slowly)
    with pytest.raises(OutputExistsError, match="out"):
        result.save(tmp_path / "out")
    assert PermutationResult.load(tmp_path / "out").statistic == "f"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("name", "intent", "told"),
    [
        ("t", ("t test", (7.0,)), "t"),
        ("z", ("z score", ()), "z"),
        ("p_fwe_voxel", ("p value", ()), "p, FWE: maximum statistic"),
        ("logp_fwe_voxel", ("log10 p value", ()), "-log10 p, FWE: maximum statistic"),
        ("effect", ("estimate", ()), "effect"),
        ("clusters", ("label", ()), "cluster"),
    ],
)
def test_headers_say_what_values_are(result, name, intent, told):
    header = result.to_nifti(name).header
    assert header.get_intent()[:2] == intent
    assert bytes(header["descrip"]).rstrip(b"\0").decode() == told
    assert header["cal_max"] == np.float32(np.abs(result.maps[name]).max())
    assert header["cal_min"] == (-header["cal_max"] if result.maps[name].min() < 0 else 0)


def test_headers_have_the_degrees_of_freedom_of_f(tmp_path, f_result):
    header = nib.load(f_result.save(tmp_path / "out") / "f.nii.gz").header
    assert header.get_intent()[:2] == ("f test", (2.0, 4.0))


def test_a_notebook_shows_the_summary_and_the_largest_clusters(result):
    shown = result._repr_html_()
    assert "<b>intercept: " in shown
    assert shown.count("<tr") == 1 + min(5, len(result.clusters))
    odd = dataclasses.replace(
        result, provenance={**result.provenance, "contrast": {**result.provenance["contrast"], "name": "<script>"}}
    )
    assert "<script>" not in odd._repr_html_()


@pytest.mark.parametrize("resample", [False, True])
@pytest.mark.parametrize(("codes", "kept"), [((4, 4), (4, 4)), ((3, 0), (3, 0)), ((0, 1), (1, 1)), ((0, 0), (2, 0))])
def test_the_space_of_the_maps_is_that_of_the_results(tmp_path, codes, kept, resample):
    rng, affine = np.random.default_rng(0), np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = 4.5, -4.5, -4.5  # where an image without codes lies
    maps = []
    for number in range(6):
        image = nib.Nifti1Image(rng.normal(size=(4, 4, 4)).astype(np.float32), affine)
        image.set_sform(affine, codes[0])
        image.set_qform(affine, codes[1])
        nib.save(image, tmp_path / f"{number}.nii")
        maps.append(tmp_path / f"{number}.nii")
    mask = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), nib.load(maps[0]).affine) if resample else None
    cohort = Cohort.create(tmp_path / "cohort.zarr", maps, mask, resample=resample)
    result = permutation_test(Cohort.open(tmp_path / "cohort.zarr"), n_perm=20, cluster_forming_threshold=None)
    assert cohort.geometry.codes == result.geometry.codes == kept
    loaded = PermutationResult.load(result.save(tmp_path / "out"))
    for header in (loaded.to_nifti("t").header, nib.load(tmp_path / "out" / "mask.nii.gz").header):
        assert (int(header["sform_code"]), int(header["qform_code"])) == kept
        np.testing.assert_allclose(header.get_best_affine(), result.geometry.affine, atol=1e-6)
