import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.cohort import Cohort
from numbaglm.faces.commands import commands
from numbaglm.inference.permutation_test import permutation_test
from numbaglm.results.result import PermutationResult
from numbaglm.results.vocabulary import UNKNOWN
from numbaglm.stats.variance.covariance import Sandwich
from reference.command_line import run
from reference.maps import AFFINE, volumes, write_maps

N = 10
LABELS = [f"sub-{number:02d}" for number in range(1, N + 1)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with ten maps, an effect of age and of group in them, and a table of covariates."""
    monkeypatch.chdir(tmp_path)
    values = volumes(N)
    age = np.arange(20.0, 20.0 + N)
    values[:, 2, 3, 2] += 0.5 * (age - age.mean())
    values[: N // 2, 3, 3, 2] += 4.0
    write_maps(tmp_path / "maps", values)
    table = pd.DataFrame({"participant_id": LABELS, "age": age, "group": ["patient"] * 5 + ["control"] * 5})
    # In another order than the maps: rows are matched by label.
    table.iloc[::-1].to_csv("participants.tsv", sep="\t", index=False)
    return tmp_path


@pytest.fixture
def maps(place):
    return sorted((place / "maps").glob("*.nii.gz"))


@pytest.fixture
def cohort(place, maps):
    run("convert", *maps, "--covariates", "participants.tsv", "--output", "cohort.zarr")
    return "cohort.zarr"


def test_subjects_are_added(place, maps, cohort):
    whole = json.loads(run("info", cohort, "--json")[0])
    run("convert", *maps[:7], "--covariates", "participants.tsv", "-o", "grows.zarr")
    message = run("append", "grows.zarr", *maps[7:], code=1)[1]
    assert "Invalid value for '--covariates': got 'no columns'." in message
    assert "Pass --covariates with a row for each new map." in message
    out, _ = run("append", "grows.zarr", *maps[7:], "--covariates", "participants.tsv", "--json")
    told = json.loads(out)
    assert (told["n_subjects"], told["n_voxels"]) == (N, whole["n_voxels"])
    found, expected = (Cohort.open(path) for path in ("grows.zarr", cohort))
    pd.testing.assert_frame_equal(found.covariates, expected.covariates)
    assert found.subjects == expected.subjects


def test_subjects_are_left_out_of_cohorts_files_and_modalities(place, maps, cohort):
    out = ["--model", "age", "--contrast", "age", "--n-perm", "20", "--leave-out", LABELS[3], "--leave-out", LABELS[8]]
    table, modalities = ["--covariates", "participants.tsv"], [f"a={cohort}", f"b={cohort}"]
    few = [one for row, one in enumerate(maps) if row not in (3, 8)]
    run("permute", *few, *table, *out[:6], "-o", "expected")
    expected = nib.load("expected/t.nii.gz").get_fdata()
    for name, given in (("cohort", [cohort]), ("files", [*maps, *table]), ("modalities", modalities)):
        run("permute", *given, *out, "-o", name)
        found = nib.load(f"{name}/{'a/' * (name == 'modalities')}t.nii.gz").get_fdata()
        np.testing.assert_array_equal(found, expected, err_msg=name)
    told = json.loads(run("quality", cohort, *out[6:], "--json")[0])
    assert told["n_subjects"] == N - 2
    run("convert", *maps, *table, "--layer", "same=maps/*.nii.gz", *out[6:], "-o", "few.zarr")
    assert Cohort.open("few.zarr").subjects == [one for row, one in enumerate(LABELS) if row not in (3, 8)]
    assert (
        "Invalid value for '--leave-out': got 'sub-x'"
        in run("permute", cohort, "--leave-out", "sub-x", "-o", "x", code=1)[1]
    )


def visible(folder):
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def explained(folder):
    """The README of an output folder, once every file is found to be in it."""
    text = (folder / "README.md").read_text()
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("- `")}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == listed
    assert UNKNOWN not in text
    return text


def test_convert_keeps_voxels_that_most_maps_hold_if_asked(place):
    values = volumes(N)
    values[0, 2, 2, 2] = 0
    maps = write_maps(place / "patchy", values)
    out, told = run("convert", *maps, "--min-coverage", "0.9", "--output", "c.zarr")
    assert "60 of a grid" in out
    assert "the voxels that at least 0.9 of the maps hold" in out
    assert "1 values (0.17% of the mask's) that maps lack at 1 of 60 mask voxels are taken as 0." in told
    assert "--min-coverage" in run("convert", *maps, "--min-coverage", "90", "--output", "d.zarr", code=2)[1]


def test_convert_keeps_what_is_missing_and_permute_tests_it(place):
    values = volumes(N)
    values[0, 2, 2, 2] = 0
    maps = write_maps(place / "patchy", values)
    _, told = run("convert", *maps, "--min-subjects", "0.9", "--output", "c.zarr")
    assert "1 values (0.17% of the mask's) are missing at 1 of 60 mask voxels" in told
    options = ["--n-perm", "100", "--cluster-forming-threshold", "none"]
    out, told = run("permute", "c.zarr", *options, "--output", "left")
    assert "59 voxels" in out
    assert "1 of 60 voxels are left out: not all maps have a value there." in told
    for name, given in (("of-cohort", ["c.zarr"]), ("of-maps", maps)):
        out, _ = run("permute", *given, *options, "--missing", "element", "--output", name)
        assert "60 voxels" in out
        assert (place / name / "n_subjects.nii.gz").exists()


def test_convert_stores_layers(place, maps):
    pattern = str(Path(maps[0]).parent / "*.nii*")
    options = ["--layer", f"again={pattern}", "--memory-limit", "4GB"]
    run("convert", *maps, *options, "--output", "c.zarr")
    store = Cohort.open("c.zarr").store
    assert store.layers == ("data", "again")
    np.testing.assert_array_equal(store.read(0, 50, "again"), store.read(0, 50))
    more = write_maps(place / "more", volumes(2, seed=9))
    new = [file.rename(file.with_name(f"new-{number}.nii.gz")) for number, file in enumerate(more)]
    run("append", "c.zarr", *new, "--layer", f"again={new[0].parent}/*", "--memory-limit", "4GB")
    assert Cohort.open("c.zarr").store.read_subjects(N, N + 2, "again").shape == (2, 60)
    assert "NAME=MAPS" in run("convert", *maps, "--layer", "again", "--output", "d.zarr", code=2)[1]
    assert (
        "No file matches nowhere-*" in run("convert", *maps, "--layer", "a=nowhere-*", "--output", "d.zarr", code=1)[1]
    )


def test_convert_resamples_if_asked(place, maps):
    other = write_maps(place / "other", volumes(1), affine=AFFINE + np.diag([0, 0, 1.0], 1))
    message = run("convert", *maps, *other, "--output", "c.zarr", code=1)[1]
    assert "Pass --resample to numbaglm convert" in message
    told = run("convert", *maps, *other, "--resample", "--output", "c.zarr")[1]
    assert "1 of 11 maps lie on another grid and are resampled, linearly" in told
    assert "are resampled, linearly" in run("info", "c.zarr")[0]


def test_convert_tells_what_is_kept_and_what_is_left_out(place, maps):
    hole = nib.load(maps[3])
    values = hole.get_fdata(dtype=np.float32)
    values[1:3, 1, 1] = np.nan
    nib.save(nib.Nifti1Image(values, hole.affine), maps[3])
    arguments = ["convert", *maps, "--smoothing-fwhm", "4", "--covariates", "participants.tsv", "--output"]
    out, err = run(*arguments, "c.zarr")
    assert "58 of a grid of 6 x 7 x 5" in out
    assert "age, group" in out
    assert "152 of 210 grid voxels are left out" in err
    assert "2 are NaN or infinite in at least one map" in err or "2 NaN or infinite in at least one map" in err
    # Once is enough; but somebody who wants no log still sees it.
    assert "left out" not in out
    out, err = run(*arguments, "again.zarr", "--quiet")
    assert "152 of 210 grid voxels are left out" in out
    assert err == ""


def test_info_and_verify_of_a_cohort(place, cohort):
    facts = json.loads(run("info", cohort, "--json")[0])
    assert (facts["n_subjects"], facts["n_voxels"]) == (N, 60)
    assert facts["covariates"] == ["age", "group"]
    assert facts["fingerprint"] in run("info", cohort)[0]
    assert json.loads(run("verify", cohort, "--json")[0])["intact"] is True
    chunk = next((place / cohort / "data" / "c").rglob("0"))
    chunk = chunk if chunk.is_file() else next(path for path in chunk.rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"scrambled")
    assert "is damaged" in run("verify", cohort, code=1)[1]


@pytest.mark.parametrize("kind", ["files", "4D", "txt", "tsv"])
def test_maps_in_every_form_are_the_same_cohort(place, maps, kind):
    (place / "lists").mkdir()
    if kind == "files":
        arguments = maps
    elif kind == "4D":
        nib.save(nib.concat_images([str(path) for path in maps]), "all.nii.gz")
        arguments = ["all.nii.gz"]
    else:
        # Relative to the list's folder, not to the folder the command is called from.
        paths = [f"../maps/{path.name}" for path in maps]
        table = pd.DataFrame({"subject_label": LABELS, "effects_map_path": paths})
        table.to_csv("lists/maps.tsv", sep="\t", index=False)
        (place / "lists" / "maps.txt").write_text("# ours\n" + "\n".join(paths) + "\n")
        arguments = [f"lists/maps.{kind}"]
    out, _ = run("convert", *arguments, "--output", "c.zarr", "--json")
    run("convert", *maps, "--output", "reference.zarr")
    assert json.loads(out)["fingerprint"] == json.loads(run("info", "reference.zarr", "--json")[0])["fingerprint"]


def test_fit_writes_the_maps_of_the_model(place, cohort):
    out, _ = run("fit", cohort, "--model", "age", "--output", "fit", "--json")
    summary = json.loads(out)
    assert (summary["contrast"], summary["statistic"], summary["dof"]) == ("age", "t", N - 2)
    t, p = (nib.load(f"fit/{name}.nii.gz").get_fdata() for name in ("t", "p_parametric"))
    assert np.unravel_index(np.argmax(t), t.shape) == (2, 3, 2)
    assert summary["maximum"] == pytest.approx(t.max(), rel=1e-6)
    assert p.min() > 0
    assert p[0, 0, 0] == 1
    # The straight way: a regression at the peak.
    maps = [nib.load(path).get_fdata()[2, 3, 2] for path in sorted((place / "maps").iterdir())]
    slope, residual = np.polyfit(np.arange(N), maps, 1, full=True)[:2]
    error = np.sqrt(residual[0] / (N - 2) / np.sum((np.arange(N) - 4.5) ** 2))
    assert t.max() == pytest.approx(slope[0] / error, rel=1e-4)
    assert "largest t" in explained(place / "fit")
    assert json.loads(run("info", "fit", "--json")[0]) == {k: v for k, v in summary.items() if k != "output"}
    assert run("info", "fit")[0].strip() in explained(place / "fit")
    assert (place / "fit" / "figures" / "design.png").is_file()


def test_permute_writes_a_result_that_loads(place, cohort):
    arguments = ["--model", "age", "--n-perm", "200", "--cluster-forming-threshold", "t:3"]
    out, err = run("permute", cohort, *arguments, "--output", "out", "--json")
    summary = json.loads(out)
    result = PermutationResult.load("out")
    assert summary["n_shufflings"] == len(result.h0["max_t"]) == 201
    assert summary["cluster_forming_statistic"] == pytest.approx(3.0)
    assert summary["n_fwe_0.05"]["voxel"] == np.sum(result.maps["p_fwe_voxel"] <= 0.05) > 0
    assert summary["clusters"][0]["peak_stat"] == pytest.approx(result.maps["t"].max())
    assert "permutations" in err
    assert "age: 60 voxels, 10 subjects" in explained(place / "out")
    assert {path.name for path in (place / "out" / "figures").iterdir()} == {
        "statistic.png",
        "corrected.png",
        "nulls.png",
        "design.png",
        "quality.png",
    }
    told, _ = run("info", "out")
    assert "Clusters, p corrected" in told
    assert json.loads(run("info", "out", "--json")[0])["seed"] == 0


def test_tails_and_intervals_are_explained(place, cohort):
    run("permute", cohort, "--n-perm", "150", "--tail", "pareto", "--p-interval", "0.9", "--tfce", "--output", "out")
    assert "`source_fwe_voxel.nii.gz`: where p_fwe_voxel comes from" in explained(place / "out")
    result = PermutationResult.load("out")
    assert (result.provenance["tail"], result.provenance["p_interval"]) == ("pareto", 0.9)
    assert {"p_unc_counted", "p_unc_lower", "p_fwe_tfce_upper"} < set(result.maps)
    assert "p_fwe_mass_upper" in result.clusters


def test_maps_and_their_cohort_give_the_same_result(place, maps, cohort):
    options = ["--model", "age", "--n-perm", "50", "--cluster-forming-threshold", "none"]
    run("permute", cohort, *options, "--output", "stored")
    run("permute", *maps, "--covariates", "participants.tsv", *options, "--output", "read")
    stored, read = PermutationResult.load("stored"), PermutationResult.load("read")
    np.testing.assert_array_equal(stored.h0["max_t"], read.h0["max_t"])
    assert "max_size" not in stored.h0


def test_groups_are_compared_by_the_values_of_a_column(place, cohort):
    options = ["--n-perm", "100", "--one-sided"]
    contrast = ["--contrast", "patient - control"]
    run("permute", cohort, "--model", "group", *contrast, *options, "--output", "by-name")
    result = PermutationResult.load("by-name")
    assert result.provenance["design"]["columns"] == ["control", "patient"]
    peak = result.geometry.ijk[np.argmax(result.maps["t"])]
    assert tuple(peak) == (3, 3, 2)
    design = pd.DataFrame({"patient": [1] * 5 + [0] * 5, "control": [0] * 5 + [1] * 5})
    design.to_csv("design.csv", index=False)
    run("permute", cohort, "--design", "design.csv", *contrast, *options, "--output", "by-file")
    run("permute", cohort, "--design", "~ group", "--contrast", "`group[patient]`", *options, "--output", "by-formula")
    for other in ("by-file", "by-formula"):
        np.testing.assert_allclose(PermutationResult.load(other).h0["max_t"], result.h0["max_t"], rtol=1e-5)


def test_semicolons_make_an_f_test(place, cohort):
    run("permute", cohort, "--model", "age", "--contrast", "age; intercept", "--n-perm", "50", "--output", "f")
    result = PermutationResult.load("f")
    assert result.statistic == "f"
    assert np.shape(result.provenance["contrast"]["weights"]) == (2, 2)
    run("fit", cohort, "--model", "age", "--contrast", "age; intercept", "--output", "fit")
    f = nib.load("fit/f.nii.gz").get_fdata()[result.geometry.mask]
    np.testing.assert_allclose(f, result.maps["f"], rtol=1e-5)


SEVERAL = ["--model", "age", "--n-perm", "60", "--contrast", "any=age; intercept", "--contrast", "age"]


def test_several_contrasts_have_a_folder_each(place, cohort):
    plan = json.loads(run("permute", cohort, *SEVERAL, "--output", "out", "--dry-run", "--json")[0])
    assert [len(one["ranges"]) for one in plan["contrasts"].values()] == [1, 1]
    told = json.loads(run("permute", cohort, *SEVERAL, "--output", "out", "--json")[0])
    assert visible(place / "out") == ["README.md", "age", "any", "contrasts.json"]
    alone = json.loads(run("permute", cohort, *SEVERAL[:4], "--contrast", "age", "--output", "alone", "--json")[0])
    assert told["contrasts"]["age"] == {**alone, "output": str(Path("out", "age"))}
    assert visible(place / "out" / "age") == visible(place / "alone")
    assert visible(place / "out" / "any" / "figures") == visible(place / "alone" / "figures")
    assert explained(place / "out" / "age") == explained(place / "alone")
    result = PermutationResult.load("out/any")
    assert (result.statistic, result.provenance["contrast"]["name"]) == ("f", "any")
    shown = json.loads(run("info", "out", "--json")[0])
    assert shown["contrasts"] == {name: json.loads(run("info", f"out/{name}", "--json")[0]) for name in ("age", "any")}
    text, _ = run("report", "out")
    assert "reports of 2 contrasts" in text
    page = (place / "out" / "report.html").read_text()
    assert '<a href="age/report.html">age</a>' in page
    assert '<a href="any/report.html">any</a>' in page
    assert all((place / "out" / name / "report.html").is_file() for name in ("age", "any"))
    assert (
        f"Or name one of {Path('out', 'age')}, {Path('out', 'any')}." in run("report", "out", "-o", "x.html", code=1)[1]
    )
    text, _ = run("permute", cohort, *SEVERAL, "--output", "out", "--overwrite")
    assert text.index("any: 60 voxels") < text.index("age: 60 voxels") < text.index("for each contrast: any, age.")


def test_a_test_ends_with_its_report(place, cohort):
    told = json.loads(run("permute", cohort, *SEVERAL, "--output", "out", "--report", "--json")[0])
    assert told["report"] == str(Path("out", "report.html"))
    assert told["contrasts"]["age"]["report"] == str(Path("out", "age", "report.html"))
    assert '<a href="age/report.html">age</a>' in (place / "out" / "report.html").read_text()
    assert "stand" in (place / "out" / "age" / "report.html").read_text(), "the quality of the maps is in it"
    assert "report.html" in explained(place / "out" / "age")
    text, _ = run("permute", cohort, *SEVERAL[:4], "--output", "one", "--report")
    assert text.endswith(f"The report is {Path('one', 'report.html')}; open it in a browser.\n")
    run("permute", cohort, *SEVERAL, "--bids", "--output", "set", "--report")
    assert (place / "set" / "numbaglm" / "contrast-any" / "report.html").is_file()
    assert 'href="numbaglm/contrast-any/report.html"' in (place / "set" / "report.html").read_text()
    usual = {one.name: one.default for one in commands.command_named("permute").params}
    assert usual["report"] is True


def test_clusters_are_named_after_an_atlas(place, cohort):
    options = ["--model", "age", "--n-perm", "40", "--cluster-forming-threshold", "0.2"]
    labels = np.ones(volumes(1)[0].shape, np.int16)
    nib.save(nib.Nifti1Image(labels, AFFINE), "atlas.nii.gz")
    Path("atlas.tsv").write_text("index\tname\n1\tthe head\n")
    out, _ = run("permute", cohort, *options, "--atlas", "atlas.nii.gz", "--report", "-o", "out")
    assert "the head" in out
    assert set(pd.read_csv("out/clusters.tsv", sep="\t")["region"]) == {"the head"}
    assert "the head 100 %" in (place / "out" / "report.html").read_text()
    told = run("permute", cohort, *options, "--atlas", "gone.nii.gz", "-o", "other", code=1)[1]
    assert "gone.nii.gz" in told


def test_p_are_corrected_over_contrasts_if_asked(place, cohort):
    options = ["--fwe-across-contrasts", "--contrast", "older=age", "--contrast", "younger=-age", "--one-sided"]
    out, _ = run("permute", cohort, "--model", "age", "--n-perm", "60", *options, "--output", "out")
    older, younger = (PermutationResult.load(f"out/{name}") for name in ("older", "younger"))
    np.testing.assert_array_equal(older.h0["max_z_contrasts"], younger.h0["max_z_contrasts"])
    n = np.sum(older.maps["p_fwe_voxel_contrasts"] <= 0.05)
    assert n > 0
    assert f"with FWE p <= 0.05 over all contrasts: {n} voxels, " in out
    found = json.loads((place / "out" / "contrasts.json").read_text())
    assert found["older"]["n_voxels_fwe_across_contrasts_0.05"]["voxel"] == n


def test_several_contrasts_are_one_bids_dataset(place, cohort):
    told = json.loads(run("permute", cohort, *SEVERAL, "--bids", "--output", "out", "--json")[0])
    assert {path.name.split("_")[0] for path in (place / "out" / "group").iterdir()} == {"contrast-age", "contrast-any"}
    assert visible(place / "out" / "figures") == ["contrast-age", "contrast-any"]
    assert PermutationResult.load(told["contrasts"]["any"]["output"]).statistic == "f"


def test_several_contrasts_appear_together_or_not_at_all(place, cohort, monkeypatch):
    from numbaglm.faces.cli import output

    draw = output.draw

    def breaks_at_the_second(result, folder):
        if result.statistic == "t":
            raise OSError(28, "No space left on device")
        draw(result, folder)

    monkeypatch.setattr("numbaglm.faces.cli.output.draw", breaks_at_the_second)
    before = visible(place)
    for more in ([], ["--bids"]):
        assert "No space left" in run("permute", cohort, *SEVERAL, *more, "--output", "new/out", "-q", code=1)[1]
        assert visible(place) == before


def test_an_equals_sign_in_a_column_is_no_name(place, cohort):
    design = pd.DataFrame({"sex=f": [1, 0] * 5, "sex=m": [0, 1] * 5, "age": np.arange(N)})
    design.to_csv("design.csv", index=False)
    contrasts = {"sex=f": "sex=f", "sex=f; age": "sex=f; age", "f=sex=f": "f", "f=`sex=f` - `sex=m`": "f"}
    contrasts["`sex=f` - `sex=m`"] = "`sex=f` - `sex=m`"
    for typed, name in contrasts.items():
        options = [
            "--design",
            "design.csv",
            "--contrast",
            typed,
            "--n-perm",
            "20",
            "--cluster-forming-threshold",
            "none",
        ]
        out, _ = run("permute", cohort, *options, "--output", "o", "--overwrite", "--json")
        assert json.loads(out)["contrast"] == name


@pytest.mark.parametrize(
    ("contrasts", "code", "message"),
    [
        (["age", "Age=intercept"], 1, "Two contrasts are named 'age' and 'Age', and each has a folder"),
        (["age", "con=intercept"], 1, "The contrast 'con' can't name a folder: Windows has a device of that name"),
        (["age", f"{'9' * 5000}=intercept"], 1, "can't name a folder"),
        (["age", "../x=intercept"], 1, "The contrast '../x' can't name a folder"),
        (["age", "2*age + intercept"], 1, "--contrast 'NAME=EXPR'"),
        (["age", "x" * 61 + "=intercept"], 1, "up to 60 letters"),
        (["age", "=intercept"], 1, "NAME=EXPR with a name before the '='"),
        (["--bids", "a b=intercept", "aB=age"], 1, "the same BIDS label 'aB'"),
        (["age", "--fwe-across-contrasts"], 2, "takes several contrasts: repeat --contrast"),
    ],
)  # fmt: skip
def test_names_of_contrasts_that_folders_cannot_have(place, cohort, contrasts, code, message, monkeypatch):
    monkeypatch.setattr(
        "numbaglm.inference.permutation_test.permutation_test", lambda *_, **__: pytest.fail("it went on")
    )
    options = [part for text in contrasts for part in ([text] if text.startswith("--") else ["--contrast", text])]
    _, err = run("permute", cohort, "--model", "age", *options, "--output", "new", code=code)
    assert message in err
    assert not (place / "new").exists()


def test_blocks_restrict_the_shufflings(place, cohort):
    site = pd.DataFrame({"site": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"]})
    site.to_csv("blocks.csv", index=False)
    out, _ = run(
        "permute", cohort, "--model", "age", "--blocks", "blocks.csv", "--n-perm", "20", "--output", "o", "--json"
    )
    assert "20 random ones of 32 distinct" in json.loads(out)["shuffling"]
    assert "within the exchangeability blocks" in json.loads(out)["shuffling"]


def test_shufflings_of_ones_own(place, cohort):
    rows = np.array([np.random.default_rng(k).permutation(10) for k in range(30)]) + 1
    np.savetxt("own.csv", rows, delimiter=",", fmt="%d")
    ask = ["permute", cohort, "--model", "age", "--shufflings", "own.csv", "--output", "own"]
    out, _ = run(*ask, "--json")
    assert json.loads(out)["n_shufflings"] == 31
    assert "of the user's own" in json.loads(out)["shuffling"]
    _, told = run(*ask, "--n-perm", "20", "--overwrite", code=1)
    assert "--shufflings is a set of shufflings as it is: it does not go with --n-perm 20" in told


def test_maps_depend_on_each_other_within_blocks(place, cohort):
    pd.DataFrame({"person": ["a", "b", "b", "c", "c", "c", "d", "e", "f", "f"]}).to_csv("people.csv", index=False)
    blocks = ["--blocks", "people.csv", "--covariance", "sandwich", "--n-perm", "100"]
    out, _ = run("permute", cohort, "--model", "age", *blocks, "-o", "c2", "--json")
    assert "all 64 distinct" in json.loads(out)["shuffling"]
    assert PermutationResult.load("c2").asked.sandwich == Sandwich("C2", "satterthwaite", "classic")
    run("permute", cohort, "--model", "age", *blocks, "--adjustment", "C3", "--dof", "naive", "-o", "c3")
    assert PermutationResult.load("c3").provenance["dof"] == 5
    pd.DataFrame({"visit": [0, 0, 1, 0, 1, 2, 1, 0, 0, 2]}).to_csv("visits.csv", index=False)
    shared = ["--estimator", "modified", "--visits", "visits.csv"]
    run("permute", cohort, "--model", "age", *blocks, *shared, "-o", "shared")
    assert PermutationResult.load("shared").asked.n_visits == 3
    wrong = run("permute", cohort, "--model", "age", *blocks, *shared[:2], "-o", "x", code=1)[1]
    assert "Invalid value for '--visits'" in wrong
    wrong = run("permute", cohort, "--model", "age", *blocks, "--block-scheme", "both", "-o", "x", code=1)[1]
    assert "Invalid value for '--block-scheme': got 'both'" in wrong
    wrong = run("permute", cohort, "--design", "~ age + (1 | person)", "-o", "x", code=1)[1]
    assert "give --covariance sandwich and, as --blocks, the person of each map" in wrong


def test_labels_are_columns_of_the_covariates(place, cohort):
    person, visit = ["a", "b", "b", "c", "c", "c", "d", "e", "f", "f"], [0, 0, 1, 0, 1, 2, 1, 0, 0, 2]
    told = {"participant_id": LABELS, "person": person, "visit": visit, "age": range(10)}
    told["twin"] = ["a1", "b1", "b1", "c1", "c1", "c2", "d1", "e1", "f1", "f2"]
    pd.DataFrame(told).iloc[::-1].to_csv("people.csv", index=False)
    ask = ["permute", cohort, "--covariates", "people.csv", "--model", "age", "--n-perm", "20", "--no-report"]
    shared = ["--covariance", "sandwich", "--estimator", "modified", "--visits", "visit"]
    run(*ask, "--blocks", "person", *shared, "-o", "o")
    found = PermutationResult.load("o")
    assert found.asked.n_visits == 3
    assert found.provenance["exchangeability_blocks"] == person
    mixed = ["--covariance", "binned-gls", "--effects", "family,subject,error", "--subjects", "twin"]
    run(*ask, "--blocks", "person", *mixed, "-o", "p")
    wrong = run(*ask, "--blocks", "persn", "-o", "x", code=1)[1]
    assert (
        "Invalid value for '--blocks': got 'persn'. Allowed: the path of a .tsv or .csv file, or a column of" in wrong
    )


def test_sessions_of_a_table_of_labels_are_no_level_of_it(maps):
    names = [f"sub-{k // 2}_ses-{k % 2 + 1}" for k in range(N)]
    pd.DataFrame({"subject_label": names, "effects_map_path": maps}).to_csv("maps.csv", index=False)
    family = ["a", "a", "b", "b", "c", "c", "d", "d", "d", "d"]
    rows = {"participant_id": [name[:5] for name in names], "session_id": [1, 2] * 5, "family": family}
    pd.DataFrame(rows).iloc[::-1].to_csv("families.csv", index=False)
    run("permute", "maps.csv", "--blocks", "families.csv", "--n-perm", "5", "--no-report", "-o", "o")
    assert PermutationResult.load("o").provenance["exchangeability_blocks"] == family


def test_a_mixed_model_of_families(place, cohort):
    people = pd.Series(["a1", "b1", "b1", "c1", "c1", "c2", "d1", "e1", "f1", "f2"])
    pd.DataFrame({"family": people.str[0]}).to_csv("families.csv", index=False)
    pd.DataFrame({"person": people}).to_csv("people.tsv", index=False)
    kinship = np.where(people.to_numpy()[:, None] == people.to_numpy(), 1.0, 0.5)
    kinship *= people.str[0].to_numpy()[:, None] == people.str[0].to_numpy()
    pd.DataFrame(kinship, columns=LABELS).to_csv("kinship.csv", index=False)
    asked = ["--blocks", "families.csv", "--covariance", "binned-gls", "--n-perm", "100"]
    out, _ = run("permute", cohort, "--model", "age", *asked, "-o", "families", "--json")
    assert "as a mixed model asks for" in json.loads(out)["shuffling"]
    more = ["--subjects", "people.tsv", "--kinship", "kinship.csv", "--effects", "kinship, subject,error"]
    run("permute", cohort, "--model", "age", *asked, *more, "--component-interval", "0.9", "-o", "kinship")
    one = PermutationResult.load("kinship")
    assert one.provenance["gls"] == {"effects": ["kinship", "subject", "error"], "bins": 20, "interval": 0.9}
    assert {"share_kinship", "share_subject_lower", "share_error_upper"} <= set(one.maps)
    wrong = run("permute", cohort, "--model", "age", *asked, "--effects", "twins", "-o", "x", code=1)[1]
    assert "Invalid value for '--effects'" in wrong


def test_blocks_may_be_a_file_of_palm(place, cohort):
    rows = [[1, 1 + k // 2, 1 + k % 2] for k in range(N)]
    (place / "eb.csv").write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    out, err = run("permute", cohort, "--model", "age", "--blocks", "eb.csv", "--n-perm", "20", "-o", "o", "--json")
    assert "eb.csv has no line of names" in err
    assert "along the tree of exchangeability blocks" in json.loads(out)["shuffling"]
    assert PermutationResult.load("o").provenance["exchangeability_blocks"] == rows


def test_variance_groups_methods_and_conventions(place, cohort):
    groups = pd.DataFrame({"participant_id": LABELS[::-1], "scanner": ["x", "y"] * 5})
    groups.to_csv("groups.tsv", sep="\t", index=False)
    run("permute", cohort, "--model", "age", "--variance-groups", "groups.tsv", "--n-perm", "20", "-o", "v")
    v = PermutationResult.load("v")
    assert v.statistic == "v"
    assert v.provenance["variance_groups"] == ["y", "x"] * 5
    options = ["--method", "draper-stoneman", "--conventions", "palm", "--n-perm", "20"]
    run("permute", cohort, "--model", "age", *options, "-o", "palm")
    asked = PermutationResult.load("palm").provenance
    assert (asked["method"], asked["conventions"]["name"]) == ("draper-stoneman", "palm")
    run("permute", cohort, "--variance-smoothing-fwhm", "6", "--n-perm", "20", "-o", "pseudo")
    assert PermutationResult.load("pseudo").provenance["variance_smoothing_fwhm"] == 6.0
    assert "'auto' with --blocks" in run("permute", cohort, "--variance-groups", "auto", "-o", "x", code=1)[1]


def test_layers_are_regressors(place, maps):
    rng = np.random.default_rng(4)
    grey = write_maps(place / "grey", [one + rng.normal(size=one.shape) for one in volumes(N, seed=3)])
    run("convert", *maps, "--layer", f"grey={grey[0].parent}/*", "--output", "c.zarr")
    options = ["--n-perm", "20", "--cluster-forming-threshold", "none"]
    run("permute", "c.zarr", "--regressor", "gm=grey", "--contrast", "gm", *options, "-o", "gm")
    result = PermutationResult.load("gm")
    assert result.provenance["regressors"] == {"gm": "grey"}
    assert result.provenance["errors"] == "ee"
    assert result.asked.weights.tolist() == [[0.0, 1.0]]
    run("report", "gm")
    assert "gm was a regressor of each voxel" in (place / "gm" / "report.html").read_text()
    run("permute", "c.zarr", "--regressor", "grey", *options, "--contrast", "intercept", "-o", "mean")
    assert PermutationResult.load("mean").provenance["errors"] == "ise"
    message = run("permute", "c.zarr", "--regressor", "white", *options, "-o", "no", code=1)[1]
    assert "no layer 'white'" in message
    assert "numbaglm convert --layer" in message
    assert "NAME=LAYER" in run("permute", "c.zarr", "--regressor", "=grey", *options, "-o", "no", code=2)[1]


def test_variances_and_weights_of_subjects(place, maps):
    names = [Path(one).name for one in maps]
    (place / "var").mkdir()
    for one, name in zip(maps, names, strict=True):
        image = nib.load(one)
        variance = 1 + np.abs(np.asarray(image.dataobj, np.float32))
        nib.save(nib.Nifti1Image(variance, image.affine), place / "var" / name)
    given = ["--layer", "variance=var/*.nii*", "--n-perm", "20"]
    out, _ = run("permute", *maps, *given, "--weights", "variance", "--between", "0", "--test", "z", "-o", "fixed")
    assert "weighted by variance" in out
    fixed = PermutationResult.load("fixed")
    assert (fixed.asked.weighted_by, fixed.asked.between, fixed.asked.test) == ("variance", 0, "z")
    assert not fixed.maps["tau2"].any()
    run("permute", *maps, *given, "--weights", "variance", "-o", "random")
    assert PermutationResult.load("random").asked.between == "reml"
    pd.DataFrame({"participant_id": LABELS[::-1], "n": np.arange(10.0, 20)}).to_csv("n.tsv", sep="\t", index=False)
    run("permute", *maps, "--weights", "n.tsv", "--n-perm", "20", "-o", "n")
    assert PermutationResult.load("n").provenance["weights"] == np.arange(19.0, 9, -1).tolist()
    assert "a layer of the maps: variance" in run("permute", *maps, *given, "--weights", "gm", "-o", "x", code=1)[1]


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--blocks", "site\n" + "1\n" * 9, "bad.csv after --blocks has 9 rows, but there are 10 subject maps"),
        ("--blocks", 'site\na\nb\n""\n' + "a\n" * 7, "bad.csv after --blocks has no label for sub-03"),
        ("--blocks", "r,b\n" + "1,2\n" * 9, "table after --blocks has 9 rows"),
        ("--variance-groups", "site\n1\n" + "2\n" * 9, "Variance group(s) of one subject: 1 (row 0"),
        ("--design", "20,1\n" * 10, "first line of bad.csv holds numbers"),
    ],
)
def test_bad_tables_are_named(place, cohort, option, text, message):
    (place / "bad.csv").write_text(text)
    assert message in run("permute", cohort, option, "bad.csv", "--output", "o", code=1)[1]
    assert not (place / "o").exists()


def test_cohorts_and_runs_in_an_object_store(place, maps, s3):
    url = f"{s3}/cli/cohort.zarr"
    run("convert", *maps, "--output", url)
    assert url in run("info", url)[0]
    assert json.loads(run("verify", url, "--json")[0])["intact"]
    options = ["--cluster-forming-threshold", "0.05", "--tfce-uncorrected"]
    run("permute", url, *options, "--store", f"{s3}/cli/run", "--output", "out")
    run("permute", *maps, *options, "--output", "local")
    np.testing.assert_array_equal(
        PermutationResult.load("out").maps["p_unc_tfce"], PermutationResult.load("local").maps["p_unc_tfce"]
    )


def test_a_dry_run_writes_nothing(place, cohort):
    before = set(place.rglob("*"))
    text, _ = run("permute", cohort, "--tfce", "--store", "run", "--output", "out", "--dry-run")
    assert text.startswith("Plan: ")
    plan = json.loads(run("permute", cohort, "--output", "out", "--dry-run", "--json")[0])
    assert plan["ranges"] == [[0, 1024]]
    assert set(place.rglob("*")) == before


def test_a_store_is_gone_on_with(place, cohort):
    run("permute", cohort, "--store", "run", "--output", "out")
    told = run("permute", cohort, "--store", "run", "--output", "again", "--verbose")[1]
    assert "Shuffling: done" not in told
    refused = run("permute", cohort, "--store", "run", "--seed", 3, "--output", "third", code=1)[1]
    assert "is of something else: seed: 0 there, 3 here" in refused
    assert "Shuffling: done in" in (place / "run" / "log.txt").read_text()


def test_an_output_that_exists_is_refused_before_anything_is_computed(place, cohort, monkeypatch):
    run("fit", cohort, "--output", "fit")
    (place / "mine").mkdir()
    (place / "mine" / "thesis.tex").write_text("years of work")
    monkeypatch.setattr("numbaglm.cohort.Cohort.open", lambda *_: pytest.fail("it went on to the computation"))
    for command in ("fit", "permute"):
        _, err = run(command, cohort, "--output", "mine", "--overwrite", code=1)
        assert err.startswith("Error: The output folder mine exists and holds something else")
    _, err = run("fit", cohort, "--output", "fit", code=1)
    assert "--overwrite" in err
    monkeypatch.undo()
    os.chdir(place)
    run("fit", cohort, "--model", "age", "--output", "fit", "--overwrite")
    assert json.loads((place / "fit" / "fit.json").read_text())["contrast"] == "age"
    assert visible(place / "mine") == ["thesis.tex"]


@pytest.mark.filterwarnings("default")
def test_a_fit_of_dependent_columns_counts_rank(place, cohort):
    groups = {"patient": [1] * 5 + [0] * 5, "control": [0] * 5 + [1] * 5, "one": [1] * N}
    pd.DataFrame(groups).to_csv("design.csv", index=False)
    arguments = ["--design", "design.csv", "--contrast", "patient - control", "--output", "fit", "--json"]
    out, err = run("fit", cohort, *arguments)
    assert json.loads(out)["dof"] == N - 2
    assert "\nWarning: The design matrix is rank deficient" in err


def test_info_of_a_result_without_shufflings(place, maps):
    permutation_test([str(path) for path in maps], n_perm=0).save("parametric")
    told = json.loads(run("info", "parametric", "--json")[0])
    assert (told["critical_statistic"], told["n_fwe_0.05"], told["clusters"]) == (None, {}, [])
    assert told["observed_maximum"] == np.abs(PermutationResult.load("parametric").maps["t"]).max()
    assert "parametric maps alone" in run("info", "parametric")[0]


def test_numbers_that_look_like_labels_are_told_of(place, maps):
    pd.DataFrame({"Subject_ID": range(900, 900 + N), "age": range(N)}).to_csv("numbers.csv", index=False)
    warning = "Warning: Subject_ID holds numbers, which are no labels of the maps (sub-01, sub-02, sub-03"
    for command in (["convert", "-o", "c"], ["fit", "--model", "age", "-o", "fit"]):
        assert warning in run(*command, *maps, "--covariates", "numbers.csv", "-q")[1]
    pd.DataFrame({"participant_id": LABELS, "id": range(N)}).to_csv("known.csv", index=False)
    assert run("convert", *maps, "--covariates", "known.csv", "-q", "-o", "d")[1] == ""


@pytest.mark.parametrize("options", [["--model", "age"], ["--design", "~ center(age)", "--contrast", "center(age)"]])
def test_a_word_among_numbers_is_named(place, maps, options):
    pd.DataFrame({"participant_id": LABELS, "age": [*range(N - 1), "old"]}).to_csv("words.csv", index=False)
    message = run("permute", *maps, "--covariates", "words.csv", *options, "-o", "o", code=1)[1]
    assert "The covariate 'age' holds numbers but for 'old' (sub-10). Correct them, or write n/a" in message


def test_messages_name_no_python(place, maps, cohort):
    message = run("convert", *maps, "-o", cohort, code=1)[1]
    assert message.endswith("holds a cohort already. Choose another path, or pass --overwrite.\n")
    message = run("permute", *maps, "--design", "~ age", "-o", "o", code=1)[1]
    assert "There is no table of covariates: name one with --covariates." in message
    both = ["--contrast", "age=center(age)", "--contrast", "mean=intercept", "--fwe-across-contrasts"]
    message = run("permute", cohort, "--design", "~ center(age)", *both, "-o", "o", code=1)[1]
    assert "or take one way of shuffling for all with --errors" in message
    run("permute", cohort, "--n-perm", 20, "-o", "out")
    assert "Invalid value for '--output': got 'page.pdf'" in run("report", "out", "-o", "page.pdf", code=1)[1]
    message = run("randomise", "-i", maps[0], "-1", "-x", "-o", "o", code=1)[1]
    assert "Invalid value for '-i': got '1 map(s)'" in message


BAD = {
    "a file that is missing": (["permute", "maps/sub-99.nii.gz", "maps/sub-98.nii.gz"], "does not exist"),
    "a pattern without a match": (["permute", "maps/*.img"], "No file matches maps/*.img"),
    "not an image": (["permute", "participants.tsv.gz", "maps/sub-01_con.nii.gz"], "participants.tsv.gz"),
    "a single map": (["fit", "maps/sub-01_con.nii.gz"], "at least 2 maps"),
    "a column that is not there": (["permute", "COHORT", "--model", "height"], "Invalid value for '--model'"),
    "a formula as a column": (
        ["permute", "COHORT", "--model", "age + C(group)"],
        "A formula goes after --design: '~ age + C(group)'.",
    ),
    "a formula without its sign": (
        ["permute", "COHORT", "--design", "age + group"],
        "There is no table age + group. Allowed after --design: the path of a .tsv or .csv file, or a formula, which "
        "begins with '~': --design '~ age + group'.",
    ),
    "a table of too few rows": (
        ["fit", "COHORT", "--covariates", "semicolons.csv", "--model", "age"],
        "Invalid value for '--covariates': got 'no row for sub-02, sub-03, sub-04, sub-05, sub-06 and 4 more'",
    ),
    "an unknown contrast": (["permute", "COHORT", "--contrast", "height"], "over ['intercept']"),
    "a contrast that is missing": (["permute", "COHORT", "--model", "group"], "A contrast is needed"),
    "too short a design": (["fit", "COHORT", "--design", "short.csv"], "has 3 rows, but there are 10"),
    "two designs": (["fit", "COHORT", "--design", "short.csv", "--model", "age"], "leave --model out"),
    "a threshold without a scale": (
        ["permute", "COHORT", "--cluster-forming-threshold", "3.1"],
        "Invalid value for '--cluster-forming-threshold': got '3.1'",
    ),
    "a mask beside a cohort": (["fit", "COHORT", "--mask", "mask.nii.gz"], "A cohort has its own mask"),
    "a limit that is no size": (
        ["permute", "COHORT", "--memory-limit", "much"],
        "Invalid value for '--memory-limit': got 'much'",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_in_one_paragraph_and_leaves_nothing(place, cohort, what):
    arguments, message = BAD[what]
    (place / "participants.tsv.gz").write_bytes(b"not an image")
    (place / "short.csv").write_text("intercept\n1\n1\n1\n")
    (place / "semicolons.csv").write_text("participant_id;age\nsub-01;20\n")
    before = visible(place)
    command, *rest = (cohort if argument == "COHORT" else argument for argument in arguments)
    out, err = run(command, *rest, "--output", "new/out", "--quiet", code=1)
    assert out == ""
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1
    assert visible(place) == before


def test_the_log_is_left_as_it_was(place, cohort):
    log = logging.getLogger("numbaglm")
    before = log.level, log.propagate, list(log.handlers)
    run("info", cohort, "--verbose")
    assert (log.level, log.propagate, log.handlers) == before


def test_a_failure_while_writing_leaves_what_was_there(place, cohort, monkeypatch):
    run("permute", cohort, "--n-perm", "20", "--output", "out")
    was = (place / "out" / "nulls.tsv").read_text()

    def disk_is_full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numbaglm.faces.cli.output.draw", disk_is_full)
    before = visible(place)
    _, err = run("permute", cohort, "--n-perm", "30", "--output", "out", "--overwrite", "-q", code=1)
    assert "No space left on device" in err
    assert visible(place) == before
    assert (place / "out" / "nulls.tsv").read_text() == was


def test_ctrl_c_is_130_and_one_line(place, cohort, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("numbaglm.inference.permutation_test.permutation_test", interrupted)
    before = visible(place)
    _, err = run("permute", cohort, "--output", "out", "-q", code=130)
    assert err.strip() == "Interrupted."
    assert visible(place) == before


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])  # of kill, and of a connection that is lost
def test_termination_leaves_nothing_behind(tmp_path, name):
    number = getattr(signal, name)
    command = [sys.executable, "-c", "from numbaglm.faces.commands import main; main()"]
    process = subprocess.Popen([*command, "demo", "-o", tmp_path / "demo"], stderr=subprocess.PIPE, text=True)
    assert "1/5" in process.stderr.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []


def test_rows_go_by_their_order_if_asked(place, maps):
    table = pd.read_csv("participants.tsv", sep="\t")
    table.assign(participant_id=[f"x{k}" for k in range(N)]).to_csv("others.tsv", sep="\t", index=False)
    assert "no row for sub-01" in run("convert", *maps[:8], "--covariates", "others.tsv", "-o", "a.zarr", code=1)[1]
    run("convert", *maps[:8], "--covariates", "others.tsv", "--by-order", "-o", "a.zarr", code=1)  # 10 rows
    for rows, name in ((table[:8], "first.tsv"), (table[8:], "last.tsv")):
        rows.assign(participant_id="x").to_csv(name, sep="\t", index=False)
    run("convert", *maps[:8], "--covariates", "first.tsv", "--by-order", "-o", "a.zarr")
    run("append", "a.zarr", *maps[8:], "--covariates", "last.tsv", "--by-order")
    assert Cohort.open("a.zarr").covariates["age"].tolist() == table["age"].tolist()
    assert "add --covariates" in run("convert", *maps, "--by-order", "-o", "b.zarr", code=2)[1]


def test_info_tells_what_memory_and_cores_there_are(cohort):
    told = json.loads(run("info", cohort, "--json")[0])
    assert told["memory_here"]["bytes"] > 0
    assert told["cores_here"] >= 1
    assert f"of memory are left by {told['memory_here']['source']}" in run("info", cohort)[0]


def test_a_dry_run_tells_the_limit_and_where_it_is_from(cohort):
    out, _ = run("permute", cohort, "--dry-run", "--memory-limit", "2GB", "-o", "x")
    assert "(memory_limit)" in out
    told = json.loads(run("permute", cohort, "--dry-run", "--json", "-o", "x")[0])
    assert told["limit_source"].startswith("50% of what ")


def test_fit_warns_of_a_design_without_a_mean(place, cohort):
    pd.DataFrame({"participant_id": LABELS, "side": [1.0, -1.0] * 5}).to_csv("design.tsv", sep="\t", index=False)
    assert "add an intercept" in run("fit", cohort, "--design", "design.tsv", "-o", "fit", "-q")[1]


def test_modalities_have_names_in_the_shell(place, maps, cohort):
    other = place / "other"
    write_maps(other, volumes(N, seed=3))
    options = ["--covariates", "participants.tsv", "--model", "age", "--n-perm", "30"]
    out, _ = run("permute", "a=cohort.zarr", "b=other/*.nii.gz", *options, "-o", "apart", "--json")
    assert list(json.loads(out)["contrasts"]) == ["a", "b"]
    apart = PermutationResult.load("apart/b")
    assert "p_fwe_voxel_modalities" in apart.maps
    assert "apart/b" not in (place / "apart" / "README.md").read_text()
    told, _ = run("report", "apart", "--overwrite")
    assert "The reports of 2 results are listed in" in told
    assert "<h1>2 results</h1>" in (place / "apart" / "report.html").read_text(encoding="utf-8")
    assert list(json.loads(run("info", "apart", "--json")[0])["contrasts"]) == ["a", "b"]
    run("permute", "a=cohort.zarr", "b=other/*.nii.gz", *options, "--combine", "fisher", "--concordant", "-o", "both")
    one = PermutationResult.load("both")
    assert (one.asked.modalities, one.asked.sides) == (("a", "b"), "concordant")
    difference = ["--combine", "hotelling", "--modality-contrast", "b - a"]
    run("permute", "a=cohort.zarr", "b=other/*.nii.gz", *options, *difference, "--bids", "-o", "difference")
    assert list((place / "difference").rglob("*_stat-loading_desc-row1_statmap.nii.gz"))
    rows = [*difference[:-1], "b - a; b"]
    run("permute", "a=cohort.zarr", "b=other/*.nii.gz", *options, *rows, "-o", "rows")
    assert PermutationResult.load("rows").asked.modality_contrast.tolist() == [[-1.0, 1.0], [0.0, 1.0]]
    rows[-1] = "b - a;"
    assert "on each side" in run("permute", "a=cohort.zarr", "b=other/*.nii.gz", *options, *rows, "-o", "x", code=1)[1]
    given = ["--combine-contrasts", "--combine-weight", "age=2", "--combine-weight", "group=1"]
    two = ["--design", "~ age + group", "--contrast", "age", "--contrast", "group=`group[patient]`"]
    run("permute", cohort, *two, "--n-perm", "30", "--combine", "stouffer", *given, "-o", "contrasts")
    found = PermutationResult.load("contrasts").asked
    assert (found.contrast, found.combine_weights) == ("age & group", (2.0, 1.0))
    several = ["a=cohort.zarr", "b=other/*.nii.gz", *two, "--n-perm", "30", "--combine", "fisher"]
    run("permute", *several, "--combine-contrasts", "--within-modalities", "-o", "within")
    within = PermutationResult.load("within/a")
    assert dict(within.asked.combine_contrasts) == {"age": 1, "group": 1}
    assert "p_fwe_voxel_modalities" in within.maps
    assert "add it" in run("permute", *several, "--within-modalities", "-o", "x", code=2)[1]
    assert "NAME=MAPS" in run("permute", "a=cohort.zarr", "cohort.zarr", *options, "-o", "x", code=2)[1]
    assert "NAME=NUMBER" in run("permute", cohort, *options, "--combine-weight", "age", "-o", "x", code=2)[1]
