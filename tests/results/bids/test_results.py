import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm import Cohort, permutation_test, save_bids
from numbaglm.errors import ContrastError, InputError, OutputExistsError
from numbaglm.results.result import PermutationResult
from numbaglm.results.vocabulary import UNKNOWN
from reference.maps import AFFINE, volumes
from reference.meshes import icosphere

LEGAL = re.compile(
    r"(task-[0-9a-zA-Z]+_)?(space-[0-9a-zA-Z]+_)?contrast-[0-9a-zA-Z]+"
    r"(_stat-[0-9a-zA-Z]+(_desc-[0-9a-zA-Z]+)?_statmap\.(nii\.gz|json)|(_desc-clusters_dseg|_mask)\.(nii\.gz|json)"
    r"|_(clusters|nulls|design)\.(tsv|json))"
)


@pytest.fixture(scope="module")
def results():
    """Two contrasts of one model, tested with everything there is."""
    values = volumes(8)
    values[:, 2:4, 2:4, 2] += 3.0
    images = [nib.Nifti1Image(volume, AFFINE) for volume in values]
    design = pd.DataFrame({"age": np.linspace(-1, 1, 8), "intercept": 1.0})
    contrasts = {"mean effect": "intercept", "age; all": ["age", "intercept"]}
    options = {"tfce": True, "n_perm": 100, "p_interval": 0.9, "tail": "gamma", "cluster_forming_threshold": 0.01}
    return permutation_test(images, design, contrasts, **options)


def test_results_are_a_derivatives_dataset(results, tmp_path):
    folder = save_bids(results, tmp_path / "out", {"task": "emo", "space": "MNI", "contrast": "yVsN"})
    assert json.loads((folder / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".bidsignore",
        "README.md",
        "dataset_description.json",
        "group",
        "numbaglm",
    ]
    # What BIDS has no names for is ignored by its validator, by the names of whole folders: it knows no other way.
    assert {"group", "numbaglm", "figures"} < set((folder / ".bidsignore").read_text().split())
    names = sorted(path.name for path in (folder / "group").iterdir())
    assert all(LEGAL.fullmatch(name) for name in names)
    # A sidecar for each file, and a file for each sidecar.
    stems = [name.partition(".") for name in names]
    assert {stem for stem, _, end in stems if end == "json"} == {stem for stem, _, end in stems if end != "json"}
    for name, result in results.items():
        stem = f"task-emo_space-MNI_contrast-{'meanEffect' if result.statistic == 't' else 'ageAll'}"
        n_maps = sum(1 for one in names if one.startswith(stem) and one.endswith("_statmap.nii.gz"))
        assert n_maps == len(result.maps) - 1  # numbers of clusters are no statistic
        numbered = nib.load(folder / "group" / f"{stem}_desc-clusters_dseg.nii.gz").get_fdata()
        np.testing.assert_array_equal(numbered[result.geometry.mask], result.maps["clusters"])
        told = json.loads((folder / "group" / f"{stem}_stat-p_desc-fweVoxel_statmap.json").read_text())
        assert (told["Contrast"], told["Seed"], told["FirstLevelContrast"]) == (name, 0, "yVsN")
        assert (told["NumberOfShufflings"], told["NumberOfSubjects"]) == (101, 8)
        assert told["MultipleComparisonCorrection"] == "family-wise error"
        saved = nib.load(folder / "group" / f"{stem}_stat-p_desc-fweVoxel_statmap.nii.gz")
        np.testing.assert_array_equal(saved.get_fdata(), result.to_nifti("p_fwe_voxel").get_fdata())
        clusters = pd.read_csv(folder / "group" / f"{stem}_clusters.tsv", sep="\t")
        assert list(clusters) == list(result.clusters)
        assert set(json.loads((folder / "group" / f"{stem}_clusters.json").read_text())) == set(clusters)
        assert set(json.loads((folder / "group" / f"{stem}_nulls.json").read_text())) == set(result.h0)
        design = pd.read_csv(folder / "group" / f"{stem}_design.tsv", sep="\t")
        assert list(design) == ["participant_id", "age", "intercept"]
        kept = PermutationResult.load(folder / "numbaglm" / stem.removeprefix("task-emo_space-MNI_"))
        np.testing.assert_array_equal(kept.maps["z"], result.maps["z"])
    for sidecar in (folder / "group").glob("*_statmap.json"):
        assert UNKNOWN not in sidecar.read_text()
    variance = nib.load(folder / "group" / "task-emo_space-MNI_contrast-meanEffect_stat-variance_statmap.nii.gz")
    error = results["mean effect"].to_nifti("effect_se").get_fdata()
    np.testing.assert_allclose(variance.get_fdata(), error**2, rtol=1e-6)
    assert json.loads((folder / "numbaglm" / "contrasts.json").read_text()) == {
        "meanEffect": "mean effect",
        "ageAll": "age; all",
    }


def test_nilearn_understands_the_names(results, tmp_path):
    parse = pytest.importorskip("nilearn.interfaces.bids").parse_bids_filename
    folder = save_bids(results["mean effect"], tmp_path / "out", {"task": "emo"})
    for path in (folder / "group").glob("*_statmap.nii.gz"):
        entities = parse(path)["entities"]
        assert (entities["task"], entities["contrast"]) == ("emo", "meanEffect")
        assert "stat" in entities


def test_what_can_not_be_written_as_bids(results, tmp_path):
    one = results["mean effect"]
    provenance = {**one.provenance, "contrast": {**one.provenance["contrast"], "name": "mean: effect"}}
    other = PermutationResult(one.maps, one.h0, one.clusters, one.geometry, provenance)
    with pytest.raises(ContrastError, match="have the same BIDS label"):
        save_bids({"a": one, "b": other}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    for entities in ({"task": "a-b"}, {"task": "a_b"}, {"run": "1"}):
        with pytest.raises(InputError, match="entities"):
            save_bids(one, tmp_path / "out", entities)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "dataset_description.json").write_text("{}")
    with pytest.raises(OutputExistsError, match="left alone"):
        save_bids(one, tmp_path / "raw", overwrite=True)
    save_bids(one, tmp_path / "out")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        save_bids(one, tmp_path / "out")
    save_bids(results, tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out" / "numbaglm").iterdir())) == 3


def on_surfaces():
    rng = np.random.default_rng(0)
    meshes = {side: icosphere(3, seed=seed) for seed, side in enumerate(("left", "right"))}
    return Cohort.from_maps({side: rng.normal(0.5, 1, (8, 642)) for side in meshes}, surfaces=meshes)


def test_hemispheres_have_files_of_their_own(tmp_path):
    result = permutation_test(on_surfaces(), n_perm=50, cluster_forming_threshold=0.05)
    folder = save_bids(result, tmp_path / "out", {"task": "emo", "space": "fsLR"})
    group, stem = folder / "group", "space-fsLR_den-642_contrast-intercept"
    for side, hemi in (("left", "L"), ("right", "R")):
        path = group / f"task-emo_hemi-{hemi}_{stem}_stat-t_statmap.func.gii"
        expected = result.to_image("t")[side].darrays[0].data
        np.testing.assert_array_equal(nib.load(path).darrays[0].data, expected)
        told = json.loads(path.with_name(path.name.replace("func.gii", "json")).read_text())
        assert (told["Contrast"], told["NumberOfVoxels"]) == ("intercept", 1284)
        assert (group / f"task-emo_hemi-{hemi}_{stem}_mask.func.gii").exists()
        assert (group / f"task-emo_hemi-{hemi}_{stem}_stat-variance_statmap.func.gii").exists()
    clusters = pd.read_csv(group / f"task-emo_{stem}_clusters.tsv", sep="\t", keep_default_na=False)
    assert clusters["structure"].tolist() == result.clusters["structure"].tolist()
    assert not [path for path in group.iterdir() if "not described" in path.read_text(errors="ignore")]
    kept = PermutationResult.load(folder / "numbaglm" / "contrast-intercept")
    np.testing.assert_array_equal(kept.maps["z"], result.maps["z"])


def test_a_network_is_a_matrix_there_too(tmp_path):
    matrices = np.random.default_rng(0).normal(size=(8, 5, 5)) + 1.0
    cohort = Cohort.from_maps(matrices + matrices.transpose(0, 2, 1), space="network", nodes=list("abcde"))
    result = permutation_test(cohort, n_perm=50, cluster_forming_threshold=0.05)
    group = save_bids(result, tmp_path / "out") / "group"
    found = pd.read_csv(group / "contrast-intercept_stat-t_statmap.tsv", sep="\t", index_col=0)
    pd.testing.assert_frame_equal(found, result.to_image("t"), check_dtype=False, rtol=1e-5)
    labels = pd.read_csv(group / "contrast-intercept_desc-clusters_dseg.tsv", sep="\t", index_col=0)
    assert labels.to_numpy().max() == len(result.clusters)
    assert len(pd.read_csv(group / "contrast-intercept_clusters.tsv", sep="\t")) == len(result.clusters)
